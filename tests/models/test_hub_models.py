"""Models of the hub, in the forms in which it has them: what is fetched, what is refused, what needs no hub."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from huggingface_hub import constants
from published_models import CONLL03, MBERT, MDEBERTA, MISTRAL, NLLB, NLLB_LARGE, PUBLISHED
from s3_server import S3Server
from safetensors.torch import load_file
from tiny_nllb import FOLDER
from transformers import AutoTokenizer

from xner_ray.align.encoder import Encoder
from xner_ray.errors import RecipeError, ServiceError, StorageError, XnerError
from xner_ray.models import hub, published
from xner_ray.recipe.sections import Tag
from xner_ray.storage import cache
from xner_ray.tag.hf import HfTagger, check
from xner_ray.translate.nllb import tokenizer_of

WEIGHTS = {
    NLLB: {"pytorch_model.bin"},
    NLLB_LARGE: {f"pytorch_model-0000{n}-of-00003.bin" for n in (1, 2, 3)},
    MBERT: {"model.safetensors"},
    CONLL03: {"model.safetensors"},
    MDEBERTA: {"pytorch_model.bin"},
    MISTRAL: {f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    return {name: make(root / name) for name, make in PUBLISHED.items()}


@pytest.fixture
def server(tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    hub_server = HubServer()
    for name, folder in folders.items():
        hub_server.commit(name, folder)
    hub_server.join(monkeypatch, tmp_path / "cache")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    yield hub_server
    hub_server.close()


def _sent(server: HubServer, name: str) -> set[str]:
    return {file for repository, file in server.sent if repository == name}


def _is_weights(file: str) -> bool:
    return file.endswith((".bin", ".safetensors", ".h5", ".msgpack", ".onnx"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_weight_is_fetched_once_and_nothing_else(server: HubServer, name: str, folders: dict[str, Path]) -> None:
    asked: list[str] = []
    light = hub.folder_of(name, weights=False)
    assert not {file for file in _sent(server, name) if _is_weights(file)}
    pinned = hub.pin(name)[0]
    whole = hub.folder_of(pinned, weights=True, say=asked.append)
    assert {file for file in _sent(server, name) if _is_weights(file)} == WEIGHTS[name]
    assert set(server.sent.values()) == {1}
    assert not {file for file in _sent(server, name) if file.startswith("onnx/") or file.endswith((".md", ".v3"))}
    pickled = any(file.endswith(".bin") for file in WEIGHTS[name])
    assert (light == whole) == (not pickled)
    wanted = len(WEIGHTS[name])
    said = [f"{pinned}: weights are fetched from the hub, {wanted} of {wanted} files"]
    said += (
        [f"{pinned}: its weights are pickled, and converted to safetensors, once on this machine"] if pickled else []
    )
    assert asked == said
    server.requests.clear()
    assert hub.folder_of(pinned, weights=True) == whole and not server.requests
    assert (whole / "model.safetensors").exists() or (whole / "model.safetensors.index.json").exists()


def test_published_models_load_and_tag_or_align(server: HubServer) -> None:
    words = [["Amina", "Otieno", "travelled", "to", "Nairobi"], ["x"]]
    tag = Tag(engine="hf", model=CONLL03)
    assert set(check(tag)) == {"LOC", "MISC", "ORG", "PER"}
    tagger = HfTagger(tag)
    assert tagger.labels == ("LOC", "MISC", "ORG", "PER")
    rows = tagger.probabilities(words)
    assert [row.shape for row in rows] == [(5, 9), (1, 9)] and all(
        abs(row.sum(axis=1) - 1).max() < 1e-3 for row in rows
    )
    for name in (MBERT, MDEBERTA):
        encoder = Encoder(name)
        assert encoder.layers == [8] and encoder.precision == "float32"
        vectors = encoder.encode(words).arrays()
        assert [getattr(each, "shape", None) for each in vectors] == [(5, 24), (1, 24)]
    assert {file for file in _sent(server, MDEBERTA) if file.endswith(".bin")} == {"pytorch_model.bin"}
    (converted,) = cache.cache_folder().glob("models/*-safetensors-1/model.safetensors")
    assert {tensor.dtype for tensor in load_file(converted).values()} == {torch.float16}


def test_simalign_takes_a_revision(server: HubServer) -> None:
    simalign = pytest.importorskip("simalign", reason="needs the extra 'simalign'")
    from xner_ray.align.linking import AlignOptions
    from xner_ray.align.simalign import SimAligner

    assert simalign
    pinned = hub.pin(MBERT)[0]
    aligner = SimAligner(pinned, layer=8, options=AlignOptions(center="none"))
    links, rejects = aligner.align([["a", "b"]], [["a", "b"]])
    assert len(links.source) and not rejects


REFUSED: list[tuple[str, Callable[[HubServer], Any], str | None, str]] = [
    (
        "another revision",
        lambda server: None,
        None,
        "the hub has the model, but no revision 'refs/pr/46' of it (any more)",
    ),
    (
        "no such model",
        lambda server: server.files.pop(MBERT),
        None,
        "neither a folder here nor a model on the hub (URL), or it is private and a token is missing: give one by "
        "HF_TOKEN in the environment, of every node of a cluster, or by `hf auth login`; never in a recipe",
    ),
    (
        "private, and a token without the right",
        lambda server: (server.files.pop(MBERT), setattr(server, "may", "hf_another")),
        "hf_other",
        "neither a folder here nor a model on the hub (URL), or it is private and the token given may not read it",
    ),
    (
        "gated, and no token",
        lambda server: server.gated.add(MBERT),
        None,
        f"is gated: its owner asks for consent, and no token is given. Accept its terms on the page of {MBERT}, and "
        "give the token of that account by HF_TOKEN",
    ),
    (
        "gated, and the token of an account that has not agreed",
        lambda server: server.gated.add(MBERT),
        "hf_other",
        "is gated: its owner asks for consent, and the account of the token given has not agreed, or is not let in "
        f"yet. Accept its terms on the page of {MBERT}",
    ),
    (
        "a wrong token",
        lambda server: None,
        "hf_wrong",
        "the hub refuses (HTTP status 401): the token given is wrong, or too old; give another by HF_TOKEN",
    ),
    (
        "a right that is missing",
        lambda server: setattr(server, "fault", lambda method, path: 403 if "/resolve/" in path else 0),
        "hf_good",
        "the hub refuses (HTTP status 403): the token may be without the right to read this model",
    ),
    (
        "too many requests",
        lambda server: setattr(server, "fault", lambda method, path: 429),
        None,
        "the hub (URL) does not answer, or refuses for now, also after several tries (HTTP status 429); when it works "
        "again, the same command resumes; a token raises its limit: give one by HF_TOKEN",
    ),
    (
        "too many requests for files",
        lambda server: setattr(server, "fault", lambda method, path: 429 if "/resolve/" in path else 0),
        "hf_good",
        "also after several tries (HTTP status 429); when it works again, the same command resumes; or run "
        "`hf download",
    ),
    (
        "an error of the server",
        lambda server: setattr(server, "down", True),
        None,
        "also after several tries (HTTP status 503); when it works again, the same command resumes; or run "
        f"`hf download {MBERT} --revision main --local-dir FOLDER` where there is a network, and name FOLDER",
    ),
    ("no hub", lambda server: server.close(), None, "the hub (URL) does not answer, or refuses for now, also after"),
]


@pytest.mark.parametrize(("what", "change", "token", "message"), REFUSED, ids=[each[0] for each in REFUSED])
def test_each_refusal_has_its_own_line(
    server: HubServer, what: str, change: Callable[[HubServer], Any], token: str | None, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    name = f"{MBERT}@refs/pr/46" if what == "another revision" else MBERT
    change(server)
    with pytest.raises(XnerError) as error:
        hub.folder_of(name, weights=False)
    said = str(error.value)
    assert said.startswith(f"model '{MBERT}") and message.replace("URL", server.url) in said
    assert "\n" not in said and "hf_" not in said.replace("hf_hub", "")
    assert isinstance(error.value, ServiceError if "several tries" in message or what == "no hub" else RecipeError)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_fails_for_a_while_is_tried_again(server: HubServer, status: int) -> None:
    """The client of the hub knows no 408 of a file."""
    failed: set[tuple[str, str]] = set()

    def once(method: str, path: str) -> int:
        first = (method, path) not in failed and (status != 408 or path.startswith("/api/"))
        failed.add((method, path))
        return status if first else 0

    server.fault = once
    assert (hub.folder_of(NLLB, weights=True) / "model.safetensors").is_file()
    assert len(failed) > 8


def test_revisions_with_slashes(server: HubServer, folders: dict[str, Path], tmp_path: Path) -> None:
    """As NLLB's safetensors, which stand in a pull request."""
    proposed = server.commit(NLLB, FOLDER, "refs/pr/45")
    server.commit(NLLB, folders[NLLB], "fix/tokens", README="edited")
    assert hub.pin(f"{NLLB}@refs/pr/45") == (f"{NLLB}@{proposed}", proposed)
    assert hub.folder_of(f"{NLLB}@refs/pr/45", weights=True).name == proposed
    assert not [file for _, file in server.sent if file.endswith(".bin")]
    assert hub.folder_of(f"{NLLB}@fix/tokens", weights=True).name.endswith("-safetensors-1")
    assert tokenizer_of(f"{NLLB}@refs/pr/45").convert_tokens_to_ids("swh_Latn") == 2002


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        (NLLB, ["pytorch_model.bin"], "it has no weights; name another revision"),
        (MDEBERTA, ["pytorch_model.bin"], "it has pytorch_model.generator.bin, tf_model.h5; name another revision"),
        (
            MISTRAL,
            ["model-00002-of-00003.safetensors"],
            r"model-00002-of-00003.safetensors, which .* is missing \(2 of 3",
        ),
        (NLLB_LARGE, ["pytorch_model-00003-of-00003.bin"], r"pytorch_model-00003-of-00003.bin, which .* is missing"),
        (MBERT, ["config.json"], "it has no config.json"),
    ],
)
def test_a_commit_without_whole_weights_is_refused_before_any_is_fetched(
    server: HubServer, folders: dict[str, Path], tmp_path: Path, name: str, gone: list[str], message: str
) -> None:
    shutil.copytree(folders[name], tmp_path / "model", ignore=shutil.ignore_patterns(*gone))
    server.commit(name, tmp_path / "model")
    with pytest.raises(RecipeError, match=message) as error:
        hub.folder_of(name, weights=False)
    assert "\n" not in str(error.value)
    with pytest.raises(RecipeError, match=message):
        hub.mirror(hub.pin(name)[0], str(tmp_path / "mirror"))
    assert not (tmp_path / "mirror").exists()
    assert not {file for _, file in server.sent if _is_weights(file)}


def test_a_file_that_the_hub_lists_and_does_not_have(server: HubServer) -> None:
    commit = hub.pin(NLLB)[1]
    del server.files[NLLB][commit]["pytorch_model.bin"]
    with pytest.raises(RecipeError, match=r"the hub lists pytorch_model.bin and does not have it"):
        hub.folder_of(f"{NLLB}@{commit}", weights=True)
    assert not list(cache.cache_folder().glob("models/*-safetensors-1"))


def test_something_else_than_a_hub(server: HubServer) -> None:
    server.fault = lambda method, path: 200
    with pytest.raises(RecipeError, match=f"{server.url} does not answer as the hub does; check HF_ENDPOINT"):
        hub.pin(MBERT)


@pytest.mark.parametrize("name", [NLLB, NLLB_LARGE, MBERT, MISTRAL])
def test_what_was_fetched_needs_no_hub(server: HubServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = hub.pin(name)[0]
    folder = hub.folder_of(pinned, weights=True)
    server.close()
    assert hub.folder_of(pinned, weights=True) == folder
    said: list[str] = []
    assert hub.pin(name, said.append)[0] == pinned
    assert said == [
        f"{name}: the hub cannot be reached; {pinned[-40:]} is taken, the only commit in the local hub cache"
    ]
    server.online(monkeypatch, offline=True)
    assert hub.folder_of(name, weights=True) == folder
    shutil.rmtree(cache.cache_folder() / "models")  # lists and converted weights: the local hub cache has it all
    assert hub.folder_of(name, weights=True) == folder and folder.is_dir()
    if name in (NLLB, NLLB_LARGE):
        shutil.rmtree(constants.HF_HUB_CACHE + "/models--" + name.replace("/", "--"))
        assert hub.folder_of(pinned, weights=True) == hub.folder_of(pinned, weights=False) == folder


def test_half_of_what_is_needed_is_said_without_a_hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = hub.pin(MISTRAL)[0]
    folder = hub.folder_of(pinned, weights=True)
    server.online(monkeypatch, offline=True)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        RecipeError, match=r"model-00002-of-00003.safetensors is not in the local hub cache, and HF_HUB"
    ):
        hub.folder_of(pinned, weights=True)
    (cache.cache_folder() / "models" / f"{pinned[-40:]}.files.json").unlink()
    with pytest.raises(RecipeError, match=r"model-00002-of-00003.safetensors, which its model.safetensors.index.json"):
        hub.folder_of(pinned, weights=True)


@pytest.mark.parametrize("name", [NLLB, NLLB_LARGE, MDEBERTA, MBERT, CONLL03, MISTRAL])
def test_a_mirror_holds_weights_for_machines_that_never_saw_the_hub(
    server: HubServer, s3: S3Server, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = hub.pin(name)[0]
    places = [hub.mirror(pinned, place) for place in (s3.uri("bucket/models"), str(tmp_path / "mirror"))]
    assert set(server.sent.values()) == {1}
    server.close()
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    server.online(monkeypatch, offline=True)
    for place in places:
        folder = hub.folder_of(place, weights=True)
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        stated = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
        assert set(stated) == names - {"SHA256SUMS"}
        assert all(cache.sha256(folder / file) == sum_ for file, sum_ in stated.items())
        weights = published.weights(names, lambda file, at=folder: (at / file).read_bytes(), "m")
        assert not weights.pickled and set(weights.files) == {file for file in names if file.endswith(".safetensors")}
        assert AutoTokenizer.from_pretrained(folder)


def test_a_damaged_cache_is_not_mirrored(server: HubServer, tmp_path: Path) -> None:
    pinned = hub.pin(NLLB_LARGE)[0]
    folder = hub.folder_of(pinned, weights=True)
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match=f"{folder} is not what its SHA256SUMS says; delete it"):
        hub.mirror(pinned, str(tmp_path / "mirror"))
    assert not (tmp_path / "mirror").exists()
    shutil.rmtree(folder)
    assert hub.mirror(pinned, str(tmp_path / "mirror"))


def test_a_mirror_of_an_earlier_version_without_weights_is_made_again(server: HubServer, tmp_path: Path) -> None:
    pinned, commit = hub.pin(NLLB)
    old = tmp_path / "mirror" / commit
    old.mkdir(parents=True)
    (old / "config.json").write_text("{}")
    (old / "SHA256SUMS").write_text(f"{cache.sha256(old / 'config.json')}  config.json\n")
    assert hub.mirror(pinned, str(tmp_path / "mirror")) == str(old)
    assert (old / "model.safetensors").is_file() and json.loads((old / "config.json").read_text())["d_model"] == 192


def test_a_cache_that_an_earlier_version_filled(server: HubServer) -> None:
    """By what transformers asked for, without a list of the commit's files."""
    from transformers import AutoModel

    commit = hub.pin(MBERT)[1]
    shutil.rmtree(cache.cache_folder() / "models")
    AutoTokenizer.from_pretrained(MBERT, revision=commit)
    AutoModel.from_pretrained(MBERT, revision=commit, use_safetensors=True)
    server.close()
    folder = hub.folder_of(f"{MBERT}@{commit}", weights=True)
    assert folder.name == commit and Encoder(f"{MBERT}@{commit}").layers == [8]
    assert not list(cache.cache_folder().glob("models/*.json"))


def test_a_list_that_was_cut_is_asked_for_again(server: HubServer) -> None:
    commit = hub.pin(NLLB)[1]
    known = cache.cache_folder() / "models" / f"{commit}.files.json"
    whole = known.read_bytes()
    known.write_bytes(whole[:10])
    assert (hub.folder_of(f"{NLLB}@{commit}", weights=True) / "model.safetensors").is_file()
    assert known.read_bytes() == whole
