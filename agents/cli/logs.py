"""Logs of a running process: to stderr, one record a line, key=value or JSON.

Rooms log through the standard library; structlog renders. Lines carry no control codes: what a peer wrote
into a topic must not move the cursor of whoever reads about it.
"""

import logging
import sys
from collections.abc import MutableMapping
from enum import StrEnum
from typing import Any

from agents.cli.printable import printable


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Format(StrEnum):
    """How a record looks."""

    TEXT = "text"
    JSON = "json"


def _printable(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave no control codes in a record; the renderer escapes line ends only."""
    for key, value in record.items():
        if isinstance(value, str):
            record[key] = printable(value)
    return record


def configure(level: Level, form: Format = Format.TEXT) -> None:
    """Send this process's records to stderr; libraries' chatter below WARNING is left out."""
    import structlog  # noqa: PLC0415 (a command that logs nothing must not wait for it)

    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        stamp,
    ]
    logfmt = structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "event"], bool_as_flag=False
    )
    render: list[structlog.typing.Processor] = [_printable, logfmt]
    if form is Format.JSON:  # which has escapes of its own
        render = [structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours = getattr(logging, level.upper())
    for room in ("agents", "broker", "constrained", "trillium"):
        logging.getLogger(room).setLevel(ours)
    if level is Level.DEBUG:
        root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
