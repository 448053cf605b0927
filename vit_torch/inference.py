"""Making a model ready for inference on a processor: the same parameters and names, in less time."""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import nn

from vit_torch.int8 import Int8Weights, greatest_weight
from vit_torch.layers import ViTIntermediate, ViTOutput, ViTSelfAttention, ViTSelfOutput
from vit_torch.packing import PackedLinear, PackedWeights

Model = TypeVar("Model", bound=nn.Module)

#: The linear layers whose products may be of int8. What comes before the layers and after them stays as it is.
IN_LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    ViTSelfAttention: ("query", "key", "value"),
    ViTSelfOutput: ("dense",),
    ViTIntermediate: ("gate", "dense"),
    ViTOutput: ("dense",),
}


def optimize_for_inference(model: Model, dtype: Literal["int8"] | None = None) -> Model:
    """Have a model lay out its weights for their products, and make one product of queries, keys and values.

    What `from_pretrained` returns is fast already; this takes the memory of the weights once more, and pays where a
    model sees many batches. Parameters keep their names and values, hooks see what they always saw, and the model can
    still be saved, loaded into, trained and moved: a layout is made anew when weights change, and there is none where
    it would not be right (with gradients, on a GPU, under `torch.compile` or autocast). Of what is written through a
    parameter's `data`, PyTorch keeps no record: call this again then. Outputs are the same up to rounding. The second
    batch takes longer, as layouts are made; in float32 on Intel's processors they are for one size of a batch.

    With `dtype="int8"` the products of the transformer layers have weights and activations in int8; attention itself,
    norms, activation functions, the patch projection, poolers and heads stay in float32. Logits are off by one to three
    per cent of their range. This is for float32 models on x86 processors, and much faster on those with VNNI or AMX;
    without them weights have 7 bits, as sums would otherwise be wrong. The int8 weights take a quarter of the memory of
    the float32 ones, which stay. Where there is no layout, as with gradients, products are of float32: call the model
    under `torch.inference_mode()` or `torch.no_grad()`. A model of bfloat16 or float16 has layouts of its own dtype.

    Args:
        model: a model of this package, or one that has such inside.
        dtype: "int8", or None for the model's own dtype, which also takes int8 back.

    Returns:
        The model itself, in evaluation mode.

    Raises:
        ValueError: no layer of this package is in it, the dtype is another, or PyTorch has no exact products of int8
            on this processor.
    """
    require_int8(dtype)
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    attentions = [module for module in modules if isinstance(module, ViTSelfAttention)]
    if not attentions:
        raise ValueError(
            f"there is no layer of a Vision Transformer of this package in {type(model).__name__}; "
            "give a model that vit_torch made."
        )
    if dtype == "int8" and greatest_weight() is None:
        raise ValueError(
            "PyTorch has no exact products of int8 on this processor: they take AVX2 at least, and oneDNN in PyTorch; "
            "call optimize_for_inference without a dtype."
        )
    in_layers = {id(linear) for module in modules for linear in layer_linears(module)}
    together = {id(linear) for each in attentions for linear in (each.query, each.key, each.value)}
    for attention in attentions:
        attention.packed_weights = Int8Weights() if dtype == "int8" else PackedWeights()
    for linear in modules:
        if type(linear) not in (nn.Linear, PackedLinear):
            continue
        if dtype == "int8" and id(linear) in in_layers:
            PackedLinear.take_over(linear, Int8Weights())
        elif id(linear) not in together:
            PackedLinear.take_over(linear, PackedWeights())
        elif isinstance(linear, PackedLinear):
            linear.give_back()
    return model.eval()


def require_int8(dtype: object) -> None:
    """Refuse what is neither int8 nor the model's own dtype."""
    if dtype not in (None, "int8"):
        raise ValueError(f'dtype is {dtype!r}; give "int8", or nothing for products in the dtype of the model.')


def layer_linears(module: nn.Module) -> list[nn.Module]:
    """The linear layers that a part of a transformer layer has."""
    names = {name for part, names in IN_LAYERS.items() if isinstance(module, part) for name in names}
    return [layer for name, layer in module.named_children() if name in names]
