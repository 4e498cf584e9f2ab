"""What is measured of secure aggregation: how many members, how long a vector, which graph, how many are lost."""

import json
import re
from dataclasses import asdict, dataclass
from math import ceil
from typing import Literal, Self

from fl_core.secagg.parameters import Parameters
from fl_core.secagg.terms import Terms

COMPLETE = Terms()
SPARSE = Terms(profile="cross-device", corrupt_share=0.1, dropout=0.3)
"""With 100 members 36 neighbours, with 1,000 of them 102."""

UNITS = {"": 1, "k": 10**3, "M": 10**6}
PATTERN = re.compile(r"(\d+)x(\d+)([kM]?)(?::(16|32))?(?::(sparse))?(?::(\d+)%(spread)?)?")


@dataclass(frozen=True)
class SumCase:
    """One sum of `members` vectors of `elements`, of whom `lost` percent are lost.

    They share their secrets and then send no vector, which is the dearest moment; with `spread` a third is lost before
    it shares, a third there, a third after its vector has come.
    """

    members: int
    elements: int
    bits: Literal[16, 32] = 32
    sparse: bool = False
    lost: int = 0
    spread: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1000x100k:16:sparse:30%spread`; bits (32), graph (complete) and losses (none) may be left out."""
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"case: {text!r} found, such as 100x1M, 100x1M:16:sparse or 10x100k:30% expected"
            )
        members, elements, unit, bits, sparse, lost, spread = match.groups()
        size = int(elements) * UNITS[unit]
        width: Literal[16, 32] = 16 if bits == "16" else 32
        return cls(int(members), size, width, sparse is not None, int(lost or 0), spread is not None)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The case that `to_json` gave."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @property
    def terms(self) -> Terms:
        """What a job with such a sum fixes."""
        return SPARSE if self.sparse else COMPLETE

    @property
    def parameters(self) -> Parameters:
        """The threshold and the number of neighbours that follow."""
        return self.terms.parameters(self.members)

    @property
    def silent(self) -> int:
        """Members that are lost before they share."""
        return self._all_lost // 3 if self.spread else 0

    @property
    def gone(self) -> int:
        """Members that are lost between sharing and their vector."""
        return self._all_lost - 2 * self.silent

    @property
    def mute(self) -> int:
        """Members that are lost after their vector."""
        return self.silent

    @property
    def survivors(self) -> int:
        """Members whose vectors are summed."""
        return self.members - self.silent - self.gone

    @property
    def holders(self) -> int:
        """Of one member's neighbours and itself, how many live to give their shares; on average, rounded up."""
        return self._near(self.members - self._all_lost)

    @property
    def pairs(self) -> int:
        """Masks that the server takes off because one of the two who added it is gone; on average, rounded up."""
        return self.gone * (self._near(self.survivors) if self.sparse else self.survivors)

    @property
    def sharers(self) -> int:
        """With how many neighbours that shared, itself not counted, one that shared has masks."""
        return self._near(self.members - self.silent) - 1

    def _near(self, many: int) -> int:
        return ceil((self.parameters.degree + 1) * many / self.members)

    @property
    def _all_lost(self) -> int:
        return self.members * self.lost // 100


def named(text: str) -> str:
    """A case as it is written in tables."""
    case = SumCase.parse(text)
    graph = f"k = {case.parameters.degree}" if case.sparse else "complete"
    size = re.split("[x:]", text)[1]
    return f"{case.members} x {size}, {case.bits} bits, {graph}" + (
        f", {case.lost} % lost{' at three steps' if case.spread else ''}" if case.lost else ""
    )
