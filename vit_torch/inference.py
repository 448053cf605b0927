"""Making a model ready for inference on a processor: the same numbers, parameters and names, in less time."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from vit_torch.layers import ViTSelfAttention
from vit_torch.packing import PackedLinear, PackedWeights

Model = TypeVar("Model", bound=nn.Module)


def optimize_for_inference(model: Model) -> Model:
    """Have a model lay out its weights for their products, and make one product of queries, keys and values.

    What `from_pretrained` returns is fast already; this takes the memory of the weights once more, and pays where a
    model sees many batches. Parameters keep their names and values, hooks see what they always saw, and the model can
    still be saved, loaded into, trained and moved: a layout is made anew when weights change, and there is none where
    it would not be right (with gradients, on a GPU, under `torch.compile` or autocast). Of what is written through a
    parameter's `data`, PyTorch keeps no record: call this again then. Outputs are the same up to rounding. The second
    batch of a size takes longer, as layouts are made for the size of a batch.

    Args:
        model: a model of this package, or one that has such inside.

    Returns:
        The model itself, in evaluation mode.

    Raises:
        ValueError: no layer of this package is in it.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    attentions = [module for module in modules if isinstance(module, ViTSelfAttention)]
    if not attentions:
        raise ValueError(
            f"there is no layer of a Vision Transformer of this package in {type(model).__name__}; "
            "give a model that vit_torch made."
        )
    for attention in attentions:
        attention.packed_weights = PackedWeights()
    together = {id(linear) for each in attentions for linear in (each.query, each.key, each.value)}
    for linear in modules:
        if type(linear) in (nn.Linear, PackedLinear) and id(linear) not in together:
            PackedLinear.take_over(linear)
    return model.eval()
