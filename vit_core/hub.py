"""A model id becomes files: a folder, a checkpoint that ships with the package, or a repository on the Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vit_core.checks import shown
from vit_core.hub_client import LIBRARY_NAME, check_hub_id, endpoint, is_offline, root_cause, sentence
from vit_core.links import require_inside
from vit_core.saving import finish_interrupted_save

BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_PREFIX = "bundled/"
#: Names that end like this are files, not models on the Hub.
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".npz", ".h5", ".hdf5", ".keras", ".msgpack")


def locate(
    model_id_or_path: str | os.PathLike[str],
    *,
    revision: str | None = "main",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str | None = "",
) -> ModelSource:
    """Find out where a model's files are; nothing is downloaded before a file is asked for.

    Args:
        model_id_or_path: tried in this order: an existing folder; a file of weights; `bundled/NAME`, a checkpoint that
            ships with this package; a Hub id, `name` or `organisation/name`. What is written like a path never goes to
            the Hub.
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
    name, subfolder = os.fspath(model_id_or_path), subfolder or ""
    if not name:
        raise OSError("the model id is empty; pass a folder, a Hub id or bundled/NAME.")
    if force_download and local_files_only:
        raise ValueError(
            "force_download=True needs the network, which local_files_only=True forbids; pass one of them."
        )
    if subfolder:
        _check_plain(subfolder)
    path = expanded(name)
    if path.is_dir():
        folder = _subfolder(path, subfolder)
        finish_interrupted_save(folder)
        return ModelSource(name, folder)
    if path.is_file():
        return ModelSource(name, path.parent, weights=path.name)
    if name.startswith(BUNDLED_PREFIX):
        return ModelSource(name, _subfolder(_bundled_folder(name), subfolder))
    if isinstance(model_id_or_path, os.PathLike) or _looks_like_path(name):
        raise OSError(f"there is no folder or file {name}; check the path.")
    check_hub_id(name)
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
    strangers wrote. Links are followed as far as they stay in the folder; see `vit_core.links`.

    Attributes:
        name: what the user wrote.
        folder: the local folder, None for a repository on the Hub.
        weights: the name of the file with the weights, if the user wrote a file; the others lie beside it.
    """

    name: str
    folder: Path | None
    _repository: _HubRepository | None = field(default=None, repr=False)
    weights: str | None = None

    def file(self, name: str) -> Path | None:
        """The local path of a file, which is downloaded if need be.

        Args:
            name: a plain relative name.

        Returns:
            The path, or None if the source has no such file.

        Raises:
            OSError: it could not be found out or downloaded (no network, no permission, no such model or revision), or
                is a link out of the folder.
            ValueError: the name could lead out of the source.
        """
        if self.folder is not None and name == self.weights:  # the user wrote it, and may have any name
            path = self.folder / name
            return path if path.is_file() else None
        _check_plain(name)
        if self._repository is not None:
            return self._repository.file(name)
        assert self.folder is not None
        path = self.folder / name
        return require_inside(path, self.folder) if path.is_file() else None

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
            advice = self.offline_note() or "; pass a model that save_pretrained wrote, or one from the Hub that has it"
            raise OSError(f"{self.name} has no {name}{where}{advice}.")
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
                endpoint=endpoint(),
                library_name=LIBRARY_NAME,
            )
        except Exception as error:  # below the client work requests, httpx or hf_xet, each with errors of its own
            reason = root_cause(error)
            if isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
                return None
            if is_offline(reason):
                self.is_offline = True
                if self._is_absent_from_copy(name):
                    return None
            again = " again" if self.force_download else ""
            action = f"download {self._path(name)} of {self.repo_id}{again}"
            raise OSError(sentence(reason, action, self.repo_id, self.revision)) from error
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


def expanded(name: str) -> Path:
    """A path in which `~` stands for a home, unless there is no such user: then it is a name like others."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _subfolder(folder: Path, subfolder: str) -> Path:
    inner = folder / subfolder
    if not inner.is_dir():
        raise OSError(f"{folder} has no folder {subfolder}")
    return require_inside(inner, folder)


def _bundled_folder(name: str) -> Path:
    bundled = sorted(f"{BUNDLED_PREFIX}{path.name}" for path in BUNDLED.iterdir() if (path / "config.json").is_file())
    if name not in bundled:
        raise OSError(f"there is no {name} in this package; it has {', '.join(bundled) or 'no checkpoints'}.")
    return BUNDLED / name.removeprefix(BUNDLED_PREFIX)


def _looks_like_path(name: str) -> bool:
    if name.lower().endswith(WEIGHT_SUFFIXES):
        return True
    return name.startswith((".", "/", "~")) or name.endswith("/") or ".." in name or "\\" in name or ":" in name


def _check_plain(name: str) -> None:
    if any(part in ("", ".", "..") for part in name.split("/")) or any(character in name for character in "\\:\0"):
        raise ValueError(
            f"{shown(name)} is not the name of a file inside a model; give a relative name such as 'config.json', "
            "without '..', backslashes or drive letters."
        )
