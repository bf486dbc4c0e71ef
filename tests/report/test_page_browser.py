"""How report.html behaves in a real browser."""

from pathlib import Path
from typing import Any

import pytest
from browser import PROGRAM, Browser
from page_rows import EVIL, hostile_rows, lost_row, page_of, row_of, tables_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium (Debian: apt-get install chromium)"),
]

ARABIC = ["وصلت", "آدا", "لوفلايس", "إلى", "New", "York", "."]


def _many() -> list[dict[str, Any]]:
    rows = [row_of(n) for n in range(30)] + [lost_row(30 + n) for n in range(3)]
    arabic = {
        "text": "وصلت آدا لوفلايس إلى New York.",
        "tokens": ARABIC,
        "offsets": None,
        "spans": [
            {"start": 1, "end": 3, "label": "PER", "score": 0.4, "source": 0},
            {"start": 4, "end": 6, "label": "LOC", "score": 0.5, "source": None},
        ],
    }
    return [*rows, *(row_of(40 + n, "arb_Arab", **arabic) for n in range(4)), *hostile_rows()]


def test_in_a_browser(tmp_path: Path) -> None:
    """One browser for all: text stays text, right-to-left is, filters and pages work, nothing sticks out."""
    path = tmp_path / "report.html"
    path.write_text(page_of(tables_of(_many())), encoding="utf-8")
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


def test_a_script_of_another_hand_does_not_run(tmp_path: Path) -> None:
    """The second wall: were text ever to become markup, the page's policy would stop it."""
    path = tmp_path / "report.html"
    html = page_of(tables_of([row_of(0)])).replace(
        "<main>", "<main><script>window.hurt=1</script><img src=x onerror=hurt=1>"
    )
    path.write_text(html, encoding="utf-8")
    with Browser(tmp_path / "profile") as browser:
        browser.open(path)
        assert browser.value("window.hurt") is None
        assert len([text for text in browser.messages if "Content Security Policy" in text]) >= 2
