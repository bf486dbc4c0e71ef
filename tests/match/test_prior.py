from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data.row import SCALE
from xner_ray.match.prior import (
    LEAST_ROWS,
    OPENING_BACK_OFF,
    PLACES,
    RARITY,
    SCHEMA,
    SHAPES,
    Prior,
    Spans,
    Words,
    count,
    merge,
    prune,
    span_places,
)

Row = tuple[list[str], list[str], list[tuple[int, int]]]  # source, target, spans

ROWS: list[Row] = [
    (["the", "Bank"], ["el", "Banco", "."], [(1, 2)]),
    (["The", "Sea"], ["El", "Mar", "de", "Norte"], [(1, 4)]),
    (["a"], ["un"], []),
]


def _lists(rows: list[list[str]]) -> pa.Array:
    return pa.array(rows, pa.list_(pa.string()))


LABELS = ("LOC", "ORG of the EU")  # of a span by the parity of its length


def _spans(rows: list[Row]) -> Spans:
    spans = [(row, start, end) for row, (_, _, found) in enumerate(rows) for start, end in found]
    columns = np.array(spans, dtype=np.int64).reshape(-1, 3).T
    return Spans(*columns, pa.array([LABELS[(end - start) % 2] for _, start, end in spans], pa.string()))


def _count(rows: list[Row]) -> pa.Table:
    return count(_lists([r[0] for r in rows]), _lists([r[1] for r in rows]), _spans(rows))


def _cells(table: pa.Table) -> dict[tuple[str, str], dict[str, int]]:
    return {
        (r["kind"], r["form"]): {k: v for k, v in r.items() if k not in ("kind", "form")} for r in table.to_pylist()
    }


def test_count_of_words_places_and_shapes() -> None:
    cells = _cells(merge([_count(ROWS)]))
    assert cells["all", ""]["rows"] == 3
    assert cells["source", "the"]["rows"] == 2
    assert cells["target", "el"] == {"rows": 2, "first": 0, "before": 2, "last": 0, "after": 0}
    assert cells["target", "banco"] == {"rows": 1, "first": 1, "before": 0, "last": 1, "after": 0}
    assert cells["target", "."]["after"] == 1
    assert cells["target", "norte"]["last"] == 1
    assert cells["shape", "capital"] == {"rows": 0, "first": 2, "before": 0, "last": 2, "after": 0}
    assert cells["shape", "opening small"]["before"] == 1
    assert cells["shape", "opening capital"]["before"] == 1
    assert cells["label", "capital ORG of the EU"]["first"] == 2
    assert cells["label", "small ORG of the EU"]["first"] == 0


def test_a_word_that_comes_twice_in_a_row_is_one_row() -> None:
    assert _cells(merge([_count([([], ["de", "De", "de"], [])])]))["target", "de"]["rows"] == 1


words = st.lists(st.sampled_from(["el", "El", "mar", "7", "—", "中"]), max_size=6)


@st.composite
def _rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        target = draw(words)
        spans = []
        if target:
            start = draw(st.integers(0, len(target) - 1))
            spans = [(start, draw(st.integers(start + 1, len(target))))]
        rows.append((draw(words), target, spans))
    return rows


@given(_rows(), st.integers(0, 6))
def test_counts_of_parts_sum_to_those_of_the_whole(rows: list[Row], cut: int) -> None:
    whole = merge([_count(rows)])
    assert merge([_count(rows[cut:]), _count(rows[:cut])]).equals(whole)
    assert merge([whole, SCHEMA.empty_table()]).equals(whole)


def _direct(rows: list[Row], at: int, side: str, word: int) -> float:
    """`edges` of one word by its definition, every other row counted by hand."""
    n_in, n_out = (("first", "before"), ("last", "after"))[side == "right"]
    forms: Counter[Any] = Counter()
    for number, (_, target, spans) in enumerate(rows):
        for start, end in spans if number != at else []:
            places = {"first": start, "before": start - 1, "last": end - 1, "after": end}
            for name in PLACES:
                place = places[name]
                if 0 <= place < len(target):
                    forms[name, target[place].lower()] += 1
                    forms[name, _shape(target[place]), place == 0] += 1
    token = rows[at][1][word]
    shape = (_shape(token), word == 0)
    p = (forms[n_in, *shape] + 5) / (forms[n_in, *shape] + forms[n_out, *shape] + 10)
    counted = [forms[name, token.lower()] for name in (n_in, n_out)]
    return round((counted[0] + 4 * p) / (sum(counted) + 4) - 0.5, 4)


def _shape(word: str) -> str:
    first = word[0]
    kinds = {"capital": first.isupper(), "small": first.islower(), "digit": first.isdigit(), "letter": first.isalpha()}
    return next((name for name, holds in kinds.items() if holds), "other")


@given(_rows())
def test_edges_are_those_of_the_other_rows(rows: list[Row]) -> None:
    prior = Prior(prune(merge([_count(rows)])))
    target = Words(_lists([r[1] for r in rows]))
    spans = _spans(rows)
    left, right = prior.edges(target, span_places(spans.row, spans.start, spans.end, target))
    expected = [
        [_direct(rows, row, side, word) for row, (_, tokens, _) in enumerate(rows) for word in range(len(tokens))]
        for side in ("left", "right")
    ]
    assert left.tolist() == pytest.approx(expected[0])
    assert right.tolist() == pytest.approx(expected[1])


def _typical(rows: list[Row], at: int, label: str, word: int) -> float:
    """`typical` of one word by its definition, every other row counted by hand."""
    if word == 0:
        return 1.0
    spans = [
        (target[start], LABELS[(end - start) % 2])
        for n, (_, target, found) in enumerate(rows)
        if n != at
        for start, end in found
    ]
    overall, own = (
        Counter(_shape(first) for first, _ in spans),
        Counter(_shape(first) for first, its in spans if its == label),
    )
    share = {shape: (overall[shape] + 1) / (len(spans) + len(SHAPES)) for shape in SHAPES}
    p = {shape: own[shape] + OPENING_BACK_OFF * share[shape] for shape in SHAPES}
    return round(p[_shape(rows[at][1][word])] / max(p.values()), 4)


@given(_rows())
def test_openings_are_those_of_the_other_rows(rows: list[Row]) -> None:
    prior = Prior(prune(merge([_count(rows)])))
    target = Words(_lists([r[1] for r in rows]))
    asked = [
        (n, label, w) for n, (_, tokens, _) in enumerate(rows) for label in (*LABELS, "new") for w in range(len(tokens))
    ]
    row = np.array([n for n, _, _ in asked], dtype=np.int64)
    word = target.base[row] + np.array([w for _, _, w in asked], dtype=np.int64)
    found = prior.typical(target, _spans(rows), row, pa.array([label for _, label, _ in asked], pa.string()), word)
    assert found.tolist() == pytest.approx([_typical(rows, *each) for each in asked])
    assert ((found > 0) & (found <= 1)).all()


def test_frequent_words_weigh_less() -> None:
    rows: list[Row] = [(["x"], ["de", f"w{n}"], []) for n in range(11)]
    prior = Prior(merge([_count(rows)]))
    weights = prior.weights("target", Words(_lists([["De", "w3", "never"]])))
    assert weights.tolist() == [round(SCALE / (1 + RARITY * 10 / 11)), SCALE, SCALE]


def test_pruning_changes_no_weight_and_no_edge() -> None:
    whole = merge([_count(ROWS)])
    assert len(prune(whole)) < len(whole)
    target = Words(_lists([r[1] for r in ROWS]))
    one, other = Prior(whole), Prior(prune(whole))
    assert one.weights("target", target).tolist() == other.weights("target", target).tolist()


def test_too_few_rows_are_no_prior() -> None:
    import io

    import pyarrow.parquet as pq

    for n_rows in (LEAST_ROWS - 1, LEAST_ROWS):
        sink = io.BytesIO()
        pq.write_table(merge([_count([ROWS[0]] * n_rows)]), sink)
        assert (Prior.from_parquet(sink.getvalue()) is not None) == (n_rows == LEAST_ROWS)


def test_counts_of_an_earlier_version_find_every_opening_typical() -> None:
    whole = merge([_count(ROWS)])
    earlier = Prior(whole.filter(pc.not_equal(whole.column("kind"), "label")))
    target = Words(_lists([r[1] for r in ROWS]))
    row = np.array([0, 1])
    found = earlier.typical(target, _spans(ROWS), row, pa.array(["LOC", "LOC"]), target.base[row] + 1)
    assert found.tolist() == [1.0, 1.0]
