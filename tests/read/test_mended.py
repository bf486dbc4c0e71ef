"""Tokens that are no words: the same rows from every format, flagged on either side."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import read_all, reasons, to_test, to_train, write

from xner_ray.data.spans import Span, spans_to_tags, tags_to_spans
from xner_ray.errors import Flag, Reason
from xner_ray.read.find import find_files
from xner_ray.read.records import read_records
from xner_ray.read.side import side
from xner_ray.recipe.columns import Columns
from xner_ray.recipe.input import Labels

PUD = Path(os.environ.get("XNER_SHARED", Path(__file__).parents[3] / "shared")) / "data/uner-pud"
ROWS = [  # tokens, tags, words, their tags
    (["Ana", " ", "ran"], ["B-PER", "O", "O"], ["Ana", "ran"], ["B-PER", "O"]),
    (["di", "salah satu", "."], ["O", "B-LOC", "O"], ["di", "salah", "satu", "."], ["O", "B-LOC", "I-LOC", "O"]),
    (["5\u00a0000", "kr"], ["O", "O"], ["5", "000", "kr"], ["O", "O", "O"]),
    (["", "Bo", "\u200b"], ["O", "B-PER", "I-PER"], ["Bo"], ["B-PER"]),
    (["lọ", "\u0301", "jọ", "\u0301", "kejì"], ["O"] * 5, ["lọ\u0301", "jọ\u0301", "kejì"], ["O"] * 3),
    (["東\ufeff京", "大\u3000阪"], ["B-LOC", "B-LOC"], ["東京", "大", "阪"], ["B-LOC", "B-LOC", "I-LOC"]),
    (["ខ្មែរ\u200bភាសា"], ["B-MISC"], ["ខ្មែរ", "ភាសា"], ["B-MISC", "I-MISC"]),
    (["sound"], ["O"], ["sound"], ["O"]),
]
REJECTED = [([" ", "\ufeff"], ["O", "O"], Reason.EMPTY), (["a", "\u3000"], ["O", "B-PER"], Reason.BAD_SPAN)]


def _write(folder: Path, form: str, rows: list[tuple[list[str], list[str]]]) -> Path:
    path = folder / f"a.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"tokens": [t for t, _ in rows], "ner_tags": [g for _, g in rows]}), path)
    elif form == "jsonl":
        write(path, *({"tokens": tokens, "ner_tags": tags} for tokens, tags in rows))
    else:
        number = "{}\t" if form == "iob2" else ""
        lines = [
            "".join(
                f"{number.format(n)}{word}\t{tag}\n" for n, (word, tag) in enumerate(zip(*row, strict=True), start=1)
            )
            for row in rows
        ]
        path.write_text("\n".join(lines))
    return path


def _words(row: dict[str, Any]) -> tuple[list[str], list[str]]:
    return row["source_tokens"], spans_to_tags(_spans(row["source_spans"]), len(row["source_tokens"]))


def _spans(cells: list[dict[str, Any]]) -> list[Span]:
    return [Span(cell["start"], cell["end"], cell["label"]) for cell in cells]


@pytest.mark.parametrize("form", ["conll", "jsonl", "parquet", "iob2"])
def test_every_format_gives_the_same_words(tmp_path: Path, form: str) -> None:
    rows = [(tokens, tags) for tokens, tags, *_ in (*ROWS, *REJECTED)]
    path = _write(tmp_path, form, rows)
    table = read_all(to_train(path, input={"format": "uner"} if form == "iob2" else {}))
    found = table.to_pylist()
    assert reasons(table) == [None] * len(ROWS) + [reason for *_, reason in REJECTED]
    assert [_words(row) for row in found[: len(ROWS)]] == [(words, tags) for *_, words, tags in ROWS]
    for row in found[: len(ROWS)]:
        assert [row["source_text"][o["start"] : o["end"]] for o in row["source_offsets"]] == row["source_tokens"]
    flagged = [[] if tokens == words else [Flag.TOKENS_MENDED] for tokens, _, words, _ in ROWS]
    if form != "iob2":  # UNER's own words with a blank inside are cut by its format
        assert [row["flags"] for row in found[: len(ROWS)]] == flagged
    assert found[-1]["detail"].endswith("span [1, 2, 'PER'] covers no word")
    gold = read_all(to_test(path, input={"format": "uner"} if form == "iob2" else {})).to_pylist()
    assert [row["tokens"] for row in gold] == [row["source_tokens"] for row in found]
    assert [row["flags"] for row in gold[: len(ROWS)]] == [row["flags"] for row in found[: len(ROWS)]]


def test_text_that_still_fits_stays_and_spans_of_characters_move(tmp_path: Path) -> None:
    own = ["Ana", " ", "ran", "(", "5 000", "km", ")", "."]
    rows: list[dict[str, Any]] = [
        {"text": "Ana  ran (5 000 km).", "tokens": own, "ner_tags": ["O"] * 8},
        {"text": "lọ \u0301 jọ.", "spans": [[5, 7, "LOC"], [0, 2, "PER"]]},
        {"text": "x\u200by z\u200b a \u200b b", "spans": [[0, 3, "LOC"], [4, 5, "PER"]]},
        {"text": "lọ \u0301 fo\ufeffo", "tokens": ["lọ", "\u0301", "fo\ufeffo"], "spans": [[0, 4, "A"], [5, 9, "B"]]},
        {"text": "lọ \u0301 jọ.", "spans": [[3, 4, "LOC"]]},
    ]
    first, second, third, fourth, fifth = read_all(to_train(write(tmp_path / "a.jsonl", *rows))).to_pylist()
    assert (first["source_text"], first["flags"]) == ("Ana  ran (5 000 km).", [Flag.TOKENS_MENDED])
    assert (second["source_text"], second["source_tokens"]) == ("lọ\u0301 jọ.", ["lọ\u0301", "jọ", "."])
    assert [(s["start"], s["end"], s["label"]) for s in second["source_spans"]] == [(0, 1, "PER"), (1, 2, "LOC")]
    assert second["flags"] == [Flag.TOKENS_MENDED]
    assert (third["source_text"], third["source_tokens"]) == (rows[2]["text"], ["x", "y", "z", "a", "b"])
    assert [(s["start"], s["end"], s["label"]) for s in third["source_spans"]] == [(0, 2, "LOC"), (2, 3, "PER")]
    assert third["flags"] == []  # nobody's words were mended, and the text is as it was
    assert (fourth["source_text"], fourth["source_tokens"]) == ("lọ\u0301 foo", ["lọ\u0301", "foo"])
    assert [(s["start"], s["end"], s["label"]) for s in fourth["source_spans"]] == [(0, 1, "A"), (1, 2, "B")]
    assert (fifth["reason"], fifth["detail"]) == (Reason.BAD_SPAN, "a.jsonl:5: span [1, 2, 'LOC'] covers no word")
    kept = read_all(to_train(tmp_path / "a.jsonl", input={"labels": {"keep": ["PER"]}})).to_pylist()[4]
    assert (kept["reason"], kept["source_spans"]) == (None, [])


def test_the_other_side_is_mended_and_flagged_once(tmp_path: Path) -> None:
    path = _write(tmp_path, "jsonl", [(["Ana", " "], ["B-PER", "O"]), (["b"], ["O"]), (["c"], ["O"])])
    parallel = write(tmp_path / "b.jsonl", {"tokens": ["x", ""]}, {"tokens": ["y z"]}, {"tokens": ["c"]})
    for recipe in (
        to_train(path, input={"parallel": {"spa_Latn": str(parallel)}}),
        to_test(path, input={"parallel": {"eng_Latn": str(parallel)}}),
    ):
        assert read_all(recipe).column("flags").to_pylist() == [[Flag.TOKENS_MENDED]] * 2 + [[]]


@pytest.mark.skipif(not PUD.is_dir(), reason=f"no data at {PUD} (set XNER_SHARED)")
@pytest.mark.parametrize(("name", "lang"), [("pt", "por_Latn"), ("sv", "swe_Latn")])
def test_all_of_pud_is_read_from_every_format(tmp_path: Path, name: str, lang: str) -> None:
    path = PUD / f"{name}_pud-ud-test.iob2"
    sentences = [
        [line.split("\t") for line in block.splitlines() if not line.startswith("#")]
        for block in path.read_text(encoding="utf-8").split("\n\n")
    ]
    rows = [([cells[1] for cells in one], [cells[2] for cells in one]) for one in sentences if one]
    assert sum(any(" " in token for token in tokens) for tokens, _ in rows) == {"pt": 0, "sv": 9}[name]
    own = read_all(to_test(path, input={"lang": lang})).to_pylist()
    assert len(own) == 1000
    for form in ("conll", "jsonl", "parquet"):
        found = read_all(to_test(_write(tmp_path, form, rows), input={"lang": lang})).to_pylist()
        for row, same in zip(found, own, strict=True):
            assert (row["status"], row["tokens"], row["gold_spans"]) == ("ok", same["tokens"], same["gold_spans"])
            assert all(before["end"] <= after["start"] for before, after in pairwise(row["offsets"]))
    spans = [tags_to_spans(tags)[0] for _, tags in rows]
    assert sum(map(len, spans)) == sum(len(row["gold_spans"]) for row in own)


def test_what_students_and_encoders_read_is_mended_too(tmp_path: Path) -> None:
    path = _write(tmp_path, "conll", [(tokens, tags) for tokens, tags, *_ in ROWS])
    (file,) = find_files(str(path), format=None, lang="yor_Latn", side="target", columns=Columns(), carried=False)
    made = [side(record, file, Labels(), 1000) for _, record in read_records(file)]
    assert [one.tokens for one in made] == [words for *_, words, _ in ROWS]
    assert all(one.reason is None for one in made)
