"""Links of many sentence pairs as flat arrays, and as the column `links`.

A link is a cell (source word, target word) of one pair with its alignment probabilities, its cosine and one bit for
every hard method that links it. Matching reads hard links from the bits, so it needs neither vectors nor a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

METHODS: tuple[str, ...] = ("argmax", "itermax", "mwmf", "forward", "reverse", "softmax")
"""Names of the hard methods; method i is bit 1 << i of `Links.methods`."""

FLOOR = 0.05
"""Least probability, in either direction, of a cell that is kept though no hard method links it."""

FIELDS: dict[str, tuple[type[np.generic], pa.DataType]] = {
    "source": (np.int32, pa.int32()),
    "target": (np.int32, pa.int32()),
    "forward": (np.float32, pa.float32()),
    "backward": (np.float32, pa.float32()),
    "cosine": (np.float32, pa.float32()),
    "methods": (np.uint8, pa.uint8()),
}
LINK_TYPE = pa.struct([(name, arrow) for name, (_, arrow) in FIELDS.items()])


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Cells of many sentence pairs: arrays of one length, sorted by (row, source, target), no cell twice.

    row: index of the pair. source, target: word indices within the pair. forward: probability over the target words
    of the source word; backward: over the source words of the target word; both and the cosine rounded to 1e-4.
    methods: bits of `METHODS`.
    """

    row: NDArray[np.int32]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    forward: NDArray[np.float32]
    backward: NDArray[np.float32]
    cosine: NDArray[np.float32]
    methods: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def given(cls, row: NDArray[np.int64], source: NDArray[np.int64], target: NDArray[np.int64]) -> Links:
        """Make links of cells without probabilities, in any order; repeated cells count once.

        The links of a word share its probability evenly: forward is 1 / links of the source word, backward 1 / links
        of the target word. The cosine is 1, and every hard method links every cell.
        """
        n_source, n_target = int(source.max(initial=0)) + 1, int(target.max(initial=0)) + 1
        cells = (row * n_source + source) * n_target + target
        if (np.diff(cells) <= 0).any():
            cells = np.unique(cells)
        pairs, target = np.divmod(cells, n_target)
        row, source = np.divmod(pairs, n_source)

        def shares(word: NDArray[np.int64]) -> NDArray[np.float32]:
            _, at, times = np.unique(word, return_inverse=True, return_counts=True)
            return np.round(1 / times[at], 4).astype(np.float32)

        return cls(
            row=row.astype(np.int32),
            source=source.astype(np.int32),
            target=target.astype(np.int32),
            forward=shares(row * n_source + source),
            backward=shares(row * n_target + target),
            cosine=np.ones(len(row), dtype=np.float32),
            methods=np.full(len(row), (1 << len(METHODS)) - 1, dtype=np.uint8),
        )

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Links:
        """Return some of the cells, by mask or ascending indices."""
        return Links(self.row[index], *(getattr(self, name)[index] for name in FIELDS))

    def hard(self, method: str) -> Links:
        """Return the cells that a hard method links. ValueError if there is no such method."""
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
        return self.take(self.methods & (1 << METHODS.index(method)) != 0)

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray | pa.Array) -> Links:
        """Read a column `links`; a null cell is a row without links. No Python object is made per link."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        values = array.flatten()
        columns = {
            name: values.field(name).to_numpy(zero_copy_only=False).astype(dtype, copy=False)
            for name, (dtype, _) in FIELDS.items()
        }
        return cls(np.repeat(np.arange(len(array), dtype=np.int32), lengths), **columns)

    def to_arrow(self, n_rows: int) -> pa.Array:
        """Return a column `links` of `n_rows` cells, none null."""
        offsets = np.bincount(self.row + 1, minlength=n_rows + 1).cumsum().astype(np.int32)
        fields = [pa.array(getattr(self, name), type=arrow) for name, (_, arrow) in FIELDS.items()]
        return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(fields, fields=list(LINK_TYPE)))
