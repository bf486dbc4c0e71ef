"""A rule-based translator: Apertium, through its installed programs.

Apertium is GPL: it runs as separate programs, and none of its code or data is here. A direction is a mode, a pipeline
of a dozen programs, which `_Program` finds and `Pipeline` runs. Every program flushes at the NUL after each sentence,
so that they work on different sentences at once. The script `apertium` cannot do that: in 3.8.3 it filters through
gawk, which holds all answers back until the input ends. So the pipeline is started here, without a shell, from what
`apertium-wblank-mode` prints.

A pipeline serves one call. Its tagger remembers classes of ambiguous words that it was not trained on, and reads later
sentences by them: about one sentence in fifty depends on those before it, which must therefore be the same whenever a
unit is computed. A start takes 0.17 s.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import IO

from xner_ray import interrupts
from xner_ray.data.languages import resolve as language_code
from xner_ray.errors import FatalError, Reason, RecipeError, RetryableError
from xner_ray.models.device import Timed
from xner_ray.recipe.sections import Directions, Resolved, Translating
from xner_ray.translate.base import Result, Translation

Direction = tuple[str, str]

TIMEOUT_S = 60.0  # a pipeline hangs if it neither takes nor gives a byte for so long
# Debian 12's pairs with English; from the fifth on, into English alone. Into hbs half the words are not translated.
DEBIAN = ("eng-spa", "eng-cat", "en-gl", "eo-en", "hbs-eng", "eu-en", "mkd-eng", "isl-eng")
_SEVERAL = {"hbs": ("bos_Latn", "hrv_Latn")}
_MODE = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")  # others are variants, as eng-cat_valencia, or do not translate
_SPECIAL = re.compile(r"[][\\^$/<>{}@]")
_NUMBER = re.compile(r"\[(\d+)\]")
_MARKUP = re.compile(r"\\(.)|\[(~?)[^]]*\]", re.DOTALL)
_CHUNK, _LONGEST = 1 << 16, 1 << 24


def resolve(section: Translating, key: str, directions: Directions) -> Resolved:
    """Identify program and data of each direction, so that a run can grow by further ones.

    RecipeError, with the section's `key`, if any of them is not installed.
    """
    try:
        program = _Program(list(directions.values()))
        modes = {lang: program.mode(direction) for lang, direction in directions.items()}
        return Resolved(
            section, {f"engine {lang}": f"{program.version}, {program.digest(mode)}" for lang, mode in modes.items()}
        )
    except RecipeError as error:
        raise RecipeError(f"{key}.engine: {error}") from None


class ApertiumTranslator(Timed):
    """A `Translator` that starts a pipeline in each call.

    If a pipeline dies, hangs or loses a sentence, the sentence without an answer is tried alone. If it passes, the call
    is repeated once. If it fails, it is a reject, and a new pipeline takes the sentences after it; but if a digit fails
    too, FatalError is raised, or RetryableError for a hang.
    """

    def __init__(self, section: Translating) -> None:
        self.timeout_s = TIMEOUT_S
        self.tokens = self.micro_batch_tokens = 0
        self.program = _Program()

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Result]:
        """Return one result a text, in order. White space becomes single spaces; Apertium has no score."""
        mode = self.program.mode((source, target))
        results: list[Result] = []
        sent: dict[int, str] = {}
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
        return results

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
                    raise kind(f"apertium {mode} fails for any text: {cause}")
                answers.append(broken)
        return answers

    def _exchange(self, mode: str, texts: Sequence[str]) -> tuple[list[str], BrokenError | None]:
        """Return a new pipeline's answers up to a failure, and the failure."""
        answers: list[str] = []
        with Pipeline(self.program.commands(mode), self.program.environment) as pipeline:
            try:
                pipeline.exchange(texts, answers, self.timeout_s)
            except BrokenError as broken:
                return answers, broken
        return answers, None


class _Program:
    """The installed `apertium`. RecipeError, with the command that installs `wanted`, if there is none."""

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
        """Return the programs of a mode's pipeline with their arguments; unknown words stay unmarked."""
        text = self._run("apertium-wblank-mode", "-z", str(self.data / "modes" / f"{mode}.mode"))
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.commenters, lexer.whitespace_split = "", True
        commands: list[list[str]] = [[]]
        for word in lexer:
            if word == "|":
                commands.append([])
            elif set(word) & set("|&;<>()`") or ("$" in word and word not in ("$1", "$2")):
                raise RecipeError(f"apertium's mode {mode} is not a plain pipeline: {word!r}")
            elif word != "$2":
                commands[-1].append("-n" if word == "$1" else word)
        for command in commands:
            if not command or shutil.which(command[0], path=self.path) is None:
                raise RecipeError(f"apertium's mode {mode} needs a program that is not installed: {command[:1]}")
        return commands

    def digest(self, mode: str) -> str:
        """Return the mode and a hash of its programs and data, so that another version has another identity."""
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
        return _SEVERAL.get(code) or (language_code(code),)
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


class BrokenError(Exception):
    """A pipeline died, hangs (`hung`), or gave something other than the answers to its sentences."""

    def __init__(self, message: str, hung: bool = False) -> None:
        super().__init__(message)
        self.hung = hung


class Pipeline:
    """The running programs of a mode, each reading from the one before; they end with the interpreter."""

    def __init__(self, commands: Sequence[list[str]], environment: Mapping[str, str]) -> None:
        self.names = [command[0] for command in commands]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 -- their standard error; `close` closes it
        source: int | IO[bytes] | None = subprocess.PIPE
        for command in commands:
            try:
                with interrupts.unblocked():
                    process = subprocess.Popen(
                        command,
                        bufsize=0,
                        stdin=source,
                        stdout=subprocess.PIPE,
                        stderr=self.said,
                        env=environment,
                        start_new_session=True,
                    )
            except OSError as error:
                self.close()
                raise FatalError(f"{command[0]} cannot be started: {error}") from error
            if source is not None and not isinstance(source, int):
                source.close()
            source = process.stdout
            self.processes.append(process)

    def exchange(self, texts: Sequence[str], answers: list[str], timeout_s: float) -> None:
        """Append the answers to the texts, in order; BrokenError if one is missing."""
        unsent = memoryview("".join(_encode(text, number) for number, text in enumerate(texts)).encode())
        rest = b""
        source, sink = self.processes[-1].stdout, self.processes[0].stdin
        assert source is not None and sink is not None
        os.set_blocking(sink.fileno(), False)
        poll = select.poll()
        poll.register(source, select.POLLIN)
        poll.register(sink, select.POLLOUT)
        while rest or len(answers) < len(texts):
            ready = dict(poll.poll(1000 * timeout_s))
            if not ready:
                raise BrokenError(f"no answer for {timeout_s:g} s{self._complaint()}", hung=True)
            if sink.fileno() in ready:
                try:
                    unsent = unsent[os.write(sink.fileno(), unsent[:_CHUNK]) :]
                except BrokenPipeError:
                    unsent = unsent[:0]  # answers may still come
                if not unsent:
                    poll.unregister(sink)
            if source.fileno() in ready:
                chunk = os.read(source.fileno(), _CHUNK)
                *ended, rest = (rest + chunk).split(b"\0")
                for answer in ended:
                    text = _decode(answer, len(answers))
                    if text is None:
                        raise BrokenError(f"not the answer to the sentence: {answer[:100]!r}{self._complaint()}")
                    answers.append(text)
                if not chunk or len(rest) > _LONGEST:
                    raise BrokenError(f"{'an endless answer' if chunk else 'a program ended'}{self._complaint()}")

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for file in (process.stdin, process.stdout):
                if file is not None:
                    file.close()
        self.said.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _complaint(self) -> str:
        """Describe a failure: the programs that failed, and the end of standard error."""
        with suppress(subprocess.TimeoutExpired):
            self.processes[-1].wait(0.1)
        ended = zip(self.names, (process.poll() for process in self.processes), strict=True)
        failed = [f"{name} has status {status}" for name, status in ended if status not in (None, 0, -signal.SIGPIPE)]
        self.said.seek(0)
        said = self.said.read()[-500:].decode(errors="replace").split()
        return "".join(f"; {what}" for what in (*failed, " ".join(said)) if what)


def _encode(text: str, number: int) -> str:
    r"""Return a sentence in the stream format: the text, a full stop that `_decode` removes again, its number, NUL.

    Apertium's own reader of plain text adds the full stop too. Without something after the last word, the pipeline
    drops a full stop and answers only with the next sentence. Text in brackets comes back unchanged; the tilde is put
    in brackets because it would start the post-generator.

    >>> _encode("a/b ~c [d]", 7)
    'a\\/b [~]c \\[d\\].[7]\x00'
    """
    return _SPECIAL.sub(r"\\\g<0>", text).replace("~", "[~]") + f".[{number}]\0"


def _decode(answer: bytes, number: int) -> str | None:
    """Return the text of an answer; None unless it answers the sentence of that number alone."""
    text = answer.decode(errors="replace")
    if _NUMBER.findall(text) != [str(number)]:
        return None
    return " ".join(_MARKUP.sub(r"\1\2", text.replace(f".[{number}]", "", 1)).split())
