"""`export_onnx`: the file's answers are the model's, in int8 to a few per cent, and it holds nothing else."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vit_torch import AutoImageProcessor, ViTForImageClassification, ViTModel, export_onnx
from vit_torch.inference import IN_LAYERS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def run(file, pixel_values):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixel_values": pixel_values.numpy()}), strict=True))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The model that reads digits, and its file in int8."""
    model = ViTForImageClassification.from_pretrained("bundled/vit-digits")
    return model, export_onnx(model, tmp_path_factory.mktemp("digits") / "digits.onnx", dtype="int8")


def test_a_file_has_the_outputs_of_the_model_and_takes_any_batch(tiny_config, tmp_path):
    model = ViTModel(tiny_config).train()
    file = export_onnx(model, tmp_path / "new" / "model.onnx")
    assert model.training
    assert sorted(each.name for each in file.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    for batch in (1, 3):
        pixel_values = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            expected = model.eval()(pixel_values)
        outputs = run(file, pixel_values)
        assert list(outputs) == list(expected)
        for name, output in outputs.items():
            np.testing.assert_allclose(output, expected[name].numpy(), atol=1e-5)


def test_int8_reads_digits_as_well(digits):
    model, file = digits
    datasets, model_selection = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.model_selection")
    values, labels = datasets.load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    split = {"test_size": 0.25, "stratify": labels, "random_state": 0}  # the model card's
    _, test, _, labels = model_selection.train_test_split(images, labels, **split)
    processor = AutoImageProcessor.from_pretrained("bundled/vit-digits")
    pixel_values = processor([Image.fromarray(each) for each in test[:200]], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model(pixel_values).logits.numpy()
    logits = run(file, pixel_values)["logits"]
    assert 1e-4 < np.abs(logits - expected).max() / np.ptp(expected) < 0.03
    right, right_in_int8 = ((each.argmax(1) == labels[:200]).mean() for each in (expected, logits))
    assert abs(right_in_int8 - right) <= 0.005


def test_products_of_the_layers_are_int8_and_the_rest_is_float32(digits):
    model, file = digits
    exported = onnx.load(file)
    kinds = [node.op_type for node in exported.graph.node]
    linears = sum(len(names) for names in IN_LAYERS.values()) - 1  # none has a gate
    layers = model.config.num_hidden_layers
    assert kinds.count("MatMulIntegerToFloat") == layers * linears
    assert kinds.count("MatMul") == layers * 2  # queries with keys, and with values
    assert {"Conv", "Gemm", "LayerNormalization"} <= set(kinds)
    of_weights = [each for each in exported.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    weights = [onnx.numpy_helper.to_array(each) for each in of_weights if len(each.dims) == 2]
    assert len(weights) == layers * linears
    assert all(np.abs(each.astype(int)).max() <= 64 for each in weights)  # sums of pairs fit in 16 bits


def test_an_image_has_the_same_answer_in_any_batch(digits):
    _, file = digits
    pixel_values = torch.randn(3, 1, 32, 32) * torch.tensor([1, 10, 0.1]).reshape(3, 1, 1, 1)
    together = run(file, pixel_values)["logits"]
    for each, expected in zip(pixel_values, together, strict=True):
        np.testing.assert_allclose(run(file, each[None])["logits"][0], expected, atol=1e-5)


def test_a_file_in_int8_is_small_and_says_nothing_of_where_it_was_made(digits):
    model, file = digits
    weights = file.with_name(f"{file.name}.data")
    assert sorted(file.parent.iterdir()) == [file, weights]
    assert weights.stat().st_size < 0.35 * 4 * model.num_parameters()
    assert __file__.partition("tests")[0].encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda model: (model, "int4"), ValueError, r"dtype is 'int4'; give \"int8\", or nothing"),
        (
            lambda model: (model.bfloat16(), None),
            ValueError,
            r"in torch.bfloat16; export it in float32: model.float\(\)",
        ),
        (lambda model: (nn.Linear(2, 2), None), TypeError, "Linear is no model of vit_torch; give one"),
    ],
)
def test_what_cannot_be_exported_is_said(tiny_config, tmp_path, change, error, message):
    model, dtype = change(ViTModel(tiny_config))
    with pytest.raises(error, match=message):
        export_onnx(model, tmp_path / "model.onnx", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_said(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ImportError, match=r"export_onnx needs onnxscript, which is not installed: pip install \"trivit\[onnx\]\""
    ):
        export_onnx(ViTModel(tiny_config), tmp_path / "model.onnx", dtype="int8")
