"""Structured JSON logs on standard error, one line an event.

An error is shown by its type and the places it came through, never by its text or by the values of
variables: a library's error may quote what a caller sent, and a variable could be a key.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path

import structlog

DEPTH = 12
MOST_CAUSES = 5


def configure(level: str) -> None:
    """Send this process's logs, of the standard library too, to standard error as JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _place,
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def _place(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put the types and places of an error, and of what caused it, where the error was."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    error = given if isinstance(given, BaseException) else sys.exception() if given else None
    shown: list[str] = []
    while error is not None and len(shown) < MOST_CAUSES:
        frames = traceback.extract_tb(error.__traceback__, -DEPTH)
        places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        shown.append(" < ".join([type(error).__name__, *reversed(places)]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if shown:
        event["exception"] = shown
    return event
