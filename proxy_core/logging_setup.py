"""Owns how a process logs: structured lines on stderr, JSON unless a person is watching.

Two nets stand below the rule that no caller logs a key or a query string:

- `redact` replaces whatever looks like a model key, in every value and in rendered tracebacks;
- it cuts the query off everything that looks like a URL with one.

Libraries that use the standard library's logging (Granian, SAQ, Alembic) come out in the same form, through the same
nets.
"""

import logging
import logging.config
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

MODEL_KEY = re.compile(r"\bsk-[^\s\"'&,;<>\\]{6,}", re.IGNORECASE)
CARRIER = re.compile(
    r"\b(bearer|(?:x-api-|x-goog-api-|api[-_]?)key[\"']?\s*[:=])\s*[\"']?[A-Za-z0-9._~+/-]{16,}", re.IGNORECASE
)
URL_QUERY = re.compile(r"(\bhttps?://[^\s?\"'<>]*|(?:^|(?<=\s))/[^\s?\"'<>]*)\?[^\s\"'<>]*")
# Deeper values are not looked into but rendered and then searched as one text.
DEPTH_MAX = 4

Event = MutableMapping[str, Any]


def setup_logging(level: str = "info", *, json: bool | None = None) -> None:
    """Configures structlog and the standard library's logging. ``json`` None: unless stderr is a TTY."""
    logging.config.dictConfig(logging_config(level, json=json))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logging_config(level: str, *, json: bool | None = None) -> dict[str, Any]:
    """For ``logging.config.dictConfig``; Granian applies it again in each of its workers."""
    as_json = not sys.stderr.isatty() if json is None else json
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"one": {"()": _formatter, "as_json": as_json}},
        "filters": {"server": {"()": ServerEchoes}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "one",
                "filters": ["server"],
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            # Granian's own configuration gives these a handler on stdout; ours takes it away.
            "_granian": {"handlers": [], "propagate": True},
            "granian.access": {"handlers": [], "propagate": False},
            # They log whole URLs at INFO, and alert webhooks carry their token in the URL.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
        },
    }


class ServerEchoes(logging.Filter):
    """Leaves out what Granian says about responses that the handler broke off on purpose, and has logged itself.

    It shows a traceback for each, and a line for each piece that was still sent after a client had left.
    """

    ECHOES = ("ResponseBroken", "ASGI transport error")

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("_granian"):
            return True
        message = record.getMessage()
        return not any(echo in message for echo in self.ECHOES)


def redact(_logger: object, _name: str, event: Event) -> Event:
    """The last net: no value leaves with a model key or a query string in it."""
    for name, value in event.items():
        if not name.startswith("_"):
            event[name] = _clean(value, DEPTH_MAX)
    return event


def clean_text(text: str) -> str:
    text = MODEL_KEY.sub("sk-…", text)
    text = CARRIER.sub(r"\1 …", text)
    return URL_QUERY.sub(r"\1?…", text)


def _clean(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if depth and isinstance(value, dict):
        return {clean_text(str(name)): _clean(inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_clean(inner, depth - 1) for inner in value]
    if isinstance(value, bytes):
        return clean_text(value.decode("utf-8", "backslashreplace"))
    return clean_text(str(value))


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(*, as_json: bool) -> logging.Formatter:
    # Tracebacks become text before the nets, so that a key in an exception's message is caught too.
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=True)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
    )
