"""A token classifier over given words: probabilities of subwords become tags of words.

The softmax over a subword's classes becomes columns O, B-1, I-1, B-2, ... of our labels; a word's row is pooled from
those of its subwords. No word is cut: what the model cannot read at once is windowed, a word longer than that between
its subwords. A context is read beside the words, and has no tags (`models/windows.py`). Rows are rounded to 1e-4, which
in float32 hides that a sentence's last bits depend on its micro-batch; in 16-bit formats rows differ by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.data.arrow import ranges
from xner_ray.data.row import SCALE
from xner_ray.data.spans import Span, label_list, tags_to_spans
from xner_ray.data.tag_paths import best_tags
from xner_ray.errors import FatalError
from xner_ray.models.device import budget_of
from xner_ray.models.windows import Ints, WindowReader, Windows
from xner_ray.recipe.sections import Tag
from xner_ray.tag.base import Contexts, Sentence
from xner_ray.tag.classes import Classes


class TokenClassifier(WindowReader):
    """What all token classifiers share: tokenizer, device, classes. labels: those that it can give, after the map."""

    def __init__(self, section: Tag, tokenizer: Any, positions: int, device: torch.device, classes: Classes) -> None:
        super().__init__(tokenizer, positions, device, budget_of(section))
        self.classes, self.labels = classes, classes.labels
        self.pooling, self.temperature = section.pooling, section.temperature
        columns = torch.eye(2 * len(self.labels) + 1)[classes.columns]  # (classes of the model, ours)
        self.to_columns = columns.to(device)

    def logits(self, inputs: dict[str, torch.Tensor], windows: Windows, batch: Ints) -> torch.Tensor:
        """Return the logits (B, T, classes) of a micro-batch. inputs: those of the windows `batch`."""
        raise NotImplementedError

    def tag(self, sentences: Sequence[Sentence], contexts: Contexts = None) -> list[list[Span]]:
        """Return the spans of each sentence, as of `tagged`."""
        return [spans for spans, _ in self.tagged(sentences, contexts)]

    def tagged(
        self, sentences: Sequence[Sentence], contexts: Contexts = None
    ) -> list[tuple[list[Span], NDArray[np.float32]]]:
        """Return the spans of each sentence, and its `probabilities`.

        Tags are the most probable sequence (`data/tag_paths.py`), read as IOB2 with the usual repair: an I-l that
        continues nothing begins a span. A span's score is the mean probability of its tags, to 1e-4.
        """
        if not sentences:
            return []
        names = label_list(self.labels)
        split = self._parts([words for words, _ in sentences], contexts)
        first = np.cumsum([0, *map(len, split)])
        best = np.split(best_tags(np.concatenate(split), first, names), first[1:-1])
        result = []
        for parts, tags in zip(split, best, strict=True):
            chosen = parts[np.arange(len(parts)), tags]
            spans, _ = tags_to_spans([names[tag] for tag in tags.tolist()])
            scored = [replace(s, score=round(float(chosen[s.start : s.end].mean()) / SCALE, 4)) for s in spans]
            result.append((scored, (parts / SCALE).astype(np.float32)))
        return result

    def probabilities(self, words: Sequence[Sequence[str]], contexts: Contexts = None) -> list[NDArray[np.float32]]:
        """Return (n_words, 2 L + 1) for each sentence, columns O, B-1, I-1, B-2, ... in the order of `labels`.

        Values are multiples of 1e-4; a row sums to 1 but for this rounding. A word without subwords, such as a lone
        zero-width space, is O with probability 1. Pooling "first" takes the word's first subword, "mean" and "max" take
        all; "max" is divided by its sum. Models without B- tags: see `classes.py`.
        """
        return [(parts / SCALE).astype(np.float32) for parts in self._parts(words, contexts)]

    def cuts(self, words: Sequence[Sequence[str]], contexts: Contexts) -> list[bool]:
        """Return for each sentence whether the end of its context is not read."""
        found: list[bool] = self.split(words, contexts).cut.tolist()
        return found

    def _parts(self, sentences: Sequence[Sequence[str]], contexts: Contexts) -> list[NDArray[np.int64]]:
        """Return `probabilities` in ten-thousandths, in which equal tags are equal and sums are exact."""
        windows = self.split(sentences, contexts)
        values = np.zeros((len(windows.word), self.to_columns.shape[1]), dtype=np.float32)

        def forward(inputs: dict[str, torch.Tensor], batch: Ints) -> None:
            row, place, _ = windows.read_in(batch)
            logits = self.logits(inputs, windows, batch)[torch.from_numpy(row), torch.from_numpy(place)]
            found = torch.softmax(logits.float() / self.temperature, dim=-1) @ self.to_columns
            values[ranges(windows.reads[batch], np.diff(windows.reads)[batch])] = found.cpu().numpy()

        self.read(windows, np.arange(len(windows.lengths)), forward)
        if not np.isfinite(values).all():
            raise FatalError("the tagger's probabilities are not finite; set dtype: float32 in its section")
        rows = np.zeros((int(windows.first[-1]), values.shape[1]))
        rows[:, 0] = 1.0
        if len(values):
            words, first = np.unique(windows.word, return_index=True)
            rows[words] = self._pool(values, first)
        parts = np.rint(rows * SCALE).astype(np.int64)
        self._begin(parts, windows.first)
        return np.split(parts, windows.first[1:-1])[: len(sentences)]

    def _pool(self, rows: NDArray[np.float32], first: NDArray[np.intp]) -> NDArray[np.float64]:
        """Pool the rows of subwords into rows of words; `first` is each word's first subword."""
        pool = {"mean": np.add, "max": np.maximum}.get(self.pooling)
        pooled = pool.reduceat(rows, first, dtype=np.float64) if pool else rows[first].astype(np.float64)
        result: NDArray[np.float64] = pooled / pooled.sum(axis=1, keepdims=True)
        return result

    def _begin(self, parts: NDArray[np.int64], first: Ints) -> None:
        """Count I-l as B-l after a word whose best tag is not of class l, where the model cannot mark a beginning.

        From left to right, because a B-l gained here can make l the best class of its word; all sentences at once.
        first: the number of each sentence's first word.
        """
        begins = self.classes.implicit
        sizes = np.diff(first)
        longest_first = np.argsort(-sizes, kind="stable")
        last = np.full(len(sizes), -1)
        for place in range(int(sizes.max(initial=0)) if len(begins) else 0):
            here = longest_first[: np.count_nonzero(sizes > place)]
            rows = parts[first[here] + place]
            moved = np.where(begins != last[here, None], rows[:, begins + 1], 0)
            rows[:, begins] = np.minimum(rows[:, begins] + moved, SCALE)
            rows[:, begins + 1] -= moved
            parts[first[here] + place] = rows
            best = rows.argmax(axis=1)
            last[here] = best - 1 + best % 2  # the column of its B-l; of none for O
