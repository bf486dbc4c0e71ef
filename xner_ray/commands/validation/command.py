"""The command `cross-validate`: students trained without each fold in turn, and compared.

    runs, projected -> for each student, seed and fold a task: trained without the fold, predictions for the fold
    -> OUT/predictions -> the predictions of all folds as if they were one run -> `comparison`; OUT/cells

A document is in the same fold in every language and for every student, so that the tests are paired. Seeds are counted
together: a document that a resample draws counts with the predictions of all seeds.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.text import Text

from xner_ray import defaults
from xner_ray.commands.project import project
from xner_ray.commands.validation import cells as cell_files
from xner_ray.commands.validation.cells import Cell, cells, grouped, micro_f1, predictions
from xner_ray.commands.validation.item import Item
from xner_ray.commands.validation.recipe import Experiment, load_experiment
from xner_ray.commands.validation.trainings import is_made, mirrored, train, trainings
from xner_ray.data.arrow import with_column
from xner_ray.engine import ray_cluster
from xner_ray.errors import RecipeError, XnerError
from xner_ray.evaluate import comparison
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.bootstrap import Difference
from xner_ray.evaluate.comparison import Comparison, Run
from xner_ray.evaluate.controls import Verdict, verdicts
from xner_ray.evaluate.counting import count
from xner_ray.recipe.data_set import overrides_of
from xner_ray.recipe.load import home
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.settings import anchored
from xner_ray.report.comparison import markdown, verdict_table
from xner_ray.report.progress import duration
from xner_ray.report.tables import Table, interval_text
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

_NOTE = """\
Intervals and p-values are over documents, for the trainings that were made: how far those of other seeds would lie from
them, they do not know; the spread of F1 by seed tells. Sentences are counted once for each seed.
"""


@dataclass(frozen=True)
class Validated:
    """The students compared as runs.

    pooled: differences to the reference in the F1 of all languages together. holm: their p-values, corrected for the
    number of students; none without resamples. scores: this F1 by student and seed.
    cells: one per student, language and seed. verdicts: on students with controls. one_document: the languages, or
    languages and domains, of which resamples draw sentences, since all are of one document.
    """

    comparison: Comparison
    pooled: dict[str, Difference]
    holm: dict[str, float]
    scores: dict[str, dict[int, float]]
    cells: list[Cell]
    verdicts: list[Verdict]
    one_document: list[str]


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

    A student's scores in a language stand in `out`/cells as soon as its predictions are there. The same call again
    trains only what is missing, with the commits of encoders and the number format that `out`/encoders.json holds since
    the first call. samples, seed: of the bootstrap. RecipeError is raised before any work.
    """
    console = console or Console(quiet=True)
    experiment = load_experiment(path, overrides)
    base, root = Path(path).resolve().parent, RunFolder(os.fspath(out)).root
    items = trainings(experiment, base, root, lambda line: console.print(Text(line)))
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
        _train_missing(items, root, console)
    validated = _compared(experiment, items, samples, seed)
    cell_files.publish(root, validated.cells)
    plain = {**validated.comparison.to_dict(), "pooled": {k: asdict(v) for k, v in validated.pooled.items()}}
    plain["p_holm"] = validated.holm
    plain["seeds"] = validated.scores
    plain["cells"] = [asdict(cell) for cell in validated.cells]
    plain["one_document"] = validated.one_document
    if validated.verdicts:
        plain["teachers"] = [{**asdict(one), "better": one.better} for one in validated.verdicts]
    storage.publish(storage.join(root, "compare.md"), tables_of(validated).encode())
    text = json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    storage.publish(storage.join(root, "compare.json"), text.encode())
    return validated


def _train_missing(items: Sequence[Item], root: str, console: Console) -> None:
    """Train what has no predictions, and say and write the scores of each cell that this completes.

    XnerError names all that could not be trained, when the others are done.
    """
    todo, behind = [item for item in items if not is_made(item)], grouped(items)
    missing = Counter(item.place for item in todo)
    cell_files.tidy(root, {place: cells(own) for place, own in behind.items() if not missing[place]})
    for name in ("compare.md", "compare.json") if todo else ():
        storage.delete(storage.join(root, name))
    n, done, since = sum(not item.tagged for item in todo), 0, time.monotonic()
    console.print(Text(f"{n} of {sum(not item.tagged for item in items)} students to train", "bold"))
    failed: list[str] = []
    for number, error in ray_cluster.each_task(train, mirrored(todo, storage.join(root, "models"))):
        item = todo[number]
        done += not item.tagged
        if error is not None:
            failed.append(f"{item.name}: {error}")
            console.print(Text(failed[-1], "bold red"))
            continue
        missing[item.place] -= 1
        found = cells(behind[item.place]) if not missing[item.place] else []
        cell_files.publish(root, found)
        f1 = ", ".join(f"{cell.lang} {100 * cell.f1:.1f}" for cell in found)
        left = (time.monotonic() - since) / max(1, done) * (n - done)
        console.print(
            Text(
                item.name
                + (f": F1 {f1}" if found else "")
                + f"; {done} of {n} trained"
                + (f", {duration(left)} left" if 0 < done < n else "")
            )
        )
    if failed:
        more = f"\nand {len(failed) - 5} more" if len(failed) > 5 else ""
        raise XnerError(f"{len(failed)} of {len(todo)} students could not be trained:\n" + "\n".join(failed[:5]) + more)


def _compared(experiment: Experiment, items: Sequence[Item], samples: int, seed: int) -> Validated:
    names = list(experiment.students)
    own = {name: [item for item in items if item.student == name] for name in names}
    tables = {name: predictions(own[name], experiment.seeds) for name in names}
    reference = names.index(experiment.against) if experiment.against is not None else 0
    runs = [Run(name, name, _what(experiment.students[name]), {}) for name in names]
    by_lang = {name: _by_section(table, {}) for name, table in tables.items()}
    by_section = by_lang
    if experiment.domains:
        by_section = {name: _by_section(table, experiment.domains) for name, table in tables.items()}
    sections = [*by_lang[names[0]], *by_section[names[0]]]  # of all students: they are scored on the same rows
    alone = {table.column("lang")[0].as_py() for table in sections if _is_one_document(table)}

    def compared(of: Sequence[Run], number: int) -> Comparison:
        return comparison.compare(
            [_resampled(by_section[run.name]) for run in of], of, reference=number, samples=samples, seed=seed, by="doc"
        )

    found = compared(runs, reference)
    pairs = {pair: compared([runs[names.index(name)] for name in pair], 1) for pair in experiment.controls.items()}
    counts = {name: count(_resampled(by_lang[name])) for name in names}
    pooled = {
        name: evaluation.compare(counts[names[reference]], counts[name], samples=samples, seed=seed, by="doc")
        for name in names
        if name != names[reference]
    }
    of_seed: dict[tuple[str, int], list[Cell]] = {(name, one): [] for name in names for one in experiment.seeds}
    for behind in grouped(items).values():
        of_seed[behind[0].student, behind[0].training.fit.seed] += cells(behind)
    scores = {name: {one: micro_f1(of_seed[name, one]) for one in experiment.seeds} for name in names}
    every = [cell for own in of_seed.values() for cell in own]
    tested = {name: one.p_value for name, one in pooled.items() if one.p_value is not None and samples}
    holm = dict(zip(tested, comparison.holm(list(tested.values())), strict=True))
    return Validated(found, pooled, holm, scores, every, verdicts(found, pairs), sorted(alone))


def _what(student: Mapping[str, Any]) -> str:
    parts = []
    for source in student.get("data", ()):
        parts.append(", ".join(f"{key} {value}" for key, value in source.items()))
    rest = {key: value for key, value in student.items() if key != "data"}
    return " + ".join(parts) + (f"; {json.dumps(rest)}" if rest else "")


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


def _is_one_document(table: pa.Table) -> bool:
    scored = table.filter(pc.is_valid(table.column("gold_spans")))
    return len(pc.unique(scored.column("doc_id"))) == 1


def _resampled(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Return tables in which each sentence is a document where all are of one, of which nothing can be drawn."""
    return [with_column(each, "doc_id", each.column("id")) if _is_one_document(each) else each for each in tables]


def tables_of(validated: Validated) -> str:
    """Return compare.md."""
    table = Table("All languages together", ["student", "F1 by seed"], ["change", "interval", "p", "p (Holm)"])
    for name, f1_of in validated.scores.items():
        cells = ["-", "-", "-", "-"]
        if (found := validated.pooled.get(name)) is not None:
            p_value = "-" if found.p_value is None else f"{found.p_value:.4f}"
            holm = f"{validated.holm[name]:.4f}" if name in validated.holm else "-"
            change = interval_text(found.interval, signed=True, digits=2)
            cells = [f"{100 * found.difference:+.2f}", change, p_value, holm]
        table.add_row(name, ", ".join(f"{100 * f1:.2f}" for f1 in f1_of.values()), *cells)
    by_seed = Table("By language and seed", ["student", "language"], ["P", "R", "F1 by seed", "mean"])
    for (name, lang), own in _grouped(validated.cells).items():
        mean = [100 * sum(getattr(cell, key) for cell in own) / len(own) for key in ("precision", "recall", "f1")]
        f1 = ", ".join(f"{100 * cell.f1:.1f}" for cell in own)
        by_seed.add_row(name, lang, f"{mean[0]:.1f}", f"{mean[1]:.1f}", f1, f"{mean[2]:.1f}")
    parts = [table, by_seed]
    if validated.verdicts:
        parts.append(verdict_table(validated.verdicts, validated.comparison.runs[validated.comparison.reference].name))
    names = ", ".join(validated.one_document)
    note = f"All sentences of {names} are of one document; there resamples draw sentences.\n" if names else ""
    return "\n".join([markdown(validated.comparison), *(f"{part.markdown()}\n" for part in parts), _NOTE + note])


def _grouped(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.student, cell.lang), []).append(cell)
    return found
