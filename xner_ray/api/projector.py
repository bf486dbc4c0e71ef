"""A projector in memory: sentences in, projected sentences out, by the stages and the rules of `project`.

    with Projector(targets=["spa_Latn"]) as projector:
        rows = projector.project(["Ana lives in Paris."], parallel={"spa_Latn": ["Ana vive en París."]})

Each call is a run of its own in a temporary folder: the sentences become its input files, and the same code indexes,
reads, translates, tags, aligns, matches and counts them. What a run does for the sake of its folder is left out:
fingerprint, published files, page. Models stay loaded from one call to the next.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from xner_ray.api.given import NAME, Given, write
from xner_ray.api.rows import Rows
from xner_ray.api.settings import Settings
from xner_ray.api.watched import console_of
from xner_ray.commands.project import make_units
from xner_ray.commands.session import Begun, Session, begin
from xner_ray.engine import resolve
from xner_ray.engine.executor import loading
from xner_ray.engine.inline import InlineExecutor
from xner_ray.engine.pools import group
from xner_ray.engine.stages import Models, build
from xner_ray.engine.worker import PAUSES_S, load_patiently
from xner_ray.errors import RecipeError, XnerError
from xner_ray.match.prior import Prior
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.recipe.model import Recipe, run_labels
from xner_ray.run import parts as part_files
from xner_ray.run import whole
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.storage import hub

_ONE_AT_A_TIME = threading.RLock()  # threads and number formats of torch belong to the process


class Projector:
    """Projects sentences in this process, without Ray and without a run folder.

    recipe: a file, an address, a mapping or a `Recipe`, as `project` takes it; None: the defaults. Its `input.path`,
    `input.parallel` and `input.links` are not read: sentences come with each call. settings: sections of the recipe, by
    their names, each key of which replaces the recipe's, as in `align={"method": "argmax"}` or `targets=["swh_Latn"]`;
    `lang` stands for `input.lang`. Where sentences are plain texts, which have no labels, and no tagger is named, the
    built-in one tags them.

    Models are loaded by the first call that needs them, or by `load`, and kept until `close` or the end of a `with`
    block. Threads may share a projector; calls of all projectors of a process run one after the other, since torch's
    settings are the process's.

    RecipeError for a wrong key or value, and for what cannot be done in memory, with the key.
    """

    def __init__(
        self,
        recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None = None,
        *,
        progress: bool | None = None,
        **settings: Any,
    ) -> None:
        """progress: whether to show what is loaded and done; None: in a notebook and on a terminal."""
        self._settings = Settings(recipe, settings)
        self._progress = progress
        self._models = Models()
        self._resolved: dict[str, Recipe] = {}
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._models)} models loaded"
        return f"<Projector {self._settings.described}: {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the models. A closed projector projects no more."""
        with _ONE_AT_A_TIME:
            self._models.clear()
            self._resolved.clear()
            self._closed = True

    def load(self, *, parallel: Iterable[str] = (), texts: bool = True) -> Self:
        """Load the models now, instead of at the first call; return the projector.

        parallel: the languages whose text calls will give, so that no translator is loaded for them. texts: whether
        their sentences will be plain texts, which a tagger has to read.
        """
        beside = dict.fromkeys(self._settings.codes(dict.fromkeys(parallel), "parallel"), NAME)
        with _ONE_AT_A_TIME:
            console = console_of(self._progress)
            given = self._settings.of(Given({"path": NAME, "parallel": beside}, texts), None)
            recipe = self._definite(given, console)
            console.print(Text(f"loading {loading(recipe)}"))
            load_patiently(recipe.stages, lambda name: build(name, recipe, self._models), PAUSES_S)
        return self

    def project(
        self,
        sentences: Any,
        *,
        parallel: Mapping[str, Any] | None = None,
        links: Mapping[str, Iterable[str]] | None = None,
        targets: Sequence[str] | None = None,
    ) -> Rows:
        """Project sentences; every one of them is a row of the result, or one of its `rejects`.

        sentences: texts; records with the keys of JSON lines (`tokens` with `ner_tags` or `spans`, `text` with `spans`,
        `id`, `doc_id`, others of your own); an Arrow table or anything that gives one, as a pandas or polars frame; a
        `datasets.Dataset`. parallel: by language the text that you have already, sentence i to sentence i, of the same
        kinds; its labels are gold. links: by language a line `i-j i-j` for each sentence, with `align.backend:
        provided`. targets: the languages of this call; None: the recipe's, or those of `parallel`.

        InputError for what cannot be read at all, RecipeError for a setting that does not fit it. Rejected sentences
        raise nothing, however many they are: `output.max_reject_rate` is a run's.
        """
        started = time.perf_counter()
        if self._closed:
            raise RecipeError("projector: is closed, and its models are gone; make a new one")
        with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="xner_ray-") as folder:
            try:
                beside = self._settings.codes(parallel or {}, "parallel")
                of_links = self._settings.codes(links or {}, "links")
                given = write(folder, sentences, beside, of_links, text_key=self._settings.text_key)
                recipe = self._settings.of(given, targets)
                return self._projected(recipe, RunFolder(os.path.join(folder, "run")), started)
            except XnerError as error:  # the files are ours: what is in them has its own names
                error.args = tuple(str(each).replace(f"{folder}{os.sep}", "") for each in error.args)
                raise

    def _projected(self, given: Recipe, folder: RunFolder, started: float) -> Rows:
        console = console_of(self._progress)

        def say(line: str) -> None:
            console.print(Text(line))

        hub.begin(None)
        resolve.check_cheap(given)
        index = build_index(given)
        resolve.check_contexts(given, index.extra)
        recipe = self._definite(given, console)
        labels = run_labels(recipe, index.labels_found)
        resolve.check_labels(recipe, labels)
        executor = InlineExecutor(recipe, models=self._models)
        groups = group(recipe, executor.capacity, len(index.units))
        begin(folder, Begun(recipe, {}), index)
        session = Session(folder, recipe, index, executor, console, started)
        for line in [*index.said, *index.problems()]:
            say(line)
        make_units(session, index.units, groups, recipe)
        first = folder.parts()
        report, final = session.finish()
        return _rows(session, report, first, final)

    def _definite(self, given: Recipe, console: Console) -> Recipe:
        """Return the recipe with models pinned and settings decided: once for all calls that differ in files alone."""
        key = json.dumps(
            given.model_dump(mode="json", exclude={"input": {"path", "parallel", "links", "format"}})
            | {"given": sorted(given.input.parallel)},
            sort_keys=True,
        )
        if key not in self._resolved:
            if names := ", ".join(f"{key} {name}" for key, name in given.models()):
                console.print(Text(f"looking at models: {names}"))
            found, _ = resolve.resolve(given, say=lambda line: console.print(Text(line)))
            resolve.ready(found, lambda line: console.print(Text(line)))
            self._resolved[key] = found
        return self._resolved[key].model_copy(update={"input": given.input})


def _rows(session: Session, report: Any, first: Mapping[str, str], final: Mapping[str, str]) -> Rows:
    """Return the rows of a finished run in memory, with all that `explain` wants of them."""
    index: Index = session.index
    priors: dict[str, Prior | None] = {}
    if session.recipe.two_passes:
        for lang in index.n_rows:
            path = storage.join(session.folder.priors_folder, f"{lang}.parquet")
            priors[lang] = Prior.from_parquet(whole.read(path))
    tables, matched = [], []
    for unit in index.units:
        tables.append(part_files.read_part(final[unit.name]))
        matched.append(tables[-1] if first[unit.name] == final[unit.name] else part_files.read_part(first[unit.name]))
    return Rows(pa.concat_tables(tables), pa.concat_tables(matched), session.recipe, report, priors)
