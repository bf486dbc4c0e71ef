"""Word links that the user's own programs made: read and checked."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from given_files import to_test, to_train, write
from reading import read_all

from xner_ray.data.links import METHODS
from xner_ray.errors import Flag, InputError, RecipeError
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.inputs import find_texts
from xner_ray.recipe.load import load_recipe

ALL_METHODS = (1 << len(METHODS)) - 1


def _pairs(cell: list[dict[str, Any]] | None) -> list[tuple[int, int]] | None:
    return None if cell is None else [(link["source"], link["target"]) for link in cell]


def _three(folder: Path) -> tuple[str, str]:
    """Three sentences of two words, and their translations of three."""
    path = write(folder / "a.conll", "Al B-PER\nsaw O\n\nBo B-PER\nran O\n\nCy B-PER\nsat O\n")
    parallel = write(folder / "b.conll", "x O\ny O\nz O\n\nx O\ny O\nz O\n\nx O\ny O\nz O\n")
    return path, parallel


def test_links_share_a_words_probability_evenly(tmp_path: Path) -> None:
    recipe = to_train(*_three(tmp_path), write(tmp_path / "c.links", "0-2 0-0 0-1 1-0 0-0\n\n\t1-1  \n"))
    table = read_all(recipe)
    third, half = 0.3333, 0.5
    links = table.column("links").to_pylist()
    assert _pairs(links[0]) == [(0, 0), (0, 1), (0, 2), (1, 0)]  # sorted; 0-0 stands there twice and counts once
    assert [link["forward"] for link in links[0]] == pytest.approx([third] * 3 + [1], abs=1e-8)
    assert [link["backward"] for link in links[0]] == [half, 1, 1, half]
    assert links[1] == []  # an empty line: no links, and no reject
    assert links[2] == [
        {"source": 1, "target": 1, "forward": 1.0, "backward": 1.0, "cosine": 1.0, "methods": ALL_METHODS}
    ]
    assert table.column("status").to_pylist() == ["ok"] * 3


def test_source_words_come_first_in_either_direction(tmp_path: Path) -> None:
    source = write(tmp_path / "en.conll", "Al B-PER\nsaw O\n")
    target = write(tmp_path / "es.conll", "x O\ny O\nz B-PER\n")
    links = write(tmp_path / "c", "1-2\n")
    for recipe in (to_train(source, target, links), to_test(target, source, links)):
        (row,) = read_all(recipe).to_pylist()
        assert (row["source_tokens"], row["tokens"]) == (["Al", "saw"], ["x", "y", "z"])
        assert (row["status"], _pairs(row["links"])) == ("ok", [(1, 2)])
    (row,) = read_all(to_test(target, source, write(tmp_path / "d", "2-1\n"))).to_pylist()
    assert (row["reason"], row["links"]) == ("malformed", None)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0-0 x", "'x' is not a link; allowed: i-j between blanks, word numbers from 0"),
        ("0-0,1-1", "'0-0,1-1' is not a link"),
        ("0 - 0", "'0' is not a link"),
        ("0p0", "'0p0' is not a link"),
        ("0-0p", "'0-0p' is not a link"),
        ("0-0-0", "'0-0-0' is not a link"),
        ("-1-0", "'-1-0' is not a link"),
        ("٠-0", "'٠-0' is not a link"),
        ("0-" + "9" * 5000, "is not a link"),
        ("0-0\x0b1-1", "is not a link"),
        ("0-0\r1-1", "is not a link"),
        ("2-0", "link 2-0 leaves the 2 words of the source side or the 3 of the target side"),
        ("0-0 0-3", "link 0-3 leaves the 2 words of the source side or the 3 of the target side; allowed: 0 to 1 "),
        ("0-999999999", "link 0-999999999 leaves"),
    ],
)
def test_a_bad_line_rejects_its_row_alone(tmp_path: Path, line: str, problem: str) -> None:
    recipe = to_train(*_three(tmp_path), write(tmp_path / "c.links", f"0-0\n{line}\n1-2\n"))
    rows = read_all(recipe).to_pylist()
    assert [row["reason"] for row in rows] == [None, "malformed", None]
    assert [_pairs(row["links"]) for row in rows] == [[(0, 0)], None, [(1, 2)]]
    assert rows[1]["detail"].startswith("c.links:2: ")
    assert problem in rows[1]["detail"]
    assert "allowed: " in rows[1]["detail"]
    assert rows[1]["source_tokens"] == ["Bo", "ran"]  # what is known is kept


def test_links_that_are_not_utf8_reject_their_row(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"0-0\n\xff\n\xef\xbb\xbf0-0\n")
    rows = read_all(to_train(*_three(tmp_path), str(tmp_path / "c"))).to_pylist()
    assert [row["reason"] for row in rows] == [None, "malformed", "malformed"]  # a BOM is one only at the start


def test_a_side_that_is_rejected_stays_so_and_has_no_links(tmp_path: Path) -> None:
    path, _ = _three(tmp_path)
    parallel = write(tmp_path / "b.txt", "x y z\n\nx\0\n")
    rows = read_all(to_train(path, parallel, write(tmp_path / "c", "0-0\n0-0\nnonsense\n"))).to_pylist()
    assert [row["reason"] for row in rows] == [None, "empty", "control_character"]
    assert [_pairs(row["links"]) for row in rows] == [[(0, 0)], None, None]


def test_a_duplicate_id_comes_before_bad_links(tmp_path: Path) -> None:
    rows = [{"id": "s", "tokens": ["a"], "ner_tags": ["O"]}] * 2
    parallel = write(tmp_path / "b.txt", "a\na\n")
    table = read_all(to_train(write(tmp_path / "a.jsonl", rows), parallel, write(tmp_path / "c", "0-0\n9-9\n")))
    assert table.column("reason").to_pylist() == [None, "duplicate_id"]


def test_words_of_plain_text_are_those_that_an_aligner_sees(tmp_path: Path) -> None:
    """Aligners cut at blanks; with our own rules `n'a` and `x.` would be two words, and every later link be off."""
    rows = [
        {"text": "Al's  cat.\tBo sat.", "spans": [[0, 2, "PER"], [11, 13, "PER"]]},
        {"text": "a\u00a0b", "spans": []},
    ]
    path, parallel = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.txt", " n'a x. \ny\n")
    first, second = read_all(to_train(path, parallel, write(tmp_path / "c", "2-1\n0-0\n"))).to_pylist()
    assert (first["source_tokens"], first["tokens"]) == (["Al's", "cat.", "Bo", "sat."], ["n'a", "x."])
    assert [first["text"][o["start"] : o["end"]] for o in first["offsets"]] == first["tokens"]
    assert (first["text"], _pairs(first["links"]), first["flags"]) == (" n'a x. ", [(2, 1)], [Flag.SNAPPED])
    assert [(s["start"], s["end"]) for s in first["source_spans"]] == [(0, 1), (2, 3)]
    assert (second["reason"], second["detail"][:11]) == ("bad_token", "a.jsonl:2: ")  # one word to some aligners
    assert second["detail"].endswith("a word holds white space where some aligners cut: 'a\\xa0b'")
    plain = load_recipe({"input": {"path": path, "parallel": {"spa_Latn": parallel}}, "targets": ["spa_Latn"]})
    assert read_all(plain).column("tokens").to_pylist()[0] == ["n'a", "x", "."]  # without links nothing changes


def test_links_follow_the_words_that_tokens_are_mended_to(tmp_path: Path) -> None:
    """Dropped: its links go; cut: they go to all parts; joined: to the word that it joined."""
    rows = [
        {"tokens": [" ", "New York", "lo", "\u0301", "x"], "ner_tags": ["O", "B-LOC", "O", "O", "O"]},
        {"tokens": ["a", "b"], "ner_tags": ["O", "O"]},
        {"tokens": ["a", ""], "ner_tags": ["O", "O"]},
    ]
    target = [{"tokens": ["p", "q"]}, {"tokens": ["\ufeff", "p q"]}, {"tokens": ["p"]}]
    path, parallel = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", target)
    links = write(tmp_path / "c", "0-0 1-1 3-0 2-0 4-1\n0-0 1-1\n2-0\n")
    first, second, third = read_all(to_train(path, parallel, links)).to_pylist()
    assert first["source_tokens"] == ["New", "York", "lo\u0301", "x"]
    assert _pairs(first["links"]) == [(0, 1), (1, 1), (2, 0), (3, 1)]
    assert [(s["start"], s["end"]) for s in first["source_spans"]] == [(0, 2)]
    assert (second["tokens"], _pairs(second["links"])) == (["p", "q"], [(1, 0), (1, 1)])
    assert [row["flags"] for row in (first, second)] == [[Flag.TOKENS_MENDED]] * 2
    assert (third["reason"], third["links"]) == ("malformed", None)  # links count the words that the user has
    assert "link 2-0 leaves the 2 words of the source side" in third["detail"]
    words = write(tmp_path / "b.txt", "p\u200bq r\n\ufeff \u0301 p q\np\n")
    links = write(tmp_path / "c", "1-0 1-1\n0-1 0-2\n\n")
    first, second, third = read_all(to_train(path, words, links)).to_pylist()
    assert (first["tokens"], _pairs(first["links"])) == (
        ["p", "q", "r"],
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
    )
    assert (second["tokens"], _pairs(second["links"])) == (["\u0301", "p", "q"], [(0, 0), (0, 1)])


def _many(folder: Path, count: int) -> tuple[str, str, list[str]]:
    """Sentences of 1 to 4 words, and links that tell each row from its neighbours; every fifth row has none."""
    sizes = [1 + n % 4 for n in range(count)]
    path = write(folder / "a.conll", "\n".join("".join(f"w{n}-{i} O\n" for i in range(s)) for n, s in enumerate(sizes)))
    parallel = write(folder / "b.txt", "".join(" ".join("x" * s) + "\n" for s in sizes))
    lines = ["" if n % 5 == 0 else f"{n % size}-{n // 4 % size}" for n, size in enumerate(sizes)]
    return path, parallel, lines


@pytest.mark.parametrize("form", ["one file", "folder", "gz"])
@pytest.mark.parametrize("given", [{}, {"limit": 33}, {"sample": {"rows": 20, "seed": 1}}])
def test_every_row_gets_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, given: dict[str, Any]
) -> None:
    monkeypatch.setattr("xner_ray.read.index.scan.ScanJob.__init__.__defaults__", (4,))
    path, parallel, lines = _many(tmp_path, 60)
    if form == "folder":
        (tmp_path / "links").mkdir()
        for name, part in (("0", lines[:7]), ("1", lines[7:50]), ("2", lines[50:])):
            write(tmp_path / "links" / name, "".join(f"{line}\n" for line in part))
        links = str(tmp_path / "links")
    else:
        data = "".join(f"{line}\n" for line in lines).encode()
        links = str(tmp_path / ("c.gz" if form == "gz" else "c.txt"))
        Path(links).write_bytes(gzip.compress(data) if form == "gz" else data)
    tables = []
    for unit_rows in (1, 7, 2048):
        recipe = to_train(path, parallel, links, unit_rows=unit_rows, **given)
        index = build_index(recipe)
        again = Index.from_table(index.to_table()).bound(recipe)
        assert again == index
        tables.append(read_all(recipe, again).combine_chunks())
    assert tables[0].equals(tables[1])
    assert tables[1].equals(tables[2])
    rows = tables[0].to_pylist()
    assert len(rows) == {"limit": 33, "sample": 20}.get(next(iter(given), ""), 60)
    for row in rows:
        line = lines[row["row"]]
        expected = [(int(line[: line.index("-")]), int(line[line.index("-") + 1 :]))] if line else []
        assert (row["status"], _pairs(row["links"])) == ("ok", expected)


def test_units_that_were_listed_before_there_were_links_can_be_gone_on_with(tmp_path: Path) -> None:
    path, parallel = _three(tmp_path)
    recipe = load_recipe({"input": {"path": path, "parallel": {"spa_Latn": parallel}}, "targets": ["spa_Latn"]})
    index = build_index(recipe)
    table = index.to_table()
    assert Index.from_table(table.drop_columns(["links"])).bound(recipe) == index
    assert read_all(recipe, index).column("links").to_pylist() == [None] * 3


@pytest.mark.parametrize(("links", "count"), [("0-0\n0-0\n", 2), ("\n\n\n\n", 4), ("", 0)])
def test_another_number_of_lines_names_both_files(tmp_path: Path, links: str, count: int) -> None:
    recipe = to_train(*_three(tmp_path), write(tmp_path / "c.links", links))
    with pytest.raises(InputError, match=rf"input\.links: .*c\.links has {count} lines, .*a\.conll has 3 sentences"):
        build_index(recipe)


def test_with_a_limit_only_its_lines_need_be_there(tmp_path: Path) -> None:
    path, parallel = _three(tmp_path)
    links = write(tmp_path / "c", "0-0\n1-1\n")
    assert read_all(to_train(path, parallel, links, limit=2)).num_rows == 2
    with pytest.raises(InputError, match="has 2 lines"):
        build_index(to_train(path, parallel, links, limit=3))


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    path, parallel, _ = _many(tmp_path, 12)
    with pytest.raises(InputError, match=r"a\.txt: none of 12 rows is valid links; the first: a\.txt:1: 'no' is"):
        build_index(to_train(path, parallel, write(tmp_path / "a.txt", "no links\n" * 12)))
    with pytest.raises(InputError, match=r"nowhere: no such file"):
        build_index(to_train(path, parallel, str(tmp_path / "nowhere")))


def test_links_that_changed_are_not_read(tmp_path: Path) -> None:
    links = write(tmp_path / "c", "0-0\n" * 3)
    recipe = to_train(*_three(tmp_path), links)
    index = build_index(recipe)
    os.utime(links, ns=(1, 1))
    with pytest.raises(InputError, match=r"c: has another size or time.*the same command goes on"):
        read_all(recipe, index)


def test_several_languages_have_links_of_their_own(tmp_path: Path) -> None:
    source = write(tmp_path / "en.conll", "Al B-PER\nsaw O\n")
    for number, lang in enumerate(("swh_Latn", "yor_Latn")):
        write(tmp_path / f"{lang}.conll", "x O\ny B-PER\n")
        write(tmp_path / f"{lang}.en.conll", "Al B-PER\nsaw O\n")
        write(tmp_path / f"{lang}.links", f"0-{number}\n")
    links, languages = str(tmp_path / "{lang}.links"), ["swh_Latn", "yor_Latn"]
    common = {"align": {"backend": "provided"}}
    train = {"path": source, "parallel": {lang: str(tmp_path / f"{lang}.conll") for lang in languages}, "links": links}
    test = {"path": str(tmp_path / "{lang}.conll"), "lang": languages, "links": links}
    test |= {"parallel": {"eng_Latn": str(tmp_path / "{lang}.en.conll")}}
    recipes = [
        load_recipe({"input": train, "targets": languages, **common}),
        load_recipe({"direction": "test", "input": test, "tag": {"engine": "provided"}, **common}),
    ]
    for recipe in recipes:
        assert {lang: list(names)[1] for lang, names in find_texts(recipe).identities()[1].items()} == {
            lang: f"links/train/{lang}.links" for lang in languages
        }
        index = Index.from_table(build_index(recipe).to_table()).bound(recipe)
        found = {row["lang"]: _pairs(row["links"]) for row in read_all(recipe, index).to_pylist()}
        assert found == {"swh_Latn": [(0, 0)], "yor_Latn": [(0, 1)]}


def test_paths_of_links_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "input: {path: a.conll, parallel: {spa_Latn: b}, links: d/c.links}\n"
        "targets: [spa_Latn]\nalign: {backend: provided}\n"
    )
    assert load_recipe(path).input.links == str(tmp_path / "d/c.links")


def test_raw_documents_have_no_links(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sentences cannot go with input\.parallel"):
        build_index(to_train(*_three(tmp_path), "c", split="sentences"))
