"""Keys that say how files are written are refused where they have no effect on any of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from reading import read_all, to_train

from xner_ray.commands.start.look import look
from xner_ray.errors import InputError
from xner_ray.read.index.build import build_index

CONLL = "Nora\tB-PER\nleft\tO\n\nOslo\tB-LOC\nis\tO\nbig\tO\n"
TAGS = "".join(json.dumps({"tokens": ["Nora", "left"], "ner_tags": ["B-PER", "O"]}) + "\n" for _ in range(3))
SPANS = "".join(json.dumps({"text": "Nora left", "spans": [[0, 4, "PER"]]}) + "\n" for _ in range(3))
FILES = {
    "a.conll": CONLL,
    "tags.jsonl": TAGS,
    "spans.jsonl": SPANS,
    "marks.txt": "[Nora](PER) left.\nTo [Oslo](LOC) too.\n",
    "words.csv": "sid,word,tag\n1,Nora,B-PER\n1,left,O\n2,x,O\n2,y,O\n",
    "texts.csv": 'text,spans\nNora left,"[[0, 4, ""PER""]]"\nx y,[]\n',
}


def _read(folder: Path, name: str, **given: Any) -> int:
    (folder / name).write_text(FILES[name])
    return int(read_all(to_train(folder / name, input=given)).num_rows)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (["a.conll", "tags.jsonl", "marks.txt", "words.csv"], {"offsets": "utf16"}),
        (["a.conll", "tags.jsonl", "marks.txt", "words.csv"], {"ends": "inclusive"}),
        (["spans.jsonl", "marks.txt", "texts.csv"], {"scheme": "bioes"}),
        (["a.conll", "marks.txt", "tags.jsonl", "spans.jsonl", "texts.csv"], {"answers": ["accept", "reject"]}),
        (["a.conll", "marks.txt", "tags.jsonl", "spans.jsonl", "texts.csv"], {"labels": {"names": ["O", "B-PER"]}}),
        (list(FILES), {"columns": {"id": "number"}}),
        (list(FILES), {"columns": {"doc_id": "page"}}),
        (list(FILES), {"columns": {"spans": "marks"}}),
        (list(FILES), {"columns": {"split": "part"}}),
    ],
    ids=str,
)
def test_a_key_without_effect_is_refused(tmp_path: Path, names: list[str], given: dict[str, Any]) -> None:
    key = next(iter(given))
    for name in names:
        with pytest.raises(InputError, match=rf"{name}.*input\.{key}") as caught:
            _read(tmp_path, name, **given)
        assert "\n" not in str(caught.value)
        (seen,) = look(str(tmp_path / name), overrides=[f"input.{key}={json.dumps(given[key])}"]).looks
        assert seen.refused == str(caught.value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a.conll", {"scheme": "iob2", "columns": {"tokens": "1", "tags": "2", "text": "text", "id": "id"}}),
        ("tags.jsonl", {"scheme": "iob2", "columns": {"tokens": "tokens", "spans": "spans"}}),
        ("spans.jsonl", {"offsets": "utf16", "ends": "exclusive", "columns": {"text": "text"}}),
        ("texts.csv", {"offsets": "bytes", "columns": {"spans": "2"}}),
        ("words.csv", {"scheme": "iob2", "columns": {"id": "sid", "tags": "tag"}}),
    ],
    ids=str,
)
def test_keys_with_effect_and_names_that_are_the_defaults_are_taken(
    tmp_path: Path, name: str, given: dict[str, Any]
) -> None:
    assert _read(tmp_path, name, **given) > 1


def test_a_key_needs_one_file_that_it_is_for(tmp_path: Path) -> None:
    """As where one of the splits has a column of ids."""
    rows = [json.loads(line) for line in TAGS.splitlines()]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row | {"nr": n}) + "\n" for n, row in enumerate(rows)))
    (tmp_path / "test.jsonl").write_text(TAGS)
    index = build_index(to_train(tmp_path, input={"columns": {"id": "nr"}}))
    assert sum(index.n_rows.values()) == 6
    with pytest.raises(InputError, match=r"input.columns.id is 'number', which the files have not"):
        build_index(to_train(tmp_path, input={"columns": {"id": "number"}}))
