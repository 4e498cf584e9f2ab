"""One FLJob as it changes: an API watch that goes on where it broke off.

Who watches costs the API server one request. It is made again when the connection ends, from the version that was
seen last; only where that is too old for the server (410) the job is read anew.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from fl_core.errors import UnavailableError
from job_generator.cluster.connection import AbsentError, Cluster, ExpiredError, Object, Request, refusal
from job_generator.cluster.jobs import fljobs, read

SILENT_SECONDS: Final = 90.0
"""A bookmark comes every minute: a connection that brings nothing for so long is dead."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0
"""Seconds before the next connection at most; doubled from the first to the longest while none brings anything."""


@dataclass(slots=True)
class Changes:
    """A job from `first` on; `say` is told once when the API server falls silent."""

    cluster: Cluster
    first: Object
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random

    def __iter__(self) -> Iterator[Object]:
        """The job as it is, then after each change, without an end; raises AbsentError when it is deleted."""
        yield self.first
        version: str | None = _version(self.first)
        pause, silent = FIRST_PAUSE, False
        while True:
            try:
                if version is None:
                    job = self._again()
                    version = _version(job)
                    yield job
                for event in self._events(version):
                    version, pause, silent = _version(event["object"]), FIRST_PAUSE, False
                    if event["type"] != "BOOKMARK":
                        yield self._present(event)
            except ExpiredError:
                version = None
            except UnavailableError as error:
                if not silent:
                    self.say(str(error))
                silent = True
            self.sleep(pause * (1 + self.draw()) / 2)
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def _name(self) -> str:
        return str(self.first["metadata"]["name"])

    def _events(self, version: str) -> Iterator[Object]:
        """What one connection brings."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "fieldSelector": f"metadata.name={self._name}",
            "resourceVersion": version,
        }
        request = Request("GET", fljobs(self.cluster.namespace), query)
        for line in self.cluster.lines(request, silence=SILENT_SECONDS):
            event = _event(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise refusal(code=int(status.get("code", 500)), message=str(status.get("message", "")))
            yield event

    def _present(self, event: Object) -> Object:
        if event["type"] == "DELETED":
            raise AbsentError(f"FLJob {self._name} was deleted")
        job: Object = event["object"]
        return job

    def _again(self) -> Object:
        """The job as it is now; another one that has its name is not it."""
        job = read(self.cluster, self._name)
        if job["metadata"]["uid"] != self.first["metadata"]["uid"]:
            raise AbsentError(f"FLJob {self._name} was deleted, and there is another one of its name now")
        return job


def _version(job: Object) -> str:
    return str(job["metadata"]["resourceVersion"])


def _event(line: str) -> Object:
    try:
        event: Object = json.loads(line)
    except ValueError as error:
        raise UnavailableError(f"the API server broke off in the middle of a line: {line[:80]!r}") from error
    return event
