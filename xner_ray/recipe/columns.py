"""How input files are written, as a recipe may state it; what it leaves out, the scan of the files finds out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from xner_ray.recipe.decides import Decides, Section

# fmt: off
Format = Literal[
    "conll", "conllu", "conll2012", "uner", "webanno", "brat", "table",
    "jsonl", "json", "spacy", "parquet", "dataset", "run", "text", "inline",
]
# fmt: on
Scheme = Literal["iob1", "iob2", "bioes", "bmes", "io"]
Offsets = Literal["characters", "utf16", "bytes", "graphemes", "tokens"]
Ends = Literal["exclusive", "inclusive"]
SPLITS = ("train", "validation", "test")


def _number(value: Any) -> Any:
    """Return the number of a column as text."""
    return str(value) if type(value) is int and value > 0 else value


Column = Annotated[str, BeforeValidator(_number), Field(min_length=1)]


class Columns(Section):
    """The user's columns: keys or names; of files with a word a line numbers from 1, or names where there is a header.

    Where a name is the default and the files have no such column, the scan finds out which one is meant.
    """

    id: Annotated[Column, Decides.ROWS] = "id"
    text: Annotated[Column, Decides.ROWS] = "text"
    tokens: Annotated[Column, Decides.ROWS] = "tokens"
    tags: Annotated[Column, Decides.ROWS] = "ner_tags"
    spans: Annotated[Column, Decides.ROWS] = "spans"
    doc_id: Annotated[Column, Decides.ROWS] = "doc_id"
    split: Annotated[Column, Decides.ROWS] = "split"

    def stated(self, name: str) -> str | None:
        """Return the user's own name of a column, a number as digits; None if the recipe leaves it out."""
        return str(getattr(self, name)) if name in self.model_fields_set else None
