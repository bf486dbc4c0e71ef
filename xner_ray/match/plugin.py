"""A user's own score functions: read by the driver, loaded and called by workers (`docs/evidence.md`).

The plug-in is a file, whose source travels in the recipe that workers get, or a module that every node can import. The
driver reads it and looks for the functions' names, but runs none of it; only a worker whose recipe names the plug-in
does. The SHA-256 of the source is in the fingerprint. The contract of a function, in plain Python:

    def same_image(row, entity, candidates):
        return [0.0 for candidate in candidates]      # one number from 0 to 1 for each candidate, in their order

row: a dict with `row`, `id`, `doc_id`, `split`, `source_lang`, `lang`, `source_text`, `source_tokens`, `source_spans`,
`text`, `tokens`, and every carried column under its name. Never the gold. entity: {start, end, label, score, text}, a
span of source words. candidates: all candidates of that entity, a list of {start, end, text} over target words. Ranges
are half-open and 0-based; texts are as they stand in the sentences. Each call has objects of its own, which it may
change. It must give the same for the same row, whatever it was called with before. A function `setup()`, if there is
one, is called once a worker, before all others.

A worker calls the functions for each entity of each row that is not rejected, with every candidate that any weights,
thresholds, filters, solver or prior may choose among: so these may change later (`rematch`) without a call.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from xner_ray.data.row import ROW, SCALE, accepted_rows, fill
from xner_ray.errors import FatalError, RecipeError, RetryableError, StorageError, XnerError, did_you_mean
from xner_ray.match import projection
from xner_ray.match.cells import score_cells
from xner_ray.match.scores import Floats
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import SETUP, Evidence, Resolved
from xner_ray.storage import files as storage

Score = Callable[[dict[str, Any], dict[str, Any], list[dict[str, Any]]], Sequence[float]]

GIVEN = (
    *("row", "id", "doc_id", "split", "source_lang", "lang"),
    *("source_text", "source_tokens", "source_spans", "text", "tokens"),
)
"""Columns of ours that a function gets."""


class ReadEvidence(Evidence):
    """The section with the plug-in's source, as workers get it. No recipe can say that, and no file keeps it."""

    source: bytes


class PluginError(Exception):
    """What a function did wrong with one row."""


def resolve(section: Evidence, key: str = "evidence") -> Resolved:
    """Read the plug-in's source into the section; its SHA-256 identifies it, and none of it runs.

    RecipeError if it cannot be read or parsed, or lacks a function.
    """
    plugin = str(section.plugin)
    source = _source(plugin, section.is_file)
    try:
        names = _defined(ast.parse(source, plugin))
    except (SyntaxError, ValueError) as error:
        raise RecipeError(f"evidence.plugin: {plugin} is no Python that can be read: {error}") from None
    for name in section.names:
        if names is not None and name not in names:
            raise RecipeError(f"evidence.scores: {plugin} has no function {name!r}{did_you_mean(name, names)}")
    read = ReadEvidence(**section.model_dump(), source=source)
    return Resolved(read, {"plugin": hashlib.sha256(source).hexdigest()})


def _source(plugin: str, is_file: bool) -> bytes:
    path = plugin
    if not is_file:
        spec, why = None, ""
        try:
            spec = importlib.util.find_spec(plugin)
        except (Exception, SystemExit) as error:  # it runs the packages around a module, whose code may raise anything
            why = f" ({_told(error, plugin)})"
        if spec is None or not (spec.origin or "").endswith(".py"):
            raise RecipeError(
                f"evidence.plugin: no module {plugin!r} with Python source can be imported here{why}; allowed: a file "
                "(NAME.py, relative to the recipe), or a module that is installed on every node"
            )
        path = str(spec.origin)
    try:
        return storage.read_bytes(path)
    except (OSError, StorageError) as error:
        raise RecipeError(f"evidence.plugin: {path} cannot be read: {error}") from None


def _defined(tree: ast.Module) -> set[str] | None:
    """Names that a module binds at its top level, also inside if and try; None where that cannot be known."""
    names: set[str] = set()
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            todo += ast.iter_child_nodes(node)
    return None if "*" in names else names


def load(section: Evidence) -> dict[str, Score]:
    """Run the plug-in and its `setup`; its functions by name.

    RetryableError for what its code raises, or a module of another content than the driver's: another node may do
    better. FatalError if a function is missing.
    """
    assert isinstance(section, ReadEvidence), "the driver reads the plug-in"
    plugin = str(section.plugin)
    try:
        module = _file(plugin, section.source) if section.is_file else importlib.import_module(plugin)
        functions = {name: getattr(module, name, None) for name in section.names}
        if not section.is_file and storage.read_bytes(str(module.__file__)) != section.source:
            raise RetryableError(f"evidence.plugin: {module.__file__} is not what the driver has as {plugin}")
        if callable(setup := getattr(module, SETUP, None)):
            setup()
    except XnerError:
        raise
    except (Exception, SystemExit) as error:
        raise RetryableError(f"evidence.plugin: {_told(error, plugin)}") from error
    found: dict[str, Score] = {}
    for name, function in functions.items():
        if not callable(function):
            raise FatalError(f"evidence.scores: {plugin} has no function {name!r}")
        found[name] = function
    return found


def _file(plugin: str, source: bytes) -> ModuleType:
    module = ModuleType("xner_ray_plugin")
    module.__file__ = plugin
    sys.modules[module.__name__] = module  # data classes and the like look themselves up there
    exec(compile(source, plugin, "exec", dont_inherit=True), module.__dict__)  # without the __future__ of this file
    return module


def _told(error: BaseException, plugin: str) -> str:
    """An exception of the plug-in, or of a package around it, with the last of their own lines that it passed."""
    files = {plugin: os.path.basename(storage.bare(plugin)), getattr(sys.modules.get(plugin), "__file__", None): plugin}
    frames = traceback.extract_tb(error.__traceback__)
    for frame in frames:  # a package whose import fails is not among the modules
        *_, package, name = ("", *frame.filename.split(os.sep))
        if name == "__init__.py" and package in plugin.split(".")[:-1]:
            files[frame.filename] = f"{package}/{name}"
    own = [f"{files[frame.filename]}:{frame.lineno}" for frame in frames if frame.filename in files]
    return f"{own[-1] if own else files[plugin]}: {type(error).__name__}: {error}"


class EvidenceStage:
    """Fills evidence with the scores of the plug-in's functions."""

    name = "evidence"
    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 0

    def __init__(self, recipe: Recipe, functions: Mapping[str, Score]) -> None:
        self.settings, self.method, self.functions = recipe.match, recipe.align.method, dict(functions)
        self.plugin = str(recipe.evidence.plugin)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = projection.read(table)
        batch, spans = rows.batch, projection.every_candidate(rows, self.settings, self.method)
        given = [*GIVEN, *(name for name in table.schema.names if name not in ROW.names)]
        sides = table.select([*given, "source_offsets", "offsets"])
        values: dict[str, Floats] = {name: np.zeros(len(spans)) for name in self.functions}
        first = np.searchsorted(spans.entity, np.arange(len(batch) + 1))
        places = list(zip(spans.start.tolist(), spans.end.tolist(), strict=True))
        known, row, cells = -1, b"", dict[str, Any]()
        for entity, (begin, end) in enumerate(zip(first[:-1].tolist(), first[1:].tolist(), strict=True)):
            if begin == end:
                continue
            if batch.row[entity] != known:
                known = int(batch.row[entity])
                (cells,) = sides.slice(known, 1).to_pylist()
                row = pickle.dumps({name: cells[name] for name in given})
            span = cells["source_spans"][int(rows.source[entity])]
            asked = {**span, "text": _text(cells, "source_", span["start"], span["end"])}
            offered = [{"start": s, "end": e, "text": _text(cells, "", s, e)} for s, e in places[begin:end]]
            for name in self.functions:
                values[name][begin:end] = self._called(name, row, asked, offered)
        at, found = score_cells(values, batch, rows.source, spans)
        by_row: dict[int, list[Any]] = {index: [] for index in accepted_rows(table)}
        for index, cell in zip(at.tolist(), found, strict=True):
            by_row[index].append(cell)
        return fill(table, {"evidence": by_row})

    def _called(self, name: str, row: bytes, entity: dict[str, Any], candidates: list[dict[str, Any]]) -> Floats:
        """The function's answer. row: pickled. PluginError for what it raises, and for what is no score of each."""
        # It may change what it gets, so each call has its own; a pickle loads in about a tenth of copy.deepcopy's time.
        given = pickle.loads(row), dict(entity), [dict(each) for each in candidates]
        try:
            answer = self.functions[name](*given)
        except XnerError:
            raise
        except (Exception, SystemExit) as error:  # a worker must not leave because a function asks for it
            if type(error).__name__ == "OutOfMemoryError":  # of a device: no row's fault
                raise
            raise PluginError(f"{name}: {_told(error, self.plugin)}") from error
        try:
            return checked(answer, len(candidates))
        except ValueError as error:
            raise PluginError(f"{name} for {entity['text']!r}: {error}") from None


def checked(answer: Any, n: int) -> Floats:
    """The scores of n candidates, rounded to 1e-4: float64. ValueError for anything else than n numbers in 0 to 1."""
    wanted = f"allowed: {n} numbers from 0 to 1, one a candidate"
    try:
        found = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError):  # uneven lists; tensors on a device, or with a gradient
        found = np.asarray(None)
    if found.dtype.kind not in "biuf" and found.size:
        raise ValueError(f"returned {type(answer).__name__} that holds no plain numbers; {wanted}")
    if found.shape != (n,):
        raise ValueError(f"returned the shape {found.shape}; {wanted}")
    with np.errstate(over="ignore", invalid="ignore"):
        values: Floats = np.rint(found.astype(np.float64) * SCALE) / SCALE
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        raise ValueError(f"returned {found[wrong][0]} for candidate {int(wrong.argmax())}; {wanted}")
    return values


def _text(cells: Mapping[str, Any], side: str, start: int, end: int) -> str:
    """Words of one side of a row as they stand in its text. side: "source_" or ""."""
    offsets = cells[f"{side}offsets"]
    text: str = cells[f"{side}text"][offsets[start]["start"] : offsets[end - 1]["end"]]
    return text
