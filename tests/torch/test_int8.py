"""`optimize_for_inference(model, dtype="int8")`: what is rounded, what is not, and by how much answers change."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vit_torch import (
    AutoImageProcessor,
    BeitConfig,
    BeitModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipForImageClassification,
    SiglipVisionConfig,
    ViTForImageClassification,
    int8,
    optimize_for_inference,
)
from vit_torch.int8 import Int8Weights, greatest_weight, is_exact, multiplied

pytestmark = pytest.mark.skipif(greatest_weight() is None, reason="no exact products of int8 on this processor")

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return ViTForImageClassification(tiny_config).eval()


def answers(model, pixel_values=PIXELS):
    with torch.inference_mode():
        return model(pixel_values)[0]


def error(got, expected):
    """The largest difference, as a part of the range of what is expected."""
    return ((got - expected).abs().max() / (expected.max() - expected.min())).item()


def assert_close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rows", [1, 5, 197])
@pytest.mark.parametrize("byte", [0, 255])
def test_sums_of_the_greatest_products_are_exact(rows, byte):
    greatest, channels, made = greatest_weight(), 96, 40
    weights = np.where(np.arange(made)[:, None] % 2, greatest, -greatest) * np.ones((1, channels), int)
    given = np.full((rows, channels), byte)
    packed = torch.ops.onednn.qlinear_prepack(torch.tensor(weights, dtype=torch.int8), [rows, channels])
    zeros = torch.zeros(made, dtype=torch.int32)
    product = multiplied(torch.tensor(given, dtype=torch.uint8), packed, torch.ones(made), zeros)
    np.testing.assert_array_equal(product.numpy(), (given - 128) @ weights.T)


def test_a_processor_that_cuts_sums_off_has_smaller_weights(monkeypatch):
    greatest_weight.cache_clear()
    monkeypatch.setattr(int8, "is_exact", lambda greatest: greatest <= 64)
    assert greatest_weight() == 64
    greatest_weight.cache_clear()
    monkeypatch.undo()
    assert is_exact(greatest_weight())


def test_what_a_processor_computes_is_found_whatever_the_defaults_are():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert is_exact(greatest_weight())
    finally:
        torch.set_default_dtype(before)


def rounded_rows(x, has_middle):
    greatest, least = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    middle = (greatest + least) / 2 if has_middle else 0
    scale = (greatest - least) / 254 if has_middle else np.maximum(greatest, -least) / 127
    return np.round((x - middle) / scale) * scale + middle


@pytest.mark.parametrize(("channels", "made"), [(32, 96), (96, 32)])
def test_weights_are_rounded_by_channel_and_activations_by_row(channels, made):
    linear = nn.Linear(channels, made)
    x = torch.nn.functional.gelu(torch.randn(2, 5, channels) * torch.logspace(-3, 2, 5)[:, None])
    weight, bias = linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()
    scale = np.abs(weight).max(1, keepdims=True) / greatest_weight()
    expected = rounded_rows(x.double().numpy(), channels > made) @ (np.round(weight / scale) * scale).T + bias
    with torch.no_grad():
        product = Int8Weights().product([linear], x)
    # A number that lies between two bytes may become the one or the other.
    assert np.quantile(np.abs(product.numpy() - expected) / np.abs(expected).max(-1, keepdims=True), 0.98) < 1e-5
    np.testing.assert_allclose(product.numpy(), expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize(("channels", "made"), [(32, 96), (96, 32)])
def test_zeros_stay_zeros_and_what_is_no_number_stays_in_its_row(channels, made):
    linear = nn.Linear(channels, made, bias=False)
    with torch.no_grad():
        linear.weight[3] = 0
        x = torch.randn(4, channels)
        x[1], x[2, 5] = 0, float("nan")
        product = Int8Weights().product([linear], x)
    assert product[1].abs().max() == product[[0, 1, 3], 3].abs().max() == 0
    assert product.isnan().any(1).tolist() == [False, False, True, False]


def test_many_rows_are_rounded_a_few_at_a_time(monkeypatch):
    linear, x = nn.Linear(96, 32), torch.randn(3, 7, 96)
    with torch.no_grad():
        expected = Int8Weights().product([linear], x)
        monkeypatch.setattr(int8, "TOGETHER", 4 * 96 // torch.get_num_threads())
        assert_close(Int8Weights().product([linear], x), expected)


MODELS = {
    "ViT": lambda: ViTForImageClassification(ViTForImageClassification.config_class(**SIZES, num_labels=5)),
    "BEiT": lambda: BeitModel(BeitConfig(**SIZES, use_relative_position_bias=True)),  # keys have no bias
    "DINOv3": lambda: DINOv3ViTModel(DINOv3ViTConfig(**SIZES, use_gated_mlp=True, num_register_tokens=2)),
    "SigLIP": lambda: SiglipForImageClassification(SiglipVisionConfig(**SIZES, num_labels=5)),
}


@pytest.mark.parametrize("name", MODELS)
def test_answers_change_by_a_few_per_cent_of_their_range(name):
    model = MODELS[name]().eval()
    expected, state = answers(model), {key: value.clone() for key, value in model.state_dict().items()}
    assert optimize_for_inference(model.train(), dtype="int8") is model
    assert not model.training
    rounded = answers(model)
    assert 1e-4 < error(rounded, expected) < 0.03
    assert_close(answers(model), rounded)  # from the first call on
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert_close(answers(optimize_for_inference(model)), expected)


def test_layers_are_int8_and_the_rest_is_not(model):
    optimize_for_inference(model, dtype="int8")
    kinds = {
        name: type(module.packed_weights)
        for name, module in model.named_modules()
        if type(module).__name__ == "PackedLinear"
    }
    is_int8 = {name for name, kind in kinds.items() if kind is Int8Weights}
    assert is_int8 == {name for name in kinds if ".layer." in name}
    assert len(is_int8) == 2 * 6
    assert "classifier" in kinds


def test_an_answer_does_not_depend_on_the_batch(model):
    optimize_for_inference(model, dtype="int8")
    together = answers(model)
    assert_close(torch.cat([answers(model, PIXELS[:1]), answers(model, PIXELS[1:])]), together)
    assert answers(model, PIXELS[:0]).shape == (0, 5)


def test_a_call_without_dtype_takes_it_back(model):
    plain = optimize_for_inference(copy.deepcopy(model))
    back = optimize_for_inference(optimize_for_inference(model, dtype="int8"))
    assert [type(module) for module in back.modules()] == [type(module) for module in plain.modules()]
    assert_close(answers(back), answers(plain))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
def test_gradients_transforms_and_compilers_see_float32(model):
    expected = model(PIXELS).logits
    expected.sum().backward()
    gradient = model.classifier.weight.grad.clone()
    model.zero_grad()
    optimize_for_inference(model, dtype="int8")
    logits = model(PIXELS).logits
    logits.sum().backward()
    assert_close(logits, expected)
    assert_close(model.classifier.weight.grad, gradient)
    with torch.no_grad():
        assert_close(torch.jit.trace(model, PIXELS, strict=False, check_trace=False)(PIXELS)["logits"], expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert error(model(PIXELS).logits.float(), expected) < 0.02


def test_bfloat16_stays_bfloat16(model):
    model.bfloat16()
    expected = answers(model, PIXELS.bfloat16())
    optimize_for_inference(model, dtype="int8")
    assert_close(answers(model, PIXELS.bfloat16()), expected, 0)


def test_copies_and_files_round_for_themselves(model, tmp_path):
    optimize_for_inference(model, dtype="int8")
    expected = answers(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.vit.encoder.layer[0].output.dense.packed_weights.layout is None
        assert_close(answers(other), expected, 0)
    model.save_pretrained(tmp_path)
    loaded = ViTForImageClassification.from_pretrained(tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), model.parameters(), strict=True))


def test_threads_share_a_model(model):
    optimize_for_inference(model, dtype="int8")
    batches = [PIXELS, PIXELS[:1], PIXELS.repeat(3, 1, 1, 1)]
    expected = [answers(copy.deepcopy(model), batch) for batch in batches]

    def run(place):
        return all(torch.allclose(answers(model, batches[place]), expected[place], atol=1e-5) for _ in range(20))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, range(3)))


def test_the_reader_of_digits_stays_as_good():
    datasets, model_selection = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.model_selection")
    values, labels = datasets.load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    split = {"test_size": 0.25, "stratify": labels, "random_state": 0}  # the model card's
    _, test, _, labels = model_selection.train_test_split(images, labels, **split)
    test, labels = test[:200], labels[:200]
    processor = AutoImageProcessor.from_pretrained("bundled/vit-digits")
    model = ViTForImageClassification.from_pretrained("bundled/vit-digits").eval()
    pixel_values = processor([Image.fromarray(image) for image in test], return_tensors="pt")["pixel_values"]
    expected = answers(model, pixel_values)
    rounded = answers(optimize_for_inference(model, dtype="int8"), pixel_values)
    right, right_in_int8 = ((each.argmax(1).numpy() == labels).mean() for each in (expected, rounded))
    assert error(rounded, expected) < 0.03
    assert abs(right_in_int8 - right) <= 0.005


def test_another_dtype_is_refused(model):
    with pytest.raises(ValueError, match=r"dtype is 'int4'; give \"int8\", or nothing"):
        optimize_for_inference(model, dtype="int4")


def test_a_processor_without_exact_products_is_said(model, monkeypatch):
    monkeypatch.setattr("vit_torch.inference.greatest_weight", lambda: None)
    with pytest.raises(ValueError, match="no exact products of int8 on this processor: they take AVX2 at least"):
        optimize_for_inference(model, dtype="int8")


def test_a_model_that_was_made_ready_on_another_processor_computes_in_float32(model, monkeypatch):
    expected = answers(model)
    optimize_for_inference(model, dtype="int8")
    monkeypatch.setattr(int8, "greatest_weight", lambda: None)
    assert_close(answers(model), expected)
