"""Which attempts of which rounds a job has opened: on the disk before anybody is asked, so that no number comes twice.

A server that starts opens the attempt after the last one. That one's workers may still speak of it, and who was lost in
those before was told already. An attempt that is opened for no other reason asks those whom the last one would have
asked: it has the same `draw`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from fl_core.rounds import Past
from fl_server.checkpoints import legible
from fl_server.storage import Lines

RESTARTED: Final = "the server was started again"
"""Why an attempt was given up of which nobody knows who was lost in it."""
UNDONE: Final = "the server went back to an older model"
"""Why one was given up that had been committed."""

Abandoned = dict[str, Any]
"""An attempt that came to nothing: its number, who was lost in it, and, where no worker is the reason, the reason."""


class Attempts:
    """The attempts of one job, a line for each; those that came to nothing with who was lost in them.

    Those that are `undone`, by round, were committed before the server went back to an older checkpoint.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._last: dict[int, int] = {}
        self._draws: dict[int, int] = {}
        self._lost: dict[int, list[Abandoned]] = {}
        self._own = 0
        self.undone: Collection[tuple[int, int]] = ()

    def restore(self) -> Past:
        """What earlier processes opened."""
        for row in self._lines.read():
            with legible(f"{self._lines.path}: {row}"):
                self._note(row)
        return Past(dict(self._last), draws=dict(self._draws))

    def opening(self, round: int, attempt: int, *, draw: int, lost: Mapping[str, str]) -> list[Abandoned]:
        """Somebody is about to be asked; gives the attempts of this round that were given up.

        `lost` are those whom this process has lost in the attempt before.
        """
        row: dict[str, Any] = {"round": round, "attempt": attempt, "draw": draw}
        if before := self._last.get(round):
            here = self._own == round
            reason = UNDONE if (round, before) in self.undone else RESTARTED
            row["before"] = {
                "attempt": before,
                "dropouts": dict(lost) if here else {},
                **({} if here else {"reason": reason}),
            }
        self._lines.add(row)
        self._note(row)
        self._own = round
        return list(self._lost.get(round, ()))

    def _note(self, row: dict[str, Any]) -> None:
        number = int(row["round"])
        self._last[number] = max(self._last.get(number, 0), int(row["attempt"]))
        self._draws[number] = int(row["draw"])
        if (before := row.get("before")) is not None:
            self._lost.setdefault(number, []).append(
                {**before, "attempt": int(before["attempt"]), "dropouts": dict(before["dropouts"])}
            )
