"""The command `look`: what is found in files of many kinds, of large ones in part, and of what is refused."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from reading import read_all, to_train
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.commands.start.look import look
from xner_ray.errors import InputError, RecipeError
from xner_ray.read.index import sampled
from xner_ray.report.look import Look

NAMES = ["Nora Falk", "नई दिल्ली", "Ада", "Dar es Salaam", "Ọbasanjọ"]


def _conll(n: int = 40, *, bad: Callable[[int], bool] = lambda i: False) -> str:
    blocks = []
    for i in range(n):
        name = NAMES[i % len(NAMES)].split()
        tags = ["B-PER" if i % 2 else "B-LOC"] + ["I-PER" if i % 2 else "I-LOC"] * (len(name) - 1)
        rows = [f"{word} {tag}" for word, tag in zip(name, tags, strict=True)]
        rows += [f"alikwenda{i} O", f". {'X-BAD' if bad(i) else 'O'}"]
        blocks.append("\n".join(rows) + "\n")
    return "\n".join(blocks)


def _one(path: Path, *overrides: str, **options: Any) -> Look:
    (found,) = look(path, overrides=overrides, **options).looks
    return found


def _shown(*arguments: str, status: int = 0) -> str:
    ended = CliRunner().invoke(cli.app, ["look", *arguments], env={"COLUMNS": "300"})
    assert ended.exit_code == status, ended.output
    return ended.output


def test_forty_sentences_of_conll_with_everything_said(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(_conll(bad=lambda i: i == 3))
    found = _one(tmp_path / "a.conll")
    assert (found.format, found.looked_at, found.exact, found.rows, found.files) == ("conll", 40, True, 40, 1)
    assert found.labels == {"LOC": 20, "PER": 19} and found.labelled == 39
    assert {"words in the first column, tags in the last", "scheme IOB2"} < set(found.said)
    assert found.splits == {"train": 40} and len(found.sentences) == 10
    assert found.ids[0] == "a.conll:1" and found.own_ids == 0
    assert list(found.scripts)[:1] == ["Latn"] and {"Deva", "Cyrl"} < set(found.scripts)
    (bad,) = found.rejects
    assert (bad.reason, bad.rows) == ("illegal_tag", 1)
    line = int(bad.examples[0].split(":")[1])
    assert (tmp_path / "a.conll").read_text().split("\n")[line - 1].startswith("Dar ")
    shown = _shown(str(tmp_path / "a.conll"))
    for part in ("Nora Falk[LOC]", "LOC 20, PER 19", "illegal tag 'X-BAD'", "cure: mend the tag", "for the recipe:"):
        assert part in shown


def test_the_section_is_copied_into_a_recipe_and_reads_the_same(tmp_path: Path) -> None:
    text = re.sub(r" (?=[BIO])", " NN ", _conll(12))
    (tmp_path / "words.txt").write_text(text)
    found = _one(tmp_path / "words.txt", "input.lang=swa", "input.max_words=30")
    section = yaml.safe_load(found.section())["input"]
    assert section == {"path": str(tmp_path / "words.txt"), "format": "conll", "lang": "swh_Latn", "max_words": 30}
    given = {key: value for key, value in section.items() if key != "path"}
    table = read_all(to_train(section["path"], input=given))
    assert table.num_rows == found.looked_at == 12


def test_labels_that_yaml_would_read_otherwise_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Oslo is cold", "spans": [{"start": 0, "end": 4, "label": "NO"}]}\n')
    line = next(one for one in _one(tmp_path / "a.jsonl").section().split("\n") if one.startswith("  # labels"))
    assert yaml.safe_load(line.removeprefix("  # "))["labels"]["keep"] == ["NO"]


def test_jsonl_says_keys_and_offsets(tmp_path: Path) -> None:
    rows = [{"text": f"😀 Nora {i} went to Oslo", "label": [[2, 6, "PER"]], "id": i} for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = _one(tmp_path / "a.jsonl")
    said = "; ".join(found.said)
    assert "spans under 'label' as [start, end, label]" in said and "text under 'text'" in said
    assert "offsets in characters, ends exclusive" in said
    assert found.own_ids == 1 and found.ids == ["0", "1", "2"] and found.repeated_ids == 0


@pytest.mark.slow
def test_spacy_is_read_without_spacy(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import DocBin, Span

    bin_ = DocBin()
    for i in range(40):
        doc = spacy.blank("en")(f"Nora Falk {i} went to Oslo .")
        doc.ents = [Span(doc, 0, 2, "PERSON")]
        bin_.add(doc)
    bin_.to_disk(tmp_path / "a.spacy")
    found = _one(tmp_path / "a.spacy")
    assert (found.format, found.looked_at, found.labels) == ("spacy", 40, {"PERSON": 40})


def test_parquet_with_ids_that_repeat_in_a_split(tmp_path: Path) -> None:
    rows = {"id": ["a", "b", "a"], "tokens": [["Nora"], ["Oslo"], ["x"]], "ner_tags": [["B-PER"], ["B-LOC"], ["O"]]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    found = _one(tmp_path / "a.parquet")
    assert (found.rows, found.repeated_ids) == (3, 1)
    assert "tokens under 'tokens'" in found.said and "scheme IOB2" in found.said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conll", "jsonl", "parquet", "json", "table"])
def test_of_a_large_file_a_part_is_looked_at(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "_WHOLE_BYTES", 1 << 20)
    n = 60_000
    path = tmp_path / f"a.{ {'table': 'csv'}.get(kind, kind) }"
    rows = [{"text": f"Nora {i} went to Oslo with all of them", "label": [[0, 4, "PER"]]} for i in range(n)]
    if kind == "conll":
        path.write_text(_conll(n))
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "table":
        path.write_text("Sentence #,Word,Tag\n" + "".join(f"S{i},Nora,B-PER\n,went,O\n" for i in range(n)))
    else:
        table = pa.table({"tokens": [["Nora", "x"]] * n, "ner_tags": [["B-PER", "O"]] * n})
        pq.write_table(table, path, row_group_size=5000)
    found = _one(path)
    assert found.rows is not None
    assert not found.exact and 1000 < found.looked_at < n / 4
    assert abs(found.rows - n) < 0.05 * n
    assert "PER" in found.labels
    assert re.search(rf"looked at {found.looked_at:,} of some (5[7-9]|6[0-3]),000 rows", _shown(str(path)))


def test_a_bad_row_deep_in_a_large_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(_conll(60_000, bad=lambda i: i > 20_000 and i % 100 == 0))
    (bad,) = _one(path).rejects
    lines = path.read_text().split("\n")
    first, said = bad.examples[0].split(": ")[:2]
    begin, at = int(first.split(":")[1]), int(said.removeprefix("line "))
    assert begin > 60_000 and lines[begin - 2] == "" and lines[at - 1] == ". X-BAD"


def test_a_large_file_without_blank_lines_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "_WHOLE_BYTES", 1 << 20)
    path = tmp_path / "a.conll"
    path.write_text("Nora B-PER\nwent O\n. O\n" * 100_000)
    found = _one(path)
    assert found.refused.startswith(f"{path}: no blank line in ") and "input.split: sentences" in found.refused
    assert found.head[0] == "Nora B-PER"


def test_what_several_columns_make_ambiguous_is_shown_with_the_key(tmp_path: Path) -> None:
    path = tmp_path / "nested.conll"
    path.write_text("Oslo\tB-ORG\tB-LOC\nTimes\tI-ORG\tO\nsaid\tO\tO\n\nOslo\tO\tB-LOC\n")
    shown = _shown(str(path), status=2)
    assert "input.columns: {tokens: 1, tags: 2}" in shown and "Times" in shown and "for the recipe:" not in shown
    assert "LOC 2" in _shown(str(path), "--set", "input.columns={tokens: 1, tags: 3}")


def test_what_may_be_two_formats_is_shown_as_each(tmp_path: Path) -> None:
    path = tmp_path / "cols.txt"
    path.write_text("a\tb\nc\td\ne\tf\n")
    found = _one(path)
    assert "may be text or table" in found.refused and found.input is None
    assert found.choices["input.format: text"] == "3 sentences, labels: none"
    assert "which column holds the sentences" in found.choices["input.format: table"]
    assert "3 sentences" in _shown(str(path), "--format", "text")


def test_a_folder_of_two_formats_and_a_file_of_none(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(_conll(2))
    (tmp_path / "b.jsonl").write_text("{}\n")
    assert "several formats (conll, jsonl)" in _shown(str(tmp_path), status=2)
    (tmp_path / "c.bin").write_bytes(b"\0\1\2")
    assert "the format cannot be guessed" in _shown(str(tmp_path / "c.bin"), status=2)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("\n\n")
    assert f"{tmp_path / 'a.conll'}: holds no sentence" in _shown(str(tmp_path / "a.conll"), status=2)


def test_one_bad_file_of_two_leaves_the_other_shown(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(_conll(2))
    (tmp_path / "b.conll").write_text("Oslo B-ORG B-LOC\nTimes I-ORG O\n\nx O B-LOC\n")
    found = _one(tmp_path)
    assert "several columns" in found.refused and found.looked_at == 2 and len(found.sentences) == 2
    assert "the key that the message above names goes here" in found.section()


def test_what_is_missing_or_misspelt_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        look(tmp_path / "nowhere.conll")
    (tmp_path / "a.conll").write_text(_conll(2))
    with pytest.raises(RecipeError, match=r"look: unknown key 'input.formt' \(value 'conll'\); did you mean 'format'"):
        look(tmp_path / "a.conll", overrides=["input.formt=conll"])
    with pytest.raises(RecipeError, match=r"did you mean swh_Latn \(Swahili\)"):
        look(tmp_path / "a.conll", overrides=["input.lang=swa_Latn"])


def test_files_named_by_split_or_all_of_a_folder_are_one_input(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.conll").write_text(_conll(3))
    (found,) = look([tmp_path / "train.conll", tmp_path / "dev.conll"]).looks
    assert found.input is not None
    assert found.input["path"] == {"train": str(tmp_path / "train.conll"), "validation": str(tmp_path / "dev.conll")}
    assert found.splits == {"train": 3, "validation": 3}
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt").write_text("one sentence\n")
    (found,) = look([tmp_path / "b.txt", tmp_path / "a.txt"]).looks
    assert (found.path, found.files) == (str(tmp_path / "*.txt"), 2)
    assert len(look([tmp_path / "b.txt", tmp_path / "dev.conll"]).looks) == 2


def test_the_language_by_script_and_by_what_is_stated(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("እንኳን ደህና መጣችሁ\n")
    (tmp_path / "b.txt").write_text("ესტონეთი და საქართველო\n")
    assert set(_one(tmp_path / "a.txt").languages) <= {"amh_Ethi", "tir_Ethi"}
    assert _one(tmp_path / "b.txt").lang == "kat_Geor"
    stated = _one(tmp_path / "b.txt", "input.lang=eng_Latn")
    assert (stated.lang, stated.lang_note) == ("eng_Latn", "")


def test_without_py3langid_the_scripts_languages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xner_ray.commands.start.look.find_spec", lambda name: None)
    (tmp_path / "a.txt").write_text("እንኳን ደህና መጣችሁ\n")
    found = _one(tmp_path / "a.txt")
    assert found.languages == ["amh_Ethi", "tir_Ethi"] and "not sure: one of amh_Ethi, tir_Ethi" in found.section()


def test_what_a_terminal_would_obey_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes(b"No\x1b[31mra B-PER\n\nb\xff O\n")
    shown = _shown(str(tmp_path / "a.conll"))
    assert "\x1b" not in shown and "U+001B in 'No\ufffd[31mra'" in shown.replace("\\x1b", "\ufffd")
    assert json.loads(_shown(str(tmp_path / "a.conll"), "--json"))[0]["looked_at"] == 2


def test_as_json_and_from_python(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(_conll(4))
    (found,) = json.loads(_shown(str(tmp_path / "a.conll"), "--json"))
    assert (found["rows"], found["labels"]) == (4, {"LOC": 2, "PER": 2})
    assert found == json.loads(json.dumps(xner_ray.look(tmp_path / "a.conll").to_dict()))[0]


@pytest.mark.slow
def test_its_cpu_time_and_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(_conll())
    code = (
        "import atexit, sys; from xner_ray.cli import main; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code, "look", str(tmp_path / "a.conll")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"look: {after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime:.2f} CPU seconds")
    modules = set(ended.stderr.split())
    assert "pyarrow" in modules
    heavy = {"torch", "scipy", "spacy", "pandas", "ray", "transformers", "datasets", "ortools", "jinja2"}
    assert modules.isdisjoint(heavy)


def test_a_line_of_another_width_behind_the_first_of_its_sentence_rejects_it(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("1 Nora NNP B-PER\n2 went VB O\n\n" * 3 + "1 Oslo NNP B-LOC\n2 is VB O\n3 cold\n")
    (bad,) = _one(path).rejects
    assert (bad.reason, bad.rows) == ("malformed", 1)
    assert bad.examples == ["a.conll:10: line 12 has 2 columns, the file's lines have 4: '3 cold'"]
