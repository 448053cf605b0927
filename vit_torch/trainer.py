"""transformers' Trainer, saving folders that are complete.

For scripts that train with `transformers.Trainer`, which writes the weights alone of a model that is none of its own.
Needs transformers, and is imported only by those who ask for it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vit_torch.pretrained import PreTrainedModel

try:
    import transformers
    from transformers.trainer import TRAINING_ARGS_NAME
except ImportError as error:
    raise ImportError(
        'vit_torch.trainer needs transformers and accelerate: pip install "transformers[torch]"'
    ) from error


class Trainer(transformers.Trainer):
    """transformers' Trainer, whose checkpoints and saved models are folders that `from_pretrained` opens as they are.

    Every argument and method is transformers' own. A model that is not of this package is saved as transformers would.
    """

    def __init__(self, *arguments: Any, **named_arguments: Any) -> None:
        super().__init__(*arguments, **named_arguments)
        if isinstance(self._unwrapped(), PreTrainedModel) and not getattr(self.args, "save_safetensors", True):
            warnings.warn(
                "save_safetensors=False asks for pickled weights; they are written as safetensors all the same.",
                stacklevel=2,
            )
            self.args.save_safetensors = True  # so that they are looked for under that name when training resumes

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        model = self._unwrapped()
        if not isinstance(model, PreTrainedModel):
            super()._save(output_dir, state_dict)
            return
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        if state_dict == {}:  # DeepSpeed keeps the weights in files of its own
            model.config.save_pretrained(folder)
        else:
            model.save_pretrained(folder, state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        torch.save(self.args, folder / TRAINING_ARGS_NAME)

    def _unwrapped(self) -> nn.Module:
        """The model itself, without what distribution and torch.compile put around it."""
        model = self.accelerator.unwrap_model(self.model)
        return getattr(model, "_orig_mod", model)
