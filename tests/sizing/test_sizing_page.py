"""docs/sizing.md is what `xner-ray plan` computes."""

from sizing_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python tests/helpers/sizing_page.py --write"
