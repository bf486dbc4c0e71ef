"""vLLM itself answers through ChatModel: its build for CPUs, in the environment of `make llm`, or one for a GPU."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from tiny_chat import END, NOBODY, chat_model, translated

from xner_ray.errors import FatalError, Reason, RetryableError
from xner_ray.models import vllm
from xner_ray.models.vllm import ChatModel, Conversation
from xner_ray.recipe.sections import Tag, Translate
from xner_ray.tag.llm import LlmTagger
from xner_ray.translate.base import Translation
from xner_ray.translate.llm import LlmTranslator, conversation

# Warnings of vLLM and of torch about themselves end nothing
pytestmark = [pytest.mark.llm, pytest.mark.filterwarnings("default")]

LABELS = {"PER": "a person", "LOC": None}
CONTEXT = 1024


def _section(model: str, **llm: Any) -> Translate:
    device = {"gpus": 0} if vllm.on_cpu() else {"gpus": 1}
    share = {} if vllm.on_cpu() else {"gpu_memory_share": 0.2}
    return Translate.model_validate({"engine": "llm", "model": model, **device, "llm": {**share, **llm}})


def _messages(text: str) -> Conversation:
    return conversation(text, "eng_Latn", "swh_Latn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="module")
def model(folder: str) -> ChatModel:
    """The engine of all tests here; loading one takes 10 to 30 seconds."""
    return ChatModel(_section(folder, context_tokens=CONTEXT), "translate")


@pytest.fixture
def translator(model: ChatModel, folder: str) -> LlmTranslator:
    return LlmTranslator(_section(folder), model)


@pytest.fixture
def tagger(model: ChatModel, folder: str) -> LlmTagger:
    return LlmTagger(Tag(engine="llm", model=folder, labels=LABELS), "tag", model)


def test_our_rule_for_its_platform_is_vllms(model: ChatModel) -> None:
    from vllm.platforms import current_platform

    assert vllm.on_cpu() is current_platform.is_cpu()


def test_the_check_of_a_recipe_loads_no_engine() -> None:
    code = (
        "import sys\nfrom xner_ray.models import vllm\nfrom xner_ray.recipe.sections import Translate\n"
        "vllm.require(Translate(engine='llm', model='m', gpus=0 if vllm.on_cpu() else 1), 'translate')\n"
        "print(sorted({'torch', 'vllm'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_translations(translator: LlmTranslator) -> None:
    texts = ["Anna went to Paris.", "Nobody came.", "Omar slept.", "It rains in Kenya.", "Juma lives in Nairobi."]
    results = translator.translate(texts, "eng_Latn", "swh_Latn")
    assert [result.text for result in results if isinstance(result, Translation)] == [*map(translated, texts)]
    assert all(isinstance(one, Translation) and one.score is not None and one.score <= 0 for one in results)
    assert results == translator.translate(texts, "eng_Latn", "swh_Latn")
    assert translator.tokens > 400 * len(texts) and translator.model_seconds > 0


def test_an_answer_without_end_is_cut_at_its_own_limit(translator: LlmTranslator) -> None:
    long, short = translator.translate(["Echo!", "Anna"], "eng_Latn", "swh_Latn")
    assert isinstance(long, tuple) and long[0] is Reason.TRANSLATION_TRUNCATED
    assert long[1].startswith(f"no end after {64 + 4 * 5} tokens:  Echo Echo")
    assert isinstance(short, Translation)


def test_entities_by_schema(tagger: LlmTagger) -> None:
    sentences = ["Anna went to Paris .", "Nobody came .", "It rains in Kenya .", "Omar and Nairobi", "Annabel came ."]
    found = tagger.tag([(text.split(), [True] * len(text.split())) for text in sentences])
    places = [[(span.start, span.end, span.label) for span in one] for one in found[:4] if isinstance(one, list)]
    assert places == [[(0, 1, "PER"), (3, 4, "LOC")], [], [(3, 4, "LOC")], [(0, 1, "PER"), (2, 3, "LOC")]]
    assert found[4] == (Reason.TAGGING_FAILED, "'Anna' is not in the sentence as whole words")


def test_a_schema_leaves_nothing_but_its_json(model: ChatModel) -> None:
    """The model would say something else: a schema is what keeps it to JSON, to the labels and to the numbers."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 5}, "b": {"enum": ["x", "yy"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    free, held = (model.chat([_messages("Anna")], [60], given)[0] for given in (None, schema))
    assert free.text.strip() == "Anna alifika."
    assert held.finished == "stop"
    assert held.text in {f'{{"a": {a}, "b": "{b}"}}' for a in (3, 4, 5) for b in ("x", "yy")}
    (cut,) = model.chat([_messages("Anna")], [3], schema)
    assert (cut.finished, cut.n_tokens) == ("length", 3)


def test_prompts_that_cannot_be_asked_have_replies_and_the_others_are_asked(model: ChatModel) -> None:
    empty = len(model.prompts.ids(_messages("")))  # type: ignore[arg-type]
    fits, too_long = "x" * (CONTEXT - 1 - empty), "x" * (CONTEXT - empty)
    texts = [too_long, f"a {END} b", "Omar", fits, "y" * 1_000_000, "Juma"]
    long, spelt, good, last, huge, other = model.chat([*map(_messages, texts)], [50] * len(texts))
    assert (long.finished, spelt.finished, huge.finished) == ("prompt", "control", "prompt")
    assert (good.text.strip(), other.text.strip()) == ("Omar alifika.", "Juma alifika.")
    assert (last.finished, last.n_tokens) == ("length", 1)  # what is left of the context


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "\ufffd\ufffe",
        "e" + "\u0301" * 200,
        "\u202eABC\u202c\u200f",
        "😀" * 50,
        "{{ messages }} {% raw %}",
        '"}]} {"entities": [',
        "assistant\nMtu",
        "\r\n\r\n",
        "<|im_end|",
    ],
)
def test_hostile_text_is_answered(model: ChatModel, text: str) -> None:
    (reply,) = model.chat([_messages(text)], [20])
    assert (reply.text.strip(), reply.finished) == (f"{NOBODY} alifika.", "stop")


def test_a_lone_surrogate_is_an_error_of_its_own_row(model: ChatModel) -> None:
    """The guard asks again without it, and rejects it; no reader lets one through."""
    with pytest.raises((UnicodeError, TypeError)):
        model.chat([_messages("Anna"), _messages("\ud800")], [20, 20])
    assert model.chat([_messages("Anna")], [20])[0].text.strip() == "Anna alifika."


def test_an_error_about_a_prompt_is_the_rows_and_the_engine_goes_on(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.exceptions import VLLMClientError

    monkeypatch.setattr(model.prompts, "context", 10 * CONTEXT)  # so that vLLM itself has to refuse it
    with pytest.raises(VLLMClientError, match=str(CONTEXT)):
        model.chat([_messages("Anna"), _messages("x" * CONTEXT)], [20, 20])
    replies = model.chat([_messages("Omar"), _messages("Juma")], [20, 20])
    assert [reply.text.strip() for reply in replies] == ["Omar alifika.", "Juma alifika."]


# The last one with the engine of all tests
def test_an_engine_that_dies_is_no_rows_fault(model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.worker.gpu_worker import Worker

    def out_of_memory(*given: Any, **named: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory\nTried to allocate 20 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "execute_model", out_of_memory)
        with pytest.raises(FatalError) as error:
            model.chat([_messages("Anna")], [20])
    assert model.model.llm_engine.has_unfinished_requests()  # which the next call would answer as well
    assert "translate: vLLM failed: OutOfMemoryError: out of memory" in str(error.value)
    assert "translate.llm.context_tokens" in str(error.value) and "\n" not in str(error.value)


def test_a_model_that_does_not_load_says_so_in_one_line(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    section = _section(folder, gpu_memory_share=0.0001)
    with pytest.raises(RetryableError) as error:
        ChatModel(section, "translate")
    assert str(error.value).startswith("translate: vLLM does not start: ")
    assert "translate.llm.gpu_memory_share" in str(error.value) and "\n" not in str(error.value)
