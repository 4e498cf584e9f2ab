"""The record of a job on a cluster, in a folder on this machine: what it takes to show, verify and replay it.

    <folder>/fetched.json job.yaml plan.json authorities.pem storage/{metrics.jsonl,record.sig.json}

All but `fetched.json`, which a run's folder has not, lies as in a run's folder. It is written last, so that what was
broken off is none.
"""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fl_core.errors import MismatchError, StorageError
from fl_core.plan import Plan
from job_generator.local.folder import RunFolder, write_atomically
from job_generator.spec import FLJob

MARK: Final = "fetched.json"


class Origin(BaseModel):
    """Which job it was, and how it stood at this time (UTC)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: str
    namespace: str
    state: str
    fetched: dt.datetime


@dataclass(frozen=True, slots=True)
class FetchedRecord:
    """The folder of one."""

    path: Path

    @property
    def is_there(self) -> bool:
        """Whether a record was fetched into this folder."""
        return (self.path / MARK).is_file()

    @property
    def folder(self) -> RunFolder:
        """Its paths, which are those of a run's folder."""
        return RunFolder(self.path)

    @property
    def occupied(self) -> str:
        """Why no record can be fetched into this folder: it holds something; else nothing."""
        if not self.folder.occupied:
            return ""
        broken = (
            "" if self.is_there or self.folder.is_run else ", or remove this one if a fetch was broken off"
        )
        return f"{self.path} is not empty; choose another with -o{broken}"

    @property
    def origin(self) -> Origin:
        """Where it came from."""
        try:
            return Origin.model_validate_json((self.path / MARK).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise StorageError(
                f"{self.path / MARK} is damaged: {_first(error)}; fetch the record again"
            ) from error

    @property
    def job(self) -> FLJob:
        """The job as the cluster had it."""
        path = self.folder.job
        try:
            return FLJob.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise MismatchError(
                f"{path} is no job that this fl-submit knows: {_first(error)}; fetch the record again, with the "
                "fl-submit of the operator's version"
            ) from error

    def write(
        self, origin: Origin, job: dict[str, Any], plan: Plan, *, authority: str, storage: Path
    ) -> None:
        """Make the folder, of a job as the API server has it and the files that came of its storage."""
        if occupied := self.occupied:
            raise StorageError(occupied)
        metadata = {name: job["metadata"][name] for name in ("name", "namespace", "uid")}
        shown = {"apiVersion": job["apiVersion"], "kind": job["kind"], "metadata": metadata}
        try:
            shutil.copytree(storage, self.folder.storage)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error}") from error
        write_atomically(self.folder.job, yaml.safe_dump({**shown, "spec": job["spec"]}, sort_keys=False))
        write_atomically(self.folder.plan, plan.to_json())
        write_atomically(self.folder.authorities, authority)
        write_atomically(self.path / MARK, origin.model_dump_json(indent=2) + "\n")


def _first(error: Exception) -> str:
    """What is wrong, in one line."""
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0]
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]
