"""One training of a student, from the recipe to its scores and its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from xner_ray import defaults
from xner_ray.data.arrow import lengths
from xner_ray.data.row import OK, ROW, span_cells
from xner_ray.data.spans import Span, tags_to_spans
from xner_ray.errors import InputError, RecipeError
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.counting import COLUMNS, Counter, Counts
from xner_ray.evaluate.scores import Evaluations
from xner_ray.models.trainer import Alone, Checkpoint, Group, Progress, State
from xner_ray.models.windows import Windows
from xner_ray.report.live import LOG_SECONDS
from xner_ray.report.progress import duration
from xner_ray.train.card import model_card
from xner_ray.train.loop import Held, Plan, Pool, Streamed, cache_of, fit, parts_of, predict, steps_of
from xner_ray.train.network import Student
from xner_ray.train.recipe import Training
from xner_ray.train.runs import compared_with
from xner_ray.train.sentences import Tally, label_names
from xner_ray.train.sources import kept, load, refuse_nothing
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.stream import Survey, is_large, read_blocks, survey
from xner_ray.train.windows import encode, goal
from xner_ray.version import __version__

Ints = NDArray[np.int64]
Say = Callable[[str], None]
FIRST_SECONDS = 1.0  # after the first step, until the first line with a rate
SCORED = pa.schema([ROW.field(name) for name in (*COLUMNS, "id", "split")])


@dataclass(frozen=True, eq=False)
class Data:
    """The sentences of each role, as tables of `sentences.SENTENCES`, and the tallies of their sources.

    data: a survey, where there are too many to be held.
    """

    data: pa.Table | Survey
    validation: pa.Table | None
    evaluate: pa.Table | None
    tallies: dict[str, list[Tally]]
    labels: list[str]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained student. tables: gold and predicted spans of `evaluate`; None without."""

    student: Student
    data: Data
    progress: Progress
    tables: pa.Table | None
    evaluations: Evaluations | None

    def report(self, training: Training) -> dict[str, Any]:
        """Return what training.json holds: no times and no machines, so that equal trainings give equal reports."""
        return {
            "xner_ray": __version__,
            "labels": self.data.labels,
            "sentences": {role: [each.to_dict() for each in tallies] for role, tallies in self.data.tallies.items()},
            "head": "kept" if self.student.keeps_head else "new",
            "other_labels": self.student.other_labels(self.data.labels),
            "best_checkpoint": self.progress.best,
            "stopped_early": self.progress.stopped,
            "history": self.progress.history,
            "evaluation": None if self.evaluations is None else self.evaluations.to_dict(),
            "against": {} if self.evaluations is None else compared_with(training),
            "recipe": training.model_dump(mode="json"),
        }


def read(training: Training, say: Say = lambda line: None) -> Data:
    """Read all sentences of a recipe. RecipeError if there is no entity to learn; else see `sources.load`."""
    share = training.validation_share
    held_out = False if share else None
    if is_large(training):
        tallies = list[Tally]()
        data = survey(training, kept(training, "data", tallies, held_out=held_out), tallies, say)
        refuse_nothing(training, "data", data.n_rows, tallies)
        labels, n_spans = data.labels, data.n_entities
    else:
        data, tallies = load(training, "data", held_out=held_out)
        labels, n_spans = label_names(data), int(lengths(data.column("spans")).sum())
    roles: dict[str, list[Tally]] = {"data": tallies}
    found: dict[str, pa.Table | None] = {"validation": None, "evaluate": None}
    if share:
        found["validation"], roles["validation"] = load(training, "data", held_out=True)
    elif training.validation:
        found["validation"], roles["validation"] = load(training, "validation")
    if training.evaluate:
        found["evaluate"], roles["evaluate"] = load(training, "evaluate")
    known = {*labels, *(label for tally in tallies for label in (*tally.labels_dropped, *tally.labels_masked))}
    for key in ("keep", "mask"):
        if absent := sorted(set(getattr(training.labels, key) or ()) - known):
            say(f"labels.{key}: {', '.join(absent)} does not occur; the data have {', '.join(sorted(known)) or 'none'}")
    n_doubtful = sum(tally.doubtful for tally in tallies)
    if not labels or (n_doubtful and n_doubtful == n_spans):
        doubtful = f"; {n_doubtful} have a score below filters.mask_below" if n_doubtful else ""
        raise RecipeError(f"data: no sentence has an entity to learn; look at labels.keep{doubtful}")
    return Data(data, found["validation"], found["evaluate"], roles, labels)


class Watch:
    """Counts steps, and says now and then how fast they are; the rate is that since the last line."""

    def __init__(
        self,
        say: Say,
        *,
        n_steps: int,
        epochs: int,
        sentences: int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """n_steps, sentences: of an epoch. done: steps of an earlier process."""
        self._say, self._clock, self._n_steps, self._epochs = say, clock, n_steps, epochs
        self._per_step = sentences / n_steps
        self._step = self._told_step = done
        self._told, self._wait = clock(), FIRST_SECONDS
        self._losses: list[float] | None = None

    def stepped(self, loss: float) -> None:
        """Count a step."""
        self._step += 1
        if self._losses is None:  # what came before it was reading and loading
            self._say(f"the first step is done: loss {loss:.4f}")
            self._told, self._told_step, self._losses = self._clock(), self._step, []
            return
        self._losses.append(loss)
        passed = self._clock() - self._told
        if passed < self._wait:
            return
        rate = self._per_step * (self._step - self._told_step) / passed
        left = self._per_step * (self._n_steps * self._epochs - self._step) / rate
        epoch, step = divmod(self._step - 1, self._n_steps)
        loss = sum(self._losses) / len(self._losses)
        self._say(
            f"epoch {epoch + 1} of {self._epochs}, step {step + 1:,} of {self._n_steps:,}: loss {loss:.4f}, "
            f"{rate:,.0f} sentences/s, {duration(left)} left"
        )
        self._told, self._told_step, self._losses, self._wait = self._clock(), self._step, [], LOG_SECONDS

    def checkpoint(self, entry: dict[str, Any]) -> None:
        """Say what a checkpoint's entry in the history is; the time that it took is not the next steps'."""
        score = f", F1 of validation {100 * entry['f1']:.2f}" if "f1" in entry else ""
        self._say(f"epoch {entry['epoch']:g} of {self._epochs}: loss {entry['loss']:.4f}{score}")
        self._told, self._told_step, self._losses = self._clock(), self._step, []


def device_here(gpus: float) -> torch.device:
    """Return the device of this process. RecipeError if there is no GPU although `gpus` asks for one."""
    if gpus and not torch.cuda.is_available():
        raise RecipeError(f"resources.gpus is {gpus:g}, but this worker sees no CUDA device; set it to 0 for CPUs")
    return torch.device("cuda" if gpus else "cpu")


def train(
    training: Training,
    *,
    group: Group | None = None,
    resume: State | None = None,
    checkpoint: Checkpoint = lambda progress, state: None,
    samples: int = defaults.SAMPLES,
    device: torch.device | None = None,
    cache: FrozenStateCache | None = None,
    say: Say = lambda line: None,
) -> Trained:
    """Read, train, and score against `evaluate`; the result is the same in each process of a group.

    samples: bootstrap resamples of the scores. cache: states of frozen layers, for trainings over the same layers.
    say: called with lines of progress, in the first process alone.
    """
    group, settings = group or Alone(), training.fit
    cache = cache_of(settings) if cache is None else cache
    say = say if group.rank == 0 else lambda line: None
    say(f"reads the sentences of {len(training.data)} source{'s' * (len(training.data) > 1)}")
    data = read(training, say)
    n_kept, n_read = (sum(getattr(tally, name) for tally in data.tallies["data"]) for name in ("kept", "read"))
    say(
        f"{n_kept:,} of {n_read:,} sentences are learnt, with the labels {', '.join(data.labels)}; loads the encoder "
        f"{training.model.encoder}"
    )
    device = device or device_here(training.resources.gpus)
    student = Student(training.model, data.labels, seed=settings.seed, device=device)

    def read_by(table: pa.Table) -> Windows:
        windows = encode(table, student.tokenizer, student.positions)
        if cut := int(windows.cut.sum()):
            say(f"the ends of {cut:,} contexts of {len(windows):,} sentences are left out: the encoder has no room")
        return windows

    def predictions(gold: pa.Table) -> Callable[[], pa.Table]:
        windows = read_by(gold)
        return lambda: scored(
            gold,
            windows,
            predict(student, windows, settings, group=group, cache=cache),
            student.names,
            training.labels.learns,
        )

    validation = None if data.validation is None else predictions(data.validation)
    plan = _plan(training, data.data, student, group, read_by)
    n_steps = steps_of(plan.n_sentences, settings)
    done = 0 if resume is None else round(resume["progress"]["checkpoint"] / parts_of(n_steps, settings) * n_steps)
    watch = Watch(say, n_steps=n_steps, epochs=settings.epochs, sentences=plan.n_sentences, done=done)
    say(
        f"{settings.epochs} epochs of {n_steps:,} steps with {settings.batch_sentences} sentences each"
        + (", read as they are needed" if isinstance(plan, Streamed) else "")
        + (f"; goes on after step {done:,}" if done else "")
    )

    def told(progress: Progress, state: Callable[[], State]) -> None:
        watch.checkpoint(progress.history[-1])
        checkpoint(progress, state)

    progress = fit(
        student,
        plan,
        settings,
        validate=None if validation is None else lambda: micro_f1(counts_of(validation())),
        group=group,
        resume=resume,
        checkpoint=told,
        cache=cache,
        stepped=watch.stepped,
    )
    if data.evaluate is not None:
        say(f"labels the {data.evaluate.num_rows:,} sentences of evaluate")
    tables = None if data.evaluate is None else predictions(data.evaluate)()
    evaluations = None if tables is None else evaluation.score(counts_of(tables), samples=samples)
    return Trained(student, data, progress, tables, evaluations)


def _plan(
    training: Training,
    data: pa.Table | Survey,
    student: Student,
    group: Group,
    read_by: Callable[[pa.Table], Windows],
) -> Plan:
    def pool(table: pa.Table) -> Pool:
        windows = read_by(table)
        return Pool(windows, goal(table, windows, student.names))

    if isinstance(data, Survey):
        return Streamed(data.blocks, lambda blocks: pool(read_blocks(training, blocks)), training.fit, group)
    return Held(pool(data), training.fit, group)


def write_model(trained: Trained, training: Training, folder: Path) -> dict[str, Any]:
    """Write the student as a Hugging Face folder with its card and training.json; returns the report."""
    report = trained.report(training)
    trained.student.save(folder, training.model.save_dtype)
    (folder / "training.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(training, report), encoding="utf-8")
    return report


def scored(
    sentences: pa.Table,
    pieces: Windows,
    classes: Ints,
    names: Sequence[str],
    learns: Callable[[str], bool] = lambda label: True,
) -> pa.Table:
    """Return gold and predicted spans of each sentence, with the columns that `counting.Counter` reads.

    Classes are read as IOB2 with the usual repair: an I-l that continues nothing begins a span. learns: which labels
    count; the gold has no others, but a head that was kept may predict them.
    """
    found = []
    for sentence in range(len(pieces)):
        own = classes[pieces.first[sentence] : pieces.first[sentence + 1]].tolist()
        spans = tags_to_spans([names[number] for number in own])[0]
        found.append([span for span in spans if learns(span.label)])
    return _beside_gold(sentences, found)


def tagged(training: Training) -> pa.Table:
    """Return gold of `evaluate` with the entities of the runs in `data` as predictions, as `scored` does.

    Nothing is trained. InputError if the runs lack a sentence of `evaluate`, or have other words in it.
    """
    gold, _ = load(training, "evaluate")
    made, _ = load(training.model_copy(update={"evaluate": training.data}), "evaluate")
    keys = ("lang", "id", "tokens", "spans")
    by_id = {(lang, name): (words, spans) for lang, name, words, spans in zip(*_lists(made, keys), strict=True)}
    found = []
    for lang, name, words in zip(*_lists(gold, keys[:3]), strict=True):
        if (own := by_id.get((lang, name))) is None or own[0] != words:
            what = "is not among its rows, or was rejected" if own is None else "has other words there"
            raise InputError(f"{training.data[0].name}: the sentence {name} ({lang}) of evaluate {what}")
        found.append([Span(**span) for span in own[1]])
    return _beside_gold(gold, found)


def _lists(table: pa.Table, names: Sequence[str]) -> list[list[Any]]:
    return [table.column(name).to_pylist() for name in names]


def _beside_gold(sentences: pa.Table, found: Sequence[Sequence[Span]]) -> pa.Table:
    n, spans = sentences.num_rows, [span_cells(own, [-1] * len(own)) for own in found]
    columns = {
        **{name: sentences.column(name) for name in ("row", "id", "doc_id", "lang", "tokens")},
        "gold_spans": sentences.column("spans"),
        "spans": pa.array(spans, SCORED.field("spans").type),
        "split": pa.array(["test"] * n, pa.string()),
        "status": pa.array([OK] * n, pa.string()),
    }
    return pa.table({field.name: columns.get(field.name, pa.nulls(n, field.type)) for field in SCORED}, schema=SCORED)


def counts_of(table: pa.Table) -> list[Counts]:
    """Count the entities of each language."""
    counter = Counter()
    counter.add(table)
    return counter.counts()


def micro_f1(counts: Sequence[Counts]) -> float:
    """Return the F1 of all entities of all languages; 0 without any."""
    exact, predicted, gold = np.sum([one.cells.sum(axis=(0, 1)) for one in counts], axis=0).tolist()
    return 2 * exact / (predicted + gold) if predicted + gold else 0.0
