"""Charts of report.html, and its colours."""

import re
from pathlib import Path

from xner_ray.report import page
from xner_ray.report.page import charts, sentences


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
