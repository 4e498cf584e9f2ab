"""What stands on the pages is true: code runs, commands and exit codes exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fl_core import errors

if TYPE_CHECKING:
    from conftest import Block, Page

ROOT = Path(__file__).parents[2]
LANGUAGES = {"python", "bash", "text", "mermaid"}
"""YAML is not among them: a job on a page needs a test that compiles it."""

SHOWN = ("make", "git", "python -m", "pip", ".venv/bin", "pre-commit", "curl", "kill")
"""Commands that a page may show without a test running them; `make` has a test of its own."""

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
ANCHOR = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
SECONDS = 60


def commands(block: Block) -> list[str]:
    text = block.text.replace("\\\n", " ")
    return [line.partition("#")[0].strip() for line in text.splitlines() if line.partition("#")[0].strip()]


def slug(title: str) -> str:
    return re.sub(r"[ -]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-")


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120"}


def test_a_reader_can_follow_the_page(lesson: Page, tmp_path: Path) -> None:
    """The page's Python runs in an empty folder, each block by itself."""
    for block in lesson.blocks:
        if block.language == "python":
            result = subprocess.run(
                [sys.executable, "-c", block.text],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert result.returncode == 0, f"line {block.line}:\n{block.text}\n{result.stderr[-3000:]}"


def test_some_page_has_code_to_run(lessons: list[Page]) -> None:
    """The test above is given at least one page, so it cannot pass for want of work."""
    assert lessons


def test_every_block_is_of_a_known_kind(page: Page) -> None:
    """No block is skipped in silence: each has a language that these tests know."""
    assert [block.line for block in page.blocks if block.language not in LANGUAGES] == []


def test_every_command_is_known(page: Page) -> None:
    """A bash block holds only commands that need no test; `fl-submit` is not one of them."""
    for block in page.blocks:
        if block.language == "bash":
            assert [line for line in commands(block) if not line.startswith(SHOWN)] == [], block.line


def test_every_make_target_exists(page: Page) -> None:
    """Each `make target` that a page names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(block.text for block in page.blocks if block.language == "bash")
    for target in re.findall(r"^make ([a-z]+)", text, re.MULTILINE) + re.findall(
        r"`make ([a-z]+)`", page.text
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


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


def test_every_page_of_the_site_is_in_its_contents() -> None:
    """The site's navigation names exactly the pages that there are."""
    docs = ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    named = re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(there)


def test_no_page_speaks_of_one_machine(page: Page) -> None:
    """No page holds a path of somebody's machine or a registry's address."""
    assert re.findall(r"/(?:root|home|Users)/\w+|index-url", page.text) == []


def test_every_exit_code_is_on_its_page() -> None:
    """Each exit code of the tree of errors is in the table of exit codes, and none too many."""
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert listed == raised | {errors.TERMINATED_EXIT_CODE}


def test_every_exit_code_is_beside_its_error() -> None:
    """A row of the table that names an error gives the exit code of that error."""
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert rows
    assert [row for row in rows if getattr(errors, row[1]).exit_code != int(row[0])] == []
