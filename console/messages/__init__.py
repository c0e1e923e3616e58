"""The message catalogues: ``{key: (English, Chinese)}``, one file for each part of the console."""

from typing import Final

from console.messages import (
    access,
    alerts,
    archive,
    audit,
    binding,
    bindings,
    common,
    dashboard,
    intercepts,
    lists,
    problems,
    settings,
    wire,
)

Messages = dict[str, tuple[str, str]]


def _merged(*catalogues: Messages) -> Messages:
    merged: Messages = {}
    for catalogue in catalogues:
        twice = merged.keys() & catalogue.keys()
        if twice:
            raise ValueError(f"messages defined twice: {sorted(twice)}")
        merged |= catalogue
    return merged


CATALOGUE: Final = _merged(
    common.MESSAGES,
    problems.MESSAGES,
    wire.MESSAGES,
    dashboard.MESSAGES,
    bindings.MESSAGES,
    binding.MESSAGES,
    archive.MESSAGES,
    lists.MESSAGES,
    intercepts.MESSAGES,
    audit.MESSAGES,
    access.MESSAGES,
    alerts.MESSAGES,
    settings.MESSAGES,
)
