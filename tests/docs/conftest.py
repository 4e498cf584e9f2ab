"""The pages of the repository, and what their code blocks are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
TITLE = re.compile(r'title="([^"]+)"')
TRAINING = ("fl-submit run", "fl-submit try", "fl-submit plan my-job")
SHELL = ("bash", "console")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file that its title names, its text, where it stands."""

    language: str
    title: str | None
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """One page and its blocks in order."""

    path: Path
    text: str
    blocks: tuple[Block, ...] = field(repr=False)

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def prose(self) -> str:
        """The page without its code blocks."""
        return FENCE.sub("", self.text)

    @property
    def example(self) -> bool:
        """Whether the page stands beside an example, which a test of its own runs."""
        return ROOT / "examples" in self.path.parents

    @property
    def trains(self) -> bool:
        """Whether running the page starts a training."""
        return any(
            block.language in SHELL and start in block.text for block in self.blocks for start in TRAINING
        )


def blocks(text: str) -> Iterator[Block]:
    """Find the fenced blocks of a page, those indented in a list or a note included."""
    for found in FENCE.finditer(text):
        info = found["info"].strip()
        title = TITLE.search(info)
        yield Block(
            language=info.partition(" ")[0],
            title=title[1] if title else None,
            text=textwrap.dedent(found["body"]),
            line=text.count("\n", 0, found.start()) + 1,
        )


def pages() -> list[Page]:
    """Every page for people: at the root, under docs/ and beside the examples."""
    places = (ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "examples").rglob("*.md"))
    paths = sorted(path for place in places for path in place)
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return [Page(path, text, tuple(blocks(text))) for path, text in texts.items()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a `page` for every page, one that takes a `lesson` for those with code to run."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", pages(), ids=str)
    if "lesson" in metafunc.fixturenames:
        lessons = [page for page in pages() if not page.example and any(runs(block) for block in page.blocks)]
        marked = [
            pytest.param(page, id=str(page), marks=[pytest.mark.rounds] if page.trains else [])
            for page in lessons
        ]
        metafunc.parametrize("lesson", marked)


def runs(block: Block) -> bool:
    """Whether this block does something when a reader follows the page."""
    if block.language == "bash":
        return "fl-submit" in block.text
    if block.language == "console":
        return True
    return block.language == "python" or block.title is not None
