"""Faults of single records, which end no file."""

from __future__ import annotations

from typing import Any

from xner_ray.errors import Reason


class BadRecord(Exception):  # noqa: N818  no error of the program
    """A fault of one record; a reader turns it into the record's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def short(value: Any) -> str:
    """Return the `repr` of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
