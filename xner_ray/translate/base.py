"""Translation: the contract of an engine. One file an engine.

An engine is a plain class: its constructor takes `recipe.Translate` and loads the model; `check` says at plan time,
without loading it, whether it can serve the languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xner_ray.errors import Reason


@dataclass(frozen=True, slots=True)
class Translation:
    """Text, and the mean log-probability of its tokens (natural logarithm, 0 is certain; None: the engine has none)."""

    text: str
    score: float | None


class Translator(Protocol):
    """Translates one unit's sentences.

    `tokens` counts what went through the model, `model_seconds` the wall time in it, for the report. An engine that
    works in micro-batches has `micro_batch_tokens`, which the engine room halves when the device runs out of memory.
    """

    tokens: int
    micro_batch_tokens: int

    @property
    def model_seconds(self) -> float: ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
        """One result a text, in order: a translation, or the reason and detail of a reject."""
        ...
