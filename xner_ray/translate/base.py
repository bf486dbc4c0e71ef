"""The contract of a translator. One file an engine.

An engine is a plain class whose constructor takes the recipe's section and loads the model. A function `check` raises
at plan time, without loading the model, if it cannot serve the languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xner_ray.errors import Reason


@dataclass(frozen=True, slots=True)
class Translation:
    """A translation. score: mean log-probability of its tokens, natural logarithm; None if the engine has none."""

    text: str
    score: float | None


Result = Translation | tuple[Reason, str]  # or the reason and detail of a reject


class Translator(Protocol):
    """Translates one unit's sentences.

    tokens: what went through the model since the start. model_seconds: wall time in it. micro_batch_tokens: what to
    halve when memory runs out; 0 if there is nothing to halve.
    """

    tokens: int
    micro_batch_tokens: int

    @property
    def model_seconds(self) -> float: ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Result]:
        """Return one result a text, in order."""
        ...
