"""A student trained on Ray Train, by one process on a laptop or by many with a GPU each.

Every process runs `student.train` and takes its share of every step. Ray Train keeps checkpoints in
the model's folder, and hands out the last one after a lost process, or when the same command runs again.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor, distributed

from xner_ray.engine.ray_cluster import cluster, relayed
from xner_ray.errors import FatalError, NodeError, RetryableError, StorageError, XnerError
from xner_ray.models.device import FAKE_GPU
from xner_ray.models.trainer import Alone, Group, Progress, State, read_state
from xner_ray.storage import files as storage
from xner_ray.train import student
from xner_ray.train.recipe import Training
from xner_ray.train.student import Say

_STATE = "state.pt"
_FAILURES = 5  # lost processes that a training survives; preempted nodes do not count


class Processes:
    """The processes of a torch process group, as a `trainer.Group`."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def add(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            distributed.all_reduce(tensor)

    def gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found


def run(
    training: Training,
    encoder: str,
    folder: str,
    publish: Callable[[Path, dict[str, Any]], None],
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Train, or resume from the last checkpoint in `folder`; returns the report.

    encoder: where the processes find the recipe's encoder; report and card name it as the recipe does. publish: called
    once, in the first process, with a local folder that holds the student, and with its report. say: called with lines
    of progress.
    """
    # A checkpoint waits until Ray Train asks for it, which by default happens every 2 s
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    resources = training.resources
    filesystem, inner = storage.locate(folder)
    workers = resources.workers
    gpus = resources.gpus if os.environ.get(FAKE_GPU) != "1" else 0.0
    wanted = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
    with cluster(resources.address), relayed(say) as lines:
        trainer = TorchTrainer(
            _worker,  # type: ignore[arg-type]  # the annotation forbids a value, Ray does not
            train_loop_config={
                **{"training": training, "encoder": encoder, "publish": publish, "gpus": gpus},
                "lines": lines,
            },
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=resources.gpus > 0, resources_per_worker=wanted),
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
            run_config=RunConfig(
                name="fit",
                storage_path=inner,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=_FAILURES),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _ours(error) from None
    found: dict[str, Any] | XnerError = result.return_value  # type: ignore[attr-defined]
    if isinstance(found, XnerError):
        raise found
    return found


def _ours(error: Exception) -> XnerError:
    """Return the error of this package behind a failed training; RetryableError for a lost process."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [error]
    for cause in causes:
        while cause is not None:
            if isinstance(cause, XnerError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    first = str(causes[0])
    kind = RetryableError if "died" in first.lower() else FatalError
    last = first.strip().rsplit("\n", 1)[-1]
    return kind(f"training failed: {last}; the same command resumes from the last checkpoint")


def _worker(config: dict[str, Any]) -> dict[str, Any] | XnerError:
    """Train in one process. Errors that all processes share are returned, so that Ray Train does not try again."""
    try:
        return _trained(config)
    except (RetryableError, NodeError, StorageError):
        raise
    except XnerError as error:
        return error
    except torch.OutOfMemoryError as error:
        return FatalError(
            f"memory of the device is full ({str(error).splitlines()[0]}); halve fit.micro_batch_tokens, and the same "
            "command resumes from the last checkpoint"
        )


def _trained(config: dict[str, Any]) -> dict[str, Any]:
    training: Training = config["training"]
    resources = training.resources
    torch.set_num_threads(resources.threads or max(1, int(resources.cpus)))
    group: Group = Processes() if ray.train.get_context().get_world_size() > 1 else Alone()
    trained = student.train(
        training.with_encoder(config["encoder"]),
        group=group,
        resume=_last(),
        checkpoint=_checkpoint(group),
        device=student.device_here(config["gpus"]),
        say=lambda line: config["lines"].add.remote(line),
    )
    with tempfile.TemporaryDirectory() as own:
        report: dict[str, Any] = trained.report(training)
        if group.rank == 0:
            report = student.write_model(trained, training, Path(own))
            config["publish"](Path(own), report)
    return report


def _last() -> State | None:
    """Return the state at the last checkpoint, if there is one; nothing but weights is unpickled."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        path = Path(folder) / _STATE
        return read_state(path.read_bytes(), str(path))


def _checkpoint(group: Group) -> Callable[[Progress, Callable[[], State]], None]:
    def keep(progress: Progress, state: Callable[[], State]) -> None:
        metrics = {"checkpoint": progress.checkpoint, **progress.history[-1]}
        if group.rank:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state(), Path(folder) / _STATE)
            ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))

    return keep
