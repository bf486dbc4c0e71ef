"""Models of the hub by their commit: what a commit holds, and its files in the local hub cache, which others share.

The names of a commit's files decide what is fetched (`published.py`), each file once. A commit never changes, so its
list of files is remembered: what has been fetched is found again without asking the hub. Where there is no list, the
files in the local hub cache are it.

No connection, 408, 429 and errors of the server are tried again for half a minute, unless the cache has an answer.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from xner_ray.errors import RecipeError, ServiceError, XnerError
from xner_ray.models import published
from xner_ray.storage import hub

Say = Callable[[str], None]
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 8.0)
"""Seconds to wait before a file is asked for again; its client asks once, if only its content fails."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A hub id. name: as messages call it. revision: empty for main. lists: the folder of remembered lists of files.

    All but `commit` is for a revision that is a commit. RecipeError where there is no such model or it may not be
    read, ServiceError where the hub may answer later, OSError of this machine's disk.
    """

    name: str
    repository: str
    revision: str
    lists: Path

    def commit(self, say: Say) -> str:
        """Return the commit of the revision by the hub, else by the local hub cache. say: gets what was taken unasked.

        RecipeError also where the cache has several.
        """
        if _offline():
            return self._cached(say)
        try:
            return self._asked(patient=False)
        except hub.HubError as error:
            if not error.passes:
                raise _ours(error) from None
        try:
            return self._cached(say)
        except RecipeError as error:
            unknown = error
        try:
            return self._asked(patient=True)
        except hub.HubError as error:
            raise unknown if self._commits() else _ours(error) from None

    @property
    def folder(self) -> Path:
        """The folder of the commit in the local hub cache."""
        return self._snapshots() / self.revision

    def light(self) -> tuple[list[str], published.Weights]:
        """Fetch all but the weights; return the names of the commit's files, and which hold the weights."""
        names = self.names()
        # The configuration first: it says whether we may read.
        for file in sorted(published.small(names), key=lambda file: file != published.CONFIG):
            self.fetched(file)
        return names, published.weights(names, lambda file: (self.folder / file).read_bytes(), self.name)

    def names(self) -> list[str]:
        """Return the names of the commit's files."""
        known = self._list(self.revision)
        if (listed := self._listed(known)) is not None:
            return listed
        if not _offline():
            here = (self.folder / published.CONFIG).exists()
            try:
                self._asked(patient=not here)
            except hub.HubError as error:
                if not error.passes or not here:
                    raise _ours(error) from None
        elif not (self.folder / published.CONFIG).exists():
            raise self._absent(published.CONFIG)
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return self._listed(known) or sorted(found)

    def fetched(self, file: str) -> Path:
        """Return a file of the commit in the local hub cache, fetched if it is not there."""
        path = self.folder / file
        if path.exists():
            return path
        if _offline():
            raise self._absent(file)
        from huggingface_hub import errors, hf_hub_download

        for pause in (*PAUSES_S, None):
            try:
                return Path(hf_hub_download(self.repository, file, revision=self.revision))
            except errors.LocalEntryNotFoundError as error:  # its question about the file was asked patiently
                raise _ours(hub.explained(self._about(), error.__cause__ or error)) from None
            except errors.EntryNotFoundError:
                raise RecipeError(
                    f"model {self.name!r}: the hub lists {file} and does not have it; name another revision, or a "
                    "folder"
                ) from None
            except (hub.unreachable(), errors.HfHubHTTPError, RuntimeError) as error:  # the last is hf_xet's
                failure = hub.explained(self._about(), error)
                if pause is None or not failure.passes:
                    raise _ours(failure) from None
            time.sleep(pause)
        raise AssertionError

    def _asked(self, *, patient: bool) -> str:
        """Return the commit of the revision by the hub, and remember its list of files. HubError."""
        from huggingface_hub import constants

        about = self._about()
        url = f"{constants.ENDPOINT}/api/models/{self.repository}/revision/{quote(about.revision, safe='')}"
        try:
            found = hub.ask("GET", url, about, patient=patient).json()
            commit, names = str(found["sha"]), sorted(str(each["rfilename"]) for each in found["siblings"])
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            raise hub.HubError(
                f"{about.what}: {constants.ENDPOINT} does not answer as the hub does; check HF_ENDPOINT"
            ) from None
        path = self._list(commit)
        if self._listed(path) is None:
            own = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(json.dumps(names), encoding="utf-8")
            os.replace(own, path)
        return commit

    def _list(self, commit: str) -> Path:
        return self.lists / f"{commit}.files.json"

    @staticmethod
    def _listed(path: Path) -> list[str] | None:
        """Return a remembered list; None if there is none, or a machine went down while it was written."""
        try:
            return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))]
        except (FileNotFoundError, ValueError):
            return None

    def _cached(self, say: Say) -> str:
        """Return the commit of the revision by the local hub cache; RecipeError if it says none, or several.

        A cache that was filled by commits, as runs fill it, says of no commit that it is main.
        """
        main = self._snapshots().parent / "refs" / (self.revision or "main")
        commits = self._commits()
        if main.is_file() and (commit := main.read_text(encoding="utf-8").strip()) in commits:
            return commit
        if len(commits) == 1 and not self.revision:
            say(
                f"{self.repository}: the hub cannot be reached; {commits[0]} is taken, the only commit in the local "
                "hub cache"
            )
            return commits[0]
        if commits:
            choices = ", ".join(f"{self.repository}@{commit}" for commit in commits)
            raise RecipeError(
                f"model {self.name!r}: the hub cannot be reached, and the local hub cache does not say which commit "
                f"{self.revision or 'main'} is; name one that it has: {choices}"
            )
        why = "HF_HUB_OFFLINE is set" if _offline() else "the hub cannot be reached"
        raise RecipeError(
            f"model {self.name!r}: no such folder, {why}, and it is not in the local hub cache; give a folder, or run "
            f"{self._about().fetch}"
        )

    def _commits(self) -> list[str]:
        """Return the commits in the local hub cache."""
        return sorted(path.parent.name for path in self._snapshots().glob(f"*/{published.CONFIG}"))

    def _snapshots(self) -> Path:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = Path(constants.HF_HUB_CACHE).expanduser()
        return folder / repo_folder_name(repo_id=self.repository, repo_type="model") / "snapshots"

    def _about(self) -> hub.Subject:
        revision = self.revision or "main"
        return hub.Subject(
            f"model {self.name!r}",
            "model",
            "neither a folder here nor a model on the hub",
            self.repository,
            revision,
            f"`hf download {self.repository} --revision {revision} --local-dir FOLDER` where there is a network, and "
            "name FOLDER",
        )

    def _absent(self, file: str) -> RecipeError:
        return RecipeError(
            f"model {self.name!r}: {file} is not in the local hub cache, and HF_HUB_OFFLINE is set; unset it; or run "
            f"{self._about().fetch}"
        )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _ours(error: hub.HubError) -> XnerError:
    return (ServiceError if error.passes else RecipeError)(str(error))
