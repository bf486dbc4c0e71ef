import random
from collections.abc import Sequence
from typing import Any

import pytest
from entities import LABELS, Entities, Sentence, cells, corpus, row, sentences, table
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.errors import InputError
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.comparison import Against, Agreement, Comparison, Run, compare, holm
from xner_ray.evaluate.counting import count

RUNS = [Run(f"runs/{name}", name, "", {}) for name in "abcd"]
PER: Entities = [(0, 2, "PER")]
GOLD: list[Entities] = [[(0, 2, "PER"), (3, 4, "LOC")], [(1, 2, "ORG")], [], [(5, 8, "LOC")]]
RIGHT: list[Entities] = [*GOLD]
WORSE: list[Entities] = [[(0, 2, "PER")], [(1, 2, "ORG")], [(0, 1, "PER")], [(5, 7, "LOC")]]
OTHER: list[Entities] = [[(0, 2, "PER"), (3, 4, "ORG")], [], [], [(5, 7, "LOC")]]


def _rows(predicted: Sequence[Entities], gold: Sequence[Entities | None] = GOLD, **others: Any) -> list[dict[str, Any]]:
    return [row(*one, id=f"s{n}", **others) for n, one in enumerate(zip(gold, predicted, strict=True))]


def _compared(*runs: list[dict[str, Any]], **options: Any) -> Comparison:
    made = [[table(rows)] for rows in runs]
    return compare(made, RUNS[: len(runs)], **{"samples": 0, **options})


def test_holm_by_hand() -> None:
    """The example of Holm's own procedure: .01 x 4, .02 x 3, .03 x 2, and .04 is not less than the one before."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.25, 0.0625]) == [0.25, 0.125]
    assert holm([0.5, 0.75]) == [1.0, 1.0]
    assert (holm([0.375]), holm([])) == ([0.375], [])
    assert holm([0.25, 0.25]) == [0.5, 0.5]


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    """As Holm states it: from the smallest on, until p > level / (tests left)."""
    corrected = holm(p_values)
    left = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected = set()
    while left and p_values[left[0]] * len(left) <= level:
        rejected.add(left.pop(0))
    assert {index for index, p in enumerate(corrected) if p <= level} == rejected
    assert all(p <= one <= 1 for p, one in zip(p_values, corrected, strict=True))


def test_every_figure_by_hand() -> None:
    found = _compared(_rows(WORSE), _rows(RIGHT), _rows(OTHER))
    assert (found.by, found.mean, found.reference) == ("sentence", None, 0)
    (spanish,) = found.languages
    assert (spanish.lang, spanish.items) == ("spa_Latn", 4)
    f1 = [result.rates.f1 for result in spanish.results]
    assert f1 == pytest.approx([2 * 2 / 8, 1.0, 2 * 1 / 7])
    assert spanish.results[0].against is None
    for result, one in zip(spanish.results[1:], f1[1:], strict=True):
        assert result.against is not None
        assert result.against.difference == pytest.approx(one - f1[0])
        assert (result.against.interval, result.against.p_value, result.against.p_holm) == (None, None, None)
    # Sentence by sentence against WORSE, which has the second alone right
    assert spanish.agreement == [
        None,
        Agreement(4, 1, 4, 1, pytest.approx(2 * 2 / 8), 0, 3, 0),
        Agreement(4, 1, 4, 1, pytest.approx(2 * 2 / 7), 1, 1, 1),
    ]


def test_another_reference_turns_the_signs() -> None:
    rows = [_rows(WORSE), _rows(RIGHT), _rows(OTHER)]
    first, second = _compared(*rows), _compared(*rows, reference=1)
    (one,), (two,) = first.languages, second.languages
    assert two.results[1].against is None and two.agreement[1] is None
    assert one.results[1].against is not None and two.results[0].against is not None
    assert one.results[1].against.difference == -two.results[0].against.difference
    there, back = one.agreement[1], two.agreement[0]
    assert there is not None and back is not None
    assert (there.only_reference_right, there.only_run_right) == (back.only_run_right, back.only_reference_right)


def test_figures_are_those_of_evaluate_and_of_the_paired_test() -> None:
    made = {
        lang: [corpus(60, seed, right) for right in (0.9, 0.6)] for lang, seed in (("por_Latn", 4), ("swe_Latn", 9))
    }
    runs: list[list[Any]] = []
    for n in (0, 1):
        gold = {lang: [one[0] for one in sides[0]] for lang, sides in made.items()}
        mine = {lang: [one[1] for one in sides[n]] for lang, sides in made.items()}
        runs.append(
            [table([row(*one, id="") for one in zip(gold[lang], mine[lang], strict=True)], lang) for lang in made]
        )
    third = [table([{**one, "spans": []} for one in part.to_pylist()], part["lang"][0].as_py()) for part in runs[0]]
    runs.append(third)
    found = compare(runs, RUNS[:3], samples=400, seed=5)
    counts = [count(tables) for tables in runs]
    scored = [evaluation.score(one, samples=400, seed=5) for one in counts]
    for n, language in enumerate(found.languages):
        assert [result.rates for result in language.results] == [one[n].overall for one in scored]
    assert found.mean is not None and found.mean.languages == 2
    assert [result.rates for result in found.mean.results] == [one.macro.overall for one in scored if one.macro]
    blocks = [(language.results, slice(n, n + 1), "pooled") for n, language in enumerate(found.languages)]
    for results, where, average in [*blocks, (found.mean.results, slice(None), "macro")]:
        p_values = []
        for run in (1, 2):
            sides = (one[where] for one in (counts[0], counts[run]))
            test = evaluation.compare(*sides, average=average, samples=400, seed=5)  # type: ignore[arg-type]
            against = results[run].against
            assert against is not None
            assert (against.difference, against.interval, against.p_value) == (
                *(test.difference, test.interval, test.p_value),
            )
            p_values.append(test.p_value)
        assert [result.against.p_holm for result in results if result.against] == holm(p_values)


def _entities(one: Entities) -> set[tuple[int, int, str]]:
    return set(one)


@given(sentences(), st.randoms(use_true_random=False), st.booleans())
def test_agreement_is_that_of_sets(made: list[Sentence], rng: random.Random, with_gold: bool) -> None:
    other = [rng.choice([predicted, gold, []]) for gold, predicted in made]
    gold = [one[0] if with_gold else None for one in made]
    lost = rng.randrange(len(made))
    second = _rows(other, gold)
    second[lost] |= {"status": "rejected", "reason": "incomplete"}
    other[lost] = []
    found = _compared(_rows([one[1] for one in made], gold), second, differ=len(made)).languages[0]
    assert bool(found.results) == with_gold
    ours, theirs, right = (
        [_entities(one) for one in side] for side in ([one[1] for one in made], other, [one[0] for one in made])
    )
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    either = [bool(a | b) for a, b in zip(ours, theirs, strict=True)]
    common, total = (
        sum(map(len, side)) for side in ([a & b for a, b in zip(ours, theirs, strict=True)], ours + theirs)
    )
    judged: tuple[int | None, int | None, int | None] = (None, None, None)
    if with_gold:
        triples = list(zip(ours, theirs, right, strict=True))
        one = sum(a == g != b for a, b, g in triples)
        two = sum(b == g != a for a, b, g in triples)
        judged = (one, two, len(made) - sum(same) - one - two)
    both = sum(a and b for a, b in zip(same, either, strict=True))
    f1 = pytest.approx(2 * common / total) if total else None
    assert found.agreement[1] == Agreement(len(made), sum(same), sum(either), both, f1, *judged)


def test_where_f1_is_undefined_there_is_no_difference() -> None:
    """Nothing in gold and nothing predicted, by both runs and by one; the third is no test of the family."""
    nothing = _rows([[], []], [[], []])
    (spanish,) = _compared(nothing, nothing, _rows([PER, []], [[], []]), samples=50).languages
    assert [result.against for result in spanish.results] == [None, *[Against(None, None, None, None)] * 2]
    assert [result.rates.f1 for result in spanish.results] == [0.0] * 3
    right, wrong = _rows([PER, PER], [PER, PER]), _rows([PER, []], [PER, PER])
    (spanish,) = _compared(right, wrong, samples=50).languages
    against = spanish.results[1].against
    assert against is not None and against.difference == pytest.approx(2 / 3 - 1)


def test_sentences_that_one_run_has_right_come_first() -> None:
    rows = _rows(WORSE, source_lang="eng_Latn", source_tokens=["s"])
    found = _compared(rows, _rows(OTHER), differ=9).sentences
    assert [(one.id, one.right) for one in found] == [("s1", "reference"), ("s2", "run"), ("s0", "neither")]
    first = found[0]
    assert (first.run, first.lang, first.row, first.source_lang, first.source_tokens) == (
        1,
        "spa_Latn",
        1,
        "eng_Latn",
        ["s"],
    )
    assert (first.gold, first.reference_spans, first.run_spans) == (cells(GOLD[1]), cells(WORSE[1]), [])
    assert (first.source_spans, first.rejected, len(first.tokens)) == (cells(GOLD[1]), [None, None], 24)
    assert [one.id for one in _compared(rows, _rows(OTHER), differ=2).sentences] == ["s1", "s2"]
    assert _compared(rows, _rows(OTHER)).sentences == []


def test_a_rejected_sentence_has_no_entities() -> None:
    lost = _rows(RIGHT)
    lost[0] |= {"status": "rejected", "reason": "incomplete"}
    found = _compared(_rows(RIGHT), lost, differ=1)
    (spanish,) = found.languages
    assert [result.rates.recall for result in spanish.results] == [1.0, 0.5]
    (one,) = found.sentences
    assert (one.right, one.run_spans, one.rejected) == ("reference", [], [None, "incomplete"])
    early = [{"id": "s0", "status": "rejected", "reason": "too_long"}, *lost[1:]]
    for order in ((0, 1), (1, 0)):  # it has no words in one run, and counts as missed there all the same
        runs = [_rows(RIGHT), early]
        again = _compared(*(runs[n] for n in order)).languages[0].results
        assert [again[n].rates.recall for n in order] == [1.0, 0.5]


def test_a_duplicate_counts_nowhere() -> None:
    twice = {"status": "rejected", "reason": "duplicate_id"}
    found = _compared(*([*_rows(side)[:3], {**_rows(side)[3], **twice}] for side in (WORSE, RIGHT)))
    (agreement,) = (one for one in found.languages[0].agreement if one)
    assert (agreement.sentences, found.languages[0].items) == (3, 3)


def test_languages_without_gold_have_agreement_alone() -> None:
    gold, without = [table(_rows(side)) for side in (WORSE, RIGHT)], []
    for side in (WORSE, RIGHT):
        without.append(table(_rows(side, [None] * 4), "swh_Latn"))
    found = compare([[gold[0], without[0]], [gold[1], without[1]]], RUNS[:2], samples=0, differ=5)
    spanish, swahili = found.languages
    assert (swahili.items, swahili.results, found.mean) == (None, [], None)
    one, two = spanish.agreement[1], swahili.agreement[1]
    assert one is not None and two is not None
    assert (one.sentences, one.identical, one.f1) == (two.sentences, two.identical, two.f1)
    assert (one.only_run_right, two.only_run_right, two.neither_right) == (3, None, None)
    assert [sentence.right for sentence in found.sentences] == ["run"] * 3 + [None] * 3
    alone = compare([[without[0]], [without[1]]], RUNS[:2])
    assert (alone.by, alone.languages[0].results) == (None, [])


def test_runs_may_be_cut_into_other_units() -> None:
    made = corpus(50, 3)
    one, two = ([row(*s, id=str(n)) for n, s in enumerate(side)] for side in (made, [(g, p[:1]) for g, p in made]))
    whole = compare([[table(one)], [table(two)]], RUNS[:2], samples=100, differ=3)
    cut = [table(one[start : start + 7], start=start) for start in range(0, 50, 7)]
    assert compare([cut, [table(two)]], RUNS[:2], samples=100, differ=3) == whole


def test_other_sentences_words_or_gold_are_refused() -> None:
    rows = _rows(WORSE)
    with pytest.raises(InputError, match=r"runs/a and runs/b are not over the same sentences: 1 rows only in runs/a"):
        _compared(rows, rows[:3])
    with pytest.raises(InputError, match=r"runs/a and runs/c .* 1 rows with other gold"):
        _compared(rows, rows, _rows(WORSE, [*GOLD[:3], [(5, 8, "ORG")]]))
    with pytest.raises(InputError, match="no doc_id"):
        _compared(rows, rows, by="doc")


def test_the_keys_of_the_json_output() -> None:
    """Documented in docs/quality.md: a key that goes away breaks somebody's script."""
    found = _compared(_rows(WORSE), _rows(RIGHT), samples=20, differ=1).to_dict()
    assert list(found) == [
        *("scheme", "confidence", "by", "samples", "seed", "correction", "reference", "runs", "languages", "mean"),
        "sentences",
    ]
    assert list(found["runs"][0]) == ["run", "name", "method", "keys"]
    (language,) = found["languages"]
    assert list(language) == ["lang", "items", "results", "agreement"]
    assert list(language["results"][1]) == ["rates", "against"]
    assert list(language["results"][1]["against"]) == ["difference", "interval", "p_value", "p_holm"]
    assert list(language["agreement"][1]) == [
        *("sentences", "identical", "with_entities", "identical_with_entities", "f1"),
        *("only_reference_right", "only_run_right", "neither_right"),
    ]
    assert list(found["sentences"][0]) == [
        *("run", "lang", "row", "id", "right", "source_lang", "source_tokens", "source_spans", "tokens", "gold"),
        *("reference_spans", "run_spans", "rejected"),
    ]
    assert set(LABELS) >= {span["label"] for span in found["sentences"][0]["run_spans"]}
