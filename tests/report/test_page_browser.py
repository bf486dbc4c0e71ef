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


SHOWN = "[...document.querySelectorAll('article')].filter(a => a.checkVisibility())"
FOCUS = "document.activeElement"


def test_contents_search_and_keys(tmp_path: Path) -> None:
    """Whoever has a keyboard alone reaches all: sections, search, sentences, their words, the list of keys."""
    path = tmp_path / "report.html"
    path.write_text(page_of(tables_of(_many())), encoding="utf-8")
    with Browser(tmp_path / "profile") as browser:
        browser.open(path)
        total = browser.value("document.querySelectorAll('article').length")

        def found() -> str:
            return str(browser.value("document.getElementById('found').textContent"))

        def look_for(query: str) -> int:
            browser.value(f"{FOCUS}.blur()")
            browser.press("/")
            assert browser.value(f"{FOCUS}.id") == "search"
            browser.press(*query)
            assert browser.value("document.getElementById('search').value") == query
            of = "" if f"of {total} sentences" in found() else f", of {total} in the sample"
            assert found().endswith(of)
            hits = 0 if found().startswith("no sentence fits") else int(found().split(" of ")[1].split(" ")[0])
            assert browser.value(f"{SHOWN}.length") == min(hits, 20)
            return hits

        # The contents lead to every section, and stay in sight.
        sections = browser.value("[...document.querySelectorAll('main section')].map(s => s.id)")
        links = browser.value("[...document.querySelectorAll('.contents a')].map(a => a.getAttribute('href').slice(1))")
        assert links == sections and {"losses", "sentences"} < {*links}
        browser.click(".contents a[href='#losses']")
        browser.value("document.getElementById('losses').scrollIntoView({behavior: 'instant'})")
        assert browser.value("location.hash") == "#losses"
        assert browser.value("document.querySelector('.contents').getBoundingClientRect().top") == 0
        assert browser.value("document.querySelector('#losses h2').getBoundingClientRect().top") > 40

        # Words, ids, labels and reasons are found, whatever the case; the words of explanations are not.
        with_name = browser.value(f"{SHOWN}.length") and look_for("ada CAME")
        browser.press("Escape")
        assert browser.value("document.getElementById('search').value") == "" and f"of {total} sentences" in found()
        assert 30 < with_name <= total
        for query, hits in (("s31", 1), ("low_score", 3), ("low_score s32", 1), ("لوفلايس", 4), ("min_score", 0)):
            assert look_for(query) == hits, query
            browser.press("Escape")
        assert look_for('"came Ada"') == 0
        browser.press("Escape")
        assert look_for('"vino Ada"') > 20
        assert browser.value("[...document.querySelectorAll('.hit')].map(w => w.textContent)")[:2] == ["Ada", "vino"]
        browser.press("Escape")
        assert look_for("<script>window.hurt=1</script>") == 2, "the row that has it, and the rejected one"
        assert browser.value("window.hurt") is None
        browser.press("Escape")
        assert browser.value(f"{FOCUS}.id") == "search"
        browser.press("Escape")
        assert browser.value(f"{FOCUS} === document.body")

        # Through the sentences, and along the words of one.
        for key, at in (("j", 0), ("j", 1), ("k", 0)):
            browser.press(key)
            assert browser.value(f"{SHOWN}.indexOf({FOCUS})") == at
        browser.press("ArrowRight")
        hot = "[...document.querySelectorAll('.hot')].map(w => w.closest('article') === document.activeElement)"
        assert len(browser.value(hot)) >= 2 and all(browser.value(hot))
        assert "↔" in browser.value("document.getElementById('lit').textContent")
        browser.press("Escape")
        assert browser.value(hot) == []
        for key, page in (("n", 2), ("p", 1), ("k", 1), ("n", 2), ("k", 1)):
            browser.press(key)
            assert browser.value("document.getElementById('page').textContent").startswith(f"page {page} of")
        assert browser.value(f"{SHOWN}.indexOf({FOCUS})") == 19, (
            "back from the next page to the last sentence of this one"
        )
        browser.press("?")
        assert browser.value("document.getElementById('help').open")
        browser.press("j", "Escape")
        assert not browser.value("document.getElementById('help').open")

        # A reason of the table shows its sentences, and a sentence has an address.
        browser.click("a[data-find='low_score']")
        assert browser.value("document.getElementById('search').value") == "low_score" and " of 3 sentences" in found()
        browser.value("location.hash = '#s-arb_Arab-42'")
        browser.value("new Promise(done => setTimeout(done, 50))")
        assert browser.value(f"{FOCUS}.id") == "s-arb_Arab-42" and browser.value(f"{FOCUS}.checkVisibility()")

        browser.open(path)
        browser.press("Tab")
        assert browser.value(f"{FOCUS}.textContent") == "Skip to the figures"
        assert browser.value(f"{FOCUS}.getBoundingClientRect().left") >= 0
        assert browser.value(f"getComputedStyle({FOCUS}).outlineStyle") == "solid"
        browser.press("Enter")
        assert browser.value(f"{FOCUS}.id") == "main"
        assert browser.messages == []


def test_on_a_phone_no_column_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    given = tables_of(_many())
    path.write_text(page_of(given, made=["a line"], licences=["a licence"]), encoding="utf-8")
    out = """[...document.querySelectorAll('main td, main th, main p, main dd, main select, main svg')]
        .filter(e => e.checkVisibility() && !e.closest('thead'))
        .filter(e => (r => r.width && (r.left < 0 || r.right > innerWidth))(e.getBoundingClientRect()))
        .map(e => e.outerHTML.slice(0, 80))"""
    heads = """[...document.querySelectorAll('.stack')].map(t => [
        [...t.querySelectorAll('thead th')].slice(1).map(h => h.textContent),
        [...t.querySelector('tbody tr').querySelectorAll('td')].filter(d => d.checkVisibility())
            .map(d => getComputedStyle(d, '::before').content.replaceAll('"', '').trim())])"""
    small = """[...document.querySelectorAll('.contents a, .up, button, select, input')]
        .filter(e => e.checkVisibility()).map(e => e.getBoundingClientRect())
        .filter(r => r.height < 44 || r.width < 44).length"""
    with Browser(tmp_path / "profile") as browser:
        for width in (320, 390):
            browser.open(path, width=width)
            browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            assert browser.value("document.documentElement.scrollWidth") == width
            assert browser.value(out) == []
            tables = browser.value(heads)
            assert len(tables) >= 4
            for wanted, told in tables:
                assert told == wanted, "each value has the head of its column"
            assert browser.value(small) == 0, "a finger finds them"


def test_a_script_of_another_hand_does_not_run(tmp_path: Path) -> None:
    """The second wall: were text ever to become markup, the page's policy would stop it."""
    path = tmp_path / "report.html"
    html = page_of(tables_of([row_of(0)])).replace(
        "<header>", "<header><script>window.hurt=1</script><img src=x onerror=hurt=1>"
    )
    path.write_text(html, encoding="utf-8")
    with Browser(tmp_path / "profile") as browser:
        browser.open(path)
        assert browser.value("window.hurt") is None
        assert len([text for text in browser.messages if "Content Security Policy" in text]) >= 2
