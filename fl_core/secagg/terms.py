"""What a job fixes for all its sessions, and what follows from it for a cohort of some size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from fl_core.errors import ProtocolError, SpecError
from fl_core.secagg.encoding import encode
from fl_core.secagg.parameters import FEWEST, Parameters, Profile, cross_device, cross_silo, part_of


@dataclass(frozen=True, slots=True)
class Terms:
    """What the job fixes for all its sessions; workers hold it from the plan, not from the server.

    `tolerate` is the number of members that may be lost (None: fewer than a third), and of all of them `corrupt` may be
    in league with the server, both in cross-silo. `corrupt_share` of the `cohort`, a round's workers when all are
    there, and `dropout` of a session's members are what cross-device parameters are computed for. Sessions with fewer
    members may hold as many corrupt ones; without a `cohort` (0) there are no others than the members.
    """

    profile: Profile = "cross-silo"
    minimum: int = FEWEST
    tolerate: int | None = None
    corrupt: int = 0
    corrupt_share: float = 0.05
    dropout: float = 0.3
    cohort: int = 0

    def parameters(self, members: int) -> Parameters:
        """The parameters of a session of so many candidates; refuses sizes that protect nobody."""
        if members < self.floor:
            raise ProtocolError(
                f"{members} workers take part; secure aggregation needs at least {self.floor}"
            )
        try:
            if self.profile == "cross-device":
                return cross_device(
                    members, corrupt_share=self.corrupt_share, dropout=self.dropout, cohort=self.cohort
                )
            return cross_silo(members, tolerate=self.tolerate, corrupt=self.corrupt)
        except SpecError as error:
            raise ProtocolError(f"{members} workers take part: {error}") from error

    def sessions(self, most: int) -> Iterator[Parameters]:
        """The parameters of all sessions of up to so many candidates that can begin, the smallest first."""
        for candidates in range(self.floor, most + 1):
            with suppress(ProtocolError):
                yield self.parameters(candidates)

    def curious(self, cohort: int) -> int:
        """How many members may tell the server all they know, if it follows the protocol, whoever of a cohort comes."""
        if self.profile == "cross-device":
            return self.parameters(cohort).corrupt
        return min([self.floor - 2, *(made.threshold - 1 for made in self.sessions(cohort))])

    def helping(self, most: int) -> int:
        """How many may help a server that cheats, in cross-silo: no update is in two sums that differ.

        It may name any candidates, up to `most` of them. Among n of them, members sign for as many as the floor or the
        threshold t says, so that where these are all n there is one sum; else there are two only if 2t - n sign twice.
        """
        fewer = (made for made in self.sessions(most) if made.n > max(self.floor, made.threshold))
        return min([self.floor - 2, *(2 * made.threshold - made.n - 1 for made in fewer)])

    @property
    def floor(self) -> int:
        """The fewest members at any step."""
        return max(self.minimum, FEWEST)

    def survivors(self, members: int) -> int:
        """The fewest of so many members with whom their sum opens."""
        parameters = self.parameters(members)
        if self.profile == "cross-silo":
            return max(self.floor, parameters.threshold)
        return max(self.floor, members - part_of(members, self.dropout))

    def agreeing(self, members: int) -> int:
        """The fewest of so many members who agree before their sum opens, as each of them sees to itself.

        In cross-silo as many as must sign. In cross-device, where a member is shown its neighbours' signatures only, it
        is those of whom the survivors that it signs may be no fewer.
        """
        return self.parameters(members).threshold if self.profile == "cross-silo" else self.floor

    def encoded(self) -> bytes:
        """The terms as bytes."""
        rest = "" if self.tolerate is None else str(self.tolerate)
        shares = f"{self.corrupt_share!r} {self.dropout!r}"
        return encode("terms", self.profile, self.minimum, rest, self.corrupt, shares, self.cohort)
