"""`optimize_for_inference`: the same numbers from the same parameters, whatever is done to a model afterwards."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from vit_torch import (
    BeitConfig,
    BeitModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTForImageClassification,
    optimize_for_inference,
)
from vit_torch.int8 import greatest_weight
from vit_torch.packing import PackedLinear, PackedWeights, packed_dtypes, uses_mkl

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
TOLERANCE = 1e-5
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
needs_int8 = pytest.mark.skipif(greatest_weight() is None, reason="no exact products of int8 on this processor")
needs_layouts = pytest.mark.skipif(torch.float32 not in packed_dtypes(), reason="PyTorch without MKL")
#: Whether the processor is AMD's, where oneDNN makes the products; MKL does elsewhere, with a layout for each size.
LIBRARIES = {"MKL": False, "oneDNN": True}


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch):
    """Products by either library, whatever the processor is."""
    monkeypatch.setattr("vit_torch.packing.is_amd", lambda: LIBRARIES[request.param])


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return ViTForImageClassification(tiny_config).eval()


@pytest.fixture
def products(monkeypatch):
    """Which products of layouts are made, by the number of layers in each."""
    made, product = [], PackedWeights.product

    def counted(self, linears, x):
        result = product(self, linears, x)
        if result is not None:
            made.append(len(linears))
        return result

    monkeypatch.setattr(PackedWeights, "product", counted)
    return made


def answers(model, pixel_values=PIXELS, times=1):
    with torch.no_grad():
        return [model(pixel_values)[0] for _ in range(times)][-1]


def assert_close(one, other, tolerance=TOLERANCE):
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@needs_layouts
@pytest.mark.parametrize(
    "make",
    [
        lambda: ViTForImageClassification.config_class(**SIZES, num_labels=5, qkv_bias=False),
        lambda: BeitConfig(**SIZES, use_relative_position_bias=True),  # keys have no bias
        lambda: DINOv3ViTConfig(**SIZES, use_gated_mlp=True, num_register_tokens=2),
    ],
    ids=["ViT", "BEiT", "DINOv3"],
)
def test_outputs_and_names_are_the_same(make, products, library):
    config = make()
    classes = {"vit": ViTForImageClassification, "beit": BeitModel, "dinov3_vit": DINOv3ViTModel}
    model = classes[config.model_type](config).eval()
    expected, state = answers(model), {key: value.clone() for key, value in model.state_dict().items()}
    assert optimize_for_inference(model.train()) is model
    assert not model.training
    assert_close(answers(model, times=3), expected)
    assert {1, 3} == set(products)
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@needs_layouts
def test_a_layout_is_made_when_a_product_comes_again(model, products, library):
    optimize_for_inference(model)
    sizes = [2, 2, 1, 2, 1, 1, 1]
    with_mkl = [False, True, False, True, False, True, True]
    for batch, is_size_again, comes_again in zip(sizes, with_mkl, [False, *[True] * 6], strict=True):
        products.clear()
        answers(model, PIXELS[:batch])
        assert (3 in products) == (is_size_again if uses_mkl(torch.float32) else comes_again)
    assert answers(model, PIXELS[:0]).shape == (0, 5)


def other_values(model):
    with torch.no_grad():
        model.vit.encoder.layer[0].attention.attention.key.bias.add_(1.0)
        model.vit.encoder.layer[1].intermediate.dense.weight.mul_(0.5)


def other_weights(model):
    model.load_state_dict({key: value + 0.1 for key, value in model.state_dict().items()})


def fewer_heads(model):
    model.prune_heads({0: [1]})


def an_adapter(model):
    query = model.vit.encoder.layer[0].attention.attention.query
    model.vit.encoder.layer[0].attention.attention.query = nn.Sequential(query, nn.Linear(32, 32))


def a_hook(model):
    key = model.vit.encoder.layer[0].attention.attention.key
    key.register_forward_hook(lambda module, given, output: output * 2)


def another_precision(model):
    model.double()


def a_step_of_training(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(PIXELS, labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()


@pytest.mark.parametrize(
    "change",
    [other_values, other_weights, fewer_heads, an_adapter, a_hook, another_precision, a_step_of_training],
)
@pytest.mark.parametrize("dtype", [None, pytest.param("int8", marks=needs_int8)])
def test_outputs_follow_what_is_changed(model, change, dtype):
    optimized = optimize_for_inference(copy.deepcopy(model), dtype)
    before = answers(optimized, times=3)
    for each in (model, optimized):
        torch.manual_seed(0)
        change(each)
    pixel_values = PIXELS.to(model.dtype)
    expected = answers(model, pixel_values)
    error = 0.03 * (expected.max() - expected.min()) if dtype else TOLERANCE
    for _ in range(3):
        assert (answers(optimized, pixel_values) - expected).abs().max() < error
    assert (before - expected).abs().max() > max(error, 1e-3) or change is another_precision


@pytest.mark.parametrize("dtype", [None, pytest.param("int8", marks=needs_int8)])
def test_layers_without_some_heads_stay_ready(model, dtype):
    attention = optimize_for_inference(model, dtype).vit.encoder.layer[0].attention
    kind = type(attention.output.dense.packed_weights)
    answers(model, times=3)
    model.prune_heads({0: [1]})
    assert type(attention.output.dense.packed_weights) is kind
    assert attention.output.dense.packed_weights.layout is None


def test_a_second_call_takes_what_was_written_through_data(model):
    optimize_for_inference(model)
    before = answers(model, times=3)
    for parameter in model.parameters():
        parameter.data.mul_(0.9)
    answers(optimize_for_inference(model), times=3)
    expected = answers(copy.deepcopy(model))  # which has no layouts yet
    assert_close(answers(model), expected)
    assert (before - expected).abs().max() > 1e-3


@needs_layouts
def test_threads_with_batches_of_their_own_share_a_model(model, library):
    optimize_for_inference(model)
    batches = [PIXELS, PIXELS[:1], PIXELS.repeat(3, 1, 1, 1)]
    expected = [answers(copy.deepcopy(model), batch) for batch in batches]

    def run(place):
        return all(
            torch.allclose(answers(model, batches[place]), expected[place], rtol=0, atol=TOLERANCE) for _ in range(40)
        )

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, range(3)))


def test_gradients_are_the_same(model):
    optimized = optimize_for_inference(copy.deepcopy(model))
    answers(optimized, times=3)
    for each in (model, optimized):
        each(PIXELS, labels=torch.tensor([0, 1])).loss.backward()
    for one, other in zip(model.parameters(), optimized.parameters(), strict=True):
        assert_close(one.grad, other.grad)
    frozen = optimized.requires_grad_(False)
    pixel_values = PIXELS.clone().requires_grad_()
    frozen(pixel_values).logits.sum().backward()
    assert pixel_values.grad.abs().max() > 0


def test_copies_and_files_have_no_layouts_and_make_their_own(model, tmp_path):
    expected = answers(model)
    optimize_for_inference(model)
    answers(model, times=3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.classifier.packed_weights.layout is None
        assert_close(answers(other, times=3), expected)
    model.save_pretrained(tmp_path)
    assert_close(answers(ViTForImageClassification.from_pretrained(tmp_path)), expected)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
def test_transforms_and_compilers_see_plain_products(model, products):
    expected = answers(model)
    optimize_for_inference(model)
    answers(model, times=3)
    products.clear()
    model.config.attn_implementation = "eager"  # the other is slow under vmap, which PyTorch says
    with torch.no_grad():
        assert_close(torch.func.vmap(lambda pixels: model(pixels[None]).logits[0])(PIXELS), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(model(PIXELS).logits.float(), expected, 2e-2 * expected.abs().max().item())
        assert_close(torch.jit.trace(model, PIXELS, strict=False, check_trace=False)(PIXELS)["logits"], expected)
    assert not products


@pytest.mark.skipif(torch.bfloat16 not in packed_dtypes(), reason="a processor without bfloat16")
def test_bfloat16_has_layouts_too(model, products):
    model.bfloat16()
    pixel_values = PIXELS.bfloat16()
    expected = answers(model, pixel_values)
    optimize_for_inference(model)
    assert_close(answers(model, pixel_values, times=2), expected, 2e-2 * expected.abs().max().item())
    assert 3 in products


def test_models_inside_others_are_made_ready(model):
    outer = nn.Sequential(nn.Identity(), model)
    optimize_for_inference(outer)
    assert type(model.classifier) is PackedLinear


@pytest.mark.parametrize(("given", "name"), [(nn.Linear(2, 2), "Linear"), ("bundled/vit-digits", "str")])
def test_what_has_none_of_our_layers_is_refused(given, name):
    with pytest.raises(ValueError, match=f"no layer of a Vision Transformer of this package in {name}; give a model"):
        optimize_for_inference(given)
