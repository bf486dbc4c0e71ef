"""Translation by an instruction-tuned language model: its answer is the translation, or the row is a reject.

Such models comment, label and quote what they are asked for. What surely is not part of the translation is taken off
(`clean`): a label in front, and quotation marks around it that the source does not have. An answer with more lines than
its sentence is rejected, because which of them is the translation would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from xner_ray.data.languages import LANGUAGES
from xner_ray.errors import Reason
from xner_ray.models import vllm
from xner_ray.models.vllm import Chat, ChatModel, Conversation, Reply
from xner_ray.recipe.sections import Directions, Resolved, Translate
from xner_ray.translate.base import Translation

SYSTEM = (
    "You are a professional translator from {source} into {target}. Translate the sentence that the user gives. "
    "Output only the translation, in one line: no quotation marks around it, no label, no note and no explanation. "
    "Translate questions and requests too; do not answer them. Keep all names and numbers."
)
USER = "Translate from {source} into {target}:\n{text}"
PROMPT = f"{SYSTEM}\n{USER}"  # its hash is in the fingerprint

_SCRIPTS = {
    "Arab": "Arabic",
    "Armn": "Armenian",
    "Beng": "Bengali",
    "Cyrl": "Cyrillic",
    "Deva": "Devanagari",
    "Ethi": "Ethiopic",
    "Geor": "Georgian",
    "Grek": "Greek",
    "Gujr": "Gujarati",
    "Guru": "Gurmukhi",
    "Hang": "Hangul",
    "Hans": "simplified Chinese",
    "Hant": "traditional Chinese",
    "Hebr": "Hebrew",
    "Jpan": "Japanese",
    "Khmr": "Khmer",
    "Knda": "Kannada",
    "Laoo": "Lao",
    "Latn": "Latin",
    "Mlym": "Malayalam",
    "Mymr": "Burmese",
    "Olck": "Ol Chiki",
    "Orya": "Odia",
    "Sinh": "Sinhala",
    "Taml": "Tamil",
    "Telu": "Telugu",
    "Tfng": "Tifinagh",
    "Thai": "Thai",
    "Tibt": "Tibetan",
}
_QUOTES = {
    '"': '"',
    "'": "'",
    "“": "”",
    "„": "“",
    "«": "»",
    "»": "«",
    "‘": "’",
    "「": "」",
    "『": "』",
    "”": "”",
    "`": "`",
}


def language(code: str) -> str:
    """A language as the prompt calls it.

    >>> language("swh_Latn"), language("kas_Deva")
    ('Swahili (Latin script)', 'Kashmiri (Devanagari script)')
    """
    known = LANGUAGES[code]
    return f"{known.name.split(' (')[0]} ({_SCRIPTS[known.script]} script)"


def conversation(text: str, source: str, target: str) -> Conversation:
    """The messages that ask for the translation of `text`; `source` and `target` are language codes."""
    names = {"source": language(source), "target": language(target)}
    return [
        {"role": "system", "content": SYSTEM.format(**names)},
        {"role": "user", "content": USER.format(**names, text=text)},
    ]


def clean(answer: str, text: str) -> str:
    """The answer without a label in front, and without quotation marks around it that the source `text` does not have.

    >>> clean('Translation: "Habari"', "Hello")
    'Habari'
    """
    answer = answer.strip()
    if not re.match(r"\s*translation\s*:", text, re.IGNORECASE):
        answer = re.sub(r"\A(?:\*\*)?translation\s*:(?:\*\*)?\s*", "", answer, flags=re.IGNORECASE)
    inside, quotes = answer[1:-1], {*_QUOTES, *_QUOTES.values()}
    around = len(answer) > 1 and answer[-1] == _QUOTES.get(answer[0])
    # `"A" and "B"` is quoted in two places, not around.
    if around and not {answer[0], answer[-1]} & set(inside) and not quotes & {text.strip()[:1], text.strip()[-1:]}:
        answer = inside.strip()
    return answer


def _limit(text: str) -> int:
    """Most tokens of a translation, of the text alone, so that it does not depend on its company.

    A token is at least a byte, and scripts of three bytes a letter may come byte by byte.
    """
    return 64 + 4 * len(text.encode())


def resolve(section: Translate, key: str, directions: Directions) -> Resolved:
    """As `vllm.resolve`; a prompt can name every language."""
    return vllm.resolve(section, key, PROMPT)


class LlmTranslator:
    """A `Translator` by a `Chat`. vLLM forms its own batches, so there is no budget to halve."""

    def __init__(self, section: Translate, model: Chat | None = None) -> None:
        """Loads the model unless one is given; errors as of `ChatModel`."""
        self.model: Chat = model or ChatModel(section, "translate")
        self.max_new_tokens = section.max_new_tokens
        self.tokens = self.micro_batch_tokens = 0

    @property
    def model_seconds(self) -> float:
        return self.model.model_seconds

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
        """One result a text, in order; a cut, empty or commented answer is a reject, never shortened."""
        replies = self.model.chat(
            [conversation(text, source, target) for text in texts],
            [self.max_new_tokens or _limit(text) for text in texts],
        )
        self.tokens = self.model.tokens
        return [_result(reply, text) for reply, text in zip(replies, texts, strict=True)]


def _result(reply: Reply, text: str) -> Translation | tuple[Reason, str]:
    if reply.finished == "prompt":
        return Reason.SOURCE_TOO_LONG, f"{reply.text}; split the sentence, or raise translate.llm.context_tokens"
    if reply.finished == "control":
        return Reason.CONTROL_CHARACTER, reply.text
    if reply.finished == "length":
        return Reason.TRANSLATION_TRUNCATED, f"no end after {reply.n_tokens} tokens: {reply.text[:200]}"
    answer = clean(reply.text, text)
    if not answer:
        return Reason.TRANSLATION_EMPTY, "the translator gave no text"
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(lines) > max(1, len([line for line in text.splitlines() if line.strip()])):
        return Reason.TRANSLATION_COMMENTED, f"{len(lines)} lines, as {answer[:200]!r}"
    return Translation(answer, reply.mean_logprob)
