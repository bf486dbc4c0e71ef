"""Teachers against text alone and against their own controls: what looks at pictures must beat both.

A control is the same method with exchanged pictures or captions. A method that beats the text but not its control gains
by something else than what it was shown: by other numbers, or by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from xner_ray.evaluate.comparison import Against, Comparison, Result, holm

Answer = Literal["yes", "no", "worse", "unknown"]
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """One method in one language, or over the mean of all (`lang` None).

    p_holm of `text` and `control` is corrected for the tests of all methods of the language, two of each. An answer is
    yes or worse if the interval of the difference is on one side of zero and p_holm below `LEVEL`; unknown without
    resamples.
    """

    lang: str | None
    run: str
    control_run: str
    f1: float
    text: Against
    control: Against
    beats_text: Answer
    beats_control: Answer

    @property
    def better(self) -> bool:
        """True if it beats both."""
        return self.beats_text == self.beats_control == "yes"


def verdicts(found: Comparison, of_controls: Mapping[tuple[str, str], Comparison]) -> list[Verdict]:
    """Return the verdicts by language, the mean of all last.

    found: with the text alone as its reference. of_controls: (method, control) -> the two compared, the control being
    the reference.
    """
    names = [run.name for run in found.runs]
    places = [(one.lang, n) for n, one in enumerate(found.languages) if one.results]
    sections: list[tuple[str | None, int]] = [*places, *([(None, -1)] if found.mean is not None else [])]
    made = []
    for lang, n in sections:
        rows = []
        for (name, control), own in of_controls.items():
            result = _results(found, n)[names.index(name)]
            other = next(one.against for one in _results(own, n) if one.against is not None)
            if result.against is not None:
                rows.append((name, control, result.rates.f1, result.against, other))
        tests = [each for *_, text, control in rows for each in (text, control)]
        known = [at for at, each in enumerate(tests) if each.p_value is not None]
        p_values = dict(zip(known, holm([tests[at].p_value or 0.0 for at in known]), strict=True))
        for at, (name, control, f1, *both) in enumerate(rows):
            text, other = (
                Against(each.difference, each.interval, each.p_value, p_values.get(2 * at + side))
                for side, each in enumerate(both)
            )
            made.append(Verdict(lang, name, control, f1, text, other, _answer(text), _answer(other)))
    return made


def _results(found: Comparison, n: int) -> list[Result]:
    if n >= 0:
        return found.languages[n].results
    return found.mean.results if found.mean is not None else []


def _answer(found: Against) -> Answer:
    if found.interval is None or found.p_holm is None:
        return "unknown"
    if found.p_holm >= LEVEL:
        return "no"
    low, high = found.interval.low, found.interval.high
    return "yes" if low > 0 else "worse" if high < 0 else "no"
