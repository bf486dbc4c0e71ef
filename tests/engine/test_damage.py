"""Random damage to runs, finished and half finished: every command answers rightly or refuses, and `project` mends.

XNER_DAMAGES sets their number, XNER_SEED the seed; `make test-long` does fewer than `make damage`.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faults import rejecting
from given_files import LINKS, write_recipe, write_sentences
from rich.console import Console
from s3_server import S3Server
from synthetic_runs import Killed

import xner_ray
from xner_ray.commands import inspect
from xner_ray.commands.compare import compare
from xner_ray.commands.export import export
from xner_ray.commands.rejects import rejects
from xner_ray.errors import Reason, XnerError
from xner_ray.read.inputs import find_texts
from xner_ray.recipe.load import load_recipe
from xner_ray.run import repair
from xner_ray.storage import files as storage
from xner_ray.train.recipe import Source
from xner_ray.train.runs import run_rows
from xner_ray.train.sentences import Tally

N_DAMAGES = int(os.environ.get("XNER_DAMAGES", "40"))
SEED = int(os.environ.get("XNER_SEED", random.randrange(10**6)))
N_ROWS = 60
KINDS = ("plain", "two matchings", "retried", "object store")
HALVES = 4  # of a kind, each killed elsewhere
Files = dict[str, bytes]


class Place:
    """A run in a folder or on an object store, as its files by their names."""

    def __init__(self, root: Path, server: S3Server | None) -> None:
        self.root, self.server = root, server
        self.run = server.uri("bucket/run") if server else str(root)

    def files(self) -> Files:
        if self.server:
            found = {path.removeprefix("/bucket/run/"): data for path, (data, _) in self.server.objects.items()}
            return {name: data for name, data in found.items() if not name.endswith("/")}
        paths = [path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}

    def set(self, files: Mapping[str, bytes | None]) -> None:
        """Write files as another program would, or delete them."""
        for name, data in files.items():
            if self.server:
                if data is None:
                    self.server.objects.pop(f"/bucket/run/{name}", None)
                else:
                    self.server.put(f"/bucket/run/{name}", data)
            elif data is None:
                (self.root / name).unlink(missing_ok=True)
            else:
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_bytes(data)

    def restore(self, files: Files) -> None:
        if self.server:
            self.server.reset()
        else:
            shutil.rmtree(self.root, ignore_errors=True)
        self.set(files)


@dataclass
class Kind:
    """Runs of one kind: how one is made, what it is when it is finished, and where others were killed on the way."""

    place: Place
    command: Callable[[], Any]  # that ends what a half-finished one began
    mend: Callable[[], Any]  # of a finished run
    copy: str  # of the finished run
    finished: Files
    answers: dict[str, Any]
    halves: list[Files] = field(default_factory=list)
    old: list[Files] = field(default_factory=list)  # earlier states of the same folder
    foreign: Files = field(default_factory=dict)  # a finished run of other settings

    @property
    def published(self) -> Files:
        return published(self.finished)


def published(files: Files) -> Files:
    return {n: data for n, data in files.items() if n.startswith(("data/", "rejects/")) or n == "README.md"}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("damage")
    write_sentences(folder, N_ROWS, bad=11)
    for lang, words in {"deu_Latn": "In/O Rom/B-LOC traf/O Ada/B-PER Bo/B-PER", "spa_Latn": "Ada/B-PER vio/O"}.items():
        gold = "\n".join(word.replace("/", "\t") for word in words.split())
        (folder / f"{lang}.conll").write_text("\n\n".join([gold] * N_ROWS) + "\n")
        (folder / f"{lang}.links").write_text((f"{LINKS}\n" if lang == "deu_Latn" else "0-0 1-1\n") * N_ROWS)

    def recipe(prior: str, *targets: str) -> Path:
        parallel = {lang: f"{lang}.conll" for lang in targets}
        return write_recipe(
            folder / f"{prior}-{len(targets)}.yaml",
            input={"parallel": parallel, "links": "{lang}.links"},
            targets=list(targets),
            match={"prior": prior},
            output={"max_reject_rate": 0.9, "rows_per_file": 40},
            engine={"unit_rows": 20, "executor": "inline"},
        )

    return recipe


def kind_of(
    name: str, recipes: Callable[..., Path], folder: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Kind:
    """Make a run with one target, then with two; `retried` has faults before, and one of its units is tried twice."""
    place = Place(folder / name.replace(" ", "-"), s3 if name == "object store" else None)
    prior = "none" if name == "plain" else "auto"
    small, large = recipes(prior, "deu_Latn"), recipes(prior, "deu_Latn", "spa_Latn")
    retry = {"retry_rejects": ["stage_error"]} if name == "retried" else {}
    command = partial(xner_ray.project, large, place.run, **retry)
    xner_ray.project(small, place.run)
    old = [place.files()]
    if retry:
        place.restore({})
        with monkeypatch.context() as patch:
            rejecting(patch, "match", {3: Reason.STAGE_ERROR, 45: Reason.STAGE_ERROR, 50: Reason.TOO_LONG})
            xner_ray.project(large, place.run)
        old.append(place.files())
        xner_ray.project(large, place.run, retry_rejects=["too_long"])
        old.append(place.files())
    begun = place.files()
    with _dying(monkeypatch, at=-1) as changes:
        command()
    copy = Place(folder / "undisturbed" / place.root.name, None)
    copy.set(place.files())
    mend = partial(xner_ray.project, large, place.run)
    kind = Kind(place, command, mend, copy.run, place.files(), answers(place.run, copy.run), old=old)
    other = Place(folder / "other" / place.root.name, None)
    xner_ray.project(large, other.run, overrides=["match.solver=greedy"])
    kind.foreign = other.files()
    for at in random.Random(SEED).sample(range(1, len(changes)), HALVES):
        place.restore(begun)
        with _dying(monkeypatch, at):
            command()
        kind.halves.append(place.files())
    return kind


@contextmanager
def _dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[str]]:
    """Kill the block just before its n-th change of a file; yield the changes that it made."""
    made: list[str] = []

    def change(real: Callable[..., None], path: str, *args: Any) -> None:
        if len(made) == at:
            raise Killed
        made.append(path)
        real(path, *args)

    with monkeypatch.context() as patch, suppress(Killed):
        for function in ("publish", "delete"):
            patch.setattr(storage, function, partial(change, getattr(storage, function)))
        yield made


def answers(run: str, undisturbed: str) -> dict[str, Any]:
    """What the commands that read a run say, or that they refuse; any other exception is a fault."""
    found: dict[str, Any] = {}

    def read(name: str, function: Callable[[], Any]) -> None:
        try:
            found[name] = function()
        except XnerError as error:
            found[name] = None if _is_one_message(error) else f"traceback: {error}"

    def text(shown: Any) -> str:
        console = Console(file=io.StringIO(), width=200)
        console.print(shown)
        return console.file.getvalue()  # type: ignore[attr-defined]

    read("evaluate", lambda: json.dumps([vars(one.overall) for one in inspect.evaluate(run, samples=0)]))
    out = f"/tmp/xner_ray-damage-{os.getpid()}"
    read("export", lambda: {Path(path).name: Path(path).read_bytes() for path in export(run, output=out)})
    read("explain", lambda: text(inspect.explain(run, "40")))
    counted = ("rows", "rejects", "entities")
    read("status", lambda: [inspect.run_progress(run)["report"][name] for name in counted])
    read("rejects", lambda: text(rejects(run)).partition("Rejected rows")[2])  # before it: whether the run is finished
    given = {"input": {"path": f"{run}", "format": "run", "lang": "deu_Latn"}, "direction": "test"}
    recipe = load_recipe({**given, "source_lang": "eng_Latn", "tag": {"engine": "spacy"}})
    source = Source(run=run, langs=["deu_Latn"])
    read("train", lambda: [table.to_pylist() for table in run_rows(source, True, Tally(run))])
    read("compare", lambda: json.dumps(compare([run, undisturbed], samples=0).to_dict(), default=str))
    read("format: run", lambda: repair.require_whole_files(find_texts(recipe).files) or "whole")
    return found


def _is_one_message(error: XnerError) -> bool:
    return "\n" not in str(error) or "holds a run of another recipe" in str(error)


def damage(rng: random.Random, files: Files, kind: Kind) -> tuple[str, dict[str, bytes | None]]:
    """Return what is done, and the files that it changes."""
    names = sorted(name for name, data in files.items() if data)
    name = rng.choice(names)
    data, old = files[name], kind.old
    how = rng.choice(["delete", "cut", "flip", "swap", "old", "SEALED", "grow", "foreign", "two"])
    if how == "two":
        (first, changes), (second, more) = damage(rng, files, kind), damage(rng, files, kind)
        return f"{first}, and {second}", changes | more
    if how == "foreign" and (
        theirs := sorted(n for n, other in kind.foreign.items() if n in files and other != files[n])
    ):
        name = rng.choice(theirs)
        return f"foreign {name}", {name: kind.foreign[name]}
    if how == "SEALED" and "_run/SEALED" in files:
        name = "_run/SEALED"
        return f"cut {name}", {name: files[name][: rng.randrange(len(files[name]))]}
    if how == "old" and (changed := sorted({n for e in old for n in e if n in files and e[n] != files[n]})):
        name = rng.choice(changed)
        return f"old {name}", {name: rng.choice([e[name] for e in old if name in e])}
    if how == "swap":
        other = rng.choice(names)
        return f"swap {name} and {other}", {name: files[other], other: data}
    if how == "delete":
        return f"delete {name}", {name: None}
    if how == "grow":
        return f"grow {name}", {name: data + rng.randbytes(rng.randrange(1, 50))}
    if how == "flip":
        at = rng.randrange(len(data))
        return f"flip {name} at {at}", {name: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]}
    return f"cut {name}", {name: data[: rng.randrange(len(data))]}


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_random_damage_is_mended_or_named(
    name: str, recipes: Callable[..., Path], tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = kind_of(name, recipes, tmp_path, s3, monkeypatch)
    assert kind.answers["evaluate"] and kind.answers["format: run"] == "whole"
    rng, counts = random.Random(f"{SEED} {name}"), Counter[str]()
    print(f"\n{name}: seed {SEED}")
    for number in range(N_DAMAGES // len(KINDS)):
        files, sealed = (kind.finished, True) if rng.random() < 0.5 else (rng.choice(kind.halves), False)
        what, changes = damage(rng, files, kind)
        about = f"XNER_SEED={SEED}, {name}, damage {number} of a {'finished' if sealed else 'half'} run: {what}"
        kind.place.restore(files)
        kind.place.set(changes)
        said = answers(kind.place.run, kind.copy)
        for command, answer in said.items():
            right = kind.answers[command]
            if sealed:
                assert answer in (None, right), f"{about}: {command} answers wrongly"
            elif command in ("evaluate", "export", "compare", "train", "format: run") and "_run/SEALED" not in files:
                assert answer is None, f"{about}: {command} reads half a run"
        try:
            (kind.mend if sealed else kind.command)()
        except XnerError as error:
            counts["named" if _is_one_message(error) else "badly named"] += 1
            print(f"named: {about}: {error}")
            continue
        except Exception as error:
            raise AssertionError(about) from error
        assert published(kind.place.files()) == kind.published, about
        assert answers(kind.place.run, kind.copy) == kind.answers, about
        counts["mended"] += 1
    print(dict(counts))
    assert counts.keys() <= {"mended", "named"}
