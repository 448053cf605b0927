"""Packages that explain, count and shrink models of PyTorch take ours as they are.

Run by `nox -s interop`. What also needs transformers or accelerate stands in files of their names.
"""

import warnings

import pytest

torch = pytest.importorskip("torch")

from vit_torch import ViTForImageClassification  # noqa: E402

LAYERS, TOKENS = 3, 17


@pytest.fixture
def model(ours):
    _, model = ours()
    return model


def test_captum_attributes_logits_to_pixels(model, images):
    attr = pytest.importorskip("captum.attr")
    pixel_values = images(model.config)
    gradients = attr.IntegratedGradients(lambda pixels: model(pixels).logits)
    attributions, delta = gradients.attribute(pixel_values, target=3, n_steps=64, return_convergence_delta=True)
    assert attributions.shape == pixel_values.shape
    assert delta.abs().max() < 0.05 * attributions.abs().sum()  # they add up to what the logit differs
    model.config.attn_implementation = "eager"  # so that a layer returns nothing but tensors, as transformers' do
    layer = attr.LayerGradientXActivation(lambda pixels: model(pixels).logits, model.vit.encoder.layer[-1])
    assert layer.attribute(pixel_values, target=3).shape == (2, TOKENS, 32)


def test_grad_cam_draws_where_a_model_looked(model, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        cam = pytest.importorskip("pytorch_grad_cam")

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model(pixel_values).logits

    def as_image(tokens):
        return tokens[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)

    layers = [model.vit.encoder.layer[-1].layernorm_before]
    with cam.GradCAM(model=Logits(), target_layers=layers, reshape_transform=as_image) as explained:
        drawn = explained(input_tensor=images(model.config), targets=None)
    assert drawn.shape == (2, 32, 32)
    assert drawn.max() > 0


def test_torchinfo_counts_parameters_and_shows_shapes(model):
    torchinfo = pytest.importorskip("torchinfo")
    summary = torchinfo.summary(model, input_size=(2, 3, 32, 32), depth=6, verbose=0)
    assert summary.total_params == model.num_parameters()
    assert str([2, TOKENS, 32]) in str(summary)


def test_torchao_quantizes_linear_layers(model, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kernels that this machine has not
        quantization = pytest.importorskip("torchao.quantization")
        pixel_values = images(model.config)
        with torch.no_grad():
            expected = model(pixel_values).logits
            quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
            logits = model(pixel_values).logits
    assert type(model.vit.encoder.layer[0].intermediate.dense.weight) is not torch.nn.Parameter
    assert 0 < (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_peft_trains_and_merges_adapters_of_every_linear_layer(ours, images, tmp_path):
    peft = pytest.importorskip("peft")
    folder, model = ours()
    pixel_values = images(model.config)
    settings = peft.LoraConfig(r=2, target_modules="all-linear", modules_to_save=["classifier"])
    adapted = peft.get_peft_model(model, settings)
    adapted(pixel_values, labels=torch.tensor([1, 2])).loss.backward()
    torch.optim.SGD([each for each in adapted.parameters() if each.requires_grad], lr=0.1).step()
    adapted.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(ViTForImageClassification.from_pretrained(folder), tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted.eval()(pixel_values).logits
        torch.testing.assert_close(again.eval()(pixel_values).logits, expected, atol=0, rtol=0)
        merged = again.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        loaded = ViTForImageClassification.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(loaded(pixel_values).logits, expected, atol=1e-4, rtol=0)
