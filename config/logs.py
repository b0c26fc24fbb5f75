"""Structured logs: one JSON object or one readable line per event, never a patient's identity.

Callers pass UIDs, AE titles, counts and codes as fields. Fields whose name belongs to a patient are masked
here as a last guard (law 7); the first guard is not to pass them.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, cast

import structlog

_MASKED = ("patient", "birth", "accession", "referring", "password", "token")


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if any(part in name.lower() for part in _MASKED):
            event[name] = "***"
    return event


def configure(*, level: str = "info", form: Literal["text", "json"] = "text") -> None:
    """Send events to standard error; call once at the start of a process."""
    renderer: Any
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _mask,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry the name of the part that speaks."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(part=name))
