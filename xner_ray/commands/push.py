"""The command `push`: a finished run as a data set of the Hugging Face hub, in one commit."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xner_ray.commands.inspect import read_report
from xner_ray.errors import DamageError, InputError, RunFolderError, ServiceError, StorageError, one_line
from xner_ray.report.card import Pushed, dataset_card
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import damage, sum_of
from xner_ray.storage import files as storage
from xner_ray.storage import hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_CARD, _PAGES = "README.md", ("report.json", "report.html")
_SAYS = "# Named entities projected with xner_ray"  # the title of each card of ours
_PACKAGES = ("xner_ray", "python", "torch", "transformers")


def push(
    run: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    branch: str = "main",
    licence: str | None = None,
    rejects: bool = False,
    replace: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Make a finished run the data set `owner/name` of the hub, with its card and report, and return its address.

    One commit takes the place of what an earlier push left there; a file that the hub has by its content is not sent
    again, so the same call goes on after an end. What says where the run was made (`_run/`, with paths of the machine)
    stays here. private: of a repository that is made. branch: made if it is not there. licence: of the data, by the
    hub's name, as in `cc-by-4.0`. rejects: push rejected rows too. replace: also over data of another origin.

    InputError for a wrong name; RunFolderError for a run that is not finished, or a repository with data that no run
    of ours made; DamageError for a file that is not what was written; StorageError for what the hub refuses, with what
    to do; ServiceError where it does not answer.
    """
    if not _NAME.fullmatch(repository):
        raise InputError(f"{repository}: no repository of the hub; write owner/name, as in my-group/swahili-ner")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise InputError(
            f"--license {licence}: write the hub's name of a licence, as in cc-by-4.0, apache-2.0 or other"
        )
    folder = RunFolder(os.fspath(run))
    sealed, report = folder.require_sealed(), read_report(folder)
    files = [entry for entry in sealed.files if rejects or entry["file"].startswith("data/")]
    files += [entry for entry in sealed.others if entry["file"] in _PAGES]
    names = [str(entry["file"]) for entry in files]
    card = dataset_card(folder.recipe(), report, names, Pushed(repository, _versions(folder), licence))
    total = sum(entry["bytes"] for entry in files)
    say(f"{folder.root}: {len(files):,} files, {total / 1e6:,.1f} MB, to {repository}")
    for name, what in damage(folder.root, files).items():
        raise DamageError(folder.path(name), what)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with _refusals(repository, branch):
        _require_token(repository)
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        if branch != "main":
            api.create_branch(repository, repo_type="dataset", branch=branch, exist_ok=True)
        parent = api.repo_info(repository, repo_type="dataset", revision=branch).sha
        there = _there(api, repository, branch, names, replace)
        operations: list[Any] = [CommitOperationDelete(name) for name in there]
        operations.append(CommitOperationAdd(_CARD, card.encode()))
        for number, entry in enumerate(files, start=1):
            operation = CommitOperationAdd(str(entry["file"]), _whole(folder, entry))
            # Of large files the content is sent here, and not kept; small ones go with the commit
            api.preupload_lfs_files(repository, [operation], repo_type="dataset", revision=branch)
            operations.append(operation)
            if number % 10 == 0 or number == len(files):
                say(f"{number:,} of {len(files):,} files")
        done = api.create_commit(
            repository,
            operations,
            repo_type="dataset",
            revision=branch,
            parent_commit=parent,
            commit_message=f"Push {report.rows['emitted']:,} sentences in {len(report.languages):,} languages",
        )
    say(f"commit {done.oid}")
    return f"hf://datasets/{repository}" + (f"@{branch}" if branch != "main" else "")


def _there(api: HfApi, repository: str, branch: str, ours: Sequence[str], replace: bool) -> list[str]:
    """Return the files of an earlier push that this one has not. RunFolderError if others made what is there."""
    found = set(api.list_repo_files(repository, repo_type="dataset", revision=branch))
    data = {name for name in found if name.startswith(("data/", "rejects/"))}
    if (data or _CARD in found) and not replace:
        text = ""
        if _CARD in found:
            path = api.hf_hub_download(repository, _CARD, repo_type="dataset", revision=branch)
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        if _SAYS not in text:
            raise RunFolderError(
                f"{repository}: holds {len(found):,} files that no run of xner_ray made; name another repository, or "
                "give --replace to put this run in the place of its data/, rejects/ and README.md"
            )
    return sorted(data - set(ours))


def _whole(folder: RunFolder, entry: Mapping[str, Any]) -> bytes:
    """Return a file of a run as it was sealed. DamageError."""
    path = folder.path(entry["file"])
    data = storage.read_bytes(path)
    if sum_of(data)["sha256"] != entry["sha256"]:
        raise DamageError(path, "was altered")
    return data


def _versions(folder: RunFolder) -> str:
    known = json.loads(folder.read_record("versions.json"))
    return ", ".join(f"{name} {known[name]}" for name in _PACKAGES if name in known)


def _require_token(repository: str) -> None:
    from huggingface_hub import get_token

    if not get_token():
        raise StorageError(
            f"{repository}: the hub takes data sets of accounts alone, and no token is given; make one with the right "
            "to write, and give it by HF_TOKEN in the environment or by `hf auth login`"
        )


@contextmanager
def _refusals(repository: str, branch: str) -> Iterator[None]:
    """Make what the hub's client raises an error of ours."""
    from huggingface_hub import errors

    about = hub.Subject(
        repository, "data set", "no such repository on the hub", repository, branch, "`hf auth whoami` to see why"
    )
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise StorageError(f"{repository}: HF_HUB_OFFLINE is set, and a push needs the hub; unset it") from None
    except RuntimeError as error:  # of a large file's upload, whatever failed below it
        cause = error.__cause__
        why = f"{error} {type(cause).__name__}: {cause}" if cause else str(error)
        raise ServiceError(f"{repository}: {one_line(why)}; the same command sends what is missing") from None
    except hub.unreachable() as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise StorageError(
                f"{repository}: the hub refuses (HTTP status {status}): the token given is wrong, or without the right "
                f"to write to {repository.partition('/')[0]}; give another by HF_TOKEN or `hf auth login`"
            ) from None
        if status in (409, 412):
            raise ServiceError(
                f"{repository}: somebody else committed to it meanwhile; the same command looks again"
            ) from None
        said = hub.explained(about, error)
        raise (ServiceError if said.passes else StorageError)(str(said)) from None
