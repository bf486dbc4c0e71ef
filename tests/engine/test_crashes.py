import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xner_ray.engine.crashes import CrashCounter

_DIES = """
import os, signal, sys
from xner_ray.engine.crashes import CrashCounter
with CrashCounter(sys.argv[1]).attempt("unit 3"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_deaths_are_counted_until_a_try_ends(tmp_path: Path) -> None:
    counter = CrashCounter(tmp_path)
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", _DIES, tmp_path]).returncode == -9
    assert counter.deaths("unit 3") == 2
    assert counter.deaths("unit 4") == 0
    with counter.attempt("unit 3") as deaths:
        assert deaths == 2
        assert CrashCounter(tmp_path).deaths("unit 3") == 2, "a living process is no death"
    assert counter.deaths("unit 3") == 0
    with counter.attempt("unit 3") as deaths:
        assert deaths == 0


def test_names_of_any_kind(tmp_path: Path) -> None:
    with CrashCounter(tmp_path).attempt("translate+align ../../x\n" * 100) as deaths:
        assert deaths == 0
    assert all(tmp_path in path.parents for path in tmp_path.rglob("*"))


def test_tries_at_once_do_not_disturb_one_another(tmp_path: Path) -> None:
    def tries() -> None:
        for _ in range(50):
            with CrashCounter(tmp_path).attempt("unit 3"):
                pass

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(tries) for _ in range(4)]:
            done.result()
    assert CrashCounter(tmp_path).deaths("unit 3") == 0
