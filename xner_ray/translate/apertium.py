"""Apertium, rule-based translation, through its installed programs.

Apertium is GPL: it runs as programs of its own, and none of its code or data is here. A direction is a mode, a
pipeline of a dozen programs. At the NUL after each sentence every program flushes, so that they work on different
sentences at once. The script `apertium` cannot do that: in 3.8.3 it filters through gawk, which holds all answers
back until the input ends. So the pipeline is started here, without a shell, as `apertium-wblank-mode` prints it.

It serves one call and no more. Its tagger remembers classes of ambiguous words that it was not trained on, and reads
later sentences by them: about one sentence in fifty depends on those before it, which must therefore be the same ones
whenever a unit is made. To start it takes 0.17 s.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

from xner_ray.errors import FatalError, Reason, RecipeError, RetryableError
from xner_ray.languages import resolve
from xner_ray.recall import Recall
from xner_ray.sections import Translating
from xner_ray.timing import Timed
from xner_ray.translate import Translation
from xner_ray.translate.apertium_pipeline import BrokenError, Pipeline

Direction = tuple[str, str]

TIMEOUT_S = 60.0  # a pipeline that neither takes nor gives a byte for so long hangs
# Debian 12's pairs with English; from the fifth on, into English only. Into hbs half the words stay as they are.
DEBIAN = ("eng-spa", "eng-cat", "en-gl", "eo-en", "hbs-eng", "eu-en", "mkd-eng", "isl-eng")
_SEVERAL = {"hbs": ("bos_Latn", "hrv_Latn")}
_MODE = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")  # others are variants, as eng-cat_valencia, or do not translate


def check(section: Translating, directions: Iterable[Direction], key: str = "translate") -> str:
    """The identity of program and data. RecipeError, with the section's `key`, if either is not installed."""
    try:
        program = _Program(wanted := list(directions))
        return ", ".join([program.version, *(program.digest(program.mode(direction)) for direction in wanted)])
    except RecipeError as error:
        raise RecipeError(f"{key}.engine: {error}") from None


class ApertiumTranslator(Timed):
    """Starts a pipeline a call.

    When a pipeline dies, hangs or loses a sentence, the sentence that it owed is tried alone. If that passes, all is
    done again. If it fails it is a reject, and a new pipeline goes on behind it; but if not even a digit passes,
    FatalError, or RetryableError for a hang.
    """

    def __init__(self, section: Translating) -> None:
        self.timeout_s = TIMEOUT_S
        self.tokens = self.micro_batch_tokens = 0
        self.recall = Recall()  # the tagger of the pipeline remembers earlier sentences
        self.program = _Program()

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
        """One result a text, in order. White space comes back as single spaces; Apertium has no score."""
        mode = self.program.mode((source, target))
        results: list[Translation | tuple[Reason, str]] = []
        sent: dict[int, str] = {}
        texts, present = self.recall.complete(texts)
        for text in texts:
            results.append((Reason.TRANSLATION_EMPTY, "no word to translate"))
            if "\0" in text:
                results[-1] = (Reason.CONTROL_CHARACTER, "NUL ends a sentence for Apertium")
            elif any("\ud800" <= character <= "\udfff" for character in text):
                results[-1] = (Reason.BAD_UTF8, "half a surrogate pair")
            elif words := unicodedata.normalize("NFC", text).split():  # as the dictionaries are
                sent[len(results) - 1] = " ".join(words)
                self.tokens += len(words)
        with self.in_model():  # its program starts with each call
            answers = self._answers(mode, list(sent.values()))
        for index, answer in zip(sent, answers, strict=True):
            if isinstance(answer, BrokenError):
                results[index] = (Reason.STAGE_ERROR, f"translate: {answer}"[:1000])
            elif answer:
                results[index] = Translation(answer, None)
            else:
                results[index] = (Reason.TRANSLATION_EMPTY, "the translator gave no text")
        return [result for result, here in zip(results, present, strict=True) if here]

    def _answers(self, mode: str, texts: list[str]) -> list[str | BrokenError]:
        answers: list[str | BrokenError] = []
        again = True
        while (start := len(answers)) < len(texts):
            got, broken = self._exchange(mode, texts[start:])
            answers += got
            if broken is None or len(answers) == len(texts):
                continue
            alone, broken = self._exchange(mode, [texts[len(answers)]])
            if alone and again:
                again = False
                del answers[start:]
            elif alone or broken is None:
                answers += alone
            else:
                digit, cause = self._exchange(mode, ["1"])
                if cause is not None and not digit:
                    kind = RetryableError if cause.hung else FatalError
                    raise kind(f"apertium {mode} fails whatever the text is: {cause}")
                answers.append(broken)
        return answers

    def _exchange(self, mode: str, texts: Sequence[str]) -> tuple[list[str], BrokenError | None]:
        """A new pipeline's answers up to a failure, and the failure."""
        answers: list[str] = []
        with Pipeline(self.program.commands(mode), self.program.environment) as pipeline:
            try:
                pipeline.exchange(texts, answers, self.timeout_s)
            except BrokenError as broken:
                return answers, broken
        return answers, None


class _Program:
    """The installed `apertium`. RecipeError, with the install line for `wanted`, if there is none."""

    def __init__(self, wanted: Sequence[Direction] = ()) -> None:
        found = shutil.which("apertium")
        if found is None:
            raise RecipeError(f"apertium is not installed. {_install(wanted or [('eng_Latn', 'spa_Latn')])}")
        folder = Path(found).resolve().parent
        self.data = Path(os.environ.get("APERTIUM_DATADIR") or folder.parent / "share" / "apertium")
        self.path = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self.environment = {"PATH": self.path, "LC_ALL": "C.UTF-8", "APERTIUM_DATADIR": str(self.data)}
        self.version = self._run("apertium", "-V").strip()
        self.modes: dict[Direction, str] = {}
        for name in sorted(self._run("apertium", "-l").split(), key=len):  # eng-spa after its old name en-es
            if (match := _MODE.fullmatch(name)) and match[2] not in _SEVERAL:
                self.modes |= dict.fromkeys(product(_languages(match[1]), _languages(match[2])), name)

    def mode(self, direction: Direction) -> str:
        if direction in self.modes:
            return self.modes[direction]
        served = ", ".join(f"{a} to {b}" for a, b in sorted(self.modes)) or "none"
        raise RecipeError(
            f"apertium has no mode from {direction[0]} to {direction[1]}; installed in {self.data}: {served}. "
            f"{_install([direction])}"
        )

    def commands(self, mode: str) -> list[list[str]]:
        """The programs of a mode's pipeline with their arguments; unknown words stay unmarked."""
        text = self._run("apertium-wblank-mode", "-z", str(self.data / "modes" / f"{mode}.mode"))
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.commenters, lexer.whitespace_split = "", True
        commands: list[list[str]] = [[]]
        for word in lexer:
            if word == "|":
                commands.append([])
            elif set(word) & set("|&;<>()`") or ("$" in word and word not in ("$1", "$2")):
                raise RecipeError(f"apertium's mode {mode} is no plain pipeline: {word!r}")
            elif word != "$2":
                commands[-1].append("-n" if word == "$1" else word)
        for command in commands:
            if not command or shutil.which(command[0], path=self.path) is None:
                raise RecipeError(f"apertium's mode {mode} needs a program that is not installed: {command[:1]}")
        return commands

    def digest(self, mode: str) -> str:
        """Mode and hash of its programs and data, so that another version of any has another identity."""
        content = hashlib.sha256()
        for command in self.commands(mode):
            for word in (shutil.which(command[0], path=self.path) or "", *command[1:]):
                content.update(Path(word).read_bytes() if Path(word).is_file() else word.encode())
        return f"{mode} {content.hexdigest()[:16]}"

    def _run(self, *command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, env=self.environment, timeout=TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise RecipeError(f"{error}; Apertium 3.8 or newer is needed. {_install([])}") from error
        return done.stdout.decode(errors="replace")


def _languages(code: str) -> tuple[str, ...]:
    with suppress(RecipeError):
        return _SEVERAL.get(code) or (resolve(code),)
    return ()


def _install(wanted: Iterable[Direction]) -> str:
    packages, unknown = ["apertium"], []
    for direction in wanted:
        for pair in DEBIAN:
            sides = [_languages(code) for code in pair.split("-")]
            if direction in product(*sides) or (pair in DEBIAN[:4] and direction in product(*sides[::-1])):
                packages += {f"apertium-{pair}"} - set(packages)
                break
        else:
            unknown.append(" to ".join(direction))
    if unknown and len(packages) == 1:
        return f"No Debian package is known for {', '.join(unknown)}; choose another translate engine"
    return f"Install it: apt-get install --no-install-recommends {' '.join(packages)}"
