"""links.py: the column `links` and its arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from xner_ray.data.links import FIELDS, LINK_TYPE, METHODS, Links

ROWS = [
    [{"source": 0, "target": 1, "forward": 0.5, "backward": 0.25, "cosine": -0.5, "methods": 1}],
    None,
    [],
    [
        {"source": 0, "target": 0, "forward": 1.0, "backward": 0.75, "cosine": 0.5, "methods": 3},
        {"source": 2, "target": 1, "forward": 0.0, "backward": 0.125, "cosine": 1.0, "methods": 40},
    ],
    None,
]
COLUMN = pa.array(ROWS, type=pa.list_(LINK_TYPE))


def lists(links: Links) -> list[list[float]]:
    return [getattr(links, name).tolist() for name in ("row", *FIELDS)]


def test_a_null_cell_has_no_links() -> None:
    links = Links.from_arrow(COLUMN)
    assert links.row.tolist() == [0, 3, 3]
    assert links.target.tolist() == [1, 0, 1]
    assert links.to_arrow(5).to_pylist() == [row or [] for row in ROWS]
    for name, (dtype, _) in FIELDS.items():
        assert getattr(links, name).dtype == dtype
    assert links.row.dtype == np.int32


def test_given_links_are_sorted_once_and_share_their_words() -> None:
    rows = np.random.default_rng(0)
    row, source, target = (rows.integers(0, most, 300) for most in (4, 5, 7))
    links = Links.given(row, source, target)
    cells = sorted(set(zip(row.tolist(), source.tolist(), target.tolist(), strict=True)))
    assert len(cells) < 300
    assert list(zip(links.row.tolist(), links.source.tolist(), links.target.tolist(), strict=True)) == cells
    for number, (in_row, i, j) in enumerate(cells):
        of_source = sum((one[0], one[1]) == (in_row, i) for one in cells)
        of_target = sum((one[0], one[2]) == (in_row, j) for one in cells)
        assert links.forward[number] == np.float32(round(1 / of_source, 4))
        assert links.backward[number] == np.float32(round(1 / of_target, 4))
    assert set(links.cosine.tolist()) == {1.0}
    assert all(len(links.hard(method)) == len(cells) for method in METHODS)
    assert links.to_arrow(5).type.value_type == LINK_TYPE
    assert [len(cell) for cell in links.to_arrow(5).to_pylist()] == [*np.bincount(links.row), 0]


def test_no_given_links() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert Links.given(nothing, nothing, nothing).to_arrow(2).to_pylist() == [[], []]


def test_round_trip() -> None:
    links = Links.from_arrow(COLUMN)
    column = links.to_arrow(7)
    assert column.type == pa.list_(LINK_TYPE) and len(column) == 7 and column.null_count == 0
    assert lists(Links.from_arrow(column)) == lists(links)


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_slices(start: int, length: int) -> None:
    part = COLUMN.slice(start, length)
    assert Links.from_arrow(part).to_arrow(len(part)).to_pylist() == [row or [] for row in ROWS[start : start + length]]


def test_chunks() -> None:
    column = pa.chunked_array([COLUMN.slice(2), COLUMN.slice(0, 1), COLUMN.slice(1, 0)], type=COLUMN.type)
    rows = [*ROWS[2:], ROWS[0]]
    assert Links.from_arrow(column).to_arrow(4).to_pylist() == [row or [] for row in rows]
    empty = pa.chunked_array([], type=COLUMN.type)
    assert len(Links.from_arrow(empty)) == 0
    assert Links.from_arrow(empty).to_arrow(2).to_pylist() == [[], []]


def test_null_over_values_is_no_links() -> None:
    """Arrow may keep values under a null."""
    column = pa.ListArray.from_arrays(COLUMN.offsets, COLUMN.values, mask=pa.array([True, False, False, False, True]))
    assert Links.from_arrow(column).row.tolist() == [3, 3]


def test_hard_links_are_bits() -> None:
    links = Links.from_arrow(COLUMN)
    assert {name: len(links.hard(name)) for name in METHODS} == {
        "argmax": 2, "itermax": 1, "mwmf": 0, "forward": 1, "reverse": 0, "softmax": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="method is 'match'; allowed: argmax, itermax, mwmf"):
        links.hard("match")
