"""A tagger of given words, for either side: any Hugging Face token classifier.

The softmax over a subword's classes becomes columns O, B-1, I-1, B-2, ... of our labels; a word's row is pooled from
those of its subwords. Nothing is cut: what the model cannot read at once is windowed, a word longer than that between
its subwords. Rows are rounded to 1e-4, which in float32 hides that a sentence's last bits depend on its micro-batch; in
16-bit formats rows differ by more.

A model cannot mark the beginning of an entity if it was trained on IOB1 tags (`B-` only between two neighbours of one
class, so the published XLM-R of CoNLL-2003 has no B-PER at all) or on plain labels. There an `I-l` that does not follow
a word of class l begins an entity, so its probability counts as that of `B-l`. Two neighbouring entities of one class
come out as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.data.arrow import ranges
from xner_ray.data.row import SCALE
from xner_ray.data.spans import Span, label_list, split_tag, tags_to_spans
from xner_ray.errors import FatalError, RecipeError, did_you_mean
from xner_ray.models import network
from xner_ray.models.device import budget_of, device_of, pick_dtype
from xner_ray.models.hub import pinned, pretrained
from xner_ray.models.windows import Ints, WindowReader
from xner_ray.recipe.sections import Resolved, Tag
from xner_ray.tag.base import Sentence


def check(section: Tag, key: str = "tag") -> dict[str, str | None]:
    """Return our label for each label of the model, sorted: `section.labels` in full. Reads no weights.

    RecipeError, with the section's `key`, if the model is not a token classifier, its tags are not O and B- I- (or
    E- S- L- U-, or plain labels), `labels` maps a label that it does not have or drops all, or its tokenizer is not a
    fast one.
    """
    tags = _read_tags(section, key)
    network.fast_tokenizer(str(section.model), f"{key}.model")
    return dict(sorted(tags.ours_of.items()))


def resolve(section: Tag, key: str) -> Resolved:
    """Pin the model, and complete its map of labels; errors as of `check`."""
    section, identity = pinned(section)
    return Resolved(section.model_copy(update={"labels": check(section, key)}), {"model": identity})


class HfTagger(WindowReader):
    """A token classifier, its tokenizer and a device. labels: those that it can give, after the map."""

    def __init__(self, section: Tag, key: str = "tag") -> None:
        """Load the model; dtype auto is float32 on a CPU and float16 on a GPU. Sets torch's threads for the process.

        RecipeError as in `check`, and for weights that are not safetensors or lack the classifier.
        """
        from transformers import AutoModelForTokenClassification

        torch.set_num_threads(section.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        device = torch.device(device_of(section))
        self.tags = _read_tags(section, key)
        self.labels: tuple[str, ...] = self.tags.labels
        self.pooling, self.temperature = section.pooling, section.temperature
        name, key = str(section.model), f"{key}.model"
        tokenizer = network.fast_tokenizer(name, key)
        dtype = pick_dtype(section.dtype, device.type)
        self.network = network.weights(AutoModelForTokenClassification, name, key, dtype).eval().to(device)
        positions = network.positions_of(self.network, tokenizer)
        super().__init__(tokenizer, positions, device, budget_of(section))
        columns = torch.eye(2 * len(self.labels) + 1)[self.tags.columns]  # (classes of the model, ours)
        self.to_columns = columns.to(device)

    def tag(self, sentences: Sequence[Sentence]) -> list[list[Span]]:
        """Return the spans of each sentence.

        Each word gets its most probable tag, the first of equals; tags are read as IOB2 with the usual repair: an I-l
        that continues nothing begins a span. A span's score is the mean probability of its tags, to 1e-4.
        """
        names = label_list(self.labels)
        result = []
        for parts in self._parts([words for words, _ in sentences]):
            chosen = parts.max(axis=1)
            spans, _ = tags_to_spans([names[column] for column in parts.argmax(axis=1).tolist()])
            result.append([replace(s, score=round(float(chosen[s.start : s.end].mean()) / SCALE, 4)) for s in spans])
        return result

    def probabilities(self, words: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """Return (n_words, 2 L + 1) for each sentence, columns O, B-1, I-1, B-2, ... in the order of `labels`.

        Values are multiples of 1e-4; a row sums to 1 but for this rounding. A word without subwords, such as a lone
        zero-width space, is O with probability 1. Pooling "first" takes the word's first subword, "mean" and "max" take
        all; "max" is divided by its sum. Models without B- tags: see the head of this file.
        """
        return [(parts / SCALE).astype(np.float32) for parts in self._parts(words)]

    def _parts(self, sentences: Sequence[Sequence[str]]) -> list[NDArray[np.int64]]:
        """Return `probabilities` in ten-thousandths, in which equal tags are equal and sums are exact."""
        windows = self.split(sentences)
        values = np.zeros((len(windows.word), self.to_columns.shape[1]), dtype=np.float32)

        def forward(inputs: dict[str, torch.Tensor], batch: Ints) -> None:
            row, place, _ = windows.read_in(batch)
            logits = self.network(**inputs).logits[torch.from_numpy(row), torch.from_numpy(place)]
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
        begins = self.tags.implicit
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


@dataclass(frozen=True, slots=True)
class _Tags:
    """The model's classes as our labels and columns."""

    ours_of: dict[str, str | None]
    labels: tuple[str, ...]
    columns: list[int]  # for each class of the model the column: O, B-1, I-1, B-2, ...
    implicit: NDArray[np.intp]  # columns of B-l that the model has not


def _read_tags(section: Tag, key: str) -> _Tags:
    tags = _classes(section, key)
    theirs = {label for _, label in tags if label}
    for label, ours in section.labels.items():
        if label not in theirs:
            raise RecipeError(f"{key}.labels.{label}: {section.model!r} has no such label{did_you_mean(label, theirs)}")
        if ours is not None and (ours in ("", "O") or ours.strip() != ours):
            raise RecipeError(f"{key}.labels.{label} is {ours!r}; allowed: a label, or null, which drops it")
    ours_of = {label: section.labels.get(label, label) for label in theirs}
    labels = tuple(sorted({ours for ours in ours_of.values() if ours is not None}))
    if not labels:
        raise RecipeError(f"{key}.labels drops all labels of {section.model!r} ({', '.join(sorted(theirs))}); keep one")
    columns = []
    for prefix, label in tags:
        ours = ours_of.get(label)
        columns.append(0 if ours is None else 2 * labels.index(ours) + (1 if prefix == "B" else 2))
    explicit = {label for prefix, label in tags if prefix == "B"}
    # In IOB2 and IOBES every entity has a beginning: a class with an I- and no B- means that the data were IOB1.
    iob1 = any(prefix == "I" and label not in explicit for prefix, label in tags)
    known = set() if iob1 else {ours_of[label] for label in explicit}
    begins = [2 * index + 1 for index, label in enumerate(labels) if label not in known]
    return _Tags(ours_of, labels, columns, np.array(begins, dtype=np.intp))


def _classes(section: Tag, key: str) -> list[tuple[str, str]]:
    """Return prefix and label of each class of the model, in order."""
    from transformers import AutoConfig

    found = pretrained(AutoConfig, str(section.model), f"{key}.model").id2label
    try:
        tags = [_split(found[index]) for index in range(len(found))]
        if ("O", "") in tags and len(tags) > 1:
            return tags
    except (KeyError, TypeError, ValueError):
        pass
    raise RecipeError(
        f"{key}.model {section.model!r}: id2label in its config.json is {dict(list(found.items())[:9])}; allowed: "
        "O and B- I- (or E- S- L- U-, or plain) labels, numbered from 0; give a model fine-tuned for named entities"
    )


def _split(name: str) -> tuple[str, str]:
    """Return O, B or I, and the label; the prefix of a plain label is empty and counts as I. ValueError otherwise."""
    if name == "O":
        return "O", ""
    if name[1:2] != "-":
        return "", split_tag(f"I-{name}")[1]
    prefix, label = split_tag(name)
    return "B" if prefix in "BSU" else "I", label
