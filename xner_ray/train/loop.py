"""The student as a training task, and predictions.

Every process takes its share of a batch. The loss is divided by the weight of the whole batch. States of frozen layers
are made ready some batches ahead, so that rows of one length are read together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xner_ray.data.arrow import ranges
from xner_ray.data.row import SCALE
from xner_ray.data.tag_paths import best_tags
from xner_ray.errors import FatalError
from xner_ray.models import trainer
from xner_ray.models.trainer import Alone, Checkpoint, Group, Progress, State, autocast
from xner_ray.models.windows import Windows, micro_batches
from xner_ray.train.network import Student
from xner_ray.train.recipe import Fit
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.windows import Block, Goal, dealt, pools

Ints = NDArray[np.int64]
_POOL = 64  # batches whose sentences are sorted by length, which keeps padding small
_AHEAD = 1024  # sentences whose states are made ready at once; fewer at first, so that steps begin soon
_AHEAD_FIRST = 128


@dataclass(frozen=True, eq=False)
class Pool:
    """Sentences at hand, and what is learnt of them."""

    windows: Windows
    goal: Goal

    def weight(self, sentences: Ints) -> float:
        """Return the weight of all words of some sentences."""
        first, weight = self.windows.first, self.goal.weight
        return float(sum(weight[first[s] : first[s + 1]].sum(dtype=np.float64) for s in sentences))

    @property
    def sizes(self) -> Ints:
        """Number of subwords of each sentence."""
        return np.diff(self.windows.starts[self.windows.windows_of])


class Batch(NamedTuple):
    """This process's sentences of a batch. total: the weight of the whole batch; None: processes add up theirs."""

    pool: Pool
    sentences: Ints
    total: float | None


class Plan(Protocol):
    """What a student learns, and in which batches."""

    n_sentences: int

    def batches(self, epoch: int, start: int, end: int) -> Iterator[Batch]:
        """Yield this process's share of the batches of some steps of an epoch, drawn by the seed."""


class Held:
    """Sentences that each process has whole; each takes every n-th of a batch."""

    def __init__(self, pool: Pool, settings: Fit, group: Group | None = None) -> None:
        self.pool, self._settings, self._group = pool, settings, group or Alone()
        self.n_sentences = len(pool.windows)

    def batches(self, epoch: int, start: int, end: int) -> Iterator[Batch]:
        drawn = np.random.default_rng([self._settings.seed, epoch])
        edges = np.minimum(
            np.arange(steps_of(self.n_sentences, self._settings) + 1) * self._settings.batch_sentences, self.n_sentences
        )
        for sentences in draw(self.pool.sizes, edges, drawn)[start:end]:
            yield self.batch(sentences)

    def batch(self, sentences: Ints) -> Batch:
        """Return this process's share of a batch."""
        return Batch(self.pool, sentences[self._group.rank :: self._group.size], self.pool.weight(sentences))


class Streamed:
    """Sentences in blocks, of which each process reads its own.

    n_sentences: of all processes. read: makes a pool of some blocks.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        read: Callable[[Sequence[Block]], Pool],
        settings: Fit,
        group: Group | None = None,
    ) -> None:
        self._read, self._settings, self._group = read, settings, group or Alone()
        self.n_sentences = sum(block.n_rows for block in blocks)
        self._own = dealt(blocks, settings.seed, self._group.rank, self._group.size)

    def batches(self, epoch: int, start: int, end: int) -> Iterator[Batch]:
        settings, group = self._settings, self._group
        seeds = [settings.seed, epoch, group.rank]
        n_steps = steps_of(self.n_sentences, settings)
        room = -(-settings.shuffle_sentences // group.size)
        for number, plan in enumerate(pools(self._own, n_steps, room, np.random.default_rng(seeds))):
            if plan.end <= start or plan.first >= end:
                continue
            pool = self._read(plan.blocks)
            edges = np.arange(plan.end - plan.first + 1) * len(pool.windows) // max(1, plan.end - plan.first)
            drawn = draw(pool.sizes, edges, np.random.default_rng([*seeds, number]))
            for sentences in drawn[max(0, start - plan.first) : end - plan.first]:
                yield Batch(pool, sentences, pool.weight(sentences) if group.size == 1 else None)
            del pool  # before the next one is read


def draw(sizes: Ints, edges: Ints, drawn: np.random.Generator) -> list[Ints]:
    """Draw batches of sentences of similar length. edges: [batches + 1], the sentences in those before each."""
    order = drawn.permutation(len(sizes))
    batches = []
    for start in range(0, len(edges) - 1, _POOL):
        own = edges[start : start + _POOL + 1]
        near = order[own[0] : own[-1]]
        near = near[np.argsort(sizes[near], kind="stable")]
        batches += np.split(near, own[1:-1] - own[0])
    return [batches[index] for index in drawn.permutation(len(batches))]


@dataclass
class StudentTask:
    """A student and what it learns, as a `trainer.Task`."""

    model: Student
    plan: Plan
    settings: Fit
    cache: FrozenStateCache
    group: Group

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return steps_of(self.plan.n_sentences, self.settings)

    @property
    def n_parts(self) -> int:
        """Checkpoints of an epoch."""
        return parts_of(self.n_steps, self.settings)

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        settings, over_frozen = self.settings, self.model.frozen > 0
        body, head = self.model.parameters()
        return [
            (body, settings.learning_rate or (5e-4 if over_frozen else 2e-5)),
            (head, settings.head_learning_rate or (2e-3 if over_frozen else 1e-4)),
        ]

    def batches(self, epoch: int, part: int) -> Iterator[Batch]:
        """Yield the batches of a part, with the states of their sentences made ready some batches ahead."""
        start, end = (round(self.n_steps * edge / self.n_parts) for edge in (part, part + 1))
        ahead: list[Batch] = []
        room = _AHEAD_FIRST
        for batch in self.plan.batches(epoch, start, end):
            if ahead and (ahead[0].pool is not batch.pool or sum(len(each.sentences) for each in ahead) >= room):
                yield from self._ready(ahead)
                ahead, room = [], min(2 * room, _AHEAD)
            ahead.append(batch)
        yield from self._ready(ahead)

    def _ready(self, ahead: Sequence[Batch]) -> Sequence[Batch]:
        if ahead:
            mine = np.concatenate([batch.sentences for batch in ahead])
            _prepare(self.model, ahead[0].pool.windows, mine, self.settings, self.cache)
        return ahead

    def seed(self, part: int) -> int:
        drawn = np.random.SeedSequence([self.settings.seed, part, self.group.rank]).generate_state(1)
        return int(drawn[0])

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """Yield the weighted cross-entropies of this process's micro-batches, divided by the weight of the batch."""
        goal, total = batch.pool.goal, batch.total
        if total is None:
            weight = torch.tensor(batch.pool.weight(batch.sentences), dtype=torch.float64, device=self.model.device)
            self.group.add([weight])
            total = float(weight)
        for words, logits in _logits(self.model, batch.pool.windows, batch.sentences, self.settings, self.cache):
            wanted = torch.from_numpy(goal.rows(words, logits.shape[1])).to(logits.device)
            weight = torch.from_numpy(goal.weight[words]).to(logits.device)
            yield nn.functional.cross_entropy(logits, wanted, reduction="none") @ weight / max(total, 1e-9)

    def entry(self, losses: Sequence[float]) -> dict[str, Any]:
        return {"loss": round(float(np.mean(losses)), 6)}


def steps_of(n_sentences: int, settings: Fit) -> int:
    """Return the number of steps of an epoch."""
    return math.ceil(n_sentences / settings.batch_sentences)


def parts_of(n_steps: int, settings: Fit) -> int:
    """Return the number of parts of an epoch, one a checkpoint; a part has at least one step."""
    return min(settings.checkpoints_per_epoch, n_steps)


def _prepare(student: Student, windows: Windows, sentences: Ints, settings: Fit, cache: FrozenStateCache) -> None:
    rows = ranges(windows.windows_of[sentences], np.diff(windows.windows_of)[sentences])
    with autocast(student.device, settings.dtype):
        cache.prepare(student, windows, rows, settings.micro_batch_tokens)


def _logits(
    student: Student, windows: Windows, sentences: Ints, settings: Fit, cache: FrozenStateCache | None
) -> Iterator[tuple[Ints, Tensor]]:
    """Yield the words read in each micro-batch of the sentences, and their logits (words, classes)."""
    rows = ranges(windows.windows_of[sentences], np.diff(windows.windows_of)[sentences])
    for chosen in micro_batches(windows.lengths[rows], settings.micro_batch_tokens):
        batch = rows[chosen].tolist()
        with autocast(student.device, settings.dtype):
            states = None if cache is None else cache.states(student, windows, batch, settings.micro_batch_tokens)
            logits, words = student.logits(windows, batch, states)
        yield words, logits


def fit(
    student: Student,
    plan: Plan,
    settings: Fit,
    *,
    validate: Callable[[], float] | None = None,
    group: Group | None = None,
    resume: State | None = None,
    checkpoint: Checkpoint = lambda progress, state: None,
    cache: FrozenStateCache | None = None,
    stepped: Callable[[float], None] = lambda loss: None,
) -> Progress:
    """Train the student; see `trainer.fit`. cache: by default one as the settings say."""
    group = group or Alone()
    cache = cache_of(settings) if cache is None else cache
    task = StudentTask(student, plan, settings, cache, group)
    return trainer.fit(
        task,
        settings,
        n_steps=task.n_steps,
        n_parts=task.n_parts,
        validate=validate,
        patience=settings.patience,
        group=group,
        resume=resume,
        checkpoint=checkpoint,
        stepped=stepped,
    )


def cache_of(settings: Fit) -> FrozenStateCache:
    """Return an empty cache of the size that a recipe states."""
    return FrozenStateCache(settings.cache_gb * 1e9, settings.cache_disk_gb * 1e9)


@torch.inference_mode()
def predict(
    student: Student,
    windows: Windows,
    settings: Fit,
    *,
    group: Group | None = None,
    cache: FrozenStateCache | None = None,
) -> Ints:
    """Return each word's class in its sentence's most probable sequence (`data/tag_paths.py`); O without a subword.

    Probabilities are rounded to 1e-4, as those of a run's taggers are.
    """
    group = group or Alone()
    student.train(False)
    mine = np.arange(len(windows))[group.rank :: group.size]
    result, finite = np.full(int(windows.first[-1]), -1), True
    # Sorted by length, so that parts of equal memory have little padding
    mine = mine[np.argsort(np.diff(windows.starts[windows.windows_of])[mine], kind="stable")]
    outside = student.names.index("O")
    for start in range(0, len(mine), _AHEAD):
        part = mine[start : start + _AHEAD]
        if cache is not None:
            _prepare(student, windows, part, settings, cache)
        ordered = np.sort(part)
        sizes = np.diff(windows.first)[ordered]
        own = ranges(windows.first[ordered], sizes)  # the words of these sentences, ascending
        parts = np.zeros((len(own), len(student.names)), dtype=np.int64)
        parts[:, outside] = SCALE
        for words, logits in _logits(student, windows, part, settings, cache):
            found = torch.softmax(logits.float(), dim=1).cpu().numpy()
            finite = finite and bool(np.isfinite(found).all())
            parts[np.searchsorted(own, words)] = np.rint(np.nan_to_num(found) * SCALE)
        result[own] = best_tags(parts, np.cumsum([0, *sizes]), student.names)
    gathered = group.gather((result, finite))
    if not all(sound for _, sound in gathered):  # in all processes alike, or some would wait for the others
        raise FatalError(
            "fit: the student's probabilities are no finite numbers; lower the learning rates, or set dtype: float32"
        )
    classes: Ints = np.max([one for one, _ in gathered], axis=0)  # one process reads a sentence
    return classes
