import weakref
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from entities import Entities, Sentence, cells, corpus, row, sentences, table
from hypothesis import given, settings

from xner_ray.evaluate.counting import BOTH, BOUNDARY, EXACT, MISSED, SPURIOUS, TYPE, count, pair


@pytest.mark.parametrize(
    ("gold", "predicted", "pairs"),
    [
        ([(0, 2, "PER")], [(0, 2, "PER")], [(0, 0, EXACT)]),
        ([(0, 2, "PER")], [(0, 2, "LOC")], [(0, 0, TYPE)]),
        ([(0, 2, "PER")], [(1, 2, "PER")], [(0, 0, BOUNDARY)]),
        ([(0, 2, "PER")], [(1, 3, "LOC")], [(0, 0, BOTH)]),
        ([(0, 2, "PER")], [(2, 3, "PER")], []),
        ([(0, 2, "PER")], [], []),
        ([], [(0, 2, "PER")], []),
        # the label is worth more than words in common, these more than the order, and then the leftmost goes first
        ([(0, 5, "PER")], [(0, 4, "LOC"), (4, 5, "PER")], [(0, 1, BOUNDARY)]),
        ([(0, 5, "PER")], [(0, 2, "PER"), (2, 5, "PER")], [(0, 1, BOUNDARY)]),
        ([(0, 4, "PER")], [(0, 2, "PER"), (2, 4, "PER")], [(0, 0, BOUNDARY)]),
        ([(0, 2, "PER"), (2, 4, "PER")], [(0, 4, "PER")], [(0, 0, BOUNDARY)]),
        # a chain: the second prediction takes the second gold, and what is left touches only what has a partner
        ([(0, 3, "PER"), (3, 6, "LOC")], [(2, 5, "LOC"), (5, 7, "ORG")], [(1, 0, BOUNDARY)]),
    ],
)
def test_pairs_by_hand(gold: Entities, predicted: Entities, pairs: list[tuple[int, int, int]]) -> None:
    assert pair(gold, predicted) == pairs


@settings(max_examples=40)
@given(sentences())
def test_every_entity_has_one_outcome(made: list[Sentence]) -> None:
    (counts,) = count([table([row(*one) for one in made])])
    of_gold, of_predicted = counts.outcomes
    exact, predicted, gold = counts.cells.sum(axis=0).T
    assert of_gold.sum(axis=1).tolist() == gold.tolist()
    assert of_predicted.sum(axis=1).tolist() == predicted.tolist()
    assert of_gold[:, EXACT].tolist() == of_predicted[:, EXACT].tolist() == exact.tolist()
    assert not of_gold[:, SPURIOUS].any() and not of_predicted[:, MISSED].any()
    partners = [TYPE, BOUNDARY, BOTH]
    assert of_gold[:, partners].sum(axis=0).tolist() == of_predicted[:, partners].sum(axis=0).tolist()
    assert of_gold[:, BOUNDARY].tolist() == of_predicted[:, BOUNDARY].tolist()  # the label is the same


@settings(max_examples=40)
@given(sentences())
def test_tables_in_arrow_count_as_plain_python(made: list[Sentence]) -> None:
    """One sentence a table and all in one: the same counts, and those of `pair` and of sets."""
    whole = count([table([row(*one) for one in made])])[0]
    (counts,) = count(table([row(*one)], start=number) for number, one in enumerate(made))
    for name in ("rows", "docs", "cells", "outcomes", "source", "shared"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(whole, name))
    outcomes: Counter[tuple[int, str, int]] = Counter()
    for number, (gold, predicted) in enumerate(made):
        for column, label in enumerate(counts.labels):
            expected = [
                sum(entity[2] == label for entity in side) for side in (set(gold) & set(predicted), *made[number])
            ]
            assert counts.cells[number, column].tolist() == [expected[0], expected[2], expected[1]]
        pairs = pair(gold, predicted)
        for g, p, outcome in pairs:
            outcomes[0, gold[g][2], outcome] += 1
            outcomes[1, predicted[p][2], outcome] += 1
        for side, entities, left in ((0, gold, MISSED), (1, predicted, SPURIOUS)):
            for index in set(range(len(entities))) - {one[side] for one in pairs}:
                outcomes[side, entities[index][2], left] += 1
    for (side, label, outcome), number in outcomes.items():
        assert counts.outcomes[side, counts.labels.index(label), outcome] == number
    assert counts.outcomes.sum() == sum(outcomes.values())


def test_rejected_rows_lose_their_predictions_and_duplicates_all() -> None:
    one: Entities = [(0, 1, "PER")]
    rows = [
        row(one, one),
        row(one, one, status="rejected", reason="incomplete"),
        row(one, [], status="rejected", reason="duplicate_id"),
        row(one, one, tokens=[]),
        row(None, one),
        row([], []),
    ]
    (counts,) = count([table(rows)])
    assert counts.rows.tolist() == [0, 1, 5]
    assert counts.rejected == 1
    assert counts.cells[:, 0].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_languages_are_apart_and_documents_are_the_same_in_both() -> None:
    per: Entities = [(0, 1, "PER")]
    tables = [
        table([row(per, per, doc_id="a"), row(per, per, doc_id="b"), row(per, per)], "swh_Latn"),
        pa.concat_tables([table([row(per, [], doc_id="b")]), table([row(per, [], doc_id="b")], "swh_Latn", 3)]),
        table([row([(0, 1, "LOC")], [], doc_id="c")], start=7),
    ]
    spanish, swahili = count(tables)
    assert (spanish.lang, swahili.lang) == ("spa_Latn", "swh_Latn")
    assert (spanish.labels, swahili.labels) == (("LOC", "PER"), ("PER",))
    assert (spanish.rows.tolist(), swahili.rows.tolist()) == ([0, 7], [0, 1, 2, 3])
    assert (spanish.docs.tolist(), swahili.docs.tolist()) == ([1, 2], [0, 1, -1, 1])
    assert spanish.cells.tolist() == [[[0, 0, 0], [0, 0, 1]], [[0, 0, 1], [0, 0, 0]]]


def test_the_ceiling_counts_what_both_sides_have_and_was_to_be_projected() -> None:
    gold: Entities = [(0, 1, "PER"), (2, 3, "PER"), (4, 5, "LOC")]
    source = [{**cell, "score": 1.0} for cell in cells([(0, 4, "PER"), (1, 2, "PER"), (5, 6, "ORG"), (7, 8, "LOC")])]
    nested = [{"source": 1, "reason": "nested"}, {"source": 3, "reason": "low_score"}]
    rows = [
        row([], []),
        row(gold, [], source_spans=source, unprojected=nested),
        row(gold, [], source_spans=None, unprojected=None),
        row([(0, 1, "PER")], [], source_spans=source[2:], unprojected=[{"source": 0, "reason": "overlapping_span"}]),
    ]
    (counts,) = count([table(rows)])
    assert counts.labels == ("LOC", "ORG", "PER")
    assert counts.source.tolist() == [2, 1, 1]  # the PER inside the first one is set aside, and in the last row the ORG
    assert counts.shared.tolist() == [1, 0, 1]


def test_predictions_of_a_tagger_have_no_source() -> None:
    per: Entities = [(0, 1, "PER")]
    own = [{**cell, "score": 1.0, "source": None} for cell in cells(per)]
    assert count([table([row(per, per)])])[0].from_source
    assert count([table([row(per, [])])])[0].from_source
    assert not count([table([row(per, [], spans=own)])])[0].from_source


def test_tables_do_not_stay() -> None:
    seen: list[weakref.ref[pa.Table]] = []

    def tables() -> Iterator[pa.Table]:
        for start in range(0, 50, 10):
            assert sum(one() is not None for one in seen) <= 1  # the last one is still the loop's
            made = table([row(*one) for one in corpus(10, start)], start=start)
            seen.append(weakref.ref(made))
            yield made
            del made

    (counts,) = count(tables())
    assert len(counts.rows) == 50
    assert all(one() is None for one in seen)
