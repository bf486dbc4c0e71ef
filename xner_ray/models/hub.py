"""Models by their names in a recipe: files, and the identity that enters the fingerprint.

A name is a folder, `tiny-nllb` (the test model in this package), a hub id with an optional `@revision`, or an address
(`s3://bucket/models/x`). `builtin` is for encoders alone; `align/encoder.py` knows it. Weights are safetensors, and no
code comes with a model.

A model at an address is fetched once per machine into `models/<identity>` of the cache folder and checked there. Its
identity is the hash of its SHA256SUMS (as `sha256sum` writes it) if it has one, and each file is checked against that;
else it is the hash of the names, sizes and times of its files, so the same model uploaded again is another. A pinned
address ends in `#<identity>`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs
from safetensors import SafetensorError, safe_open

from xner_ray.errors import RecipeError, StorageError
from xner_ray.recipe.sections import TINY_NLLB, Tag, Translating
from xner_ray.storage import files as storage
from xner_ray.storage.cache import cached_folder, listed_sums, sha256

Pinned = TypeVar("Pinned", Tag, Translating)

_SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_PINNED = re.compile("([^@:]+)@([0-9a-f]{40})")  # a hub id with its commit
# Files that loading a model reads; no weights in formats that can run code.
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.spm", "*.bpe", "*.tiktoken"]


def local_folder(name: str) -> Path | None:
    """Return the folder of a model, fetched first if the name is an address; None for a hub id."""
    if name == TINY_NLLB:
        return Path(__file__).parent / TINY_NLLB
    if "://" in name:
        address, _, identity = name.partition("#")
        return fetch(address, identity or address_identity(address))
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith(("/", "~", ".")) or name.partition("@")[0].count("/") > 1:
        raise RecipeError(f"model {name!r}: no such folder; give a folder, or a hub id such as owner/name@revision")
    return None


def load_arguments(name: str) -> tuple[str, dict[str, Any]]:
    """Return the first argument and the options of a `from_pretrained` call."""
    folder = local_folder(name)
    if folder is not None:
        return str(folder), {"local_files_only": True}
    repository, _, revision = name.partition("@")
    return repository, {"revision": revision or None}


def pretrained(loader: Any, name: str, key: str, **options: Any) -> Any:
    """Call `loader.from_pretrained` with a model's name in a recipe; no code comes with the model.

    RecipeError, with the `key` of the recipe, if the model cannot be used.
    """
    path, where = load_arguments(name)
    try:
        with quiet():
            return loader.from_pretrained(path, trust_remote_code=False, **where, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(f"{key} {name!r} cannot be used: {error}") from error


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


def pin(name: str, say: Callable[[str], None] = lambda line: None) -> tuple[str, str]:
    """Return the name with its revision fixed, and its identity: tree hash, commit on the hub, or that of an address.

    If the hub cannot be reached, the model is looked for in the local hub cache. say: gets a line if a commit is taken
    that nobody named, because the cache has no other.
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
    from huggingface_hub import HfApi, errors

    # The base class of the HTTP library that the hub's client uses: no answer, or a refusal.
    unreachable = getattr(errors, "HTTPError", errors.HfHubHTTPError)
    repository, _, revision = name.partition("@")
    try:
        commit = str(HfApi().model_info(repository, revision=revision or None, timeout=10).sha)
    except errors.RepositoryNotFoundError:
        raise RecipeError(f"model {name!r}: neither a folder here nor a model on the hub") from None
    except errors.RevisionNotFoundError:
        raise RecipeError(f"model {name!r}: the hub has the model, but no revision {revision!r} of it") from None
    except (unreachable, OSError):
        commit = _cached_commit(name, repository, revision, say)
    return f"{repository}@{commit}", commit


def _cached_commit(name: str, repository: str, revision: str, say: Callable[[str], None]) -> str:
    """Return the commit that a name stands for in the local hub cache; RecipeError if it stands for none, or several.

    A cache that was filled by commits, as runs fill it, says of no commit that it is main.
    """
    from huggingface_hub import constants, errors, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    try:
        cached = snapshot_download(
            repository, revision=revision or None, local_files_only=True, allow_patterns=["config.json"]
        )
        return Path(cached).name
    except (errors.LocalEntryNotFoundError, OSError):
        pass
    folder = Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=repository, repo_type="model")
    commits = sorted(path.parent.name for path in folder.glob("snapshots/*/config.json"))
    if len(commits) == 1 and not revision:
        say(f"{repository}: the hub cannot be reached; {commits[0]} is taken, the only commit in the local hub cache")
        return commits[0]
    if commits:
        choices = ", ".join(f"{repository}@{commit}" for commit in commits)
        raise RecipeError(
            f"model {name!r}: the hub cannot be reached, and the local hub cache does not say which commit "
            f"{revision or 'main'} is; name one that it has: {choices}"
        )
    raise RecipeError(
        f"model {name!r}: no such folder, the hub cannot be reached, and it is not in the local hub cache; "
        "give a folder, or fetch the model where there is a network"
    )


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


def _refuse_half(folder: Path, name: str | None = None) -> None:
    """Raise RecipeError unless the folder has a configuration and whole safetensors files; reads headers alone."""
    name = name or str(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise RecipeError(f"model {name!r}: needs a config.json and weights as *.safetensors")
    for path in weights:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise RecipeError(f"model {name!r}: {path.name} is no whole safetensors file ({error})") from None


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
    if _SUMS in files:
        return hashlib.sha256(storage.read_bytes(storage.join(address, _SUMS))).hexdigest()
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
    storage.copy({name: storage.within(address, str(info.path)) for name, info in files.items()}, str(own))
    if address_identity(address) != identity:
        raise RecipeError(
            f"model {address!r}: holds another model than when it was pinned ({identity[:12]}); a run keeps the model "
            "that it began with: put that back, or begin another run"
        )
    sums = dict(_sums(own, address)) if _SUMS in files else {}
    for name, wanted in sums.items():
        if sha256(own / name) != wanted:
            raise StorageError(f"model {address!r}: {name} is not what its {_SUMS} says; upload the model again")
    for name, info in files.items():
        if (own / name).stat().st_size != info.size:
            raise StorageError(f"model {address!r}: {name} did not come whole; run the same command again")
    _refuse_half(own, address)


def _sums(folder: Path, address: str) -> list[tuple[str, str]]:
    """Return (file, SHA-256) of each line of SHA256SUMS; RecipeError if a line names no file of the model."""
    found = []
    for line in (folder / _SUMS).read_text(encoding="utf-8").splitlines():
        match = _SUM.fullmatch(line)
        name = os.path.normpath(match[2]) if match else ""
        if not match or name.startswith(("..", "/")) or not (folder / name).is_file():
            raise RecipeError(f"model {address!r}: the line {line!r} of its {_SUMS} names no file of it")
        found.append((name, match[1]))
    return found


def mirror(name: str, models: str) -> str:
    """Copy the files of a pinned hub id below `models`, unless they are there, and return their address.

    models: a folder that every machine reaches, so that only one machine asks the hub. Other names are returned as
    they are.
    """
    if not _PINNED.fullmatch(name):
        return name
    repository, _, commit = name.partition("@")
    address = storage.join(models, commit)
    sums = storage.join(address, _SUMS)
    if not storage.exists(sums):
        from huggingface_hub import errors, snapshot_download

        try:
            snapshot = Path(snapshot_download(repository, revision=commit, allow_patterns=_FILES))
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
            raise RecipeError(f"model {name!r}: cannot be fetched from the hub ({error})") from None
        paths = sorted(path for pattern in _FILES for path in snapshot.rglob(pattern))
        files = {path.relative_to(snapshot).as_posix(): path.resolve() for path in paths}
        storage.copy({name: str(path) for name, path in files.items()}, address)
        storage.publish(sums, listed_sums(files).encode())  # last: with it the copy is whole
    if storage.is_local(address):
        return address
    return f"{address}#{address_identity(address)}"
