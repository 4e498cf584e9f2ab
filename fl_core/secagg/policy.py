"""What a site insists on, whatever the server says: its security officer's file, read by the worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fl_core.errors import ProtocolError, SpecError
from fl_core.secagg.endorsement import Organisations
from fl_core.secagg.parameters import Parameters, part_of, verify
from fl_core.secagg.session import Entry, Session
from fl_core.secagg.terms import Terms


@dataclass(frozen=True, slots=True)
class Policy:
    """Floors of a session: `members`, `organisations`, and the `threshold`, the share of the candidates who must agree.

    `corrupt` is the share of `perRound`, however few of them a server lists, and `dropout` that of a sum's, for
    which its parameters must be good, where a site counts with others than the job: see
    `fl_core.secagg.parameters.verify`.

    With `partners` each member must be endorsed by one of them: members that a job's authority has made up could hold
    enough shares to open what an honest member hid.
    """

    members: int = 0
    organisations: int = 0
    threshold: float = 0.0
    corrupt: float | None = None
    dropout: float | None = None
    partners: Organisations | None = None

    def __post_init__(self) -> None:
        """Refuse to count organisations that nobody has named."""
        if self.organisations > 1 and self.partners is None:
            raise SpecError(f"a policy that asks for {self.organisations} organisations names none")

    @property
    def counts(self) -> bool:
        """Whether this site counts corrupt or leaving workers itself."""
        return self.corrupt is not None or self.dropout is not None

    def check_session(self, session: Session) -> None:
        """Refuse a session in which fewer must agree than this site accepts, or whose parameters are too weak."""
        candidates = len(session.candidates)
        if (agreeing := session.context.terms.agreeing(candidates)) < self.threshold * candidates:
            raise ProtocolError(
                f"{session.context}: opens when {agreeing} of {candidates} agree; this site's policy asks for a share "
                f"of {self.threshold:g}"
            )
        try:
            self.check_parameters(session.context.terms, session.parameters)
        except ProtocolError as error:
            raise ProtocolError(f"{session.context}: {error}; this site's policy asks for more") from error

    def check_parameters(self, terms: Terms, made: Parameters) -> None:
        """Refuse a threshold and neighbours that do not bear the corrupt and leaving workers this site counts with.

        Where it names no shares they are those of the job; all is computed anew here, by the bounds themselves.
        """
        cohort = max(terms.cohort, made.n)
        corrupt = made.corrupt if self.corrupt is None else part_of(cohort, self.corrupt)
        dropout = part_of(made.n, terms.dropout if self.dropout is None else self.dropout)
        verify(made, corrupt=corrupt, dropout=dropout)

    def check_members(self, session: Session, workers: Collection[int], entries: Mapping[int, Entry]) -> None:
        """Refuse to be one of so few, at whichever step; `entries` are those of the members it knows, found good."""
        if len(workers) < self.members:
            raise ProtocolError(
                f"{session.context}: {len(workers)} members; this site's policy asks for {self.members}"
            )
        if self.partners is None:
            return
        job = session.context.job
        names = {
            self.partners.of(entry.endorsement, job=job, worker=worker, own=entry.certificate)
            for worker, entry in entries.items()
            if worker in workers
        }
        if len(names) < self.organisations:
            raise ProtocolError(
                f"{session.context}: members of {len(names)} organisations; this site's policy asks for "
                f"{self.organisations}"
            )


OPEN = Policy()
"""Nothing beyond what the protocol itself asks."""
