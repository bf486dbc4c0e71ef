"""Fakes that implement the real contracts, for what a test is not about."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.align.encoder import Encoded, Level
from xner_ray.align.linking import Side
from xner_ray.data.arrow import ranges
from xner_ray.data.spans import Span
from xner_ray.errors import Reason
from xner_ray.models.kept import KeptStates
from xner_ray.models.vllm import Conversation, Reply
from xner_ray.translate.base import Translation


class FakeTranslator:
    """Reverses the words; text that holds "BOOM" is rejected."""

    model_seconds = 0.0

    def __init__(self) -> None:
        self.tokens = 0
        self.micro_batch_tokens = 64
        self.calls: list[tuple[list[str], str, str]] = []

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
        self.calls.append((list(texts), source, target))
        self.tokens += sum(len(text.split()) for text in texts)
        return [
            (Reason.TRANSLATION_TRUNCATED, "no end")
            if "BOOM" in text
            else Translation(" ".join(reversed(text.split())), -0.25)
            for text in texts
        ]


class FakeTagger:
    """Capitalised words are PER, words in capitals ORG."""

    labels: tuple[str, ...] = ("PER", "ORG")
    micro_batch_tokens = 0
    model_seconds = 0.0

    def __init__(self) -> None:
        self.tokens = 0

    def tag(self, sentences: Sequence[tuple[Sequence[str], Sequence[bool]]]) -> list[list[Span]]:
        self.tokens += sum(len(words) for words, _ in sentences)
        return [
            [
                Span(i, i + 1, "ORG" if word.isupper() and len(word) > 1 else "PER")
                for i, word in enumerate(words)
                if word[:1].isupper()
            ]
            for words, _ in sentences
        ]

    def probabilities(self, words: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """O, B-PER, I-PER, B-ORG, I-ORG."""
        result = []
        for sentence, spans in zip(words, self.tag([(s, []) for s in words]), strict=True):
            rows = np.zeros((len(sentence), 5), dtype=np.float32)
            rows[:, 0] = 1
            for span in spans:
                rows[span.start] = [0.25, 0, 0, 0, 0]
                rows[span.start, 2 * self.labels.index(span.label) + 1] = 0.75
            result.append(rows)
        return result


class FakeEncoder:
    """Equal words have equal vectors; "LONG" is a word longer than the model reads."""

    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 64
    device = "cpu"

    def __init__(self) -> None:
        self.kept = KeptStates(self.device)

    def encode(self, sentences: Sequence[Sequence[str]], level: Level = "word") -> Encoded:
        assert level == "word"
        self.tokens += sum(map(len, sentences))
        too_long = np.array(["LONG" in sentence for sentence in sentences], dtype=np.bool_)
        lengths = np.array([0 if "LONG" in sentence else len(sentence) for sentence in sentences], dtype=np.int64)
        read = [word for sentence in sentences if "LONG" not in sentence for word in sentence]
        vectors = torch.from_numpy(
            np.stack([_vector(word) for word in read]) if read else np.zeros((0, 16), np.float32)
        )
        side = Side(vectors, ranges(0, lengths), np.cumsum(lengths) - lengths, lengths)
        return Encoded(side, np.array(list(map(len, sentences)), dtype=np.int64), too_long)


def _vector(word: str) -> NDArray[np.float32]:
    seed = sum(ord(letter) * 31**place for place, letter in enumerate(word.lower())) % 2**32
    return np.random.default_rng(seed).normal(size=16).astype(np.float32)


class FakeChat:
    """Answers by a function of the text in the user's message; a word is a token, of log-probability -0.5."""

    model_seconds = 0.0

    def __init__(self, answer: Callable[[str], str | Reply]) -> None:
        self.answer, self.tokens = answer, 0
        self.calls: list[tuple[list[Conversation], list[int], Mapping[str, Any] | None]] = []

    def chat(
        self,
        conversations: Sequence[Conversation],
        max_tokens: Sequence[int],
        schema: Mapping[str, Any] | None = None,
    ) -> list[Reply]:
        self.calls.append((list(conversations), list(max_tokens), schema))
        replies = []
        for messages in conversations:
            reply = self.answer(messages[-1]["content"].split("\n", 1)[1])
            if isinstance(reply, str):
                reply = Reply(reply, "stop", -0.5, len(reply.split()))
            self.tokens += reply.n_tokens
            replies.append(reply)
        return replies
