"""`fl-server`: sends models, sums updates, keeps the model of one job."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import click
import grpc

from fl_core import logs
from fl_core.environment import POD
from fl_core.errors import FencedError, RetryError
from fl_core.process import Settings, process, run_until_terminated
from fl_core.replay import Replay
from fl_core.seals import Seal, read_authorities
from fl_core.serving import Health, answering
from fl_core.wire.channels import OPTIONS, open_channel, open_port
from fl_core.wire.legible import Legible
from fl_server import allocator
from fl_server.coordinator import Coordinator
from fl_server.origin import Origin
from fl_server.relay import Relay, routes
from fl_server.service import ServerService
from fl_server.storage import Storage
from fl_server.summons import Summons

WINDOW = 1 << 20
"""Bytes that a worker may send before the server reads them; gRPC alone lets them grow with the bandwidth."""

FLOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", WINDOW))

FAREWELL_SECONDS = 2
"""How long watchers may take to read the job's end."""

log = logs.logger()


async def coordinate(
    settings: Settings, *, scheduler: str, kept: Storage, relay: str | None, origin: Origin | None
) -> None:
    """Serve until the job is over; sites outside the cluster come in at `relay`."""
    plan = settings.plan
    channel = open_channel(scheduler, settings.identity_folder, peer="scheduler")
    summons = Summons(plan, channel, epoch=kept.fence.epoch)
    coordinator = Coordinator(plan, kept, summons, credentials=settings.credentials)
    coordinator.first.origin = coordinator.spending.origin = origin
    kept.tell(coordinator.board.from_threads())
    server = grpc.aio.server(interceptors=(Legible(),), options=(*OPTIONS, *FLOW))
    ServerService(plan, kept, coordinator).add_to(server)
    address = await open_port(server, settings.listen, settings.identity_folder)
    await server.start()
    health = Health(ready=True, alive=answering(asyncio.get_running_loop()))
    metrics = settings.serve(coordinator.metrics.registry, health)
    known = routes(plan.job.uid, server=_own(address), scheduler=scheduler, enrol=settings.enrol)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(channel.close)
        relayed = Relay(known, coordinator.metrics).listening(relay) if relay else None
        opened = {"relay": await stack.enter_async_context(relayed)} if relayed else {}
        stack.push_async_callback(server.stop, FAREWELL_SECONDS)
        settings.announce(address=address, metrics=metrics, **opened)
        watch = asyncio.create_task(_watched(kept, coordinator))
        stack.callback(watch.cancel)
        await coordinator.run()


async def _watched(kept: Storage, coordinator: Coordinator) -> None:
    """End the job's part in this process once a newer server has claimed its storage."""
    while True:
        await asyncio.sleep(kept.fence.look_seconds)
        try:
            await asyncio.to_thread(kept.fence.check)
        except FencedError as error:
            coordinator.failed(error)
            return
        except RetryError as error:  # what cannot be read now may be read later; nothing is kept meanwhile
            log.warning("the claim to the storage cannot be looked at", reason=str(error))


def _own(address: str) -> str:
    """Where this process dials what it listens at."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host == "0.0.0.0" else address  # noqa: S104 - nobody listens here


@process
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="Address for workers and watchers.")
@click.option("--scheduler", required=True, help="The scheduler's address.")
@click.option("--storage", type=click.Path(path_type=Path), required=True, help="Folder for what is kept.")
@click.option(
    "--store", help="URI of the store of objects that keeps what the folder holds, as s3://bucket/folder."
)
@click.option("--relay", help="Address for sites outside the cluster, who dial nothing else.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    help="The rounds of a record, which are trained again: all that they ask must report.",
)
@click.option(
    "--authorities",
    type=click.Path(path_type=Path),
    help="Certificates (PEM) of the authorities under which earlier servers of this job have signed its record.",
)
@click.option(
    "--initial-model",
    type=click.Path(path_type=Path),
    help="The model's file of spec.initialModel; beside the folder of a checkpoint lies its privacy ledger.",
)
def main(  # noqa: PLR0913 - one for each option
    settings: Settings,
    *,
    scheduler: str,
    storage: Path,
    store: str | None,
    relay: str | None,
    replay: Path | None,
    authorities: Path | None,
    initial_model: Path | None,
) -> None:
    """Send models, sum updates, and keep the model of one job."""
    allocator.settle()
    followed = Replay.read(replay) if replay else None
    origin = Origin.of(settings.plan, initial_model)
    parents, holder = origin.ledgers if origin else (), os.environ.get(POD, "")
    kept = Storage(
        storage,
        settings.plan,
        store=store,
        parents=parents,
        replay=followed,
        holder=holder,
        seal=Seal(settings.credentials, earlier=read_authorities(authorities) if authorities else ()),
    )
    run_until_terminated(coordinate(settings, scheduler=scheduler, kept=kept, relay=relay, origin=origin))


if __name__ == "__main__":
    main()
