"""Ctrl-C and SIGTERM at any moment of a command: one line, the exit status, and a folder that resumes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from given_files import write_recipe, write_sentences
from published import digests

import xner_ray
from xner_ray import cli, interrupts

SAID = "xner-ray: interrupted"
RESUMES = f"{SAID}; the same command resumes\n"
# Tests may have been started in the background of a shell, where Ctrl-C is ignored
_BEGIN = "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler); "


def _start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start Python in a process group of its own, and wait until it says a line."""
    command = [sys.executable, "-c", _BEGIN + code, *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, start_new_session=True, **pipes)
    assert started.stdout is not None and started.stderr is not None
    assert started.stdout.readline() == "began\n", started.stderr.read()
    return started


def _ended(code: str, *signals: int, command: Sequence[str] = ("project",)) -> tuple[int, str]:
    """Send signals to a block of the command line, given as code; return the exit status and what it said.

    The code calls `wait()` where the signals are to come.
    """
    body = "".join(f"\n    {line}" for line in code.splitlines())
    wait = "def wait():\n    print('began', flush=True)\n    time.sleep(60)"
    block = f"from xner_ray import interrupts\n{wait}\nwith interrupts.handled():{body}"
    started = _start("\n" + block, *command)
    for number in signals:
        os.killpg(started.pid, number)
        time.sleep(1.2 * (number != signals[-1]))  # the same signal by two ways comes sooner
    _, err = started.communicate(timeout=60)
    return started.returncode, err


def test_what_resumes_says_so_when_it_is_interrupted() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    said = {name for name, command in commands.items() if "The same command resumes" in (command.help or "")}
    assert said >= {"project", "train", "push"}
    assert said <= interrupts.RESUMES <= set(commands)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_line_and_the_status(number: int, status: int) -> None:
    assert _ended("wait()", number) == (status, RESUMES)
    assert _ended("wait()", number, command=["status", "RUN"]) == (status, f"{SAID}\n")


@pytest.mark.parametrize(
    "code",
    [
        "try: wait()\nfinally: raise RuntimeError('of the interrupt')",
        "try: wait()\nexcept BaseException: sys.exit(1)",
        "try: wait()\nfinally: print('noise of a library', file=sys.stderr)",
        "import atexit; atexit.register(lambda: 1 / 0)\nwait()",
        "import threading; threading.Thread(target=time.sleep, args=(60,)).start()\nwait()",
        "class Lost:\n    def __del__(self): wait()\nlost = Lost()\ndel lost\ntime.sleep(60)",
        "try: wait()\nexcept Exception: pass",
    ],
    ids=["another error", "an exit", "noise", "atexit", "a thread", "a destructor", "except"],
)
def test_whatever_becomes_of_the_interrupt(code: str) -> None:
    assert _ended(code, signal.SIGINT) == (130, RESUMES)


@pytest.mark.slow
def test_a_second_signal_and_patience_end_what_does_not_listen(tmp_path: Path) -> None:
    deaf = "interrupts.marks.add(sys.argv[2])\nwhile True:\n    try: wait()\n    except BaseException: pass"
    for hurry in (f"interrupts.GRACE_S = 0.5\n{deaf}", deaf):
        mark = tmp_path / "mark"
        mark.touch()
        sent = [signal.SIGINT] * (2 if hurry == deaf else 1)
        assert _ended(hurry, *sent, command=["project", str(mark)]) == (130, RESUMES)
        assert not mark.exists(), "an interrupt is no death of a unit"


def test_what_ends_by_itself_is_not_interrupted() -> None:
    code = "try: wait()\nexcept KeyboardInterrupt: print('all is well', file=sys.__stdout__)"
    assert _ended(code, signal.SIGTERM) == (0, "")
    began = "print('began', flush=True)"
    assert _ended(f"{began}; sys.exit(3)") == (3, "")
    status, err = _ended(f"{began}; 1 / 0")
    assert status == 1 and err.endswith("ZeroDivisionError: division by zero\n")


def test_a_signal_that_comes_just_before_a_sleep_is_heard() -> None:
    """The handler has been told, and the call that holds the main thread was not interrupted: it is told again."""
    deaf = "first = {signal.SIGTERM, interrupts._RAISE}\nsignal.pthread_sigmask(signal.SIG_BLOCK, first)"
    late = "print('began', flush=True)\ntime.sleep(0.5)"
    hears = (
        "signal.sigtimedwait({interrupts._RAISE}, 5)\nsignal.pthread_sigmask(signal.SIG_UNBLOCK, {interrupts._RAISE})"
    )
    started = time.monotonic()
    assert _ended(f"{deaf}\n{late}\n{hears}\ntime.sleep(60)", signal.SIGTERM)[0] == 143
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("os._exit(1)", 1, "last words\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "last words\n"),
        ("raise SystemExit(3)", 3, ""),
        ("pass", 0, ""),
    ],
)
def test_last_words_of_a_process_that_is_ended_by_native_code(end: str, status: int, said: str, tmp_path: Path) -> None:
    block = f"from xner_ray import interrupts\nwith interrupts.last_words('last words'):\n    {end}"
    command = [sys.executable, "-c", f"import os, signal\n{block}"]
    ended = subprocess.run(command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (status, said)
    assert not list(tmp_path.iterdir())


def test_native_code_that_ends_an_interrupted_process_leaves_the_line_of_an_interrupt() -> None:
    code = "with interrupts.last_words('last words'):\n    try:\n        wait()\n    except KeyboardInterrupt:\n"
    assert _ended(code + "        time.sleep(0.3)\n        os._exit(1)", signal.SIGINT) == (1, RESUMES)


def test_last_words_are_not_said_of_an_interrupt() -> None:
    code = "with interrupts.last_words('last words'):\n    try:\n        wait()\n    except KeyboardInterrupt:\n"
    code += "        while True:\n            try: time.sleep(60)\n            except KeyboardInterrupt: pass"
    assert _ended(code, signal.SIGTERM, signal.SIGTERM) == (143, RESUMES)


def test_a_fork_and_a_caller_from_python_have_their_own_handlers() -> None:
    code = (
        "print('began', flush=True)\n"
        "if (child := os.fork()) == 0: os._exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)\n"
        "sys.exit(os.waitpid(child, 0)[1])"
    )
    assert _ended(code) == (0, "")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert xner_ray.plan is not None
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def _recipe(folder: Path, executor: str) -> Path:
    write_sentences(folder, 60)
    engine = {"unit_rows": 5, "executor": executor}
    return write_recipe(folder / "recipe.yaml", output={"rows_per_file": 20}, engine=engine)


def _after_begin(err: str) -> str:
    """Return what a command says behind its first line, which names it."""
    return re.sub(r"\Aproject .* \.\.\.\n", "", err)


def _moments(folder: Path, executor: str, numbers: Sequence[int], seed: int) -> None:
    """Send each signal at a random moment to a run of its own, and resume it."""
    main = "from xner_ray.__main__ import main; print('began', flush=True); main()"
    recipe = str(_recipe(folder, executor))
    started = time.monotonic()
    whole = _start(main, "project", recipe, str(folder / "whole"))
    assert (_after_begin(whole.communicate()[1]), whole.returncode) == ("", 0)
    duration = time.monotonic() - started
    expected, rng, interrupted = digests(folder / "whole"), random.Random(seed), 0
    print(f"seed {seed}, {duration:.1f} s on {executor}")
    waiting = list(numbers)
    for _ in range(10 * len(numbers)):
        if not waiting:
            break
        number, begun = waiting[0], time.monotonic()
        after, run = rng.uniform(0.02, duration), folder / f"{number}-{rng.random()}"
        driver = _start(main, "project", recipe, str(run))
        time.sleep(after)
        if driver.poll() is None and number == signal.SIGINT:
            os.killpg(driver.pid, number)  # as a terminal does
        elif driver.poll() is None:
            driver.send_signal(number)
        err = _after_begin(driver.communicate(timeout=60)[1])
        ended = driver.returncode, err
        # 1: Ctrl-C reaches Ray's processes too, and Ray's core, which misses them, may end this one before we do
        statuses = [128 + number, *([1] if executor == "ray" else [])]
        assert ended in (*((one, RESUMES) for one in statuses), (0, "")), (
            f"signal {number} after {after:.3f} s: {ended}"
        )
        if driver.returncode:
            interrupted += 1
            waiting.pop(0)
        else:  # too late: the machine is faster by now than the first run was
            duration = min(duration, time.monotonic() - begun)
        resumed = _start(main, "project", recipe, str(run))
        assert (_after_begin(resumed.communicate()[1]), resumed.returncode) == ("", 0), (number, after)
        assert digests(run) == expected, f"signal {number} after {after:.3f} s"
    assert interrupted == len(numbers)


@pytest.mark.long
def test_any_moment_of_a_run(tmp_path: Path) -> None:
    _moments(tmp_path, "inline", [signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGTERM] * 5, seed=0)


@pytest.mark.long
@pytest.mark.ray
def test_any_moment_of_a_run_on_ray(tmp_path: Path) -> None:
    _moments(tmp_path, "ray", [signal.SIGINT, signal.SIGTERM] * 2, seed=1)


def test_programs_that_are_started_hear_of_sigterm() -> None:
    """In the driver it is blocked; what Python's own modules undo is blocked again where it matters."""
    code = """
import multiprocessing.resource_tracker as tracker, signal, subprocess, time
from xner_ray import interrupts
with interrupts.handled():
    with interrupts.unblocked():
        child = subprocess.Popen(["sleep", "60"])
    assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child.terminate()
    assert child.wait(30) == -signal.SIGTERM
    tracker.ensure_running()
    interrupts.block()
    assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print("so it is")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "so it is\n"), done.stderr
