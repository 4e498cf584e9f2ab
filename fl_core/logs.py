"""Structured logs on stderr, for people or as JSON lines; every line carries job, process and round."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

# structlog would import it for tracebacks in colours: 3 MiB and a tenth of a second of every process.
_known = "rich" in sys.modules
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if not _known:
    del sys.modules["rich"]

Format = Literal["json", "console"]


def logger() -> Any:  # noqa: ANN401 - structlog's own type
    """What writes lines. A process takes its own from here, or it would import structlog before this module does."""
    return structlog.get_logger()


def configure(*, style: Format, level: str) -> None:
    """Set up this process's logging; called once, first thing.

    What others log through the standard library, a user's program among them, gets the same form and fields.
    """
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer()
    )
    fields: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    end = [structlog.processors.format_exc_info, renderer] if style == "json" else [renderer]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*fields, *end],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=fields, processors=[remove, *end])
    )
    logging.basicConfig(handlers=[handler], level=number)


def bind(**values: object) -> None:
    """Add fields (job, process, round, attempt) to every line from here on."""
    structlog.contextvars.bind_contextvars(**values)
