"""The files of a recipe's input: the sentences of each language, what is parallel to them, their links."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import NamedTuple, TypeVar

from xner_ray.data.kinds import SPLITS
from xner_ray.errors import RecipeError
from xner_ray.read.find import contents, find_files
from xner_ray.read.index.units import Scan, Stretch
from xner_ray.read.record import Embedded, File, Stated, document_name
from xner_ray.recipe.input import Input
from xner_ray.recipe.model import Recipe
from xner_ray.storage.addresses import bare, parent, split

T = TypeVar("T")


@dataclass(eq=False)
class Text:
    """Files of one language: the input, or what is parallel to it; or the links between both, a line a sentence."""

    lang: str
    described: str
    files: list[File]
    scans: list[Scan] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # how its files are read, where that is not plain
    unlabelled: str = ""  # what its files hold in the place of labels, and the key that names them

    @property
    def rows(self) -> int:
        return sum(scan.rows for scan in self.scans)

    @property
    def labels(self) -> Counter[str]:
        return sum((scan.labels for scan in self.scans), Counter[str]())

    def starts(self) -> list[int]:
        return list(accumulate((scan.rows for scan in self.scans), initial=0))

    def stretches(self) -> list[Stretch]:
        """Return the files that hold rows, with their input rows."""
        pairs = zip(self.starts(), self.files, self.scans, strict=False)
        return [Stretch(f, at, at + s.rows, s.marks, s.words) for at, f, s in pairs if s.rows]

    def split_runs(self) -> Iterator[tuple[str, int, int]]:
        """Yield (split, start, stop) of consecutive input rows, in order."""
        for start, scan in zip(self.starts(), self.scans, strict=False):
            begin = 0
            for code, end in zip(scan.splits, scan.split_ends, strict=True):
                yield SPLITS[code], start + begin, start + end
                begin = end


def input_of(inputs: Mapping[str, T], lang: str) -> T:
    """Return the input of a run's language: its own in direction test, the only one in direction train."""
    return inputs[lang] if lang in inputs else next(iter(inputs.values()))


def shared_folders(recipe: Recipe) -> dict[str, str]:
    """Return by language the folder that its input files share, where references of pictures begin.

    RecipeError where the files of one language share no folder, as in two stores.
    """
    return {lang: shared for lang, (shared, _) in picture_folders(recipe).items()}


def picture_folders(recipe: Recipe) -> dict[str, tuple[str, list[str]]]:
    """Return by language the folder that its input files share, and the folders that they lie in; see above."""
    return {lang: _shared(text) for lang, text in find_texts(recipe).inputs.items()}


def _shared(text: Text) -> tuple[str, list[str]]:
    folders = sorted({folder_of(file.path) for file in text.files})
    parts = [split(folder)[0].split("/") for folder in folders]
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))]
    options = {split(folder)[1:] for folder in folders}
    if len(options) > 1 or len(common) < ("://" in folders[0]) * 3:  # s3:, nothing, and the bucket
        raise RecipeError(
            f"input.columns.image: references begin at the folder that all input files share, and {folders[0]} and "
            f"{folders[-1]} share none; put the files into one store"
        )
    return "/".join(common) + "".join(next(iter(options))), folders


def folder_of(path: str) -> str:
    """Return the folder of a file, by its path or address."""
    return parent(path) if "://" in path else os.path.dirname(path)


def reference(image: str | Embedded | None, file: File, shared: str | None) -> str | None:
    """Return the reference of a row's picture as all rows of a run have it: relative paths begin at a folder.

    shared: that folder, of `shared_folders`; None: the file's own. A picture inside a table is `FILE#ROW`.
    """
    if image is None:
        return None
    whole, base = bare(file.path), bare(shared or folder_of(file.path)).rstrip("/") + "/"
    below = whole.removeprefix(base)
    if isinstance(image, Embedded):
        return document_name(f"{below}#{image:d}")
    if "://" in image or image.startswith("/"):
        return document_name(image)
    return document_name(posixpath.join(posixpath.dirname(below), image))


class Texts(NamedTuple):
    """All that a recipe's input means: inputs by their language, parallel texts and links by the run's language."""

    inputs: dict[str, Text]
    parallel: dict[str, Text]
    links: dict[str, Text]

    @property
    def files(self) -> list[File]:
        return [file for found in self for text in found.values() for file in text.files]

    @property
    def n_bytes(self) -> int:
        """The size of all files together, as they are stored."""
        return sum(file.size for file in self.files)

    def identities(
        self, stated: Callable[[Sequence[File]], dict[str, str]] = contents
    ) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """Return what is stated of each file: of the input, and by the run's language of what is parallel to it.

        Names of the input are split/name, of several languages lang/split/name; files of links are under
        links/split/name. stated: of `read.find`, by default what a resume must find the same.
        """
        several = len(self.inputs) > 1
        of_input = {
            f"{text.lang}/{name}" if several else name: value
            for text in self.inputs.values()
            for name, value in stated(text.files).items()
        }
        beside = {lang: stated(text.files) for lang, text in self.parallel.items()}
        for lang, text in self.links.items():
            if lang in beside:
                beside[lang] |= {f"links/{name}": value for name, value in stated(text.files).items()}
        return of_input, beside


def find_texts(recipe: Recipe) -> Texts:
    """List the files that a recipe's input means. RecipeError or InputError where it means none."""
    given, train = recipe.input, recipe.direction == "train"
    if given.split == "sentences" and given.parallel:
        raise RecipeError(
            "input.split: sentences cannot go with input.parallel, which is parallel sentence by sentence"
        )
    inputs, parallel, links = {}, {}, {}
    for lang in [recipe.source_side] if train else recipe.languages:
        files = find_files(
            given.path if isinstance(given.path, str) else {str(split): path for split, path in given.path.items()},
            format=given.format,
            lang=lang,
            side="source" if train else "target",
            columns=given.columns,
            sentences=given.split == "sentences",
            carry=given.carry,
            stated=stated_of(given),
        )
        for file in files if given.split == "sentences" else ():
            if file.format in ("uner", "conllu", "conll2012", "webanno", "run"):
                problem = f"{file.path} ({file.format}) is in sentences already"
                raise RecipeError(f"input.split: sentences is for raw text; {problem}")
        shown = given.path if isinstance(given.path, str) else ", ".join(given.path.values())
        inputs[lang] = Text(lang, shown.replace("{lang}", lang), files)
    for lang in recipe.languages:
        own = lang if train else recipe.source_lang
        if own not in given.parallel:
            continue
        # In direction test {lang} is the language of the input, since the translation is always in source_lang.
        path = given.parallel[own].replace("{lang}", lang)
        files = find_files(
            path,
            format=given.parallel_format,
            lang=own,
            side="target" if train else "source",
            columns=given.columns,
            carried=False,
            stated=stated_of(given),
            key="input.parallel_format",
        )
        parallel[lang] = Text(own, path, files)
    for lang in recipe.languages if given.links is not None else ():
        path = str(given.links).replace("{lang}", lang)
        files = find_files(path, format="links", lang=lang, side="target", columns=given.columns, carried=False)
        links[lang] = Text(lang, path, files)
    return Texts(inputs, parallel, links)


def stated_of(given: Input) -> Stated:
    """Return what a recipe says of how its files are written."""
    names, answers = given.labels.names, given.answers
    return Stated(
        given.scheme,
        given.offsets,
        given.ends,
        None if names is None else tuple(names),
        ("accept",) if answers is None else tuple(answers),
        bool(given.parallel) or given.links is not None,
    )
