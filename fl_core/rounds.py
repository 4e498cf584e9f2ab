"""The server's rounds as a pure state machine: events and `now` go in, actions come out.

    Selecting -> Training -> [Aggregating] -> Committing -> Evaluating -> [Aggregating] -> the next round, or Finished
                    |             |  too few: another attempt, the next round, or Failed, by `onShortfall`

With secure aggregation a worker has reported when it holds its result; what it holds is then summed by a session. A sum
for which anybody may have sent a vector is sought again, of the same vectors; where that does not go well, the round is
skipped.

Whoever drives it (the server process, a simulation, a list in a test) carries the actions out and
reports what happens. `now` is in seconds of any clock that does not go back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from fl_core.errors import UpdateError
from fl_core.gathering import Gathering
from fl_core.plan import Selection
from fl_core.shortfall import MENDING, recurs, too_few

STOPPED: Final = "Stopped"
"""Why a job ends that was told to."""


@dataclass(frozen=True, slots=True)
class Convene:
    """Ask the scheduler for a cohort for this attempt of this round.

    `draw` counts the cohorts that were drawn for the round, this one included. An attempt after the server's restart
    repeats the last draw, so it may be less than `attempt`.
    """

    round: int
    attempt: int
    draw: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give this attempt up: what came for it is thrown away."""

    round: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Sum what these workers hold. Answer with `Rounds.summed` or `Rounds.unsummed`."""

    round: int
    attempt: int
    workers: tuple[str, ...]
    measurements: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """Combine these workers' updates, step the model, save."""

    round: int
    attempt: int
    reporters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Ask these workers to measure the new model."""

    round: int
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conclude:
    """The round is over; `measured` handed in measurements. Answer with `Rounds.concluded`."""

    round: int
    measured: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """The round is over without a new model. Answer with `Rounds.concluded`."""

    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All rounds are done, or the job was told to end."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed, and this sentence says why; where it `recurs`, to go on with it as it is does not help."""

    sentence: str
    recurs: bool = False


Action = Convene | Abandon | Aggregate | Commit | Evaluate | Conclude | Skip | Finish | Fail
Actions = tuple[Action, ...]


class Phase(StrEnum):
    """What the machine waits for."""

    WAITING = "Waiting"
    SELECTING = "Selecting"
    TRAINING = "Training"
    AGGREGATING = "Aggregating"
    COMMITTING = "Committing"
    EVALUATING = "Evaluating"
    CONCLUDING = "Concluding"
    FINISHED = "Finished"


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier process began: each round's attempts, and the rounds bound to vectors that may have left.

    `draws` are the last draw of each: whoever opens a round again asks those whom it would have asked.
    """

    attempts: Mapping[int, int] = field(default_factory=dict)
    bound: Collection[int] = ()
    draws: Mapping[int, int] = field(default_factory=dict)


class Rounds:
    """The whole sequence of rounds of one job; `done` rounds lie behind it already.

    Where a record is `replayed`, these are the rounds that it skipped; all others need every worker that they ask.
    """

    def __init__(
        self,
        selection: Selection,
        *,
        rounds: int,
        evaluation_every: int,
        done: int = 0,
        secure: bool = False,
        replayed: Collection[int] | None = None,
    ) -> None:
        self.selection = selection
        self.secure = secure
        self.past = Past()
        self.rounds = self._planned = rounds
        self.round = done
        self.attempt = self.draw = 0
        self.phase = Phase.WAITING
        self.gathering: Gathering | None = None
        self._every = evaluation_every
        self._replayed = replayed
        self._ending = ""
        self._reporters: tuple[str, ...] = ()
        self._asked: frozenset[str] = frozenset()
        self._measuring = False
        self._bound = self._outdated = False
        self._silent: tuple[str, ...] = ()
        self._excused: set[str] = set()
        self._spared = 0

    def begin(self) -> Actions:
        """Open the first round."""
        return self._next_round()

    def resume(self, attempt: int, reporters: Collection[str], *, now: float) -> Actions:
        """Go on after the commit of round `done`, which another process made and nobody has recorded."""
        self.attempt, self._reporters, self._silent = attempt, tuple(sorted(reporters)), tuple(reporters)
        return self.committed(now=now)

    def convened(self, cohort: Collection[str], *, silent: Collection[str] = (), now: float) -> Actions:
        """The scheduler has chosen; `silent` workers cannot show that they move and never stall."""
        if self.phase != Phase.SELECTING:
            return ()
        self.phase, self._silent = Phase.TRAINING, tuple(silent)
        self._gather(cohort, now=now, enough=self.selection.per_round)
        return self._judge()

    def reported(self, worker: str) -> Actions:
        """A worker's whole answer has come and was found good."""
        gathering = self.gathering
        if gathering is None or not gathering.accepts(worker):
            return ()
        gathering.report(worker)
        return self._judge()

    def lost(self, worker: str, *, reason: str, live: int = 0) -> Actions:
        """Nothing more will come from this worker; so many others could be chosen now."""
        gathering = self.gathering
        if gathering is None or worker not in gathering.missing:
            return ()
        gathering.live = live
        gathering.drop(worker, reason)
        return self._judge()

    def moved(self, worker: str, *, now: float) -> None:
        """A worker trains, or its transfer goes on."""
        if self.gathering is not None and worker in self.gathering.missing:
            self.gathering.moved[worker] = max(now, self.gathering.moved[worker])

    def check_open(self, phase: Phase, worker: str, place: tuple[int, int]) -> None:
        """Refuse what a worker says of another phase, round or attempt than the open one, or unasked."""
        here = (self.round, self.attempt)
        if self.phase != phase or place != here:
            raise UpdateError(
                f"{worker} speaks of round {place[0]}, attempt {place[1]}; "
                f"the server is {self.phase} in round {here[0]}, attempt {here[1]}"
            )
        if self.gathering is None or not self.gathering.accepts(worker):
            raise UpdateError(f"nothing (more) is expected of {worker} in round {here[0]}")

    def tick(self, *, now: float) -> Actions:
        """Time has passed."""
        if self.gathering is None:
            return ()
        self.gathering.pass_time(now)
        return self._judge()

    def wake(self) -> float | None:
        """When `tick` is next worth calling."""
        return None if self.gathering is None else self.gathering.wake()

    def summed(self, workers: Collection[str]) -> Actions:
        """The session's sum is open, and these workers are in it."""
        everybody = tuple(sorted(workers))
        if self._measuring:
            return self._conclude(everybody)
        if self._replayed is not None and (lacking := self._asked.difference(everybody)):
            self.phase = Phase.FINISHED
            who = ", ".join(sorted(lacking))
            return (
                Fail(f"round {self.round}: the sum lacks {who}, whom the record has; replay it once more"),
            )
        return self._commit(everybody)

    def unsummed(self, reason: str, *, bound: bool, spoilt: bool = False) -> Actions:
        """The session ended without a sum.

        A round that is `bound` to vectors that may have left is tried again with them, unless its sum is `spoilt`: it
        would be so again.
        """
        if self._measuring:
            return self._conclude(())
        self._bound = self._bound or bound
        again = not (spoilt and self._bound)
        return self._shortfall(f"round {self.round}, attempt {self.attempt}: {reason}", again=again)

    def committed(self, *, now: float) -> Actions:
        """The new model is safe: it is measured now, if its turn has come."""
        due = self._every and (self.round % self._every == 0 or self.round >= self.rounds or self._ending)
        if not due:
            return self._conclude(())
        reporters = tuple(sorted(self._reporters))
        self.phase = Phase.EVALUATING
        self._gather(reporters, now=now, enough=len(reporters))
        return (Evaluate(self.round, reporters),)

    def concluded(self, *, ending: str = "") -> Actions:
        """The round's record is written; `ending` names a reason to end the job here."""
        ending = self._ending or ("" if self._replayed is not None else ending)
        return self._finished(ending) if ending else self._next_round()

    def finish(self, reason: str) -> Actions:
        """End the job once the open round is over; at once where its attempt has asked no worker yet."""
        self._ending = reason
        return self._withdrawn(reason)

    def shorten(self, last: int) -> Actions:
        """End the job once round `last` is over, which may not have begun; with the open one where that is later."""
        self.rounds = min(last, self.rounds)
        return self._withdrawn(STOPPED) if self.round > self.rounds else ()

    def _withdrawn(self, reason: str) -> Actions:
        """End at once instead of the open round, where its attempt has asked no worker yet."""
        if self.phase != Phase.SELECTING:
            return ()
        self.round -= 1
        return self._finished(reason)

    def _finished(self, reason: str) -> Actions:
        self.phase = Phase.FINISHED
        return (Finish(reason),)

    def _next_round(self) -> Actions:
        if self._ending or self.round >= self.rounds:
            return self._finished(self._ending or (STOPPED if self.round < self._planned else "RoundsDone"))
        self.round += 1
        self.attempt = self.past.attempts.get(self.round, 0)
        self.draw = self.past.draws.get(self.round, 1) - 1
        self._excused, self._spared = set(), 0
        if self._replayed is not None and self.round in self._replayed:
            self.phase = Phase.CONCLUDING
            return (Skip(self.round, f"round {self.round}: the record that is replayed skipped it"),)
        last = max(self.past.bound, default=0)
        self._outdated = self._outdated or self.round < last
        if self._outdated and self.round <= last:
            self.phase = Phase.CONCLUDING
            why = f"workers have sent vectors up to round {last}, which were made from models that are lost"
            return (Skip(self.round, f"round {self.round}: {why}"),)
        self._bound = self.round in self.past.bound
        return self._next_attempt()

    def _next_attempt(self) -> Actions:
        self.attempt += 1
        self.draw += 1
        self.phase = Phase.SELECTING
        return (Convene(self.round, self.attempt, self.draw),)

    def _gather(self, cohort: Collection[str], *, now: float, enough: int) -> None:
        deadline = now + self.selection.deadline_seconds
        quiet = set(self._silent)
        training = self.phase == Phase.TRAINING
        self._asked = frozenset(cohort) if training else self._asked
        least = len(cohort) if self._replayed is not None else self.selection.minimum
        moved = {worker: deadline if worker in quiet else now for worker in cohort}
        self.gathering = Gathering(
            cohort=frozenset(cohort),
            enough=enough,
            minimum=least if training else 0,
            stall=self.selection.stall_seconds,
            deadline=deadline,
            moved=moved,
        )
        self.gathering.pass_time(now)

    def _judge(self) -> Actions:
        gathering = self.gathering
        if gathering is None or not gathering.over:
            return ()
        self.gathering = None
        self._measuring = self.phase == Phase.EVALUATING
        reported = tuple(sorted(gathering.reported))
        if len(reported) < gathering.minimum:
            sentence = self._too_few(gathering)
            if excused := gathering.excused(self._excused):
                self._excused |= excused
                self._spared += 1
                return (Abandon(self.round, self.attempt, sentence), *self._next_attempt())
            return self._shortfall(sentence, recurring=recurs(gathering.dropped))
        if self.secure and reported:
            self.phase = Phase.AGGREGATING
            return (Aggregate(self.round, self.attempt, reported, measurements=self._measuring),)
        return self._conclude(reported) if self._measuring else self._commit(reported)

    def _commit(self, reporters: tuple[str, ...]) -> Actions:
        self.phase, self._reporters = Phase.COMMITTING, reporters
        return (Commit(self.round, self.attempt, reporters),)

    def _conclude(self, measured: tuple[str, ...]) -> Actions:
        self.phase = Phase.CONCLUDING
        return (Conclude(self.round, measured),)

    def _too_few(self, gathering: Gathering) -> str:
        counts = len(gathering.reported), len(gathering.cohort), gathering.minimum
        why = too_few(self.selection, counts, gathering.dropped)
        return f"round {self.round}, attempt {self.attempt}: {why}"

    def _shortfall(self, sentence: str, *, again: bool = True, recurring: bool = False) -> Actions:
        rule = self.selection.on_shortfall
        abandon = Abandon(self.round, self.attempt, sentence)
        made = self.attempt - self.past.attempts.get(self.round, 0) - self._spared
        if rule.action == "Retry" and again and made < rule.attempts:
            return (abandon, *self._next_attempt())
        lost = self._bound and (rule.action == "Retry" or self.round in self.past.bound)
        if rule.action == "Skip" or lost:
            self.phase = Phase.CONCLUDING
            return (abandon, Skip(self.round, sentence))
        self.phase = Phase.FINISHED
        return (abandon, Fail(sentence + MENDING * recurring, recurs=recurring))
