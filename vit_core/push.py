"""A folder becomes a commit on the Hub."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vit_core.file_names import CHECKPOINT_FILES, MODEL_CARD_NAME, WEIGHT_FILES
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
    commit_description: str | None = None,
    tags: str | Sequence[str] | None = None,
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
        commit_description: more about the commit.
        tags: what the model's card names as its tags, beside those that it has.

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
            [
                *_commit_operations(api, full_id, files, revision),
                *_tagged_card(api, full_id, Path(folder), tags, revision),
            ],
            commit_message=commit_message or "Upload with Trivit",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # as in downloads
        raise OSError(sentence(root_cause(error), f"push to {repo_id}", repo_id, revision or "main")) from error
    return commit.commit_url


def push_saved(folder: str | os.PathLike[str], options: Mapping[str, Any]) -> str:
    """Upload what `save_pretrained(folder, push_to_hub=True, ...)` wrote.

    Args:
        folder: where it was saved.
        options: `repo_id`, the folder's name unless given, and other options of `Pushable.push_to_hub`.

    Returns:
        The URL of the commit.

    Raises:
        OSError: the Hub could not be reached or refused.
        TypeError: an option does not exist.
    """
    options = pushing_options(options)
    return push_to_hub(folder, options.pop("repo_id", None) or Path(folder).resolve().name, **options)


def pushing_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of transformers' push_to_hub that mean something here, under the names that they have here."""
    kept = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}
    for old, new in OLD_NAMES.items():
        if (value := kept.pop(old, None)) is not None:
            kept.setdefault(new, value)
    return kept


#: Options of transformers' push_to_hub that change nothing: a commit is always made from a folder of its own.
WITHOUT_EFFECT = ("use_temp_dir", "repo_url", "organization")
OLD_NAMES = {"use_auth_token": "token", "repo_path_or_name": "repo_id"}


#: The card of a model that has none, when tags ask for one.
NEW_CARD = """---
library_name: {library}
---

# {name}
"""


class Pushable:
    """What `save_pretrained` writes to a folder, `push_to_hub` writes to a repository."""

    save_pretrained: Callable[..., Any]

    def push_to_hub(
        self,
        repo_id: str,
        use_temp_dir: bool | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        *,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
        tags: str | Sequence[str] | None = None,
        **saving: Any,
    ) -> str:
        """Save to a repository on the Hub, in one commit.

        Args:
            repo_id: `name` or `organisation/name`; the repository is made if it does not exist.
            use_temp_dir: accepted for scripts that give it; a temporary folder is always used.
            commit_message: "Upload with Trivit" unless given.
            private: whether a repository made by this call is private; the account's default unless given.
            token: a Hub token; the stored one unless given.
            create_pr: open a pull request instead of committing to the branch.
            revision: the branch to commit to; "main" unless given.
            commit_description: more about the commit.
            tags: what the model's card names as its tags, beside those that it has.
            **saving: options of `save_pretrained`.

        Returns:
            The URL of the commit.

        Raises:
            OSError: the Hub could not be reached or refused.
        """
        saving = pushing_options(saving)
        if token is None:
            token = saving.pop("token", None)
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
                commit_description=commit_description,
                tags=tags,
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


def _tagged_card(
    api: HfApi, repo_id: str, folder: Path, tags: str | Sequence[str] | None, revision: str | None
) -> list[CommitOperationAdd]:
    """The model's card with tags added: the folder's, the repository's, or a new one; nothing without tags."""
    if not tags:
        return []
    from huggingface_hub import CommitOperationAdd, ModelCard, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    text = NEW_CARD.format(library=LIBRARY_NAME, name=repo_id)
    if (folder / MODEL_CARD_NAME).is_file():
        text = (folder / MODEL_CARD_NAME).read_text(encoding="utf-8")
    else:
        with TemporaryDirectory() as downloads, contextlib.suppress(EntryNotFoundError):
            file = hf_hub_download(
                repo_id,
                MODEL_CARD_NAME,
                revision=revision,
                endpoint=api.endpoint,
                token=api.token,
                local_dir=downloads,
            )
            text = Path(file).read_text(encoding="utf-8")
    card = ModelCard(text)
    added = [tags] if isinstance(tags, str) else list(tags)
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.get("tags") or []), *added]))
    return [CommitOperationAdd(path_in_repo=MODEL_CARD_NAME, path_or_fileobj=str(card).encode())]


def _is_weights(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WEIGHT_FILES)
