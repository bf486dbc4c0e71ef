"""Kinds of files with a word a line, and tables: CoNLL in its many spellings, CSV, CoNLL-U, CoNLL-2012, WebAnno."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from kinds import LABELS, SENTENCES, Files, Kind, Sentence, Write, with_line

Row = Callable[[int, int, str, str], str]  # number of the sentence, of the word from 1, word, tag -> line


def _lines(
    row: Row,
    head: str = "",
    before: Callable[[int, Sentence], str] = lambda n, s: "",
    tags: Callable[[Sentence], list[str]] = lambda s: s.tags,
    name: str = "a.conll",
    gap: str = "\n",
) -> Write:
    def write(sentences: Sequence[Sentence]) -> Files:
        made = []
        for n, sentence in enumerate(sentences, start=1):
            words = zip(sentence.tokens, tags(sentence), strict=True)
            lines = [row(n, i, word, tag) for i, (word, tag) in enumerate(words, start=1)]
            made.append(before(n, sentence) + "\n".join(lines) + "\n")
        return {name: head + gap.join(made)}

    return write


def _coarse(tag: str) -> str:
    """Return another level of a tag: that of places alone, under another name."""
    return tag.replace("LOC", "GPE") if tag.endswith("LOC") else "O"


def _turned(tag: str) -> str:
    return "o" if tag == "O" else "-".join(tag.split("-")[::-1])


def _bmes(sentence: Sentence) -> list[str]:
    made = ["O"] * len(sentence.tokens)
    for start, end, label in sentence.spans:
        made[start:end] = [f"M-{label}"] * (end - start)
        made[end - 1], made[start] = f"E-{label}", f"B-{label}"
        if end - start == 1:
            made[start] = f"S-{label}"
    return made


def _io(sentence: Sentence) -> list[str]:
    return [tag[2:] or "O" if tag != "O" else "O" for tag in sentence.tags]


def _brackets(sentence: Sentence) -> list[str]:
    made = ["*"] * len(sentence.tokens)
    for start, end, label in sentence.spans:
        made[start] = f"({label}*" if end - start > 1 else f"({label})"
        if end - start > 1:
            made[end - 1] = "*)"
    return made


def _csv(rows: list[list[str]], name: str = "a.csv", delimiter: str = ",") -> Files:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", delimiter=delimiter).writerows(rows)
    return {name: out.getvalue()}


def _kaggle(sentences: Sequence[Sentence]) -> Files:
    rows = [["Sentence #", "Word", "POS", "Tag"]]
    for n, s in enumerate(sentences, start=1):
        pairs = enumerate(zip(s.tokens, s.tags, strict=True))
        rows += [["" if i else f"Sentence: {n}", word, "NN", tag] for i, (word, tag) in pairs]
    return _csv(rows)


def _tsv(sentences: Sequence[Sentence]) -> Files:
    rows = [["sentence_id", "token", "gold", "predicted"]]
    rows += [
        [str(n), word, tag, "O"] for n, s in enumerate(sentences) for word, tag in zip(s.tokens, s.tags, strict=True)
    ]
    return _csv(rows, "a.tsv", "\t")


def _tsv_twice(sentences: Sequence[Sentence]) -> Files:
    rows = [["sentence_id", "token", "gold", "predicted"]]
    for n, s in enumerate(sentences):
        rows += [[str(n), word, tag, _coarse(tag)] for word, tag in zip(s.tokens, s.tags, strict=True)]
    return _csv(rows, "a.tsv", "\t")


def _webanno(layers: int = 1) -> Write:
    def write(sentences: Sequence[Sentence]) -> Files:
        head = "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.tudarmstadt.ukp.dkpro.core.api.segmentation.type.Lemma|value\n"
        layer = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value\n"
        head += f"#T_SP={layer}" + "#T_SP=webanno.custom.Event|kind|kind2\n" * (layers - 1)
        if layers > 1:
            head = head.replace(
                "#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity", "#T_SP=webanno.custom.Name"
            )
        blocks, base, entity = [], 0, 0
        for n, s in enumerate(sentences, start=1):
            text, places = s.joined
            cells = [["_", "_"] for _ in s.tokens]
            for start, end, label in s.spans:
                entity += end - start > 1
                mark = f"[{entity}]" if end - start > 1 else ""
                for at in range(start, end):
                    cells[at] = [f"*{mark}", f"{label}{mark}"]
            lines = ["#Text=" + text.replace("\\", "\\\\")]
            for i, ((start, end), word, own) in enumerate(zip(places, s.tokens, cells, strict=True), start=1):
                a, b = (base + len(text[:at].encode("utf-16-le")) // 2 for at in (start, end))
                more = ["Go" if own[1] == "_" else "_", "_"] if layers > 1 else []
                lines.append("\t".join([f"{n}-{i}", f"{a}-{b}", word, word.lower(), *own, *more, ""]))
            base += len(text.encode("utf-16-le")) // 2 + 1
            blocks.append("\n".join(lines) + "\n")
        return {"a.tsv": head + "\n\n" + "\n".join(blocks)}

    return write


def _latin1(sentences: Sequence[Sentence]) -> Files:
    ((name, content),) = _kaggle(sentences).items()
    assert isinstance(content, str)
    return {name: content.encode("latin-1", "replace")}


def _narrow(word: str) -> str:
    """Return a word as Latin-1 can write it."""
    return word.encode("latin-1", "replace").decode("latin-1")


def _converted(message: str, files: Files) -> Files:
    """Convert as the message says: iconv -f latin1 -t utf-8."""
    assert "iconv -f latin1 -t utf-8" in message
    return {name: content.decode("latin-1") for name, content in files.items() if isinstance(content, bytes)}


def _without_other_languages(message: str, files: Files) -> Files:
    """Part the file by the prefixes of its words, as the message says."""
    assert "part it by them" in message
    ((name, content),) = files.items()
    assert isinstance(content, str)
    return {name: "\n\n".join(block for block in content.split("\n\n") if not block.startswith("de:"))}


_PLAIN: Row = lambda n, i, w, t: f"{w} {t}"  # noqa: E731
_TABS: Row = lambda n, i, w, t: f"{w}\t{t}"  # noqa: E731
_2003 = _lines(lambda n, i, w, t: f"{w} NN I-NP {t}", "-DOCSTART- -X- -X- O\n\n")
_NUMBERED = _lines(lambda n, i, w, t: f"{i - 1}\t{w}\t{t}")
_GERMEVAL = _lines(
    lambda n, i, w, t: f"{i}\t{w}\t{t}\t{_coarse(t)}", before=lambda n, s: f"#\thttp://a.b/{n}\t[2009-10-17]\n"
)
_HEADER = _lines(_TABS, "token\tner\n")
_HIPE = _lines(
    lambda n, i, w, t: f"{w}\t{t}\t{_coarse(t)}\t_\t_",
    "TOKEN\tNE-COARSE-LIT\tNE-COARSE-METO\tNEL-LIT\tMISC\n",
    name="a.tsv",
)
_2012 = _lines(
    lambda n, i, w, t: f"bc/cctv/00/cctv_0000   0   {i - 1}   {w}   NN   (TOP*)   -   -   -   Speaker#1   {t}   -",
    "#begin document (bc/cctv/00/cctv_0000); part 000\n",
    tags=_brackets,
)
_CONER = _lines(lambda n, i, w, t: f"{w} _ _ {t}", "\n", before=lambda n, s: f"# id {n:08x}-5f3c\tdomain=en\n")
_WIKIANN = _lines(lambda n, i, w, t: f"en:{w}\t{t}", name="train")
_U = _lines(
    lambda n, i, w, t: f"{i}\t{w}\t{w}\tX\t_\t_\t0\troot\t_\tNER={t}|SpaceAfter=Yes",
    before=lambda n, s: f"# sent_id = s{n}\n# text = {' '.join(s.tokens)}\n",
    name="a.conllu",
)
_ONE_BLOCK = _lines(_TABS, gap="")


def _conll2012(sentences: Sequence[Sentence]) -> Files:
    ((_, content),) = _2012(sentences).items()
    assert isinstance(content, str)
    return {"a.v4_gold_conll": content + "\n#end document\n"}


def _with_german(sentences: Sequence[Sentence]) -> Files:
    ((name, content),) = _WIKIANN(sentences).items()
    assert isinstance(content, str)
    return {name: content + "\nde:Bonn\tB-LOC\nde:.\tO\n" * 12}


def _blanks(sentences: Sequence[Sentence]) -> Files:
    ((name, content),) = _lines(_TABS, tags=lambda s: s.tags)(sentences).items()
    assert isinstance(content, str)
    content = content.replace("São\tB-LOC\nTomé\tI-LOC\n", "São\u00a0Tomé\tB-LOC\n")  # white space in a word
    return {name: content.replace("moved\tO\n", "moved\tO\n\u3000\tO\n \tO\n")}  # blanks as words


def _nested(sentences: Sequence[Sentence]) -> Files:
    return _lines(lambda n, i, w, t: f"{w}\t{t}\t{_coarse(t)}")(sentences)


WORDS: list[Kind] = [
    Kind(
        3,
        "CoNLL-2003",
        _2003,
        "a tag is misspelt",
        with_line(_2003, 4, lambda line: line.rpartition(" ")[0] + " I*PER"),
        "line",
    ),
    Kind(
        3,
        "CoNLL, words numbered (WikiNEuRal)",
        _NUMBERED,
        "a second column of entities",
        _lines(lambda n, i, w, t: f"{i - 1}\t{w}\t{t}\t{_coarse(t)}"),
    ),
    Kind(
        3,
        "CoNLL, nested levels (GermEval)",
        _GERMEVAL,
        "no key says which level is meant",
        keys={"columns": {"tokens": 2, "tags": 3}},
    ),
    Kind(
        3,
        "CoNLL, nested levels (FiNER)",
        _nested,
        "no key says which level is meant",
        keys={"columns": {"tokens": 1, "tags": 2}},
    ),
    Kind(
        3,
        "CoNLL with a header line",
        _HEADER,
        "the key names a column that is not there",
        _HEADER,
        "without",
        given={"columns": {"tags": "entity"}},
    ),
    Kind(
        3,
        "CoNLL-2012 (OntoNotes)",
        _conll2012,
        "the recipe calls it conll",
        _conll2012,
        given={"format": "conll"},
    ),
    Kind(4, "MultiCoNER", _CONER, "a line without its tag", with_line(_CONER, 4, lambda x: x.split(" ")[0]), "line"),
    Kind(
        4,
        "WikiANN, raw",
        _WIKIANN,
        "a second language in the file",
        _with_german,
        "file",
        mended=_without_other_languages,
    ),
    Kind(
        5,
        "IO: labels without prefix",
        _lines(_TABS, tags=_io),
        "the recipe states another scheme",
        _lines(_TABS, tags=_io),
        "without",
        given={"scheme": "iob2"},
    ),
    Kind(
        5,
        "BMES",
        _lines(_PLAIN, tags=_bmes),
        "the recipe states another scheme",
        _lines(_PLAIN, tags=_bmes),
        "without",
        given={"scheme": "iob2"},
    ),
    Kind(
        5,
        "B_PER",
        _lines(lambda n, i, w, t: f"{w} {t.replace('-', '_')}"),
        "a tag is misspelt",
        with_line(_lines(lambda n, i, w, t: f"{w} {t.replace('-', '_')}"), 1, lambda x: x.replace("B_", "B*")),
        "line",
    ),
    Kind(
        5,
        "PER-B, and o for O",
        _lines(lambda n, i, w, t: f"{w} {_turned(t)}"),
        "the recipe names the wrong column",
        _lines(lambda n, i, w, t: f"{w} {_turned(t)}"),
        "without",
        given={"columns": {"tokens": 1, "tags": 3}},
    ),
    Kind(
        6,
        "CoNLL with blanks as words",
        _blanks,
        "a line without its tag",
        with_line(_blanks, 2, lambda x: x.replace("\tI-PER", "").replace("\tO", "")),
        "line",
    ),
    Kind(
        7,
        "CSV, a word a row (Kaggle)",
        _kaggle,
        "Latin-1",
        _latin1,
        "file",
        mended=_converted,
        cured=[Sentence([_narrow(word) for word in s.tokens], s.spans) for s in SENTENCES],
    ),
    Kind(
        11,
        "CoNLL, tags as numbers",
        _lines(lambda n, i, w, t: f"{w}\t{LABELS.index(t)}"),
        "no key names the numbers",
        keys={"labels": {"names": LABELS}},
        names=LABELS,
    ),
    Kind(
        3,
        "HIPE, levels named in a header",
        _HIPE,
        "the recipe names a level that is not there",
        _HIPE,
        "without",
        given={"columns": {"tags": "NE-FINE"}},
    ),
    Kind(7, "TSV, a word a row", _tsv, "a second column of tags", _tsv_twice),
    Kind(
        9,
        "CoNLL-U, NER= in MISC",
        _U,
        "two keys hold tags",
        _lines(
            lambda n, i, w, t: f"{i}\t{w}\t{w}\tX\t_\t_\t0\troot\t_\tNER={t}|name={_coarse(t)}",
            before=lambda n, s: f"# sent_id = s{n}\n",
            name="a.conllu",
        ),
    ),
    Kind(13, "WebAnno TSV 3 (INCEpTION)", _webanno(), "another layer of spans", _webanno(2)),
    Kind(14, "CoNLL without blank lines", _ONE_BLOCK, "no key says how to cut", keys={"split": "sentences"}),
]
