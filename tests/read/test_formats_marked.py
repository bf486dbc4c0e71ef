"""brat, WebAnno TSV 3, marks inside text, and numbered lines -> records."""

from dataclasses import replace
from pathlib import Path

import pytest
from format_files import file_of
from hypothesis import given, settings
from hypothesis import strategies as st
from settled import read, settled

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Settled
from xner_ray.read.record import File, Record, Stated
from xner_ray.read.records import read_records
from xner_ray.recipe.columns import Columns

# brat


def _brat(tmp_path: Path, text: str, *lines: str, **options) -> Record:
    (tmp_path / "d.txt").write_bytes(text.encode())
    file = file_of(tmp_path, "\n".join(lines), "brat", "d.ann", **options)
    (record,) = read(file)
    return record


def test_brat_entities_are_spans_of_a_document_and_all_else_is_left_out(tmp_path: Path) -> None:
    record = _brat(
        tmp_path,
        "Nora Falk moved\nto New\nYork.\n",
        "T1\tPER 0 9\tNora Falk",
        "T2\tLOC 19 22;23 27\tNew York",
        "R1\tLives Arg1:T1 Arg2:T2\t",
        "E1\tMove:T1 Who:T1",
        "A1\tSure T1",
        "M2\tNegated T1",
        "N1\tReference T2 Wikipedia:60\tNew York",
        "#1\tAnnotatorNotes T1\ta note",
        "*\tEquiv T1 T2",
        "",
    )
    assert (record.id, record.reason) == ("d", None)
    assert record.chars == [(0, 9, "PER"), (19, 27, "LOC")]
    assert _brat(tmp_path, "Nora\n").chars == []


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ("T1\tPER 0 4;10 15\tNora moved", Reason.BAD_SPAN, "discontinuous"),
        ("T1\tPER 0 4\tFalk", Reason.BAD_SPAN, "line 1: the text at 0 4 is 'Nora', not 'Falk'"),
        ("T1\tPER 0 99\tNora", Reason.BAD_SPAN, "leaves the 16 characters"),
        ("T1\tPER 4 4\t", Reason.BAD_SPAN, "empty"),
        ("T1 PER 0 4 Nora", Reason.MALFORMED, "line 1 is no annotation of brat"),
    ],
)
def test_brat_damaged_annotations_reject_their_document(tmp_path: Path, line: str, reason: Reason, words: str) -> None:
    record = _brat(tmp_path, "Nora Falk moved.", line)
    assert record.reason == reason
    assert words in record.detail


@pytest.mark.parametrize(("unit", "start"), [("characters", 10), ("utf16", 12), ("bytes", 17)])
def test_brat_own_text_shows_what_offsets_count(tmp_path: Path, unit: str, start: int) -> None:
    text = "😀😀 Émile: Nora\r\nx"
    line = f"T1\tPER {start} {start + 4}\tNora"
    assert _brat(tmp_path, text, line).chars == [(10, 14, "PER")]
    said = settled(file_of(tmp_path, line, "brat", "d.ann")).said
    assert said == ([] if unit == "characters" else [f"offsets in {unit}"])
    other = "utf16" if unit == "characters" else "characters"
    assert _brat(tmp_path, text, line, stated=Stated(offsets=other)).reason == Reason.BAD_SPAN


def test_brat_offsets_may_leave_out_carriage_returns(tmp_path: Path) -> None:
    record = _brat(tmp_path, "a b\r\nc d\r\nNora\r\n", "T1\tPER 8 12\tNora")
    assert (record.text, record.chars) == ("a b\nc d\nNora\n", [(8, 12, "PER")])


def test_brat_says_that_long_documents_can_be_cut(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("Nora went. " * 150)
    said = settled(file_of(tmp_path, "", "brat", "d.ann")).said
    assert said == ["300 words, and a document is a row; input.split: sentences cuts them"]
    assert settled(file_of(tmp_path, "", "brat", "d.ann", sentences=True)).said == []


# WebAnno

HEAD = """#FORMAT=WebAnno TSV 3.3
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue|coarseValue
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value
#T_RL=webanno.custom.Relation|label|BT_de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity
#T_SP=webanno.custom.Mood|


"""
BODY = """#Text=Nora Falk 😀 of the University of Oslo.
1-1	0-4	Nora	NN	NOUN	*[1]	PER[1]	_	_	_	
1-2	5-9	Falk	NN	NOUN	*[1]	PER[1]	_	_	_	
1-3	10-12	😀	_	_	_	_	_	_	_	
1-4	13-15	of	_	_	_	_	_	_	_	
1-5	16-19	the	_	_	_	_	_	_	_	
1-6	20-30	University	_	_	*[2]	ORG\\_X[2]	_	_	_	
1-7	31-33	of	_	_	*[2]	ORG\\_X[2]	_	_	_	
1-8	34-38	Oslo	_	_	*[2]|http://a.b/q[3]	ORG\\_X[2]|LOC[3]	in	1-1[0_3]	_	
1-9	38-39	.	_	_	_	_	_	_	*	

#Sentence.id=7
#Text=😀Anna
#Text=#tag
2-1	40-46	😀Anna	_	_	_	_	_	_	_	
2-1.1	42-46	Anna	_	_	*	PER	_	_	_	
2-2	47-51	#tag	_	_	_	_	_	_	_	
"""


def _webanno(tmp_path: Path, content: str, **columns) -> list[Record]:
    return read(file_of(tmp_path, content, "webanno", columns=Columns(**columns)))


def test_webanno_entities_of_the_named_entity_layer(tmp_path: Path) -> None:
    first, second = _webanno(tmp_path, HEAD + BODY)
    assert first.text == "Nora Falk 😀 of the University of Oslo."
    assert first.tokens == ["Nora", "Falk", "😀", "of", "the", "University", "of", "Oslo", "."]
    assert first.spans == [Span(0, 2, "PER"), Span(5, 8, "ORG_X"), Span(7, 8, "LOC")]
    assert first.line == 9
    assert (second.text, second.tokens) == ("😀Anna\n#tag", ["😀Anna", "#tag"])
    assert second.chars == [(1, 5, "PER")]  # a part of a word, whose offsets count UTF-16
    said = settled(file_of(tmp_path, HEAD + BODY, "webanno")).said
    assert said == ["entities in the layer's feature NamedEntity.value"]


CUSTOM = """#FORMAT=WebAnno TSV 3.2
#T_SP=webanno.custom.Ent|kind
#T_SP=webanno.custom.Role|name|sure

#Text=Nora went
1-1	0-4	Nora	PER	Agent	yes	
1-2	5-9	went	_	_	_	
"""


def test_webanno_of_several_layers_the_recipe_chooses(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"\(Ent.kind, Role.name, Role.sure\); choose one, as with input.columns.tags: Ent.kind"
    ):
        _webanno(tmp_path, CUSTOM)
    for name in ("Ent", "kind", "Ent.kind", "webanno.custom.Ent", "4"):
        assert _webanno(tmp_path, CUSTOM, tags=name)[0].spans == [Span(0, 1, "PER")]
    assert _webanno(tmp_path, CUSTOM, tags="sure")[0].spans == [Span(0, 1, "yes")]
    with pytest.raises(InputError, match=r"tags: Name names no feature.*features: Ent.kind, Role.name, Role.sure"):
        _webanno(tmp_path, CUSTOM, tags="Name")
    with pytest.raises(InputError, match=r"tags: Role names several"):
        _webanno(tmp_path, CUSTOM, tags="Role")
    alone = CUSTOM.replace("Agent\tyes", "_\t_")
    assert _webanno(tmp_path, alone)[0].spans == [Span(0, 1, "PER")]
    nothing = CUSTOM.replace("PER\tAgent\tyes", "_\t_\t_")
    assert not _webanno(tmp_path, nothing)[0].labelled
    assert "no layer of entities; features: Ent.kind" in settled(file_of(tmp_path, nothing, "webanno")).said[0]


@pytest.mark.parametrize(
    ("old", "new", "reason", "words"),
    [
        (
            "1-2\t5-9\tFalk\tNN\tNOUN\t*[1]\tPER[1]",
            "1-2\t5-9\tFalk\tNN\tNOUN\t*[1]\tLOC[1]",
            Reason.MALFORMED,
            "line 10",
        ),
        ("\t*[2]\tORG\\_X[2]\t_\t_\t_\t\n1-8", "\t_\t_\t_\t_\t_\t\n1-8", Reason.BAD_SPAN, "discontinuous"),
        ("PER[1]\t_\t_\t_\t\n1-2", "*[1]\t_\t_\t_\t\n1-2", Reason.BAD_SPAN, "has no label"),
        ("1-4\t13-15", "1-4 13-15", Reason.MALFORMED, "line 12 is not number, offsets, word"),
        ("1-4\t13-15\tof\t_\t_\t_\t_\t_\t_\t_", "1-4\t13-15\tof\t_", Reason.MALFORMED, "no column 7"),
    ],
)
def test_webanno_damaged_lines_reject_their_sentence(
    tmp_path: Path, old: str, new: str, reason: Reason, words: str
) -> None:
    assert old in BODY
    first, second = _webanno(tmp_path, HEAD + BODY.replace(old, new))
    assert (first.reason, second.reason) == (reason, None)
    assert words in first.detail


def test_webanno_other_versions_are_refused(tmp_path: Path) -> None:
    for head in ("#FORMAT=WebAnno TSV 2.0\n\n", "1-1\t0-4\tNora\n"):
        with pytest.raises(InputError, match=r"must be #FORMAT=WebAnno TSV 3.x; export it as WebAnno TSV v3.x"):
            _webanno(tmp_path, head)


# Marks


def _inline(tmp_path: Path, *lines: str) -> list[Record]:
    return read(file_of(tmp_path, "\n".join(lines), "inline"))


@pytest.mark.parametrize(
    ("line", "text", "chars"),
    [
        ("[Nora Falk](PER) saw [Oslo](LOC:Norway).", "Nora Falk saw Oslo.", [(0, 9, "PER"), (14, 18, "LOC")]),
        ('to [Oslo]{"entity": "city", "value": "osl"}!', "to Oslo!", [(3, 7, "city")]),
        (
            "[University of [Oslo](LOC)](ORG) [sic] [a](https://b.c/d)",
            "University of Oslo [sic] [a](https://b.c/d)",
            [(14, 18, "LOC"), (0, 18, "ORG")],
        ),
        ("[PER Nora Falk] saw [1] [ORG U of [LOC Oslo]]", "Nora Falk saw [1] U of Oslo", None),
        (
            "<PER>Nora</PER> & <per-son>Ada</per-son> <b>x</b> a < b",
            "Nora & Ada x a < b",
            [(0, 4, "PER"), (7, 10, "per-son")],
        ),
        (
            '<ENAMEX TYPE="PERSON">Nora</ENAMEX> <e type=\'LOC\' id="1"> Oslo </e>',
            "Nora  Oslo ",
            [(0, 4, "PERSON"), (6, 10, "LOC")],
        ),
        ("{{PER:Nora}} {x} {{LOC: Oslo}}", "Nora {x} Oslo", [(0, 4, "PER"), (9, 13, "LOC")]),
        ("<PER>😀</PER>नोरा <LOC>北京</LOC>", "😀नोरा 北京", [(0, 1, "PER"), (6, 8, "LOC")]),
    ],
)
def test_nothing_of_the_marks_stays_in_the_text(
    tmp_path: Path, line: str, text: str, chars: list[tuple[int, int, str]] | None
) -> None:
    first, second = _inline(tmp_path, line, "", "nothing here")
    assert (first.text, first.reason, first.line, second.line) == (text, None, 1, 3)
    assert first.chars == (chars or [(0, 9, "PER"), (23, 27, "LOC"), (18, 27, "ORG")])
    assert (second.text, second.chars) == ("nothing here", [])


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("[Nora](PER)", "x [Nora(PER)", "column 3: '[' is not closed"),
        ("[Nora](PER)", "x [Nora](PER", "column 8: '](' has no label"),
        ("[Nora](PER)", "Nora](PER)", "column 5: '](PER)' closes nothing"),
        ("[PER Nora]", "a [PER Nora", "column 3: '[PER ' is not closed"),
        ("[PER Nora]", "PER Nora]", "column 9: ']' closes nothing"),
        ("<PER>Nora</PER>", "<PER>Nora</LOC>", "column 10: '</LOC>' does not close <PER>"),
        ("<PER>Nora</PER>", "<PER>Nora", "column 1: '<PER>' is not closed"),
        ("<PER>Nora</PER>", "Nora</PER>", "column 5: '</PER>' closes nothing"),
        ("<PER>Nora</PER>", "<PER>Nora</PER> [LOC Oslo]", "marks as [LABEL text] too"),
        ("{{PER:Nora}}", "{{PER:Nora", "column 1: '{{PER:' is not closed"),
    ],
)
def test_marks_without_their_counterpart_reject_the_row(tmp_path: Path, good: str, bad: str, words: str) -> None:
    records = _inline(tmp_path, *[good] * 20, bad)
    assert [r.reason for r in records] == [None] * 20 + [Reason.MALFORMED]
    assert words in records[-1].detail
    assert records[-1].text == bad


def test_files_without_marks_or_with_two_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no entity is marked; marks look like \[text\]\(LABEL\), \[LABEL text\]"):
        _inline(tmp_path, "Nora went.")
    with pytest.raises(InputError, match=r"2 lines .*<LABEL>text</LABEL>, and 1 as \[LABEL text\]; write them in one"):
        _inline(tmp_path, "<PER>a</PER>", "<PER>b</PER>", "[PER c]")


# Files of forty sentences

_SENTENCES = [  # text, words, entities over code points
    ("Nora Falk moved to Oslo.", "Nora Falk moved to Oslo .", [(0, 9, "PER"), (19, 23, "LOC")]),
    ("«Привет, Анна!»", "« Привет , Анна ! »", [(9, 13, "PER")]),
    ('😀😀 Ada O\'Neil said: "No."', '😀😀 Ada O\'Neil said : " No . "', [(3, 13, "PER")]),
    ("नोरा दिल्ली गई।", "नोरा दिल्ली गई ।", [(0, 4, "PER"), (5, 11, "LOC")]),
    ("زار الأمم المتحدة.", "زار الأمم المتحدة .", [(4, 17, "ORG")]),
    ("Nothing here & there.", "Nothing here & there .", []),
]


def _webanno_block(number: int, text: str, words: list[str], entities: list[tuple[int, int, str]]) -> str:
    lines, at = [f"#Text={text}"], 0
    for index, word in enumerate(words, start=1):
        at = text.index(word, at)
        start, end = at, at + len(word)
        inside = [
            f"{label}[{9 * number + which}]"
            for which, (first, last, label) in enumerate(entities, start=1)
            if first < end and start < last
        ]
        units = [1000 * number + len(text[:place].encode("utf-16-le")) // 2 for place in (start, end)]
        lines.append(f"{number}-{index}\t{units[0]}-{units[1]}\t{word}\t{'|'.join(inside) or '_'}\t")
        at = end
    return "\n".join(lines) + "\n"


def test_forty_sentences_of_each_format(tmp_path: Path) -> None:
    chosen = [(text, words.split(" "), spans) for text, words, spans in (_SENTENCES * 7)[:40]]
    marked = {"<L>x</L>": "<{1}>{0}</{1}>", "[x](L)": "[{0}]({1})", "[L x]": "[{1} {0}]", "{{L:x}}": "{{{{{1}:{0}}}}}"}
    for style in marked.values():
        lines = []
        for text, _, spans in chosen:
            for start, end, label in reversed(spans):
                text = text[:start] + style.format(text[start:end], label) + text[end:]
            lines.append(text)
        records = _inline(tmp_path, *lines)
        assert [(r.text, r.chars, r.reason) for r in records] == [(text, spans, None) for text, _, spans in chosen]
    head = "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|value\n\n\n"
    blocks = [_webanno_block(number, *sentence) for number, sentence in enumerate(chosen, start=1)]
    for ends in ("\n", "\r\n"):
        for (text, words, spans), record in zip(
            chosen, _webanno(tmp_path, (head + "\n".join(blocks)).replace("\n", ends)), strict=True
        ):
            assert (record.text, record.tokens, record.reason) == (text, words, None)
            assert record.spans is not None
            whole = [" ".join(words[span.start : span.end]) for span in record.spans]
            assert [part.replace(" ", "") for part in whole] == [text[a:b].replace(" ", "") for a, b, _ in spans]
            assert [span.label for span in record.spans] == [label for _, _, label in spans]
    for number, (text, _, spans) in enumerate(chosen):
        own = [f"T{n}\t{label} {start} {end}\t{text[start:end]}" for n, (start, end, label) in enumerate(spans)]
        record = _brat(tmp_path, text, *own)
        assert (record.text, record.chars, record.reason) == (text, spans, None), number


# Text


@pytest.mark.parametrize("first", [0, 1, 41])
def test_numbers_that_count_all_lines_are_no_text(tmp_path: Path, first: int) -> None:
    lines = ["Nora went.", "", "5\tx", "😀"]
    file = file_of(tmp_path, "".join(f"{first + n}\t{line}\n" for n, line in enumerate(lines)), "text")
    assert [record.text for record in read(file)] == lines
    assert settled(file).said == [f"a number from {first} on before every line, which is left out"]


@pytest.mark.parametrize("content", ["0\ta\n1\tb\n", "0\ta\n2\tb\n3\tc\n", "0\ta\n1\tb\nc\n", "1 a\n2 b\n3 c\n", "a\n"])
def test_other_numbers_are_text(tmp_path: Path, content: str) -> None:
    file = file_of(tmp_path, content, "text")
    assert [record.text for record in read(file)] == content.splitlines()
    assert settled(file).said == []


def test_text_that_is_not_utf8_says_how_to_convert_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 of the 4 lines that go beyond ASCII are not UTF-8; convert it, as with ic"):
        settled(file_of(tmp_path, "a\né\n".encode() + b"\xe9\n\xe8\n\xe7\n", "text"))
    record = read(file_of(tmp_path, "a\né\n".encode() + b"\xe9\n", "text"))[-1]
    assert (record.reason, "iconv -f latin1" in record.detail) == (Reason.BAD_UTF8, True)


# Pieces

_SENTENCE = BODY.split("\n\n")[0]


@settings(max_examples=40)
@given(data=st.data(), format=st.sampled_from(["text", "inline", "webanno"]))
def test_any_cut_gives_the_same_reading_and_records(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, format: str
) -> None:
    units = {
        "text": ["Nora", "", "é", "7\tx"],
        "inline": ["<PER>Nora</PER>", "[PER x]", "", "[a](LOC)", "<PER>é</PER> <ORG>x</ORG>"],
        "webanno": [_SENTENCE + "\n", _SENTENCE.replace("PER[1]", "_").replace("*[1]", "_") + "\n", "#Text=x\n"],
    }[format]
    drawn = data.draw(st.lists(st.sampled_from(units), min_size=1, max_size=20))
    if format == "text" and data.draw(st.booleans()):
        drawn = [f"{n}\t{line}" for n, line in enumerate(drawn, start=data.draw(st.integers(0, 2)))]
    content = (HEAD if format == "webanno" else "") + "\n".join(drawn)
    file = file_of(tmp_path_factory.mktemp("cut"), content, format)
    cuts = data.draw(st.lists(st.integers(1, max(1, len(content.encode()) - 1)), min_size=1, max_size=4))

    def outcome(cuts: list[int]) -> Settled | str:
        try:
            return settled(file, sorted(cuts))
        except InputError as error:
            return str(error)

    whole = outcome([])
    assert outcome(cuts) == whole
    if not isinstance(whole, str):
        pairs = list(read_records(_with(file, whole)))
        for number, (place, _) in enumerate(pairs):
            assert place is not None
            assert [r for _, r in read_records(_with(file, whole), place)] == [r for _, r in pairs[number:]]


def _with(file: File, whole: Settled) -> File:
    return replace(file, reading=whole.reading)
