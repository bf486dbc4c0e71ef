"""The driver's token and settings of the hub, on their way to workers on nodes that have none of their own.

They travel as arguments of tasks and actors. A runtime environment would end in a log of Ray's, and be shown with the
job (`ray job list`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_NAMES = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE")


class HubSettings:
    """What this process has of them. Printed, the values are left out."""

    def __init__(self) -> None:
        self._values = {name: os.environ[name] for name in _NAMES if name in os.environ}

    def __repr__(self) -> str:
        return f"HubSettings({', '.join(self._values)})"

    def take(self) -> None:
        """Set in this process what its node does not set, before the hub's client is imported, which reads it once."""
        for name, value in self._values.items():
            os.environ.setdefault(name, value)


def with_settings(settings: HubSettings, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process that has taken the settings."""
    settings.take()
    return function(*arguments)
