from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data import row as data_row
from xner_ray.data.row import ROW
from xner_ray.data.spans import label_list, spans_to_tags, tags_to_spans
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates, ngrams
from xner_ray.match.rows import Tags, add_scores, read_scores, read_tags

LABELS = ("LOC", "PER")
NAMES = label_list(LABELS)


def _batch(*n_target: int) -> EntityBatch:
    n_rows = len(n_target)
    return EntityBatch(
        n_source=[1] * n_rows, n_target=n_target, row=list(range(n_rows)), start=[0] * n_rows, end=[1] * n_rows
    )


def _column(name: str, rows: list[Any]) -> pa.Array:
    return pa.array(rows, ROW.field(name).type)


def _tags(*rows: list[str]) -> Tags:
    """Each word's one tag, with probability 1."""
    cells = [[{"word": n, "tag": tag, "probability": 1.0} for n, tag in enumerate(row)] for row in rows]
    return read_tags(_column("target_tags", cells), _batch(*map(len, rows)))


def test_probabilities_go_through_the_column_unchanged() -> None:
    given_rows = [
        np.array([[0.5, 0.25, 0.0, 0.25, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]),
        np.array([[0.9999, 0, 0, 0, 1e-4]]),
    ]
    cells = [data_row.tag_cells(each, LABELS) for each in given_rows]
    assert cells[0][:2] == [
        {"word": 0, "tag": "O", "probability": 0.5},
        {"word": 0, "tag": "B-LOC", "probability": 0.25},
    ]
    found = read_tags(_column("target_tags", [cells[0], None, cells[1]]), _batch(2, 3, 1))
    assert found.labels == LABELS
    expected = np.concatenate([given_rows[0], np.zeros((3, 5)), given_rows[1]])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-7)


def test_what_is_below_half_a_ten_thousandth_is_not_stored() -> None:
    assert data_row.tag_cells(np.array([[0.99996, 0.00004, 0.0]]), ("PER",)) == [
        {"word": 0, "tag": "O", "probability": 1.0}
    ]


def test_a_class_that_the_tagger_does_not_know_is_minus_one() -> None:
    found = _tags(["B-PER", "B-LOC"]).classes(pa.array(["PER", "MISC", "LOC"]))
    assert found.tolist() == [1, -1, 0]


def test_without_any_tag_nothing_is_known() -> None:
    tags = read_tags(_column("target_tags", [None, []]), _batch(2, 1))
    assert not tags.probabilities.any()
    assert tags.classes(pa.array(["PER"])).tolist() == [-1]
    assert [len(column) for column in tags.spans(_batch(2, 1))] == [0, 0, 0]


@pytest.mark.parametrize("cell", [{"word": 2, "tag": "O", "probability": 1.0}, {"word": -1, "tag": "O"}])
def test_a_word_outside_its_sentence_is_refused(cell: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not in its sentence"):
        read_tags(_column("target_tags", [[cell]]), _batch(2))


def test_what_is_no_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="'S-PER' is no tag"):
        read_tags(_column("target_tags", [[{"word": 0, "tag": "S-PER", "probability": 1.0}]]), _batch(2))


@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=7), min_size=1, max_size=4))
def test_spans_are_those_of_the_tags(rows: list[list[str]]) -> None:
    """Of tags that are IOB2; of others see `data/tag_paths.py`."""
    rows = [spans_to_tags(tags_to_spans(tags)[0], len(tags)) for tags in rows]
    row, start, end = _tags(*rows).spans(_batch(*map(len, rows)))
    found = set(zip(row.tolist(), start.tolist(), end.tolist(), strict=True))
    expected = {(n, s.start, s.end) for n, tags in enumerate(rows) for s in tags_to_spans(tags)[0]}
    assert found == expected


def test_words_that_contradict_one_another_are_one_entity() -> None:
    """As a tagger reads them: `data/tag_paths.py`."""
    tags = [
        ("B-PER", 0, 0.5),
        ("B-LOC", 0, 0.4),
        ("I-LOC", 0, 0.1),
        ("I-LOC", 1, 0.6),
        ("I-PER", 1, 0.3),
        ("O", 1, 0.1),
    ]
    cells = [{"word": word, "tag": tag, "probability": probability} for tag, word, probability in tags]
    found = read_tags(_column("target_tags", [cells]), _batch(2))
    assert [column.tolist() for column in found.spans(_batch(2))] == [[0], [0], [2]]
    assert found.best(_batch(2)).tolist() == [1, 2] and found.labels == ("LOC", "PER")


def _cells(batch: EntityBatch) -> Candidates:
    return ngrams(batch, max_words=2)


def test_scores_go_through_the_column_to_their_own_cells() -> None:
    batch = EntityBatch(n_source=[2, 1, 3], n_target=[3, 2, 2], row=[0, 0, 2], start=[0, 1, 0], end=[1, 2, 3])
    source = np.array([0, 3, 1])  # other spans of the rows take no part
    spans = _cells(batch)
    values = np.arange(len(spans), dtype=np.float64) / 100  # the first is 0: not stored
    other = {"score": "other", "source": 3, "start": 0, "end": 1, "value": 0.5}
    table = pa.table({"status": ["ok"] * 3, "evidence": _column("evidence", [[other], None, None])})
    table = add_scores(table, {"mine": values, "b": values * 2}, batch, source, spans)
    column = table.column("evidence").combine_chunks()
    first, *added = column[0].as_py()
    assert first == other
    assert [cell["score"] for cell in added] == ["b"] * (len(added) // 2) + ["mine"] * (len(added) // 2)
    assert len(column.flatten()) == 1 + 2 * (len(spans) - 1)
    np.testing.assert_allclose(read_scores(column, "mine", batch, source, spans), values, atol=1e-7)
    np.testing.assert_allclose(read_scores(column, "b", batch, source, spans), values * 2, atol=1e-7)
    assert read_scores(column, "other", batch, source, spans).sum() == 0.5
    assert not read_scores(column, "none", batch, source, spans).any()


def test_cells_that_nothing_is_said_of_are_zero() -> None:
    batch = _batch(3, 3)
    spans, source = _cells(batch), np.array([0, 0])
    cell = {"score": "mine", "source": 0, "start": 1, "end": 3, "value": 0.5}
    column = _column("evidence", [None, [cell, {**cell, "source": 1}, {**cell, "start": 900, "end": 901}]])
    found = read_scores(column, "mine", batch, source, spans)
    (place,) = np.flatnonzero(found)
    assert (spans.entity[place], spans.start[place], spans.end[place], found[place]) == (1, 1, 3, 0.5)
