"""A folder becomes a commit on the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vit_core.file_names import CHECKPOINT_FILES, WEIGHT_FILES
from vit_core.hub_client import LIBRARY_NAME, check_hub_id, endpoint, root_cause, sentence
from vit_core.saving import finish_interrupted_save

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi


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

    The files that make a checkpoint are uploaded (`CHECKPOINT_FILES`) and nothing else that lies there. When weights
    are among them, those of an earlier checkpoint that they replace, such as shards that are no longer needed, are
    removed by the same commit.

    Args:
        folder: what `save_pretrained` of a model, a config or an image processor wrote.
        repo_id: `name` or `organisation/name`; the repository is made if it does not exist.
        commit_message: "Upload with Trivit" unless given.
        private: whether a repository made by this call is private; the account's default unless given.
        token: a Hub token; the stored one unless given.
        revision: the branch to commit to; "main" unless given.
        create_pr: open a pull request instead of committing to the branch.

    Returns:
        The URL of the commit.

    Raises:
        OSError: the folder has no such file, or the Hub could not be reached or refused.
    """
    files = _checkpoint_files(Path(folder))
    check_hub_id(repo_id)
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), token=token, library_name=LIBRARY_NAME)
    try:
        full_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.create_commit(
            full_id,
            _commit_operations(api, full_id, files, revision),
            commit_message=commit_message or "Upload with Trivit",
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # as in downloads
        raise OSError(sentence(root_cause(error), f"push to {repo_id}", repo_id, revision or "main")) from error
    return commit.commit_url


class Pushable:
    """What `save_pretrained` writes to a folder, `push_to_hub` writes to a repository."""

    save_pretrained: Callable[..., Any]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **saving: Any,
    ) -> str:
        """Save to a repository on the Hub, in one commit.

        Args:
            repo_id: `name` or `organisation/name`; the repository is made if it does not exist.
            commit_message: "Upload with Trivit" unless given.
            private: whether a repository made by this call is private; the account's default unless given.
            token: a Hub token; the stored one unless given.
            revision: the branch to commit to; "main" unless given.
            create_pr: open a pull request instead of committing to the branch.
            **saving: options of `save_pretrained`.

        Returns:
            The URL of the commit.

        Raises:
            OSError: the Hub could not be reached or refused.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, **saving)
            return push_to_hub(
                folder,
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
            )


def _checkpoint_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise OSError(f"there is no folder {folder} to push")
    finish_interrupted_save(folder)
    files = sorted(path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise OSError(f"{folder} has none of {', '.join(CHECKPOINT_FILES)} to push; save_pretrained first.")
    return files


def _commit_operations(
    api: HfApi, repo_id: str, files: list[Path], revision: str | None
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Add the files and remove other weights: a model.safetensors left behind would be loaded instead of new shards."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = {file.name for file in files}
    stale = []
    if any(_is_weights(name) for name in names):
        there = {entry.path for entry in api.list_repo_tree(repo_id, revision=revision)}
        stale = sorted(path for path in there - names if _is_weights(path))
    additions = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
    return [*additions, *(CommitOperationDelete(path_in_repo=path) for path in stale)]


def _is_weights(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WEIGHT_FILES)
