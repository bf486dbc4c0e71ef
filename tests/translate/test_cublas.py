"""The library of matrix products that CTranslate2 opens on a GPU, as a package that is made up here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xner_ray.errors import FatalError
from xner_ray.recipe.sections import Translate
from xner_ray.translate import ct2

_OPENS = """
import ctypes, sys
from xner_ray.translate import ct2

sys.path.insert(0, sys.argv[1])
try:
    ctypes.CDLL("libcublas.so.12")
    print("found before")
except OSError:
    pass
ct2.load_cublas()
print(ctypes.CDLL("libcublas.so.12").made_up())
"""


def _package(folder: Path, library: bytes = b"") -> Path:
    """Lay a package out as the wheel of nvidia-cublas-cu12 is: the library in a folder that no search path has."""
    inner = folder / "nvidia" / "cublas" / "lib"
    inner.mkdir(parents=True)
    (inner / ct2.CUBLAS).write_bytes(library)
    info = folder / "nvidia_cublas_cu12-12.9.3.13.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cublas-cu12\nVersion: 12.9.3.13\n")
    (info / "RECORD").write_text(f"nvidia/cublas/lib/libnvblas.so.12,,\nnvidia/cublas/lib/{ct2.CUBLAS},,\n")
    return inner / ct2.CUBLAS


def test_the_package_s_library_is_found_by_its_name_once_it_is_loaded(tmp_path: Path) -> None:
    """By the dynamic linker, as CTranslate2 asks it: a library with this name, but of one function."""
    compiler = shutil.which("cc") or pytest.skip("needs a C compiler")
    source = tmp_path / "made_up.c"
    source.write_text("int made_up(void) { return 42; }\n")
    built = tmp_path / "built.so"
    subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{ct2.CUBLAS}", "-o", built, source], check=True)
    _package(tmp_path / "site", built.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", _OPENS, tmp_path / "site"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "42\n"


def test_a_gpu_without_the_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ct2, "CUBLAS", "libcublas.so.12-of-nobody")
    with pytest.raises(FatalError) as error:
        ct2.load_cublas()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("translate.engine ctranslate2 on a GPU needs libcublas.so.12-of-nobody")
    assert str(error.value).endswith(
        "pip install 'ctranslate2>=4.8' 'nvidia-cublas-cu12>=12.9' on every node with a GPU, or set gpus: 0"
    )

    broken = _package(tmp_path, b"no library")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FatalError, match=r"needs libcublas.so.12-of-nobody, also beside a torch for CUDA 13"):
        ct2.load_cublas()
    assert broken.exists()


def test_it_is_loaded_for_a_gpu_alone_and_before_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise FatalError("asked for")

    monkeypatch.setattr(ct2, "load_cublas", missing)
    monkeypatch.setattr(ct2, "converted_folder", lambda *arguments: pytest.fail("the model comes after the library"))
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 1)
    with pytest.raises(FatalError, match="asked for"):
        ct2.Ct2Translator(Translate(engine="ctranslate2", model="tiny-nllb", gpus=1))
    monkeypatch.undo()
    monkeypatch.setattr(ct2, "load_cublas", lambda: pytest.fail("no GPU was asked for"))
    assert ct2.Ct2Translator(Translate(engine="ctranslate2", model="tiny-nllb")).name == "tiny-nllb"
