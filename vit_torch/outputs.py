"""The outputs as torch's pytrees, so that they pass through torch.export, vmap and data parallelism."""

from torch.export import register_dataclass

from vit_core import BaseModelOutput, BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput

__all__ = ["BaseModelOutput", "BaseModelOutputWithPooling", "ImageClassifierOutput", "MaskedImageModelingOutput"]

for _output in (BaseModelOutput, BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput):
    register_dataclass(_output, serialized_type_name=f"{_output.__module__}.{_output.__name__}")
