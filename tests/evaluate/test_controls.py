"""Verdicts on teachers: better only beyond the text and beyond the same teacher with exchanged pictures."""

import numpy as np
import pytest
from entities import Entities, row, table

from xner_ray.evaluate.comparison import Comparison, Run, compare, holm
from xner_ray.evaluate.controls import Verdict, verdicts
from xner_ray.recipe.data_set import check_controls
from xner_ray.report.comparison import verdict_table

NAMES = ["text", "clip", "clip_shuffled"]
GOLD: list[Entities] = [[(0, 2, "PER")]] * 120


def _predicted(share: float, seed: int) -> list[Entities]:
    """Return predictions of which a share is right."""
    right = np.random.default_rng(seed).random(len(GOLD)) < share
    return [one if good else [(0, 2, "LOC")] for one, good in zip(GOLD, right, strict=True)]


def _judged(*shares: float, samples: int = 500, langs: tuple[str, ...] = ("spa_Latn",)) -> list[Verdict]:
    def tables(number: int) -> list:
        predicted = _predicted(shares[number], number)
        return [
            table([row(gold, one, id=f"s{n}", lang=lang) for n, (gold, one) in enumerate(zip(GOLD, predicted))])  # noqa: B905
            for lang in langs
        ]

    def compared(numbers: list[int], reference: int) -> Comparison:
        runs = [Run(NAMES[n], NAMES[n], "", {}) for n in numbers]
        return compare([tables(n) for n in numbers], runs, reference=reference, samples=samples)

    return verdicts(compared([0, 1, 2], 0), {("clip", "clip_shuffled"): compared([1, 2], 1)})


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.3, 0.8, 0.3), ("yes", "yes", True)),
        ((0.3, 0.8, 0.8), ("yes", "no", False)),  # what helps is not what it was shown
        ((0.8, 0.8, 0.3), ("no", "yes", False)),
        ((0.8, 0.3, 0.8), ("worse", "worse", False)),
    ],
)
def test_a_teacher_must_beat_the_text_and_its_control(shares: tuple[float, ...], said: tuple[str, str, bool]) -> None:
    (found,) = _judged(*shares)
    assert (found.lang, found.run, found.control_run) == ("spa_Latn", "clip", "clip_shuffled")
    assert (found.beats_text, found.beats_control, found.better) == said
    text, control = found.text, found.control
    assert text.p_value is not None and control.p_value is not None
    assert [text.p_holm, control.p_holm] == pytest.approx(holm([text.p_value, control.p_value]))


def test_without_resamples_nothing_is_known() -> None:
    (found,) = _judged(0.3, 0.8, 0.3, samples=0)
    assert (found.beats_text, found.beats_control, found.better) == ("unknown", "unknown", False)


def test_each_language_and_their_mean_have_a_verdict() -> None:
    found = _judged(0.3, 0.8, 0.3, langs=("por_Latn", "spa_Latn"))
    assert [one.lang for one in found] == ["por_Latn", "spa_Latn", None] and all(one.better for one in found)
    text = verdict_table(found, "text").markdown()
    assert "beats text?" in text and text.count("| clip |") == 3 and "mean" in text


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        ({"clip": "clip_shufled"}, "controls: 'clip_shufled' is no student; did you mean 'clip_shuffled'"),
        ({"clip": "text"}, "a student and its control are two, and neither is the reference .text."),
        ({"clip": "clip"}, "a student and its control are two"),
    ],
)
def test_controls_that_say_nothing_are_refused(controls: dict[str, str], said: str) -> None:
    check_controls({"clip": "clip_shuffled"}, NAMES, "text", "student")
    with pytest.raises(ValueError, match=said) as found:
        check_controls(controls, NAMES, "text", "student")
    assert "\n" not in str(found.value)
