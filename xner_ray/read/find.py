"""Find the files that an input means.

A path is a file, a folder (all files of the format at any depth, except below names with a leading `.` or `_`), a
glob, or a URI. Files are read in the order of their splits, then of their paths. In a folder or a glob their names
give the split, as in `datasets` (`train-00000.parquet`, `dev/a.conll`); a single file is `train`. The address of each
file of a data set on the hub names the commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import takewhile

from pyarrow import fs

from xner_ray.errors import InputError, StorageError
from xner_ray.read.record import TABLES, File, Kind, Stated, split_name, split_of_file
from xner_ray.recipe.columns import SPLITS, Columns
from xner_ray.storage import files as storage
from xner_ray.storage import hub, sums

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "conll": ("conll", "conll02", "conll03", "conll2002", "conll2003", "iob", "bio", "iobes", "bioes", "bilou"),
    "uner": ("iob2",),
    "jsonl": ("jsonl", "ndjson"),
    "json": ("json",),
    "spacy": ("spacy",),
    "parquet": ("parquet",),
    "dataset": ("arrow",),
    "run": (),
    "text": ("txt", "text"),
    "links": (),
}
_MAGIC = "*?["
_NOTHING = Stated()


_COPIES = "/runtime_resources/working_dir_files/"  # where Ray unpacks what `ray job submit --working-dir` sends


@dataclass(frozen=True, slots=True)
class Found:
    """A file that an input means: address, path below the folder that the user named, split, stamp."""

    path: str
    relative: str
    split: str
    stamp: str  # size and time of last change
    features: str = ""


def find_files(
    path: str | dict[str, str],
    *,
    format: Kind | None,
    lang: str,
    side: str,
    columns: Columns,
    sentences: bool = False,
    carried: bool = True,
    carry: Sequence[str] | None = None,
    stated: Stated = _NOTHING,
) -> list[File]:
    """Return the files of one input in reading order.

    path: `{lang}` in it becomes `lang`. carried: whether other columns are carried. carry: their names; None: all.
    stated: how the recipe says that they are written.
    InputError if there is no file, or the format cannot be guessed.
    """
    paths: dict[str, str] = path if isinstance(path, dict) else {"": path}
    found: list[tuple[Kind, Found]] = []
    for split in sorted(paths, key=lambda name: SPLITS.index(name) if name else 0):
        files = _find(paths[split].replace("{lang}", lang), format, lang, side)
        found += [(kind, replace(item, split=split or item.split)) for kind, item in files]
    found.sort(key=lambda pair: SPLITS.index(pair[1].split))  # stable: within a split they are sorted already
    names = _short_names([item for _, item in found])
    given = (side, sentences, columns)
    wanted = None if carry is None else tuple(carry)
    return [
        File(item.path, name, kind, lang, item.split, *given, item.features, carried, item.stamp, wanted, stated)
        for (kind, item), name in zip(found, names, strict=True)
    ]


def contents(files: Sequence[File], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a resume must find the same: format and SHA-256 of each file under `<split>/<short name>`.

    In a folder of save_to_disk, whose order is not that of the names, also the file's number and its features, which
    are in another file. known: sums of objects by their `storage.sums.stamp`. StorageError.
    """
    found = sums.sums([_here(file.path) for file in files], known)
    return _stated(files, [f"sha256:{digest}" for digest in found])


def stamps(files: Sequence[File]) -> dict[str, str]:
    """Return the same with size and time of last change, as earlier versions recorded it."""
    return _stated(files, [file.stamp for file in files])


def _stated(files: Sequence[File], identities: Sequence[str]) -> dict[str, str]:
    stated = {}
    for number, (file, identity) in enumerate(zip(files, identities, strict=True)):
        features = f" {zlib.crc32(file.features.encode()):08x}" if file.features else ""
        order = f" {number}{features}" if file.format == "dataset" else ""
        stated[f"{file.split}/{file.name}"] = f"{file.format} {identity}{order}"
    return stated


def paths(files: Sequence[File]) -> dict[str, str]:
    """Return the path of each file under the same names."""
    return {f"{file.split}/{file.name}": file.path for file in files}


def _short_names(found: Sequence[Found]) -> list[str]:
    """Return the base names if they differ, else the paths below the last folder that all files share."""
    paths = [hub.unpinned(storage.bare(item.path)).split("/") for item in found]
    if len({parts[-1] for parts in paths}) == len(paths):
        return [parts[-1] for parts in paths]
    levels = zip(*(parts[:-1] for parts in paths), strict=False)
    common = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return ["/".join(parts[common:]) for parts in paths]


def _find(path: str, format: Kind | None, lang: str, side: str) -> list[tuple[Kind, Found]]:
    """Return the files of a path, with their formats. InputError if there is none."""
    path = storage.pinned(path)
    inner = storage.locate(path)[1]
    info = _info(path)
    if info.type == fs.FileType.File:
        kind = format or guess(path, [inner])
        return [(kind, Found(path, info.base_name, "train", _stamp(path, info)))]
    if info.type == fs.FileType.Directory:
        return _folder(path, inner, format, lang, side)
    if not any(sign in inner for sign in _MAGIC):
        raise InputError(f"{path}: no such file or folder")
    parts = inner.split("/")
    fixed = next(index for index, part in enumerate(parts) if any(sign in part for sign in _MAGIC))
    root = "/".join(parts[:fixed])
    below = _below(path, root)
    matching = [item for item in below if _matches(item.relative.split("/"), parts[fixed:])]
    if not matching:
        raise InputError(f"{path}: no file matches")
    kind = format or guess(path, [item.relative for item in matching])
    return [(kind, item) for item in matching]


def _folder(path: str, inner: str, format: Kind | None, lang: str, side: str) -> list[tuple[Kind, Found]]:
    below = _below(path, inner)
    names = {item.relative for item in below}
    if format in (None, "dataset") and {"dataset_dict.json", "state.json"} & names:
        return [("dataset", item) for item in _saved_to_disk(path, below)]
    if format == "run":
        return [("run", item) for item in _run_files(path, below, lang, side)]
    kind = format or guess(path, sorted(names))
    suffixes = SUFFIXES["parquet"] + SUFFIXES["dataset"] if kind in ("parquet", "dataset") else SUFFIXES[kind]
    files = [item for item in below if _suffix(item.relative) in suffixes]
    if not files and format is not None and kind not in TABLES:
        files = below  # the user says what they are, whatever they are called
    if not files:
        raise InputError(f"{path}: no file of format {kind} in this folder (they end in {_endings(suffixes)})")
    if path.startswith(hub.SCHEME):
        _refuse_several(path, files)
    return [(kind, item) for item in files]


def _refuse_several(path: str, files: Sequence[Found]) -> None:
    """Raise InputError if the files of a data set on the hub lie in several folders, apart from those of splits."""
    folders = [[part for part in item.relative.split("/")[:-1] if not split_of_file(part)] for item in files]
    several = sorted({"/".join(parts) for parts in folders})
    if len(several) > 1:
        names = ", ".join([name or "the folder itself" for name in several[:20]] + ["..."] * (len(several) > 20))
        every = storage.join(path, "**", "*" + os.path.splitext(files[0].path)[1])
        raise InputError(
            f"{path}: its files lie in {len(several)} folders, as configurations or languages of a data set do "
            f"({names}); name one, as {storage.join(path, several[-1])}, or {{lang}} in its place; "
            f"all of them are {every}"
        )


def _below(path: str, root: str) -> list[Found]:
    """Return the visible files at any depth below `root`, sorted by path."""
    try:
        infos = storage.files_below(storage.within(path, root) if root else "/")
    except (OSError, StorageError) as error:
        raise InputError(f"{path}: cannot be listed: {error}") from None
    found = []
    for info in infos:
        relative = info.path[len(root) :].lstrip("/")
        if not any(part.startswith((".", "_")) for part in relative.split("/")):
            full = storage.within(path, info.path)
            found.append(Found(full, relative, split_of_file(relative) or "train", _stamp(path, info)))
    return found


def _info(path: str) -> fs.FileInfo:
    try:
        return storage.info_of(path)
    except (OSError, StorageError) as error:
        raise InputError(f"{path}: cannot be reached: {error}") from None


def _stamp(path: str, info: fs.FileInfo) -> str:
    """Return size and time of last change; of an object in seconds, as S3 says no more of a single object.

    A file in a job's working directory is known by its content instead of the time: each node and each job has a copy;
    a file of a data set on the hub by the commit.
    """
    if _COPIES in path:
        return f"{info.size}-{_sha256(path, info.mtime_ns)}"
    if path.startswith(hub.SCHEME):
        return f"{info.size}-{path.partition('@')[2][:40]}"
    return f"{info.size}-{int(info.mtime_ns / 1e9) if '://' in path else info.mtime_ns}"


@lru_cache
def _sha256(path: str, mtime_ns: int) -> str:
    del mtime_ns  # for the cache
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _here(path: str) -> str:
    """Return the path of the same file in this process's own copy of the job's working directory, if it is in a copy.

    The copy of an earlier job may be gone, and that of another node was never here.
    """
    if _COPIES not in path or _COPIES not in os.getcwd():
        return path
    root, own = os.getcwd().split(_COPIES, 1)
    inside = path.split(_COPIES, 1)[1].split("/", 1)[1]
    return f"{root}{_COPIES}{own.split('/')[0]}/{inside}"


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a glob; `**` is any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _suffix(name: str) -> str:
    return name.removesuffix(".gz").rpartition("/")[2].rpartition(".")[2].lower()


def _endings(suffixes: Sequence[str]) -> str:
    return ", ".join(f".{suffix}" for suffix in suffixes)


def guess(path: str, names: Sequence[str]) -> Kind:
    """Return the format that the files' endings name; InputError if they name none, or several."""
    kinds = {kind for name in names for kind, suffixes in SUFFIXES.items() if _suffix(name) in suffixes}
    if len(kinds) == 1:
        return kinds.pop()
    known = "; ".join(f"{kind}: {_endings(suffixes)}" for kind, suffixes in SUFFIXES.items() if suffixes)
    if not kinds and (scripts := [name for name in names if name.endswith(".py")]):
        raise InputError(
            f"{path}: holds a loading script ({scripts[0]}) and no file of a known format. No code of a data set is "
            "run: name the files that it loads; of a data set on the hub, "
            "hf://datasets/owner/name@refs/convert/parquet has them as Parquet where the hub converted it"
        )
    problem = f"its files have several formats ({', '.join(sorted(kinds))})" if kinds else "no file has a known ending"
    raise InputError(f"{path}: the format cannot be guessed, {problem}; set input.format (known endings: {known})")


def _saved_to_disk(path: str, below: Sequence[Found]) -> list[Found]:
    """Return the files of a folder that `datasets` wrote with save_to_disk, as its JSON files list them."""
    files = {item.relative: item for item in below}

    def load(name: str) -> dict[str, object]:
        try:
            data = json.loads(storage.read_bytes(files[name].path))
        except (KeyError, StorageError, ValueError):
            raise InputError(f"{path}: {name} is missing or not JSON; is the dataset complete?") from None
        return data if isinstance(data, dict) else {}

    folders = [""]
    if "dataset_dict.json" in files:
        listed = load("dataset_dict.json").get("splits")
        folders = [f"{name}/" for name in listed] if isinstance(listed, list) else []
    found = []
    for folder in folders:
        state = load(f"{folder}state.json")
        if state.get("_indices_data_files"):
            raise InputError(f"{path}: {folder}state.json has an indices mapping; save it after flatten_indices()")
        split = split_name(folder.rstrip("/")) or split_name(str(state.get("_split"))) or "train"
        info = f"{folder}dataset_info.json"
        features = json.dumps(load(info).get("features") or {}) if info in files else ""
        listed = state.get("_data_files")
        for entry in listed if isinstance(listed, list) else []:
            name = folder + str(entry["filename"])
            if name not in files:
                raise InputError(f"{path}: {name}, which {folder}state.json lists, is missing")
            found.append(Found(files[name].path, name, split, files[name].stamp, features))
    if not found:
        raise InputError(f"{path}: the dataset lists no data file")
    return found


def _run_files(path: str, below: Sequence[Found], lang: str, side: str) -> list[Found]:
    """Return the files of one language of a run (its data/) or of its rejects; folders are languages."""
    tables = [item for item in below if _suffix(item.relative) == "parquet"]
    if any(item.relative.startswith("data/") for item in tables):
        tables = [item for item in tables if item.relative.startswith("data/")]
    languages = sorted({item.relative.split("/")[-2] for item in tables if "/" in item.relative})
    if side == "target" and languages:
        tables = [item for item in tables if item.relative.split("/")[-2:-1] == [lang]]
    elif len(languages) > 1:
        raise InputError(
            f"{path}: holds {len(languages)} languages, each with the same source sentences; "
            f"name the folder of one: {', '.join(languages)}"
        )
    if not tables:
        raise InputError(f"{path}: holds no Parquet file of {lang}; folders: {', '.join(languages) or 'none'}")
    return tables


def unchanged(file: File) -> File:
    """Return the file with the path where this process finds it; InputError if it has changed since it was indexed."""
    file = replace(file, path=_here(file.path))
    if file.stamp and _stamp(file.path, _info(file.path)) != file.stamp:
        raise changed(file)
    return file


def changed(file: File) -> InputError:
    """Return the error for a file that is not the one that was indexed."""
    return InputError(f"{file.path}: has changed since it was indexed; start again with --fresh")
