"""Leader election on a `Lease`: one replica works, the others wait.

As client-go does it (k8s.io/client-go/tools/leaderelection), with the same 15, 10 and 2 seconds: nobody compares
clocks; each replica measures by its own for how long it saw a Lease unchanged. A leader that could not renew for
10 seconds stops, 5 seconds before anybody else may begin; one that sees another holder stops at once.

Unlike there, who waits tries when the Lease that it saw runs out and not at the next turn, and who was not answered
tries again soon: a leader that dies is followed within 18 seconds where all requests are answered at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from fl_core.errors import UnavailableError
from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    NotFoundError,
    UnreachableError,
)
from fl_operator.cluster.resources import LEASES, Key, Object

log = structlog.get_logger()


class LeaseLostError(UnavailableError):
    """Another replica leads, or may: this one must not write any more."""


def now() -> str:
    """The time as `MicroTime` wants it: always with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a Lease counts, how long a leader goes on without renewing, and between attempts."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0
    request: float = 4.0
    """For one request: a dead connection must leave time for another."""

    def again(self, failures: int) -> float:
        """After so many attempts in a row that failed: an eighth of `retry`, a quarter, a half, and all of it."""
        return self.retry / 2 ** max(4 - failures, 0) if failures else self.retry


@dataclass(slots=True)
class Claim:
    """What one replica makes of the Leases that it reads."""

    identity: str
    seconds: float
    ends: float = float("-inf")
    """When another one's Lease runs out, by the clock of this replica."""
    _seen: tuple[Any, Any] | None = None
    _since: float = 0.0

    def make(self, spec: Object, *, clock: float, wall: str) -> Object | None:
        """The `spec` with which this replica takes or keeps the Lease; None while another one holds it."""
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"))
        if record != self._seen:
            self._seen, self._since = record, clock
        lasts = float(spec.get("leaseDurationSeconds") or self.seconds)
        self.ends = self._since + lasts
        if holder not in ("", self.identity) and clock < self.ends:
            return None
        renewed = {**spec, "leaseDurationSeconds": int(self.seconds), "renewTime": wall}
        if holder == self.identity:
            return renewed
        transitions = spec.get("leaseTransitions", -1) + 1
        taken = {"holderIdentity": self.identity, "acquireTime": wall, "leaseTransitions": transitions}
        return {**renewed, **taken}


@dataclass(slots=True)
class Lease:
    """A Lease that this replica takes part in."""

    connection: Connection
    key: Key
    identity: str
    timing: Timing = field(default_factory=Timing)
    clock: Callable[[], float] = time.monotonic
    random: random.Random = field(default_factory=random.Random)
    _claim: Claim = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.connection.urgent()
        self._claim = Claim(self.identity, self.timing.duration)

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, do the work, and release it.

        Raises LeaseLostError, the work being cancelled, when the Lease is lost or stolen; else what the work raises.
        """
        acquired = await self._acquire()
        log.info("leading", lease=str(self.key), identity=self.identity)
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew(acquired))
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            await (renewing if renewing.done() else working)
        finally:
            # A renewal on its way must not take the Lease again after its release.
            renewing.cancel()
            working.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            await self._release()

    async def _acquire(self) -> float:
        """Take the Lease as soon as it may be taken; when the attempt that did so began."""
        failures, told = 0, False
        while True:
            attempted = self.clock()
            try:
                if await self._attempt():
                    return attempted
                if not told:
                    log.info("waiting for the lease", lease=str(self.key), identity=self.identity)
                failures, told = 0, True
            except ClusterError as error:
                log.warning("lease not taken", lease=str(self.key), reason=str(error))
                failures += 1
            wait = self.timing.again(failures)
            left = self._claim.ends - self.clock()
            await self._pause(min(wait, left) if left > 0 else wait)

    async def _renew(self, renewed: float) -> None:
        """Renew until it fails, which it says by LeaseLostError; no attempt goes on beyond the deadline."""
        while True:
            try:
                async with asyncio.timeout(renewed + self.timing.deadline - self.clock()):
                    renewed = await self._renewal()
            except TimeoutError as error:
                lost = f"the lease {self.key} was not renewed for {self.timing.deadline:.0f} s"
                raise LeaseLostError(lost) from error

    async def _renewal(self) -> float:
        """Renew once more, with as many attempts as it takes; when the one that did so began."""
        failures = 0
        while True:
            await self._pause(self.timing.again(failures))
            attempted = self.clock()
            try:
                if not await self._attempt(held=True):
                    raise LeaseLostError(f"another replica took the lease {self.key}")
            except ClusterError as error:
                log.warning("lease not renewed", lease=str(self.key), reason=str(error))
                failures += 1
            else:
                return attempted

    async def _attempt(self, *, held: bool = False) -> bool:
        """Take or renew the Lease; False while another replica holds it."""
        try:
            async with asyncio.timeout(self.timing.request):
                return await self._write(held=held)
        except TimeoutError as error:
            raise UnreachableError(f"the API server did not answer in {self.timing.request:.0f} s") from error

    async def _write(self, *, held: bool) -> bool:
        while True:
            lease = await self._read()
            if held and lease["spec"] and lease["spec"].get("holderIdentity") != self.identity:
                return False
            spec = self._claim.make(lease["spec"], clock=self.clock(), wall=now())
            if spec is None:
                return False
            known = "resourceVersion" in lease["metadata"]
            try:
                await (self.connection.replace if known else self.connection.create)({**lease, "spec": spec})
            except (ConflictError, AlreadyExistsError):
                continue  # somebody was faster: see who
            return True

    async def _read(self) -> Object:
        try:
            return await self.connection.read(LEASES, self.key)
        except NotFoundError:
            metadata = {"name": self.key.name, "namespace": self.key.namespace}
            return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": {}}

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(self.timing.request):
                lease = await self.connection.read(LEASES, self.key)
                if lease["spec"].get("holderIdentity") != self.identity:
                    return
                lease["spec"].update(holderIdentity=None, leaseDurationSeconds=1, renewTime=now())
                await self.connection.replace(lease)
        except (ClusterError, TimeoutError) as error:
            log.warning("lease not released", lease=str(self.key), reason=str(error))

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.random.uniform(1.0, 1.2))
