"""Formats told apart by content, and what is said of it."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest

from xner_ray.errors import InputError
from xner_ray.read.find import contents, find_files
from xner_ray.read.record import File
from xner_ray.read.stamps import unchanged
from xner_ray.recipe.columns import Columns

CONLL = "kuongezeka O\nNora B-PER\nFalk I-PER\n\nMombasa B-LOC\nni O\n. O\n"
UNER = "# sent_id = a\n# text = Nora\n1\tNora\tB-PER\t-\tu\n2\twent\tO\t-\tu\n\n1\tx\tO\t-\tu\n"
CONLLU = (
    "1\tNora\tNora\tPROPN\tNNP\t_\t2\tnsubj\t_\tNER=B-PER\n2-3\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "2\twent\tgo\tVERB\tV\t_\t0\troot\t_\t_\n"
)
WEBANNO = "#FORMAT=WebAnno TSV 3.3\n#T_SP=x|y\n\n#Text=a\n1-1\t0-1\ta\tPER\t\n"


def _find(path: object, **options: Any) -> list[File]:
    given: dict[str, Any] = {"format": None, "lang": "eng_Latn", "side": "source", "columns": Columns()}
    return find_files(str(path), **given | options)


def _one(tmp_path: Path, name: str, content: str | bytes, **options: Any) -> File:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (file,) = _find(path, **options)
    return file


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.conll", CONLL, "conll"),
        ("a.conll", "1 Nora NNP I-NP B-PER\n2 went VBD I-VP O\n", "conll"),
        ("a.conll", "a O\n", "conll"),
        ("a.txt", "Nora went to Oslo.\nIt was big.\n\nBye.\n", "text"),
        ("a.txt", "0\tGo.\n1\tHi.\n2\tRun!\n", "text"),
        ("a.txt", "<b>Nora</b> went.\nTo <i>Oslo</i>.\nSee [1](http://a.b/c).\n", "text"),
        ("a.txt", "ผมไป\nเธอมา\n\nเขา\n", "text"),
        ("a.txt", "[Applause]\n[Laughs loudly]\n{x}\n", "text"),
        ("a.iob2", UNER, "uner"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"}\n', "jsonl"),
        ("a.jsonl", '["a", {"entities": []}]\n["b", {"entities": []}]\n', "jsonl"),
        ("a.jsonl", '{\n{"text": "b"}\n', "jsonl"),
        ("a.json", '[{"text": "a"}]', "json"),
        ("a.json", '{"data": [{"text": "a"}]}', "json"),
        ("a.csv", "Sentence #,Word,POS,Tag\nSentence: 1,Nora,NNS,B-per\n,of,IN,O\n", "table"),
        ("a.tsv", "Sentence #\tWord\tPOS\tTag\n1\tNora\tNNS\tB-per\n\tof\tIN\tO\n\tin\tIN\tO\n", "table"),
        ("a.tsv", "q\tw\nr\tt\n", "table"),
        ("a.conllu", CONLLU, "conllu"),
    ],
)
def test_where_content_agrees_with_the_ending_nothing_is_said(
    tmp_path: Path, name: str, content: str, format: str
) -> None:
    file = _one(tmp_path, name, content)
    assert (file.format, file.said) == (format, ())


@pytest.mark.parametrize(
    ("name", "content", "format", "why"),
    [
        ("test.txt", CONLL, "conll", "a word and its tag on each line"),
        ("a.txt", "token\tner\nNora\tB-PER\nx\tO\n\ny\tO\n", "conll", "a word and its tag"),
        ("a.txt", "Nora PERSON\nwent O\nto O\nOslo GPE\n. O\n", "conll", "a word and its tag"),
        ("a.txt", "Nora person\nwent O\nto O\nOslo location-GPE\n. O\n", "conll", "a word and its tag"),
        ("a.tsv", "Nora\tart-film/x\nwent\tO\nto\tO\n\nOslo\tpéče\n.\tO\n", "conll", "a word and its tag"),
        ("a.txt", "北 B-LOC\n京 E-LOC\n的 O\n人 O\n\n张 S-PER\n", "conll", "a word and its tag"),
        ("a.txt", "Nora PER-B\nFalk PER-I\nwent O\n", "conll", "a word and its tag"),
        ("a.txt", UNER, "uner", "the number of a word"),
        ("a.iob2", CONLL, "conll", "a word and its tag"),
        ("a.tsv", "Nora\tB-PER\nwent\tO\n\nOslo\tB-LOC\nis\tO\n", "conll", "a word and its tag"),
        ("a.tsv", "#\ta.b [2009]\n1\tNora\tB-PER\tO\n2\tx\tO\tB-LOC\n\n1\ty\tO\tO\n", "conll", "a word and its tag"),
        ("train", "en:Nora\tB-PER\nen:x\tO\nen:y\tO\n", "conll", "a word and its tag"),
        ("a.conll", CONLLU, "conllu", "ten columns"),
        ("a.tsv", WEBANNO, "webanno", "begins with #FORMAT=WebAnno TSV"),
        ("a.conll", "#begin document (x); part 000\nx 0 0 a\n", "conll2012", "#begin document"),
        ("a.jsonl", '[\n {"text": "a"},\n {"text": "b"}\n]', "json", "JSON array"),
        ("a.txt", '[["a", {"entities": [[0, 1, "PER"]]}]]', "json", "JSON array"),
        ("a.jsonl", '{\n "data": [{"text": "a"}]\n}\n', "json", "one JSON object over several lines"),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', "jsonl", "a JSON object on each line"),
        ("a.data", '{"text": "a"}\n', "jsonl", "one JSON object"),
        ("a.txt", "text,label\nNora went,B-PER O\nx,O\n", "table", "names of columns"),
        ("a.txt", "[Nora](PER) went.\nTo [Oslo](LOC).\nBye.\n", "inline", r"marked as \[text\]\(LABEL\)"),
        ("a.txt", '<PER>Nora</PER> went.\nTo <ENAMEX TYPE="LOC">Oslo</ENAMEX>.\n', "inline", "marked as <LABEL>"),
        ("a.txt", "[PER Nora Falk] went.\nTo [LOC Oslo].\n", "inline", r"marked as \[LABEL text\]"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_clear_content_counts_for_more_than_the_ending_and_is_said(
    tmp_path: Path, name: str, content: str, format: str, why: str, zipped: bool
) -> None:
    data = content.encode("utf-8-sig")
    file = _one(tmp_path, name + ".gz", gzip.compress(data)) if zipped else _one(tmp_path, name, data)
    assert file.format == format
    (said,) = file.said
    assert said.startswith(f"read as {format}: it ")
    assert why.replace("\\", "") in said


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("Go.\tVa !\nHi.\tSalut.\nRun!\tCours!\n", "2 columns between tabs.*set input.format: text, or table"),
        ("Nora\nwent\nto\nOslo\n.\n\nShe\nis\nthere\n.\n", "one word on each line.*input.format: text, or conll"),
        ("Vitamin B-12\n", "may be text or conll"),
    ],
)
def test_content_that_fits_two_formats_is_refused_with_both(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        _one(tmp_path, "a.txt", content)
    assert _one(tmp_path, "a.txt", content, format="text").format == "text"


@pytest.mark.parametrize(
    ("stated", "content", "match"),
    [
        ("conll", '{"a": 1}\n{"b": 2}\n', "input.format: jsonl"),
        ("jsonl", "[\n{},\n{}]", "is read as jsonl, but holds a JSON array; set input.format: json"),
        ("jsonl", CONLL, "a word and its tag on each line; set input.format: conll"),
        ("uner", WEBANNO, "begins with #FORMAT=WebAnno TSV; set input.format: webanno"),
    ],
)
def test_a_stated_format_that_content_contradicts_is_refused(
    tmp_path: Path, stated: str, content: str, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        _one(tmp_path, "a.x", content, format=stated)
    assert _one(tmp_path, "a.x", content, format="text").format == "text"


def test_the_key_of_parallel_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set input.parallel_format: json"):
        _one(tmp_path, "a.x", "[{}]", format="jsonl", key="input.parallel_format")


def test_files_of_one_input_must_look_alike(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(CONLL)
    (tmp_path / "test.txt").write_text(CONLL)
    assert [file.format for file in _find(tmp_path)] == ["conll", "conll"]
    (tmp_path / "labels.txt").write_text("PER\nLOC\n")
    with pytest.raises(InputError, match=r"conll: test.txt; text: labels.txt.*name the files of one"):
        _find(tmp_path)
    assert [file.name for file in _find(tmp_path / "t*.txt")] == ["train.txt", "test.txt"]


def test_notes_beside_data_are_no_data(tmp_path: Path) -> None:
    for name in ("README.txt", "LICENSE", "meta.json", "stats.csv"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "a.conllu").write_text(CONLLU)
    (tmp_path / "a.txt").write_text("Nora went\n")
    assert [file.name for file in _find(tmp_path)] == ["a.conllu"]
    for name in ("train", "dev"):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / name).write_text("sw:Nora B-PER\nsw:x O\nsw:y O\n")
    assert [(file.name, file.format) for file in _find(tmp_path / "raw")] == [("train", "conll"), ("dev", "conll")]
    (tmp_path / "raw" / "other").write_text("something else\n")
    with pytest.raises(InputError, match="cannot be guessed, no file has a known ending"):
        _find(tmp_path / "raw")


@pytest.mark.parametrize(
    ("lang", "encoding", "text", "named"),
    [
        ("fra_Latn", "latin1", "Café\nnaïve\nüber\nplain\n", "iconv -f latin1 -t utf-8"),
        ("fra_Latn", "windows-1252", "Café – x\nnaïve\nüber\n", "iconv -f windows-1252"),
        ("rus_Cyrl", "windows-1251", "Привет\nмир\nвсё\n", "iconv -f windows-1251"),
        ("zho_Hans", "gb18030", "北京\n上海\n广州\n", "iconv -f gb18030"),
        ("eng_Latn", "utf-16le", "Hello world, you there\n", "iconv -f utf-16le"),
        ("eng_Latn", "utf-16be", "Hello world, you there\n", "iconv -f utf-16be"),
        ("eng_Latn", "utf-16", "Nora went\nto Oslo\n", r"is UTF-16; convert it, as with iconv -f utf-16 -t"),
    ],
)
def test_another_encoding_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, lang: str, encoding: str, text: str, named: str
) -> None:
    for format in ("text", "conll", None):
        with pytest.raises(InputError, match=named):
            _one(tmp_path, "a.txt", text.encode(encoding), lang=lang, format=format)
    assert _one(tmp_path, "b.txt", text, lang=lang).format == "text"
    assert _one(tmp_path, "b.txt", text.encode() + b"caf\xe9\n", lang=lang).format == "text"  # one bad row


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"PK\x03\x04" + b"x" * 40 + b"xl/workbook.xml", "workbook of Excel; save its sheet as CSV"),
        (b"PK\x03\x04" + b"x" * 40 + b"word/document.xml", "document of Word; save it as plain text"),
        (b"PK\x03\x04" + b"x" * 40, "zip archive; unpack it"),
        (pickle.dumps([{"text": "Nora left", "spans": []}]), "pickled Python objects.*JSON lines"),
        (b"%PDF-1.7\n1 0 obj", "is a PDF"),
        (b"BZh91AY&SY" + b"\0" * 40, "compressed with bzip2; unpack it"),
        (gzip.compress(CONLL.encode(), mtime=0), "compressed with gzip; let its name end in .gz"),
        (b"PAR1" + b"\0" * 40, "is Parquet; set input.format: parquet"),
        (b"a.conll" + b"\0" * 250 + b"ustar", "tar archive; unpack it"),
    ],
    ids=["xlsx", "docx", "zip", "pickle", "pdf", "bz2", "gz", "parquet", "tar"],
)
@pytest.mark.parametrize("name", ["a.bin", "a.conll", "a.csv"])
def test_what_is_no_text_is_named_with_the_way_out(tmp_path: Path, head: bytes, match: str, name: str) -> None:
    with pytest.raises(InputError, match=match):
        _one(tmp_path, name, head)


def test_names_of_labels_beside_data_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('{"tokens": ["Nora"], "tags": ["B-PER"]}\n' * 3)
    for name in ("label.json", "id2label.json", "labels.json"):
        (tmp_path / name).write_text('{"O": 0}')
    (file,) = _find(tmp_path)
    assert (file.name, file.format) == ("train.json", "jsonl")
    assert file.said[0] == "left out, as its name is that of notes: id2label.json, label.json, labels.json"


def test_brat_is_told_by_its_pairs(tmp_path: Path) -> None:
    for name in ("a.txt", "a.ann", "b.txt", "b.ann", "c.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "annotation.conf").write_text("[entities]\n")
    found = _find(tmp_path)
    assert [(file.name, file.format) for file in found] == [("a.ann", "brat"), ("b.ann", "brat")]
    assert found[0].said == ("1 texts without a file .ann are left out",)
    for path in ("a.ann", "a.txt", "[a]*", "*.txt"):
        assert _find(tmp_path / path)[0].path == str(tmp_path / "a.ann")
    assert [file.format for file in _find(tmp_path / "c.txt")] == ["text"]
    assert [file.format for file in _find(tmp_path / "a.txt", format="text")] == ["text"]
    with pytest.raises(InputError, match="no document of brat"):
        _find(tmp_path / "c.txt", format="brat")
    before = contents(found)
    (tmp_path / "b.txt").write_text("other")  # the text is part of the input too
    assert contents(found) != before
    with pytest.raises(InputError, match="has another size or time"):
        unchanged(found[1])
    (tmp_path / "b.txt").unlink()
    with pytest.raises(InputError, match=r"b\.ann: has no text: .*b\.txt is missing"):
        _find(tmp_path)
