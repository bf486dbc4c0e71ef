"""Find the files that an input means.

A path is a file, a folder (all files of the format at any depth, except below names with a leading `.` or `_`), a
glob, or a URI. Files are read in the order of their splits, then of their paths. In a folder or a glob their names
give the split, as in `datasets` (`train-00000.parquet`, `dev/a.conll`); a single file is `train`. Where no format is
stated, their endings name it, and what the first records look like counts for more (`sniff.py`). The address of
each file of a data set on the hub names the commit.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import takewhile
from typing import Any

from pyarrow import fs

from xner_ray.data.kinds import SPLITS
from xner_ray.errors import InputError, StorageError
from xner_ray.read.record import TABLES, File, Kind, Stated, short, split_name, split_of_file
from xner_ray.read.sniff.binary import binary_fault
from xner_ray.read.sniff.content import HEAD_BYTES, tell
from xner_ray.read.sniff.encoding import encoding_fault
from xner_ray.read.sniff.names import (
    SUFFIXES,
    Found,
    annotated,
    by_ending,
    documents,
    endings,
    guess,
    pair,
    suffix,
)
from xner_ray.read.stamps import here, info_of, parts_of, stamp_of
from xner_ray.recipe.columns import Columns
from xner_ray.storage import files as storage
from xner_ray.storage import hub, sums

_NOTES = re.compile(
    r"(?:readme|licen[cs]e|copying|citation|changelog)\b"
    r"|(?:labels?|tags?|classes|label2id|id2label|tag2id|id2tag|label_?map|config|dataset_infos?|metadata)\.json$",
    re.IGNORECASE,
)
_MOST_TOLD = 64  # files of one input whose content is looked at; the others are what these are
_MAGIC = "*?["
_NOTHING = Stated()


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
    key: str = "input.format",
) -> list[File]:
    """Return the files of one input in reading order.

    path: `{lang}` in it becomes `lang`. carried: whether other columns are carried. carry: their names; None: all.
    stated: how the recipe says that they are written. key: that of the recipe for the format.
    InputError if there is no file, the format cannot be told, or the files are not in the one that is stated.
    """
    paths: dict[str, str] = path if isinstance(path, dict) else {"": path}
    found: list[tuple[Kind, Found]] = []
    for split in sorted(paths, key=lambda name: SPLITS.index(name) if name else 0):
        files = _find(_Asked(paths[split].replace("{lang}", lang), format, lang, side, key))
        found += [(kind, replace(item, split=split or item.split)) for kind, item in files]
    found.sort(key=lambda pair: SPLITS.index(pair[1].split))  # stable: within a split they are sorted already
    names = _short_names([item for _, item in found])
    given: dict[str, Any] = {
        "lang": lang,
        "side": side,
        "sentences": sentences,
        "columns": columns.names(),
        "carried": carried,
    }
    given |= {"carry": None if carry is None else tuple(carry), "stated": stated}
    made: list[File] = []
    for (kind, item), name in zip(found, names, strict=True):
        own: dict[str, Any] = {"split": item.split, "features": item.features, "stamp": item.stamp, "said": item.said}
        made.append(File(item.path, name, kind, **given, **own))
    return made


def contents(files: Sequence[File], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a resume must find the same: format and SHA-256 of each file under `<split>/<short name>`.

    In a folder of save_to_disk, whose order is not that of the names, also the file's number and its features, which
    are in another file. known: sums of objects by their `storage.sums.stamp`. StorageError.
    """
    found = iter(sums.sums([here(path) for file in files for path in parts_of(file)], known))
    return _stated(files, ["sha256:" + "+".join(next(found) for _ in parts_of(file)) for file in files])


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a path was asked for with."""

    path: str
    format: Kind | None
    lang: str
    side: str
    key: str


def _find(asked: _Asked) -> list[tuple[Kind, Found]]:
    """Return the files of a path, with their formats. InputError if there is none."""
    asked = replace(asked, path=storage.pinned(asked.path))
    path = asked.path
    inner = storage.locate(path)[1]
    info = info_of(path)
    if info.type == fs.FileType.File:
        found = Found(path, info.base_name, "train", stamp_of(path, info))
        ours = pair(path) if suffix(info.base_name) in ("ann", "txt") else ()
        beside = [Found(one, "", "train", stamp_of(one, more)) for one in ours if (more := info_of(one)).is_file]
        return _told(asked, [found], beside)
    if info.type == fs.FileType.Directory:
        return _folder(asked, inner)
    if not any(sign in inner for sign in _MAGIC):
        raise InputError(f"{path}: no such file or folder")
    parts = inner.split("/")
    fixed = next(index for index, part in enumerate(parts) if any(sign in part for sign in _MAGIC))
    root = "/".join(parts[:fixed])
    below = _below(path, root)
    matching = [item for item in below if _matches(item.relative.split("/"), parts[fixed:])]
    if not matching:
        raise InputError(f"{path}: no file matches")
    return _told(asked, matching, below)


def _folder(asked: _Asked, inner: str) -> list[tuple[Kind, Found]]:
    path, format = asked.path, asked.format
    below = _below(path, inner)
    names = {item.relative for item in below}
    if format in (None, "dataset") and {"dataset_dict.json", "state.json"} & names:
        return [("dataset", item) for item in _saved_to_disk(path, below)]
    if format == "run":
        return [("run", item) for item in _run_files(path, below, asked.lang, asked.side)]
    data = [item for item in below if not _NOTES.match(item.relative.rpartition("/")[2])] or below
    kinds = {format} if format else by_ending([item.relative for item in data])
    if not kinds and data:
        return _told(asked, data, below)
    kind = format or guess(path, [item.relative for item in data], asked.key)
    together = {"parquet": SUFFIXES["dataset"], "dataset": SUFFIXES["parquet"], "brat": ("txt",)}
    suffixes = SUFFIXES[kind] + together.get(kind, ())
    files = [item for item in data if suffix(item.relative) in suffixes]
    if not files and format is not None and kind not in TABLES:
        files = data  # the user says what they are, whatever they are called
    if not files:
        raise InputError(f"{path}: no file of format {kind} in this folder (they end in {endings(suffixes)})")
    if path.startswith(hub.SCHEME):
        _refuse_several(path, files)
    if left := [item.relative for item in below if item.relative.endswith(".json") and item not in data]:
        files[0] = replace(files[0], said=(f"left out, as its name is that of notes: {', '.join(left)}",))
    return _told(asked, files, below)


def _told(asked: _Asked, found: Sequence[Found], below: Sequence[Found]) -> list[tuple[Kind, Found]]:
    """Return files with the one format that they have. below: all files that are there.

    InputError if it cannot be told, if several are found, or if their content contradicts what the recipe states.
    """
    kinds = by_ending([item.relative for item in found])
    named = kinds.pop() if len(kinds) == 1 else None
    if kinds and asked.format is None:
        guess(asked.path, [item.relative for item in found], asked.key)
    present = {item.path: item for item in below}
    if asked.format == "brat" or (asked.format is None and (named == "brat" or annotated(found, present))):
        return [("brat", item) for item in documents(asked.path, found, present)]
    told: list[tuple[Kind, Found]] = []
    for item in found[:_MOST_TOLD]:
        kind, said = _look(asked, item, named)
        if kind is None:
            guess(asked.path, [item.relative for item in found], asked.key)
        told.append((kind or "text", replace(item, said=(*item.said, *((said,) if said else ())))))
    first = dict(reversed(told))
    if len(first) > 1:
        each = "; ".join(f"{kind}: {item.relative}" for kind, item in sorted(first.items()))
        raise InputError(
            f"{asked.path}: its files have several formats, by their content ({each}); set {asked.key}, or name the "
            "files of one, as with a glob"
        )
    return told + [(told[0][0], replace(item, said=told[0][1].said)) for item in found[_MOST_TOLD:]]


def _look(asked: _Asked, item: Found, named: Kind | None) -> tuple[Kind | None, str]:
    """Return the format of one file, None if nothing tells it, and what is to be said of that."""
    kind = asked.format or named
    if kind in TABLES or kind in ("links", "spacy"):
        return kind, ""
    head = _head(item.path, item.stamp)
    try:
        if fault := binary_fault(head) or encoding_fault(head, asked.lang):
            raise ValueError(fault)
        return tell(head, whole=len(head) < HEAD_BYTES, named=named, stated=asked.format)
    except ValueError as error:
        raise InputError(f"{item.path}: {str(error).replace('{key}', asked.key)}") from None


@lru_cache(maxsize=_MOST_TOLD)
def _head(path: str, stamp: str) -> bytes:
    """Return the first bytes of a file; none of one that is no whole gzip file, which its reader will say.

    InputError if it cannot be read, RetryableError if its store does not answer for now.
    """
    del stamp  # for the cache
    filesystem, inner = storage.locate(here(path))
    try:
        with filesystem.open_input_stream(inner, compression=None) as stream:
            if storage.bare(path).endswith(".gz"):
                return gzip.GzipFile(fileobj=stream).read(HEAD_BYTES)
            return bytes(stream.read(HEAD_BYTES))
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return b""
    except OSError as error:
        raise storage.failure(path, "read", error, InputError) from None


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
            found.append(Found(full, relative, split_of_file(relative) or "train", stamp_of(path, info)))
    return found


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a glob; `**` is any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


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
    found: list[Found] = []
    for folder in folders:
        state = load(f"{folder}state.json")
        if state.get("_indices_data_files"):
            raise InputError(f"{path}: {folder}state.json has an indices mapping; save it after flatten_indices()")
        split = split_name(folder.rstrip("/")) or split_name(str(state.get("_split"))) or "train"
        info = f"{folder}dataset_info.json"
        features = json.dumps(load(info).get("features") or {}) if info in files else ""
        listed = state.get("_data_files")
        for entry in listed if isinstance(listed, list) else []:
            if not isinstance(entry, dict) or "filename" not in entry:
                raise InputError(f"{path}: {folder}state.json lists {short(entry)}, which names no file")
            name = folder + str(entry["filename"])
            if name not in files:
                raise InputError(f"{path}: {name}, which {folder}state.json lists, is missing")
            if any(one.relative == name for one in found):
                raise InputError(f"{path}: {folder}state.json lists {name} twice; leave one out")
            found.append(Found(files[name].path, name, split, files[name].stamp, features))
    if not found:
        raise InputError(f"{path}: the dataset lists no data file")
    return found


def _run_files(path: str, below: Sequence[Found], lang: str, side: str) -> list[Found]:
    """Return the files of one language of a run (its data/) or of its rejects; folders are languages."""
    tables = [item for item in below if suffix(item.relative) == "parquet"]
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
