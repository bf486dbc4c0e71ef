"""Runs of given links and entities: projected without any model, and told apart by their files."""

import os
from pathlib import Path
from typing import Any

import pytest
from given_files import to_test, write
from reading import read_all

from xner_ray.engine.resolve import resolve
from xner_ray.errors import RunFolderError
from xner_ray.match.stage import MatchStage
from xner_ray.read.inputs import find_texts
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.report.card import dataset_card
from xner_ray.run.counters import summarize
from xner_ray.run.folder import RunFolder


def _given(folder: Path, **sections: Any) -> dict[str, Any]:
    for name in ("a.conll", "b.conll", "c.links"):
        if not (folder / name).exists():
            write(folder / name, "Al B-PER\n" if name != "c.links" else "0-0\n")
    given = {"path": str(folder / "a.conll"), "lang": "spa_Latn", "links": str(folder / "c.links")}
    given["parallel"] = {"eng_Latn": str(folder / "b.conll")}
    both = {"tag": {"engine": "provided"}, "align": {"backend": "provided"}}
    return {"direction": "test", "input": given, **both, **sections}


def test_given_links_and_entities_need_no_model(tmp_path: Path) -> None:
    recipe = load_recipe(_given(tmp_path, align={"backend": "provided", "encoder": "nobody/nothing", "layer": 99}))
    assert recipe.stages == ["match"]
    assert resolve(recipe) == (recipe, {})
    tagged = load_recipe(_given(tmp_path, tag={"engine": "spacy"}))
    assert tagged.stages == ["tag", "match"]
    assert set(resolve(tagged)[1]) == {"tag.model"}


def test_a_chain_from_files_to_labels(tmp_path: Path) -> None:
    source = write(tmp_path / "en.conll", "The O\nRed B-ORG\nCross I-ORG\nthanked O\nAl B-PER\n")
    target = write(tmp_path / "es.conll", "Al B-PER\nle O\nagradeció O\nla O\nCruz B-ORG\nRoja I-ORG\n")
    recipe = to_test(target, source, write(tmp_path / "c.links", "0-3 1-5 2-4 3-1 3-2 4-0\n"))
    (row,) = MatchStage(recipe)(read_all(recipe)).to_pylist()
    assert [{key: span[key] for key in ("start", "end", "label")} for span in row["spans"]] == row["gold_spans"]
    assert row["complete"]
    assert [round(span["score"], 4) for span in row["spans"]] == [0.7194, 0.7194]  # links of one row, without a tagger


def _keys(recipe: Recipe) -> dict[str, Any]:
    return fingerprint(recipe, *find_texts(recipe).identities(), resolve(recipe)[1])


def test_the_fingerprint_has_the_links_and_no_aligner(tmp_path: Path) -> None:
    recipe = load_recipe(_given(tmp_path))
    keys = _keys(recipe)
    assert {key for key in keys if key.startswith(("align.", "tag."))} == {"align.backend", "tag.engine"}
    assert "input.links" not in keys
    for overrides in (["align.method=argmax"], ["align.layer=3"], ["align.encoder=x"], ["tag.pooling=max"]):
        assert _keys(load_recipe(_given(tmp_path), overrides)) == keys
    assert _keys(load_recipe(_given(tmp_path, tag={"engine": "spacy"}))) != keys
    links = recipe.input.links
    assert links is not None
    os.utime(links, ns=(1, 1))
    assert _keys(recipe) == keys, "a time alone is no change"
    Path(links).write_text(Path(links).read_text() + "\n")
    changed = {key for key, value in _keys(recipe).items() if keys.get(key) != value}
    assert changed == {"parallel spa_Latn links/train/c.links"}


def test_a_run_with_other_links_is_another_run_but_targets_may_grow_with_theirs(tmp_path: Path) -> None:
    keys = {"parallel swh_Latn links/train/a": "1", "align.backend": "provided"}
    folder = RunFolder(str(tmp_path / "run"))
    folder.begin(load_recipe({"input": {"path": "a"}, "targets": ["swh_Latn"]}), keys, b"listed", 10)
    folder.check({**keys, "parallel zul_Latn links/train/b": "2"}, ["swh_Latn", "zul_Latn"])
    with pytest.raises(RunFolderError, match="parallel swh_Latn links/train/a: '1' there, '2' now"):
        folder.check({**keys, "parallel swh_Latn links/train/a": "2"}, ["swh_Latn"])


def test_the_card_names_no_aligner_and_no_model(tmp_path: Path) -> None:
    counts = {"rows": {"read": 1, "emitted": 1, "rejected": 0}, "entities": {"source": 1, "projected": 1}}
    counted = ("spa_Latn", {**counts, "incomplete_rows": 0, "projected_by_label": {}, "rejects": {}})
    report = summarize([counted], labels=["PER"], dropped={}, repaired_tags=0, seconds=1.0, max_reject_rate=1.0)
    card = dataset_card(load_recipe(_given(tmp_path, match={"scores": {"align": 1}})), report, [])
    assert "- alignment: given links\n" in card
    assert "entities from the labels of the parallel text\n" in card
    assert "score 1 align (given links)" in card
    assert "e5" not in card
    assert "builtin" not in card
    assert "Models:\n- none\n" in card
