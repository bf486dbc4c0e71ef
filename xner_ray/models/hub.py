"""Models by their names in a recipe: files, and the identity that enters the fingerprint.

A name is a folder, `tiny-nllb` or `tiny-clip` (test models in this package), a hub id with an optional `@revision`,
or an address (`s3://bucket/models/x`). `builtin` is for encoders alone; `align/encoder.py` knows it. A model is
loaded from a folder of this machine, whatever its name, and no code comes with it: weights are safetensors, or
pickled ones that were converted into the cache (`convert.py`). Hub ids: `commits.py`.

A model at an address is fetched once per machine into `models/<identity>` of the cache folder and checked there. Its
identity is the hash of its SHA256SUMS (as `sha256sum` writes it) if it has one, and each file is checked against that;
else it is the hash of the names, sizes and times of its files, so the same model uploaded again is another. A pinned
address ends in `#<identity>`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs
from safetensors import SafetensorError, safe_open

from xner_ray.errors import RecipeError, RetryableError, StorageError, one_line
from xner_ray.models import faults, published
from xner_ray.models.commits import HubModel, Say
from xner_ray.models.published import SUMS
from xner_ray.recipe.images import TINY_CLIP, TINY_OWL, Image
from xner_ray.recipe.sections import TINY_NLLB, Tag, Translating
from xner_ray.storage import files as storage
from xner_ray.storage.cache import cache_folder, cached_folder, listed_sums, sha256, sums

Pinned = TypeVar("Pinned", Tag, Translating, Image)

_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_PINNED = re.compile("([^@:]+)@([0-9a-f]{40})")  # a hub id with its commit
_LAYOUT = "safetensors-1"  # count up when the content of a converted folder changes


def _silent(line: str) -> None:
    pass


def local_folder(name: str) -> Path | None:
    """Return the folder of a model, fetched first if the name is an address; None for a hub id."""
    if name in (TINY_NLLB, TINY_CLIP, TINY_OWL):
        return Path(__file__).parent / name
    if "://" in name:
        address, _, identity = name.partition("#")
        return fetch(address, identity or address_identity(address))
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith(("/", "~", ".")) or name.partition("@")[0].count("/") > 1:
        raise RecipeError(f"model {name!r}: no such folder; give a folder, or a hub id such as owner/name@revision")
    return None


def folder_of(name: str, *, weights: bool, say: Say = _silent) -> Path:
    """Return the folder that a model is loaded from, fetched and converted if it is not there.

    weights: with weights, as safetensors; else perhaps without. say: gets a line for what takes long. RecipeError if
    the model cannot be used, ServiceError if the hub may have it later.
    """
    folder = local_folder(name)
    if folder is not None:
        return _safe(folder, say) if weights else folder
    pinned_name = pin(name, say)[0]
    if weights:
        return _whole(pinned_name, say)[0]
    model = _hub_model(pinned_name)
    if (converted := cache_folder() / _converted(model.revision)).is_dir():
        return converted
    with _writing():
        model.light()
    return model.folder


def ready(name: str, say: Say = _silent) -> None:
    """Fetch and convert a hub id or a folder before workers want it; errors as of `folder_of`."""
    if "://" not in name and (_PINNED.fullmatch(name) or Path(name).expanduser().is_dir()):
        folder_of(name, weights=True, say=say)


def pretrained(loader: Any, name: str, key: str, **options: Any) -> Any:
    """Call `loader.from_pretrained` for what needs no weights, with a model's name in a recipe.

    RecipeError, with the `key` of the recipe, if the model cannot be used.
    """
    return _loaded(loader, name, key, folder_of(name, weights=False), options)


def with_weights(loader: Any, name: str, key: str, **options: Any) -> Any:
    """Call `loader.from_pretrained` for a model with its weights; else as `pretrained`."""
    return _loaded(loader, name, key, folder_of(name, weights=True), {"use_safetensors": True, **options})


def complete(loader: Any, name: str, key: str, dtype: Any) -> Any:
    """Call `with_weights` for torch's number format; RecipeError too if weights other than a pooler's are missing."""
    network, info = with_weights(loader, name, key, dtype=dtype, output_loading_info=True)
    if missing := sorted(one for one in info["missing_keys"] if "pooler" not in one):
        raise RecipeError(f"{key} {name!r}: {len(missing)} weights are missing, as {missing[0]}")
    return network


def _loaded(loader: Any, name: str, key: str, folder: Path, options: Mapping[str, Any]) -> Any:
    try:
        with quiet():
            return loader.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True, **options)
    except Exception as error:  # whatever files of other types and shapes make of the library
        said = one_line(f"{type(error).__name__}: {error}".strip())
        if faults.of_this_machine(error):
            raise RetryableError(f"{key} {name!r} cannot be loaded on this machine: {said}") from error
        raise RecipeError(f"{key} {name!r} cannot be used: {said}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars, and warnings about the unused pooler that many checkpoints lack."""
    import transformers.utils.logging

    logging: Any = transformers.utils.logging
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def is_hub_id(name: str) -> bool:
    """Return True for a name of the hub's; RecipeError as of `local_folder`."""
    return "://" not in name and local_folder(name) is None


def pin(name: str, say: Say = _silent) -> tuple[str, str]:
    """Return the name with its revision fixed, and its identity: tree hash, commit on the hub, or that of an address.

    If the hub cannot be reached, the model is looked for in the local hub cache. say: gets a line if a commit is taken
    that nobody named, because the cache has no other. RecipeError, ServiceError.
    """
    if "://" in name:
        address, _, wanted = name.partition("#")
        identity = wanted or address_identity(address)
        fetch(address, identity)
        return f"{address}#{identity}", identity
    folder = local_folder(name)
    if folder is not None:
        _refuse_half(folder)
        return name, tree_hash(folder)
    if known := _PINNED.fullmatch(name):
        return name, known[2]
    model = _hub_model(name)
    with _writing():
        commit = model.commit(say)
    return f"{model.repository}@{commit}", commit


def _hub_model(name: str) -> HubModel:
    repository, _, revision = name.partition("@")
    return HubModel(name, repository, revision, cache_folder() / "models")


@contextmanager
def _writing() -> Iterator[None]:
    """Raise the system's errors of the caches as ours."""
    try:
        yield
    except OSError as error:
        raise storage.failure(str(error.filename or cache_folder()), "written", error) from None


def _whole(name: str, say: Say) -> tuple[Path, list[str]]:
    """Return the folder of a pinned hub id with its weights as safetensors, and the files there that are the model's.

    What is pickled is converted into a folder of the cache with all that loading reads.
    """
    model = _hub_model(name)
    folder = cache_folder() / _converted(model.revision)
    if not folder.is_dir():
        with _writing():
            names, weights = model.light()
            if missing := sum(not (model.folder / file).exists() for file in weights.files):
                say(f"{name}: weights are fetched from the hub, {missing} of {len(weights.files)} files")
            if not weights.pickled:
                for file in weights.files:
                    model.fetched(file)
                return model.folder, sorted({*published.small(names), *weights.files})
        parts = (model.fetched(file) for file in weights.files)
        _into_cache(model.revision, model.folder, names, parts, len(weights.files), name, say)
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return folder, sorted(path for path in paths if path != SUMS)


def _converted(identity: str) -> str:
    return f"models/{identity}-{_LAYOUT}"


def _into_cache(
    identity: str, folder: Path, names: Collection[str], parts: Iterable[Path], count: int, name: str, say: Say
) -> Path:
    """Return a folder of the cache with a model whose pickled weights, in `parts`, are safetensors there."""

    def fill(own: Path) -> None:
        say(f"{name}: its weights are pickled, and converted to safetensors, once on this machine")
        for file in published.kept(names):
            (own / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / file, own / file)
        _convert(parts, count, own, name)

    return cached_folder(_converted(identity), fill)


def _convert(parts: Iterable[Path], count: int, own: Path, name: str) -> None:
    from xner_ray.models import convert  # torch takes seconds

    convert.to_safetensors(parts, count, own, name)
    (own / SUMS).unlink(missing_ok=True)
    (own / SUMS).write_text(sums(own), encoding="utf-8")


def recorded(models: Mapping[str, str], known: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """Return by key the models that a run keeps: its own, pinned, where they are asked for by the words of its start.

    models: the names now. known: the run's, pinned. asked: the names at its start; a run of an earlier version has
    none, and is taken to have asked for no revision.
    """
    return {
        key: known[key]
        for key, name in models.items()
        if key in known and name == asked.get(key, _unpinned(known[key]))
    }


def _unpinned(name: str) -> str:
    if known := _PINNED.fullmatch(name):
        return known[1]
    return name.partition("#")[0] if "://" in name else name


def pinned(section: Pinned) -> tuple[Pinned, str]:
    """Return a section with its model pinned, and the model's identity; errors as of `pin`."""
    model, identity = pin(str(section.model))
    return section.model_copy(update={"model": model}), identity


def _weights(folder: Path, name: str) -> published.Weights:
    """Return which files of a folder hold the weights; RecipeError if none do."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    return published.weights(names, lambda file: (folder / file).read_bytes(), name)


def _refuse_half(folder: Path, name: str | None = None) -> None:
    """Raise RecipeError unless the folder has a configuration and whole weights; reads headers alone.

    Pickled weights have none: whether they are whole shows when they are converted.
    """
    name = name or str(folder)
    weights = _weights(folder, name)
    for file in [] if weights.pickled else weights.files:
        try:
            with safe_open(folder / file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise RecipeError(f"model {name!r}: {file} is no whole safetensors file ({error})") from None


def _safe(folder: Path, say: Say) -> Path:
    """Return a local folder, or one in the cache with its pickled weights as safetensors."""
    name = str(folder)
    weights = _weights(folder, name)
    if not weights.pickled:
        return folder
    names = [path.name for path in folder.iterdir() if path.is_file()]
    parts = (folder / file for file in weights.files)
    return _into_cache(tree_hash(folder)[:32], folder, names, parts, len(weights.files), name, say)


def tree_hash(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def address_identity(address: str) -> str:
    """Return the identity of a model at an address without reading its weights; RecipeError if it has no files."""
    try:
        files = _listed(address)
    except StorageError as error:
        raise RecipeError(f"model {address!r}: {error}") from None
    if SUMS in files:
        return hashlib.sha256(storage.read_bytes(storage.join(address, SUMS))).hexdigest()
    stated = (f"{name}\0{info.size}\0{info.mtime_ns // 10**9}\n" for name, info in sorted(files.items()))
    return hashlib.sha256("".join(stated).encode()).hexdigest()


def _listed(address: str) -> dict[str, fs.FileInfo]:
    """Return the files of a model by their path below its address; RecipeError if there are none."""
    inner = storage.locate(address)[1].rstrip("/")
    files = {str(info.path)[len(inner) + 1 :]: info for info in storage.files_below(address)}
    files = {name: info for name, info in files.items() if not name.startswith(".")}
    if not files:
        raise RecipeError(f"model {address!r}: no files there; give the folder of a model")
    return files


def fetch(address: str, identity: str) -> Path:
    """Return the folder of the model of that identity, fetched into the cache (see `cached_folder`) if it is not there.

    RecipeError if the address holds another model by now, or none.
    """
    return cached_folder(f"models/{identity[:32]}", lambda own: _fill(own, address, identity))


def _fill(own: Path, address: str, identity: str) -> None:
    files = _listed(address)
    places = {name: storage.within(address, str(info.path)) for name, info in files.items()}

    def get(names: Iterable[str]) -> None:
        storage.copy({name: places[name] for name in names}, str(own))

    get([*published.small(files), *([SUMS] if SUMS in files else [])])
    weights = published.weights(files, lambda file: (own / file).read_bytes(), address)
    get(weights.files)
    if address_identity(address) != identity:
        raise RecipeError(
            f"model {address!r}: holds another model than when it was pinned ({identity[:12]}); a run keeps the model "
            "that it began with: put that back, or begin another run"
        )
    stated = dict(_sums(own, address, files)) if SUMS in files else {}
    for name, wanted in stated.items():
        if (own / name).is_file() and sha256(own / name) != wanted:
            raise StorageError(f"model {address!r}: {name} is not what its {SUMS} says; upload the model again")
    for name, info in files.items():
        if (own / name).is_file() and (own / name).stat().st_size != info.size:
            raise StorageError(f"model {address!r}: {name} did not come whole; run the same command again")
    _refuse_half(own, address)
    if weights.pickled:
        _convert(_taken(own, weights), len(weights.files), own, address)


def _taken(own: Path, weights: published.Weights) -> Iterator[Path]:
    """Yield pickled weights, each deleted afterwards."""
    for file in weights.files:
        yield own / file
        (own / file).unlink()
    if weights.listed:
        (own / weights.listed).unlink()


def _sums(folder: Path, address: str, files: Container[str]) -> list[tuple[str, str]]:
    """Return (file, SHA-256) of each line of SHA256SUMS; RecipeError if a line names no file of the model."""
    found = []
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        match = _SUM.fullmatch(line)
        name = os.path.normpath(match[2]) if match else ""
        if not match or name not in files:
            raise RecipeError(f"model {address!r}: the line {line!r} of its {SUMS} names no file of it")
        found.append((name, match[1]))
    return found


def mirror(name: str, models: str, say: Say = _silent) -> str:
    """Copy a pinned hub id below `models`, with its weights as safetensors, unless it is there; return its address.

    models: a folder that every machine reaches, so that only one machine asks the hub. Other names are returned as
    they are. Errors as of `folder_of`, and StorageError for damage in the cache.
    """
    if not _PINNED.fullmatch(name):
        return name
    address = storage.join(models, name.partition("@")[2])
    last = storage.join(address, SUMS)
    if not _is_mirror(last):
        folder, names = _whole(name, say)
        files = {file: (folder / file).resolve() for file in names}
        said = listed_sums(files)
        if folder.name.endswith(_LAYOUT) and {*said.split("\n")} != {*(folder / SUMS).read_text().split("\n")}:
            raise StorageError(f"model {name!r}: {folder} is not what its {SUMS} says; delete it, and run this again")
        storage.copy({file: str(path) for file, path in files.items()}, address)
        storage.publish(last, said.encode())  # with it the copy is whole
    if storage.is_local(address):
        return address
    return f"{address}#{address_identity(address)}"


def _is_mirror(sums: str) -> bool:
    """Return True if the sums of a copy are there, and name weights; earlier versions made copies without any."""
    data = storage.read_if_there(sums)
    return data is not None and any(line.endswith(".safetensors") for line in data.decode().splitlines())
