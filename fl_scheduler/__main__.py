"""`fl-scheduler`: keeps the roster of one job's workers and chooses each round's cohort."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click
import grpc

from fl_core.process import Settings, process, run_until_terminated
from fl_core.replay import Replay
from fl_core.serving import Health, answering
from fl_core.wire import fl_pb2_grpc
from fl_core.wire.channels import OPTIONS, open_port
from fl_core.wire.legible import Legible
from fl_scheduler.service import SchedulerService

FAREWELL_SECONDS = 30
"""How long workers may take to go once the job is over."""


async def attend(settings: Settings, *, replicas: int | None, replay: Path | None) -> None:
    """Serve until the server says that the job is over and the workers have gone."""
    service = SchedulerService(
        settings.plan, replicas=replicas, replay=Replay.read(replay) if replay else None
    )
    server = grpc.aio.server(interceptors=(Legible(),), options=OPTIONS)
    fl_pb2_grpc.add_SchedulerServicer_to_server(service, server)
    address = await open_port(server, settings.listen, settings.identity_folder)
    await server.start()
    health = Health(ready=True, alive=answering(asyncio.get_running_loop()))
    metrics = settings.serve(service.metrics.registry, health)
    settings.announce(address=address, metrics=metrics)
    clock = asyncio.create_task(service.keep_time())
    try:
        dismissed = asyncio.create_task(service.dismissed.wait())
        await asyncio.wait({clock, dismissed}, return_when=asyncio.FIRST_COMPLETED)
        if clock.done():
            clock.result()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await service.drained()
    finally:
        clock.cancel()
        await server.stop(grace=1)


@process
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, help="Address for workers and the server."
)
@click.option(
    "--replicas",
    type=click.IntRange(min=0),
    help="How many workers, sites not counted, the first round waits for; all there may ever be without it.",
)
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    help="The rounds of a record: each asks those whose updates made its model.",
)
def main(settings: Settings, *, replicas: int | None, replay: Path | None) -> None:
    """Keep the roster of one job's workers and choose each round's cohort."""
    run_until_terminated(attend(settings, replicas=replicas, replay=replay))


if __name__ == "__main__":
    main()
