"""Figures by language and by group, from small tables whose counts are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entities import corpus, row, table

from xner_ray.data.languages import LANGUAGES
from xner_ray.data.typology.typology import TYPOLOGY, syntactic_distance
from xner_ray.evaluate import robust_counts
from xner_ray.evaluate.robust_counts import Tally, by_document, stands_in
from xner_ray.evaluate.robustness import Group, Robustness, robustness
from xner_ray.evaluate.scores import evaluate

GOLD = [(0, 2, "PER"), (4, 5, "LOC")]


def _tally(rows: list[dict[str, Any]], lang: str, doubtful: float = 0.5, source: str = "eng_Latn") -> Tally:
    tally = Tally(doubtful)
    tally.add(table([{"source_lang": source, **one} for one in rows], lang))
    return tally


def _found(given: dict[str, list[dict[str, Any]]], **options: Any) -> Robustness:
    tallies = {("run", lang, None): _tally(rows, lang) for lang, rows in given.items()}
    return robustness(tallies, ["run"], doubtful=0.5, **{"samples": 0, **options})


def _group(found: Robustness, dimension: str, name: str) -> Group:
    (group,) = [one for one in found.groups if (one.dimension, one.name) == (dimension, name)]
    return group


def test_every_code_has_a_family_and_resources_from_a_source() -> None:
    assert set(TYPOLOGY) == set(LANGUAGES)
    assert all(one.family and one.glottocode for one in TYPOLOGY.values())
    assert {one.resources for one in TYPOLOGY.values()} == {"high", "medium", "low"}
    assert {len(one.syntax) for one in TYPOLOGY.values()} == {103}
    families = {code: TYPOLOGY[code].family for code in ("zho_Hans", "est_Latn", "eus_Latn", "amh_Ethi", "tha_Thai")}
    assert list(families.values()) == ["Sino-Tibetan", "Uralic", "Basque (isolate)", "Afro-Asiatic", "Tai-Kadai"]


def test_a_distance_needs_features_that_both_languages_have() -> None:
    assert syntactic_distance("eng_Latn", "eng_Latn") == 0
    near, far = syntactic_distance("eng_Latn", "deu_Latn"), syntactic_distance("eng_Latn", "zul_Latn")
    assert near is not None and far is not None and near < far
    assert syntactic_distance("eng_Latn", "zul_Latn") == syntactic_distance("zul_Latn", "eng_Latn")
    assert syntactic_distance("eng_Latn", "pcm_Latn") is None  # no source says anything of its syntax
    assert syntactic_distance("eng_Latn", "xxx_Latn") is None


def test_f1_and_calibration_are_those_of_evaluate() -> None:
    rows = [row(gold, predicted) for gold, predicted in corpus(60, 3)]
    rows[7] |= {"status": "rejected", "reason": "incomplete"}
    (entry,) = _found({"spa_Latn": rows}).languages
    (alone,) = evaluate([table(rows)], samples=0)
    assert entry.figures["f1"].value == pytest.approx(alone.overall.f1)
    assert alone.calibration is not None
    assert entry.figures["calibration_error"].value == pytest.approx(alone.calibration.error)
    over = alone.calibration.score - alone.calibration.right
    assert entry.figures["overconfidence"].value == pytest.approx(over)
    assert (entry.rows, entry.rejected, entry.with_gold, entry.entities) == (60, 1, 60, alone.projected)


def test_losses_are_counted_by_reason_and_those_of_rejected_rows_too() -> None:
    rows = [
        row(GOLD, GOLD[:1], unprojected=[{"source": 1, "reason": "low_score"}]),
        row(GOLD, [], unprojected=[{"source": 0, "reason": "nested"}, {"source": 1, "reason": "no_candidate"}]),
        row(GOLD, GOLD, status="rejected", reason="incomplete"),
        row(GOLD, GOLD, status="rejected", reason="duplicate_id"),
    ]
    (entry,) = _found({"spa_Latn": rows}).languages
    assert entry.source_entities == 5  # two, one that reading kept, two of the rejected row
    assert entry.missing == {"rejected_row": 2, "low_score": 1, "no_candidate": 1}
    assert entry.figures["missing"].value == pytest.approx(4 / 5)
    assert (entry.rows, entry.rejected) == (3, 1)


def test_without_gold_there_are_losses_and_scores_and_no_f1() -> None:
    rows = [row(None, GOLD) for _ in range(4)]
    for one in rows:
        one["spans"] = [{**span, "score": score} for span, score in zip(one["spans"], (0.25, 0.75), strict=True)]
    found = _found({"spa_Latn": rows, "jpn_Jpan": [row(GOLD, GOLD)]})
    japanese, spanish = found.languages
    assert set(spanish.figures) == {"doubtful", "score"}
    assert spanish.figures["doubtful"].value == 0.5 and spanish.figures["score"].value == 0.5
    assert (spanish.with_gold, japanese.with_gold) == (0, 1)
    everything = _group(found, "all", "languages")
    assert (everything.figures["f1"].languages, everything.figures["score"].languages) == (1, 2)
    assert "f1" not in _group(found, "script", "Latn").figures


def test_a_group_has_mean_worst_and_spread_of_its_languages() -> None:
    half = [row(GOLD, GOLD[:1]), row(GOLD, [*GOLD, (8, 9, "PER"), (10, 11, "PER")])]  # F1 2 * 3 / (5 + 4)
    found = _found({"spa_Latn": [row(GOLD, GOLD)] * 2, "swe_Latn": half, "amh_Ethi": [row(GOLD, [])] * 2})
    latin = _group(found, "script", "Latn").figures["f1"]
    assert (latin.languages, latin.worst, latin.worst_value) == (2, "swe_Latn", pytest.approx(2 / 3))
    assert (latin.mean, latin.range) == (pytest.approx(5 / 6), pytest.approx(1 / 3))
    assert latin.sd == pytest.approx(np.std([1, 2 / 3], ddof=1))
    alone = _group(found, "family", "Afro-Asiatic").figures["f1"]
    assert (alone.mean, alone.worst, alone.range, alone.sd) == (0, "amh_Ethi", None, None)
    assert _group(found, "distance", "below 0.20").members == ["spa_Latn", "swe_Latn"]
    assert _group(found, "source family", "other").members == ["amh_Ethi"]
    assert _group(found, "source script", "same").members == ["spa_Latn", "swe_Latn"]


def test_a_language_of_which_nothing_is_known_is_unknown() -> None:
    found = _found({"xxx_Latn": [row(GOLD, GOLD)]})
    (entry,) = found.languages
    assert (entry.script, entry.family, entry.resources, entry.distance) == ("unknown", "unknown", "unknown", None)
    assert _group(found, "distance", "unknown").members == ["xxx_Latn"]
    assert _group(found, "source family", "unknown").members == ["xxx_Latn"]


def test_intervals_hold_the_figure_and_repeat() -> None:
    made = {
        lang: [row(gold, predicted) for gold, predicted in corpus(80, seed)]
        for lang, seed in (("spa_Latn", 1), ("swe_Latn", 2))
    }
    found, again = (_found(made, samples=300) for _ in range(2))
    assert found == again
    mean = _group(found, "all", "languages").figures["f1"]
    widths = []
    for entry in found.languages:
        figure = entry.figures["f1"]
        assert figure.interval is not None and figure.interval.low < figure.value < figure.interval.high
        widths.append(figure.interval.high - figure.interval.low)
    assert mean.interval is not None and mean.interval.low < mean.mean < mean.interval.high
    assert mean.interval.high - mean.interval.low < min(widths)  # of a mean of two, drawn apart
    assert found.languages[0].figures["calibration_error"].interval is None
    single = _found({"spa_Latn": made["spa_Latn"][:1] + [row([], [])] * 9}, samples=50).languages[0]
    assert single.figures["f1"].interval is None  # one sentence has entities


def test_intervals_draw_documents_where_there_are_enough() -> None:
    rows = [row(GOLD, GOLD if n % 3 else [], doc_id=f"d{n // 2}") for n in range(60)]
    entry, few = (_found({"spa_Latn": some}, samples=50).languages[0] for some in (rows, rows[:20]))
    assert (entry.by, entry.items, few.by, few.items) == ("doc", 30, "sentence", 20)
    cells, whole = by_document(np.array([[1], [2], [4]]), np.array([5, 2, 5]), 2)
    assert whole and cells.tolist() == [[2], [5]]


def test_names_that_stand_unchanged_are_counted_by_whole_words() -> None:
    assert not stands_in(["Ana", "Li"], ["Ana", "Lisa"])
    sides = {"source_tokens": ["Ana", "Li", "in", "the", "Rome"], "source_spans": [], "unprojected": []}
    rows = [row(GOLD, GOLD) | {"source_tokens": sides["source_tokens"], "tokens": ["Ana", "Li", "Roomassa", "a", "b"]}]
    (entry,) = _found({"fin_Latn": rows}).languages
    assert entry.names_kept == 0.5
    assert _found({"fin_Latn": [row(GOLD, GOLD)]}).languages[0].names_kept is None  # no source side


def test_several_runs_of_one_language_are_told_apart() -> None:
    tallies = {(run, "spa_Latn", None): _tally([row(GOLD, GOLD)], "spa_Latn") for run in ("a", "b")}
    found = robustness(tallies, ["b", "a"], doubtful=0.5, samples=0)
    assert [one.name for one in found.languages] == ["spa_Latn (b)", "spa_Latn (a)"]
    assert [(one.dimension, one.name) for one in found.groups[:3]] == [("all", "languages"), ("run", "a"), ("run", "b")]


def test_counts_add_up_over_tables() -> None:
    rows = [row(gold, predicted) for gold, predicted in corpus(20, 5)]
    whole, parts = _tally(rows, "spa_Latn"), Tally(0.5)
    for start in (0, 7):
        parts.add(table(rows[start : 7 if start == 0 else 20], "spa_Latn"))
    assert np.concatenate(parts.cells).tolist() == np.concatenate(whole.cells).tolist()
    assert parts.missing == whole.missing and (parts.histogram == whole.histogram).all()
    assert np.concatenate(whole.cells).shape == (20, robust_counts.CELLS)
