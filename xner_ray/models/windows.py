"""Sentences in overlapping windows, and windows in padded micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.data.arrow import offsets, ranges
from xner_ray.models.device import Timed

CPU_TOKENS = 1024  # more in one pass leave a CPU's cache, and padding grows
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Ints = NDArray[np.int64]
_KNOWN_WORDS = 1 << 18  # a third of the words of a language's texts are never met again
_CONTEXT_CHARACTERS = 64  # of a context, for each subword that a model reads at once: no more are looked at
_LONG_WORD = 100  # characters; no word of a language, and not worth to be remembered


@dataclass(frozen=True, eq=False)
class Windows:
    """Sentences as a model reads them, flat: the windows of all of them, one after the other.

    ids: subwords of all windows, special ones included. starts: [windows + 1], where each begins in `ids`.
    word, place: of the subwords that are read for their word, by window: number of the word, counted through all
    sentences, and position in the window. reads: [windows + 1], where those of each window begin. A subword that a
    window has only as context of others is not among them.
    first: [sentences + 1], number of each sentence's first word. windows_of: [sentences + 1], its first window; a
    sentence without subwords has none.
    context: [windows], the last subwords of each that are separator and context. cut: [sentences], whether the end of
    its context found no room.
    """

    ids: NDArray[np.int32]
    starts: Ints
    word: Ints
    place: Ints
    reads: Ints
    first: Ints
    windows_of: Ints
    context: Ints
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.first) - 1

    @property
    def lengths(self) -> Ints:
        """Number of subwords of each window."""
        return np.diff(self.starts)

    @property
    def split_inside(self) -> NDArray[np.bool_]:
        """Whether a sentence has a word that no window holds: it is read in pieces."""
        split = np.zeros(len(self), dtype=np.bool_)
        last, following = self.word[self.reads[1:-1] - 1], self.word[self.reads[1:-1]]
        split[np.searchsorted(self.first, last[last == following], side="right") - 1] = True
        return split

    def at_first_subwords(self) -> Windows:
        """Return the same windows, with each word read at its first subword alone."""
        kept = np.diff(self.word, prepend=-1) > 0
        return replace(self, word=self.word[kept], place=self.place[kept], reads=offsets(kept)[self.reads])

    @classmethod
    def joined(cls, parts: Sequence[Windows]) -> Windows:
        """Return the sentences of some parts, one part after the other."""
        n_words = offsets([part.first[-1] for part in parts])

        def ends(name: str) -> Ints:
            return offsets(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

        return cls(
            ids=np.concatenate([part.ids for part in parts]),
            starts=ends("starts"),
            word=np.concatenate([part.word + before for part, before in zip(parts, n_words, strict=False)]),
            place=np.concatenate([part.place for part in parts]),
            reads=ends("reads"),
            first=ends("first"),
            windows_of=ends("windows_of"),
            context=np.concatenate([part.context for part in parts]),
            cut=np.concatenate([part.cut for part in parts]),
        )

    def take(self, sentences: Ints) -> Windows:
        """Return some sentences, in this order, with words numbered anew."""
        windows = ranges(self.windows_of[sentences], np.diff(self.windows_of)[sentences])
        n_words = np.diff(self.first)[sentences]
        first = offsets(n_words)
        n_reads = np.diff(self.reads)[windows]
        reads = ranges(self.reads[windows], n_reads)
        n_windows = np.diff(self.windows_of)[sentences]
        moved = np.repeat(np.repeat(first[:-1] - self.first[sentences], n_windows), n_reads)
        return Windows(
            ids=self.ids[ranges(self.starts[windows], self.lengths[windows])],
            starts=offsets(self.lengths[windows]),
            word=self.word[reads] + moved,
            place=self.place[reads],
            reads=offsets(n_reads),
            first=first,
            windows_of=offsets(n_windows),
            context=self.context[windows],
            cut=self.cut[sentences],
        )

    def batch(self, windows: Sequence[int] | Ints, padding: int | None, length: int | None = None) -> tuple[Ints, Ints]:
        """Return ids and mask of some windows, each (windows, length); by default that of the longest."""
        sizes = self.lengths[windows]
        mask = np.arange(length or sizes.max()) < sizes[:, None]
        ids = np.full(mask.shape, padding or 0, dtype=np.int64)
        ids[mask] = self.ids[ranges(self.starts[windows], sizes)]
        return ids, mask.astype(np.int64)

    def read_in(self, windows: Sequence[int] | Ints) -> tuple[Ints, Ints, Ints]:
        """Return the subwords that are read in some windows: index into `windows`, place, number of the word."""
        counts = np.diff(self.reads)[windows]
        own = ranges(self.reads[windows], counts)
        return np.repeat(np.arange(len(counts)), counts), self.place[own], self.word[own]


class Splitter:
    """Cuts sentences in words into windows of subwords, by a fast tokenizer. positions: that the model reads at once.

    Tokenizers take given words apart one by one, whatever stands beside them: so each word is taken apart once, and
    remembered. Text that spells a special token stays text.

    A sentence may have a context, a text that is read with it and has no labels. Each of its windows is then

        begin  words  separator  context  end

    Words go first. The context keeps its first subwords: as many as find room beside the whole sentence, and with the
    separator a quarter of the window at least. One that is blank, or finds no room for a single subword, is left out,
    separator and all, so that the sentence is read as if it had none.
    """

    def __init__(self, tokenizer: Any, positions: int) -> None:
        self.tokenizer, self.positions = tokenizer, positions
        self._known: dict[str, tuple[int, ...]] = {}
        self._once: list[str] = []  # known for one call alone
        self._before: tuple[int, ...] = ()
        self._after: tuple[int, ...] = ()
        # Unigram tokenizers have "</s>" among their pieces, which split_special_tokens leaves: it is the unknown word
        unknown = tokenizer.unk_token_id
        self._spelt = {} if unknown is None else dict.fromkeys(tokenizer.all_special_ids, unknown)
        self._separator: tuple[int, ...] | None = None

    def __call__(self, sentences: Sequence[Sequence[str]], contexts: Sequence[str | None] | None = None) -> Windows:
        """Return the windows of sentences, from left to right. contexts: one for each sentence, None where it has none.

        A word longer than a window is taken apart: it is read at the end of one window and at the beginning of the
        next. No word is cut off.
        """
        given = [""] * len(sentences) if contexts is None else [context or "" for context in contexts]
        most = _CONTEXT_CHARACTERS * self.positions
        beside = [context[:most].split() for context in given]
        words, others = (list(chain.from_iterable(texts)) for texts in (sentences, beside))
        self._learn(dict.fromkeys(chain(words, others)))
        if others and self._separator is None:
            self._separator = separator(self.tokenizer)
            assert self._separator, "whoever gives contexts checks that the tokenizer has a separator"
        mine, theirs = self._flat(words), self._flat(others)
        for word in self._once:
            del self._known[word]
        self._once = []
        firsts = (offsets([len(text) for text in texts]) for texts in (sentences, beside))
        found = self._windows(mine, next(firsts), theirs.of_texts(next(firsts)))
        found.cut[[len(context) > most for context in given]] = True
        return found

    def _flat(self, words: Sequence[str]) -> _Flat:
        pieces = [self._known[word] for word in words]
        per_word = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
        ids = np.fromiter(chain.from_iterable(pieces), dtype=np.int32, count=int(per_word.sum()))
        return _Flat(ids, per_word, offsets(per_word))

    def _learn(self, words: Mapping[str, object]) -> None:
        """Remember the subwords of those words that are not known yet."""
        new = [word for word in words if word not in self._known]
        if not new:
            return
        if len(self._known) + len(new) > _KNOWN_WORDS:
            self._known = {word: self._known[word] for word in words if word in self._known}
        encoding = self.tokenizer(
            [new],
            is_split_into_words=True,
            truncation=False,
            padding=False,
            split_special_tokens=True,
            verbose=False,
        ).encodings[0]
        of_word: list[list[int]] = [[] for _ in new]
        numbers = encoding.word_ids
        for identifier, number in zip(encoding.ids, numbers, strict=True):
            if number is not None:
                of_word[number].append(self._spelt.get(identifier, identifier))
        inner = [place for place, number in enumerate(numbers) if number is not None]
        if inner:
            self._before, self._after = tuple(encoding.ids[: inner[0]]), tuple(encoding.ids[inner[-1] + 1 :])
        self._known.update(zip(new, map(tuple, of_word), strict=True))
        self._once = [word for word in new if len(word) > _LONG_WORD]

    def _windows(self, words: _Flat, first: Ints, contexts: _Flat) -> Windows:
        """Return the windows of sentences. first: the number of each sentence's first word. contexts: by sentence."""
        room = self.positions - len(self._before) - len(self._after)
        begin, end = words.edges[first[:-1]], words.edges[first[1:]]  # subwords of each sentence
        size = end - begin
        between = self._separator or ()
        wanted = np.where((contexts.sizes > 0) & (size > 0), contexts.sizes + len(between), 0)
        taken = np.minimum(wanted, np.maximum(room - size, room // 4))
        taken[taken <= len(between)] = 0
        fits = size + taken <= room
        n_windows = (size > 0).astype(np.int64)
        # Of each window: the subwords that it has, and those that it is read for
        single = np.stack([begin, end, begin, end], axis=1)
        parts_of, last = [], 0
        for sentence in np.flatnonzero(~fits).tolist():  # few
            left = room - int(taken[sentence])
            counts = words.sizes[first[sentence] : first[sentence + 1]].tolist()
            parts = [part for count in counts for part in ([count] if count <= left else [1] * count)]
            cuts = begin[sentence] + offsets(parts)
            found = [each for each in windows(parts, left) if each[2] < each[3] and cuts[each[2]] < cuts[each[3]]]
            parts_of += [single[last:sentence][size[last:sentence] > 0], cuts[np.array(found, dtype=np.int64)]]
            n_windows[sentence], last = len(found), sentence + 1
        own = np.concatenate([*parts_of, single[last:][size[last:] > 0]])
        has, reads = own[:, :2], own[:, 2:]
        before, after = len(self._before), len(self._after)
        inner, read = has[:, 1] - has[:, 0], reads[:, 1] - reads[:, 0]
        context = np.repeat(taken, n_windows)
        starts = offsets(inner + context + before + after)
        ids = np.zeros(int(starts[-1]), dtype=np.int32)
        ids[ranges(starts[:-1] + before, inner)] = words.ids[ranges(has[:, 0], inner)]
        for number, identifier in enumerate(self._before):
            ids[starts[:-1] + number] = identifier
        for number, identifier in enumerate(self._after):
            ids[starts[1:] - after + number] = identifier
        beside = np.flatnonzero(context)
        behind = (starts[1:] - after - context)[beside]
        for number, identifier in enumerate(between):
            ids[behind + number] = identifier
        n_kept = context[beside] - len(between)
        kept = ranges(np.repeat(contexts.edges[:-1], n_windows)[beside], n_kept)
        ids[ranges(behind + len(between), n_kept)] = contexts.ids[kept]
        word = np.repeat(np.arange(len(words.sizes)), words.sizes)
        return Windows(
            ids=ids,
            starts=starts,
            word=word[ranges(reads[:, 0], read)],
            place=ranges(reads[:, 0] - has[:, 0] + before, read),
            reads=offsets(read),
            first=first,
            windows_of=offsets(n_windows),
            context=context,
            cut=taken < wanted,
        )


@dataclass(frozen=True, eq=False)
class _Flat:
    """Subwords of all words, or of all texts, one after the other. edges: where each begins, and the end."""

    ids: NDArray[np.int32]
    sizes: Ints
    edges: Ints

    def of_texts(self, first: Ints) -> _Flat:
        """Return the same by text. first: the number of each text's first word, and that of all words."""
        edges = self.edges[first]
        return _Flat(self.ids, np.diff(edges), edges)


def separator(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that part two texts: those between a pair, or else behind a single text; none if it has none."""
    single, pair = (
        tokenizer(*texts, is_split_into_words=True).encodings[0] for texts in ([[["a"]]], [[["a"]], [["a"]]])
    )
    first, second = ([at for at, text in enumerate(pair.sequence_ids) if text == number] for number in (0, 1))
    between = pair.ids[first[-1] + 1 : second[0]] if first and second else []
    if not between and tokenizer.sep_token_id is not None:
        between = [tokenizer.sep_token_id]
    inner = [at for at, word in enumerate(single.word_ids) if word is not None]
    return tuple(between or (single.ids[inner[-1] + 1 :] if inner else ()))


def windows(counts: Sequence[int], room: int) -> list[tuple[int, int, int, int]]:
    """Return half-open word ranges that cover a sentence, (start, end, first, last).

    counts: subwords of each word, each at most `room`. A window has the words start..end, of at most `room` subwords,
    and begins about half a window after the one before; it is read for the words first..last alone. These ranges tile
    the sentence, and each word is read in the window whose nearer cut is farthest from it.

    >>> windows([1, 1, 1], 5), windows([1] * 10, 6)
    ([(0, 3, 0, 3)], [(0, 6, 0, 5), (3, 9, 5, 7), (4, 10, 7, 10)])
    """
    n_words = len(counts)
    if not n_words:
        return []
    edges = offsets(counts)
    spans: list[tuple[int, int]] = []
    start = end = 0
    while end < n_words:
        end = int(np.searchsorted(edges, edges[start] + room, side="right")) - 1
        if end == n_words:  # the last window extends to the left as far as it has room
            start = int(np.searchsorted(edges, edges[end] - room, side="left"))
        spans.append((start, end))
        half = int(np.searchsorted(edges, edges[start] + room // 2, side="left"))
        start = min(max(half, start + 1), end)
    middle = (edges[:-1] + edges[1:]) / 2
    depth = np.full((len(spans), n_words), -1.0)
    for row, (start, end) in enumerate(spans):
        left = middle[start:end] - edges[start] if start else np.inf
        right = edges[end] - middle[start:end] if end < n_words else np.inf
        depth[row, start:end] = np.minimum(left, right)
    owner = np.maximum.accumulate(depth.argmax(axis=0))
    return [
        (start, end, int(np.searchsorted(owner, row)), int(np.searchsorted(owner, row, side="right")))
        for row, (start, end) in enumerate(spans)
    ]


def micro_batches(sizes: Sequence[int] | Ints, budget: int) -> Iterator[Ints]:
    """Yield the indices of items in batches, longest first; items x longest fit the budget, or it is one item.

    So memory runs out at the first batch or never.

    >>> [batch.tolist() for batch in micro_batches([2, 9, 3, 2], 6)]
    [[1], [2, 0], [3]]
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    while len(order):
        n = max(1, budget // int(sizes[order[0]]))
        yield order[:n]
        order = order[n:]


def padded(rows: Sequence[Sequence[int]], padding: int | None, device: torch.device) -> dict[str, torch.Tensor]:
    """Return a model's inputs for rows of ids: `input_ids` and `attention_mask`, each (rows, longest)."""
    sizes = np.array([len(row) for row in rows])
    mask = np.arange(sizes.max()) < sizes[:, None]
    ids = np.full(mask.shape, padding or 0, dtype=np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(sizes.sum()))
    return tensors(ids, mask.astype(np.int64), device)


class WindowReader(Timed):
    """A network that reads sentences in windows: what an encoder and a token classifier have in common.

    tokens, padding: tokens read since the start, special ones and overlaps of windows included, and the padded places
    beside them. micro_batch_tokens: bound of rows x longest row of one forward pass; a longer single window goes alone,
    a CPU takes no more than `CPU_TOKENS`. It may change between calls; torch.OutOfMemoryError passes through.
    """

    def __init__(self, tokenizer: Any, positions: int, device: torch.device, micro_batch_tokens: int) -> None:
        self.tokenizer, self.positions, self.device = tokenizer, positions, device
        self.split = Splitter(tokenizer, positions)
        self.micro_batch_tokens = micro_batch_tokens
        self.tokens = self.padding = 0

    @torch.inference_mode()
    def read(self, windows: Windows, chosen: Ints, forward: Callable[[dict[str, torch.Tensor], Ints], None]) -> None:
        """Read the chosen windows in micro-batches, longest first.

        forward: called with the network's inputs for a micro-batch, and its windows; it keeps what comes out.
        """
        sizes = windows.lengths[chosen]
        padding = -int(sizes.sum())
        budget = min(self.micro_batch_tokens, CPU_TOKENS) if self.device.type == "cpu" else self.micro_batch_tokens
        for batch in micro_batches(sizes, budget):
            own = chosen[batch]
            inputs = tensors(*windows.batch(own, self.tokenizer.pad_token_id), self.device)
            with self.in_model():
                forward(inputs, own)
            padding += len(batch) * int(sizes[batch[0]])
        self.tokens += int(sizes.sum())  # only now: a call that ran out of memory is made again
        self.padding += padding


def tensors(ids: Ints, mask: Ints, device: torch.device) -> dict[str, torch.Tensor]:
    """Return a model's inputs for padded ids and their mask, (rows, longest) each."""
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
