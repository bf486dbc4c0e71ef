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

    id: Annotated[Column, Decides.ROWS] = "id"
    text: Annotated[Column, Decides.ROWS] = "text"
    tokens: Annotated[Column, Decides.ROWS] = "tokens"
    tags: Annotated[Column, Decides.ROWS] = "ner_tags"
    spans: Annotated[Column, Decides.ROWS] = "spans"
    doc_id: Annotated[Column, Decides.ROWS] = "doc_id"
    split: Annotated[Column, Decides.ROWS] = "split"

    def names(self) -> Names:
        """Return the names, with those that the recipe states."""
        return Names(**dict(self), given=frozenset(self.model_fields_set))
