"""Sentences as a notebook shows them: both sides, entities coloured as on report.html. No script, no style sheet.

A notebook is one page, so nothing here may reach beyond its own output: styles stand at the elements, and all text of
the input goes through Jinja's autoescaping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from xner_ray.report.page import sentences
from xner_ray.report.page.templates import environment


@cache
def _template() -> jinja2.Template:
    return environment().get_template("notebook.html")


def sentences_html(
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    *,
    title: str,
    lines: Sequence[str] = (),
    left_out: int = 0,
) -> str:
    """Return an HTML fragment of rows with the columns `sampling.COLUMNS`.

    labels: those of all rows. lines: what stands below the title. left_out: rows that are not shown.
    """
    shown = [sentences.view(row, labels) for row in rows]
    return _template().render(sentences=shown, title=title, lines=lines, left_out=left_out)
