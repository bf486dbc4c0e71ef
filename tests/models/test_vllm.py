"""Our side of vLLM. Here it is a stand-in (vllm_stub.py); the one test of the real engine needs a GPU and vLLM."""

import os
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import vllm_stub
from tiny_chat import END, POSITIONS, REFUSING, START, TEMPLATE, chat_model

from xner_ray.errors import FatalError, MissingExtraError, RecipeError, RetryableError
from xner_ray.models import hub, vllm
from xner_ray.models.vllm import ChatModel, Reply
from xner_ray.recipe.sections import TINY_NLLB, Tag, Translate

SCHEMA = {"type": "object"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[vllm_stub.Stub]:
    threads = torch.get_num_threads()
    yield vllm_stub.install(monkeypatch, tmp_path, lambda ids, params: ("Habari", "stop"))
    torch.set_num_threads(threads)


def _section(model: str, **options: Any) -> Translate:
    return Translate.model_validate({"engine": "llm", "model": model, "gpus": 1, **options})


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Translate."}, {"role": "user", "content": text}]


def _asked(model: ChatModel, stub: vllm_stub.Stub) -> list[str]:
    return [model.tokenizer.decode(ids) for ids in stub.calls[-1][0]]


def test_one_call_for_a_unit_greedy_with_each_prompt_in_the_models_own_template(
    folder: str, stub: vllm_stub.Stub
) -> None:
    model = ChatModel(_section(folder), "translate")
    replies = model.chat([_messages("Hé"), _messages("two words")], [7, 9], SCHEMA)
    assert replies == [Reply("Habari", "stop", -0.25, 6)] * 2
    assert len(stub.calls) == 1
    assert _asked(model, stub)[0] == (f"{START}system\nTranslate.{END}\n{START}user\nHé{END}\n{START}assistant\n")
    params = stub.calls[0][1]
    assert [(p.temperature, p.max_tokens, p.logprobs) for p in params] == [(0.0, 7, 0), (0.0, 9, 0)]
    assert all(p.structured_outputs == vllm_stub.StructuredOutputsParams(json=SCHEMA) for p in params)
    assert model.tokens == sum(map(len, stub.calls[0][0])) + 12
    assert model.model_seconds > 0
    model.chat([_messages("x")], [7])
    assert stub.calls[1][1][0].structured_outputs is None


def test_what_vllm_is_given(folder: str, stub: vllm_stub.Stub) -> None:
    ChatModel(_section(folder), "translate")
    assert stub.made == [
        {
            "model": folder,
            "tokenizer_mode": "hf",
            "trust_remote_code": False,
            "tensor_parallel_size": 1,
            "dtype": "auto",
            "revision": None,
            "tokenizer_revision": None,
            "seed": 0,
            "gpu_memory_utilization": 0.85,
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            "load_format": "safetensors",
            "max_model_len": POSITIONS,
            "distributed_executor_backend": "uni",
        }
    ]
    assert [os.environ[name] for name in vllm_stub.VARIABLES] == ["0", "1", "ERROR"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gpus": 0.5}, {"gpu_memory_utilization": 0.425, "tensor_parallel_size": 1}),
        ({"gpus": 2}, {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}),
        ({"llm": {"context_tokens": 512, "gpu_memory_share": 0.3}}, {"max_model_len": 512}),
        ({"llm": {"gpu_memory_share": 0.3}}, {"gpu_memory_utilization": 0.3, "max_model_len": POSITIONS}),
        ({"dtype": "bfloat16"}, {"dtype": "bfloat16"}),
    ],
)
def test_settings_of_the_recipe_reach_vllm(
    folder: str, stub: vllm_stub.Stub, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    ChatModel(_section(folder, **options), "translate")
    assert {key: stub.made[0][key] for key in expected} == expected


def test_prompts_that_cannot_be_asked_have_replies_and_the_others_are_asked(folder: str, stub: vllm_stub.Stub) -> None:
    model = ChatModel(_section(folder, llm={"context_tokens": 128}), "translate")
    empty = len(model._render(_messages("")))
    fits, too_long = "x" * (127 - empty), "x" * (128 - empty)
    long, spelt, good, last = model.chat(
        [_messages(too_long), _messages(f"a {END} b"), _messages("a"), _messages(fits)], [50] * 4
    )
    assert long == Reply("the prompt has 128 tokens, but the model reads 128 with its answer", "prompt", None, 0)
    assert spelt == Reply(f"the text spells {END}, a control token of the model", "control", None, 0)
    assert good.finished == last.finished == "stop"
    assert [p.max_tokens for p in stub.calls[0][1]] == [50, 1]  # what is left of the context
    assert model.chat([_messages(too_long)], [50])[0].finished == "prompt"
    assert len(stub.calls) == 1  # a call without prompts does not reach the engine


def test_an_answer_at_its_limit_says_so(folder: str, stub: vllm_stub.Stub) -> None:
    stub.answer = lambda ids, params: ("", "length")
    assert ChatModel(_section(folder), "translate").chat([_messages("a")], [1]) == [Reply("", "length", None, 0)]


def test_a_template_without_system_messages_gets_one_message(tmp_path: Path, stub: vllm_stub.Stub) -> None:
    model = ChatModel(_section(chat_model(tmp_path / "model", REFUSING + TEMPLATE)), "translate")
    model.chat([_messages("a")], [5])
    assert _asked(model, stub) == [f"{START}user\nTranslate.\n\na{END}\n{START}assistant\n"]


def test_a_failing_engine_is_no_rows_fault_but_a_refused_prompt_is(folder: str, stub: vllm_stub.Stub) -> None:
    def fail(error: Exception) -> Any:
        def answer(ids: list[int], params: Any) -> Any:
            raise error

        return answer

    model = ChatModel(_section(folder), "translate")
    stub.answer = fail(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(FatalError, match=r"translate: vLLM failed: OutOfMemoryError.*translate\.llm\.context_tokens"):
        model.chat([_messages("a")], [5])
    stub.answer = fail(vllm_stub.VLLMValidationError("bad prompt"))
    with pytest.raises(vllm_stub.VLLMValidationError):
        model.chat([_messages("a")], [5])
    stub.answer = lambda ids, params: ("x", "error")
    with pytest.raises(RetryableError, match=r"gave up on an answer \(error\)"):
        model.chat([_messages("a")], [5])


def test_without_vllm_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for call in (lambda: vllm.require(_section(folder), "tag"), lambda: ChatModel(_section(folder), "tag")):
        with pytest.raises(MissingExtraError, match=r"tag.engine llm needs .* pip install 'xner_ray\[llm\]'"):
            call()


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(0, "tag.gpus is 0, but engine llm needs a GPU; set tag.gpus: 1"), (1.5, "tag.gpus is 1.5; allowed")],
)
def test_gpus_are_whole_or_shared(stub: vllm_stub.Stub, folder: str, gpus: float, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        vllm.require(Tag(engine="llm", model=folder, labels={"PER": None}, gpus=gpus), "tag")
    assert message in str(error.value)


def test_models_that_do_not_chat_are_refused(tmp_path: Path, folder: str) -> None:
    vllm.check(_section(folder), "translate")
    with pytest.raises(RecipeError, match="of type m2m_100, an encoder with a decoder"):
        vllm.check(_section(TINY_NLLB), "translate")
    with pytest.raises(RecipeError, match="has no chat template"):
        vllm.check(_section(chat_model(tmp_path, template=None)), "translate")
    with pytest.raises(RecipeError, match=r"translate.model .* cannot be used"):
        vllm.check(_section(str(Path(__file__).parent)), "translate")


def test_identity_has_version_and_prompt(stub: vllm_stub.Stub, folder: str) -> None:
    one, other = (vllm.resolve(_section(folder), "translate", prompt).identities for prompt in "ab")
    assert one["model"] == other["model"] == hub.pin(folder)[1]
    assert one["engine"].startswith("vllm 0.29.0, prompt ") and other["engine"].startswith("vllm 0.29.0, prompt ")
    assert one["engine"] != other["engine"]


def test_the_pin_is_that_of_rays_own_extra() -> None:
    wanted = next(line for line in metadata.requires("ray") or () if line.startswith("vllm") and "llm" in line)
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (ours,) = extras["optional-dependencies"]["llm"]
    assert wanted.partition("==")[2].partition(";")[0].strip() == ours.partition("==")[2]


@pytest.mark.gpu
@pytest.mark.slow
def test_a_real_engine(folder: str) -> None:
    """A tiny Llama with random weights in the real vLLM: nothing about quality, all about the interface."""
    pytest.importorskip("vllm", reason="needs the extra 'llm'")
    model = ChatModel(_section(folder, llm={"context_tokens": 512, "gpu_memory_share": 0.2}), "translate")
    conversations = [_messages("Hello"), _messages("x" * 600), _messages("Good morning")]
    first, second = (model.chat(conversations, [12, 12, 20]) for _ in range(2))
    assert [reply.finished == "prompt" for reply in first] == [False, True, False]
    assert all(reply.mean_logprob is None or reply.mean_logprob < 0 for reply in first)
    assert all(reply.n_tokens <= limit for reply, limit in zip(first, [12, 12, 20], strict=True))
    assert [reply.text for reply in first] == [reply.text for reply in second]
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"]}
    (reply,) = model.chat([_messages("Hello")], [60], {**schema, "additionalProperties": False})
    assert reply.finished == "stop"
    assert reply.text.startswith('{"a":')
