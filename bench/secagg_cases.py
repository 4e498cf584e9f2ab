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
PATTERN = re.compile(r"(\d+)x(\d+)([kM]?)(?::(16|32))?(?::(sparse))?(?::(\d+)%)?")


@dataclass(frozen=True)
class SumCase:
    """One sum of `members` vectors of `elements`; `lost` percent share their secrets and then send no vector."""

    members: int
    elements: int
    bits: Literal[16, 32] = 32
    sparse: bool = False
    lost: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1000x100k:16:sparse:30%`; bits (32), graph (complete) and losses (none) may be left out."""
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"case: {text!r} found, such as 100x1M, 100x1M:16:sparse or 10x100k:30% expected"
            )
        members, elements, unit, bits, sparse, lost = match.groups()
        size = int(elements) * UNITS[unit]
        return cls(int(members), size, 16 if bits == "16" else 32, sparse is not None, int(lost or 0))

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
    def gone(self) -> int:
        """Members that are lost."""
        return self.members * self.lost // 100

    @property
    def survivors(self) -> int:
        """Members whose vectors are summed."""
        return self.members - self.gone

    @property
    def holders(self) -> int:
        """Of one member's neighbours and itself, how many live to give their shares; on average, rounded up."""
        return ceil((self.parameters.degree + 1) * self.survivors / self.members)


def named(text: str) -> str:
    """A case as it is written in tables."""
    case = SumCase.parse(text)
    graph = f"k = {case.parameters.degree}" if case.sparse else "complete"
    size = re.split("[x:]", text)[1]
    return f"{case.members} x {size}, {case.bits} bits, {graph}" + (
        f", {case.lost} % lost" if case.lost else ""
    )
