import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from entities import LABELS, WORDS, Entities, Sentence, cells, corpus, row, sentences, table
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from xner_ray.data.spans import Span, spans_to_tags, tags_to_spans
from xner_ray.errors import InputError
from xner_ray.evaluate.bootstrap import Interval
from xner_ray.evaluate.counting import count
from xner_ray.evaluate.scores import FEWEST_DOCUMENTS, Ceiling, Errors, Evaluation, Rates, compare, evaluate, rates

PER: Entities = [(0, 2, "PER")]


def _evaluate(made: Sequence[Sentence], **options: Any) -> Evaluation:
    return evaluate([table([row(*one) for one in made])], **{"samples": 0, **options})[0]


def _tags(entities: Entities, n_words: int = WORDS) -> list[str]:
    return spans_to_tags([Span(*one) for one in entities], n_words)


def _seqeval(made: Sequence[Sentence], **mode: Any) -> dict[str, dict[str, float]]:
    sides = ([_tags(one[side]) for one in made] for side in (0, 1))
    return classification_report(*sides, output_dict=True, zero_division=0, **mode)  # type: ignore[no-any-return]


STRICT = {"mode": "strict", "scheme": IOB2}


def _figures(rates: Rates) -> tuple[float, float, float]:
    return rates.precision, rates.recall, rates.f1


def _theirs(cells: dict[str, float]) -> Any:
    return pytest.approx((cells["precision"], cells["recall"], cells["f1-score"]))


def test_every_figure_by_hand() -> None:
    made: list[Sentence] = [
        ([(0, 2, "PER"), (3, 4, "LOC")], [(0, 2, "PER"), (3, 4, "ORG")]),  # right; wrong type
        ([(0, 2, "PER")], [(0, 1, "PER"), (5, 6, "PER")]),  # wrong words; not in gold
        ([(0, 2, "PER"), (4, 6, "LOC")], [(0, 2, "PER")]),  # right; missed
        ([(0, 3, "LOC")], [(2, 4, "ORG")]),  # both wrong
    ]
    result = _evaluate(made)
    assert (result.rows, result.rejected_rows, result.items) == (4, 0, 4)
    overall = result.overall
    assert (overall.exact, overall.predicted, overall.gold) == (2, 6, 6)
    assert _figures(overall) == pytest.approx((2 / 6, 2 / 6, 2 / 6))
    assert (result.projected, result.projection_ratio) == (6, 1.0)
    person = result.labels["PER"]
    assert _figures(person) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert (person.exact, person.predicted, person.gold) == (2, 4, 3)
    assert _figures(result.labels["LOC"]) == _figures(result.labels["ORG"]) == (0.0, 0.0, 0.0)
    assert _figures(result.macro) == pytest.approx((2 / 4 / 3, 2 / 3 / 3, 4 / 7 / 3))
    assert result.errors == Errors(exact=2, type=1, boundary=1, type_and_boundary=1, missed=1, spurious=1)
    assert result.errors_by_label == {
        "LOC": Errors(exact=0, type=1, boundary=0, type_and_boundary=1, missed=1, spurious=0),
        "ORG": Errors(0, 0, 0, 0, 0, 0),
        "PER": Errors(exact=2, type=0, boundary=1, type_and_boundary=0, missed=0, spurious=1),
    }
    assert result.ceiling == Ceiling(6, 6, 1.0, 1.0, 1.0)


def test_rejected_rows_count_as_missed() -> None:
    rows = [row(PER, PER), row(PER, PER, status="rejected", reason="too_long")]
    (result,) = evaluate([table(rows)])
    assert (result.rows, result.rejected_rows) == (2, 1)
    assert (result.overall.precision, result.overall.recall) == (1.0, 0.5)
    assert (result.errors.missed, result.projected, result.projection_ratio) == (1, 1, 0.5)


def test_rows_without_gold_are_no_gold() -> None:
    nothing = evaluate([table([row(None, PER)])])
    assert (len(nothing), nothing.macro) == (0, None)
    assert not nothing
    (empty,) = evaluate([table([row([], [])])])
    assert (empty.overall.gold, empty.projection_ratio, empty.labels) == (0, None, {})
    assert (_figures(empty.overall), empty.overall.f1_interval, empty.ceiling) == ((0.0, 0.0, 0.0), None, None)
    (spurious,) = evaluate([table([row([], PER)])])
    assert (_figures(spurious.overall), spurious.projection_ratio) == ((0.0, 0.0, 0.0), None)


@given(sentences())
def test_scores_are_those_of_seqeval(made: list[Sentence]) -> None:
    """In both its modes: per label, over all, and the mean of the labels; labels of one side only too."""
    result = _evaluate(made)
    if not result.labels:
        assert all(not gold and not predicted for gold, predicted in made)
        return
    for mode in (STRICT, {}):
        report = _seqeval(made, **mode)
        assert sorted(result.labels) == sorted(set(report) - {"micro avg", "macro avg", "weighted avg"})
        for label, score in result.labels.items():
            assert _figures(score) == _theirs(report[label])
            assert score.gold == report[label]["support"]
        assert _figures(result.overall) == _theirs(report["micro avg"])
        assert _figures(result.macro) == _theirs(report["macro avg"])


@given(st.lists(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=1), min_size=1))
def test_malformed_gold_is_read_as_lenient_seqeval_reads_it(tags: list[list[str]]) -> None:
    """The one case in which the modes differ: strict takes an I- that continues nothing for no entity."""
    rows, predicted = [], []
    for one in tags:
        spans = [(span.start, span.end, span.label) for span in tags_to_spans(one)[0]]
        rows.append(row(spans, spans[::2], tokens=["w"] * len(one)))
        predicted.append(_tags(spans[::2], len(one)))
    (result,) = evaluate([table(rows)], samples=0)
    if result.labels:
        report = classification_report(tags, predicted, output_dict=True, zero_division=0)
        assert _figures(result.overall) == _theirs(report["micro avg"])
        assert _figures(result.macro) == _theirs(report["macro avg"])


def test_strict_seqeval_drops_what_reading_repairs() -> None:
    raw = [["I-PER", "O", "B-LOC"]]
    spans, repaired = tags_to_spans(raw[0])
    predicted = [spans_to_tags(spans, 3)]
    strict = classification_report(raw, predicted, output_dict=True, zero_division=0, **STRICT)
    lenient = classification_report(raw, predicted, output_dict=True, zero_division=0)
    assert (strict["micro avg"]["support"], lenient["micro avg"]["support"], repaired) == (1, 2, 1)


def _nervaluate(made: Sequence[Sentence]) -> dict[str, Any]:
    sides = (
        [[{"label": label, "start": start, "end": end - 1} for start, end, label in one[side]] for one in made]
        for side in (0, 1)
    )
    return Evaluator(*sides, tags=list(LABELS), loader="dict").evaluate()  # type: ignore[no-any-return]


def _touching(one: Sentence) -> list[tuple[int, int]]:
    gold, predicted = one
    shared = [(g, p) for g, a in enumerate(gold) for p, b in enumerate(predicted) if a[0] < b[1] and b[0] < a[1]]
    return shared


@given(sentences())
def test_scores_and_errors_are_those_of_nervaluate(made: list[Sentence]) -> None:
    """Its `strict` is seqeval's strict mode. Its `exact` looks at words only: our exact and type errors together.

    It pairs by order alone, so errors of other kinds are equal where no entity touches two; and what has the same words
    or label is the same for both.
    """
    result, theirs = _evaluate(made), _nervaluate(made)
    strict, exact = theirs["overall"]["strict"], theirs["overall"]["exact"]
    assert (strict.correct, strict.actual, strict.possible) == (
        result.overall.exact,
        result.overall.predicted,
        result.overall.gold,
    )
    assert _figures(result.overall) == pytest.approx((strict.precision, strict.recall, strict.f1))
    for label, score in result.labels.items():
        one = theirs["entities"][label]["strict"]
        assert _figures(score) == pytest.approx((one.precision, one.recall, one.f1))
    errors = result.errors
    assert exact.correct == errors.exact + errors.type
    touching = [_touching(one) for one in made]
    if all(len(set(side)) == len(side) for pairs in touching for side in (list(zip(*pairs, strict=True)) or [[]])):
        assert strict.incorrect == errors.type + errors.boundary + errors.type_and_boundary
        assert (strict.missed, strict.spurious) == (errors.missed, errors.spurious)
        of_type = theirs["overall"]["ent_type"]
        assert of_type.correct == errors.exact + errors.boundary
        assert of_type.incorrect == errors.type + errors.type_and_boundary


def test_every_resample_is_scored_as_seqeval_would() -> None:
    made = corpus(40, 1)
    (counts,) = count([table([row(*one) for one in made])])
    rng = random.Random(0)
    for _ in range(15):
        drawn = rng.choices(range(40), k=rng.choice([3, 40]))
        report = _seqeval([made[index] for index in drawn], **STRICT)
        sums = counts.cells[drawn].sum(axis=0)
        assert rates(sums.sum(axis=0)).tolist() == _theirs(report["micro avg"])
        for label, figures in zip(counts.labels, rates(sums), strict=True):
            assert figures.tolist() == (
                _theirs(report[label]) if label in report else pytest.approx([np.nan] * 3, nan_ok=True)
            )


def test_intervals_agree_with_a_loop_in_plain_python() -> None:
    """Sentences drawn one by one, spans compared as sets, other random numbers: equal up to sampling error."""
    made = corpus(80, 2)
    result = _evaluate(made, samples=4000)
    rng, drawn = random.Random(1), []
    for _ in range(2000):
        sums = {label: [0, 0, 0] for label in LABELS}
        for gold, predicted in rng.choices(made, k=80):
            for column, side in enumerate((set(gold) & set(predicted), predicted, gold)):
                for entity in side:
                    sums[entity[2]][column] += 1
        total = [sum(sums[label][column] for label in LABELS) for column in range(3)]
        by_label = {label: 2 * e / (p + g) if p + g else None for label, (e, p, g) in sums.items()}
        known = [f1 for f1 in by_label.values() if f1 is not None]
        drawn.append(
            {
                "precision": total[0] / total[1],
                "recall": total[0] / total[2],
                "f1": 2 * total[0] / (total[1] + total[2]),
                "macro": sum(known) / len(known),
                **by_label,
            }
        )
    intervals = {
        "precision": result.overall.precision_interval,
        "recall": result.overall.recall_interval,
        "f1": result.overall.f1_interval,
        "macro": result.macro.f1_interval,
        **{label: score.f1_interval for label, score in result.labels.items()},
    }
    assert set(intervals) == set(drawn[0])
    for name, found in intervals.items():
        values = sorted(one[name] for one in drawn if one[name] is not None)
        error = float(np.std(values))
        assert found is not None
        assert found.low == pytest.approx(values[round(0.025 * len(values))], abs=0.15 * error), name
        assert found.high == pytest.approx(values[round(0.975 * len(values)) - 1], abs=0.15 * error), name


def test_no_interval_for_what_stands_in_one_sentence() -> None:
    made: list[Sentence] = [(PER, PER), (PER, []), ([(0, 1, "LOC")], [(0, 1, "LOC")])]
    result = _evaluate(made, samples=200)
    assert result.labels["LOC"].f1_interval is None
    assert result.labels["PER"].f1_interval == Interval(0.0, 1.0)
    assert result.overall.f1_interval is not None
    assert _evaluate(made, samples=0).overall.f1_interval is None


def test_documents_are_drawn_where_there_are_enough() -> None:
    """Sentences that repeat within a document tell less than they seem to: the intervals get wider."""
    kinds = corpus(FEWEST_DOCUMENTS, 3)
    rows = [row(*one, doc_id=f"d{number}") for number, one in enumerate(kinds) for _ in range(9)]
    documents = evaluate([table(rows)])
    apart = evaluate([table(rows)], by="sentence")
    assert (documents.by, documents[0].items, apart.by, apart[0].items) == ("doc", 20, "sentence", 180)
    wide, narrow = documents[0].overall.f1_interval, apart[0].overall.f1_interval
    assert wide is not None and narrow is not None
    assert 2 < (wide.high - wide.low) / (narrow.high - narrow.low) < 4.5  # about the root of 9
    assert evaluate([table(rows[:-9])]).by == "sentence"
    few = evaluate([table(rows[:18])], by="doc")
    assert (few.by, few[0].items) == ("doc", 2)
    assert evaluate([table([*rows, row(PER, PER)])]).by == "sentence"
    with pytest.raises(InputError, match="no doc_id"):
        evaluate([table([*rows, row(PER, PER)])], by="doc")
    with pytest.raises(InputError, match="only one document"):
        evaluate([table(rows[:9])], by="doc")


def _languages(n: int = 60) -> dict[str, list[Sentence]]:
    return {"por_Latn": corpus(n, 4, 0.9), "swe_Latn": corpus(n, 5, 0.6)}


def _tables(made: dict[str, list[Sentence]]) -> list[Any]:
    return [table([row(*one) for one in rows], lang) for lang, rows in made.items()]


def test_macro_is_the_mean_of_the_languages() -> None:
    made = _languages()
    made["swe_Latn"] = [
        ([e for e in gold if e[2] != "ORG"], [e for e in predicted if e[2] != "ORG"])
        for gold, predicted in made["swe_Latn"]
    ]
    result = evaluate(_tables(made))
    assert [one.lang for one in result] == ["por_Latn", "swe_Latn"]
    assert result.macro is not None and result.macro.languages == 2
    por, swe = result
    mean = [(a + b) / 2 for a, b in zip(_figures(por.overall), _figures(swe.overall), strict=True)]
    assert _figures(result.macro.overall) == pytest.approx(mean)
    assert _figures(result.macro.labels["ORG"]) == _figures(por.labels["ORG"])
    assert result.macro.labels["PER"].recall == pytest.approx((por.labels["PER"].recall + swe.labels["PER"].recall) / 2)


def test_a_language_without_entities_is_not_in_the_mean() -> None:
    result = evaluate([table([row(PER, PER), row(PER, [])]), table([row([], [])], "swh_Latn")])
    assert result.macro is not None
    assert (result.macro.languages, result.macro.overall.recall) == (1, 0.5)


def test_a_languages_intervals_do_not_depend_on_the_others() -> None:
    made = _languages()
    both, alone = evaluate(_tables(made)), evaluate(_tables({"swe_Latn": made["swe_Latn"]}))
    assert both[1] == alone[0]
    assert alone.macro is None
    assert evaluate(_tables(made), seed=1)[1] != alone[0]


def test_the_macro_interval_draws_a_sentence_in_all_languages_at_once() -> None:
    """The same sentences in two languages err together: their mean is no more certain than one of them."""
    same = corpus(60, 6)
    twice = evaluate(_tables({"por_Latn": same, "swe_Latn": same}))
    shuffled = random.Random(0).sample(same, k=60)
    apart = evaluate(_tables({"por_Latn": same, "swe_Latn": shuffled}))
    assert twice.macro is not None and apart.macro is not None
    one = twice[0].overall.f1_interval
    assert one is not None

    def width(rates: Rates) -> float:
        assert rates.f1_interval is not None
        return rates.f1_interval.high - rates.f1_interval.low

    assert width(twice.macro.overall) == pytest.approx(width(twice[0].overall), rel=0.1)
    assert width(apart.macro.overall) / width(twice[0].overall) == pytest.approx(0.5**0.5, rel=0.15)


def test_the_ceiling_is_what_a_projection_of_everything_reaches() -> None:
    source = [{**cell, "score": 1.0} for cell in cells([(0, 1, "PER"), (3, 4, "LOC"), (5, 6, "LOC")])]
    rows = [row([(0, 1, "PER"), (2, 3, "PER"), (4, 5, "LOC")], [], source_spans=source)]
    assert evaluate([table(rows)])[0].ceiling == Ceiling(3, 2, 2 / 3, 2 / 3, 2 / 3)
    own = [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": None}]
    assert evaluate([table([row(PER, [], spans=own)])])[0].ceiling is None


def test_compare_two_runs_over_the_same_sentences() -> None:
    made = _languages(120)
    gold = {lang: [one[0] for one in rows] for lang, rows in made.items()}
    all_right = {lang: [(one, one) for one in side] for lang, side in gold.items()}
    first, second = count(_tables(made)), count(_tables(all_right))
    pooled = [table([row(*one) for rows in made.values() for one in rows])]
    found = compare(first, second, samples=500)
    assert found.first == pytest.approx(evaluate(pooled)[0].overall.f1)
    assert (found.second, found.items, found.p_value) == (1.0, 120, 1 / 501)
    assert found.interval is not None and found.interval.low > 0
    mean = compare(first, second, average="macro", samples=500)
    macro = evaluate(_tables(made)).macro
    assert macro is not None and mean.first == pytest.approx(macro.overall.f1)
    alone = compare(first[:1], second[:1], samples=500)
    assert alone.first == pytest.approx(evaluate(_tables(made))[0].overall.f1)
    assert compare(first, first, samples=50).p_value == 1.0


def test_compare_refuses_other_sentences_and_other_gold() -> None:
    made = corpus(10, 7)
    rows = [row(*one) for one in made]
    counts = count([table(rows)])
    with pytest.raises(InputError, match="differ in spa_Latn"):
        compare(counts, count([table(rows[:9])]))
    with pytest.raises(InputError, match="not spa_Latn and none"):
        compare(counts, [])
    with pytest.raises(InputError, match="same languages, not swh_Latn and spa_Latn"):
        compare(count([table(rows, "swh_Latn")]), counts)
    other = [row([*gold, (22, 23, "PER")], predicted) for gold, predicted in made]
    with pytest.raises(InputError, match="same gold"):
        compare(counts, count([table(other)]))


def test_the_keys_of_the_json_output() -> None:
    """Documented in docs/quality.md: a key that goes away breaks somebody's script."""
    found = evaluate(_tables(_languages(30)), samples=50).to_dict()
    assert list(found) == ["scheme", "confidence", "by", "samples", "seed", "languages", "macro"]
    assert found["scheme"] == "seqeval strict (IOB2)"
    three = ["precision", "recall", "f1", "precision_interval", "recall_interval", "f1_interval"]
    language = found["languages"][0]
    assert list(language) == [
        *("lang", "rows", "rejected_rows", "items", "overall", "labels", "macro", "projected", "projection_ratio"),
        *("errors", "errors_by_label", "ceiling", "calibration"),
    ]
    assert list(language["overall"]) == list(language["labels"]["PER"]) == [*three, "exact", "predicted", "gold"]
    assert list(language["overall"]["f1_interval"]) == ["low", "high"]
    assert list(language["macro"]) == list(found["macro"]["overall"]) == list(found["macro"]["labels"]["PER"]) == three
    kinds = ["exact", "type", "boundary", "type_and_boundary", "missed", "spurious"]
    assert list(language["errors"]) == list(language["errors_by_label"]["PER"]) == kinds
    assert list(language["ceiling"]) == ["source", "shared", "precision", "recall", "f1"]
    assert list(found["macro"]) == ["languages", "items", "overall", "labels"]
