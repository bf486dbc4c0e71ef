"""The training loop and the student's predictions, on one process or on several that share every step.

All processes know all sentences. A step's batch is drawn from (seed, epoch) alone; each process takes every n-th
sentence of it, the loss is divided by the weight of the whole batch, and gradients are summed: two processes make the
steps of one, but for rounding and dropout. A checkpoint holds all that the next step needs, so that a training that was
ended goes on as if it had not been.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xner_ray.errors import FatalError
from xner_ray.train.network import Student
from xner_ray.train.recipe import Fit
from xner_ray.train.windows import Goal, Windows

Ints = NDArray[np.int64]
_POOL = 64  # batches whose sentences are sorted by length, so that little is padded


class Group(Protocol):
    """The processes that train together."""

    rank: int
    size: int

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over all processes."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in order of ranks; in each of them."""
        ...


class Alone:
    """One process."""

    rank, size = 0, 1

    def add(self, tensors: Sequence[Tensor]) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        return [value]


@dataclass
class Progress:
    """How far a training is: all that is kept at a checkpoint, next to weights and optimizer.

    checkpoint: number of those made. history: one entry each (epoch, loss, f1 where there is validation). best: number
    of the one with the highest F1, or the last. stopped: by patience.
    """

    checkpoint: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    stopped: bool = False


State = dict[str, Any]


class FrozenStateCache:
    """States of frozen layers by a row's subwords, up to so many bytes; what does not fit is computed again.

    Students may share it: those with the same frozen layers share their states.
    """

    def __init__(self, n_bytes: float) -> None:
        self._left = n_bytes
        self._found: dict[tuple[bytes, bool, bytes], Tensor] = {}

    def states(self, student: Student, pieces: Windows, rows: Sequence[int]) -> list[Tensor] | None:
        """Of each row (subwords, dim); None if the student runs whole."""
        if not student.splits:
            return None
        half = student.frozen_digest, torch.is_autocast_enabled(student.device.type)
        keys = [(*half, pieces.ids[pieces.starts[row] : pieces.starts[row + 1]].tobytes()) for row in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._found}
        made = dict(zip(missing, student.states(pieces, list(missing.values())), strict=True)) if missing else {}
        result = [self._found[key] if key in self._found else made[key] for key in keys]
        for key, state in made.items():
            size = state.numel() * state.element_size()
            if size <= self._left:
                self._found[key] = state
                self._left -= size
        return result


def fit(
    student: Student,
    pieces: Windows,
    goal: Goal,
    settings: Fit,
    *,
    validate: Callable[[], float] | None = None,
    group: Group | None = None,
    resume: State | None = None,
    checkpoint: Callable[[Progress, Callable[[], State]], None] = lambda progress, state: None,
    kept: FrozenStateCache | None = None,
) -> Progress:
    """Train; the student ends with the weights of the best checkpoint, of the last one without `validate`.

    validate: the F1 of the student as it is, the same in each process. checkpoint: called in each process after every
    part of an epoch, with a function that gives what `resume` takes. FatalError if the loss is no number.
    """
    group = group or Alone()
    kept = FrozenStateCache(settings.cache_gb * 1e9) if kept is None else kept
    optimizer, schedule, n_steps = _optimizer(student, settings, len(pieces))
    progress, best = Progress(), student.state()
    if resume is not None:
        progress, best = Progress(**copy.deepcopy(resume["progress"])), resume["best"]
        student.set_state(resume["weights"])
        optimizer.load_state_dict(copy.deepcopy(resume["optimizer"]))  # or its tensors would be stepped on
        schedule.load_state_dict(resume["schedule"])
    per_epoch = min(settings.checkpoints_per_epoch, n_steps)
    edges = [round(n_steps * part / per_epoch) for part in range(per_epoch + 1)]
    while progress.checkpoint < settings.epochs * per_epoch and not progress.stopped:
        epoch, part = divmod(progress.checkpoint, per_epoch)
        # dropout of a part follows from its number, so that a resumed training draws the same
        drawn = np.random.SeedSequence([settings.seed, progress.checkpoint, group.rank]).generate_state(1)
        torch.manual_seed(int(drawn[0]))
        batches = _batches(pieces, settings, epoch)[edges[part] : edges[part + 1]]
        student.train()
        losses = [_step(student, pieces, goal, settings, batch, group, optimizer, schedule, kept) for batch in batches]
        progress.checkpoint += 1
        entry: dict[str, Any] = {
            "epoch": round(epoch + (part + 1) / per_epoch, 4),
            "loss": round(float(np.mean(losses)), 6),
        }
        if validate is not None:
            student.train(False)
            entry["f1"] = validate()
        progress.history.append(entry)
        if validate is None or entry["f1"] > max((old["f1"] for old in progress.history[:-1]), default=-1.0):
            progress.best, best = progress.checkpoint, student.state()
        patience = settings.patience
        progress.stopped = patience is not None and progress.checkpoint - progress.best >= patience
        checkpoint(progress, partial(_state, student, progress, best, optimizer, schedule))
    student.set_state(best)
    student.train(False)
    return progress


def _state(
    student: Student, progress: Progress, best: dict[str, Tensor], optimizer: torch.optim.Optimizer, schedule: Any
) -> State:
    return {
        "progress": copy.deepcopy(vars(progress)),
        "weights": student.state(),
        "best": best,
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "schedule": schedule.state_dict(),
    }


def _optimizer(student: Student, settings: Fit, n_sentences: int) -> tuple[torch.optim.Optimizer, Any, int]:
    body, head = student.parameters()
    over_frozen = student.frozen > 0
    rates = (
        settings.learning_rate or (5e-4 if over_frozen else 2e-5),
        settings.head_learning_rate or (2e-3 if over_frozen else 1e-4),
    )
    groups = [
        {
            "params": [p for p in part if (p.ndim > 1) == decays],
            "lr": rate,
            "weight_decay": settings.weight_decay * decays,
        }
        for part, rate in zip((body, head), rates, strict=True)
        for decays in (True, False)  # norms and biases do not decay
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    n_steps = math.ceil(n_sentences / settings.batch_sentences)
    total = n_steps * settings.epochs
    warm = max(1, round(settings.warmup * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm)))
    )
    return optimizer, schedule, n_steps


def _batches(pieces: Windows, settings: Fit, epoch: int) -> list[Ints]:
    """Sentences of each step of an epoch: drawn at random, those of a step of about one length."""
    draw = np.random.default_rng([settings.seed, epoch])
    order = draw.permutation(len(pieces))
    sizes = np.diff(pieces.starts[pieces.rows_of])
    pool = _POOL * settings.batch_sentences
    batches = []
    for start in range(0, len(order), pool):
        near = order[start : start + pool]
        near = near[np.argsort(sizes[near], kind="stable")]
        batches += [near[at : at + settings.batch_sentences] for at in range(0, len(near), settings.batch_sentences)]
    return [batches[index] for index in draw.permutation(len(batches))]


def _step(
    student: Student,
    pieces: Windows,
    goal: Goal,
    settings: Fit,
    batch: Ints,
    group: Group,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    kept: FrozenStateCache,
) -> float:
    """One step; returns the loss of the whole batch."""
    total = float(sum(goal.weight[pieces.first[s] : pieces.first[s + 1]].sum(dtype=np.float64) for s in batch))
    optimizer.zero_grad()
    loss = torch.zeros((), device=student.device)
    for rows in micro_batches(pieces, batch[group.rank :: group.size], settings.micro_batch_tokens):
        with _autocast(student, settings):
            logits, words = student.logits(pieces, rows, kept.states(student, pieces, rows))
        wanted = torch.from_numpy(goal.rows(words, logits.shape[1])).to(logits.device)
        weight = torch.from_numpy(goal.weight[words]).to(logits.device)
        part = nn.functional.cross_entropy(logits, wanted, reduction="none") @ weight / max(total, 1e-9)
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.detach()
    learning = [parameter for half in student.parameters() for parameter in half]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    group.add([parameter.grad for parameter in learning if parameter.grad is not None])
    group.add([loss])
    if not math.isfinite(loss):
        raise FatalError(
            "fit: the loss is no number any more; give smaller fit.learning_rate and fit.head_learning_rate, or "
            "fit.dtype: float32"
        )
    nn.utils.clip_grad_norm_(learning, settings.clip_norm)
    optimizer.step()
    schedule.step()
    return float(loss)


def _autocast(student: Student, settings: Fit) -> torch.autocast:
    wanted = settings.dtype == "bfloat16" or (settings.dtype == "auto" and student.device.type == "cuda")
    return torch.autocast(student.device.type, dtype=torch.bfloat16, enabled=wanted)


def micro_batches(pieces: Windows, sentences: Ints, budget: int) -> Iterator[list[int]]:
    """Rows of the sentences, longest first, so many at a time that rows x longest fit the budget; one at least."""
    rows = np.concatenate(
        [np.arange(pieces.rows_of[s], pieces.rows_of[s + 1]) for s in sentences] or [np.zeros(0, int)]
    )
    sizes = pieces.lengths[rows]
    order = rows[np.argsort(-sizes, kind="stable")].tolist()
    start = 0
    while start < len(order):
        longest = int(pieces.lengths[order[start]])
        n = max(1, budget // longest)
        yield order[start : start + n]
        start += n


@torch.inference_mode()
def predict(
    student: Student,
    pieces: Windows,
    settings: Fit,
    *,
    group: Group | None = None,
    kept: FrozenStateCache | None = None,
) -> Ints:
    """The most probable class of each word of all sentences; O for a word that has no subword."""
    group = group or Alone()
    student.train(False)
    mine = np.arange(len(pieces))[group.rank :: group.size]
    result = np.full(int(pieces.first[-1]), -1)
    for rows in micro_batches(pieces, mine, settings.micro_batch_tokens):
        with _autocast(student, settings):
            logits, words = student.logits(pieces, rows, None if kept is None else kept.states(student, pieces, rows))
        result[words] = logits.argmax(dim=1).cpu().numpy()
    found: Ints = np.max(group.gather(result), axis=0)  # a word is read by one process, or by none
    found[found < 0] = student.names.index("O")
    return found
