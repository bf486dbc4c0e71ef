"""Draw the pictures of README and docs from runs: docs/pair.svg, and report.html on both widths.

python tests/helpers/page_pictures.py runs/quickstart_nllb/data/swh_Latn tmpl-0014 runs/quickstart runs/photos
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from tests.helpers.browser import Browser
from xner_ray.report.colours import HUES, look

DOCS = Path(__file__).parents[2] / "docs"
_LETTER, _GAP, _HIGH, _LINE = 8.4, 14, 26, 150  # pixels: of a letter, between words, of a word's box, between the sides
_LEAST_LINK = 0.3


def pair(row: Mapping[str, Any]) -> str:
    """Return an SVG of a row: both sides, entities in colours, links as wide as they are likely."""
    top, bottom = _places(row["source_tokens"]), _places(row["tokens"])
    wide = max(top[-1][1], bottom[-1][1]) + 20
    parts = []
    inside = {word for span in row["spans"] for word in range(span["start"], span["end"])}
    for link in row["links"]:
        strength = _strength(link)
        if strength < _LEAST_LINK:
            continue
        (left, right), (low, high) = top[link["source"]], bottom[link["target"]]
        colour = "#57606a" if link["target"] in inside else "#c3c9d0"
        parts.append(
            f'<line x1="{(left + right) / 2:.0f}" y1="{30 + _HIGH}" x2="{(low + high) / 2:.0f}" y2="{30 + _LINE}" '
            f'stroke="{colour}" stroke-width="{0.5 + 2 * strength:.1f}"/>'
        )
    sides = (
        (top, row["source_tokens"], row["source_spans"], 30),
        (bottom, row["tokens"], row["spans"], 30 + _LINE),
    )
    for places, tokens, spans, y in sides:
        of = {word: span["label"] for span in spans for word in range(span["start"], span["end"])}
        for span in spans:
            left, right = places[span["start"]][0], places[span["end"] - 1][1]
            colour = HUES[look(span["label"]).hue].edge  # dark enough for white letters
            box = f'x="{left - 4:.0f}" y="{y}" width="{right - left + 8:.0f}" height="{_HIGH}" rx="5"'
            parts.append(f'<rect {box} fill="{colour}"/>')
            at = y - 6 if y == 30 else y + _HIGH + 15
            parts.append(f'<text x="{left:.0f}" y="{at}" font-size="11" fill="{colour}">{escape(span["label"])}</text>')
        for word, (token, (left, _)) in enumerate(zip(tokens, places, strict=True)):
            ink = "#ffffff" if word in of else "#1b1f24"
            parts.append(f'<text x="{left:.0f}" y="{y + 18}" fill="{ink}">{escape(token)}</text>')
    high = 30 + _LINE + _HIGH + 24
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high}" width="{wide:.0f}" height="{high}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _strength(link: Mapping[str, Any]) -> float:
    return float(min(link["forward"], link["backward"]))


def _places(tokens: Sequence[str]) -> list[tuple[float, float]]:
    """Return where each word begins and ends, in pixels."""
    found, at = [], 20.0
    for token in tokens:
        end = at + len(token) * _LETTER
        found.append((at, end))
        at = end + _GAP
    return found


def _small(pictures: Sequence[Path], path: Path, *, beside: bool) -> None:
    """Write pictures as one, beside each other or one below the other, with 256 colours: a quarter of the bytes."""
    opened = [Image.open(picture).convert("RGB") for picture in pictures]
    gap, wide, high = 16, *(max(sizes) for sizes in zip(*(picture.size for picture in opened), strict=True))
    between = gap * (len(opened) - 1)
    total = sum(picture.size[0 if beside else 1] for picture in opened) + between
    whole = Image.new("RGB", (total, high) if beside else (wide, total), "#8c959f")
    at = 0
    for picture in opened:
        whole.paste(picture, (at, 0) if beside else (0, at))
        at += picture.size[0 if beside else 1] + gap
    whole.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _page(browser: Browser, folder: Path, name: str, heights: tuple[int, int], search: str = "") -> None:
    """Write docs/NAME of a run's page: its head, and its sentences, of those heights; search: what is looked for."""
    width = browser.value("innerWidth")
    browser.value(
        f"document.getElementById('search').value = {search!r};"
        "document.getElementById('search').dispatchEvent(new Event('input'));"
    )
    top = browser.value("document.getElementById('sentences').getBoundingClientRect().top + scrollY")
    shots = [folder / f"{name}-{n}.png" for n in range(2)]
    for shot, at, height in zip(shots, (0, int(top)), heights, strict=True):
        if height:
            browser.screenshot(shot, top=at, height=height)
    _small([shot for shot, height in zip(shots, heights, strict=True) if height], DOCS / name, beside=width < 600)


def main(data: str, row_id: str, report_run: str, pictures_run: str) -> None:
    """Write all pictures."""
    files = sorted(Path(data).glob("*.parquet"))
    row = next(row for file in files for row in pq.read_table(file).to_pylist() if row["id"] == row_id)
    (DOCS / "pair.svg").write_text(pair(row), "utf-8")
    with tempfile.TemporaryDirectory() as folder, Browser(Path(folder) / "profile") as browser:
        for width, report, heights, images, high in (
            (1280, "report.png", (790, 640), "images-1280.png", 960),
            (390, "report-390.png", (1400, 1400), "images-390.png", 1400),
        ):
            browser.open(Path(report_run) / "report.html", width=width)
            _page(browser, Path(folder), report, heights)
            browser.open(Path(pictures_run) / "report.html", width=width)
            _page(browser, Path(folder), images, (0, high), "image_relabelled")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
