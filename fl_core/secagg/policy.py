"""What a site insists on, whatever the server says: its security officer's file, read by the worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography import x509

from fl_core.errors import ProtocolError
from fl_core.secagg.session import Entry, Session


@dataclass(frozen=True, slots=True)
class Policy:
    """Floors of a session: `members`, `organisations`, and the `threshold` as a share of the candidates."""

    members: int = 0
    organisations: int = 0
    threshold: float = 0.0

    def check_session(self, session: Session) -> None:
        """Refuse a session with a threshold that this site does not accept."""
        if session.threshold < self.threshold * len(session.candidates):
            raise ProtocolError(
                f"{session.context}: threshold {session.threshold} of {len(session.candidates)}; this site's policy "
                f"asks for a share of {self.threshold:g}"
            )

    def check_members(self, session: Session, workers: Collection[int], entries: Mapping[int, Entry]) -> None:
        """Refuse to be one of so few, at whichever step; `entries` are those of the members it knows, found good."""
        if len(workers) < self.members:
            raise ProtocolError(
                f"{session.context}: {len(workers)} members; this site's policy asks for {self.members}"
            )
        if self.organisations > 1:
            certificates = [entry.certificate for worker, entry in entries.items() if worker in workers]
            issuers = {x509.load_der_x509_certificate(der).issuer.rfc4514_string() for der in certificates}
            if len(issuers) < self.organisations:
                raise ProtocolError(
                    f"{session.context}: members of {len(issuers)} organisations; this site's policy asks for "
                    f"{self.organisations}"
                )


OPEN = Policy()
"""Nothing beyond what the protocol itself asks."""
