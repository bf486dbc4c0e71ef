"""The command `cross-validate`: students trained without each fold in turn, and compared.

    runs, projected -> for each (seed, fold) a task: every student trained without the fold, predictions for the fold
    -> OUT/predictions -> the predictions of all folds as if they were one run -> `comparison`

A document is in the same fold in every language and for every student, so that the tests are paired. Seeds are counted
together: a document that a resample draws counts with the predictions of all seeds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from xner_ray import defaults
from xner_ray.commands.experiment import TAGGED, Experiment, evaluated, merged, refuse_tests_in
from xner_ray.commands.project import project
from xner_ray.data.arrow import with_column
from xner_ray.engine import ray_cluster
from xner_ray.errors import RecipeError, XnerError, did_you_mean
from xner_ray.evaluate import comparison
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.bootstrap import Difference
from xner_ray.evaluate.comparison import Comparison, Run
from xner_ray.evaluate.controls import Verdict, verdicts
from xner_ray.evaluate.counting import count
from xner_ray.models import cpu_dtype, hub
from xner_ray.recipe.data_set import overrides_of
from xner_ray.recipe.load import checked, home, read_mapping
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.settings import anchored, overridden, place
from xner_ray.report.comparison import markdown, verdict_table
from xner_ray.report.tables import Table, interval_text
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.train.load import fingerprint, load_training, pinned
from xner_ray.train.recipe import Split, Training
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.student import micro_f1

_LANG = "{lang}"
_KEY = b"xner_ray student 3"  # counted up when the same training gives other predictions
_DTYPE = "fit.dtype: bfloat16"  # in encoders.json: the number format that stands for it
_SEED_ROWS = 10**12  # between the row numbers of one seed and the next
# States of frozen layers, for all trainings of a worker process
_cache = cache(FrozenStateCache)


@dataclass(frozen=True)
class Item:
    """One training. path: of its predictions. encoder: the identity of its encoder.

    tagged: nothing is trained, the entities of the run in `data` are the predictions.
    """

    student: str
    training: Training
    path: str
    encoder: str
    tagged: bool = False


@dataclass(frozen=True)
class Cell:
    """The scores of a student of one seed in one language, in 0..1."""

    student: str
    lang: str
    seed: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Validated:
    """The students compared as runs.

    pooled: differences to the reference in the F1 of all languages together. scores: this F1 by student and seed.
    cells: one per student, language and seed. verdicts: on students with controls.
    """

    comparison: Comparison
    pooled: dict[str, Difference]
    scores: dict[str, dict[int, float]]
    cells: list[Cell]
    verdicts: list[Verdict]


def load_experiment(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Experiment:
    """Load and check an experiment file. RecipeError names the wrong key."""
    shape = "an experiment is a mapping of runs, languages, students and evaluate"
    return checked(Experiment, overridden(read_mapping(Path(path), shape), overrides), os.fspath(path), overrides)


def cross_validate(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    samples: int = defaults.PAIRED_SAMPLES,
    seed: int = 0,
    console: Console | None = None,
) -> Validated:
    """Project the runs of an experiment file to `out`/runs, train its students, and write `out`/compare.md and .json.

    The same call again trains only what is missing, with the commits of encoders and the number format that
    `out`/encoders.json holds since the first call. samples, seed: of the bootstrap. RecipeError is raised before any
    work.
    """
    console = console or Console(quiet=True)
    experiment = load_experiment(path, overrides)
    base, root = Path(path).resolve().parent, RunFolder(os.fspath(out)).root
    items = _items(experiment, base, root, lambda line: console.print(Text(line)))
    with ray_cluster.cluster(experiment.address):
        for name, data in experiment.runs.items():
            console.print(Text(f"run {name}", "bold"))
            file = data.file(base)
            project(
                file,
                storage.join(root, "runs", name),
                overrides=anchored(Recipe, overrides_of(data.settings), home(file)),
                console=console,
            )
        missing = {key: [each for each in own if not _is_made(each)] for key, own in items.items()}
        missing = {key: own for key, own in missing.items() if own}
        n = sum(map(len, missing.values()))
        console.print(Text(f"{n} of {sum(map(len, items.values()))} students to train", "bold"))
        ray_cluster.map_tasks(_train_all, _mirrored(list(missing.values()), storage.join(root, "models")))
    validated = _compared(experiment, [each for own in items.values() for each in own], samples, seed)
    plain = {**validated.comparison.to_dict(), "pooled": {k: asdict(v) for k, v in validated.pooled.items()}}
    plain["seeds"] = validated.scores
    plain["cells"] = [asdict(cell) for cell in validated.cells]
    if validated.verdicts:
        plain["teachers"] = [{**asdict(one), "better": one.better} for one in validated.verdicts]
    storage.publish(storage.join(root, "compare.md"), tables_of(validated).encode())
    text = json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    storage.publish(storage.join(root, "compare.json"), text.encode())
    return validated


def _items(
    experiment: Experiment, base: Path, root: str, say: Callable[[str], None]
) -> dict[tuple[int, int | str], list[Item]]:
    """Return the trainings by seed and fold, or by seed and student where there are no folds.

    Encoders are those that the experiment began with, which is written down.
    """
    found: dict[tuple[int, int | str], list[Item]] = {}
    parts = [None] if experiment.folds is None else range(experiment.folds)
    record = storage.join(root, "encoders.json")
    known: dict[str, str] = json.loads(storage.read_if_there(record) or "{}")
    formats: dict[str, Literal["auto", "float32", "bfloat16"]] = {}
    pins: dict[str, tuple[str, str]] = {}
    for student, own in experiment.students.items():
        tagged = TAGGED in own
        if tagged:
            every_row = {"incomplete": "keep", "bad_translations": "keep"}
            whole = {"labels": "projected", "splits": list(get_args(Split)), "filters": every_row}
            own = {"data": [{"run": own[TAGGED], "langs": experiment.languages, **whole}]}
        per_language = _LANG in json.dumps(own)
        for lang in experiment.languages if per_language else [None]:
            langs = [lang] if lang is not None else experiment.languages
            common = {**merged(experiment.student, own), "evaluate": evaluated(experiment, langs)}
            for seed, fold in product(experiment.seeds, parts):
                folds = {} if fold is None else {"folds": {"n": experiment.folds, "held_out": fold}}
                data: Any = {**common, **folds, "fit": {**(common.get("fit") or {}), "seed": seed}}
                try:
                    data = _placed(data, experiment, base, root, lang)
                    training = load_training({**data, "resources": {"threads": 1}}, base=base)
                    if fold is None and not tagged:
                        refuse_tests_in(training)
                    encoder = training.model.encoder
                    if encoder not in pins:
                        pins[encoder] = pinned(known.get(encoder, encoder), say)
                except RecipeError as error:
                    raise RecipeError(f"students.{student}: {error}") from None
                if training.fit.dtype not in formats:
                    formats[training.fit.dtype] = cpu_dtype.for_training(
                        training.fit.dtype, gpus=training.resources.gpus, threads=1, kept=known.get(_DTYPE), say=say
                    )
                name_now, identity = pins[encoder]
                name = f"seed-{seed}{'' if fold is None else f'-fold-{fold}'}.parquet"
                path = storage.join(root, "predictions", student, *([lang] if lang else []), name)
                training = training.with_encoder(name_now).with_dtype(formats[training.fit.dtype])
                item = Item(student, training, path, identity, tagged)
                # one task each; without folds one for each student, or few would keep most of a machine idle
                found.setdefault((seed, student if fold is None else fold), []).append(item)
    new = {asked: name for asked, (name, _) in pins.items() if asked != name and asked not in known}
    if "bfloat16" in formats:
        new |= {_DTYPE: formats["bfloat16"]}
    if new.items() - known.items():
        storage.publish(record, json.dumps(known | new, indent=1, sort_keys=True).encode())
    return found


def _placed(value: Any, experiment: Experiment, base: Path, root: str, lang: str | None) -> Any:
    """Replace names of runs by their folders, and `{lang}` by the language. RecipeError if a run does not exist."""
    if isinstance(value, Mapping):
        result = {key: _placed(child, experiment, base, root, lang) for key, child in value.items()}
        if isinstance(run := result.get("run"), str):
            if run in experiment.runs:
                result["run"] = storage.join(root, "runs", run)
            elif not RunFolder(place(run, base)).is_run():
                raise RecipeError(
                    f"run: {run!r} is neither a finished run nor one of runs{did_you_mean(run, experiment.runs)}"
                )
        return result
    if isinstance(value, list):
        return [_placed(child, experiment, base, root, lang) for child in value]
    return value.replace(_LANG, lang) if isinstance(value, str) and lang is not None else value


def _mirrored(items: Sequence[Sequence[Item]], models: str) -> list[list[Item]]:
    """Return the items with encoders of the hub replaced by copies that every machine can read."""
    names = {each.training.model.encoder for own in items for each in own}
    places = {name: hub.mirror(name, models) for name in names}

    def at_place(item: Item) -> Item:
        return replace(item, training=item.training.with_encoder(places[item.training.model.encoder]))

    return [[at_place(each) for each in own] for own in items]


def _is_made(item: Item) -> bool:
    if (data := storage.read_if_there(item.path)) is None:
        return False
    return (pq.read_schema(pa.BufferReader(data)).metadata or {}).get(_KEY) == _identity(item)


def _identity(item: Item) -> bytes:
    keys = fingerprint(item.training, encoder=item.encoder) | ({TAGGED: True} if item.tagged else {})
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest().encode()


def _train_all(items: Sequence[Item]) -> None:
    """Train one item after the other in this process."""
    import torch

    from xner_ray.train.student import tagged

    torch.set_num_threads(1)
    for item in items:
        try:
            made = tagged(item.training) if item.tagged else _trained(item.training)
        except XnerError as error:
            error.args = (f"{item.student}: {error}",)
            raise
        made = made.replace_schema_metadata({_KEY: _identity(item)})
        sink = io.BytesIO()
        pq.write_table(made, sink)
        storage.publish(item.path, sink.getvalue())


def _trained(training: Training) -> pa.Table:
    from xner_ray.train.student import train

    settings = training.fit
    trained = train(training, cache=_cache(settings.cache_gb * 1e9, settings.cache_disk_gb * 1e9), samples=0)
    assert trained.tables is not None
    return trained.tables


def _compared(experiment: Experiment, items: Sequence[Item], samples: int, seed: int) -> Validated:
    tables = {student: _predictions(experiment, items, student) for student in experiment.students}
    names = list(experiment.students)
    reference = names.index(experiment.against) if experiment.against is not None else 0
    runs = [Run(name, name, _what(experiment.students[name]), {}) for name in names]
    by_section = {name: _by_section(table, experiment.domains) for name, table in tables.items()}

    def compared(of: Sequence[Run], number: int) -> Comparison:
        own = [by_section[run.name] for run in of]
        return comparison.compare(own, of, reference=number, samples=samples, seed=seed, by="doc")

    found = compared(runs, reference)
    pairs = {pair: compared([runs[names.index(name)] for name in pair], 1) for pair in experiment.controls.items()}
    counts = {name: count([tables[name]]) for name in names}
    pooled = {
        name: evaluation.compare(counts[names[reference]], counts[name], samples=samples, seed=seed, by="doc")
        for name in names
        if name != names[reference]
    }
    of_seed = {
        (name, one): count([_of_seed(tables[name], n)]) for name in names for n, one in enumerate(experiment.seeds)
    }
    scores = {name: {one: micro_f1(of_seed[name, one]) for one in experiment.seeds} for name in names}
    cells = [
        Cell(name, one.lang, number, one.overall.precision, one.overall.recall, one.overall.f1)
        for (name, number), own in of_seed.items()
        for one in evaluation.score(own, samples=0)
    ]
    return Validated(found, pooled, scores, cells, verdicts(found, pairs))


def _what(student: Mapping[str, Any]) -> str:
    parts = []
    for source in student.get("data", ()):
        parts.append(", ".join(f"{key} {value}" for key, value in source.items()))
    rest = {key: value for key, value in student.items() if key != "data"}
    return " + ".join(parts) + (f"; {json.dumps(rest)}" if rest else "")


def _predictions(experiment: Experiment, items: Sequence[Item], student: str) -> pa.Table:
    """Return a student's predictions of all folds, languages and seeds, by language and row.

    Row numbers and documents: each seed has row numbers of its own, but shares the documents with the other seeds.
    """
    parts = []
    for item in items:
        if item.student == student:
            table = pq.read_table(pa.BufferReader(storage.read_bytes(item.path))).replace_schema_metadata(None)
            shift = experiment.seeds.index(item.training.fit.seed) * _SEED_ROWS
            table = with_column(table, "row", pc.add(table.column("row"), pa.scalar(shift, pa.int64())))
            parts.append(with_column(table, "doc_id", pc.coalesce(table.column("doc_id"), table.column("id"))))
    return pa.concat_tables(parts).sort_by([("lang", "ascending"), ("row", "ascending")])


def _by_section(table: pa.Table, domains: Mapping[str, str]) -> list[pa.Table]:
    """Return the predictions of each language, or of each language and domain, with that as the language's name."""
    if domains:
        of_document = {
            doc: next((name for name, pattern in domains.items() if fnmatchcase(doc, pattern)), "other")
            for doc in pc.unique(table.column("doc_id")).to_pylist()
        }
        if empty := sorted(set(domains) - set(of_document.values())):
            raise RecipeError(
                f"domains.{empty[0]}: {domains[empty[0]]!r} matches no document; their ids are as {min(of_document)!r}"
            )
        keys = zip(*(table.column(name).to_pylist() for name in ("lang", "doc_id")), strict=True)
        table = with_column(table, "lang", pa.array((f"{lang} {of_document[doc]}" for lang, doc in keys), pa.string()))
    langs = sorted(pc.unique(table.column("lang")).to_pylist())
    return [table.filter(pc.equal(table.column("lang"), lang)).combine_chunks() for lang in langs]


def _of_seed(table: pa.Table, number: int) -> pa.Table:
    return table.filter(pc.equal(pc.divide(table.column("row"), pa.scalar(_SEED_ROWS, pa.int64())), number))


def tables_of(validated: Validated) -> str:
    """Return compare.md."""
    table = Table("All languages together", ["student", "F1 by seed"], ["change", "interval", "p"])
    for name, f1_of in validated.scores.items():
        cells = ["-", "-", "-"]
        if (found := validated.pooled.get(name)) is not None:
            p_value = "-" if found.p_value is None else f"{found.p_value:.4f}"
            change = interval_text(found.interval, signed=True, digits=2)
            cells = [f"{100 * found.difference:+.2f}", change, p_value]
        table.add_row(name, ", ".join(f"{100 * f1:.2f}" for f1 in f1_of.values()), *cells)
    by_seed = Table("By language and seed", ["student", "language"], ["P", "R", "F1 by seed", "mean"])
    for (name, lang), own in _grouped(validated.cells).items():
        mean = [100 * sum(getattr(cell, key) for cell in own) / len(own) for key in ("precision", "recall", "f1")]
        f1 = ", ".join(f"{100 * cell.f1:.1f}" for cell in own)
        by_seed.add_row(name, lang, f"{mean[0]:.1f}", f"{mean[1]:.1f}", f1, f"{mean[2]:.1f}")
    parts = [table, by_seed]
    if validated.verdicts:
        parts.append(verdict_table(validated.verdicts, validated.comparison.runs[validated.comparison.reference].name))
    return "\n".join([markdown(validated.comparison), *(f"{part.markdown()}\n" for part in parts)])


def _grouped(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.student, cell.lang), []).append(cell)
    return found
