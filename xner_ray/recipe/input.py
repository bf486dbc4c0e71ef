"""The section `input` of a recipe: files, how they are written, and what of them is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from xner_ray.data.kinds import Ends, Format, Offsets, Scheme
from xner_ray.data.languages import resolve
from xner_ray.data.row import ROW
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
    rename: Annotated[dict[str, str], Decides.ROWS] = Field(default_factory=dict)
    keep: Annotated[list[str] | None, Decides.ROWS] = None  # after rename; None: every label found at index time
    # of tags or labels that are numbers, from 0, as in [O, B-PER, I-PER]; None: what the files say (ClassLabel)
    names: Annotated[list[str] | None, Decides.ROWS] = None

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
    rows: Annotated[int, Decides.ROWS] = Field(ge=1)
    seed: Annotated[int, Decides.ROWS] = 0


class Input(Section):
    path: Annotated[str | dict[Literal["train", "validation", "test"], str], Decides.FILES]
    format: Annotated[Format | None, Decides.RUN] = None
    lang: Annotated[LanguageCode | list[LanguageCode], Decides.ROWS] = "eng_Latn"
    columns: Columns = Columns()
    # how tags are written; None: found out
    scheme: Annotated[Scheme | None, Decides.ROWS] = None
    # what the numbers of spans count; None: found out
    offsets: Annotated[Offsets | None, Decides.ROWS] = None
    # whether the end of a span is behind it, or its last unit; None: by the format, or found out
    ends: Annotated[Ends | None, Decides.ROWS] = None
    # which answers of Prodigy count as gold; None: accept
    answers: Annotated[list[Literal["accept", "reject", "ignore"]] | None, Decides.ROWS] = None
    # Other columns to copy to the output. None: all (of jsonl as JSON in one column, extra); a list: these (as text)
    carry: Annotated[list[str] | None, Decides.ROWS] = None
    labels: Labels = Labels()
    parallel: Annotated[dict[LanguageCode, str], Decides.FILES] = Field(default_factory=dict)
    parallel_format: Annotated[Format | None, Decides.RUN] = None
    # for align.backend provided: files of word links, one line a sentence
    links: Annotated[str | None, Decides.FILES] = None
    split: Annotated[Literal["sentences"] | None, Decides.ROWS] = None  # cut raw documents into sentences
    limit: Annotated[int | None, Decides.ROWS] = Field(default=None, ge=1)
    sample: Annotated[Sample | None, Decides.ROWS] = None
    max_words: Annotated[int, Decides.ROWS] = Field(default=1000, ge=1)

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
        if clash := sorted(set(carry) & set(ROW.names)):
            raise ValueError(f"carry: {clash[0]!r} has the name of an output column; rename it in the files")
        if carry and self.format not in (None, "jsonl", "json", "parquet", "dataset", "run"):
            raise ValueError(f"carry: format {self.format} has no columns; allowed: jsonl, json, parquet, dataset, run")
        return self
