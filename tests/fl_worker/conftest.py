"""Builders: a program in a folder with the plan compiled for it; a session and what surrounds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fl_core.bundle import bundle, bundle_digest
from fl_core.extensions import Extension
from fl_core.plan import Plan, Program
from fl_worker.task import Site
from fl_worker.work import Learner
from tests.fl_worker.loopback import World

NUMBERS = count()


@dataclass(frozen=True)
class Written:
    """A program that lies in a folder, and its plan."""

    plan: Plan
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "plan.json"

    def learner(self, index: int = 0, **site: Any) -> Learner:
        where = Site(
            name=f"worker-{index}", index=index, count=self.plan.workers, seed=self.plan.seed, **site
        )
        return Learner.load(self.plan, folder=self.folder, site=where)


@pytest.fixture
def write(tmp_path: Path, plan_of: Callable[..., Plan]) -> Callable[..., Written]:
    """Write a program's text and compile a plan for it: `write(text, framework=..., strategy=...)`."""

    def written(text: str, *, framework: str = "numpy", strategy: str = "fedavg", **options: Any) -> Written:
        module = f"program_{next(NUMBERS)}"
        folder = tmp_path / module
        folder.mkdir()
        (folder / f"{module}.py").write_text(dedent(text))
        program = Program(
            entrypoint=f"{module}:task",
            framework=framework,
            sha256=bundle_digest(bundle(folder, module)),
            config=options.pop("config", {}),
        )
        extension = Extension(name=strategy, options=options)
        made = Written(plan_of(program=program, strategy=extension, seed=7, workers=4), folder)
        made.file.write_text(made.plan.to_json())
        return made

    return written


@pytest.fixture
def world(write: Callable[..., Any]) -> World:
    """A world whose main thread is free."""
    one = World(write("").plan.model_copy(update={"rounds": 9}))
    one.free.set()
    return one
