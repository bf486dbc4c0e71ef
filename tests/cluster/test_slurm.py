"""cluster/slurm.sh, with `srun` and `scontrol` faked: a step is a child process here, and SLURM itself is not tested.

The quick tests fake `ray` and `python` as well (a head that only listens); the slow one starts a real head and worker.
"""

import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster/slurm.sh"

SRUN = r"""#!/usr/bin/env bash
options=()
while [[ $1 == --* ]]; do options+=("$1"); shift; done
mode=$(stat -c %a "${RAY_AUTH_TOKEN_PATH:?}" 2> /dev/null || echo none)
echo "srun $$ $RAY_AUTH_MODE $mode ${options[*]} -- $*" >> "$FAKE_LOG"
echo "hub ${HF_TOKEN:-none} ${HF_ENDPOINT:-none}" >> "$FAKE_LOG"
exec "$@"
"""
SCONTROL = r"""#!/usr/bin/env bash
echo "scontrol $*" >> "$FAKE_LOG"
[[ $1 != show ]] || printf 'node-a\nnode-b\n'
"""
RAY = f"""#!{sys.executable} -S
import socket, sys, time
if "--head" in sys.argv:
    port = next(a for a in sys.argv if a.startswith("--port=")).split("=")[1]
    listener = socket.create_server(("0.0.0.0", int(port)))
time.sleep(60)
"""
PYTHON = "#!/usr/bin/env bash\ncat > /dev/null\n"  # all nodes joined

Start = Callable[..., "subprocess.Popen[str]"]


class Job:
    """One submission: its folders, its environment, what the fakes wrote down."""

    def __init__(self, folder: Path, *, fake_ray: bool) -> None:
        fakes = {"srun": SRUN, "scontrol": SCONTROL} | ({"ray": RAY, "python": PYTHON} if fake_ray else {})
        binaries = folder / "bin"
        binaries.mkdir()
        for name, text in fakes.items():
            (binaries / name).write_text(text)
            (binaries / name).chmod(0o755)
        self.id = _job_id()
        self.submitted = folder / "submitted from here"
        self.submitted.mkdir()
        self.log = folder / "log"
        self.logs = Path(f"/tmp/xner-ray-{self.id}")
        self.environment = {
            **os.environ,
            "PATH": f"{binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FAKE_LOG": str(self.log),
            "SLURM_JOB_ID": str(self.id),
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_SUBMIT_DIR": str(self.submitted),
            "RAY_AUTH_TOKEN": "of another cluster",
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *command],
            env=self.environment,
            cwd=self.submitted,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def written(self, what: str) -> list[str]:
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(what)]

    def nodes(self) -> list[str]:
        return [line for line in self.written("srun ") if " ray start " in line]

    def assert_nothing_is_left(self) -> None:
        assert list(self.submitted.iterdir()) == [], "the token stays on the shared folder"
        for line in self.nodes():
            assert not psutil.pid_exists(int(line.split()[1])), line
        deadline = time.monotonic() + 10
        while (left := _processes_with(str(self.logs))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []


def _processes_with(text: str) -> list[str]:
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if text in line]


def _job_id() -> int:
    """An id from which the script takes two ports that are free."""
    while True:
        job = random.randrange(100_000, 10_000_000)
        port = 20000 + job % 5000 * 2
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("0.0.0.0", port))
                second.bind(("0.0.0.0", port + 1))
            except OSError:
                continue
        return job


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Callable[[bool], Job]]:
    jobs: list[Job] = []

    def make(fake_ray: bool) -> Job:
        jobs.append(Job(tmp_path, fake_ray=fake_ray))
        return jobs[-1]

    yield make
    for job in jobs:
        for process in job.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        shutil.rmtree(job.logs, ignore_errors=True)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_bash_and_shellcheck_find_nothing() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    program = Path(sys.executable).parent / "shellcheck"
    checked = subprocess.run([program, "--enable=quote-safe-variables", SCRIPT], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_options_of_sbatch_are_known_and_come_first() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    before, after = text.split("\nset -euo pipefail\n", 1)
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", before, flags=re.M))
    assert "#SBATCH" not in after, "sbatch stops reading at the first command"
    assert options == {
        "job-name": "xner-ray",
        "nodes": "2",
        "ntasks-per-node": "1",
        "cpus-per-task": "16",
        "exclusive": "",
        "time": "08:00:00",
        "signal": "B:USR1@120",
        "requeue": "",
        "no-kill": "",
        "open-mode": "append",
    }


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("", [], "usage: sbatch"),
        ("SLURM_JOB_ID", ["true"], "submit this script with sbatch"),
        ("SLURM_CPUS_PER_TASK", ["true"], "--cpus-per-task=CPUS_OF_A_NODE"),
    ],
)
def test_a_wrong_submission_is_refused(
    submit: Callable[[bool], Job], missing: str, arguments: list[str], message: str
) -> None:
    job = submit(True)
    job.environment.pop(missing, None)
    process = job.start(*arguments)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert message in output
    assert job.nodes() == []


def test_status_is_the_command_s_and_the_logs_of_a_failure_stay(submit: Callable[[bool], Job]) -> None:
    job = submit(True)
    job.environment |= {"HF_TOKEN": "hf_mine", "HF_ENDPOINT": "http://mirror"}
    # Not before both nodes have said something: the end of a command ends them wherever they are
    wait = """until [ "$(grep -c '^hub ' "$FAKE_LOG")" = 2 ]; do sleep 0.1; done; """
    process = job.start("bash", "-c", wait + 'echo "at $RAY_ADDRESS"; cat "$RAY_AUTH_TOKEN_PATH"; echo; exit 3')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    assert re.search(rf"^at [\d.]+:{20000 + job.id % 5000 * 2}$", output, flags=re.M)
    assert re.search(r"^[0-9a-f]{64}$", output, flags=re.M)
    head, worker = job.nodes()
    assert "--nodelist=node-a " in head and " ray start --head " in head
    assert "--nodelist=node-b " in worker and " ray start --address=" in worker
    assert all(" token 600 " in line for line in (head, worker))
    assert not [line for line in job.written("srun ") if " rm " in line]
    assert job.written("scontrol") == ["scontrol show hostnames node-[a-b]"]
    assert job.written("hub ") == ["hub hf_mine http://mirror"] * 2, "the environment of the submission, on every node"
    assert "hf_mine" not in output
    job.assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "requeued", "status"), [(signal.SIGUSR1, True, 0), (signal.SIGTERM, False, 143)])
def test_the_time_limit_requeues_and_a_cancel_does_not(
    submit: Callable[[bool], Job], tmp_path: Path, sent: signal.Signals, requeued: bool, status: int
) -> None:
    job = submit(True)
    command = f"trap 'sleep 0.3; echo stopped > {tmp_path}/stopped; exit 143' TERM; touch {tmp_path}/running; "
    process = job.start("bash", "-c", command + "while true; do sleep 0.1; done")
    _wait_until((tmp_path / "running").exists)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert (tmp_path / "stopped").exists(), "the command must end before its cluster does"
    assert job.written("scontrol requeue") == ([f"scontrol requeue {job.id}"] if requeued else [])
    job.assert_nothing_is_left()


def test_a_head_that_does_not_start_is_said(submit: Callable[[bool], Job], tmp_path: Path) -> None:
    job = submit(True)
    (tmp_path / "bin/ray").write_text("#!/bin/sh\nexit 1\n")
    process = job.start("touch", str(tmp_path / "ran"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Ray's head did not start on node-a" in output
    assert not (tmp_path / "ran").exists()
    job.assert_nothing_is_left()


@pytest.mark.long
def test_a_run_on_a_real_head_and_worker(submit: Callable[[bool], Job], tmp_path: Path) -> None:
    job = submit(False)
    run = tmp_path / "run"
    recipe = str(ROOT / "jobs/quickstart.yaml")
    process = job.start("xner-ray", "project", recipe, str(run), "--set", "input.limit=10")
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    assert "Ray runtime started" in output
    rows = [row for path in run.glob("data/**/*.parquet") for row in pq.ParquetFile(path).read().to_pylist()]
    assert len(rows) == 10
    assert (run / "_run/SEALED").exists()
    assert len(job.nodes()) == 2
    assert all(" token 600 " in line for line in job.nodes())
    assert not job.logs.exists(), "a run that succeeded leaves no logs on the nodes"
    job.assert_nothing_is_left()
