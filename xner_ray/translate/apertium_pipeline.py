"""A pipeline of Apertium's programs, and the stream format that they speak."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from xner_ray.errors import FatalError

_SPECIAL = re.compile(r"[][\\^$/<>{}@]")
_NUMBER = re.compile(r"\[(\d+)\]")
_MARKUP = re.compile(r"\\(.)|\[(~?)[^]]*\]", re.DOTALL)
_CHUNK, _LONGEST = 1 << 16, 1 << 24


class BrokenError(Exception):
    """A pipeline that died, hangs (`hung`) or gives something else than its sentences' answers."""

    def __init__(self, message: str, hung: bool = False) -> None:
        super().__init__(message)
        self.hung = hung


class Pipeline:
    """The running programs of a mode, each reading from the one before: they end when the interpreter does."""

    def __init__(self, commands: Sequence[list[str]], environment: Mapping[str, str]) -> None:
        self.names = [command[0] for command in commands]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 -- their standard error; `close` closes it
        source: int | IO[bytes] | None = subprocess.PIPE
        for command in commands:
            try:
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
        """Append an answer for each text. BrokenError, after those that did come, if one does not."""
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
                    unsent = unsent[:0]  # answers that are under way may still come
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
        """What is known of a failure: programs that failed by themselves, and the end of standard error."""
        with suppress(subprocess.TimeoutExpired):
            self.processes[-1].wait(0.1)
        ended = zip(self.names, (process.poll() for process in self.processes), strict=True)
        failed = [f"{name} has status {status}" for name, status in ended if status not in (None, 0, -signal.SIGPIPE)]
        self.said.seek(0)
        said = self.said.read()[-500:].decode(errors="replace").split()
        return "".join(f"; {what}" for what in (*failed, " ".join(said)) if what)


def _encode(text: str, number: int) -> str:
    r"""One sentence of the stream format: a full stop that `_decode` takes away again, its number, NUL.

    Apertium's own reader of plain text adds the full stop too. Behind the last word there must be something, or the
    pipeline drops a full stop and answers only with the next sentence. Blanks in brackets come back as they are, and
    so must the tilde, which wakes the post-generator.

    >>> _encode("a/b ~c [d]", 7)
    'a\\/b [~]c \\[d\\].[7]\x00'
    """
    return _SPECIAL.sub(r"\\\g<0>", text).replace("~", "[~]") + f".[{number}]\0"


def _decode(answer: bytes, number: int) -> str | None:
    """The text again. None unless it answers the sentence of that number, and no other."""
    text = answer.decode(errors="replace")
    if _NUMBER.findall(text) != [str(number)]:
        return None
    return " ".join(_MARKUP.sub(r"\1\2", text.replace(f".[{number}]", "", 1)).split())
