"""A user's own score functions: read by the driver, loaded and called by workers (`docs/evidence.md`).

The plug-in is a file, whose source travels to workers in the recipe, or a module that every node can import. The driver
reads it and looks for the functions' names, but runs none of it; only a worker whose recipe names the plug-in does. The
SHA-256 of the source is in the fingerprint. The contract of a function, in plain Python:

    def same_image(row, entity, candidates):
        return [0.0 for candidate in candidates]      # one number from 0 to 1 for each candidate, in their order

row: a dict with `row`, `id`, `doc_id`, `split`, `source_lang`, `lang`, `source_text`, `source_tokens`, `source_spans`,
`text`, `tokens`, and every carried column under its name. Never the gold. entity: {start, end, label, score, text}, a
span of source words. candidates: all candidates of that entity, a list of {start, end, text} over target words. Ranges
are half-open and 0-based; texts are as they stand in the sentences. Each call has objects of its own, which it may
change. It must return the same for the same row, whatever the calls before. A function `setup()`, if there is one, is
called once per worker, before all others.

A worker calls the functions for each entity of each accepted row, with every candidate that any weights, thresholds,
filters, solver or prior may choose: so these may change later (`rematch`) without a call.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import pickle
import symtable
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from xner_ray.data.arrow import Floats
from xner_ray.data.row import SCALE
from xner_ray.errors import FatalError, RecipeError, RetryableError, StorageError, XnerError, did_you_mean
from xner_ray.models.faults import fault_of
from xner_ray.recipe.sections import SETUP, Evidence, Resolved
from xner_ray.storage import files as storage

Score = Callable[[dict[str, Any], dict[str, Any], list[dict[str, Any]]], Sequence[float]]

GIVEN = (
    *("row", "id", "doc_id", "split", "source_lang", "lang"),
    *("source_text", "source_tokens", "source_spans", "text", "tokens"),
)
"""Our columns in a function's `row`."""


class ReadEvidence(Evidence):
    """The section with the plug-in's source, for workers. No recipe has this key, and no file keeps it."""

    source: bytes


class PluginError(Exception):
    """A function's mistake with one row."""


def resolve(section: Evidence, key: str = "evidence") -> Resolved:
    """Read the plug-in's source into the section; its SHA-256 identifies it, and none of it runs.

    RecipeError if it cannot be read or parsed, or lacks a function.
    """
    plugin = str(section.plugin)
    source = _source(plugin, section.is_file)
    try:
        names = _defined(source, plugin)
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
        except (Exception, SystemExit) as error:  # this runs the packages around a module, which may raise anything
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


def _defined(source: bytes, plugin: str) -> set[str] | None:
    """Return the names that a module binds at its top level, None if a star import hides some."""
    text = importlib.util.decode_source(source)
    imports = (node for node in ast.walk(ast.parse(text, plugin)) if isinstance(node, ast.ImportFrom))
    if any(node.names[0].name == "*" for node in imports):
        return None
    symbols = symtable.symtable(text, plugin, "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def load(section: Evidence) -> dict[str, Score]:
    """Run the plug-in and its `setup`; return its functions by name.

    RetryableError for what its code raises, or if the module differs from the driver's: another node may do better.
    FatalError if a function is missing.
    """
    assert isinstance(section, ReadEvidence), "the driver reads the plug-in"
    plugin = str(section.plugin)
    try:
        module = _file(plugin, section.source) if section.is_file else _module(plugin, section.source)
        functions = {name: getattr(module, name, None) for name in section.names}
        if not section.is_file and storage.read_bytes(str(module.__file__)) != section.source:
            raise RetryableError(f"evidence.plugin: {module.__file__} differs from the driver's {plugin}")
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


def _module(plugin: str, source: bytes) -> ModuleType:
    """Import a module; one that this process has imported already, perhaps in an earlier state, is run anew."""
    known = sys.modules.get(plugin)
    if known is None:
        return importlib.import_module(plugin)
    exec(compile(source, str(known.__file__), "exec", dont_inherit=True), known.__dict__)
    return known


def _told(error: BaseException, plugin: str) -> str:
    """Return an exception of the plug-in, or of a package around it, with the last line of theirs in its traceback."""
    files = {plugin: os.path.basename(storage.bare(plugin)), getattr(sys.modules.get(plugin), "__file__", None): plugin}
    frames = traceback.extract_tb(error.__traceback__)
    for frame in frames:  # a package whose import fails is not among the modules
        *_, package, name = ("", *frame.filename.split(os.sep))
        if name == "__init__.py" and package in plugin.split(".")[:-1]:
            files[frame.filename] = f"{package}/{name}"
    own = [f"{files[frame.filename]}:{frame.lineno}" for frame in frames if frame.filename in files]
    return f"{own[-1] if own else files[plugin]}: {type(error).__name__}: {error}"


def call(
    name: str, function: Score, plugin: str, row: bytes, entity: dict[str, Any], candidates: list[dict[str, Any]]
) -> Floats:
    """Return a function's scores of the candidates. PluginError for whatever it raises or returns instead.

    name: of the function. row: pickled.
    """
    # The function may change its arguments, so each call has its own; pickle takes a tenth of copy.deepcopy's time.
    given = pickle.loads(row), dict(entity), [dict(each) for each in candidates]
    try:
        answer = function(*given)
    except XnerError:
        raise
    except (Exception, SystemExit) as error:  # a worker must not leave because a function asks for it
        if isinstance(error, Exception) and fault_of(error):  # no row's fault
            raise
        raise PluginError(f"{name}: {_told(error, plugin)}") from error
    try:
        return checked(answer, len(candidates))
    except ValueError as error:
        raise PluginError(f"{name} for {entity['text']!r}: {error}") from None


def checked(answer: Any, n: int) -> Floats:
    """Return the scores of n candidates, rounded to 1e-4: float64. ValueError unless they are n numbers in 0 to 1."""
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
