"""What stands on the pages is true: code runs, jobs are valid, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from fl_core import errors
from job_generator.compiler import compile_job
from job_generator.problems import InvalidJobError
from job_generator.source import load_job

if TYPE_CHECKING:
    from conftest import Block, Page

ROOT = Path(__file__).parents[2]
LANGUAGES = {"console", "output", "python", "yaml", "bash", "json", "text", "mermaid", "toml"}
SHOWN = ("make", "git", "python -m", "pip", ".venv/bin", "pre-commit", "curl", "kill")
"""Commands that a page may show without a test running them; `make` has a test of its own."""

RUN = ("fl-submit", "cd ", "ls ", "cat ", "head ", "mkdir ", "sed ", "find ", "python ")
PROMPT = "$ "
ELIDED = "..."
WRONG = "wrong"
"""A job in a file of such a name shows what is refused."""
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PROCESSES = ("fl_core", "fl_server", "fl_scheduler", "fl_worker")
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
METRIC = re.compile(r'\(\s*"(fl_[a-z]+_[a-z_]+)",')
ANCHOR = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
SECONDS = 280
BASE = """\
apiVersion: fljob.dev/v1alpha1
kind: FLJob
metadata: {name: base}
spec:
  program: {entrypoint: "program:task"}
  rounds: 20
  workers: {replicas: 20}
"""
"""The job that a page's piece of a spec is merged over."""


def commands(block: Block) -> list[str]:
    text = block.text.replace("\\\n", " ")
    return [line.partition("#")[0].strip() for line in text.splitlines() if line.partition("#")[0].strip()]


def slug(title: str) -> str:
    return re.sub(r"[ -]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-")


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "120"}


def sessions(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that the page shows after it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(PROMPT):
            found.append((line.removeprefix(PROMPT), []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def shape(line: str) -> str:
    """A line without its figures, digests, units and spacing, which differ from run to run."""
    line = re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b", "H", line)
    line = re.sub(r"\d+(?:[.,:]\d+)*", "N", line)
    line = re.sub(r"N (?:[kMG]?B|ms|s)\b", "N U", line)
    line = re.sub(r"N[smh]\b", "NU", line)
    return " ".join(line.split())


def shown(expected: list[str], printed: list[str]) -> bool:
    """Whether the page's lines are what was printed; `...` stands for any lines."""
    if not expected:
        return not printed
    if expected[0].strip() == ELIDED:
        return any(shown(expected[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and shape(expected[0]) == shape(printed[0]) and shown(expected[1:], printed[1:])


def converse(block: Block, folder: Path) -> None:
    """Type the block's commands; each must print what the page shows, and fail only where it shows that."""
    for command, expected in sessions(block.text):
        typed = ["bash", "-c", command]
        result = subprocess.run(
            typed,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        fails = any(line.startswith(("Error:", "✗")) for line in expected)
        assert (result.returncode != 0) == fails, f"{command}\n{result.stdout[-3000:]}"
        printed = [line for line in result.stdout.splitlines() if line.strip()]
        assert shown(expected, printed), f"line {block.line}: {command}\n{result.stdout[-3000:]}"


def perform(block: Block, folder: Path, *, printed: str) -> str:
    """Do what a reader would do with this block in this folder; gives back what its Python printed."""
    if block.title is not None:
        target = folder / block.title
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")
    elif block.language == "console":
        converse(block, folder)
    elif block.language == "output":
        lines = [line for line in block.text.splitlines() if line.strip()]
        assert shown(lines, printed.splitlines()), f"line {block.line}:\n{printed}"
    elif block.language == "python":
        return execute([sys.executable, "-c", block.text], folder, block)
    elif block.language == "bash" and "fl-submit" in block.text:
        execute(["bash", "-euo", "pipefail", "-c", block.text], folder, block)
    return printed


def execute(command: list[str], folder: Path, block: Block) -> str:
    result = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert result.returncode == 0, (
        f"line {block.line}:\n{block.text}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    )
    return result.stdout


def test_a_reader_can_follow_the_page(lesson: Page, tmp_path: Path) -> None:
    """In an empty folder the page's files, Python and commands work in their order, and print what is shown."""
    printed = ""
    for block in lesson.blocks:
        printed = perform(block, tmp_path, printed=printed)


def test_every_block_is_of_a_known_kind(page: Page) -> None:
    """No block is skipped in silence: each has a language that these tests know."""
    assert [block.line for block in page.blocks if block.language not in LANGUAGES] == []


def test_every_command_is_run_or_known(page: Page) -> None:
    """A bash block is run by the test above, or holds only commands that need no test."""
    for block in page.blocks:
        if block.language == "bash":
            allowed = RUN if "fl-submit" in block.text else SHOWN + RUN
            assert [line for line in commands(block) if not line.startswith(allowed)] == [], block.line


def test_every_make_target_exists(page: Page) -> None:
    """Each `make target` that a page names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(block.text for block in page.blocks if block.language == "bash")
    for target in re.findall(r"^make ([a-z]+)", text, re.MULTILINE) + re.findall(
        r"`make ([a-z]+)`", page.text
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_job_is_valid(page: Page, tmp_path: Path) -> None:
    """Each YAML block parses; an FLJob, or a piece of one, is what `fl-submit check` accepts."""
    base = tmp_path / "base.yaml"
    base.write_text(BASE, encoding="utf-8")
    for block in page.blocks:
        if block.language == "yaml":
            document = yaml.safe_load(block.text)
            file = tmp_path / "block.yaml"
            file.write_text(block.text, encoding="utf-8")
            if (block.title or "").startswith(WRONG):
                with pytest.raises(InvalidJobError):
                    load_job([base, file])
            elif block.text.startswith("apiVersion: fljob.dev"):
                compile_job(load_job([file]))
            elif "spec" in document:
                compile_job(load_job([base, file]))


def test_every_link_leads_somewhere(page: Page) -> None:
    """Each relative link names a file of the repository, and its anchor a heading of that file."""
    for link in LINK.findall(page.prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            titles = ANCHOR.findall(target.read_text(encoding="utf-8"))
            assert anchor in {slug(re.sub(r"[`*]", "", title)) for title in titles}, link


def test_every_page_of_the_site_is_in_its_contents(page: Page) -> None:
    """A page under docs/ can be found from the site's navigation."""
    docs = ROOT / "docs"
    if docs not in page.path.parents:
        pytest.skip("not a page of the site")
    assert page.path.relative_to(docs).as_posix() in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_no_page_speaks_of_one_machine(page: Page) -> None:
    """No page holds a path of somebody's machine or a registry's address."""
    assert re.findall(r"/(?:root|home|Users)/\w+|index-url", page.text) == []


def test_every_metric_exists() -> None:
    """Each metric on the metrics page is made by some process, and each that is made is on the page."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    sources = [path for name in PROCESSES for path in (ROOT / name).rglob("*.py")]
    made = {name for path in sources for name in METRIC.findall(path.read_text(encoding="utf-8"))}
    listed = set(re.findall(r"`(fl_[a-z_]+)`", page))
    assert {name.removesuffix("_total") for name in listed} == {name.removesuffix("_total") for name in made}


def test_every_exit_code_is_on_its_page() -> None:
    """Each exit code of the tree of errors is in the table of exit codes, and none too many."""
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert listed == raised | {0, 2, 130, 137, errors.TERMINATED_EXIT_CODE}


def test_every_exit_code_is_beside_its_error() -> None:
    """A row of the table that names an error gives the exit code of that error."""
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert rows
    assert [row for row in rows if getattr(errors, row[1]).exit_code != int(row[0])] == []


def test_every_test_that_a_page_names_exists() -> None:
    """A claim that points at its proof points at one that is there."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/explanation/attacks.md").read_text()))
    there = {name for file in (ROOT / "tests").rglob("test_*.py") for name in TEST.findall(file.read_text())}
    assert len(named) > 20
    assert named - there == set()
