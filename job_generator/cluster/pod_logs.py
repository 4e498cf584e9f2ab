"""The logs of a job's pods through the API server, merged by time."""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from fl_core.errors import FLJobError, JobError, UnavailableError
from job_generator.cluster.connection import Cluster, Object, Request, SilentError
from job_generator.cluster.jobs import core, pods
from job_generator.local.logs import Entry, entry_of
from job_generator.names import ROLE, SITE
from job_generator.pods import CONTAINER

INDEX: Final = "batch.kubernetes.io/job-completion-index"
MOST_STREAMS: Final = 100
"""Pods that are followed at once: each keeps a connection and a thread."""
LOOK_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 300.0
"""A connection that brings nothing for so long may be dead, and is made anew: a log is read on where it broke off."""


def process(pod: Object) -> str:
    """What a pod's process is called: server, scheduler, worker-3, or the name of its site."""
    labels = pod["metadata"].get("labels", {})
    role = str(labels.get(ROLE, "pod"))
    if SITE in labels:
        return f"worker-{labels[SITE]}"
    return f"worker-{labels.get(INDEX, '?')}" if role == "worker" else role


@dataclass(slots=True)
class _Reading:
    """How far the log of one container has been read."""

    last: str = ""
    """When its last line was written, as the node says."""
    lines: int = 0
    open: bool = False
    """Whether somebody reads it now."""
    whole: bool = False
    """Whether it was read to its end after the container's own."""
    refused: bool = False
    """Whether it could not be read the last time."""


@dataclass(slots=True)
class PodLogs:
    """The logs of the pods that are wanted."""

    cluster: Cluster
    job: str
    wanted: Callable[[str], bool]
    _readings: dict[tuple[str, int], _Reading] = field(default_factory=lambda: defaultdict(_Reading))
    _refusals: list[FLJobError] = field(default_factory=list)
    _lines: queue.Queue[Entry] = field(default_factory=queue.Queue)

    def entries(self) -> Iterator[Entry]:
        """All that was written so far, merged by time; raises what refuses it where nothing can be read."""
        read = [list(self._told(pod, _Reading(), follow=False)) for pod in self._pods() if _begun(pod)]
        if self._refusals and len(self._refusals) == sum(map(len, read)):
            raise self._refusals[-1]
        return heapq.merge(*read)

    def follow(self, alive: Callable[[], bool], *, say: Callable[[str], None]) -> Iterator[Entry]:
        """What is written, as it comes, also by pods that start later, until the job is over.

        `say` is told once when the API server falls silent.
        """
        last_time = silent = False
        while not last_time:
            try:
                last_time = not alive()
                self._begin()
                silent = False
            except UnavailableError as error:
                if not silent:
                    say(f"{error}; it is asked again and again")
                last_time, silent = False, True
            yield from self._heard(to_the_end=last_time)

    def _heard(self, *, to_the_end: bool) -> Iterator[Entry]:
        """What comes in a while, so that new pods are found however much the others say; or all, until silence."""
        end = time.monotonic() + LOOK_SECONDS
        with suppress(queue.Empty):
            while (left := LOOK_SECONDS if to_the_end else end - time.monotonic()) > 0:
                yield self._lines.get(timeout=left)

    def _pods(self) -> list[Object]:
        return [pod for pod in pods(self.cluster, self.job) if self.wanted(process(pod))]

    def _begin(self) -> None:
        """Read the log of each container that nobody reads; one that was started again is another."""
        found = [(pod, self._readings[_container(pod)]) for pod in self._pods() if _begun(pod)]
        due = [(pod, reading) for pod, reading in found if not (reading.open or reading.whole)]
        if sum(reading.open for reading in self._readings.values()) + len(due) > MOST_STREAMS:
            raise JobError(
                f"there are more than {MOST_STREAMS} pods to follow; choose some with --role server, "
                "or --role worker --index 3"
            )
        for pod, reading in due:
            reading.open = True
            threading.Thread(target=self._stream, args=(pod, reading), daemon=True).start()

    def _stream(self, pod: Object, reading: _Reading) -> None:
        """Put a pod's lines where they are waited for, until its connection ends, whether its log does or not."""
        try:
            for entry in self._told(pod, reading, follow=True):
                self._lines.put(entry)
            reading.whole = _over(pod) and not reading.refused
        finally:
            reading.open = False

    def _told(self, pod: Object, reading: _Reading, *, follow: bool) -> Iterator[Entry]:
        """A pod's lines; where it is gone, or they cannot be read on, a last one says so, once."""
        entry, refused = Entry("", process(pod), -1), reading.refused
        reading.refused = False
        try:
            for entry in self._entries(pod, reading, follow=follow):
                refused = False
                yield entry
        except FLJobError as error:
            if follow and isinstance(error, SilentError):
                return  # there may be nothing to tell
            self._refusals.append(error)
            reading.refused = True
            if not refused:
                told = f"its log cannot be read: {error}"
                yield Entry(entry.time, entry.process, entry.number + 1, level="warning", event=told)

    def _entries(self, pod: Object, reading: _Reading, *, follow: bool) -> Iterator[Entry]:
        """The lines from where the log has been read to; it is asked for by the second."""
        metadata, name = pod["metadata"], process(pod)
        path = f"{core(metadata['namespace'], 'pods', metadata['name'])}/log"
        query = {"container": CONTAINER, "timestamps": "true"}
        query |= {"follow": "true"} if follow else {}
        query |= {"sinceTime": reading.last} if reading.last else {}
        known = reading.last.rstrip("Z")  # without it a fraction that is cut short is less than a longer one
        for line in self.cluster.lines(Request("GET", path, query), silence=SILENT_SECONDS):
            time, _, text = line.partition(" ")
            if time.rstrip("Z") <= known:
                continue
            reading.last, reading.lines = time, reading.lines + 1
            yield entry_of(text, process=name, number=reading.lines, time=time)


def _container(pod: Object) -> tuple[str, int]:
    """Which container of which pod: its log ends with it, and another begins."""
    status: Object = next(iter(pod.get("status", {}).get("containerStatuses", ())), {})
    return str(pod["metadata"]["uid"]), int(status.get("restartCount", 0))


def _begun(pod: Object) -> bool:
    """Whether the container has started, so that there is a log."""
    return any("running" in state or "terminated" in state for state in _states(pod))


def _over(pod: Object) -> bool:
    """Whether the container has ended, so that nothing is added to its log."""
    return any("terminated" in state for state in _states(pod))


def _states(pod: Object) -> Iterator[Object]:
    return (one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", ()))
