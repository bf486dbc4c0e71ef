"""Any Hugging Face token classifier as a tagger of given words, for the source side and for the target side.

The softmax over a subword's classes becomes columns O, B-1, I-1, B-2, ... of our labels; a word's row is pooled from
those of its subwords. Nothing is cut: what the model cannot read at once is windowed, and a word that alone is longer
than that is windowed between its subwords. Rows are rounded to 1e-4, which hides in float32 that a sentence's last bits
depend on its micro-batch; in the 16-bit formats they differ by more.

A model has no word for the start of an entity if it was trained on IOB1 tags (`B-` only between two neighbours of one
class, so the published XLM-R of CoNLL-2003 has no B-PER at all) or on plain labels. There an `I-l` that does not follow
a word of class l begins an entity, so its probability is counted as that of `B-l`. What such a model cannot tell is
where one entity ends and a neighbour of the same class begins: they come out as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.data.arrow import offsets
from xner_ray.data.row import SCALE
from xner_ray.data.spans import Span, label_list, split_tag, tags_to_spans
from xner_ray.errors import FatalError, RecipeError, did_you_mean
from xner_ray.models import network as encoder_network
from xner_ray.models.device import Timed, device_of, pick_dtype
from xner_ray.models.hub import load_arguments, pinned
from xner_ray.models.windows import micro_batches, padded, windows
from xner_ray.recipe.sections import Resolved, Tag


def check(section: Tag, key: str = "tag") -> dict[str, str | None]:
    """`section.labels` in full: each label of the model and ours, sorted. Reads no weights, but the tokenizer.

    RecipeError, with the section's `key` in the recipe, if the model is no token classifier, its tags are not O and
    B- I- (or E- S- L- U-, or plain labels), `labels` maps a label that it does not have or drops all, or its tokenizer
    is not a fast one.
    """
    tags = _read_tags(section, key)
    _tokenizer(section, key)
    return dict(sorted(tags.ours_of.items()))


def resolve(section: Tag, key: str) -> Resolved:
    """Pin the model, and complete its map of labels; errors as of `check`."""
    section, identity = pinned(section)
    return Resolved(section.model_copy(update={"labels": check(section, key)}), {"model": identity})


class HfTagger(Timed):
    """A token classifier, its tokenizer and a device.

    `labels` are those that it can give, after the map. `tokens` counts the subwords read since the start, special ones
    and overlaps of windows included. `micro_batch_tokens` bounds rows x longest row of one forward pass (a longer
    single sentence goes alone; a CPU takes no more than `CPU_TOKENS`) and may be changed between calls;
    torch.OutOfMemoryError passes through.
    """

    def __init__(self, section: Tag, key: str = "tag") -> None:
        """RecipeError as of `check`, and for weights that are not safetensors or lack the classifier.

        `dtype` auto is float32 on a CPU and bfloat16 on a GPU. `threads` sets torch's for the whole process.
        """
        torch.set_num_threads(section.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        self.device = torch.device(device_of(section))
        self.tags = _read_tags(section, key)
        self.labels: tuple[str, ...] = self.tags.labels
        self.pooling = section.pooling
        self.temperature = section.temperature
        self.micro_batch_tokens = section.micro_batch_tokens
        self.tokens = 0
        self.tokenizer = _tokenizer(section, key)
        encoder_network.separate_words(self.tokenizer)
        self.spelt = encoder_network.spelt_specials(self.tokenizer)
        self.network = _network(section, key, pick_dtype(section.dtype, self.device.type))
        self.positions = encoder_network.positions_of(self.network, self.tokenizer)
        self.network.to(self.device)
        columns = torch.eye(2 * len(self.labels) + 1)[self.tags.columns]  # (classes of the model, ours)
        self.to_columns = columns.to(self.device)

    def tag(self, sentences: Sequence[tuple[Sequence[str], Sequence[bool]]]) -> list[list[Span]]:
        """Spans of each sentence; a sentence is its words, and for each whether a space follows it (not used).

        The tags are each word's most probable ones, the first of equals, read as IOB2 with the usual repair: an I-l
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
        """For each sentence (n_words, 2 L + 1), columns O, B-1, I-1, B-2, ... in the order of `labels`.

        Multiples of 1e-4; a row sums to 1 but for this rounding. A word without subwords, as a lone zero-width space,
        is O with probability 1. Pooling "first" takes the word's first subword, "mean" and "max" all of them, however
        long the word; "max" is divided by its sum. Models without B- tags: see the head of this file.
        """
        return [(parts / SCALE).astype(np.float32) for parts in self._parts(words)]

    def _parts(self, words: Sequence[Sequence[str]]) -> list[NDArray[np.int64]]:
        """The same in ten-thousandths, in which equal tags are equal and sums are exact."""
        result = []
        for sentence, (word_of, rows) in zip(words, self._read(words), strict=True):
            parts = np.rint(self._pool(word_of, rows, len(sentence)) * SCALE).astype(np.int64)
            self._begin(parts)
            result.append(parts)
        return result

    def _pool(self, word_of: NDArray[np.intp], rows: NDArray[np.float32], n_words: int) -> NDArray[np.float64]:
        """Rows of words from the rows of their subwords, in order."""
        result = np.zeros((n_words, rows.shape[1]))
        result[:, 0] = 1.0
        present, first = np.unique(word_of, return_index=True)
        pool = {"mean": np.add, "max": np.maximum}.get(self.pooling)
        pooled = pool.reduceat(rows, first, dtype=np.float64) if pool else rows[first].astype(np.float64)
        result[present] = pooled / pooled.sum(axis=1, keepdims=True)
        return result

    def _begin(self, parts: NDArray[np.int64]) -> None:
        """Where the model has no word for it: I-l after a word whose best tag is not of class l counts as B-l.

        From left to right, because a B-l so gained can be what makes l the best class for the next word.
        """
        begins, last = self.tags.implicit, -1
        for row in parts if len(begins) else ():
            moved = begins[begins != last]
            row[moved] = np.minimum(row[moved] + row[moved + 1], SCALE)
            row[moved + 1] = 0
            best = int(row.argmax())
            last = best - 1 + best % 2  # the column of its B-l; none of them for O

    @torch.inference_mode()
    def _read(self, words: Sequence[Sequence[str]]) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """For each sentence the word and the probabilities of each subword."""
        found: list[tuple[NDArray[np.intp], NDArray[np.float32]]] = []
        pieces: list[Window] = []
        options: dict[str, Any] = {"is_split_into_words": True, "truncation": False, "padding": False, "verbose": False}
        lists = [list(sentence) for sentence in words]
        encodings = self.tokenizer(lists, split_special_tokens=True, **options).encodings if lists else []
        for index, encoding in enumerate(encodings):
            word_of, own = pieces_of(index, encoding.ids, encoding.word_ids, self.positions, self.spelt)
            found.append((word_of, np.zeros((len(word_of), self.to_columns.shape[1]), dtype=np.float32)))
            pieces += own
        for batch in micro_batches(pieces, self.micro_batch_tokens, self.device):
            with self.in_model():
                probabilities = self._forward(batch)
            for piece, rows in zip(batch, probabilities, strict=True):
                found[piece.sentence][1][piece.rows] = rows[piece.places]
        self.tokens += sum(len(piece.ids) for piece in pieces)  # only now: a call that ran out of memory is made again
        return found

    def _forward(self, batch: list[Window]) -> NDArray[np.float32]:
        """Probabilities (rows, places, columns). The longest piece comes first."""
        logits = self.network(**padded(batch, self.tokenizer.pad_token_id, self.device)).logits
        rows = torch.softmax(logits.float() / self.temperature, dim=-1) @ self.to_columns
        result: NDArray[np.float32] = rows.cpu().numpy()
        if not np.isfinite(result).all():
            raise FatalError("the tagger's probabilities are no numbers; give its section of the recipe dtype: float32")
        return result


@dataclass(frozen=True, slots=True)
class Window:
    """One row of a micro-batch: a sentence, or a window of one."""

    sentence: int
    ids: list[int]  # special tokens included
    places: slice  # of `ids`: the subwords whose probabilities come from here,
    rows: slice  # and which of the sentence's these are


def pieces_of(
    sentence: int, ids: list[int], word_ids: list[int | None], positions: int, spelt: Mapping[int, int]
) -> tuple[NDArray[np.intp], list[Window]]:
    """The word of each subword of one tokenised sentence, and its rows: one if it fits, else its windows."""
    every = np.array([-1 if word is None else word for word in word_ids], dtype=np.intp)
    inner = np.flatnonzero(every >= 0)
    word_of = every[inner]
    if not len(inner):
        return word_of, []
    before, after = ids[: inner[0]], ids[inner[-1] + 1 :]
    inner_ids = [spelt.get(ids[place], ids[place]) for place in inner]
    room = positions - len(before) - len(after)
    # A window begins and ends between words, but for a word longer than a window, which is taken apart.
    counts = [part for count in np.bincount(word_of).tolist() for part in ([count] if count <= room else [1] * count)]
    edges = offsets(counts).tolist()
    pieces = []
    for window in windows(counts, room):
        start, end, first, last = (edges[border] for border in window)
        if first < last:
            places = slice(len(before) + first - start, len(before) + last - start)
            pieces.append(Window(sentence, before + inner_ids[start:end] + after, places, slice(first, last)))
    return word_of, pieces


@dataclass(frozen=True, slots=True)
class _Tags:
    """What the model's classes are to us."""

    ours_of: dict[str, str | None]
    labels: tuple[str, ...]
    columns: list[int]  # for each class of the model the column: O, B-1, I-1, B-2, ...
    implicit: NDArray[np.intp]  # columns of B-l where the model leaves it to us to see that an entity begins


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
    # In IOB2 and IOBES what goes on has begun: a class with an I- and no B- means that the data were IOB1.
    iob1 = any(prefix == "I" and label not in explicit for prefix, label in tags)
    known = set() if iob1 else {ours_of[label] for label in explicit}
    begins = [2 * index + 1 for index, label in enumerate(labels) if label not in known]
    return _Tags(ours_of, labels, columns, np.array(begins, dtype=np.intp))


def _classes(section: Tag, key: str) -> list[tuple[str, str]]:
    """Prefix and label of each class of the model, in order."""
    from transformers import AutoConfig

    found = _load(AutoConfig, section, key).id2label
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
    """O, B or I, and the label; the prefix is empty for a plain label, which counts as I. ValueError if it is none."""
    if name == "O":
        return "O", ""
    if name[1:2] != "-":
        return "", split_tag(f"I-{name}")[1]
    prefix, label = split_tag(name)
    return "B" if prefix in "BSU" else "I", label


def _load(loader: Any, section: Tag, key: str, **options: Any) -> Any:
    """Safetensors only, and no code from the model; what transformers has against it as a RecipeError."""
    name, where = load_arguments(str(section.model))
    try:
        with encoder_network.quiet():
            return loader.from_pretrained(name, trust_remote_code=False, **where, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(f"{key}.model {section.model!r} cannot be used: {error}") from error


def _tokenizer(section: Tag, key: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = _load(AutoTokenizer, section, key)
    if not tokenizer.is_fast:
        raise RecipeError(f"{key}.model {section.model!r} has no fast tokenizer, which alone tells words apart")
    return tokenizer


def _network(section: Tag, key: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForTokenClassification as Model

    network, info = _load(Model, section, key, dtype=dtype, use_safetensors=True, output_loading_info=True)
    if missing := sorted(name for name in info["missing_keys"] if "pooler" not in name):
        raise RecipeError(f"{key}.model {section.model!r}: {len(missing)} weights are missing, as {missing[0]}")
    return network.eval()
