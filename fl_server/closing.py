"""How a job ends: its model is kept, its record signed, and those who watch are told."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping

import structlog

from fl_core.attestation import Ending
from fl_core.errors import (
    FencedError,
    FLJobError,
    JobError,
    MismatchError,
    RetryError,
    ShortfallError,
    UnusableError,
)
from fl_core.identity import Credentials
from fl_core.process import last_words
from fl_core.wire import fl_pb2 as pb
from fl_server.board import Board
from fl_server.checkpoints import Saved
from fl_server.model import Model
from fl_server.spending import Spending
from fl_server.storage import Storage

log = structlog.get_logger()


class Closing:
    """The end of one job; without credentials nothing is signed."""

    def __init__(
        self, storage: Storage, board: Board, spending: Spending, credentials: Credentials | None
    ) -> None:
        self._storage = storage
        self._board = board
        self._spending = spending
        self._credentials = credentials

    async def complete(self, saved: Saved, reason: str, message: str, *, counts: Mapping[str, int]) -> None:
        """The job ends with this model; `counts` are those of the last round's workers."""
        await asyncio.to_thread(self._storage.keep_model, "last", saved)
        digest = saved.facts["digest"]
        await self._sign(reason, model=digest, round=saved.facts["round"])
        self._tell(pb.Ending(complete=True, reason=reason, message=message, model=digest))
        log.info("job complete", reason=reason, model=digest)
        told = {**saved.facts, **counts, **self._spending.facts}
        last_words(json.dumps({"reason": reason, "message": message, **told}))

    async def failed(self, error: FLJobError, model: Model | None, *, round: int) -> None:
        """An error ends the job, or this process alone.

        Where another process may go on, and where this one is not the job's, it does not sign for the job. One that was
        fenced off tells nobody anything: FencedError.
        """
        reason = type(error).__name__
        try:
            await asyncio.to_thread(self._storage.fence.check)
            if isinstance(error, JobError) and not isinstance(error, (MismatchError, UnusableError)):
                await self._sign(reason, model=model.digest if model else "", round=round)
        except FencedError:
            raise
        except (RetryError, MismatchError, UnusableError) as other:  # what ended the job is what is told
            log.warning("the end is not signed", reason=str(other))
        recurs = isinstance(error, ShortfallError) and error.recurs
        self._tell(pb.Ending(complete=False, reason=reason, message=str(error), recurs=recurs))

    async def _sign(self, reason: str, *, model: str, round: int) -> None:
        if self._credentials is not None:
            ending = Ending(reason, dt.datetime.now(dt.UTC), model, round)
            await asyncio.to_thread(self._storage.sign, ending, self._credentials)

    def _tell(self, ending: pb.Ending) -> None:
        self._board.end(ending)
