"""The section `input` of a recipe: files, how they are written, and what of them is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from xner_ray.data.kinds import Ends, Format, Offsets, Scheme
from xner_ray.data.languages import resolve
from xner_ray.data.row import row_schema
from xner_ray.data.spans import Span
from xner_ray.errors import RecipeError
from xner_ray.recipe.columns import Columns
from xner_ray.recipe.decides import Decides, Section


def _no_boolean(code: object) -> object:
    if isinstance(code, bool):  # as Norwegian's no
        words, example = ("yes, on and true", "") if code else ("no, off and false", ", as nob_Latn or nno_Latn,")
        raise ValueError(f"YAML reads {words} as {str(code).lower()}: write the whole code{example} or quote it")
    return code


def _language(code: str) -> str:
    try:
        return resolve(code)
    except RecipeError as error:
        raise ValueError(str(error)) from None


LanguageCode = Annotated[str, BeforeValidator(_no_boolean), AfterValidator(_language)]


class Labels(Section):
    rename: Annotated[dict[str, str], Decides.ROWS] = Field(
        default_factory=dict, description="new names of labels, as in `{PERSON: PER}`; refused if none of them occurs"
    )
    keep: Annotated[list[str] | None, Decides.ROWS] = Field(
        default=None, description="the labels to keep, by their new names; null: all that occur; refused if none does"
    )
    names: Annotated[list[str] | None, Decides.ROWS] = Field(
        default=None,
        description="the names of tags or labels that are numbers, from 0, as in `[O, B-PER, I-PER]`; null: what the"
        " files say (ClassLabel)",
    )

    @model_validator(mode="after")
    def _proper_labels(self) -> Labels:
        keep = self.keep or []
        if len(set(keep)) < len(keep):
            raise ValueError(f"keep: {keep} names a label twice")
        for label in [*keep, *self.rename.values()]:
            if not label or label != label.strip() or not label.isprintable():
                raise ValueError(f"{label!r} is no label; allowed: printable text without white space around it")
        return self

    def keeps(self, label: str) -> bool:
        """Return whether spans of a label, as the files spell it, are kept."""
        return self.keep is None or self.rename.get(label, label) in self.keep

    def map(self, spans: Iterable[Span]) -> list[Span]:
        """Rename the labels of spans, and keep those spans whose new label is kept."""
        if self.rename:
            spans = [replace(span, label=self.rename.get(span.label, span.label)) for span in spans]
        return list(spans) if self.keep is None else [span for span in spans if span.label in self.keep]


class Sample(Section):
    rows: Annotated[int, Decides.ROWS] = Field(ge=1, description="how many rows to draw, over all splits")
    seed: Annotated[int, Decides.ROWS] = Field(default=0, description="of the draw; the same seed draws the same rows")


class Images(Section):
    """Pictures are untrusted: where they may lie, how large they may be, and what becomes of rows without one."""

    roots: Annotated[list[str], Decides.FILES] = Field(
        default_factory=list,
        description="folders below which pictures may lie, beside those of the input's files: paths, `s3://`, `gs://`",
    )
    max_mb: Annotated[float, Decides.ROWS] = Field(
        default=20, gt=0, le=1024, description="larger files are not read (`image_too_large`)"
    )
    # Pillow itself refuses from 179 million on
    max_pixels: Annotated[int, Decides.ROWS] = Field(
        default=50_000_000,
        ge=1,
        le=170_000_000,
        description="larger pictures are not decoded (`image_too_large`); a pixel of WebP counts threefold",
    )
    missing: Annotated[Literal["flag", "reject"], Decides.ROWS] = Field(
        default="flag", description="what becomes of a row whose picture cannot be used"
    )
    ablation: Annotated[Literal["none", "shuffled"] | None, Decides.ROWS] = Field(
        default=None,
        description="for comparisons: none is as if there were no pictures, shuffled exchanges those of a unit; null:"
        " the true ones",
    )

    @field_validator("roots")
    @classmethod
    def _reachable(cls, roots: list[str]) -> list[str]:
        for root in roots:
            scheme, mark, _ = root.partition("://")
            if not root or (mark and scheme not in ("s3", "gs", "gcs", "hf")):
                raise ValueError(
                    f"{root!r} is no root of pictures, which are never fetched from the web; allowed: folders, s3://, "
                    "gs://, hf://datasets/"
                )
        return roots


class Input(Section):
    path: Annotated[str | dict[Literal["train", "validation", "test"], str], Decides.FILES] = Field(
        description="a file, a folder, a glob, `s3://`, `gs://` or `hf://datasets/OWNER/NAME`; or one for each split"
    )
    format: Annotated[Format | None, Decides.RUN] = Field(
        default=None, description="of all files; null: told by their endings and their content"
    )
    lang: Annotated[LanguageCode | list[LanguageCode], Decides.ROWS] = Field(
        default="eng_Latn", description="of the sentences; direction test takes several, with `{lang}` in the path"
    )
    columns: Columns = Columns()
    scheme: Annotated[Scheme | None, Decides.ROWS] = Field(
        default=None, description="how tags are written; null: found out, with separators and the spelling of O"
    )
    offsets: Annotated[Offsets | None, Decides.ROWS] = Field(
        default=None,
        description="what the numbers of spans count; null: found out by their texts and the edges of words",
    )
    ends: Annotated[Ends | None, Decides.ROWS] = Field(
        default=None,
        description="whether the end of a span is behind it (exclusive) or its last unit; null: by format or found out",
    )
    answers: Annotated[list[Literal["accept", "reject", "ignore"]] | None, Decides.ROWS] = Field(
        default=None, description="which answers of Prodigy count as gold; null: `[accept]`"
    )
    carry: Annotated[list[str] | None, Decides.ROWS] = Field(
        default=None,
        description="other columns to copy to the output; null: all (of JSON and CSV in one column, `extra`); a list:"
        " these, of JSON and CSV as text",
    )
    labels: Labels = Labels()
    parallel: Annotated[dict[LanguageCode, str], Decides.FILES] = Field(
        default_factory=dict,
        description="text in other languages, sentence i to sentence i, as in `{spa_Latn: data/es.txt}`",
    )
    parallel_format: Annotated[Format | None, Decides.RUN] = Field(
        default=None, description="of the files of parallel; null: told as for format"
    )
    links: Annotated[str | None, Decides.FILES] = Field(
        default=None, description="word links for `align.backend: provided`: a line a sentence, `i-j i-j`"
    )
    split: Annotated[Literal["sentences"] | None, Decides.ROWS] = Field(
        default=None, description="cut documents into sentences, their labels with them, and files without blank lines"
    )
    limit: Annotated[int | None, Decides.ROWS] = Field(
        default=None, ge=1, description="the first rows, over all splits in order; null: all"
    )
    sample: Annotated[Sample | None, Decides.ROWS] = Field(
        default=None, description="rows drawn at random, as in `{rows: 200, seed: 0}`; not with limit"
    )
    max_words: Annotated[int, Decides.ROWS] = Field(
        default=1000, ge=1, description="longer sentences are rejected (`too_long`)"
    )

    images: Images = Images()

    @model_validator(mode="after")
    def _with_pictures(self) -> Input:
        if self.columns.image is None and self.images != Images():
            raise ValueError("images: there are no pictures; name their column under columns.image")
        return self

    @model_validator(mode="after")
    def _selection(self) -> Input:
        if self.limit is not None and self.sample is not None:
            raise ValueError("limit and sample exclude each other; give one")
        if isinstance(self.path, dict) and len(set(self.path.values())) < len(self.path):
            raise ValueError("path: two splits name the same files")
        carry = self.carry or []
        if len(set(carry)) < len(carry) or not all(name and name.isprintable() for name in carry):
            raise ValueError(f"carry: {carry}; allowed: names of columns, each once")
        for key, name in self.columns:
            if name in carry:
                raise ValueError(f"carry: {name!r} is read as columns.{key} already; leave it out of carry")
        own = row_schema(images=self.columns.image is not None)
        if clash := sorted(set(carry) & set(own.names)):
            raise ValueError(f"carry: {clash[0]!r} has the name of an output column; rename it in the files")
        if carry and self.format not in (None, "jsonl", "json", "parquet", "dataset", "run"):
            raise ValueError(f"carry: format {self.format} has no columns; allowed: jsonl, json, parquet, dataset, run")
        return self
