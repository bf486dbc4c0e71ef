"""Keys of a recipe that say how files are written, and have no effect on these: to state them is a mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xner_ray.data.kinds import Names
from xner_ray.errors import InputError
from xner_ray.read.record import File, Kind

_WORDS = ("scheme", "labels.names", "columns.tokens", "columns.tags")
_OBEYED: dict[Kind, tuple[str, ...]] = {
    "conll": _WORDS,
    "uner": ("scheme", "columns.tokens", "columns.tags"),  # it says itself why not
    "conllu": ("scheme", "columns.tags"),
    "conll2012": ("scheme", "columns.tokens", "columns.tags"),
    "webanno": ("columns.tags",),
    "brat": ("offsets",),
    "spacy": (),
    "inline": (),
    "text": (),
}
_MEANT = {
    "scheme": "tags of words",
    "offsets": "spans with numbers",
    "ends": "spans with numbers",
    "answers": "tasks of Prodigy",
    "labels.names": "tags or labels that are numbers",
}
_PLAIN = Names()


def stated_keys(file: File) -> list[str]:
    """Return the keys that a recipe states of a file; columns by another name than ours."""
    stated = file.stated
    found = [name for name in ("scheme", "offsets", "ends") if getattr(stated, name) is not None]
    found += ["answers"] if set(stated.answers) != {"accept"} else []
    found += ["labels.names"] if stated.names is not None else []
    given = ((name, file.columns.stated(name)) for name, _ in file.columns)
    return found + [f"columns.{name}" for name, own in given if own not in (None, getattr(_PLAIN, name))]


def idle_keys(file: File, obeyed: Collection[str] | None) -> set[str]:
    """Return the stated keys that decide nothing. obeyed: those that may; None: by the format alone."""
    if obeyed is None:
        obeyed = _OBEYED.get(file.format)
    return set() if obeyed is None else set(stated_keys(file)).difference(obeyed)


def refuse_idle(files: Iterable[tuple[File, Collection[str] | None]]) -> None:
    """Raise InputError for a key that has no effect on any of the files; obeyed: as of `idle_keys`."""
    first: File | None = None
    idle: set[str] = set()
    for file, obeyed in files:
        own = idle_keys(file, obeyed)
        first, idle = (file, own) if first is None else (first, idle & own)
    if first is None or not idle:
        return
    key = next(key for key in stated_keys(first) if key in idle)
    if key.startswith("columns."):
        name = first.columns.stated(key.partition(".")[2])
        problem = f"input.{key} is {name!r}, which the files have not or which nothing is read from"
    else:
        problem = f"input.{key} is for {_MEANT[key]}, which the files have not"
    raise InputError(f"{first.path}: {problem} (read as {first.format}); leave it out")
