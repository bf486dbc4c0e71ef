"""spaCy's DocBin -> records, as spaCy itself reads it."""

import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from format_files import file_of
from object_files import entities, read, settled

from xner_ray.errors import InputError
from xner_ray.read.formats.spacy import string_id
from xner_ray.read.record import File, Place
from xner_ray.read.records import read_raws

SENTENCES = [
    ("Nora Falk went to Oslo .", [(0, 2, "PERSON"), (4, 5, "GPE")]),
    ("😀 Жанна в Києві .", [(1, 2, "PER"), (3, 4, "LOC")]),
    ("ORG is a case of LAW , det .", [(0, 1, "X")]),
    ("nobody here", []),
    ("العاصمة القاهرة", [(1, 2, "LOC")]),
]


def _file(folder: Path, sentences=SENTENCES, *, ents: bool = True, name: str = "a.spacy") -> File:
    import spacy
    from spacy.tokens import Doc, DocBin, Span

    nlp = spacy.blank("xx")
    found = DocBin(store_user_data=True)
    for text, spans in sentences:
        doc = Doc(nlp.vocab, words=text.split(), spaces=[True] * (len(text.split()) - 1) + [False])
        marked = [Span(doc, *span) for span in spans]
        if ents:
            doc.ents = marked
        else:
            doc.spans["sc"] = marked
        found.add(doc)
    found.to_disk(folder / name)
    return File(str(folder / name), name, "spacy", "eng_Latn")


def test_documents_are_those_of_spacy(tmp_path: Path) -> None:
    file = _file(tmp_path, SENTENCES * 8)
    records, said = read(file)
    assert said == []
    for record, (text, spans) in zip(records, SENTENCES * 8, strict=True):
        assert (record.text, record.tokens, record.line > 0) == (text, text.split(), True)
        assert [(one.start, one.end, one.label) for one in record.spans or ()] == spans
    assert [raw.line for raw in read_raws(file, Place(38, 38))] == [39, 40]


def test_strings_have_the_numbers_of_spacy() -> None:
    from spacy.strings import StringStore
    from spacy.symbols import IDS

    store = StringStore()
    words = ["", "a", "Straße", "12345678", "123456789", "😀 a longer one", "PERSON", "case", "\n", *IDS]
    for word in words:
        if not word.startswith(("FLAG", "DEPRECATED")):
            assert string_id(word) == store.add(word), word


def test_documents_without_entities_are_unlabelled_and_span_groups_are_said(tmp_path: Path) -> None:
    file = _file(tmp_path, ents=False)
    records, said = read(file)
    assert not any(record.labelled for record in records)
    assert said == ["5 documents have span groups (doc.spans), which are not read; entities are (doc.ents)"]
    assert "no entities (doc.ents)" in settled(file).unlabelled


@pytest.mark.parametrize("cut", [lambda data: data[:99], lambda data: b"{}", lambda data: zlib.compress(b"x")])
def test_what_is_no_docbin_is_refused(tmp_path: Path, cut) -> None:
    data = Path(_file(tmp_path).path).read_bytes()
    with pytest.raises(InputError, match=r"b\.spacy: is no DocBin of spaCy.*DocBin\.to_disk"):
        read(file_of(tmp_path, cut(data), "spacy", "b.spacy"))


def test_reading_it_imports_no_spacy(tmp_path: Path) -> None:
    file = _file(tmp_path)
    code = f"""if True:
        import sys
        from xner_ray.read.record import File
        from xner_ray.read.records import read_records
        assert len(list(read_records(File({file.path!r}, "a", "spacy", "eng_Latn")))) == 5
        assert "spacy" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_entities_helper(tmp_path: Path) -> None:
    assert entities(read(_file(tmp_path))[0][0]) == [("Nora Falk", "PERSON"), ("Oslo", "GPE")]
