"""Charts of report.html, and its colours."""

import re

from page_rows import page_of, row_of, tables_of

from xner_ray.report.colours import EDGES, HUES, look
from xner_ray.report.page import charts
from xner_ray.report.page.templates import environment


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
    chart = charts.throughput(charts.drivers([(1000.0, first), (98_000.0, {}), (99_000.0, second)], units), 2.5)
    assert chart is not None
    assert "9,000 rows" in chart.summary and "2 drivers" in chart.summary
    assert len(chart.columns) <= 40 and [text for _, text in chart.marks] == ["driver 2"]
    assert charts.throughput([], None) is None


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_can_be_read_in_both_schemes() -> None:
    """Contrast by WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    css = environment().get_template("page.css").render()
    light, dark = (dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part)) for part in css.split("@media", 2)[:2])
    hues = range(len(HUES))
    assert light.keys() == dark.keys() and {f"{kind}{n}" for kind in "be" for n in hues} < light.keys()
    for colours in (light, dark):
        grounds = ["paper", "card"]
        pairs = [(ink, ground, 4.5) for ink in ("ink", "quiet", "bad", "fill") for ground in grounds]
        pairs += [("ink", f"b{n}", 4.5) for n in hues] + [("hot-ink", "hot", 4.5)]
        pairs += [(name, ground, 3) for name in ("focus", *(f"e{n}" for n in hues)) for ground in grounds]
        pairs += [(f"e{n}", f"b{n}", 3) for n in hues]
        for one, two, least in pairs:
            low, high = sorted(_luminance(colours[name]) for name in (one, two))
            assert (high + 0.05) / (low + 0.05) >= least, (one, two)


def test_a_single_column_is_a_number() -> None:
    """A chart of one box says no more than the number that it stands for."""
    one = charts.histogram({7: 2}, title="t", x_title="words", what="entities")
    assert one is not None and one.only == "words 7"
    several = charts.histogram({7: 2, 9: 1}, title="t", x_title="words", what="entities")
    assert several is not None and several.only == ""
    units = {"a": 30, "b": 30}
    rate = charts.throughput(charts.drivers([(100.0, {"a": 110.0, "b": 130.0})], units), None)
    assert rate is not None and rate.only == "2.0" and "2 units are too few" in rate.summary


def test_a_label_has_its_colour_whatever_other_labels_there_are() -> None:
    def looks(*labels: str) -> dict[str, str]:
        spans = [{"start": n, "end": n + 1, "label": label, "score": 1.0} for n, label in enumerate(labels)]
        html = page_of(tables_of([row_of(0, source_spans=spans, source_tokens=list(labels))]))
        return dict(re.findall(r'<small class="badge ([^"]*)"><bdi>([^<]*)</bdi>', html))

    def colours(*labels: str) -> dict[str, str]:
        return {label: classes for classes, label in looks(*labels).items()}

    few, more = colours("PER", "GENE"), colours("CELL", "DATE", "GENE", "LOC", "ORG", "PER", "VIRUS")
    assert few["PER"] == more["PER"] and few["GENE"] == more["GENE"]


def test_labels_of_one_tag_set_look_different() -> None:
    ontonotes = (
        "CARDINAL DATE EVENT FAC GPE LANGUAGE LAW LOC MONEY NORP ORDINAL ORG PERCENT PERSON PRODUCT QUANTITY TIME "
        "WORK_OF_ART"
    )
    for names in (
        ["PER", "LOC", "ORG", "MISC", "DATE"],
        ontonotes.split(),
        ["PER", "LOC", "CORP", "GRP", "PROD", "CW"],
    ):
        assert len({look(name) for name in names}) == len(names)
    assert look("PER") == look("person") and look("creative-work") == look("WORK_OF_ART")
    first = {look(name) for name in ("PER", "LOC", "ORG", "MISC", "DATE")}
    others = {look(f"label {n}") for n in range(500)}
    assert not first & others and len(others) == len(HUES) * len(EDGES) - len(first), "all others are in use"
