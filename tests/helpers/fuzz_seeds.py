"""Small files in the shapes of real corpora, some of every format of text: what fuzzing damages."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from xner_ray.data.spans import Span, spans_to_tags
from xner_ray.data.words import locate

LABELS = ("PER", "LOC", "ORG")
NAMES = ["O", *(f"{prefix}-{label}" for label in LABELS for prefix in "BI")]
_POOL = (
    "Nora Falk went to Oslo . the University of New York , « Привет Анна в Москве ! 北京 的 张伟 😀 👨‍👩‍👧 "
    "العاصمة القاهرة क्षि दिल्ली में ዶ/ር አበበ lọ́ jọ kejì L'Union d'Anna Ana-Marija 's 1,000 5.000 (x) [y] O "
    "B-PER - -- \" '' _ * # NaN null Straße İzmir ภาษาไทย tiếng e\u0301t\u00e9"
)
_WORDS = _POOL.split()


@dataclass(frozen=True)
class Sentence:
    tokens: list[str]
    spans: list[Span]

    @property
    def text(self) -> str:
        return " ".join(self.tokens)

    @property
    def tags(self) -> list[str]:
        return spans_to_tags(self.spans, len(self.tokens))

    @property
    def chars(self) -> list[tuple[int, int, str]]:
        places = locate(self.tokens, self.text) or []
        return [(places[one.start][0], places[one.end - 1][1], one.label) for one in self.spans]


@dataclass(frozen=True)
class Seed:
    """A file, or a folder of files, and what a recipe must say of it. One of the contents is given.

    lines: of text, with their ends. values: an object each. table: rows as Arrow. packed: what MessagePack holds.
    """

    name: str
    lines: list[str] | None = None
    values: list[Any] | None = None
    table: pa.Table | None = None
    packed: dict[str, Any] | None = None
    beside: dict[str, bytes] = field(default_factory=dict)  # further files, by their names
    options: dict[str, Any] = field(default_factory=dict)


def sentences(rng: random.Random, count: int) -> list[Sentence]:
    """Make sentences of 1 to 12 words in many scripts, with entities that do not overlap."""
    made = []
    for _ in range(count):
        tokens = [rng.choice(_WORDS) for _ in range(rng.randint(1, 12))]
        spans, at = [], 0
        while at < len(tokens):
            size = rng.choice((0, 0, 0, 1, 2, 3))
            if size and at + size <= len(tokens):
                spans.append(Span(at, at + size, rng.choice(LABELS)))
            at += max(1, size)
        made.append(Sentence(tokens, spans))
    return made


# a word a line


def _lines(blocks: Iterator[list[str]], head: Sequence[str] = ()) -> list[str]:
    return [*(f"{line}\n" for line in head), *(f"{line}\n" for block in blocks for line in (*block, ""))]


def _tagged(form: Callable[[int, str, str], str], head: Sequence[str] = (), before: str = "") -> Any:
    """Return a maker of blocks. form: number, word, tag -> line. before: a comment with the sentence's number."""

    def make(found: list[Sentence], rng: random.Random) -> Seed:
        def blocks() -> Iterator[list[str]]:
            for number, one in enumerate(found):
                lines = [
                    form(at, word, tag) for at, (word, tag) in enumerate(zip(one.tokens, one.tags, strict=True), 1)
                ]
                yield [*([before.format(number)] if before else []), *lines]

        return Seed("a.conll", _lines(blocks(), head))

    return make


def _bioes(made: Seed, inside: str = "I", single: str = "S") -> Seed:
    lines = made.lines or []
    after = [*lines[1:], ""]
    out = []
    for line, later in zip(lines, after, strict=True):
        goes_on = "\tI-" in later
        if "\tB-" in line and not goes_on:
            line = line.replace("\tB-", f"\t{single}-")
        elif "\tI-" in line:
            line = line.replace("\tI-", f"\t{inside}-" if goes_on else "\tE-")
        out.append(line)
    return Seed(made.name, out)


def _plain(at: int, word: str, tag: str) -> str:
    return f"{word}\t{tag}"


def _conll(found: list[Sentence], rng: random.Random) -> Seed:
    return rng.choice(CONLL)(found, rng)


def _unbroken(found: list[Sentence], rng: random.Random) -> Seed:
    lines = [f"{word}\t{tag}\n" for one in found for word, tag in zip(one.tokens, one.tags, strict=True)]
    return Seed("a.conll", lines, options={"split": "sentences"})


def _numbered_tags(found: list[Sentence], rng: random.Random) -> Seed:
    made = _tagged(lambda at, word, tag: f"{word} {NAMES.index(tag)}")(found, rng)
    return Seed("a.conll", made.lines, options={"labels": {"names": NAMES}})


CONLL = [
    _tagged(_plain),
    _tagged(lambda at, word, tag: f"{word} {tag}", ["-DOCSTART- O", ""], "# id = s{0}"),
    _tagged(lambda at, word, tag: f"{word} NNP I-NP {tag}", ["-DOCSTART- -X- -X- O", ""]),
    _tagged(lambda at, word, tag: f"{at} {word} NNP _ {tag}"),
    _tagged(lambda at, word, tag: f"{at}\t{word}\t{tag}\tO", before="#\thttp://a.b/{0}\t[2009-10-17]"),
    _tagged(lambda at, word, tag: f"{word} _ _ {tag}", before="# id 5f3c-{0}\tdomain=en"),
    _tagged(lambda at, word, tag: f"en:{word}\t{tag}"),
    _tagged(lambda at, word, tag: f"{word}\t{tag[2:] or 'O'}"),
    _tagged(lambda at, word, tag: f"{word}\t{tag.replace('-', '_')}"),
    _tagged(lambda at, word, tag: f"{word}\t{'-'.join(tag.split('-')[::-1])}"),
    _tagged(lambda at, word, tag: f"{word}\t{tag.replace('B-', 'I-')}"),
    _tagged(lambda at, word, tag: f"{word}\tNN\t{tag}", ["TOKEN\tPOS\tNER"]),
    _tagged(
        lambda at, word, tag: f"{word}\t{tag}\tO\t_\t_\t_\tNoSpaceAfter",
        ["TOKEN\tNE-COARSE-LIT\tNE-FINE-LIT\tNE-NESTED\tNEL-LIT\tNEL-METO\tMISC", "# language = en"],
    ),
    lambda found, rng: _bioes(_tagged(_plain)(found, rng)),
    lambda found, rng: _bioes(_tagged(_plain)(found, rng), "M"),
    _unbroken,
    _numbered_tags,
]


def _uner(found: list[Sentence], rng: random.Random) -> Seed:
    made = _tagged(lambda at, word, tag: f"{at}\t{word}\t{tag}\t-\tname", before="# sent_id = s{0}\n# text = x")
    return Seed("a.iob2", [f"{line}\n" for line in "".join(made(found, rng).lines or []).split("\n")])


def _conllu(found: list[Sentence], rng: random.Random) -> Seed:
    key, tail = rng.choice((("NER", "|SpaceAfter=No"), ("name", ""), ("ner", "")))
    lines = []
    for number, one in enumerate(found):
        lines += ["# newdoc id = d1"] * (number % 7 == 0) + [f"# sent_id = s{number}", f"# text = {one.text}"]
        for at, (word, tag) in enumerate(zip(one.tokens, one.tags, strict=True), 1):
            lines += [f"{at}-{at + 1}\tx\t_\t_\t_\t_\t_\t_\t_\t_"] * (at % 5 == 0)
            lines.append(f"{at}\t{word}\t{word}\tNOUN\tNN\t_\t0\troot\t_\t{key}={tag}{tail}")
        lines.append("")
    return Seed("a.conllu", [f"{line}\n" for line in lines])


def _conll2012(found: list[Sentence], rng: random.Random) -> Seed:
    lines = []
    for number, one in enumerate(found):
        if number % 10 == 0:
            lines += ["#end document"] * (number > 0) + [f"#begin document (bc/x_{number // 20}); part 00{number % 2}"]
        opens = {span.start: f"({span.label}" for span in one.spans}
        closes = {span.end - 1 for span in one.spans}
        for at, word in enumerate(one.tokens):
            mark = opens.get(at, "") + ("*" if at not in opens or at not in closes else "") + ")" * (at in closes)
            lines.append(f"bc/x   0   {at}   {word.replace('#', 'no')}   NN   *   -   -   -   Sp#1   {mark}   -")
        lines.append("")
    return Seed("a.v4_gold_conll", [f"{line}\n" for line in [*lines, "#end document"]])


def _webanno(found: list[Sentence], rng: random.Random) -> Seed:
    layer = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
    lines = ["#FORMAT=WebAnno TSV 3.3", f"#T_SP={layer}|identifier|value", "#T_SP=webanno.custom.Mood|", "", ""]
    start = mark = 0
    for number, one in enumerate(found, 1):
        lines.append(f"#Text={one.text}")
        owner = {}
        for span in one.spans:
            mark += 1
            owner |= dict.fromkeys(range(span.start, span.end), f"*[{mark}]\t{span.label}[{mark}]")
        for at, word in enumerate(one.tokens):
            size = len(word.encode("utf-16-le")) // 2
            cells = owner.get(at, "_\t_")
            lines.append(f"{number}-{at + 1}\t{start}-{start + size}\t{word}\t{cells}\t_\t")
            start += size + 1
        lines.append("")
    return Seed("a.tsv", [f"{line}\n" for line in lines])


def _brat(found: list[Sentence], rng: random.Random) -> Seed:
    text, lines = "", []
    for one in found[:12]:
        for start, end, label in one.chars:
            place = f"{label} {len(text) + start} {len(text) + end}"
            lines.append(f"T{len(lines) + 1}\t{place}\t{one.text[start:end]}\n")
        text += one.text + "\n"
    lines += ["R1\tLives Arg1:T1 Arg2:T2\t\n", "A1\tSure T1\n", "#1\tAnnotatorNotes T1\ta note\n", "*\tEquiv T1 T2\n"]
    options = {"split": "sentences"} if rng.random() < 0.5 else {}
    return Seed("a.ann", lines, beside={"a.txt": text.encode()}, options=options)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\n') else cell


def _table(found: list[Sentence], rng: random.Random) -> Seed:
    kind = rng.randrange(4)
    if kind == 0:
        lines = ["Sentence #,Word,POS,Tag"]
        for number, one in enumerate(found, 1):
            for at, (word, tag) in enumerate(zip(one.tokens, one.tags, strict=True)):
                lines.append(f"{'' if at else f'Sentence: {number}'},{_quoted(word)},NN,{tag}")
    elif kind == 1:
        lines = ["sentence_id\ttoken\tner_tag"]
        for number, one in enumerate(found, 1):
            lines += [f"{number}\t{word}\t{tag}" for word, tag in zip(one.tokens, one.tags, strict=True)]
        lines = [line.replace('"', "x") for line in lines]
    elif kind == 2:
        lines = ["id,tokens,ner_tags"]
        lines += [f"{at},{_quoted(str(one.tokens))},{_quoted(str(one.tags))}" for at, one in enumerate(found)]
    else:
        lines = ["text,entities"]
        for one in found:
            spans = [{"start": start, "end": end, "label": label} for start, end, label in one.chars]
            lines.append(f"{_quoted(one.text)},{_quoted(json.dumps(spans))}")
    return Seed("a.tsv" if kind == 1 else "a.csv", [f"{line}\n" for line in lines])


_MARKS = ("[{0}]({1})", "[{1} {0}]", "<{1}>{0}</{1}>", '<ENAMEX TYPE="{1}">{0}</ENAMEX>', "{{{{{1}:{0}}}}}")


def _inline(found: list[Sentence], rng: random.Random) -> Seed:
    mark, lines = rng.choice(_MARKS), []
    for one in found:
        text = one.text
        for start, end, label in reversed(one.chars):
            text = text[:start] + mark.format(text[start:end], label) + text[end:]
        lines.append(text.replace("[y]", "y") + "\n")
    return Seed("a.txt", lines)


def _text(found: list[Sentence], rng: random.Random) -> Seed:
    numbered = rng.random() < 0.3
    options = {"split": "sentences"} if rng.random() < 0.4 else {}
    lines = [f"{at}\t{one.text}\n" if numbered else f"{one.text}\n" for at, one in enumerate(found)]
    return Seed("a.txt", lines, options=options)


def _links(found: list[Sentence], rng: random.Random) -> Seed:
    """Links beside a fixed text and its translation; the number of their lines must stay."""
    lines = [" ".join(f"{at}-{rng.randrange(len(one.tokens))}" for at in range(len(one.tokens))) for one in found]
    text = "".join(f"{one.text}\n" for one in found).encode()
    source = _tagged(_plain)(found, rng).lines or []
    beside = {"s.conll": "".join(source).encode(), "t.txt": text}
    return Seed("a.links", [f"{line}\n" for line in lines], beside=beside)


TEXTS: dict[str, Callable[[list[Sentence], random.Random], Seed]] = {
    "conll": _conll,
    "uner": _uner,
    "conllu": _conllu,
    "conll2012": _conll2012,
    "table": _table,
    "text": _text,
    "inline": _inline,
    "webanno": _webanno,
    "brat": _brat,
    "links": _links,
}
"""By format: makes a seed of sentences."""
