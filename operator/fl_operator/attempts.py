"""The attempts of jobs as the cluster keeps them: which one is a job's, and what was read of it lately."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fl_core.plan import Job
from fl_operator.attempt import Attempt, belongs
from fl_operator.cluster.cache import Recent
from fl_operator.cluster.mirror import Mirror
from fl_operator.cluster.resources import CONFIG_MAPS, Key, Object, uid_of
from job_generator import names

MOST_THAWED: Final = 8
"""Attempts that are kept as they were read; each takes 0.1 MB."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Reads the frozen attempts of jobs from the copies."""

    mirror: Mirror
    _thawed: Recent[str, Attempt] = field(default_factory=lambda: Recent(MOST_THAWED))
    """Attempts by the uid of their ConfigMap."""

    def of(self, job: Object) -> Attempt | None:
        """The frozen attempt of a job: the newest of those that were kept while its status was not written."""
        number = (job.get("status") or {}).get("attempt") or 1
        kept = self._kept(job, number)
        while later := self._kept(job, number := number + 1):
            kept = later
        if kept is None:
            return None
        if (attempt := self._thawed.get(uid_of(kept))) is None:
            attempt = Attempt.thaw(kept)
            self._thawed.put(uid_of(kept), attempt)
        return attempt

    def _kept(self, job: Object, number: int) -> Object | None:
        """What keeps this attempt, if it is the job's."""
        identity = Job(name=job["metadata"]["name"], namespace=job["metadata"]["namespace"], uid=uid_of(job))
        kept = self.mirror.find(CONFIG_MAPS, Key(identity.namespace, names.attempt(identity, number)))
        return kept if kept is not None and belongs(kept, job) else None
