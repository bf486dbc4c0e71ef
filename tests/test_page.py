"""report.html: what it says, that text stays text, that it stays small, and how it behaves in a real browser."""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from browser import PROGRAM, Browser

from xner_ray import evaluation, page
from xner_ray import report as reporting
from xner_ray.page import charts, pace, sentences
from xner_ray.schema import row_schema, table_from_rows
from xner_ray.write import count

LABELS = ["LOC", "PER", "<b>|x"]
EVIL = [
    "<script>window.hurt=1</script>",
    "</script><img/src=x/onerror=window.hurt=1>",
    "</style><svg/onload=window.hurt=1>",
    '"onmouseover="window.hurt=1',
    "'><a/href='javascript:window.hurt=1'>",
    "<!--",
    "]]>{{7*7}}{%raw%}",
    "&lt;b&gt;&amp;",
    "abc\u202edef\u2066",
    "x\u2028y\u0007",
]


def _row(number: int, lang: str = "spa_Latn", **cells: Any) -> dict[str, Any]:
    """Two words on either side, the first one a person, projected with score 0.9."""
    row = {
        "row": number,
        "id": f"s{number}",
        "split": "train",
        "source_lang": "eng_Latn",
        "lang": lang,
        "source_text": "Ada came",
        "source_tokens": ["Ada", "came"],
        "source_offsets": [{"start": 0, "end": 3}, {"start": 4, "end": 8}],
        "source_spans": [{"start": 0, "end": 1, "label": "PER", "score": 1.0}],
        "text": "vino Ada",
        "tokens": ["vino", "Ada"],
        "offsets": [{"start": 0, "end": 4}, {"start": 5, "end": 8}],
        "links": [
            {"source": 0, "target": 1, "forward": 0.9, "backward": 0.9, "cosine": 0.9, "methods": 1},
            {"source": 1, "target": 0, "forward": 0.1, "backward": 0.7, "cosine": 0.9, "methods": 1},
            {"source": 1, "target": 1, "forward": 0.1, "backward": 0.1, "cosine": 0.1, "methods": 0},
        ],
        "flags": [],
        "spans": [{"start": 1, "end": 2, "label": "PER", "score": 0.9, "source": 0}],
        "unprojected": [],
        "complete": True,
        "objective": 0.9,
        "optimal": True,
        "solver": "independent",
        "status": "ok",
    }
    return {**row, **cells}


def _rejected(number: int, lang: str = "spa_Latn", **cells: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("source_tokens", "source_offsets", "source_spans", "tokens", "offsets", "links", "spans"))
    given = {"status": "rejected", "reason": "malformed", "detail": "no tab", "complete": None, "unprojected": None}
    return _row(number, lang, **{**nothing, "text": None, **given, **cells})


def _lost(number: int, **cells: Any) -> dict[str, Any]:
    return _row(
        number, **{"spans": [], "unprojected": [{"source": 0, "reason": "low_score"}], "complete": False, **cells}
    )


def _tables(rows: Sequence[dict[str, Any]], size: int = 7) -> list[pa.Table]:
    schema = row_schema()
    return [table_from_rows(rows[at : at + size], schema) for at in range(0, len(rows), size)]


def _page(tables: Sequence[pa.Table], languages: Sequence[str] = (), **about: Any) -> str:
    found = sorted({*languages, *(lang for table in tables for lang in table.column("lang").to_pylist())})
    sample = page.Sample(found)

    def seen() -> Iterator[pa.Table]:
        for table in tables:
            table = table.select(page.COLUMNS)
            sample.add(table)
            yield table

    evaluations = evaluation.evaluate(seen(), samples=50)
    stages = {"align": {"rows": 1, "seconds": 2.0, "tokens": 9, "model_seconds": 1.0, "rejects": {}}}
    parts = [
        (lang, {**count(table.filter([x == lang for x in table.column("lang").to_pylist()])), "stages": stages})
        for table in tables
        for lang in sorted(set(table.column("lang").to_pylist()))
    ]
    index = {"labels_dropped": {"<i>DATE": 3}, "repaired": 0}
    report = reporting.summarize(parts, index=index, labels=LABELS, seconds=1.0)
    given = {"name": "run<1>", "facts": [("direction", "train")], "sealed": True, "units_done": 2, "units": 2}
    given |= {"rows_looked_at": sample.rows, "units_looked_at": 2, **about}
    drivers = page.drivers([(100.0, {"a": 110.0, "b": 130.0}), (500.0, {"c": 520.0})], {"a": 10, "b": 10, "c": 40})
    return page.render(page.About(**given), report, evaluations, sample, drivers).decode()


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


def _hostile() -> list[dict[str, Any]]:
    rows = []
    for number, evil in enumerate(EVIL):
        lost = [{"source": 0, "reason": "overlap"}] if number % 2 else []
        spans = [] if lost else [{"start": 0, "end": 1, "label": "<b>|x", "score": 0.5, "source": 0}]
        cells = {"source_text": evil, "source_tokens": [evil], "source_offsets": [{"start": 0, "end": len(evil)}]}
        cells |= {
            "text": evil,
            "tokens": [evil],
            "offsets": [{"start": 0, "end": len(evil)}],
            "id": evil,
            "split": evil,
        }
        cells |= {"source_spans": [{"start": 0, "end": 1, "label": "<b>|x", "score": 0.4}], "spans": spans}
        cells |= {"unprojected": lost, "flags": [evil], "gold_spans": [{"start": 0, "end": 1, "label": "PER"}]}
        cells |= {"links": [{"source": 0, "target": 0, "forward": 1.0, "backward": 1.0, "cosine": 1.0, "methods": 1}]}
        rows.append(_row(number, complete=not lost, **cells))
    return [*rows, *(_rejected(20 + n, detail=evil, source_text=evil, id=evil) for n, evil in enumerate(EVIL))]


def test_text_of_the_input_stays_text() -> None:
    html = _page(_tables(_hostile()))
    read = _Read(html)
    assert {tag for tag, _ in read.elements}.isdisjoint({"img", "a", "b1", "i", "iframe", "object", "link", "base"})
    assert [tag for tag, _ in read.elements].count("script") == 1
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert not {"src", "href", "style", "action"} & {name for _, attributes in read.elements for name in attributes}
    text = "".join(read.text)
    for evil in EVIL:
        assert sentences.visible(evil) in text
    assert not sentences._INVISIBLE.search(html.replace("\n", ""))
    assert "run<1>" in text and "<i>DATE" in text and "{{7*7}}" in text


def test_the_policy_allows_this_script_and_style_alone() -> None:
    html = _page(_tables([_row(0)]))
    policy = next(a["content"] or "" for tag, a in _Read(html).elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        inside = html.split(f"<{kind}>", 1)[1].split(f"</{kind}>", 1)[0]
        assert f"{kind}-src '{page._hash(inside)}'" in policy
    assert "http://" not in html and "https://" not in html


def test_it_says_what_was_counted() -> None:
    gold = [{"start": 0, "end": 1, "label": "LOC"}]
    rows = [_row(0, gold_spans=[{"start": 1, "end": 2, "label": "PER"}]), _lost(1, gold_spans=gold), _rejected(2)]
    text = " ".join("".join(_Read(_page(_tables(rows))).text).split())
    for fact in ("3 sentences read", "2 emitted", "1 rejected", "2 source entities", "1 projected", "66.7 F1"):
        assert fact in text
    for fact in ("low_score", "malformed", "50.00 %", "33.33 %", "60 rows in 0:00:50, 1.2 rows/s", "2 drivers"):
        assert fact in text
    assert "no place: low_score" in text and "in gold, not projected" in text and "rejected: malformed: no tab" in text
    assert text.index("no place: low_score") < text.index("rejected: malformed: no tab") < text.index("Ada 0.90")


def test_the_worst_come_first_and_no_order_of_tables_matters() -> None:
    rows = [_row(n, spans=[{"start": 1, "end": 2, "label": "PER", "score": n / 40, "source": 0}]) for n in range(40)]
    rows[7] = _lost(7)
    rows[9] = _rejected(9)
    twice = [{"source": 0, "reason": "overlap"}, {"source": 1, "reason": "overlap"}]
    rows[11] = _lost(11, unprojected=twice)
    languages = ["spa_Latn"]
    found = []
    for size in (1, 7, 40):
        sample = page.Sample(languages, size=12)
        for table in reversed(_tables(rows, size)):
            sample.add(table.select(page.COLUMNS))
        found.append([row["row"] for row in sample.chosen()])
    assert found[0] == found[1] == found[2]
    assert found[0][:6] == [11, 7, 9, 0, 1, 2]
    assert len(found[0]) == 12
    assert len({*found[0]} - {0, 1, 2, 3, 7, 9, 11}) >= 5, "the rest is drawn, not the worst"


def test_languages_share_the_sample() -> None:
    rows = [_row(n) for n in range(100)] + [_row(n, "deu_Latn") for n in range(3)]
    sample = page.Sample(["deu_Latn", "spa_Latn", "fra_Latn"], size=30)
    for table in _tables(rows, 50):
        sample.add(table.select(page.COLUMNS))
    langs = [row["lang"] for row in sample.chosen()]
    assert (langs.count("deu_Latn"), langs.count("spa_Latn")) == (3, 10)


def test_units_are_drawn_from_all_languages() -> None:
    class Unit:
        def __init__(self, name: str, lang: str) -> None:
            self.name, self.lang, self.n_rows = name, lang, 100

    units = [Unit(f"{lang}-{n}", lang) for lang in ("a", "b", "c") for n in range(1 if lang == "c" else 500)]
    drawn = page.draw(units, 1000)
    assert [len([unit for unit in drawn if unit.lang == lang]) for lang in "abc"] == [5, 4, 1]
    assert page.draw(units[::-1], 1000) == drawn
    assert len(page.draw(units, 1)) == 3, "one of each language at least"
    assert page.draw([], 10) == []


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
    return _row(number, lang, **sides, spans=projected, gold_spans=[], flags=["f" * 200] * 50)


def test_it_stays_small_whatever_the_rows_hold() -> None:
    table = table_from_rows([_large(n, "spa_Latn") for n in range(4)], row_schema()).select(page.COLUMNS)
    sample = page.Sample(["spa_Latn"])
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
    report = {**counts, "languages": {"spa_Latn": counts}, "stages": {}, "repaired_tags": 0}
    report |= {"labels": {"kept": [f"L{n}" for n in range(2000)], "dropped": {f"D{n}": n for n in range(2000)}}}
    html = page.render(page.About("run", [], True, 100, 100, 400, 100), report, None, sample, [])
    assert 2_000_000 < len(html) < 3_000_000
    assert re.search(r"[1-9]\d* more were left out to keep the page small", html.decode())
    assert "more words are not shown here" in html.decode()


@pytest.mark.parametrize(
    "rows",
    [[], [_rejected(n) for n in range(3)], [_row(0, source_spans=[], spans=[], links=None)]],
    ids=["no row", "all rejected", "no entity"],
)
def test_a_run_with_little_in_it(rows: list[dict[str, Any]]) -> None:
    html = _page(_tables(rows), ["spa_Latn"])
    assert "</html>" in html
    assert ("There is no sentence to show" in html) == (not rows)


def test_other_shapes_of_rows() -> None:
    bridged = {
        "bridge_tokens": ["Ada", "vino"],
        "bridge_spans": [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": 0}],
    }
    found = [{"start": 0, "end": 1, "label": "PER", "score": None, "source": None}]
    bare = {"source_text": None, "source_tokens": None, "source_offsets": None, "source_spans": None, "links": None}
    html = _page(_tables([_row(0, **bridged), _row(1, **bare, spans=found), _row(2, text=None, offsets=None)]))
    assert 'data-side="bridge"' in html
    assert html.count('data-side="source"') == 2 and html.count('data-side="target"') == 3


def test_words_stand_as_they_were_written() -> None:
    row = _row(0, "jpn_Jpan", text="東京へ行く", tokens=["東京", "へ", "行く"])
    row |= {"offsets": [{"start": 0, "end": 2}, {"start": 2, "end": 3}, {"start": 3, "end": 5}]}
    view = sentences.view(table_from_rows([row], row_schema()).to_pylist()[0], LABELS)
    source, target = view.sides
    assert "".join(word.gap + word.text for piece in target.pieces for word in piece.words) == "東京へ行く"
    assert (target.tag, target.direction, source.tag) == ("ja-Jpan", "ltr", "en-Latn")
    assert [word.links for piece in source.pieces for word in piece.words] == ["1", "0"]
    assert [word.links for piece in target.pieces for word in piece.words] == ["1", "0", ""]


def test_columns_of_charts_hold_every_value() -> None:
    for counts, unit in (
        ({1: 5, 2: 3, 900: 1}, 1.0),
        ({n: n + 1 for n in range(-100, 101) if n > -90}, 0.01),
        ({7: 2}, 1),
    ):
        counts = {value: abs(n) for value, n in counts.items()}
        chart = charts.histogram(counts, title="t", x_title="x", what="things", unit=unit)
        assert chart is not None
        told = [int(column.text.split(": ")[1].split(" ")[0].replace(",", "")) for column in chart.columns]
        assert sum(told) == sum(counts.values())
        assert all(chart.left <= c.x and c.x + c.width <= chart.right + 0.5 for c in chart.columns)
        assert all(chart.top - 0.01 <= c.y and 0 <= c.height <= chart.bottom - chart.top + 0.01 for c in chart.columns)
        assert len(told) <= 40
    assert charts.histogram({}, title="t", x_title="x", what="things") is None


def test_throughput_counts_every_row_once() -> None:
    units = {f"u{n}": 100 for n in range(90)}
    first = {f"u{n}": 1000.0 + 20 + n for n in range(60)}
    second = {f"u{n}": 99_000.0 + n for n in range(60, 90)}
    chart = pace.throughput(page.drivers([(1000.0, first), (98_000.0, {}), (99_000.0, second)], units))
    assert chart is not None
    assert "9,000 rows" in chart.summary and "2 drivers" in chart.summary
    assert len(chart.columns) <= 40 and [text for _, text in chart.marks] == ["driver 2"]
    assert pace.throughput([]) is None


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_can_be_read_in_both_schemes() -> None:
    """Contrast by WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    css = (Path(page.__file__).parent / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part)) for part in css.split("@media", 2)[:2])
    assert light.keys() == dark.keys() and len(light) == 25
    for colours in (light, dark):
        grounds = ["paper", "card"]
        pairs = [(ink, ground, 4.5) for ink in ("ink", "quiet", "bad") for ground in grounds]
        pairs += [("ink", f"b{n}", 4.5) for n in range(sentences.COLOURS)] + [("hot-ink", "hot", 4.5)]
        pairs += [(name, ground, 3) for name in ("fill", *(f"e{n}" for n in range(8))) for ground in grounds]
        for one, two, least in pairs:
            low, high = sorted(_luminance(colours[name]) for name in (one, two))
            assert (high + 0.05) / (low + 0.05) >= least, (one, two)


needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="needs chromium (Debian: apt-get install chromium)")

ARABIC = ["وصلت", "آدا", "لوفلايس", "إلى", "New", "York", "."]


def _many() -> list[dict[str, Any]]:
    rows = [_row(n) for n in range(30)] + [_lost(30 + n) for n in range(3)]
    arabic = {
        "text": "وصلت آدا لوفلايس إلى New York.",
        "tokens": ARABIC,
        "offsets": None,
        "spans": [
            {"start": 1, "end": 3, "label": "PER", "score": 0.4, "source": 0},
            {"start": 4, "end": 6, "label": "LOC", "score": 0.5, "source": None},
        ],
    }
    return [*rows, *(_row(40 + n, "arb_Arab", **arabic) for n in range(4)), *_hostile()]


@needs_chromium
def test_in_a_browser(tmp_path: Path) -> None:
    """One browser for all: text stays text, right-to-left is, filters and pages work, nothing sticks out."""
    path = tmp_path / "report.html"
    path.write_text(_page(_tables(_many())), encoding="utf-8")
    try:
        started = Browser(tmp_path / "profile")
    except AssertionError as error:  # a sandbox that forbids what Chromium needs is no fault of the page
        pytest.skip(f"Chromium does not start here: {error}")
    with started as browser:
        for width in (390, 1280):
            for dark in (False, True):
                browser.open(path, width=width, dark=dark)
                assert browser.messages == [] and browser.requests == []
                assert browser.value("window.hurt") is None
                assert browser.value("document.documentElement.scrollWidth") == width
                paper = browser.value("getComputedStyle(document.body).backgroundColor")
                assert (paper == "rgb(255, 255, 255)") != dark

        shown = "[...document.querySelectorAll('article')].filter(a => a.checkVisibility())"
        total = browser.value("document.querySelectorAll('article').length")
        assert browser.value(f"{shown}.length") == 20
        assert f"1 to 20 of {total} sentences" in browser.value("document.getElementById('found').textContent")
        browser.click("#next")
        assert browser.value(f"{shown}.length") == 20
        assert browser.value("document.getElementById('page').textContent") == f"page 2 of {-(-total // 20)}"

        def choose(name: str, value: str) -> None:
            box = f"document.getElementById('{name}')"
            browser.value(f"{box}.value = '{value}', {box}.dispatchEvent(new Event('change'))")

        choose("lang", "arb_Arab")
        assert browser.value(f"{shown}.map(a => a.dataset.lang)") == ["arb_Arab"] * 4
        side = f"{shown}[0].querySelector('[data-side=target] p')"
        assert browser.value(f"getComputedStyle({side}).direction") == "rtl"
        assert browser.value(f"{side}.lang") == "ar-Arab"
        left = browser.value(f"[...{side}.querySelectorAll('span')].map(s => s.getBoundingClientRect().left)")
        assert left[0] > left[1] > left[2] > left[3] > left[4], "words of Arabic go to the left"
        assert left[4] < left[5], "and those of English in it to the right"
        choose("label", "1")
        choose("kind", "clean")
        assert browser.value(f"{shown}.length") == 4
        choose("kind", "rejected")
        assert browser.value(f"{shown}.length") == 0
        choose("lang", "")
        choose("label", "")
        assert browser.value(f"{shown}.length") == len(EVIL)
        choose("kind", "lost")
        choose("order", "input")
        rows = browser.value(f"{shown}.map(a => Number(a.dataset.row))")
        assert rows == sorted(rows) and {30, 31, 32} < set(rows)

        choose("kind", "clean")
        browser.click("article:not([hidden]) [data-side=source] p span[data-t]")
        hot = browser.value(
            "[...document.querySelectorAll('.hot')].map(w => w.closest('.side').dataset.side + w.textContent)"
        )
        assert hot == ["sourceAda", "targetAda"]
        browser.open(path, script=False)
        assert browser.messages == [] and browser.requests == []
        assert browser.value(f"{shown}.length") == total, "all is there without JavaScript"
        assert browser.value("document.getElementById('filters').checkVisibility()") is False


@needs_chromium
def test_a_script_of_another_hand_does_not_run(tmp_path: Path) -> None:
    """The second wall: were text ever to become markup, the page's policy would stop it."""
    path = tmp_path / "report.html"
    html = _page(_tables([_row(0)])).replace("<main>", "<main><script>window.hurt=1</script><img src=x onerror=hurt=1>")
    path.write_text(html, encoding="utf-8")
    with Browser(tmp_path / "profile") as browser:
        browser.open(path)
        assert browser.value("window.hurt") is None
        assert len([text for text in browser.messages if "Content Security Policy" in text]) >= 2
