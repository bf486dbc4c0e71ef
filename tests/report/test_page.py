"""report.html: what it says, that text stays text, which sentences it shows, and that it stays small."""

import re
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest
from made_rows import table_from_rows
from page_rows import EVIL, LABELS, hostile_rows, lost_row, page_of, rejected_row, row_of, tables_of

from xner_ray.data.row import row_schema
from xner_ray.evaluate.scores import evaluate
from xner_ray.read.index.units import Unit
from xner_ray.report import page
from xner_ray.report.page import sampling, sentences
from xner_ray.report.tables import scores_table
from xner_ray.run.counters import summarize


class _Read(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text.append(data)


def test_text_of_the_input_stays_text() -> None:
    html = page_of(tables_of(hostile_rows()))
    read = _Read(html)
    assert {tag for tag, _ in read.elements}.isdisjoint({"img", "b1", "i", "iframe", "object", "link", "base"})
    assert [tag for tag, _ in read.elements].count("script") == 1
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert not {"src", "style", "action"} & {name for _, attributes in read.elements for name in attributes}
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len({*ids})
    links = [attributes["href"] or "" for _, attributes in read.elements if "href" in attributes]
    assert {link[0] for link in links} == {"#"} and {link[1:] for link in links} <= {*ids}, "they stay on the page"
    text = "".join(read.text)
    for evil in EVIL:
        assert sentences.visible(evil) in text
    assert not sentences._INVISIBLE.search(html.replace("\n", ""))
    assert "run<1>" in text and "<i>DATE" in text and "{{7*7}}" in text


def test_the_policy_allows_this_script_and_style_alone() -> None:
    html = page_of(tables_of([row_of(0)]))
    policy = next(a["content"] or "" for tag, a in _Read(html).elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        inside = html.split(f"<{kind}>", 1)[1].split(f"</{kind}>", 1)[0]
        assert f"{kind}-src '{page._hash(inside)}'" in policy
    assert "http://" not in html and "https://" not in html


def test_it_says_what_was_counted() -> None:
    gold = [{"start": 0, "end": 1, "label": "LOC"}]
    rows = [
        row_of(0, gold_spans=[{"start": 1, "end": 2, "label": "PER"}]),
        lost_row(1, gold_spans=gold),
        rejected_row(2),
    ]
    given = tables_of(rows)
    html = page_of(given)
    text = " ".join("".join(_Read(html).text).split())
    for fact in ("3 sentences read", "2 emitted", "1 rejected", "2 source entities", "1 projected", "66.7 F1"):
        assert fact in text
    for fact in (
        "low_score",
        "malformed",
        "50.00 %",
        "33.33 %",
        "60 rows in 0:00:50, model loading",
        "2 drivers",
    ):
        assert fact in text
    assert "missing: low_score" in text and "in gold, not projected" in text and "rejected: malformed: no tab" in text
    assert text.index("missing: low_score") < text.index("rejected: malformed: no tab") < text.index("Ada 0.90")
    scores = scores_table(evaluate(given, samples=50))
    told = re.findall(r"<bdi>([^<]*)</bdi>", html[html.index('id="scores"') : html.index('id="losses"')])
    assert told == [cell for line in scores.rows for cell in line.cells], "as on the terminal"


def test_the_worst_come_first_and_no_order_of_tables_matters() -> None:
    rows = [row_of(n, spans=[{"start": 1, "end": 2, "label": "PER", "score": n / 40, "source": 0}]) for n in range(40)]
    rows[7] = lost_row(7)
    rows[9] = rejected_row(9)
    twice = [{"source": 0, "reason": "overlap"}, {"source": 1, "reason": "overlap"}]
    rows[11] = lost_row(11, unprojected=twice)
    languages = ["spa_Latn"]
    found = []
    for size in (1, 7, 40):
        sample = sampling.Sample(languages, size=12)
        for table in reversed(tables_of(rows, size)):
            sample.add(table.select(sampling.COLUMNS))
        found.append([row["row"] for row in sample.chosen()])
    assert found[0] == found[1] == found[2]
    assert found[0][:6] == [11, 7, 9, 0, 1, 2]
    assert len(found[0]) == 12
    assert len({*found[0]} - {0, 1, 2, 3, 7, 9, 11}) >= 5, "the rest is drawn, not the worst"


def test_languages_share_the_sample() -> None:
    rows = [row_of(n) for n in range(100)] + [row_of(n, "deu_Latn") for n in range(3)]
    sample = sampling.Sample(["deu_Latn", "spa_Latn", "fra_Latn"], size=30)
    for table in tables_of(rows, 50):
        sample.add(table.select(sampling.COLUMNS))
    langs = [row["lang"] for row in sample.chosen()]
    assert (langs.count("deu_Latn"), langs.count("spa_Latn")) == (3, 10)


def test_units_are_drawn_from_all_languages() -> None:
    units = [
        Unit(f"{lang}-{n}", lang, "train", 0, 100, None, (), (), (), 0)
        for lang in ("a", "b", "c")
        for n in range(1 if lang == "c" else 500)
    ]
    drawn = sampling.draw(units, 1000)
    assert [len([unit for unit in drawn if unit.lang == lang]) for lang in "abc"] == [5, 4, 1]
    assert sampling.draw(units[::-1], 1000) == drawn
    assert len(sampling.draw(units, 1)) == 3, "one of each language at least"
    assert sampling.draw([], 10) == []


def _large(number: int, lang: str) -> dict[str, Any]:
    """More than a page may show of a row: 300 long words, every second one an entity, links everywhere."""
    words = [chr(0x1F600 + (number + n) % 60) * (5 if n % 3 else 300) for n in range(300)]
    text = " ".join(words)
    at, offsets = 0, []
    for word in words:
        offsets.append({"start": at, "end": at + len(word)})
        at += len(word) + 1
    spans = [{"start": n, "end": n + 1, "label": "PER", "score": 0.5} for n in range(0, 300, 2)]
    links = [
        {"source": n, "target": m % 300, "forward": 0.4, "backward": 0.4, "cosine": 0.5, "methods": 1}
        for n in range(300)
        for m in range(n, n + 3)
    ]
    sides = {"source_text": text, "source_tokens": words, "source_offsets": offsets, "source_spans": spans}
    sides |= {"text": text, "tokens": words, "offsets": offsets, "links": links, "id": "i" * 1000}
    projected = [{**span, "source": n} for n, span in enumerate(spans)]
    return row_of(number, lang, **sides, spans=projected, gold_spans=[], flags=["f" * 200] * 50)


def test_it_stays_small_whatever_the_rows_hold() -> None:
    table = table_from_rows([_large(n, "spa_Latn") for n in range(4)], row_schema()).select(sampling.COLUMNS)
    sample = sampling.Sample(["spa_Latn"])
    for n in range(100):
        numbers = pa.array(range(4 * n, 4 * n + 4), pa.int64())
        sample.add(table.set_column(0, table.schema.field(0), numbers))
    counts = {
        "rows": {"read": 1, "emitted": 1, "rejected": 0},
        "rejects": {},
        "entities": {"source": 1, "projected": 1, "unprojected": {}, "in_rejected_rows": 0},
        "projected_by_label": {f"L{n}": n for n in range(2000)},
        "incomplete_rows": 0,
    }
    labels, dropped = [f"L{n}" for n in range(2000)], {f"D{n}": n for n in range(2000)}
    limits = {"seconds": 1.0, "max_reject_rate": 1.0}
    report = summarize([("spa_Latn", counts)], labels=labels, dropped=dropped, repaired_tags=0, **limits)
    html = page.render(page.About("run", [], True, 100, 100, 400, 100), report, None, sample, [])
    assert 2_000_000 < len(html) < 3_000_000
    assert re.search(r"[1-9]\d* more were left out to keep the page small", html.decode())
    assert "more words are not shown here" in html.decode()


@pytest.mark.parametrize(
    "rows",
    [[], [rejected_row(n) for n in range(3)], [row_of(0, source_spans=[], spans=[], links=None)]],
    ids=["no row", "all rejected", "no entity"],
)
def test_a_run_with_little_in_it(rows: list[dict[str, Any]]) -> None:
    html = page_of(tables_of(rows), ["spa_Latn"])
    assert "</html>" in html
    assert ("There is no sentence to show" in html) == (not rows)


def test_other_shapes_of_rows() -> None:
    bridged = {
        "bridge_tokens": ["Ada", "vino"],
        "bridge_spans": [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": 0}],
    }
    found = [{"start": 0, "end": 1, "label": "PER", "score": None, "source": None}]
    bare = {"source_text": None, "source_tokens": None, "source_offsets": None, "source_spans": None, "links": None}
    html = page_of(
        tables_of([row_of(0, **bridged), row_of(1, **bare, spans=found), row_of(2, text=None, offsets=None)])
    )
    assert 'data-side="bridge"' in html
    assert html.count('data-side="source"') == 2 and html.count('data-side="target"') == 3


def test_words_stand_as_they_were_written() -> None:
    row = row_of(0, "jpn_Jpan", text="東京へ行く", tokens=["東京", "へ", "行く"])
    row |= {"offsets": [{"start": 0, "end": 2}, {"start": 2, "end": 3}, {"start": 3, "end": 5}]}
    view = sentences.view(table_from_rows([row], row_schema()).to_pylist()[0], LABELS)
    source, target = view.sides
    assert "".join(word.gap + word.text for piece in target.pieces for word in piece.words) == "東京へ行く"
    assert (target.tag, target.direction, source.tag) == ("ja-Jpan", "ltr", "en-Latn")
    assert [word.links for piece in source.pieces for word in piece.words] == ["1", "0"]
    assert [word.links for piece in target.pieces for word in piece.words] == ["1", "0", ""]
