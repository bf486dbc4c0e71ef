"""Each kind of file that users have: read as they mean it, refused with a cure where damaged; and docs/formats.md."""

from pathlib import Path

import pytest
from formats_page import KINDS, PAGE, rows_of, table_in
from kinds import Kind

PAGE_TEXT = PAGE.read_text("utf-8")
ROWS = {name: table_in(PAGE_TEXT, name) for name in ("read", "damaged")}
ANEW = "write it anew: python tests/helpers/formats_page.py --write"


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.name, marks=[pytest.mark.slow] if kind.slow else []) for kind in KINDS]
)
def test_forty_sentences_are_read_and_damage_has_a_cure(kind: Kind, tmp_path: Path) -> None:
    for name, row in rows_of(kind, tmp_path).items():
        assert row in ROWS[name], ANEW


def test_the_page_has_every_kind_once() -> None:
    assert {kind.number for kind in KINDS} == set(range(1, 16))
    for rows in ROWS.values():
        assert len(rows) == len(set(rows)) == len(KINDS), ANEW
