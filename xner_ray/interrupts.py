"""Ctrl-C and SIGTERM in the command line: at any moment one line, an exit status, and a folder that resumes.

The first signal raises KeyboardInterrupt in the main thread: locks, leases, Ray and the terminal are given back.
A thread watches what Python runs no handler for, such as a long call of a library: after `GRACE_S`, or at once when a
second signal says so, it ends the process as it stands, which resumes as well. Callers from Python keep their handlers.

SIGTERM is blocked in all threads, and another thread waits for it: while Ray starts and ends, its core has a handler of
its own, which prints stacks and may wait for a lock for ever. The main thread hears of it by a signal of our own.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

RESUMES = frozenset(
    ("project", "rematch", "combine", "sweep", "train", "cross-validate", "adapt", "loop", "reproduce", "push")
)
GRACE_S = 20.0  # for giving back what is held
_AGAIN_S = 1.0  # a second signal within this time is the same one, which came by two ways
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RAISE = signal.SIGRTMIN + 5  # to the main thread: raise, a signal has come

marks: set[str] = set()
"""Files that say that this process is at work, and must not outlive a process that is ended on purpose."""


_LAST_WORDS = """
import os, sys
sys.stdin.read()
if os.path.exists(sys.argv[1]):
    with open(sys.argv[1]) as mark:
        line = mark.read() or sys.argv[2]
    os.unlink(sys.argv[1])
    sys.stderr.write(("\\x1b[?25h\\n" if sys.stderr.isatty() else "") + line + "\\n")
"""


class _State:
    received: int | None = None  # the first signal, also one that a library's handler got
    raised = False
    lost = False  # the exception was raised where Python can only ignore it
    over = False  # the command has ended by itself
    mark: str | None = None  # of `last_words`
    said = False  # the line is written
    taken = False  # a thread waits for SIGTERM
    terminal = 2  # where the line goes; file 2 is silent once a signal has come


@contextmanager
def handled() -> Iterator[None]:
    """Take over both signals for the rest of the process, which the block is: its end is the command's."""
    try:
        _install()
        yield
    except SystemExit as end:
        if _State.received is None or end.code in (0, None):
            _finished()
            raise
        _end()
    except BaseException:  # what the interrupt has become on its way through libraries
        if _State.received is None:
            _finished()
            raise
        _end()
    else:
        _finished()


def came() -> bool:
    """Return True once a signal has come."""
    return _State.received is not None


def check() -> None:
    """Raise KeyboardInterrupt if a signal has come: for places that must not take an interrupt for a fault."""
    if came():
        raise KeyboardInterrupt


@contextmanager
def last_words(line: str) -> Iterator[None]:
    """Have a line said if this process ends inside the block with no chance to say one itself.

    Native code that ends the process, as Ray's does, and SIGKILL run nothing of ours. So a small process of its own
    waits for the end of a pipe, and looks whether a mark is still there by then. Once a signal has come, the mark holds
    the line of an interrupt in its place: Ctrl-C reaches Ray's processes too, and as they end, Ray may end this one.
    """
    descriptor, mark = tempfile.mkstemp(prefix="xner_ray-")
    marks.add(mark)
    _State.mark = mark
    command = [sys.executable, "-I", "-S", "-c", _LAST_WORDS, mark, line]
    waiting = None
    try:
        os.close(descriptor)
        with unblocked():  # of a session of its own, or Ctrl-C would end it first
            waiting = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(mark)
        marks.discard(mark)
        _State.mark = None
        if waiting is not None:
            waiting.kill()  # a forked process may hold the pipe
            waiting.communicate()


def block() -> None:
    """Block SIGTERM in this thread again, which Python's own modules may have undone, where another waits for it."""
    if _State.taken:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


@contextmanager
def unblocked() -> Iterator[None]:
    """Let SIGTERM through while a program is started, which would else never hear of one."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM} if _State.taken else ())
    try:
        yield
    finally:
        block()


def _install() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _State.terminal = os.dup(2)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(_RAISE, _interrupt)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and shells in the background want it
            signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGTERM) == _interrupt:
        _State.taken = True
        block()
        threading.Thread(target=_take, args=(writer,), daemon=True, name="xner_ray SIGTERM").start()
    sys.unraisablehook, sys.excepthook = _ignored, _uncaught
    os.register_at_fork(after_in_child=_in_child)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="xner_ray signals").start()


def _take(writer: int) -> None:
    """Pass on each SIGTERM, which comes to no handler."""
    while True:
        signal.sigwait({signal.SIGTERM})
        if _State.received is None:
            _State.received = signal.SIGTERM
        os.write(writer, bytes([signal.SIGTERM]))
        signal.pthread_kill(threading.main_thread().ident or 0, _RAISE)


def _interrupt(number: int, frame: Any) -> None:
    if not _State.raised or _State.lost:
        _State.received, _State.raised, _State.lost = _State.received or number, True, False
        _silence()  # libraries that are cut short have much to say
        raise KeyboardInterrupt


def _silence() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _uncaught(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    if _State.received is not None:
        _end()
    sys.__excepthook__(kind, error, traceback)


def _ignored(unraisable: Any) -> None:
    """Let the exception be raised again, soon and elsewhere, if it was lost in a callback or a destructor."""
    if _State.received is None:
        sys.__unraisablehook__(unraisable)
    elif issubclass(unraisable.exc_type, KeyboardInterrupt):
        _State.lost = True


def _watch(reader: int) -> None:
    number = 0
    while number not in _SIGNALS:
        number = os.read(reader, 1)[0]
    _State.received = number
    if (mark := _State.mark) is not None:
        with suppress(OSError), open(mark, "r+") as words:  # r+: it may be gone by now, and stays so
            words.write(_line())
    signal.alarm(0)  # by which Ray's core would abort us, if the signal met it before our handler was back
    first = sent = time.monotonic()
    while time.monotonic() < first + GRACE_S and not _State.over:
        if select.select([reader], [], [], 0.1)[0] and os.read(reader, 1)[0] in _SIGNALS:
            if time.monotonic() > first + _AGAIN_S:
                break
        # A call that begins to sleep just as the signal comes sleeps on, and its handler waits
        elif (_State.lost or not _State.raised) and time.monotonic() > sent + 0.1:
            sent = time.monotonic()
            signal.pthread_kill(threading.main_thread().ident or 0, _RAISE)
    if _State.over:
        return
    _say(number)
    for mark in tuple(marks):
        with suppress(OSError):
            os.unlink(mark)
    os._exit(128 + number)


def _say(number: int) -> None:
    if _State.said:
        return
    _State.said = True
    with suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")  # the cursor, which a progress bar hides
        os.write(_State.terminal, f"{_line()}\n".encode())


def _line() -> str:
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return "xner-ray: interrupted" + ("; the same command resumes" if command in RESUMES else "")


def _end() -> None:
    """Say the line and end the process; what libraries do at its end is done, and silent."""
    number = _State.received or signal.SIGINT
    for each in (*_SIGNALS, _RAISE):
        signal.signal(each, signal.SIG_IGN)
    _silence()
    with suppress(BaseException):
        sys.stdout.flush()
    _say(number)
    with suppress(BaseException):
        atexit._run_exitfuncs()
    os._exit(128 + number)


def _finished() -> None:
    """Leave the end of the process to Python; a signal comes too late from here on."""
    for number in (*_SIGNALS, _RAISE):
        signal.signal(number, signal.SIG_IGN)
    if _State.received is not None:
        os.dup2(_State.terminal, 2)
    _State.over = True


def _in_child() -> None:
    """Give a forked process the handlers that it would have without us."""
    signal.set_wakeup_fd(-1)
    _State.taken = False
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if signal.getsignal(signal.SIGINT) == _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) == _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
