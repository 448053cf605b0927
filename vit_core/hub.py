"""A model id becomes files: a folder, a checkpoint that ships with the package, or a repository on the Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vit_core.saving import finish_interrupted_save

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

LIBRARY_NAME = "trivit"
BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_PREFIX = "bundled/"

#: A checkpoint has its weights in one file or in shards, never some of both.
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
#: The files of a checkpoint; nothing else that lies in its folder is ever pushed.
CHECKPOINT_FILES = ("config.json", "preprocessor_config.json", "README.md", *WEIGHT_FILES)


def locate(
    model_id_or_path: str | os.PathLike[str],
    *,
    revision: str | None = "main",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
) -> ModelSource:
    """Find out where a model's files are; nothing is downloaded before a file is asked for.

    Args:
        model_id_or_path: tried in this order: an existing folder; `bundled/NAME`, a checkpoint that ships with this
            package; a Hub id, `name` or `organisation/name`. What is written like a path never goes to the Hub.
        revision: branch, tag or commit on the Hub. All files of one source come from one commit.
        cache_dir: where downloads are kept; the Hub's usual cache unless given.
        token: a Hub token, True for the one that `hf auth login` stored, False for none, None for the stored one if
            there is one.
        local_files_only: take what is in the cache and never use the network, as the variable HF_HUB_OFFLINE=1 does.
        force_download: download again what is in the cache.
        subfolder: folder inside the model's folder or repository, a plain relative name.

    Returns:
        The source of the model's files.

    Raises:
        OSError: there is no such folder or bundled checkpoint, or it cannot be a Hub id.
        ValueError: `subfolder` is not a plain relative name, or `force_download` is combined with `local_files_only`.
    """
    name = os.fspath(model_id_or_path)
    if not name:
        raise OSError("the model id is empty; pass a folder, a Hub id or bundled/NAME.")
    if force_download and local_files_only:
        raise ValueError(
            "force_download=True needs the network, which local_files_only=True forbids; pass one of them."
        )
    if subfolder:
        _check_plain(subfolder)
    path = Path(name).expanduser()
    if path.is_dir():
        folder = _subfolder(path, subfolder)
        finish_interrupted_save(folder)
        return ModelSource(name, folder)
    if path.is_file():
        raise OSError(f"{name} is a file; pass the folder that it is in: {path.parent}")
    if name.startswith(BUNDLED_PREFIX):
        return ModelSource(name, _subfolder(_bundled_folder(name), subfolder))
    if isinstance(model_id_or_path, os.PathLike) or _looks_like_path(name):
        raise OSError(f"there is no folder {name}")
    _check_hub_id(name)
    cache = None if cache_dir is None else Path(cache_dir)
    repository = _HubRepository(
        name, revision or "main", cache, token, local_files_only, force_download, subfolder=subfolder
    )
    return ModelSource(name, None, repository)


@dataclass(frozen=True)
class ModelSource:
    """Where the files of one model come from.

    Names of files are plain relative names such as "config.json" or "part/model.safetensors": a name that is absolute,
    climbs with "..", or has a backslash, a colon or a NUL raises ValueError, since names are read from files that
    strangers wrote. Links inside a folder are followed: the Hub's cache is made of links.

    Attributes:
        name: what the user wrote.
        folder: the local folder, None for a repository on the Hub.
    """

    name: str
    folder: Path | None
    _repository: _HubRepository | None = field(default=None, repr=False)

    def file(self, name: str) -> Path | None:
        """The local path of a file, which is downloaded if need be.

        Args:
            name: a plain relative name.

        Returns:
            The path, or None if the source has no such file.

        Raises:
            OSError: it could not be found out or downloaded (no network, no permission, no such model or revision).
            ValueError: the name could lead out of the source.
        """
        _check_plain(name)
        if self._repository is not None:
            return self._repository.file(name)
        assert self.folder is not None
        path = self.folder / name
        return path if path.is_file() else None

    def require(self, name: str) -> Path:
        """The local path of a file without which nothing can go on.

        Args:
            name: a plain relative name.

        Returns:
            The path.

        Raises:
            OSError: the source has no such file, or as in `file`.
            ValueError: the name could lead out of the source.
        """
        path = self.file(name)
        if path is None:
            where = f" in {self.folder}" if self.folder is not None and str(self.folder) != self.name else ""
            raise OSError(f"{self.name} has no {name}{where}{self.offline_note()}")
        return path

    def offline_note(self) -> str:
        """What to add to the news that the source has no such file: nothing, or that we did not look on the Hub."""
        if self._repository is None or not self._repository.is_offline:
            return ""
        return " in the local cache, and we are offline; download it once with a network"


@dataclass
class _HubRepository:
    """A repository on the Hub, downloaded file by file."""

    repo_id: str
    revision: str
    cache_dir: Path | None
    token: str | bool | None
    local_files_only: bool
    force_download: bool
    subfolder: str
    _commit: str | None = None  # known after the first download: files of two commits must not be mixed
    _found: dict[str, Path | None] = field(default_factory=dict)
    is_offline: bool = False  # known when something was looked for in vain

    def file(self, name: str) -> Path | None:
        """Download a file once; None if the repository does not have it."""
        if name not in self._found:
            self._found[name] = path = self._download(name)
            if path is not None:
                depth = len(PurePosixPath(self._path(name)).parts)
                self._commit = path.parents[depth - 1].name  # .../snapshots/COMMIT/subfolder/name
        return self._found[name]

    def _download(self, name: str) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            path = hf_hub_download(
                self.repo_id,
                self._path(name),
                revision=self._commit or self.revision,
                cache_dir=self.cache_dir,
                token=self.token,
                local_files_only=self.local_files_only,
                force_download=self.force_download,
                endpoint=_endpoint(),
                library_name=LIBRARY_NAME,
            )
        except Exception as error:  # below the client work requests, httpx or hf_xet, each with errors of its own
            reason = _root(error)
            if isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
                return None
            if _is_offline(reason):
                self.is_offline = True
                if self._is_absent_from_copy(name):
                    return None
            again = " again" if self.force_download else ""
            action = f"download {self._path(name)} of {self.repo_id}{again}"
            raise OSError(_sentence(reason, action, self.repo_id, self.revision)) from error
        return Path(path)

    def _is_absent_from_copy(self, name: str) -> bool:
        """Whether the cache holds a copy of this model, one that does not have the file."""
        known = self._cached(name)
        if isinstance(known, str):
            return False
        return known is not None or isinstance(self._cached("config.json"), str)

    def _cached(self, name: str) -> object:
        """What the cache knows of a file: its path, a marker if the repository does not have it, None for nothing."""
        from huggingface_hub import try_to_load_from_cache

        revision = self._commit or self.revision
        return try_to_load_from_cache(self.repo_id, self._path(name), cache_dir=self.cache_dir, revision=revision)

    def _path(self, name: str) -> str:
        return f"{self.subfolder}/{name}" if self.subfolder else name


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a checkpoint folder to the Hub, in one commit.

    The files that make a checkpoint are uploaded (`CHECKPOINT_FILES`) and nothing else that lies there. Weights of an
    earlier checkpoint that the new one replaces, such as shards that are no longer needed, are removed by the same
    commit.

    Args:
        folder: what `save_pretrained` wrote.
        repo_id: `name` or `organisation/name`; the repository is made if it does not exist.
        commit_message: "Upload model with Trivit" unless given.
        private: whether a repository made by this call is private; the account's default unless given.
        token: a Hub token; the stored one unless given.
        revision: the branch to commit to; "main" unless given.
        create_pr: open a pull request instead of committing to the branch.

    Returns:
        The URL of the commit.

    Raises:
        OSError: the folder is not a checkpoint, or the Hub could not be reached or refused.
    """
    files = _checkpoint_files(Path(folder))
    _check_hub_id(repo_id)
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint(), token=token, library_name=LIBRARY_NAME)
    try:
        full_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.create_commit(
            full_id,
            _commit_operations(api, full_id, files, revision),
            commit_message=commit_message or "Upload model with Trivit",
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # as in downloads
        raise OSError(_sentence(_root(error), f"push to {repo_id}", repo_id, revision or "main")) from error
    return commit.commit_url


def _checkpoint_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise OSError(f"there is no folder {folder} to push")
    finish_interrupted_save(folder)
    files = sorted(path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern) if path.is_file())
    names = {path.name for path in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise OSError(
            f"{folder} is not a checkpoint: it needs config.json and model.safetensors; save_pretrained first."
        )
    return files


def _commit_operations(
    api: HfApi, repo_id: str, files: list[Path], revision: str | None
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Add the files and remove other weights: a model.safetensors left behind would be loaded instead of new shards."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = {entry.path for entry in api.list_repo_tree(repo_id, revision=revision)}
    weights_there = {path for path in there if any(fnmatch(path, pattern) for pattern in WEIGHT_FILES)}
    stale = sorted(weights_there - {file.name for file in files})
    additions = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
    return [*additions, *(CommitOperationDelete(path_in_repo=path) for path in stale)]


def _subfolder(folder: Path, subfolder: str) -> Path:
    inner = folder / subfolder
    if not inner.is_dir():
        raise OSError(f"{folder} has no folder {subfolder}")
    return inner


def _bundled_folder(name: str) -> Path:
    bundled = sorted(f"{BUNDLED_PREFIX}{path.name}" for path in BUNDLED.iterdir() if (path / "config.json").is_file())
    if name not in bundled:
        raise OSError(f"there is no {name} in this package; it has {', '.join(bundled) or 'no checkpoints'}.")
    return BUNDLED / name.removeprefix(BUNDLED_PREFIX)


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith("/") or ".." in name or "\\" in name or ":" in name


def _check_plain(name: str) -> None:
    if any(part in ("", ".", "..") for part in name.split("/")) or any(character in name for character in "\\:\0"):
        raise ValueError(
            f"{name!r} is not the name of a file inside a model; give a relative name such as 'config.json', "
            "without '..', backslashes or drive letters."
        )


def _check_hub_id(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        reason = str(error).partition(". Use `repo_type`")[0].rstrip(".")  # an argument of the client, not of ours
        raise OSError(f"{name!r} is neither a folder nor a Hub id: {reason}") from error


def _endpoint() -> str | None:
    """The Hub to talk to, read at every call; None for the client's default."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _root(error: Exception) -> BaseException:
    """What went wrong first: the client wraps it when it has no copy either, or when it was uploading."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    reason: BaseException = error
    while type(reason) in (ValueError, RuntimeError, LocalEntryNotFoundError) and reason.__cause__ is not None:
        reason = reason.__cause__
    return reason


def _is_offline(reason: BaseException) -> bool:
    """Whether the client was told not to use the network."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return isinstance(reason, (LocalEntryNotFoundError, OfflineModeIsEnabled))


def _sentence(reason: BaseException, action: str, repo_id: str, revision: str) -> str:
    """Say what kept us from the action, and what to do about it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    hub = HfApi(endpoint=_endpoint()).endpoint
    status = getattr(getattr(reason, "response", None), "status_code", None)
    log_in = "pass token=... or run `hf auth login`"
    if _is_offline(reason):
        why = "we are offline and have no copy of it that may be used; do it once with a network"
    elif isinstance(reason, GatedRepoError):
        why = f"the repository is gated; ask for access at {hub}/{repo_id}, then {log_in}"
    elif isinstance(reason, RepositoryNotFoundError):
        why = f"{hub} has no such repository; check the spelling or, if it is private, {log_in}"
    elif isinstance(reason, RevisionNotFoundError):
        why = f"the repository has no revision {revision!r}; name a branch, tag or commit that it has"
    elif status == 401:
        why = f"{hub} did not accept the token, or wants one (401); {log_in}"
    elif status == 403:
        why = f"{hub} says that this account may not (403); use a token with the permission"
    elif status is not None:
        why = f"{hub} answered with status {status}; try again later"
    else:
        detail = (str(reason).splitlines() or [""])[0] or type(reason).__name__
        why = (
            f"the exchange with {hub} failed ({detail}); check the network and HF_ENDPOINT, or work with what was "
            "downloaded before (local_files_only=True or HF_HUB_OFFLINE=1)"
        )
    return f"cannot {action}: {why}."
