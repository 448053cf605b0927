"""The outputs as torch's pytrees, so that they pass through torch.export, vmap and data parallelism."""

from torch.export import register_dataclass

from vit_core import BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput

__all__ = ["BaseModelOutputWithPooling", "ImageClassifierOutput", "MaskedImageModelingOutput"]

for _output in (BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput):
    register_dataclass(_output, serialized_type_name=f"{_output.__module__}.{_output.__name__}")
