"""A record to be run again: whom each round asks, which rounds are skipped, and what the workers had voted for.

Each round asks those whose updates are in its recorded model, and nobody else: who was asked and is not among them has
left no trace in the model, nor in what goes into later ones, as a worker's stages go on from the last update that
counted. The model is then the same, byte for byte, as far as training is (docs/explanation/determinism.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from fl_core.errors import MismatchError
from fl_core.record import COMMITTED


@dataclass(frozen=True)
class Replay:
    """What a record says of its rounds, as far as a run follows it.

    `ranges` are those that workers of secure sums voted for, by round and bucket: who voted may have dropped out since.
    """

    cohorts: Mapping[int, tuple[str, ...]]
    skipped: frozenset[int]
    ranges: Mapping[tuple[int, int], tuple[int, ...]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Replay:
        """Follow these rounds."""
        made = {row["round"]: row for row in rows if row["result"] == COMMITTED}
        ranges = {
            (number, int(bucket)): tuple(one)
            for number, row in made.items()
            for bucket, one in row.get("ranges", {}).items()
        }
        cohorts = {number: tuple(row["reporters"]) for number, row in made.items()}
        return cls(cohorts, frozenset(row["round"] for row in rows) - cohorts.keys(), ranges)

    @classmethod
    def read(cls, path: Path) -> Replay:
        """Read a file of the rounds' lines."""
        try:
            return cls.of([from_json(line) for line in path.read_bytes().splitlines()])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MismatchError(f"{path} holds no rounds to replay: {error!r}") from error
