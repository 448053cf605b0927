"""A callback that saves a model as it trains, and pushes what it saved to the Hub."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from vit_core.file_names import MODEL_CARD_NAME
from vit_core.hub_client import LIBRARY_NAME, check_hub_id, endpoint, root_cause, sentence
from vit_core.push import push_to_hub
from vit_tf.model_card import ARGUMENTS, model_card

STRATEGIES = ("no", "epoch", "steps")
CHECKPOINT_FOLDER = "checkpoint"


class PushToHubCallback(keras.callbacks.Callback):
    """Saves the model in a folder and pushes it to the Hub, with a model card.

    While a push is under way training goes on, and nothing else is saved. The end of training is always saved and
    pushed.

    Args:
        output_dir: the folder; made if need be.
        save_strategy: when to save: "epoch", at the end of each; "steps", every `save_steps`; or "no", at the end of
            training alone.
        save_steps: steps between two saves.
        tokenizer: what else to save: the image processor.
        hub_model_id: `name` or `organisation/name` of the repository, which is made if need be; the folder's name
            unless given.
        hub_token: a Hub token; the stored one unless given.
        checkpoint: whether to keep what training needs to go on too: `checkpoint/model.keras`, with the optimizer's
            state, and the number of the epoch in `checkpoint/epoch.json`. For the strategy "epoch".
        **model_card_args: what the card says of the model: `language`, `license`, `tags`, `finetuned_from`, `tasks`,
            `dataset_tags`, `dataset`, `dataset_args`.

    Raises:
        OSError: the Hub could not be reached or refused.
        TypeError: an argument of the card does not exist.
        ValueError: the strategy does not exist, lacks its number of steps, or has no checkpoints.
    """

    def __init__(
        self,
        output_dir: str | PathLike[str],
        save_strategy: str = "epoch",
        save_steps: int | None = None,
        tokenizer: Any = None,
        hub_model_id: str | None = None,
        hub_token: str | bool | None = None,
        checkpoint: bool = False,
        **model_card_args: Any,
    ) -> None:
        super().__init__()
        self.save_strategy = str(getattr(save_strategy, "value", save_strategy)).lower()  # or transformers' enum
        if self.save_strategy not in STRATEGIES:
            raise ValueError(f"save_strategy is {save_strategy!r}; it must be one of {', '.join(STRATEGIES)}.")
        if self.save_strategy == "steps" and (not isinstance(save_steps, int) or save_steps < 1):
            raise ValueError(f"save_steps is {save_steps!r}; save_strategy 'steps' needs a whole number, 1 or more.")
        if checkpoint and self.save_strategy != "epoch":
            raise ValueError(f"checkpoint=True needs save_strategy 'epoch', and it is {self.save_strategy!r}.")
        if unknown := [name for name in model_card_args if name not in ARGUMENTS]:
            raise TypeError(f"PushToHubCallback takes no {unknown[0]!r}; for the card it takes {', '.join(ARGUMENTS)}.")
        self.output_dir = Path(output_dir)
        self.save_steps = save_steps
        self.tokenizer = tokenizer
        self.checkpoint = checkpoint
        self.hub_token = hub_token
        self.model_card_args = model_card_args
        self.hub_model_id = _make_repository(hub_model_id or self.output_dir.absolute().name, hub_token)
        self.training_history: list[dict[str, Any]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push-to-hub")
        self._push: Future[None] | None = None
        self._saved_step = 0
        # Keras waits for each step's numbers for the sake of callbacks that look at batches, unless they say this.
        self.async_safe = self.save_strategy != "steps"

    def set_model(self, model: Any) -> None:
        """Take the model that is about to be trained.

        Raises:
            TypeError: it has no `save_pretrained`.
        """
        if not hasattr(model, "save_pretrained"):
            raise TypeError(
                f"PushToHubCallback saves with save_pretrained, which a {type(model).__name__} has not; after "
                "training, call push_to_hub of the Vision Transformer inside it."
            )
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start a new history."""
        self.training_history = []
        self._saved_step = self._step()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """With the strategy "steps", save and push if it is time."""
        if self.save_strategy == "steps":
            step = self._step()  # it may have gone on by several, with steps_per_execution
            if step // self.save_steps > self._saved_step // self.save_steps and self._is_free():  # type: ignore[operator]
                self._saved_step = step
                self._save_and_push(f"Training in progress, step {step}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the logs and, with the strategy "epoch", save and push."""
        self.training_history.append({"epoch": epoch, **(logs or {})})
        if self.save_strategy == "epoch" and self._is_free():
            if self.checkpoint:
                self._save_checkpoint(epoch)
            self._save_and_push(f"Training in progress, epoch {epoch}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Save and push, and wait until it is there.

        Raises:
            OSError: the Hub could not be reached or refused.
        """
        if self._push is not None:
            self._push.exception()  # waits
            self._is_free()
        if self.checkpoint and self.training_history:
            self._save_checkpoint(self.training_history[-1]["epoch"])
        self._save_and_push("End of training")
        assert self._push is not None
        push, self._push = self._push, None
        if (error := push.exception()) is not None:
            raise OSError(f"{error} The trained model is in {self.output_dir}.") from error

    def _step(self) -> int:
        return int(self.model.optimizer.iterations)

    def _is_free(self) -> bool:
        """Whether no push is under way. One that failed is told of, and not the end of a training."""
        if self._push is None:
            return True
        if not self._push.done():
            return False
        push, self._push = self._push, None
        if (error := push.exception()) is not None:
            warnings.warn(f"{error} Training goes on, and the next save is pushed.", stacklevel=2)
        return True

    def _save_and_push(self, message: str) -> None:
        self.model.save_pretrained(self.output_dir)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(self.output_dir)
        card = model_card(self.hub_model_id, self.model, self.training_history, self.model_card_args)
        (self.output_dir / MODEL_CARD_NAME).write_text(card, encoding="utf-8")
        self._push = self._thread.submit(self._upload, message)

    def _save_checkpoint(self, epoch: int) -> None:
        folder = self.output_dir / CHECKPOINT_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder / "model.keras")
        (folder / "epoch.json").write_text(json.dumps({"epoch": epoch}) + "\n")

    def _upload(self, message: str) -> None:
        push_to_hub(self.output_dir, self.hub_model_id, commit_message=message, token=self.hub_token)
        if self.checkpoint:
            from huggingface_hub import HfApi

            with _in_one_sentence(self.hub_model_id):
                HfApi(endpoint=endpoint(), token=self.hub_token, library_name=LIBRARY_NAME).upload_folder(
                    repo_id=self.hub_model_id,
                    folder_path=self.output_dir / CHECKPOINT_FOLDER,
                    path_in_repo=CHECKPOINT_FOLDER,
                    commit_message=f"{message}: checkpoint",
                )


def _make_repository(name: str, token: str | bool | None) -> str:
    """Make the repository, if need be, and return its full name; at once, so that a bad token costs no training."""
    check_hub_id(name)
    from huggingface_hub import HfApi

    with _in_one_sentence(name):
        return (
            HfApi(endpoint=endpoint(), token=token, library_name=LIBRARY_NAME).create_repo(name, exist_ok=True).repo_id
        )


@contextmanager
def _in_one_sentence(repo_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # as in downloads
        raise OSError(sentence(root_cause(error), f"push to {repo_id}", repo_id, "main")) from error
