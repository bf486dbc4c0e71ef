import pytest
from exported import PLAIN, ROW, row

from xner_ray.errors import InputError
from xner_ray.write import conll


def test_a_sentence_is_its_words_with_iob2_tags() -> None:
    lines = "".join(conll.write([ROW, PLAIN], ids=True))
    assert lines.startswith("# id = doc 1/ö\n👨🏻‍🚒\tO\nAna\tB-PER\nMaría\tI-PER\n")
    assert lines.endswith(".\tO\n\n# id = 2\nNada\tO\n\n")
    assert "".join(conll.write([PLAIN])) == "Nada\tO\n\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row("a b", ["a b"]), "token 'a b' holds white space"),
        (row("-DOCSTART-x", ["-DOCSTART-x"]), "token '-DOCSTART-x' would begin a document"),
        (row(id="a\nb"), "its id holds a line break"),
    ],
)
def test_what_no_reader_could_take_back_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        list(conll.write([wrong], ids=True))
