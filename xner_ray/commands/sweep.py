"""The command `sweep`: a run of each method on each data set, and their comparison.

Methods whose recipes differ only in `match`, `output` and `align.method` share the results of reading, translation,
tagging and alignment. One of them is projected and the others are rematched from it, with the same bytes as runs made
from the input (`commands.rematch`); every other method is a run of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from xner_ray import defaults
from xner_ray.commands.compare import compare
from xner_ray.commands.project import project
from xner_ray.commands.rematch import rematch
from xner_ray.engine.choice import kept_open
from xner_ray.errors import RecipeError, XnerError
from xner_ray.evaluate.comparison import Comparison
from xner_ray.evaluate.controls import Verdict, verdicts
from xner_ray.evaluate.scores import By
from xner_ray.recipe.data_set import overrides_of
from xner_ray.recipe.load import checked, home, load_recipe, read_mapping
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.settings import anchored
from xner_ray.recipe.sweep import Planned, Sweep, shared
from xner_ray.report.comparison import markdown, verdict_table
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

_COMPARISON = ("compare.md", "compare.json")


@dataclass(frozen=True)
class Swept:
    """The comparison of methods, the report of each method, and the verdicts on those with controls, by data set."""

    comparisons: dict[str, Comparison]
    reports: dict[str, dict[str, Report]]
    verdicts: dict[str, list[Verdict]]


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Load and check a sweep file. RecipeError says which key is wrong."""
    shape = "a sweep is a mapping of data (name: recipe file) and methods (name: {recipe key: value})"
    return checked(Sweep, read_mapping(Path(path), shape), os.fspath(path))


def planned(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> list[Planned]:
    """Return the runs of a sweep, each after its source. RecipeError if any recipe is wrong."""
    sweep, folder = load_sweep(path), Path(path).resolve().parent
    runs = []
    for data, given in sweep.data.items():
        file = given.file(folder)
        found = []
        for method, own in sweep.methods.items():
            # In this order: a mapping replaces what was set in it before, a key in it only itself.
            changes = [*overrides_of(sweep.settings), *overrides_of(given.settings), *overrides_of(own or {})]
            changes = [*anchored(Recipe, changes, home(file)), *overrides]
            try:
                recipe = load_recipe(file, changes)
            except RecipeError as error:
                raise RecipeError(f"{os.fspath(path)}: {data}, {method}: {error}") from None
            found.append(Planned(data, method, file, changes, recipe, None))
        runs += shared(found)
    return runs


def sweep(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    samples: int = defaults.PAIRED_SAMPLES,
    seed: int = 0,
    by: By | None = None,
    console: Console | None = None,
) -> Swept:
    """Make the runs of a sweep file in `out`/DATA/METHOD, compare them, and write `out`/compare.md and compare.json.

    The same call resumes. overrides: for every run, after the file's settings. fresh: discard the runs that are there.
    RecipeError for a wrong recipe, before any work; an error of a run names it.
    """
    console = console or Console(quiet=True)
    runs, methods = planned(path, overrides), load_sweep(path)
    root = RunFolder(os.fspath(out)).root

    def begun(run: Planned) -> None:  # an earlier comparison does not cover it
        for name in _COMPARISON:
            storage.delete(storage.join(root, name))

    reports = made(runs, root, fresh=fresh, console=console, begun=begun)
    against = methods.against or next(iter(methods.methods))

    def compared(data: str, names: Iterable[str], reference: str) -> Comparison:
        folders = [storage.join(root, data, method) for method in names]
        return compare(folders, against=storage.join(root, data, reference), samples=samples, seed=seed, by=by)

    comparisons = {data: compared(data, methods.methods, against) for data in methods.data}
    judged = {
        data: verdicts(found, {pair: compared(data, pair, pair[1]) for pair in methods.controls.items()})
        for data, found in comparisons.items()
    }
    text = "\n".join(
        f"## {data}\n\n{markdown(found)}" + (f"\n{verdict_table(own, against).markdown()}\n" if own else "")
        for (data, found), own in zip(comparisons.items(), judged.values(), strict=True)
    )
    plain = {data: found.to_dict() for data, found in comparisons.items()}
    for data, own in judged.items():
        plain[data] |= {"teachers": [{**asdict(one), "better": one.better} for one in own]} if own else {}
    for name, said in zip(_COMPARISON, (text, json.dumps(plain, indent=1, ensure_ascii=False) + "\n"), strict=True):
        storage.publish(storage.join(root, name), said.encode())
    return Swept(comparisons, reports, judged)


def made(
    runs: Sequence[Planned],
    root: str,
    *,
    fresh: bool = False,
    console: Console,
    begun: Callable[[Planned], None] = lambda run: None,
) -> dict[str, dict[str, Report]]:
    """Make runs in `root`/DATA/METHOD, in their order; return their reports by data set and method.

    What is there already stays, unless `fresh`. begun: called before a run that is not. An error of a run names it.
    """
    reports: dict[str, dict[str, Report]] = {run.data: {} for run in runs}
    whole = not fresh and all(RunFolder(storage.join(root, run.data, run.method)).is_sealed() for run in runs)
    with nullcontext() if whole else kept_open(runs[0].recipe):
        for number, run in enumerate(runs, start=1):
            how = "projected" if run.source is None else f"rematched from {run.source}"
            console.print(Text(f"{number}/{len(runs)} {run.data}/{run.method}, {how}", "bold"))
            folder = storage.join(root, run.data, run.method)
            if fresh or not RunFolder(folder).is_sealed():
                begun(run)
            try:
                if run.source is None:
                    report = project(run.recipe_file, folder, overrides=run.overrides, fresh=fresh, console=console)
                else:
                    source = storage.join(root, run.data, run.source)
                    report = rematch(source, folder, overrides=_matching(run.recipe), fresh=fresh, console=console)
            except XnerError as error:
                error.args = (f"{run.data}/{run.method}: {error}",)
                raise
            reports[run.data][run.method] = report
    return reports


def _matching(recipe: Recipe) -> list[str]:
    """Return all that a rematch may change, so that nothing of the source's own matching is left."""
    sections = {name: getattr(recipe, name).model_dump(mode="json") for name in ("match", "output")}
    return overrides_of({**sections, "align.method": recipe.align.method})
