"""The templates of this package: pages and displays escape whatever they are given."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from xner_ray.report.colours import EDGES, HUES
from xner_ray.report.page import sentences


@cache
def environment() -> jinja2.Environment:
    """Return what loads the templates, and keeps those that it has compiled.

    Filters: `n` writes a number with commas, `short` cuts a text, `sentence` makes a clause a sentence. Globals: `hues`
    and `edges`, which the looks of labels name by their numbers.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"n": lambda value: f"{value:,}", "short": lambda text: sentences.short(text, 60)}
    made.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    made.globals |= {"hues": HUES, "edges": EDGES}
    return made
