"""The trainings of an experiment: each student of each seed and fold, known by all that decides its predictions."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from xner_ray.commands.validation.item import Item
from xner_ray.commands.validation.recipe import TAGGED, Experiment, evaluated, merged, refuse_tests_in
from xner_ray.errors import RecipeError, XnerError, did_you_mean
from xner_ray.models import cpu_dtype, e5, hub
from xner_ray.recipe.settings import place
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.train.load import fingerprint, load_training, pinned
from xner_ray.train.recipe import Split, Training
from xner_ray.train.states import FrozenStateCache

_LANG = "{lang}"
_KEY = b"xner_ray student 3"  # counted up when the same training gives other predictions
_DTYPE = "fit.dtype: bfloat16"  # in encoders.json: the number format that stands for it
# States of frozen layers, for all trainings of a worker process
_cache = cache(FrozenStateCache)


def trainings(experiment: Experiment, base: Path, root: str, say: Callable[[str], None]) -> list[Item]:
    """Return all trainings; students of a seed and fold, which share most of what they read, one after the other.

    Encoders are those that the experiment began with, which is written down.
    """
    found: list[tuple[tuple[int, int], Item]] = []
    parts = [None] if experiment.folds is None else range(experiment.folds)
    record = storage.join(root, "encoders.json")
    known: dict[str, str] = json.loads(storage.read_if_there(record) or "{}")
    formats: dict[str, Literal["auto", "float32", "bfloat16"]] = {}
    pins: dict[str, tuple[str, str]] = {}
    for student, own in experiment.students.items():
        tagged = TAGGED in own
        per_language = _LANG in json.dumps(own)
        for lang in experiment.languages if per_language else [None]:
            langs = [lang] if lang is not None else experiment.languages
            keys = _tagged(own[TAGGED], langs) if tagged else own
            common = {**merged(experiment.student, keys), "evaluate": evaluated(experiment, langs)}
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
                item = Item(student, lang, training, path, identity, tagged)
                found.append(((0, 0) if fold is None else (seed, fold), item))
    new = {asked: name for asked, (name, _) in pins.items() if asked != name and asked not in known}
    if "bfloat16" in formats:
        new |= {_DTYPE: formats["bfloat16"]}
    if new.items() - known.items():
        storage.publish(record, json.dumps(known | new, indent=1, sort_keys=True).encode())
    return [item for _, item in sorted(found, key=itemgetter(0))]


def _tagged(run: str, langs: Sequence[str]) -> dict[str, Any]:
    """Return a student's keys for all entities of a run in some languages."""
    every_row = {"incomplete": "keep", "bad_translations": "keep"}
    whole = {"labels": "projected", "splits": list(get_args(Split)), "filters": every_row}
    return {"data": [{"run": run, "langs": list(langs), **whole}]}


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


def mirrored(items: Sequence[Item], models: str) -> list[Item]:
    """Return the items with encoders of the hub replaced by copies that every machine can read."""
    places = {name: hub.mirror(name, models) for name in {item.training.model.encoder for item in items}}
    return [replace(item, training=item.training.with_encoder(places[item.training.model.encoder])) for item in items]


def is_made(item: Item) -> bool:
    """Tell whether the predictions of this very training are there."""
    if (data := storage.read_if_there(item.path)) is None:
        return False
    try:
        found = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError):  # damaged, so it is made again
        return False
    return (found.schema.metadata or {}).get(_KEY) == _identity(item)


def _identity(item: Item) -> bytes:
    keys = fingerprint(item.training, encoder=item.encoder) | ({TAGGED: True} if item.tagged else {})
    labels = item.training.labels
    if item.training.model.encoder != e5.BUILTIN and (labels.mask or labels.keep is not None):
        keys["predictions"] = "of these labels"  # a head that is kept may know others
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest().encode()


def train(item: Item) -> XnerError | None:
    """Train one item in this process and publish its predictions; return why it cannot be trained."""
    import torch

    from xner_ray.train.student import tagged

    torch.set_num_threads(1)
    try:
        made = tagged(item.training) if item.tagged else _trained(item.training)
    except XnerError as error:
        return error
    made = made.replace_schema_metadata({_KEY: _identity(item)})
    sink = io.BytesIO()
    pq.write_table(made, sink)
    storage.publish(item.path, sink.getvalue())
    return None


def _trained(training: Training) -> pa.Table:
    from xner_ray.train import student

    settings = training.fit
    trained = student.train(training, cache=_cache(settings.cache_gb * 1e9, settings.cache_disk_gb * 1e9), samples=0)
    assert trained.tables is not None
    return trained.tables
