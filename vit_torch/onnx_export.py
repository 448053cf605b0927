"""A model as an ONNX file, in float32 or in int8, for onnxruntime and other runtimes."""

from __future__ import annotations

import ast
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from vit_core.saving import replacing_files
from vit_torch.inference import layer_linears, require_int8
from vit_torch.pretrained import PreTrainedModel

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: What the exporter writes beside a node: the modules around it, from the model inwards.
SCOPES = "pkg.torch.onnx.name_scopes"


def export_onnx(model: PreTrainedModel, file: str | os.PathLike[str], dtype: Literal["int8"] | None = None) -> Path:
    """Write a model as an ONNX file, which takes batches of any size.

    With `dtype="int8"` the products of the transformer layers have weights and activations in int8, rounded as
    `optimize_for_inference` does it: a scale for each channel's weights, which have 7 bits so that sums are right on
    processors without VNNI, too, and one for each token, found when the model runs. Attention itself, norms, the patch
    projection, poolers and heads stay in float32. The file is about a quarter as large, and logits are off by two to
    three per cent of their range. Its products are an operator of onnxruntime's own.

    Args:
        model: a model of this package in float32. It is exported as in evaluation mode, and stays as it is.
        file: where to write; what was there is replaced at once, when everything is written. The weights stand beside
            it, in `{file}.data`.
        dtype: "int8", or None for float32.

    Returns:
        The file. Its input is `pixel_values`, (batch, channels, height, width); its outputs have the names that the
        model's output has.

    Raises:
        ImportError: onnx or onnxscript is missing.
        OSError: the files cannot be written; what was there before is untouched.
        TypeError: the model is none of this package.
        ValueError: the dtype is another, the model is not in float32, or this PyTorch does not say which of a file's
            products are those of the layers.
    """
    require_int8(dtype)
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"{type(model).__name__} is no model of vit_torch; give one, as from_pretrained returns it.")
    if model.dtype != torch.float32:
        raise ValueError(f"the model is in {model.dtype}; export it in float32: model.float().")
    try:
        import onnx
        import onnxscript  # noqa: F401  # which the exporter needs

        from vit_torch.onnx_int8 import round_products
    except ImportError as error:
        raise ImportError(
            f'export_onnx needs {error.name}, which is not installed: pip install "trivit[onnx]"'
        ) from error
    file, weights = Path(file), f"{Path(file).name}.data"
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / file.name)
        exported = onnx.load(Path(folder) / file.name)
    if dtype == "int8":
        names = nodes_of_layers(model, exported)
        if not names:
            raise ValueError("PyTorch's exporter named no product of a transformer layer; torch 2.9 and later do.")
        round_products(exported, names)
    for node in exported.graph.node:
        del node.metadata_props[:]  # where in whose files its code stands
    with replacing_files(file.parent, (file.name, weights)) as staging:
        onnx.save(exported, staging / file.name, save_as_external_data=True, location=weights)
        (staging / weights).touch()  # where every tensor is so small that it is in the file itself
        shutil.copymode(staging / file.name, staging / weights)
        for name in (file.name, weights):
            with open(staging / name, "r+b") as written:
                os.fsync(written.fileno())
    return file


def export(model: PreTrainedModel, file: Path) -> None:
    """Have PyTorch write a model, its weights beside it."""
    was_training = model.training
    model.eval()
    (images,) = model.dummy_inputs.values()
    pixel_values = images.to(model.device).expand(2, *images.shape[1:])  # a batch of one would be a case of its own
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            torch.onnx.export(
                model,
                (pixel_values,),
                file,
                input_names=["pixel_values"],
                output_names=list(model(pixel_values)),
                dynamo=True,
                dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
                external_data=True,
                verbose=False,
            )
    finally:
        model.train(was_training)


def nodes_of_layers(model: PreTrainedModel, exported: ModelProto) -> set[str]:
    """The names of the products that are a transformer layer's; see `vit_torch.inference.IN_LAYERS`."""
    in_layers = {id(linear) for module in model.modules() for linear in layer_linears(module)}
    linears = {name for name, module in model.named_modules() if id(module) in in_layers}
    return {node.name for node in exported.graph.node if node.op_type == "MatMul" and linears & scopes(node)}


def scopes(node: NodeProto) -> set[str]:
    """The names of the modules that a node is part of."""
    written = (each.value for each in node.metadata_props if each.key == SCOPES)
    return {name for names in written for name in ast.literal_eval(names)}
