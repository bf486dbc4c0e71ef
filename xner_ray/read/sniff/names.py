"""Formats told by the names of files: their endings, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xner_ray.errors import InputError
from xner_ray.storage import files as storage

if TYPE_CHECKING:
    from xner_ray.read.record import Kind

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "conll": ("conll", "conll02", "conll03", "conll2002", "conll2003", "iob", "bio", "iobes", "bioes", "bilou", "bmes"),
    "conllu": ("conllu",),
    "conll2012": ("conll2012", "v4_gold_conll", "v4_auto_conll", "gold_conll"),
    "uner": ("iob2",),
    "brat": ("ann",),
    "jsonl": ("jsonl", "ndjson"),
    "spacy": ("spacy",),
    "parquet": ("parquet",),
    "dataset": ("arrow",),
    "run": (),
    "text": ("txt", "text"),
    "links": (),
    "table": ("csv", "tsv"),
    "json": ("json",),
    "webanno": (),
    "inline": (),
}
_BESIDE: tuple[Kind, ...] = ("table", "json")  # often notes beside data of another format


@dataclass(frozen=True, slots=True)
class Found:
    """A file that an input means: address, path below the folder that the user named, split, stamp."""

    path: str
    relative: str
    split: str
    stamp: str  # size and time of last change
    features: str = ""
    said: tuple[str, ...] = ()


def suffix(name: str) -> str:
    return name.removesuffix(".gz").rpartition("/")[2].rpartition(".")[2].lower()


def endings(suffixes: Sequence[str]) -> str:
    return ", ".join(f".{suffix}" for suffix in suffixes)


def by_ending(names: Sequence[str]) -> set[Kind]:
    """Return the formats that the endings of files name, without those of notes and raw text beside them."""
    kinds = {kind for name in names for kind, suffixes in SUFFIXES.items() if suffix(name) in suffixes}
    kinds = kinds.difference(_BESIDE) or kinds
    if kinds == {"conllu", "text"}:
        stems = {name.rpartition(".")[0] for name in names if suffix(name) == "conllu"}
        texts = {name.rpartition(".")[0] for name in names if suffix(name) in SUFFIXES["text"]}
        return {"conllu"} if texts <= stems else kinds
    return {"brat"} if kinds == {"brat", "text"} else kinds


def guess(path: str, names: Sequence[str], key: str = "input.format") -> Kind:
    """Return the format that the files' endings name; InputError if they name none, or several."""
    kinds = by_ending(names)
    if len(kinds) == 1:
        return next(iter(kinds))
    known = "; ".join(f"{kind}: {endings(suffixes)}" for kind, suffixes in SUFFIXES.items() if suffixes)
    if not kinds and (scripts := [name for name in names if name.endswith(".py")]):
        raise InputError(
            f"{path}: holds a loading script ({scripts[0]}) and no file of a known format. No code of a data set is "
            "run: name the files that it loads; of a data set on the hub, "
            "hf://datasets/owner/name@refs/convert/parquet has them as Parquet where the hub converted it"
        )
    problem = f"its files have several formats ({', '.join(sorted(kinds))})" if kinds else "no file has a known ending"
    raise InputError(f"{path}: the format cannot be guessed, {problem}; set {key} (known endings: {known})")


def pair(path: str) -> tuple[str, str]:
    """Return the addresses of brat's annotations and of their text, by that of either.

    >>> pair("/a/b.txt")
    ('/a/b.ann', '/a/b.txt')
    """
    inner = storage.locate(path)[1].rpartition(".")[0]
    return storage.within(path, f"{inner}.ann"), storage.within(path, f"{inner}.txt")


def annotated(found: Sequence[Found], present: Mapping[str, Found]) -> bool:
    """Return whether annotations of brat stand beside the first of some texts."""
    return suffix(found[0].relative) == "txt" and pair(found[0].path)[0] in present


def documents(path: str, found: Sequence[Found], present: Mapping[str, Found]) -> list[Found]:
    """Return the annotations of brat among files, or beside them. InputError if one has no text."""
    chosen: dict[str, Found] = {}
    left = 0
    for item in found:
        ann, txt = pair(item.path)
        if ann not in present:
            left += item.path == txt  # nobody has annotated it yet
        elif txt not in present:
            raise InputError(f"{ann}: has no text: {txt} is missing; put it there (brat's .ann and .txt go together)")
        elif item.path in (ann, txt):
            name = item.relative.rpartition(".")[0] + ".ann"
            stamp = f"{present[ann].stamp}+{present[txt].stamp}"
            chosen[ann] = replace(item, path=ann, relative=name, stamp=stamp)
    if not chosen:
        raise InputError(f"{path}: no document of brat: a file .ann with the .txt of the same name beside it")
    documents = list(chosen.values())
    if left:
        documents[0] = replace(documents[0], said=(f"{left} texts without a file .ann are left out",))
    return documents
