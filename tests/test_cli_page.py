"""The page of the command line says what the command line says."""

from cli_page import PAGE, page


def test_the_page_is_what_the_command_line_says() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python tests/helpers/cli_page.py --write"
