"""Events are written once, counted when they repeat, and never too many."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from fl_operator.cluster.connection import Connection
from fl_operator.cluster.errors import ForbiddenError
from fl_operator.cluster.events import Aggregator, Note, Recorder, Writing, event_of
from fl_operator.cluster.resources import EVENTS

JOB = {
    "apiVersion": "fljob.dev/v1alpha1",
    "kind": "FLJob",
    "metadata": {"namespace": "team", "name": "digits", "uid": "u-1"},
}


def note(text: str = "worker 7 was lost", **fields: Any) -> Note:
    return Note.on(JOB, "WorkerLost", text, warning=True, **fields)


def aggregator() -> Aggregator:
    names = (f"n{number}" for number in count())
    return Aggregator(names=lambda: next(names))


def test_first_second_and_many() -> None:
    """The first is an event, the second a series at once, and then one write a minute tells how many."""
    seen = aggregator()
    written = [seen.add(note(), clock) for clock in range(0, 200, 10)]
    assert [one.count for one in written if one] == [1, 2, 8, 14, 20]
    assert {one.name for one in written if one} == {"digits.n0"}


def test_other_words_are_another_event() -> None:
    """An event says what it says: another text, reason or object is an event of its own."""
    seen = aggregator()
    other = {**JOB, "metadata": {**JOB["metadata"], "uid": "u-2"}}
    notes = [note(), note("worker 8 was lost"), note(action="Resume"), Note.on(other, "WorkerLost", "x")]
    assert [seen.add(one, 0.0) for one in notes] == [
        Writing(one, f"digits.n{number}", 1) for number, one in enumerate(notes)
    ]


def test_after_a_quiet_time_a_new_one() -> None:
    """What did not happen for six minutes is news when it happens again."""
    seen = aggregator()
    assert seen.add(note(), 0.0) == Writing(note(), "digits.n0", 1)
    assert seen.add(note(), 361.0) == Writing(note(), "digits.n1", 1)


def test_one_object_cannot_flood() -> None:
    """An object gets 25 new events at once and then one a minute; others are not touched by that."""
    seen = aggregator()
    written = [seen.add(note(str(number)), 0.0) for number in range(100)]
    assert sum(one is not None for one in written) == 25
    assert seen.add(note("later"), 60.0) is not None
    other = {**JOB, "metadata": {**JOB["metadata"], "uid": "u-2"}}
    assert seen.add(Note.on(other, "A", "b"), 0.0) is not None


def test_memory_is_bounded() -> None:
    """Only so many notes and objects are remembered."""
    seen = aggregator()
    for number in range(5000):
        metadata = {**JOB["metadata"], "uid": f"u-{number}"}
        seen.add(Note.on({**JOB, "metadata": metadata}, "A", "b"), 0.0)
    assert (len(seen._series), len(seen._buckets)) == (4096, 4096)


def test_long_texts_are_cut() -> None:
    """A note holds no more bytes than the API server takes, and no broken character."""
    text = note("ä" * 2000).text
    assert len(text.encode()) == 1024
    assert set(text) == {"ä"}


def test_what_is_written() -> None:
    """The event names the job, us, the reason and the action; a series its count and time."""
    event = event_of(Writing(note(), "digits.n0", 3), "pod-1")
    assert event["regarding"] == {
        "apiVersion": "fljob.dev/v1alpha1",
        "kind": "FLJob",
        "namespace": "team",
        "name": "digits",
        "uid": "u-1",
    }
    told = ("type", "reason", "action", "note", "reportingController", "reportingInstance")
    assert [event[name] for name in told] == [
        "Warning",
        "WorkerLost",
        "Reconcile",
        "worker 7 was lost",
        "fljob.dev/operator",
        "pod-1",
    ]
    assert event["metadata"] == {"name": "digits.n0", "namespace": "team"}
    assert event["series"]["count"] == 3


def test_recorded_in_the_background(memory: Any) -> None:
    """Events get to the API server; one that it forgot is written again, and an error stops nothing."""

    async def main() -> None:
        recorder = Recorder(Connection(memory), "pod-1", aggregator=aggregator())
        path = EVENTS.path("team", "digits.n0")
        running = asyncio.create_task(recorder.run())
        memory.failing = [ForbiddenError("no right")]
        recorder.record(note("lost"))
        for _ in range(2):
            recorder.record(Note.on(JOB, "Begun", "it began"))
        await asyncio.wait_for(recorder.drain(), 5)
        path = EVENTS.path("team", "digits.n1")
        assert list(memory.objects) == [path]
        assert memory.objects[path]["series"]["count"] == 2
        memory.drop(path)
        recorder.clock = lambda: 10**9
        recorder.aggregator._series[Note.on(JOB, "Begun", "it began")].seen = 10**9
        recorder.record(Note.on(JOB, "Begun", "it began"))
        await asyncio.wait_for(recorder.drain(), 5)
        assert memory.objects[path]["series"]["count"] == 3
        running.cancel()

    asyncio.run(main())


def test_too_many_at_once_are_dropped(memory: Any) -> None:
    """Nobody waits for events: when they cannot be written fast enough, some are lost."""

    async def main() -> None:
        recorder = Recorder(Connection(memory), "pod-1")
        for number in range(2000):
            metadata = {**JOB["metadata"], "uid": f"u-{number}"}
            recorder.record(Note.on({**JOB, "metadata": metadata}, "A", "b"))
        assert recorder._waiting.qsize() == 1000

    asyncio.run(main())
