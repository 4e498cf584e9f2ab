"""Our secure aggregation in processor time: `python -m bench.secagg_ours CASE-AS-JSON [memory]` prints one JSON line.

A whole session with all members, checks and signatures is run on a vector of eight numbers, and must open to the right
sum. What is done to long vectors, encoding, masking, adding, decoding, is measured by itself and counted as often as it
is done: so a sum of 100 vectors of ten million elements does not take a hundred workers' time.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import TypeVar

import numpy as np

from bench.memory import forget_peak, high_water, resident
from bench.secagg_cases import SumCase
from fl_core.identity import Authority, Identity, wall_time
from fl_core.secagg import flat, masks
from fl_core.secagg.masks import Layout, Mask, Vector
from fl_core.secagg.ring import Ring, public_dither
from fl_core.secagg.server import Host
from fl_core.secagg.session import Context
from fl_core.secagg.signing import AuthorityTrust, CertifiedSigner
from fl_core.secagg.summands import Schema, UpdateSum
from fl_core.secagg.worker import Me, Member
from fl_core.weights import Manifest
from fl_core.wire import fl_pb2 as pb
from fl_core.wire import secagg as wire
from fl_server.spool import MEMORY_BUDGET

JOB = "bench-1"
EIGHT = Layout(header=3, body=5, bits=32)
ARRAYS = 10
EXAMPLES, MOST_EXAMPLES = 100, 1000
TRIES = 5
SOME_MASKS = 8

Got = TypeVar("Got")


@dataclass(frozen=True)
class Costs:
    """Processor seconds: of one mask, of a worker, of the server; bytes that a worker sends.

    `introduction` is what a worker spends once in a job: it reads and checks its neighbours' certificates.
    """

    mask: float
    worker: float
    server: float
    upload: int
    introduction: float = 0.0


class Meter:
    """Processor seconds by who spent them, and bytes sent."""

    def __init__(self, members: int) -> None:
        self.members = [0.0] * members
        self.host = 0.0
        self.sent = [0] * members

    def member(self, worker: int, act: Callable[[], Got]) -> Got:
        """A member does this."""
        got, seconds = _timed(act)
        self.members[worker] += seconds
        return got

    def server(self, act: Callable[[], Got]) -> Got:
        """The server does this."""
        got, seconds = _timed(act)
        self.host += seconds
        return got


class Unwritten:
    """A worker's memory without its file: what a file costs is not this benchmark's."""

    def bind(self, context: Context, candidacy: bytes, content: bytes) -> None:
        """Nothing is noted."""

    def sign(self, context: Context, statement: bytes) -> None:
        """Nothing is noted."""


@dataclass(frozen=True)
class Cast:
    """Certified workers and the authority that all of them trust."""

    authority: bytes
    signers: list[CertifiedSigner]

    @classmethod
    def of(cls, members: int) -> "Cast":
        """So many workers."""
        authority = Authority(JOB)
        signers = [CertifiedSigner(authority.issue(Identity(JOB, "worker", n))) for n in range(members)]
        return cls(authority.dump()[1], signers)

    def introduced(self, workers: list[int]) -> AuthorityTrust:
        """Trust that has seen these workers' certificates, as it has from the second session on."""
        trust = AuthorityTrust.of(JOB, self.authority, clock=wall_time)
        for worker in workers:
            own = self.signers[worker]
            trust.check(own.certificate, worker=worker, statement=b"", signature=own.sign(b""))
        return trust


def costs(case: SumCase) -> Costs:
    """What the members and the server of a sum spend."""
    cast = Cast.of(case.members)
    meter = session(case, cast)
    vectors = _vectors(case)
    near = list(range(case.parameters.degree))
    cast.introduced(near)  # loads the keys that sign
    return Costs(
        mask=vectors.mask,
        worker=median(meter.members[case.members - case.survivors :])
        + vectors.worker(case.parameters.degree + 1),
        server=meter.host + vectors.server(case),
        upload=int(median(meter.sent[case.members - case.survivors :])) + vectors.nbytes,
        introduction=_best(lambda: cast.introduced(near)) - _best(lambda: _signatures(cast, near)),
    )


def session(case: SumCase, cast: Cast) -> Meter:
    """A whole session; the first members are lost, in the order of the steps after which they are."""
    meter, everybody = Meter(case.members), range(case.members)
    there = everybody[case.silent :]
    whole = there[case.gone :]
    lasting = set(whole[case.mute :])
    trust = cast.introduced(list(everybody))
    context = Context(JOB, "plan", 1, 1, "update", "model", "shape", case.terms)
    host = Host(context, trust)

    def send(worker: int, message: pb.MemberMessage) -> None:
        meter.sent[worker] += message.ByteSize()

    def new(worker: int) -> Member:
        return Member(Me(cast.signers[worker], trust, Unwritten(), os.urandom), context)

    members = [meter.member(worker, lambda w=worker: new(w)) for worker in everybody]
    for worker, member in enumerate(members):
        entry = meter.member(worker, member.advertise)
        send(worker, pb.MemberMessage(advertisement=wire.entry_out(entry)))
        meter.server(lambda w=worker, e=entry: host.advertised(w, e))
    rosters = meter.server(host.freeze)
    for worker in there:
        roster = rosters[worker]
        sealed = meter.member(worker, lambda w=worker, r=roster: members[w].share(r))
        send(worker, pb.MemberMessage(shares=pb.SealedShares(shares=dict(sealed))))
        meter.server(lambda w=worker, s=sealed: host.shared_by(w, s))
    dealt, total = meter.server(host.deal), Vector.zeros(EIGHT)
    for worker in whole:
        vector = Vector.of(EIGHT, np.arange(3, dtype="<u8"), np.arange(5, dtype="<u4"))
        meter.member(worker, lambda w=worker, v=vector: members[w].mask(v, EIGHT, dealt[w]))
        meter.server(lambda w=worker: host.arrived(w))
        total.add(vector)
    survivors = meter.server(host.close)
    for worker in lasting:
        signature = meter.member(worker, lambda w=worker: members[w].sign(survivors))
        send(worker, pb.MemberMessage(signature=pb.Signature(signature=signature)))
        meter.server(lambda w=worker, s=signature: host.signed(w, s))
        meter.server(lambda: host.agreed)
    for worker, agreement in meter.server(host.agree).items():
        answer = meter.member(worker, lambda w=worker, a=agreement: members[w].unmask(a))
        send(worker, pb.MemberMessage(unmasking=wire.unmasking_out(answer)))
        meter.server(lambda w=worker, a=answer: host.unmasked(w, a))
        meter.server(lambda: host.recoverable)
    meter.server(lambda: host.open(total, EIGHT))
    if total.body.tolist() != [case.survivors * n for n in range(5)]:
        raise SystemExit(f"{case}: the sum is not that of the survivors")
    return meter


@dataclass(frozen=True)
class Vectors:
    """Processor seconds for one vector of a case's length, and its bytes."""

    encode: float
    mask: float
    pack: float
    add: float
    decode: float
    nbytes: int

    def worker(self, count: int) -> float:
        """A worker's: its update as whole numbers, so many masks, and the bytes that travel."""
        return self.encode + count * self.mask + self.pack

    def server(self, case: SumCase) -> float:
        """The server's: all vectors added, all masks taken off, the mean."""
        return case.survivors * self.add + (case.survivors + case.pairs) * self.mask + self.decode


def _vectors(case: SumCase) -> Vectors:
    """Measure what is done to one vector."""
    summand, update = _update(case)
    dither = public_dither(0, round=1, worker=0)

    def encoded() -> Vector:
        return summand.encode(update, weight=EXAMPLES, examples=EXAMPLES, metrics={}, dither=dither)

    vector, layout, total = encoded(), summand.layout, Vector.zeros(summand.layout)
    total.add(vector)
    packed = flat.pack(vector)
    some = [Mask(os.urandom(masks.KEY_BYTES), 1) for _ in range(SOME_MASKS)]
    scratch = Vector.zeros(layout)
    return Vectors(
        encode=_best(encoded),
        mask=_best(lambda: masks.apply(vector, some, layout=layout)) / SOME_MASKS,
        pack=_best(lambda: flat.pack(vector)),
        add=_best(lambda: flat.add(scratch, layout, [(0, packed)])),
        decode=_best(lambda: summand.decode(total, members=1)),
        nbytes=layout.nbytes,
    )


def _update(case: SumCase) -> tuple[UpdateSum, dict[str, np.ndarray]]:
    """An update in ten arrays, and what its sum means."""
    random = np.random.default_rng(0)
    size = max(1, case.elements // ARRAYS)
    update = {f"w{n}": random.normal(0, 0.1, size).astype("f4") for n in range(ARRAYS)}
    ring = Ring(bits=case.bits, members=case.members, most_weight=MOST_EXAMPLES)
    return UpdateSum(ring, Manifest.of(update), (0,) * ARRAYS, Schema()), update


def memory(case: SumCase) -> int:
    """Bytes beyond idle of a server that adds all vectors, takes the masks off and decodes the mean.

    As many vectors wait in memory as the server's budget for them allows, at least one.
    """
    summand = _update(case)[0]
    layout = summand.layout
    forget_peak(os.getpid())
    idle = resident(os.getpid())
    total = Vector.zeros(layout)
    waiting = [np.ones(layout.nbytes, np.uint8) for _ in range(max(1, MEMORY_BUDGET // layout.nbytes))]
    for _ in range(case.survivors):
        flat.add(total, layout, [(0, waiting[0].data)])
    del waiting
    masks.apply(total, [Mask(os.urandom(masks.KEY_BYTES), -1)], layout=layout)
    total.header[0] = 1  # any weight
    mean = summand.decode(total, members=case.survivors)
    return high_water(os.getpid()) - idle if mean.update else 0


def _signatures(cast: Cast, workers: list[int]) -> None:
    """What `introduced` does besides: it signs, and checks signatures under certificates that it knows."""
    own = cast.signers[0]
    trust = cast.introduced([0])
    for _ in workers:
        trust.check(own.certificate, worker=0, statement=b"", signature=own.sign(b""))


def _timed(act: Callable[[], Got]) -> tuple[Got, float]:
    start = time.process_time()
    got = act()
    return got, time.process_time() - start


def _best(act: Callable[[], object]) -> float:
    return min(_timed(act)[1] for _ in range(TRIES))


if __name__ == "__main__":
    wanted = SumCase.from_json(sys.argv[1])
    print(json.dumps({"memory": memory(wanted)} if "memory" in sys.argv[2:] else asdict(costs(wanted))))
