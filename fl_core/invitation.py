"""What a site outside the cluster is given: where it joins a job, what it takes part in, and a token for it.

`fl-submit site token` writes it and `fl-worker train --join` reads it: one file, as secret as the token in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from fl_core.errors import MismatchError, StorageError
from fl_core.identity import Identity, write_private
from fl_core.plan import Part, Plan

VERSION: Final = 1


class Invitation(Part):
    """One site's way into one job; the token is good for one key."""

    version: Literal[1] = VERSION
    site: str
    address: str
    """`host:port`: the only one that the site dials, for scheduler, server and enrolment alike."""
    enrolment: str
    """The URL of the operator's endpoint, whose host the relay at `address` knows."""
    authority: str
    """The certificate, as PEM, of whoever signs for the cluster."""
    plan: Plan
    token: str = Field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Invitation:
        """Read what `write` wrote; the token of a file that is refused is not shown."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MismatchError(f"--join {path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}"
                for one in error.errors(include_input=False)
            )
            raise MismatchError(f"--join {path} is not what fl-submit site token wrote: {wrong}") from error
        except UnicodeDecodeError as error:
            raise MismatchError(f"--join {path} is not UTF-8 text: {error}") from error

    def write(self, path: Path) -> None:
        """Write it, readable by this user only."""
        try:
            write_private(path, f"{self.model_dump_json(indent=2)}\n".encode())
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error

    def check(self, identity: Identity) -> None:
        """Refuse the certificate of another process than this site's."""
        indexes = {site.name: site.index for site in self.plan.sites}
        expected = Identity(self.plan.job.uid, "worker", indexes.get(self.site))
        if identity != expected:
            raise MismatchError(
                f"the certificate is that of {identity.uri}, and the invitation is for {expected.uri}, "
                f"the site {self.site}; expected another folder for --identity"
            )
