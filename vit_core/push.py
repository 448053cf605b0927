"""A folder becomes a commit on the Hub."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vit_core.file_names import MODEL_CARD_NAME, OTHER_FILES, WEIGHTS_NAME
from vit_core.hub_client import LIBRARY_NAME, check_hub_id, endpoint, root_cause, sentence
from vit_core.links import require_inside
from vit_core.saving import finish_interrupted_save
from vit_core.weights_choice import kind_of

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

    The files that make a checkpoint are uploaded and nothing else that lies there: config, settings of the images,
    model card, and weights of every kind and variant. Weights of an earlier checkpoint that they replace, such as
    shards that are no longer needed, or safetensors where these are of another kind, which would be read instead, are
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
        OSError: the folder has no such file, or one that is a link out of it, or the Hub could not be reached or
            refused.
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


def push_if_asked(folder: str | os.PathLike[str], is_asked: bool, options: Mapping[str, Any]) -> None:
    """Upload what `save_pretrained(folder, push_to_hub=..., ...)` wrote, if it was asked to.

    Args:
        folder: where it was saved.
        is_asked: the option `push_to_hub`.
        options: `repo_id`, the folder's name unless given, and other options of `Pushable.push_to_hub`. If nothing is
            pushed they mean nothing, but one that does not exist is warned of.

    Raises:
        OSError: the Hub could not be reached or refused.
        TypeError: an option does not exist.
    """
    options = {name: value for name, value in pushing_options(options).items() if name not in OF_MODELS}
    if is_asked:
        push_to_hub(folder, options.pop("repo_id", None) or Path(folder).resolve().name, **options)
    elif unknown := [name for name in options if name not in signature(push_to_hub).parameters]:
        warnings.warn(
            f"save_pretrained has no option {', '.join(unknown)}, which is left out.", UserWarning, stacklevel=3
        )


def pushing_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of transformers' push_to_hub that mean something here, under the names that they have here."""
    kept = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}
    for old, new in OLD_NAMES.items():
        if (value := kept.pop(old, None)) is not None and kept.get(new) is None:
            kept[new] = value
    return kept


#: Options of transformers' push_to_hub that change nothing: a commit is always made from a folder of its own.
WITHOUT_EFFECT = ("use_temp_dir", "repo_url", "organization")
#: Options of transformers' push_to_hub that a model's save_pretrained has, and other classes pass on for nothing.
OF_MODELS = ("max_shard_size", "safe_serialization")
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
        old_token = saving.pop("token", None)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, **saving)
            return push_to_hub(
                folder,
                repo_id,
                commit_message=commit_message,
                private=private,
                token=old_token if token is None else token,
                revision=revision,
                create_pr=create_pr,
                commit_description=commit_description,
                tags=tags,
            )


class PushableModel(Pushable):
    """A model, which may have tags for the card that it gets on the Hub."""

    model_tags: list[str] | None = None

    def add_model_tags(self, tags: str | Sequence[str]) -> None:
        """Add tags to those that the model's card gets when it is pushed to the Hub."""
        self.model_tags = list(dict.fromkeys([*(self.model_tags or ()), *_as_list(tags)]))

    def push_to_hub(self, *args: Any, tags: str | Sequence[str] | None = None, **options: Any) -> str:
        """See `Pushable.push_to_hub`; the model's tags are added to those that are given."""
        return super().push_to_hub(*args, tags=[*(self.model_tags or ()), *_as_list(tags)], **options)


def _as_list(tags: str | Sequence[str] | None) -> list[str]:
    return [tags] if isinstance(tags, str) else list(tags or ())


def _checkpoint_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise OSError(f"there is no folder {folder} to push")
    finish_interrupted_save(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_of_a_checkpoint(path.name))
    if not files:
        raise OSError(f"{folder} has neither weights nor {', '.join(OTHER_FILES)} to push; save_pretrained first.")
    return [require_inside(file, folder) for file in files]


def _is_of_a_checkpoint(name: str) -> bool:
    return name in OTHER_FILES or kind_of(name) is not None


def _commit_operations(
    api: HfApi, repo_id: str, files: list[Path], revision: str | None
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Add the files and remove weights that they replace: what is left behind would be loaded instead of them."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = {file.name for file in files}
    kinds = {kind for name in names if (kind := kind_of(name))}
    replaced = kinds | {(WEIGHTS_NAME, variant) for _, variant in kinds}
    stale = []
    if kinds:
        there = {entry.path for entry in api.list_repo_tree(repo_id, revision=revision)}
        stale = sorted(path for path in there - names if kind_of(path) in replaced)
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
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.get("tags") or []), *_as_list(tags)]))
    return [CommitOperationAdd(path_in_repo=MODEL_CARD_NAME, path_or_fileobj=str(card).encode())]
