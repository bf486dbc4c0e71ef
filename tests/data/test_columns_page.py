"""The page of columns says what the schema of the row says."""

from columns_page import PAGE, page

from xner_ray.data.row import IMAGES, ROW


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python tests/helpers/columns_page.py --write"


def test_every_column_and_member_is_described() -> None:
    columns, _, members = page().partition("## Members")
    lines = columns.splitlines()
    for name in (*ROW.names, *IMAGES.names):
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert all(cell.strip() for cell in line.split("|")[1:-1]), name
    assert members.count("\n| ") > 30 and "|  |\n" not in members
