"""Reading can start again at every place of a file."""

import json
from pathlib import Path

import pytest
from format_files import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.data.spans import Span, spans_to_tags
from xner_ray.read.records import read_records

_WORD = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6)


@st.composite
def _sentences(draw: st.DrawFn) -> list[tuple[list[str], list[Span]]]:
    result = []
    for tokens in draw(st.lists(st.lists(_WORD, min_size=1, max_size=6), min_size=1, max_size=8)):
        if tokens[0].startswith(("#", "-DOCSTART-")):
            tokens[0] = "x"
        spans, at = [], 0
        while at < len(tokens):
            if draw(st.booleans()):
                end = draw(st.integers(at + 1, len(tokens)))
                spans.append(Span(at, end, draw(st.sampled_from(["PER", "LOC"]))))
                at = end
            else:
                at += 1
        result.append((tokens, spans))
    return result


@settings(max_examples=60)
@given(sentences=_sentences(), gap=st.sampled_from(["\n", "\n\n", " \t\n\r\n"]), end=st.sampled_from(["\n", "\r\n"]))
def test_conll_round_trip_from_every_place(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[tuple[list[str], list[Span]]], gap: str, end: str
) -> None:
    blocks = []
    for tokens, spans in sentences:
        tags = spans_to_tags(spans, len(tokens))
        blocks.append("".join(f"{token}\t{tag}{end}" for token, tag in zip(tokens, tags, strict=True)))
    file = file_of(tmp_path_factory.mktemp("round"), "-DOCSTART-\n\n" + gap.join(blocks), "conll")
    pairs = list(read_records(file))
    assert [(r.tokens, r.spans) for _, r in pairs] == sentences
    for number, (place, _) in enumerate(pairs):
        assert place is not None
        assert [r for _, r in read_records(file, place)] == [r for _, r in pairs[number:]]


@settings(max_examples=60)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=6))
def test_jsonl_round_trip_from_every_place(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    content = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    file = file_of(tmp_path_factory.mktemp("round"), content, "jsonl")
    pairs = list(read_records(file))
    assert [r.text for _, r in pairs] == texts
    for number, (place, _) in enumerate(pairs):
        assert place is not None
        assert [r for _, r in read_records(file, place)] == [r for _, r in pairs[number:]]


def test_blocks_do_not_depend_on_where_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n \na O\nb O\n\n \n\t\nc O\r\n\r\n-DOCSTART-\n\nd O\n \n"
    whole = list(read_records(file_of(tmp_path, content, "conll")))
    lines = list(read_records(file_of(tmp_path, content, "text", "b.txt")))
    for size in range(3, 20):
        monkeypatch.setattr("xner_ray.read.formats.lines._CHUNK_BYTES", size)
        assert list(read_records(file_of(tmp_path, content, "conll"))) == whole
        assert list(read_records(file_of(tmp_path, content, "text", "b.txt"))) == lines
