"""How input files are written, as a recipe may state it; what it leaves out, the scan of the files finds out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from xner_ray.data.kinds import Names
from xner_ray.recipe.decides import Decides, Section


def _number(value: Any) -> Any:
    """Return the number of a column as text."""
    return str(value) if type(value) is int and value > 0 else value


Column = Annotated[str, BeforeValidator(_number), Field(min_length=1)]


class Columns(Section):
    """The user's columns: keys or names; of files with a word a line numbers from 1, or names where there is a header.

    Where a name is the default and the files have no such column, the scan finds out which one is meant.
    """

    id: Annotated[Column, Decides.ROWS] = Field(
        default="id", description="ids of sentences; of tables with a word a row the column that numbers the sentences"
    )
    text: Annotated[Column, Decides.ROWS] = Field(default="text", description="the text of a sentence or document")
    tokens: Annotated[Column, Decides.ROWS] = Field(default="tokens", description="its words")
    tags: Annotated[Column, Decides.ROWS] = Field(
        default="ner_tags",
        description="a tag for each word; in CoNLL-U a key of MISC, in WebAnno a feature such as `NamedEntity.value`",
    )
    spans: Annotated[Column, Decides.ROWS] = Field(
        default="spans", description="entities as spans of the text or of the words"
    )
    doc_id: Annotated[Column, Decides.ROWS] = Field(default="doc_id", description="ids of documents")
    split: Annotated[Column, Decides.ROWS] = Field(
        default="split",
        description="the split of a row: train, validation or test; where there is none, files and folders name it",
    )

    image: Annotated[Column | None, Decides.ROWS] = Field(
        default=None,
        description="the picture of a row: a path below the file's folder, an address, or the hub's `{bytes, path}`;"
        " null: no pictures",
    )

    def names(self) -> Names:
        """Return the names, with those that the recipe states."""
        return Names(**dict(self), given=frozenset(self.model_fields_set))
