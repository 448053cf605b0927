"""What programs for models of many kinds do with outputs."""

import io
import warnings
from dataclasses import dataclass

import onnxruntime
import pytest
import torch
from torch.nn.parallel import scatter_gather
from torch.utils.data import default_collate

from vit_torch import ImageClassifierOutput, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return ViTForImageClassification(tiny_config).eval()


def test_data_parallelism_gathers_outputs_by_name(model, monkeypatch):
    # Only the copying between GPUs is left out of torch's gather.
    monkeypatch.setattr(
        scatter_gather.Gather,
        "apply",
        lambda device, axis, *parts: torch.cat([torch.atleast_1d(part) for part in parts]),
    )
    outputs = [model(PIXELS[i : i + 1], labels=torch.tensor([i]), output_attentions=True) for i in range(2)]
    gathered = scatter_gather.gather(outputs, 0)
    assert type(gathered) is ImageClassifierOutput
    expected = model(PIXELS, output_attentions=True)
    torch.testing.assert_close(gathered.logits, expected.logits)
    torch.testing.assert_close(gathered.attentions, expected.attentions)
    assert gathered.loss.shape == (2,)


def test_outputs_are_collated_by_name(model):
    collated = default_collate([model(PIXELS), model(PIXELS)])
    assert collated["logits"].shape == (2, 2, 5)


@pytest.mark.parametrize("model_class", [ViTModel, ViTForImageClassification, ViTForMaskedImageModeling])
def test_a_trace_without_strictness_returns_a_dict(tiny_config, model_class):
    model = model_class(tiny_config).eval()
    expected = model(PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit says that it is deprecated, and that sizes become constants
        traced = torch.jit.trace(model, PIXELS, strict=False)
        saved = io.BytesIO()
        torch.jit.save(traced, saved)
        saved.seek(0)
        again = torch.jit.load(saved)(PIXELS)
    assert list(again) == list(expected)
    torch.testing.assert_close(dict(again), dict(expected))


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_torchscript_of_the_config_makes_tuples_to_trace(tiny_config, attn_implementation):
    tiny_config.torchscript = True
    tiny_config.attn_implementation = attn_implementation
    model = ViTForImageClassification(tiny_config).eval()
    assert isinstance(model(PIXELS), tuple)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, PIXELS)
        torch.testing.assert_close(traced(PIXELS), model(PIXELS))


def test_the_older_onnx_exporter_takes_a_model(model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is deprecated
        torch.onnx.export(
            model,
            (PIXELS,),
            tmp_path / "model.onnx",
            dynamo=False,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes={"pixel_values": {0: "batch"}},
        )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = torch.cat([PIXELS, PIXELS + 1])
    (logits,) = session.run(["logits"], {"pixel_values": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(images).logits, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's attention under vmap
def test_outputs_are_pytrees_for_vmap_and_grad(model):
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(values, pixel_values, label):
        arguments = (pixel_values[None],)
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, parameters, arguments, {"labels": label[None]}).loss

    labels = torch.tensor([3, 0])
    per_image = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(values, PIXELS, labels)
    model(PIXELS, labels=labels).loss.backward()
    for gradients, parameter in zip(per_image, model.parameters(), strict=True):
        torch.testing.assert_close(gradients.mean(0), parameter.grad, atol=1e-5, rtol=0)
    logits = torch.func.vmap(lambda image: model(image[None]))(PIXELS).logits
    torch.testing.assert_close(logits.squeeze(1), model(PIXELS).logits, atol=1e-5, rtol=0)


@dataclass(eq=False)
class WithFeatures(ImageClassifierOutput):
    features: torch.Tensor | None = None


def test_outputs_of_ones_own_and_added_items_are_in_the_pytree(model):
    output = WithFeatures(logits=torch.ones(2), features=torch.ones(3))
    output["added"] = torch.ones(4)
    doubled = torch.utils._pytree.tree_map(lambda tensor: tensor * 2, output)
    assert type(doubled) is WithFeatures
    assert [*doubled] == ["logits", "features", "added"]
    assert all((tensor == 2).all() for tensor in doubled.values())
    logits = torch.func.vmap(lambda image: WithFeatures(logits=image.sum(), features=image))(PIXELS).logits
    torch.testing.assert_close(logits, PIXELS.sum((1, 2, 3)))


def test_a_model_on_meta_runs_with_labels(tiny_config):
    with torch.device("meta"):
        model = ViTForImageClassification(tiny_config)
        output = model(torch.empty(2, 3, 32, 32), labels=torch.empty(2, dtype=torch.long))
    assert output.loss.is_meta
    assert output.logits.shape == (2, 5)
