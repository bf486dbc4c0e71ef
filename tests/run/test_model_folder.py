"""A model's folder, killed before every write and deletion: never taken for complete, and mended by the next call."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.recipe.sections import Section
from xner_ray.run.model_folder import ModelFolder
from xner_ray.storage import files as storage

FILES = {"config.json": "{}", "model.safetensors": "weights", "README.md": "card"}


ASKED = {"model.encoder": "builtin", "fit.dtype": "auto"}


class _Recipe(Section):
    seed: int = 0


class KilledError(Exception):
    pass


def _made(root: Path, seed: int, *, fresh: bool = False) -> dict[str, Any]:
    folder, keys = ModelFolder(str(root), "student", "training.json", ASKED), {"seed": str(seed)}
    folder.refuse_other_files()
    with folder.claim():
        if not fresh and (done := folder.finished(keys)) is not None:
            return done
        folder.begin(keys, _Recipe(seed=seed), fresh=fresh)
        storage.publish(storage.join(folder.work, "state.pt"), b"half")
        report: dict[str, Any] = {"seed": seed}
        with tempfile.TemporaryDirectory() as own:
            for name, text in FILES.items():
                (Path(own) / name).write_text(f"{text} {seed}")
            folder.publish(Path(own), report, keys)
        storage.delete(folder.work)
    return report


def _check(root: Path, seed: int) -> None:
    sums = dict(line.split("  ")[::-1] for line in (root / "SHA256SUMS").read_text().splitlines())
    names = {path.name for path in root.iterdir()} - {"_train", ".lock"}
    assert names == {*sums, "SHA256SUMS"} == {*FILES, "training.json", "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest
    assert (root / "model.safetensors").read_text() == f"weights {seed}"


@pytest.mark.parametrize("fresh", [False, True])
def test_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool) -> None:
    """fresh: over a complete model of another recipe."""
    step, last = 0, -1

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            nonlocal step
            step += 1
            if step == last:
                raise KilledError
            return function(*given)

        return counted

    root, killed, seen = tmp_path / "model", 0, set()
    with monkeypatch.context() as patch:
        for name in ("publish", "copy", "delete"):
            patch.setattr(storage, name, counting(getattr(storage, name)))
        for last in range(1, 99):
            root = tmp_path / str(last)
            if fresh:
                step = -99
                _made(root, 1)
            step = 0
            try:
                _made(root, 2, fresh=fresh)
                break
            except KilledError:
                killed += 1
            step = -99
            there = {path.name for path in root.iterdir()}
            seen.add(frozenset(there))
            if "SHA256SUMS" in there and there >= {*FILES, "training.json"}:
                _check(root, int((root / "model.safetensors").read_text()[-1]))
            elif "config.json" in there and not fresh:
                assert set(FILES) <= there  # whatever loads a model finds it whole
            if fresh and "_train" not in there and killed == 1:
                with pytest.raises(RunFolderError, match="of another recipe"):
                    _made(root, 2)
                _made(root, 2, fresh=True)
            _made(root, 2)
            _check(root, 2)
    assert killed > 8 and len(seen) > 5
    _check(root, 2)


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "model"
    first = _made(root, 1)
    assert _made(root, 1) == first
    with pytest.raises(RunFolderError, match=r"holds the student of another recipe(?s:.*)seed: 1 there, 2 now"):
        _made(root, 2)
    (tmp_path / "thesis.txt").write_text("mine")
    with (root / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  ../thesis.txt\n")
    _made(root, 2, fresh=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    _check(root, 2)
    (root / "README.md").unlink()  # a user may
    assert _made(root, 2)["seed"] == 2 and not (root / "README.md").exists()
    kept = (root / "config.json").read_bytes()
    (root / "config.json").write_bytes(kept[:-1])
    with pytest.raises(RunFolderError, match=r"config\.json: was altered, its SHA-256 is not that of SHA256SUMS"):
        _made(root, 2)
    (root / "config.json").unlink()
    with pytest.raises(RunFolderError, match=r"config\.json: is missing; put the file back, or give --fresh"):
        _made(root, 2)
    (root / "config.json").write_bytes(kept)
    (root / "training.json").write_text("{}")  # as a version without fingerprints left it
    with pytest.raises(RunFolderError, match="seed: None there, 2 now"):
        _made(root, 2)
    for text in ("something else", f"{'0' * 64}  config.json\n"):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "SHA256SUMS").write_text(text)
        with pytest.raises(RunFolderError, match=r"holds files that are no student \(SHA256SUMS\)"):
            _made(other, 1, fresh=True)


def test_a_model_is_not_written_over_what_it_is_made_from(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    folder = ModelFolder(str(tmp_path / "link" / "model"), "student", "training.json", ASKED)
    folder.refuse_sources([None, "builtin", "org/model", "s3://bucket/model", str(tmp_path)])
    with pytest.raises(RecipeError, match="link/model: is what the student is made from"):
        folder.refuse_sources([str(tmp_path / "model")])
