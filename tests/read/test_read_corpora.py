"""Reading real text, where it is."""

import os
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from reading import read_all, reasons, to_test, to_train

from xner_ray.read.index.build import build_index

SHARED = Path(os.environ.get("XNER_SHARED", Path(__file__).parents[3] / "shared"))
needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="XNER_SHARED has no data: real text is not here"
)


def _spans(table: pa.Table, column: str) -> int:
    return sum(len(spans) for spans in table.column(column).to_pylist())


@needs_shared
def test_europarl() -> None:
    folder = SHARED / "data/europarl-ner"
    given = {"parallel": {"spa_Latn": str(folder / "es-europarl.test.conll02")}}
    recipe = to_train(folder / "en-europarl.test.conll02", input=given)
    index = build_index(recipe)
    table = read_all(recipe, index)
    assert (table.num_rows, _spans(table, "source_spans"), _spans(table, "gold_spans")) == (799, 702, 697)
    assert index.labels_found == index.gold_labels["spa_Latn"] == ["LOC", "MISC", "ORG", "PER"]
    assert set(reasons(table)) == {None}
    assert index.repaired == 0


@needs_shared
def test_uner_pud() -> None:
    folder = SHARED / "data/uner-pud"
    languages = {"por_Latn": "pt", "swe_Latn": "sv"}
    given = {"parallel": {lang: str(folder / f"{name}_pud-ud-test.iob2") for lang, name in languages.items()}}
    recipe = to_train(folder / "en_pud-ud-test.iob2", targets=tuple(languages), input=given, unit_rows=300)
    table = read_all(recipe)
    by_lang = {lang: table.filter(pa.compute.equal(table["lang"], lang)) for lang in languages}
    assert {lang: part.num_rows for lang, part in by_lang.items()} == dict.fromkeys(languages, 1000)
    assert _spans(by_lang["por_Latn"], "source_spans") == 1075
    assert [_spans(part, "gold_spans") for part in by_lang.values()] == [1099, 1029]
    assert set(reasons(table)) == {None}
    own = [read_all(to_test(path, input={"lang": lang})) for lang, path in given["parallel"].items()]
    assert own[0].column("id").equals(own[1].column("id"))
    assert own[0].column("id").equals(by_lang["por_Latn"].column("id"))
    for part in own:
        for row in part.to_pylist():
            assert [row["text"][o["start"] : o["end"]] for o in row["offsets"]] == row["tokens"]
            assert all(before["end"] <= after["start"] for before, after in pairwise(row["offsets"]))
    # "da" is written, "de" and "a" are the words: the text is theirs.
    first = own[0].slice(0, 1).to_pylist()[0]
    assert "de a transição" in first["text"]
