"""The student as a training task, and predictions.

Every process takes every n-th sentence of a batch. The loss is divided by the weight of the whole batch. States of
frozen layers are made ready some batches ahead, so that rows of one length are read together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xner_ray.data.arrow import ranges
from xner_ray.models import trainer
from xner_ray.models.trainer import Alone, Checkpoint, Group, Progress, State, autocast
from xner_ray.models.windows import Windows, micro_batches
from xner_ray.train.network import Student
from xner_ray.train.recipe import Fit
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.windows import Goal

Ints = NDArray[np.int64]
_POOL = 64  # batches whose sentences are sorted by length, which keeps padding small
_AHEAD = 1024  # sentences whose states are made ready at once; fewer at first, so that steps begin soon
_AHEAD_FIRST = 128


@dataclass
class StudentTask:
    """A student and what it learns, as a `trainer.Task`; a batch holds the indices of its sentences."""

    model: Student
    windows: Windows
    goal: Goal
    settings: Fit
    cache: FrozenStateCache
    group: Group

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return steps_of(len(self.windows), self.settings)

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

    def batches(self, epoch: int, part: int) -> list[Ints]:
        """Draw batches of sentences of similar length."""
        draw = np.random.default_rng([self.settings.seed, epoch])
        order = draw.permutation(len(self.windows))
        sizes = np.diff(self.windows.starts[self.windows.windows_of])
        size = self.settings.batch_sentences
        batches = []
        for start in range(0, len(order), _POOL * size):
            near = order[start : start + _POOL * size]
            near = near[np.argsort(sizes[near], kind="stable")]
            batches += [near[at : at + size] for at in range(0, len(near), size)]
        start, end = (round(self.n_steps * edge / self.n_parts) for edge in (part, part + 1))
        return [batches[index] for index in draw.permutation(len(batches))[start:end]]

    def seed(self, part: int) -> int:
        drawn = np.random.SeedSequence([self.settings.seed, part, self.group.rank]).generate_state(1)
        return int(drawn[0])

    def ready(self, batches: Sequence[Ints]) -> Iterator[Ints]:
        """Yield the batches, with the states of this process's sentences made ready."""
        start, room = 0, _AHEAD_FIRST
        while start < len(batches):
            n = max(1, room * self.group.size // self.settings.batch_sentences)
            ahead, start, room = batches[start : start + n], start + n, min(2 * room, _AHEAD)
            mine = np.concatenate([batch[self.group.rank :: self.group.size] for batch in ahead])
            _prepare(self.model, self.windows, mine, self.settings, self.cache)
            yield from ahead

    def losses(self, batch: Ints) -> Iterator[Tensor]:
        """Yield the weighted cross-entropies of this process's micro-batches, divided by the weight of the batch."""
        goal, first = self.goal, self.windows.first
        total = max(float(sum(goal.weight[first[s] : first[s + 1]].sum(dtype=np.float64) for s in batch)), 1e-9)
        mine = batch[self.group.rank :: self.group.size]
        for words, logits in _logits(self.model, self.windows, mine, self.settings, self.cache):
            wanted = torch.from_numpy(goal.rows(words, logits.shape[1])).to(logits.device)
            weight = torch.from_numpy(goal.weight[words]).to(logits.device)
            yield nn.functional.cross_entropy(logits, wanted, reduction="none") @ weight / total

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
    windows: Windows,
    goal: Goal,
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
    task = StudentTask(student, windows, goal, settings, cache, group)
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
    """Return the most probable class of each word of all sentences; O for a word without a subword."""
    group = group or Alone()
    student.train(False)
    mine = np.arange(len(windows))[group.rank :: group.size]
    result = np.full(int(windows.first[-1]), -1)
    # Sorted by length, so that parts of equal memory have little padding
    mine = mine[np.argsort(np.diff(windows.starts[windows.windows_of])[mine], kind="stable")]
    for start in range(0, len(mine), _AHEAD):
        part = mine[start : start + _AHEAD]
        if cache is not None:
            _prepare(student, windows, part, settings, cache)
        for words, logits in _logits(student, windows, part, settings, cache):
            result[words] = logits.argmax(dim=1).cpu().numpy()
    found: Ints = np.max(group.gather(result), axis=0)  # at most one process reads a word
    found[found < 0] = student.names.index("O")
    return found
