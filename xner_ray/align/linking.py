"""Links from word vectors, many sentence pairs at once in padded batches on a CPU or a GPU; no model, no I/O.

    vectors (m, d), (n, d) --> cosine (m, n) --> probabilities and hard links --> Links

Cosines and probabilities are rounded to 1e-4 before they are compared, and ties go to the lowest index. So a pair's
links hardly depend on the pairs beside it: floating-point noise (about 2e-6 when a batch has another shape) changes a
link only next to a rounding edge.

A word without subwords has a zero vector. It is removed before anything is computed, so it is never linked and has no
weight.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xner_ray.align import hard_links
from xner_ray.data.links import FLOOR, METHODS, Links

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]

# (temperature, threshold of `softmax`) by similarity and centring. Cosines of the built-in encoder are close to each
# other, less so once centred; half or twice the temperature changes AER by less than 0.02. Thresholds 0.1 to 0.4 give
# AER .079 to .063 on French-English and .180 to .184 over ten languages of XL-WA, not centred (argmax .066, .189;
# itermax .102, .183). Dot products: awesome-align's own values.
DEFAULTS: dict[tuple[str, str], tuple[float, float]] = {
    ("cosine", "pair"): (0.05, 0.3),
    ("cosine", "none"): (0.02, 0.2),
    ("dot", "pair"): (1.0, 0.001),
    ("dot", "none"): (1.0, 0.001),
}
_CELLS = {"cpu": 1 << 17, "cuda": 1 << 23}  # padded cells of one batch; a CPU's cache holds about so many
_BUCKET = 8  # source lengths that may share a batch


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """The settings by which vectors become links. ValueError for a value out of range.

    level: `word`, or `subword` (see `align`).
    center: `pair` subtracts from each vector the mean of all vectors of both sentences, which removes what all words
    have in common. It needs the pair alone and did as well as a mean per language (soft Dice F1 within 0.2, AER a point
    below that of `none`).
    similarity: of the probabilities, `cosine`, or `dot` as in awesome-align; SimAlign's hard methods always compare
    cosines.
    temperature: divides similarities before the softmax. threshold: `softmax` links where both probabilities exceed
    it. None for either means the entry in `DEFAULTS`.
    distortion: 0 to 1, see `hard_links.distort`; acts on cosines, for all methods and for probabilities of cosines.
    floor: a cell is dropped if both probabilities are below it and no method links it.
    """

    level: Literal["word", "subword"] = "word"
    center: Literal["pair", "none"] = "none"
    similarity: Literal["cosine", "dot"] = "cosine"
    temperature: float | None = None
    threshold: float | None = None
    distortion: float = 0.0
    floor: float = FLOOR

    def __post_init__(self) -> None:
        if self.level not in ("word", "subword"):
            raise ValueError(f"level is {self.level!r}; allowed: word, subword")
        for name, chosen, allowed in (
            ("similarity", self.similarity, ("cosine", "dot")),
            ("center", self.center, ("pair", "none")),
        ):
            if chosen not in allowed:
                raise ValueError(f"{name} is {chosen!r}; allowed: {', '.join(allowed)}")
        temperature, threshold = self.softmax
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0")
        for name, value in (("threshold", threshold), ("distortion", self.distortion), ("floor", self.floor)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be from 0 to 1")

    @property
    def softmax(self) -> tuple[float, float]:
        """The temperature and the threshold in use."""
        temperature, threshold = DEFAULTS[self.similarity, self.center]
        return (
            temperature if self.temperature is None else self.temperature,
            threshold if self.threshold is None else self.threshold,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Subwords:
    """A sentence as subwords. vectors: (k, d); word: (k,), the word of each subword, ascending."""

    vectors: Vectors
    word: NDArray[np.int32]
    n_words: int


def align(
    source: Sequence[Vectors | Subwords],
    target: Sequence[Vectors | Subwords],
    options: AlignOptions | None = None,
    *,
    methods: Collection[str] = (),
    device: str | torch.device = "cpu",
    share: float = 1.0,
) -> Links:
    """Return the links of many pairs; `row` is the index into the two sequences.

    source, target: arrays (n_words, d) at level `word`, `Subwords` at level `subword`. methods: `mwmf`, which takes
    longer, is computed if it is among them; the other hard methods always are. share: of the memory that a batch may
    take, less than 1 where it has run out. ValueError if the sequences differ in length, a vector is not finite, or a
    method is unknown.

    Level `subword` is SimAlign's `bpe`: methods run on subwords, and two words are linked if any of their subwords are.
    Forward is then the probability of all subwords of the target word together, averaged over the subwords of the
    source word (so it still sums to 1 over the target words); backward likewise; cosine is the highest of any two
    subwords.

    >>> links = align([np.eye(2, dtype=np.float32)], [np.eye(2, dtype=np.float32)[::-1]]).hard("argmax")
    >>> links.source.tolist(), links.target.tolist(), links.cosine.tolist()
    ([0, 1], [1, 0], [1.0, 1.0])
    """
    options = options or AlignOptions()
    if len(source) != len(target):
        raise ValueError(f"{len(source)} source sentences, but {len(target)} target sentences")
    place = torch.device(device)
    sides = [Side.of(items, options, place) for items in (source, target)]
    return align_sides(sides[0], sides[1], options, methods=methods, share=share)


def align_sides(
    source: Side, target: Side, options: AlignOptions, *, methods: Collection[str] = (), share: float = 1.0
) -> Links:
    """Return the links of many pairs, as `align` does; both sides are on one device."""
    if unknown := sorted(set(methods) - set(METHODS)):
        raise ValueError(f"method is {unknown[0]!r}; allowed: {', '.join(METHODS)}")
    limit = int(share * _CELLS.get(source.vectors.device.type, _CELLS["cuda"]))
    return merge(
        [
            sparse(_batch(source, target, rows, options, "mwmf" in methods), rows, options.floor)
            for rows in _batches(source.lengths, target.lengths, limit)
        ]
    )


def merge(parts: Sequence[Links]) -> Links:
    """Join the links of different pairs, sorted by pair, source word and target word."""
    if not parts:
        return Links(*(np.zeros(0, dtype=t) for t in (*[np.int32] * 3, *[np.float32] * 3, np.uint8)))
    names = Links.__slots__
    whole = Links(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return whole.take(np.lexsort((whole.target, whole.source, whole.row)))


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of many pairs, flat: its units (words or subwords) that have a vector, sentence by sentence.

    vectors: (units, d), on the device, finite and not 0; word: the word of each unit, counted in its sentence. starts,
    lengths: where each sentence's units begin, and how many it has.
    """

    vectors: Tensor
    word: Ints
    starts: Ints
    lengths: Ints

    @classmethod
    def of(cls, items: Sequence[Vectors | Subwords], options: AlignOptions, device: torch.device) -> Side:
        """Put the arrays of sentences together. ValueError for the wrong level, or a vector that is not finite."""
        arrays = [item.vectors if isinstance(item, Subwords) else np.asarray(item) for item in items]
        wanted = Subwords if options.level == "subword" else np.ndarray
        for index, item in enumerate(items):
            if not isinstance(item, wanted):
                raise ValueError(f"level is {options.level}, but sentence {index} is {type(item).__name__}")
        counts = np.array([len(array) for array in arrays], dtype=np.int64)
        row = np.repeat(np.arange(len(arrays)), counts)
        words = [item.word if isinstance(item, Subwords) else np.arange(len(item)) for item in items]
        whole = np.concatenate([a for a in arrays if len(a)]) if counts.sum() else np.zeros((0, 1))
        flat = torch.from_numpy(whole.astype(np.float32, copy=False)).to(device)
        exists = require_finite(flat) > 0
        kept = exists.cpu().numpy()
        lengths = np.bincount(row[kept], minlength=len(arrays))
        word = (np.concatenate(words) if words else np.zeros(0))[kept].astype(np.int64)
        return cls(flat[exists], word, np.cumsum(lengths) - lengths, lengths)

    def take(self, sentences: Ints) -> Side:
        """Return a view of some sentences, in this order."""
        return Side(self.vectors, self.word, self.starts[sentences], self.lengths[sentences])

    def pad(self, rows: Ints) -> Padded:
        lengths = self.lengths[rows]
        places = np.arange(lengths.max())
        mask = places < lengths[:, None]
        index = np.where(mask, self.starts[rows, None] + places, self.starts[rows, None])
        device = self.vectors.device
        at, exists = torch.from_numpy(index).to(device), torch.from_numpy(mask).to(device)
        word = torch.from_numpy(np.where(mask, self.word[index], 0)).to(device)
        return Padded(self.vectors[at] * exists[:, :, None], word, exists)


def require_finite(vectors: Tensor) -> Tensor:
    """Return the lengths of vectors (n, d). ValueError if one is not finite."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    if not bool(torch.isfinite(length).all()):
        raise ValueError("a vector is not finite (a model in half precision may overflow: try float32)")
    return length


@dataclass(frozen=True, slots=True)
class Padded:
    """The units of a batch: vectors (B, k, d), 0 for padding; words (B, k); which exist (B, k)."""

    vectors: Tensor
    word: Tensor
    exists: Tensor


@dataclass(frozen=True, slots=True)
class Cells:
    """The dense cells of a batch, (B, m, n) each: probabilities and cosines rounded to 1e-4, and bits of the methods.

    source, target: number of the word of each row (B, m) and column (B, n). exists: (B, m, n), false for padding.
    """

    forward: Tensor
    backward: Tensor
    cosine: Tensor
    methods: Tensor
    source: Tensor
    target: Tensor
    exists: Tensor


def _batches(n_source: NDArray[Any], n_target: NDArray[Any], limit: int) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of similar sizes, at most `limit` padded cells a batch; a larger single pair goes alone."""
    bucket = (n_source - 1) // _BUCKET
    order = np.lexsort((-n_target, bucket))
    order = order[(n_source[order] > 0) & (n_target[order] > 0)]
    start = 0
    while start < len(order):
        first = order[start]  # the most target words of this batch
        end = int(np.searchsorted(bucket[order], bucket[first], side="right"))
        size = max(1, limit // int((bucket[first] + 1) * _BUCKET * n_target[first]))
        end = min(end, start + size)
        yield order[start:end]
        start = end


def _batch(source: Side, target: Side, rows: Ints, options: AlignOptions, mwmf: bool) -> Cells:
    a, b = source.pad(rows), target.pad(rows)
    cosine, norms = cosines(a, b, options)
    dot = None
    if options.similarity == "dot":
        dot = cosine.double() * norms[0].double()[:, :, None] * norms[1].double()[:, None, :]
        # Fewer decimals for longer vectors, as the noise grows with them: between 1e-5 and 1e-4 of the greatest
        # product that these lengths allow.
        scale = (norms[0].amax(1) * norms[1].amax(1)).double().clamp(min=1e-30)
        step = (10.0 ** (torch.log10(scale).floor() - 4))[:, None, None]
        dot = torch.round(dot / step) * step
    return cells(cosine, dot, (a.word, a.exists), (b.word, b.exists), options, mwmf)


def cosines(a: Padded, b: Padded, options: AlignOptions) -> tuple[Tensor, list[Tensor]]:
    """Return the cosines (B, m, n) of a batch's units, centred if the options ask for it, and their lengths (B, k)."""
    sides = [a.vectors, b.vectors]
    if options.center == "pair":
        counts = a.exists.sum(1) + b.exists.sum(1)  # never 0: pairs without units are in no batch
        mean = (sides[0].sum(1) + sides[1].sum(1)) / counts[:, None]
        mean = mean.masked_fill((counts == 2)[:, None], 0.0)  # two single words would become opposites
        sides = [(v - mean[:, None]) * each.exists[:, :, None] for v, each in zip(sides, (a, b), strict=True)]
    norms = [torch.linalg.vector_norm(vectors, dim=2) for vectors in sides]
    unit = [v / n.clamp(min=1e-30)[:, :, None] for v, n in zip(sides, norms, strict=True)]
    return torch.bmm(unit[0], unit[1].transpose(1, 2)).clamp(-1.0, 1.0), norms


def cells(
    cosine: Tensor,
    dot: Tensor | None,
    source: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
    options: AlignOptions,
    mwmf: bool,
) -> Cells:
    """Compute all cells of a padded batch of cosines (B, m, n).

    dot: dot products (B, m, n) if the probabilities come from them. source, target: the words of the units (B, k), and
    which units exist (B, k).
    """
    (source_word, a), (target_word, b) = source, target
    mask = hard_links.mask_of(a, b)
    cosine = _rounded(cosine).float()  # as stored: the numbers compared below are those that a reader sees
    similarity = hard_links.distort((cosine.double() + 1.0) / 2.0, a, b, options.distortion)
    logits = dot if dot is not None else cosine.double() if options.distortion == 0 else 2.0 * similarity - 1.0
    temperature, threshold = options.softmax
    logits = logits.masked_fill(~mask, -torch.inf) / temperature
    forward, backward = (torch.softmax(logits, dim).masked_fill(~mask, 0.0) for dim in (2, 1))
    of_row, of_column = hard_links.highest(similarity, mask)
    mutual = of_row & of_column
    found = {
        "argmax": mutual,
        "itermax": hard_links.itermax(similarity, mutual, a, b),
        "forward": of_row,
        "reverse": of_column,
        "softmax": (_rounded(forward) > threshold) & (_rounded(backward) > threshold),
    }
    if mwmf:
        found["mwmf"] = hard_links.mwmf(similarity, a, b)
    bits = torch.zeros(mask.shape, dtype=torch.uint8, device=mask.device)
    for name, linked in found.items():
        bits |= linked.to(torch.uint8) << METHODS.index(name)
    if options.level == "subword":
        return _of_words(forward, backward, cosine, bits, source, target)
    return Cells(_rounded(forward), _rounded(backward), cosine, bits, source_word, target_word, mask)


def _of_words(
    forward: Tensor, backward: Tensor, cosine: Tensor, bits: Tensor, source: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
) -> Cells:  # fmt: skip
    """Turn cells of subwords into cells of words; see `align`."""
    (s, a), (t, b) = source, target
    n_source, n_target = int(s.max()) + 1, int(t.max()) + 1
    # Sums are products with 0/1 matrices, because index_add adds in no fixed order on a GPU.
    of_source, of_target = (
        ((word[:, None, :] == torch.arange(n, device=word.device)[:, None]) & exists[:, None, :]).double()
        for word, exists, n in ((s, a, n_source), (t, b, n_target))
    )
    sums = [of_source @ values @ of_target.transpose(1, 2) for values in (forward, backward)]
    n_s, n_t = of_source.sum(2), of_target.sum(2)
    index = (s[:, :, None] * n_target + t[:, None, :]).flatten(1)
    outside = ~hard_links.mask_of(a, b)

    def gather(values: Tensor, lowest: float) -> Tensor:
        flat = torch.full((len(s), n_source * n_target), lowest, dtype=values.dtype, device=values.device)
        values = values.masked_fill(outside, lowest).flatten(1)
        return flat.scatter_reduce(1, index, values, "amax").view(len(s), n_source, n_target)

    methods = torch.zeros((len(s), n_source, n_target), dtype=torch.uint8, device=bits.device)
    for bit in range(len(METHODS)):
        methods |= gather((bits >> bit) & 1, 0) << bit
    source_words, target_words = (torch.arange(n, device=s.device).expand(len(s), n) for n in (n_source, n_target))
    return Cells(
        _rounded(sums[0] / n_s.clamp(min=1)[:, :, None]),
        _rounded(sums[1] / n_t.clamp(min=1)[:, None, :]),
        gather(cosine, -1.0),
        methods,
        source_words,
        target_words,
        hard_links.mask_of(n_s > 0, n_t > 0),
    )


def sparse(dense: Cells, rows: NDArray[np.int64], floor: float) -> Links:
    """Return the cells that a method links, or of which a probability is at least `floor`; `rows` numbers the pairs."""
    keep = ((dense.forward >= floor) | (dense.backward >= floor) | (dense.methods != 0)) & dense.exists
    pair, i, j = torch.nonzero(keep, as_tuple=True)
    return Links(
        rows[pair.cpu().numpy()].astype(np.int32),
        dense.source[pair, i].cpu().numpy().astype(np.int32),
        dense.target[pair, j].cpu().numpy().astype(np.int32),
        dense.forward[pair, i, j].float().cpu().numpy(),
        dense.backward[pair, i, j].float().cpu().numpy(),
        dense.cosine[pair, i, j].cpu().numpy(),
        dense.methods[pair, i, j].cpu().numpy(),
    )


def _rounded(values: Tensor) -> Tensor:
    """Round to four decimals, in float64."""
    return torch.round(values.double() * 1e4) / 1e4
