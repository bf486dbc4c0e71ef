"""The training core: optimizer, schedule, steps, micro-batches, checkpoints, processes.

A task (`Task`) says which weights learn, from which batches and by which loss. Its batches and its dropout follow from
the seed and the number of the part alone, and a checkpoint after each part holds all that the next part needs, so that
a resumed training ends in the weights of an undisturbed one.

Several processes share every step: each computes the losses of its share of a batch, and gradients are summed. Two
processes then take the steps of one, but for rounding and dropout.
"""

from __future__ import annotations

import copy
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from xner_ray.errors import FatalError, RunFolderError, one_line

State = dict[str, Any]
Batch = TypeVar("Batch")


def read_state(data: bytes, place: str) -> State:
    """Return the state of a checkpoint. RunFolderError if it is damaged.

    Only tensors and plain containers are unpickled. Its sums are compared first, those of torch's file format: a
    flipped bit would train another model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            if (name := parts.testzip()) is not None:
                raise ValueError(f"{name} has another sum")
        state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever damaged bytes make zipfile and the unpickler raise
        why = one_line(f"{type(error).__name__}: {error}", 200)
        raise RunFolderError(f"{place}: no complete checkpoint ({why}); --fresh discards it") from None
    return state


class Group(Protocol):
    """The processes that train together."""

    rank: int
    size: int

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process in the order of ranks, in each process."""


class Alone:
    """A group of one process."""

    rank, size = 0, 1

    def add(self, tensors: Sequence[Tensor]) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Settings(Protocol):
    """The keys of a recipe's section `fit` that the core reads."""

    epochs: int
    weight_decay: float
    warmup: float
    clip_norm: float


class Trainable(Protocol):
    """A model. module: its parameters that require a gradient learn."""

    module: nn.Module

    def train(self, training: bool = True) -> None:
        """Switch dropout on or off."""


class Task(Protocol[Batch]):
    """What is trained: a model, its batches and a loss."""

    @property
    def model(self) -> Trainable: ...

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return the parameters that learn, with their learning rates."""

    def batches(self, epoch: int, part: int) -> Iterable[Batch]:
        """Return the batches of a part of an epoch, one a step; each process has as many."""

    def seed(self, part: int) -> int:
        """Return the seed of the dropout in a part, counted through all epochs."""

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """Yield the loss of each micro-batch in this process's share; over all processes they add up to the batch's."""

    def entry(self, losses: Sequence[float]) -> dict[str, Any]:
        """Return what the history says about a part, given the losses of its batches."""


@dataclass
class Progress:
    """How far a training is.

    checkpoint: how many were made. history: an entry for each (epoch, loss, f1 with validation). best: the number of
    the checkpoint with the highest F1, or the last one. stopped: by patience.
    """

    checkpoint: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    stopped: bool = False


Checkpoint = Callable[[Progress, Callable[[], State]], None]


def fit(
    task: Task[Batch],
    settings: Settings,
    *,
    n_steps: int,
    n_parts: int = 1,
    validate: Callable[[], float] | None = None,
    patience: int | None = None,
    group: Group | None = None,
    resume: State | None = None,
    checkpoint: Checkpoint = lambda progress, state: None,
    stepped: Callable[[float], None] = lambda loss: None,
) -> Progress:
    """Train; the module ends with the weights of the best checkpoint, without `validate` of the last one.

    n_steps, n_parts: steps and parts of an epoch. validate: returns the F1 of the module as it is, the same in each
    process. patience: checkpoints without a better F1 after which training stops. checkpoint: called in each process
    after each part, with a function that returns what `resume` takes. stepped: called after each step with the loss of
    its batch. FatalError if the loss is not finite.
    """
    group = group or Alone()
    optimizer, schedule = optimizer_of(task.groups(), settings, n_steps * settings.epochs)
    progress, best = Progress(), state_of(task.model.module)
    if resume is not None:
        progress, best = Progress(**copy.deepcopy(resume["progress"])), resume["best"]
        load_state(task.model.module, resume["weights"])
        optimizer.load_state_dict(copy.deepcopy(resume["optimizer"]))  # it would step on the given tensors
        schedule.load_state_dict(resume["schedule"])
    while progress.checkpoint < settings.epochs * n_parts and not progress.stopped:
        epoch, part = divmod(progress.checkpoint, n_parts)
        batches = task.batches(epoch, part)
        torch.manual_seed(task.seed(progress.checkpoint))
        task.model.train()
        losses = []
        for batch in batches:
            losses.append(step(task, batch, settings.clip_norm, group, optimizer, schedule))
            stepped(losses[-1])
        task.model.train(False)
        progress.checkpoint += 1
        entry = {"epoch": round(epoch + (part + 1) / n_parts, 4), **task.entry(losses)}
        if validate is not None:
            entry["f1"] = validate()
        progress.history.append(entry)
        if validate is None or entry["f1"] > max((old["f1"] for old in progress.history[:-1]), default=-1.0):
            progress.best, best = progress.checkpoint, state_of(task.model.module)
        progress.stopped = patience is not None and progress.checkpoint - progress.best >= patience
        checkpoint(progress, partial(_checkpointed, task.model.module, progress, best, optimizer, schedule))
    load_state(task.model.module, best)
    task.model.train(False)
    return progress


def step(
    task: Task[Batch], batch: Batch, clip_norm: float, group: Group, optimizer: torch.optim.Optimizer, schedule: Any
) -> float:
    """Take one step; returns the loss of the whole batch."""
    optimizer.zero_grad()
    parameters = [parameter for each in optimizer.param_groups for parameter in each["params"]]
    loss = torch.zeros((), device=parameters[0].device)
    for part in task.losses(batch):
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.detach()
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    group.add([parameter.grad for parameter in parameters if parameter.grad is not None])
    group.add([loss])
    if not math.isfinite(loss):
        raise FatalError(
            "fit: the loss is not a finite number; lower the learning rates under fit, or set fit.dtype: float32"
        )
    nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    schedule.step()
    return float(loss)


def optimizer_of(
    groups: Sequence[tuple[Sequence[nn.Parameter], float]], settings: Settings, total: int
) -> tuple[torch.optim.Optimizer, Any]:
    """Return AdamW, and a schedule whose rate rises over the `warmup` share of `total` steps, then falls to 0."""
    split = [
        {
            "params": [p for p in parameters if (p.ndim > 1) == decays],
            "lr": rate,
            "weight_decay": settings.weight_decay * decays,
        }
        for parameters, rate in groups
        for decays in (True, False)  # norms and biases do not decay
    ]
    on_cpu = all(parameter.device.type == "cpu" for parameters, _ in groups for parameter in parameters)
    optimizer = torch.optim.AdamW([each for each in split if each["params"]], fused=on_cpu or None)
    warm = max(1, round(settings.warmup * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm)))
    )
    return optimizer, schedule


def learning(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that learn, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of the weights that learn, by name, on the CPU."""
    return {name: parameter.detach().cpu().clone() for name, parameter in learning(module).items()}


def load_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Set the weights that `state_of` returned."""
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def _checkpointed(
    module: nn.Module, progress: Progress, best: dict[str, Tensor], optimizer: torch.optim.Optimizer, schedule: Any
) -> State:
    return {
        "progress": copy.deepcopy(vars(progress)),
        "weights": best if progress.best == progress.checkpoint else state_of(module),
        "best": best,
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "schedule": schedule.state_dict(),
    }


def autocast(device: torch.device, dtype: Literal["auto", "float32", "bfloat16"]) -> torch.autocast:
    """Return the context of a forward pass; `auto` means bfloat16 products on a GPU."""
    wanted = dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)
