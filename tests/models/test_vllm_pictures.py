"""vLLM itself is shown pictures: its build for CPUs with a tiny random Idefics3, in the environment of `make llm`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ambiguous import parts, rows, written
from pictures import photo
from PIL import Image
from tiny_seer import IMAGE, seer

import xner_ray
from xner_ray.errors import Reason
from xner_ray.models import vllm
from xner_ray.models.vllm import ChatModel, Conversation
from xner_ray.recipe.sections import Tag
from xner_ray.tag.llm import LlmTagger, conversation

# Warnings of vLLM and of torch about themselves end nothing
pytestmark = [pytest.mark.llm, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

JOBS = Path(__file__).parents[2] / "jobs"
MEANINGS: dict[str, str | None] = {"PER": "a person", "LOC": None, "ORG": None}
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["PER", "LOC"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def _section(model: str) -> dict[str, Any]:
    device = {"gpus": 0} if vllm.on_cpu() else {"gpus": 1}
    share = {} if vllm.on_cpu() else {"gpu_memory_share": 0.2}
    given = {"engine": "llm", "model": model, "labels": MEANINGS, "images": True, "dtype": "float32", **device}
    return {**given, "llm": {"context_tokens": 1536, "image_side": 64, **share}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seer(tmp_path_factory.mktemp("seer") / "model")


@pytest.fixture(scope="module")
def model(folder: str) -> ChatModel:
    return ChatModel(Tag.model_validate(_section(folder)), "tag")


def _shown() -> dict[str, tuple[str, Image.Image]]:
    noise = Image.effect_noise((64, 48), 90).convert("RGB")
    return {"noise": ("1" * 64, noise), "red": ("2" * 64, Image.new("RGB", (64, 48), (255, 0, 0)))}


def _messages(text: str, *, picture: bool) -> Conversation:
    return conversation(text, MEANINGS, picture=picture)


def test_other_pictures_have_other_answers_and_rows_without_one_are_asked_beside_them(model: ChatModel) -> None:
    shown = _shown()
    asked = [_messages("Nora Falk was in Kampala.", picture=True)] * 3 + [_messages("Nora Falk.", picture=False)]
    pictures = [shown["noise"], shown["red"], shown["noise"], None]
    found = model.chat(asked, [12] * 4, pictures=pictures)
    assert found[0].text != found[1].text and found[0].text == found[2].text
    assert [one.finished for one in found] == ["length"] * 4
    (alone,) = model.chat(asked[3:], [12])
    assert alone.text == found[3].text, "what stands beside it does not count"
    assert model.tokens > sum(len(model.prompts.ids(one, picture=False)) for one in asked)  # type: ignore[arg-type]


def test_a_schema_holds_with_pictures(model: ChatModel) -> None:
    shown = list(_shown().values())
    found = model.chat([_messages("Nora.", picture=True)] * 2, [60] * 2, SCHEMA, shown)
    assert all(json.loads(one.text)["label"] in ("PER", "LOC") and one.finished == "stop" for one in found)


def test_what_cannot_be_asked_spoils_no_neighbour(model: ChatModel) -> None:
    shown = _shown()["red"]
    texts = [f"a {IMAGE} b", "x" * 3000, "Nora Falk."]
    control, long, good = model.chat([_messages(text, picture=True) for text in texts], [8] * 3, pictures=[shown] * 3)
    assert (control.finished, long.finished, good.finished) == ("control", "prompt", "length")


def test_the_most_tokens_of_a_picture_are_as_counted(model: ChatModel) -> None:
    """The room that is kept for a picture is what vLLM takes for it."""
    ids = model.prompts.ids(_messages("Nora.", picture=True), picture=True)
    assert isinstance(ids, list)
    shown = _shown()["red"]
    before = model.tokens
    (reply,) = model.chat([_messages("Nora.", picture=True)], [4], pictures=[shown])
    read = model.tokens - before - reply.n_tokens
    assert len(ids) < read <= len(ids) + model.prompts.picture_tokens


def test_a_tagger_gives_every_row_a_result(model: ChatModel, folder: str) -> None:
    tagger = LlmTagger(Tag.model_validate(_section(folder)), "tag", model)
    words = ["Nora", "was", "in", "Kampala", "."]
    sentences = [(words, [True] * 5), ([IMAGE, "x"], [True] * 2), (words, [True] * 5)]
    found = tagger.tag(sentences, [_shown()["red"], _shown()["noise"], None])
    assert found[1] == (Reason.CONTROL_CHARACTER, f"the text spells {IMAGE}, a control token of the model")
    assert all(isinstance(found[n], list) or found[n][0] is Reason.TAGGING_FAILED for n in (0, 2))


def test_a_run_with_pictures_accounts_for_each_row(folder: str, tmp_path: Path) -> None:
    """In vLLM itself, with a broken picture, a missing one and a caption that would spell one."""
    given = [{key: row[key] for key in ("id", "text", "photo", "kind")} for row in rows()[:8]]
    given[1]["photo"], given[2]["photo"], given[3]["photo"] = "cut.jpg", "nowhere.png", None
    given[4]["text"] = f"{IMAGE} Amazon"
    recipe = written(tmp_path / "in", given, image={}, output={"max_reject_rate": 1.0})
    (tmp_path / "in/cut.jpg").write_bytes(photo(320, 200)[:4000])
    recipe["tag"] = _section(folder)
    report = xner_ray.project(recipe, tmp_path / "run")
    table = parts(tmp_path / "run").to_pylist()
    assert len(table) == 8 and report["rows"]["read"] == 8
    assert table[4]["reason"] == "control_character"
    shown = [row["image_id"] is not None for row in table]
    assert [shown[n] for n in (1, 2, 3)] == [False] * 3 and all(shown[n] for n in (0, 4, 5, 6, 7))
    assert report["stages"]["tag"]["tokens"] > 0


def test_captions_are_written_as_a_column(folder: str, tmp_path: Path) -> None:
    """By the script as it stands; a random model ends hardly ever, so what it says is null, and counted."""
    given = [{"text": row["text"], "photo": row["photo"]} for row in rows()[:4]] + [{"text": "x", "photo": "../x.png"}]
    written(tmp_path, given)
    command = [sys.executable, str(JOBS / "caption.py"), str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    own = ["--model", folder, "--gpus", "0" if vllm.on_cpu() else "1", "--side", "64"]
    done = subprocess.run([*command, *own], capture_output=True, text=True, check=True)
    made = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in ("text", "photo")} for row in made] == given
    assert made[4]["caption"] is None and all(row["caption"] is None or row["caption"].strip() for row in made)
    counts = dict(part.rsplit(": ", 1) for part in done.stdout.splitlines()[-1].split(", "))
    assert counts.pop("image_refused") == "1" and sum(map(int, counts.values())) == 4
