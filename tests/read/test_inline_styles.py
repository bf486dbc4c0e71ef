"""Marks inside text as Rasa, OpenNLP, Stanford's tagger and XML write them, and lines that are no sentences."""

from collections.abc import Callable
from pathlib import Path

import pytest
from format_files import file_of
from object_files import entities
from settled import read, settled

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.find import find_files
from xner_ray.read.record import Record, Stated
from xner_ray.recipe.columns import Columns

NAMES = ["Nora Falk", "Жанна", "東京 大学", "O'Brien", "Łódź"]
LABELS = ["PER", "LOC", "ORG"]
Mark = Callable[[str, str], str]


def _lines(mark: Mark, count: int = 40) -> list[str]:
    return [f"To {mark(NAMES[n % 5], LABELS[n % 3])} , {n} - said {mark('Ann', 'PER')} 😀" for n in range(count)]


def _expected(count: int = 40) -> list[list[tuple[str, str]]]:
    return [[(NAMES[n % 5], LABELS[n % 3]), ("Ann", "PER")] for n in range(count)]


def _good(records: list[Record]) -> list[list[tuple[str, str]]]:
    return [entities(record) for record in records if record.reason is None]


def _format(folder: Path, content: str, name: str = "a.txt") -> str:
    (folder / name).write_text(content)
    (file,) = find_files(str(folder / name), format=None, lang="eng_Latn", side="source", columns=Columns())
    return file.format


RASA: list[Mark] = [
    lambda text, label: f"[{text}]({label})",
    lambda text, label: f"[{text}]({label}:some value)",
    lambda text, label: f'[{text}]{{"entity": "{label}", "role": "x"}}',
]


@pytest.mark.parametrize("mark", RASA)
def test_items_of_rasas_markdown_are_the_sentences(tmp_path: Path, mark: Mark) -> None:
    items = [f"- {line}" for line in _lines(mark)]
    parts = ["## intent:travel", *items[:20], "", "<!-- a note -->", "## intent: bye", *items[20:], "- bye then", ""]
    parts += ["## synonym:Oslo", "- the tiger city", "## lookup:city", "- Bergen", "## regex:zip", "- [0-9]{5}"]
    content = "\n".join(parts)
    assert _format(tmp_path, content, "nlu.md") == "inline"
    file = file_of(tmp_path, content, "inline", "nlu.md")
    records = read(file)
    assert _good(records) == [*_expected(), []]
    left = [record for record in records if record.reason is not None]
    assert {record.reason for record in left} == {Reason.LEFT_OUT}
    assert [record.text for record in left] == [part for part in parts if part and part not in [*items, "- bye then"]]
    assert settled(file).said[-1] == "items of lists are the sentences, and other lines are left out"
    assert settled(file, [100, 900]) == settled(file)


@pytest.mark.parametrize("mark", RASA)
def test_items_of_rasas_yaml_are_the_sentences(tmp_path: Path, mark: Mark) -> None:
    items = [f"    - {line}" for line in _lines(mark)]
    parts = ['version: "3.1"', "nlu:", "- intent: travel", "  examples: |", *items]
    parts += ["- synonym: Oslo", "  examples: |", "    - the tiger city", "- lookup: city", "  examples: |"]
    parts += ["    - Bergen", "- intent: bye", "  examples: |", "    - bye then"]
    file = file_of(tmp_path, "\n".join(parts), "inline", "nlu.yml")
    records = read(file)
    assert _good(records) == [*_expected(), []]
    assert {record.reason for record in records} == {None, Reason.LEFT_OUT}
    assert "an item of a synonym of Rasa" in next(r.detail for r in records if r.text == "    - the tiger city")


def test_lists_beside_lines_with_marks_are_text(tmp_path: Path) -> None:
    lines = [line if n % 2 else f"- {line}" for n, line in enumerate(_lines(RASA[0]))]
    records = read(file_of(tmp_path, "\n".join(lines), "inline"))
    assert _good(records) == _expected()
    assert records[0].text is not None
    assert records[0].text.startswith("- To")


@pytest.mark.parametrize("mark", ["/", "|"])
@pytest.mark.parametrize("bare", [False, True])
def test_words_with_their_tags(tmp_path: Path, mark: str, bare: bool) -> None:
    words = ["To", "Nora", "Falk", "and/or|x", "1/2", ",", "Łódź", "went", "home", "."]
    tags = ["O", "PER", "PER", "O", "O", "O", "LOC", "O", "O", "O"]
    tags = tags if bare else ["O", "B-PER", "I-PER", "O", "O", "O", "B-LOC", "O", "O", "O"]
    content = (" ".join(f"{word}{mark}{tag}" for word, tag in zip(words, tags, strict=True)) + "\n") * 40
    assert _format(tmp_path, content) == "inline"
    file = file_of(tmp_path, content, "inline")
    for record in read(file):
        assert (record.tokens, record.spans) == (words, [Span(1, 3, "PER"), Span(6, 7, "LOC")])
    said = [f"words with their tags as word{mark}TAG", *(["scheme IO"] if bare else [])]
    assert settled(file).said == settled(file, [200, 900]).said == said
    *_, bad = read(file_of(tmp_path, content + f"Ann{mark}O left", "inline"))
    assert (bad.reason, bad.detail) == (Reason.MALFORMED, f"'left' is no word with its tag, as word{mark}TAG")
    wrong = Stated(scheme="bmes" if bare else "io")
    with pytest.raises(InputError, match=f"input.scheme is {wrong.scheme}, but|no entity is marked"):
        settled(file_of(tmp_path, content, "inline", stated=wrong))


def test_words_with_parts_of_speech_are_text(tmp_path: Path) -> None:
    assert _format(tmp_path, "Nora/NNP went/VBD home/NN ./.\n" * 40) == "text"
    assert _format(tmp_path, "and/or\nhis/her\n" * 40) == "text"


def test_opennlp(tmp_path: Path) -> None:
    content = "\n".join(_lines(lambda text, label: f"<START:{label}> {text} <END>"))
    assert _format(tmp_path, content) == "inline"
    records = read(file_of(tmp_path, content, "inline"))
    assert _good(records) == _expected()
    assert records[0].text == "To Nora Falk , 0 - said Ann 😀"


def test_elements_around_the_sentences_of_xml_and_what_is_escaped(tmp_path: Path) -> None:
    lines = _lines(lambda text, label: f"<{label}>{text}</{label}>")
    escaped = [f"<s>AT&amp;T &lt;b&gt; {line} &#8364; 5</s>" for line in lines]
    content = "\n".join(['<?xml version="1.0"?>', "<doc>", *escaped, "</doc>"])
    file = file_of(tmp_path, content, "inline")
    records = read(file)
    assert _good(records) == _expected()
    assert records[2].text == "AT&T <b> To Nora Falk , 0 - said Ann 😀 € 5"
    assert [record.reason for record in records if record.reason] == [Reason.LEFT_OUT] * 3
    assert settled(file).said[-1] == "&amp; and the like are resolved"
