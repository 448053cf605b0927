"""Making a model ready for inference on a processor: computed by onnxruntime, in float32 or with products of int8."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from jaxtyping import Float
from tensorflow import Tensor

from vit_core.saving import write_file
from vit_tf.layers import ViTLayer
from vit_tf.pretrained import PreTrainedModel

BYTES = {None: 4, "int8": 1}  # of a weight
LARGEST_FILE = 2**31


class OptimizedModel:
    """A model for inference that onnxruntime computes; see `optimize_for_inference`.

    Attributes:
        config: that of the model that it was made of.
        data_format: "channels_first" or "channels_last", as that model's.
        serialized: the bytes of the ONNX file.
    """

    def __init__(self, model: PreTrainedModel, serialized: bytes, session: Any) -> None:
        self.config, self.data_format = model.config, model.data_format
        self.serialized = serialized
        self._output_class: Any = model.output_class
        self._session = session

    def __call__(self, pixel_values: Float[Tensor, "batch channels height width"]) -> Any:
        """What the model returns for images, in tensors of float32."""
        names = [output.name for output in self._session.get_outputs()]
        images = np.asarray(pixel_values, np.float32)
        outputs = self._session.run(names, {PreTrainedModel.main_input_name: images})
        return self._output_class(**dict(zip(names, map(tf.convert_to_tensor, outputs), strict=True)))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the ONNX file, for which onnxruntime needs neither TensorFlow nor this package.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        write_file(Path(path), self.serialized)


def optimize_for_inference(model: PreTrainedModel, dtype: Literal["int8"] | None = None) -> OptimizedModel:
    """Make a copy of a model that onnxruntime computes on a processor, in less time than TensorFlow.

    The copy takes images of the config's size, in batches of any, and returns what the model returns. With "int8" the
    linear layers of the encoder multiply in 8 bits: queries, keys, values, attention's output and the MLP, with a scale
    for each channel of the weights and one for each token, found as it comes, so that no image changes another's
    answer. The rest is computed in float32. Weights are copied: what becomes of the model's later is not seen. There
    are as many threads as `tf.config.threading.set_intra_op_parallelism_threads` says.

    Args:
        model: a model of this package in float32.
        dtype: "int8", with outputs that are close, or None for float32, with such that are the same up to rounding.

    Raises:
        ValueError: the model is not in float32, is quantized, is larger than 2 GB, or computes what has no translation
            to ONNX; or there is no such dtype.
        ImportError: onnx or onnxruntime is not installed.
    """
    try:
        import onnxruntime

        from conversion.onnx_int8 import int8_product
        from vit_tf.onnx_graph import onnx_model
    except ImportError as error:
        raise ImportError(
            f'optimize_for_inference needs {error.name}, which is not installed: pip install "trivit[onnx]"'
        ) from error
    _check(model, dtype)

    def call(pixel_values: Tensor) -> dict[str, Tensor]:
        return dict(model(pixel_values, output_attentions=False, output_hidden_states=False, return_dict=True))

    layers = list(model._flatten_layers())
    linears = [
        part
        for layer in layers
        if isinstance(layer, ViTLayer)
        for part in layer._flatten_layers()
        if isinstance(part, keras.layers.Dense)
    ]
    products = {id(linear.kernel): int8_product for linear in linears} if dtype == "int8" else {}
    images = tf.TensorSpec(model.image_batch_shape, tf.float32, model.main_input_name)
    serialized = onnx_model(call, images, layers, products).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = tf.config.threading.get_intra_op_parallelism_threads()
    session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    return OptimizedModel(model, serialized, session)


def _check(model: Any, dtype: str | None) -> None:
    if dtype not in tuple(BYTES):
        raise ValueError(f'dtype is {dtype!r}; give "int8", or nothing for products in float32.')
    if not isinstance(model, PreTrainedModel) or model.output_class is None:
        raise ValueError(f"{type(model).__name__} is no model of this package; give one that vit_tf made.")
    if model.dtype_policy.compute_dtype != "float32" or model.dtype_policy.variable_dtype != "float32":
        raise ValueError(f"the model is in {model.dtype_policy.name}; load it with dtype='float32'.")
    if any(getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()):
        raise ValueError("the model is quantized already; give the one that it was quantized from.")
    if (size := model.count_params() * BYTES[dtype]) >= LARGEST_FILE:
        in_dtype = f"{size / 1e9:.1f} GB in {dtype or 'float32'}"
        raise ValueError(f"the model takes {in_dtype}, and an ONNX file holds less than 2.1 GB.")
