"""Shapes of the rows of tables, and their evidence by whole columns."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_files import entities, read, settled

from xner_ray.errors import InputError
from xner_ray.read.record import File, Reading, Stated
from xner_ray.read.shapes.evidence import ObjectEvidence
from xner_ray.recipe.columns import Columns

TEXT, PER, LOC = "Nora Falk went to Oslo.", ("Nora Falk", "PER"), ("Oslo", "LOC")

SPANS = [{"start": 0, "end": 9, "label": "PER"}, {"start": 18, "end": 22, "label": "LOC"}]


def _table(folder: Path, columns: dict[str, Any], **options: Any) -> File:
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=2)
    return File(str(folder / "a.parquet"), "a.parquet", "parquet", "eng_Latn", **options)


@pytest.mark.parametrize(
    "columns",
    [
        {
            "text": [TEXT],
            "entities": [SPANS],
        },
        {
            "sentence": [TEXT],
            "spans": [[dict(zip(("begin", "end", "type"), one.values(), strict=True)) for one in SPANS]],
        },
        {"text": [TEXT], "label": [{"start_offset": [0, 18], "end_offset": [9, 22], "label": ["PER", "LOC"]}]},
        {"words": [TEXT[:-1].split()], "labels": [["B-PER", "I-PER", "O", "O", "B-LOC"]]},
        {
            "tokenized_text": [TEXT[:-1].split()],
            "ner": [[{"start": 0, "end": 2, "label": "PER"}, {"start": 4, "end": 5, "label": "LOC"}]],
        },
    ],
)
def test_rows_of_tables(tmp_path: Path, columns: dict[str, Any]) -> None:
    (record,), said = read(_table(tmp_path, {"n": [7]} | columns))
    assert entities(record) == [PER, LOC]
    assert said
    assert record.extra is not None and record.extra[0].schema.names == ["n"]


def test_bigbio_in_parquet(tmp_path: Path) -> None:
    entity = {"id": "e", "type": "PER", "text": ["Nora Falk"], "offsets": [[0, 9]]}
    columns = {
        "id": ["1"],
        "document_id": ["d"],
        "passages": [[{"id": "p", "type": "t", "text": [TEXT], "offsets": [[0, len(TEXT)]]}]],
        "entities": [[entity]],
    }
    (record,), _ = read(_table(tmp_path, columns))
    assert (entities(record), record.doc_id) == ([PER], "d")


def test_numbers_named_in_the_recipe(tmp_path: Path) -> None:
    columns = {"tokens": [["Nora", "left"]], "ner_tags": [[1, 0]]}
    file = _table(tmp_path, columns, stated=Stated(names=("O", "B-PER")))
    assert entities(read(file)[0][0]) == [("Nora", "PER")]
    with pytest.raises(InputError, match=r"holds numbers, and no ClassLabel.*input\.labels\.names"):
        read(replace(file, stated=Stated()))


def test_evidence_by_whole_columns_is_that_of_the_rows(tmp_path: Path) -> None:
    draw = random.Random(4)
    words, tags = ["Nora", "O", "é", "went"], ["O", "B-PER", "I-PER", "S-X"]
    rows = []
    for number in range(300):
        size = draw.choice([0, 1, 3])
        row = {"id": draw.choice([str(number), "a b", None]), "tokens": draw.choices(words, k=size)}
        rows.append(row | {"ner_tags": None if number == 7 else draw.choices(tags, k=size), "n": number})
    file = _table(tmp_path, {"tokens": [["a"]], "ner_tags": [["O"]]})
    for cut in (0, 11, 300):
        one, other = ObjectEvidence(file), ObjectEvidence(file)
        for part in (rows[:cut], rows[cut:]):
            evidence = ObjectEvidence(file)
            if part:
                batch = pa.RecordBatch.from_pylist(part)
                evidence.add_batch(batch, {})
                by_row = ObjectEvidence(file)
                by_row.add_batch(batch.append_column("odd", pa.array([{}] * len(part))).select(batch.schema.names), {})
            one.merge(evidence)
        for row in rows:
            other.add(_raw(row))
        assert set(one.forms) == set(other.forms)
        assert (one.rows, one.tags, one.highest) == (other.rows, other.tags, other.highest)
        assert one.settle(file) == other.settle(file)


def _raw(data: dict[str, Any]) -> Any:
    from xner_ray.read.record import Raw

    return Raw(None, 0, data)


def test_plain_tables_read_no_further_columns(tmp_path: Path) -> None:
    file = _table(tmp_path, {"tokens": [["a"]], "ner_tags": [["O"]], "other": [["B-X"]], "text2": ["x"]})
    assert settled(file).reading == Reading()
    file = _table(tmp_path, {"tokens": [["a"]], "mine": [["O"]], "other": [["B-X"]]})
    with pytest.raises(InputError, match="tags may be under 'mine'"):
        read(file)
    stated = replace(file, columns=Columns(tags="other").names())
    assert entities(read(stated)[0][0]) == [("a", "X")]
