"""One training from its recipe to scores, in one process or as one of several; and the folder that it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from xner_ray import defaults
from xner_ray.data.row import OK, ROW, span_cells
from xner_ray.data.spans import tags_to_spans
from xner_ray.errors import RecipeError
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.counting import COLUMNS, Counter, Counts
from xner_ray.evaluate.scores import Evaluations
from xner_ray.models.trainer import Alone, Checkpoint, Group, Progress, State
from xner_ray.train.card import model_card
from xner_ray.train.loop import FrozenStateCache, fit, predict
from xner_ray.train.network import Student
from xner_ray.train.recipe import Training
from xner_ray.train.sentences import Tally, label_names
from xner_ray.train.sources import load
from xner_ray.train.windows import Windows, encode, goal
from xner_ray.version import __version__

Ints = NDArray[np.int64]
SCORED = pa.schema([ROW.field(name) for name in (*COLUMNS, "id", "split")])


@dataclass(frozen=True, eq=False)
class Data:
    """Sentences by role, as tables of `sentences.SENTENCES`, and what was left out of each source."""

    data: pa.Table
    validation: pa.Table | None
    evaluate: pa.Table | None
    tallies: dict[str, list[Tally]]
    labels: list[str]


@dataclass(frozen=True, eq=False)
class Trained:
    """progress: history and best checkpoint. tables: of `evaluate`, gold and predicted; None without."""

    student: Student
    data: Data
    progress: Progress
    tables: pa.Table | None
    evaluations: Evaluations | None

    def report(self, training: Training) -> dict[str, Any]:
        """Plain data, as training.json holds it; no time and no machine, so that equal trainings give equal reports."""
        return {
            "xner_ray": __version__,
            "labels": self.data.labels,
            "sentences": {role: [each.to_dict() for each in tallies] for role, tallies in self.data.tallies.items()},
            "head": "kept" if self.student.went_on else "new",
            "best_checkpoint": self.progress.best,
            "stopped_early": self.progress.stopped,
            "history": self.progress.history,
            "evaluation": None if self.evaluations is None else self.evaluations.to_dict(),
            "recipe": training.model_dump(mode="json"),
        }


def read(training: Training) -> Data:
    """All sentences of a recipe."""
    share = training.validation_share
    data, tallies = load(training, "data", held_out=False if share else None)
    roles: dict[str, list[Tally]] = {"data": tallies}
    found: dict[str, pa.Table | None] = {"validation": None, "evaluate": None}
    if share:
        found["validation"], roles["validation"] = load(training, "data", held_out=True)
    elif training.validation:
        found["validation"], roles["validation"] = load(training, "validation")
    if training.evaluate:
        found["evaluate"], roles["evaluate"] = load(training, "evaluate")
    labels = label_names(data)
    n_doubtful = sum(tally.doubtful for tally in tallies)
    if not labels or n_doubtful == pc.sum(pc.list_value_length(data.column("spans"))).as_py():
        doubtful = f"; {n_doubtful} have a score below filters.mask_below" if n_doubtful else ""
        raise RecipeError(f"data: no sentence has an entity to learn; look at labels.keep{doubtful}")
    return Data(data, found["validation"], found["evaluate"], roles, labels)


def device_here(gpus: float) -> torch.device:
    """Where this process trains. RecipeError for a GPU that is not there."""
    if gpus and not torch.cuda.is_available():
        raise RecipeError(f"resources.gpus is {gpus:g}, but this worker sees no CUDA device; set it to 0 for CPUs")
    return torch.device("cuda" if gpus else "cpu")


def train(
    training: Training,
    *,
    data: Data | None = None,
    group: Group | None = None,
    resume: State | None = None,
    checkpoint: Checkpoint = lambda progress, state: None,
    samples: int = defaults.SAMPLES,
    device: torch.device | None = None,
    cache: FrozenStateCache | None = None,
) -> Trained:
    """Read, train, and score against `evaluate`; in each process of a group the same result.

    cache: states of frozen layers; trainings over the same layers may share it.
    """
    group = group or Alone()
    data = data or read(training)
    device = device or device_here(training.resources.gpus)
    student = Student(training.model, data.labels, seed=training.fit.seed, device=device)
    settings = training.fit

    cache = FrozenStateCache(settings.cache_gb * 1e9) if cache is None else cache
    pieces = encode(data.data, student.tokenizer, student.positions)
    validate = None
    if data.validation is not None:
        gold = data.validation
        held = encode(gold, student.tokenizer, student.positions)

        def validate() -> float:
            classes = predict(student, held, settings, group=group, cache=cache)
            return micro_f1(counts_of(scored(gold, held, classes, student.names)))

    progress = fit(
        student,
        pieces,
        goal(data.data, pieces, student.names),
        settings,
        validate=validate,
        group=group,
        resume=resume,
        checkpoint=checkpoint,
        cache=cache,
    )
    tables = evaluations = None
    if data.evaluate is not None:
        tested = encode(data.evaluate, student.tokenizer, student.positions)
        classes = predict(student, tested, settings, group=group, cache=cache)
        tables = scored(data.evaluate, tested, classes, student.names)
        evaluations = evaluation.score(counts_of(tables), samples=samples)
    return Trained(student, data, progress, tables, evaluations)


def write_model(trained: Trained, training: Training, folder: Path) -> dict[str, Any]:
    """The student as a Hugging Face folder with its card and training.json; returns the report."""
    report = trained.report(training)
    trained.student.save(folder, training.model.save_dtype)
    (folder / "training.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(training, report), encoding="utf-8")
    return report


def scored(sentences: pa.Table, pieces: Windows, classes: Ints, names: Sequence[str]) -> pa.Table:
    """Gold and predicted spans of each sentence, with the columns that `counting.Counter` reads.

    The tags are read as IOB2 with the usual repair: an I-l that continues nothing begins a span.
    """
    spans: list[list[dict[str, Any]]] = []
    for sentence in range(len(pieces)):
        own = classes[pieces.first[sentence] : pieces.first[sentence + 1]].tolist()
        found = tags_to_spans([names[number] for number in own])[0]
        spans.append(span_cells(found, [-1] * len(found)))
    n = sentences.num_rows
    columns = {
        **{name: sentences.column(name) for name in ("row", "id", "doc_id", "lang", "tokens")},
        "gold_spans": sentences.column("spans"),
        "spans": pa.array(spans, SCORED.field("spans").type),
        "split": pa.array(["test"] * n, pa.string()),
        "status": pa.array([OK] * n, pa.string()),
    }
    return pa.table({field.name: columns.get(field.name, pa.nulls(n, field.type)) for field in SCORED}, schema=SCORED)


def counts_of(table: pa.Table) -> list[Counts]:
    """Counts of each language."""
    counter = Counter()
    counter.add(table)
    return counter.counts()


def micro_f1(counts: Sequence[Counts]) -> float:
    """F1 of all entities of all languages; 0 without any."""
    exact, predicted, gold = np.sum([one.cells.sum(axis=(0, 1)) for one in counts], axis=0).tolist()
    return 2 * exact / (predicted + gold) if predicted + gold else 0.0
