"""The folders of MasakhaNER 2.0, WikiANN and Europarl-NER as they are published: which file is which language's.

A layout is told by the names of its files. Nothing has to be renamed: test files are copied, with their bytes, to where
a recipe finds them by our language codes.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xner_ray.data.languages import resolve
from xner_ray.errors import InputError, RecipeError
from xner_ray.storage import files as storage

HEAD_BYTES = 1 << 16  # of a file whose labels are looked for
_OLD_ALONE = "amh"  # a language of MasakhaNER 1.0 that 2.0 has not


@dataclass(frozen=True)
class Layout:
    """One way in which a set is published.

    pattern: of a test file's path below a folder that may be any; its groups are `root`, what is above, and `code`.
    split: whether the name says that it is the test split. member: the file in an archive.
    """

    said: str
    pattern: str
    format: str
    split: bool = True
    member: str | None = None

    def match(self, relative: str) -> re.Match[str] | None:
        return re.fullmatch(self.pattern, relative)


_ROOT, _TWO, _THREE = r"(?P<root>(?:.+/)?)", r"(?P<code>[a-z]{2})", r"(?P<code>[a-z]{3})"
_PARQUET = r"(?:test[-/][^/]*|[^/]*-test)\.parquet"
LAYOUTS: Mapping[str, Sequence[Layout]] = {
    "masakhaner": (
        Layout("CODE/test.txt", rf"{_ROOT}{_THREE}/test\.txt", "conll"),
        Layout("CODE/test-*.parquet", rf"{_ROOT}{_THREE}/{_PARQUET}", "parquet"),
        Layout("CODE.txt", r"(?P<root>)(?P<code>[a-z]{3}(?:_[A-Z][a-z]{3})?)\.(?:txt|conll)", "conll", False),
    ),
    "wikiann": (
        Layout("PAN-X.CODE/test-*.parquet", rf"{_ROOT}PAN-X\.{_TWO}/{_PARQUET}", "parquet"),
        Layout("CODE/test-*.parquet", rf"{_ROOT}{_TWO}/{_PARQUET}", "parquet"),
        Layout("CODE/test", rf"{_ROOT}{_TWO}/test", "conll"),
        Layout("CODE-test", rf"{_ROOT}{_TWO}-test", "conll"),
        Layout("CODE.tar.gz", rf"{_ROOT}{_TWO}\.tar\.gz", "conll", member="test"),
        Layout("test-CODE.tsv", rf"{_ROOT}test-{_TWO}\.tsv", "conll"),
        Layout("CODE/test.MODEL", rf"{_ROOT}{_TWO}/test\.(?!.*idx$)[\w.-]+", "conll"),
    ),
    "europarl": (
        Layout("CODE-europarl.test.conll02", rf"{_ROOT}{_TWO}-europarl\.test\.conll02", "conll"),
        Layout("CODE/test-*.parquet", rf"{_ROOT}{_TWO}/{_PARQUET}", "parquet"),
    ),
}


@dataclass(frozen=True)
class TestFile:
    """The test sentences of a language. code: as published. lang: ours."""

    code: str
    lang: str
    path: str
    layout: Layout


@dataclass(frozen=True)
class Found:
    """What a folder holds of a set.

    files: by code, in the order of the paper's languages, then of the others. without_test: the paper's languages that
    have files, but none of the test split. absent: those that have none.
    """

    folder: str
    files: Mapping[str, TestFile]
    without_test: list[str]
    absent: list[str]

    @property
    def format(self) -> str:
        return next(iter(self.files.values())).layout.format


def find(name: str, folder: str, paper: Sequence[str]) -> Found:
    """Look for the test files of a set below a folder, which may be an address. InputError in one line.

    paper: the codes that are wanted, as published. Others are found too; who wants them asks for them.
    """
    inner = storage.locate(folder)[1].rstrip("/")
    paths = [str(info.path) for info in storage.files_below(folder)]
    below = {path.removeprefix(inner).lstrip("/"): storage.within(folder, path) for path in paths}
    if not below:
        raise InputError(f"{folder}: {'holds no file' if storage.exists(folder) else 'no such folder'}")
    spelled = {resolve(code): code for code in paper}
    files: dict[str, TestFile] = {}
    roots: set[str] = set()
    for layout in LAYOUTS[name]:
        if files and layout.format != next(iter(files.values())).layout.format:
            continue  # one recipe reads one format
        root, found = _of_layout(folder, layout, below)
        roots |= {root} if found else set()
        for code, path in found.items():
            lang = resolve(code)
            code = spelled.get(lang, code.partition("_")[0])
            files.setdefault(code, TestFile(code, lang, path, layout))
    if not files:
        looked = ", ".join(layout.said for layout in LAYOUTS[name])
        raise InputError(f"{folder}: holds no {name} as it is published; looked for {looked}, at any depth")
    if name == "masakhaner" and _OLD_ALONE in files:
        raise InputError(
            f"{folder}: has {_OLD_ALONE}, so it is MasakhaNER 1.0; the paper's is 2.0, in "
            "MasakhaNER2.0/data of the same repository"
        )
    _refuse_unlabelled(files.values())
    order = [*(code for code in paper if code in files), *sorted(files.keys() - set(paper))]
    missing = [code for code in paper if code not in files]
    there = [code for code in missing if any(_is_of(code, relative, roots) for relative in below)]
    absent = [code for code in missing if code not in there]
    return Found(folder, {code: files[code] for code in order}, there, absent)


def _of_layout(folder: str, layout: Layout, below: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the folder of one layout and its paths by code. InputError if they lie below several folders."""
    roots: dict[str, dict[str, list[str]]] = {}
    for relative, path in below.items():
        match = layout.match(relative)
        if match is not None and _is_language(match["code"]):
            roots.setdefault(match["root"], {}).setdefault(match["code"], []).append(path)
    if len(roots) > 1:  # the repository of MasakhaNER has 1.0 beside 2.0
        roots = {root: codes for root, codes in roots.items() if "MasakhaNER2.0/data/" in root} or roots
    if len(roots) > 1:
        shown = ", ".join(sorted(root or "." for root in roots)[:3])
        raise InputError(f"{folder}: holds {layout.said} in {len(roots)} folders ({shown}); name one of them")
    root, found = next(iter(roots.items()), ("", {}))
    if several := next((code for code, paths in found.items() if len(paths) > 1), None):
        raise InputError(f"{folder}: {several} has {len(found[several])} test files; leave one, or name its folder")
    return root, {code: paths[0] for code, paths in found.items()}


def _is_language(code: str) -> bool:
    try:
        resolve(code)
    except RecipeError:
        return False
    return True


def _is_of(code: str, relative: str, roots: Collection[str]) -> bool:
    """Return whether a path beside those of a layout is of a language, as `hau/train.txt` is."""
    names = (relative.removeprefix(root) for root in roots if relative.startswith(root))
    return any(re.match(rf"(?:PAN-X\.|train-|dev-)?{code}[/.-]", name) for name in names)


def _refuse_unlabelled(files: Collection[TestFile]) -> None:
    """Refuse what XTREME's script makes of WikiANN: it deletes the labels of the test split."""
    for file in files:
        if file.layout.said in ("test-CODE.tsv", "CODE/test.MODEL"):
            head = storage.read_range(file.path, 0, min(HEAD_BYTES, storage.info_of(file.path).size))
            if b"\t" not in head and b" " not in head:
                raise InputError(
                    f"{file.path}: has no labels; XTREME's script deletes those of the test split, so take the "
                    "archives CODE.tar.gz that it unpacks, or google/xtreme of the hub (PAN-X.CODE)"
                )


def content(file: TestFile) -> bytes:
    """Return the bytes of a test file, out of its archive if it is in one. InputError for a damaged archive."""
    data = storage.read_bytes(file.path)
    if file.layout.member is None:
        return data
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in _members(archive):
                if member.name.rpartition("/")[2] == file.layout.member:
                    stream = archive.extractfile(member)
                    if stream is not None:
                        return stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{file.path}: cannot be unpacked ({error}); fetch it again") from None
    raise InputError(f"{file.path}: holds no file {file.layout.member}; fetch it again, or unpack it by hand")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in archive if member.isfile())
