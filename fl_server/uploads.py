"""Uploads over the calls that they take: what came before a connection was cut stays, until the rest comes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fl_core.errors import FLJobError, UpdateError
from fl_core.updates import magnitude
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire.arrays import CHECKSUM, LENGTH, Receiver
from fl_server.spool import Spool, Spools

SWEEP_SECONDS = 1.0
"""How often it is looked whether an upload that was cut is still waited for."""


class Upload:
    """One transfer of a worker on its way into its spool, of which so many bytes have been verified."""

    def __init__(self, head: pb.Transfer, spool: Spool) -> None:
        self.head = head
        self.spool = spool
        self.position = 0
        self.largest = 0.0
        """The greatest magnitude in it, where its bytes are values in the clear."""
        self.is_cut = False
        self._continued = False

    def receiver(self, *, nbytes: int, manifest: Manifest | None) -> Receiver:
        """Takes the chunks from `position` on; refuses a head that announces something else than is due."""

        def take(offset: int, data: bytes) -> None:
            if manifest is not None:
                self.largest = max(self.largest, magnitude(manifest, offset, memoryview(data)))
            self.spool.take(offset, data)
            self.position = offset + len(data)

        receiver = Receiver(take, position=self.position)
        if manifest is None:
            receiver.open_bytes(self.head, nbytes=nbytes)
        else:
            receiver.open(self.head, expected=manifest)
        return receiver

    async def receive(
        self, receiver: Receiver, frames: AsyncIterator[bytes], *, moved: Callable[[], None]
    ) -> None:
        """Take the rest; `moved` is called after each chunk."""
        async for frame in frames:
            receiver.frame(frame)
            moved()
        if not receiver.complete:
            self.is_cut = True
            raise UpdateError(f"the transfer ended after {self.position} of {self.head.nbytes} bytes")
        if self._continued:
            await asyncio.to_thread(self._check_digest)

    def goes_on(self, head: pb.Transfer) -> bool:
        """Whether this head announces the same bytes for the same attempt."""
        return _named(head) == _named(self.head)

    def go_on(self, head: pb.Transfer) -> None:
        """Another call brings more."""
        self.head, self.is_cut, self._continued = head, False, True

    def _check_digest(self) -> None:
        """Refuse what was put together of two updates."""
        digest = hashlib.sha256()
        for _, data in self.spool.chunks():
            digest.update(data)
        if (found := digest.hexdigest()) != self.head.digest:
            raise UpdateError(
                f"what came in several calls has the digest {found[:12]}, not {self.head.digest[:12]}",
                short=CHECKSUM,
            )


class Uploads:
    """What was cut of each worker's newest upload, while it is `wanted`; it counts as long as it would on its way."""

    def __init__(self, spools: Spools, *, wanted: Callable[[str, pb.Transfer], bool]) -> None:
        self._spools = spools
        self._wanted = wanted
        self._cut: dict[str, Upload] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def held(self, worker: str, head: pb.Transfer) -> int:
        """How many bytes of this upload have come in calls that were cut."""
        upload = self._cut.get(worker)
        return upload.position if upload is not None and upload.goes_on(head) else 0

    @asynccontextmanager
    async def call(
        self, worker: str, head: pb.Transfer, *, nbytes: int, waited: Callable[[], None]
    ) -> AsyncIterator[Upload]:
        """An upload in one call. Who ends the block well has the spool; what is refused in it is forgotten.

        A head that starts elsewhere than behind what is held is refused before the block, and what is held stays.
        """
        if head.start and head.start != (held := self.held(worker, head)):
            raise UpdateError(
                f"an upload goes on at byte {head.start}; expected {held}, which are here", short=LENGTH
            )
        upload = self._cut.pop(worker, None)
        if upload is not None and head.start:
            upload.go_on(head)
        else:
            if upload is not None:
                upload.spool.close()
            upload = Upload(head, await self._spools.admit(nbytes, waited=waited))
        try:
            yield upload
        except BaseException as error:
            is_refused = isinstance(error, FLJobError) and not upload.is_cut
            if is_refused or not head.digest or not upload.position:
                upload.spool.close()
            else:
                self._cut[worker] = upload
                self._sweep_later()
            raise

    def _sweep_later(self) -> None:
        if self._cut and self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        for worker, upload in list(self._cut.items()):
            if not self._wanted(worker, upload.head):
                self._cut.pop(worker).spool.close()
        self._sweep_later()


def _named(head: pb.Transfer) -> tuple[object, ...]:
    """What two heads of the same upload have in common."""
    place = head.context
    return head.kind, place.round, place.attempt, head.nbytes, head.digest
