"""The logs of a job's pods through the API server, merged by time."""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from fl_core.errors import FLJobError, JobError
from job_generator.cluster.connection import Cluster, Object, Request
from job_generator.cluster.jobs import core, pods
from job_generator.local.logs import Entry, entry_of
from job_generator.names import ROLE, SITE
from job_generator.pods import CONTAINER

INDEX: Final = "batch.kubernetes.io/job-completion-index"
MOST_STREAMS: Final = 100
"""Pods that are followed at once: each keeps a connection and a thread."""
LOOK_SECONDS: Final = 2.0


def process(pod: Object) -> str:
    """What a pod's process is called: server, scheduler, worker-3, or the name of its site."""
    labels = pod["metadata"].get("labels", {})
    role = str(labels.get(ROLE, "pod"))
    if SITE in labels:
        return f"worker-{labels[SITE]}"
    return f"worker-{labels.get(INDEX, '?')}" if role == "worker" else role


@dataclass(slots=True)
class PodLogs:
    """The logs of the pods that are wanted."""

    cluster: Cluster
    job: str
    wanted: Callable[[str], bool]
    _read: set[tuple[str, int]] = field(default_factory=set)
    _refusals: list[FLJobError] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)
    _lines: queue.Queue[Entry] = field(default_factory=queue.Queue)

    def entries(self) -> Iterator[Entry]:
        """All that was written so far, merged by time; raises what refuses it where nothing can be read."""
        read = [list(self._told(pod, follow=False)) for pod in self._pods() if _begun(pod)]
        if self._refusals and len(self._refusals) == sum(map(len, read)):
            raise self._refusals[-1]
        return heapq.merge(*read)

    def follow(self, alive: Callable[[], bool]) -> Iterator[Entry]:
        """What is written, as it comes, also by pods that start later, until the job is over."""
        while True:
            last_time = not alive()
            self._begin()
            yield from self._heard(to_the_end=last_time)
            if last_time:
                return

    def _heard(self, *, to_the_end: bool) -> Iterator[Entry]:
        """What comes in a while, so that new pods are found however much the others say; or all, until silence."""
        end = time.monotonic() + LOOK_SECONDS
        with suppress(queue.Empty):
            while (left := LOOK_SECONDS if to_the_end else end - time.monotonic()) > 0:
                yield self._lines.get(timeout=left)

    def _pods(self) -> list[Object]:
        return [pod for pod in pods(self.cluster, self.job) if self.wanted(process(pod))]

    def _begin(self) -> None:
        """Start a reader for each container that has none; one that was started again is another."""
        new = [pod for pod in self._pods() if _begun(pod) and _container(pod) not in self._read]
        self._readers = [one for one in self._readers if one.is_alive()]
        if len(self._readers) + len(new) > MOST_STREAMS:
            raise JobError(
                f"there are more than {MOST_STREAMS} pods to follow; choose some with --role server, "
                "or --role worker --index 3"
            )
        for pod in new:
            self._read.add(_container(pod))
            reader = threading.Thread(target=self._stream, args=(pod,), daemon=True)
            self._readers.append(reader)
            reader.start()

    def _stream(self, pod: Object) -> None:
        """Put a pod's lines where they are waited for."""
        for entry in self._told(pod, follow=True):
            self._lines.put(entry)

    def _told(self, pod: Object, *, follow: bool) -> Iterator[Entry]:
        """A pod's lines; where it is gone, or they cannot be read on, a last one says so."""
        entry = Entry("", process(pod), -1)
        try:
            for entry in self._entries(pod, follow=follow):
                yield entry
        except FLJobError as error:
            self._refusals.append(error)
            told = f"its log cannot be read: {error}"
            yield Entry(entry.time, entry.process, entry.number + 1, level="warning", event=told)

    def _entries(self, pod: Object, *, follow: bool) -> Iterator[Entry]:
        metadata, name = pod["metadata"], process(pod)
        path = f"{core(metadata['namespace'], 'pods', metadata['name'])}/log"
        query = {"container": CONTAINER, "timestamps": "true", **({"follow": "true"} if follow else {})}
        for number, line in enumerate(self.cluster.lines(Request("GET", path, query))):
            time, _, text = line.partition(" ")
            yield entry_of(text, process=name, number=number, time=time)


def _container(pod: Object) -> tuple[str, int]:
    """Which container of which pod: its log ends with it, and another begins."""
    status: Object = next(iter(pod.get("status", {}).get("containerStatuses", ())), {})
    return str(pod["metadata"]["uid"]), int(status.get("restartCount", 0))


def _begun(pod: Object) -> bool:
    """Whether the container has started, so that there is a log."""
    states = (one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", ()))
    return any("running" in state or "terminated" in state for state in states)
