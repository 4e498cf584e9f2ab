"""Container images as those who started the containers named them: references, pinned by a digest or not.

Which image runs is known to the container runtime alone. A process knows what it was told (`FLJOB_IMAGE`), and says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fl_core.errors import UpdateError

MOST: Final = 512
"""Characters of a reference."""
NAMED: Final = 8
"""How many images a round's line names; workers in further ones are counted together, as `OTHERS`."""
OTHERS: Final = "(others)"

_REFERENCE: Final = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:/@+\[\]-]*")
_PINNED: Final = re.compile(r"@sha256:([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Used:
    """An image that processes of a role said they ran in, and in how many rounds one did."""

    role: str
    reference: str
    rounds: int

    @property
    def descriptor(self) -> dict[str, Any]:
        """As an in-toto ResourceDescriptor; without a `digest` only a name is known, which may be another image now."""
        pinned = digest_of(self.reference)
        return {
            "uri": f"docker://{self.reference}",
            **({"digest": {"sha256": pinned}} if pinned else {}),
            "annotations": {"role": self.role, "rounds": self.rounds},
        }


def digest_of(reference: str) -> str:
    """The SHA-256 (hex) that pins an image; empty where only a tag, or nothing, names it."""
    found = _PINNED.search(reference)
    return found[1] if found else ""


def is_reference(text: str) -> bool:
    """Whether this can name an image."""
    return len(text) <= MOST and _REFERENCE.fullmatch(text) is not None


def check(text: str, *, whose: str) -> str:
    """What a worker says of its image, which may be nothing; UpdateError for what can name none."""
    if text and not is_reference(text):
        raise UpdateError(
            f"{whose} names the image {text[:40]!r}; expected a reference of at most {MOST} characters",
            short="what it calls its image can be none",
        )
    return text


def tally(references: Iterable[str]) -> dict[str, int]:
    """How many workers said each image, the most said first; who said none is not counted."""
    counted = Counter(filter(None, references))
    ranked = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    rest = sum(count for _, count in ranked[NAMED:])
    return dict(ranked[:NAMED]) | ({OTHERS: rest} if rest else {})


def used(rows: Iterable[Mapping[str, Any]]) -> list[Used]:
    """The images that the lines of a record name, of the server and of the workers, in the order of their rounds."""
    rounds: Counter[tuple[str, str]] = Counter()
    for row in rows:
        software, images = row.get("software"), row.get("images")
        if isinstance(software, Mapping) and isinstance(server := software.get("image"), str):
            rounds["server", server] += 1
        rounds.update(("worker", name) for name in (images if isinstance(images, Mapping) else ()))
    return [Used(role, reference, count) for (role, reference), count in rounds.items()]
