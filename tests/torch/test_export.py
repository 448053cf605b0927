"""What torch's compilers make of the models."""

import io
import shutil

import numpy as np
import pytest
import torch
from torch.export import Dim

from vit_torch import ImageClassifierOutput, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

TOLERANCE = 1e-4

# Sizes of one patch are compiled apart from larger ones, so height and width start at two patches.
BATCH = {0: Dim("batch")}
BATCH_AND_SIZE = {0: Dim("batch"), 2: Dim("height", min=16), 3: Dim("width", min=16)}


@pytest.fixture
def model(tiny_config):
    return ViTForImageClassification(tiny_config).eval()


@pytest.fixture
def fullgraph():
    """Compile without a break; the graph is run as it was captured, for speed."""
    torch._dynamo.reset()
    return lambda model, backend="eager": torch.compile(model, fullgraph=True, backend=backend)


def tuple_of(output):
    return output if isinstance(output, tuple) else output.to_tuple()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output_attentions": True, "output_hidden_states": True},
        {"interpolate_pos_encoding": True},
        {"head_mask": torch.ones(4)},
        {"return_dict": False},
        {"labels": torch.tensor([0, 1])},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_a_classifier_compiles_whole(model, fullgraph, options):
    pixel_values = torch.randn(2, 3, 32, 32)
    expected, compiled = model(pixel_values, **options), fullgraph(model)(pixel_values, **options)
    assert type(compiled) is type(expected)
    torch.testing.assert_close(tuple_of(compiled), tuple_of(expected), atol=TOLERANCE, rtol=0)


def test_every_model_compiles_whole(tiny_config, fullgraph):
    pixel_values, mask = torch.randn(2, 3, 32, 32), torch.rand(2, 16) > 0.5
    base = ViTModel(tiny_config).eval()
    torch.testing.assert_close(
        tuple_of(fullgraph(base)(pixel_values)), tuple_of(base(pixel_values)), atol=TOLERANCE, rtol=0
    )
    masked = ViTForMaskedImageModeling(tiny_config).eval()
    torch.testing.assert_close(
        tuple_of(fullgraph(masked)(pixel_values, mask)), tuple_of(masked(pixel_values, mask)), atol=TOLERANCE, rtol=0
    )


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor compiles C++")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # by torch itself
def test_inductors_code_gives_the_same(model):
    torch._dynamo.reset()
    pixel_values = torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(pixel_values).logits, model(pixel_values).logits, atol=TOLERANCE, rtol=0)


def test_training_with_gradient_checkpointing_compiles_whole(model, fullgraph):
    model.train().gradient_checkpointing_enable()
    pixel_values, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    model(pixel_values, labels=labels).loss.backward()
    expected = model.vit.embeddings.cls_token.grad.clone()
    model.zero_grad()
    fullgraph(model, "aot_eager")(pixel_values, labels=labels).loss.backward()
    torch.testing.assert_close(model.vit.embeddings.cls_token.grad, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_exports_with_any_batch(model, strict):
    program = torch.export.export(
        model, (torch.randn(3, 3, 32, 32),), dynamic_shapes=({0: Dim("batch")},), strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()
    for batch in (2, 7):
        pixel_values = torch.randn(batch, 3, 32, 32)
        outputs = exported(pixel_values)
        assert isinstance(outputs, ImageClassifierOutput)
        torch.testing.assert_close(outputs.logits, model(pixel_values).logits, atol=TOLERANCE, rtol=0)


def test_a_model_exports_with_any_image_size(model):  # and so do relatives, strictly, too
    program = torch.export.export(
        model,
        (torch.randn(3, 3, 32, 32),),
        {"interpolate_pos_encoding": True},
        dynamic_shapes={"pixel_values": BATCH_AND_SIZE, "interpolate_pos_encoding": None},
        strict=False,
    )
    for shape in ((2, 3, 48, 72), (1, 3, 16, 100), (2, 3, 32, 32)):
        pixel_values = torch.randn(shape)
        logits = program.module()(pixel_values, interpolate_pos_encoding=True).logits
        expected = model(pixel_values, interpolate_pos_encoding=True).logits
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)  # of the exporter
def test_a_model_exports_to_onnx_with_any_image_size(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = {"interpolate_pos_encoding": True}
    torch.onnx.export(
        model,
        (torch.randn(3, 3, 32, 32),),
        tmp_path / "model.onnx",
        kwargs=options,
        dynamo=True,
        dynamic_shapes={"pixel_values": BATCH_AND_SIZE, **dict.fromkeys(options)},
        output_names=["logits"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for shape in [(2, 3, 48, 72), (1, 3, 24, 32), (1, 3, 32, 32)]:
        pixel_values = torch.randn(shape)
        (logits,) = session.run(["logits"], {"pixel_values": pixel_values.numpy()})
        np.testing.assert_allclose(
            logits, model(pixel_values, **options).logits.detach().numpy(), atol=TOLERANCE, rtol=0
        )
