import pytest
import torch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("options", [{}, {"interpolate_pos_encoding": True}, {"output_attentions": True}])
def test_half_precision_is_close_to_float32(load, dtype, attn_implementation, options):
    model, expected = load("hf_vit_classifier", dtype=dtype, attn_implementation=attn_implementation)
    logits = model(expected["pixel_values"], **options).logits
    assert logits.dtype == dtype
    spread = expected["logits"].max() - expected["logits"].min()
    assert (logits.float() - expected["logits"]).abs().max() <= 2e-2 * spread


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_image_modeling_in_half_precision(load, dtype):
    model, expected = load("hf_vit_masked", dtype=dtype)
    outputs = model(expected["pixel_values"], expected["bool_masked_pos"])
    spread = expected["reconstruction"].max() - expected["reconstruction"].min()
    assert (outputs.reconstruction.float() - expected["reconstruction"]).abs().max() <= 2e-2 * spread
    torch.testing.assert_close(outputs.loss.float(), expected["loss"], rtol=2e-2, atol=0)


def test_a_large_masked_loss_does_not_overflow_float16(load):
    model, _ = load("hf_vit_masked", dtype=torch.float16)
    pixel_values = torch.full((2, 3, 32, 32), 1000.0)
    assert model(pixel_values, torch.ones(2, 16)).loss.isfinite()


def test_float64_stays_float64(load):
    model, expected = load("hf_vit_classifier", dtype=torch.float64)
    logits = model(expected["pixel_values_large"], interpolate_pos_encoding=True).logits
    assert logits.dtype == torch.float64
    assert (logits - expected["large/logits"]).abs().max() <= 1e-5


def test_autocast_runs_products_in_bfloat16(load):
    model, expected = load("hf_vit_classifier")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(expected["pixel_values"], labels=expected["labels"]).logits
    assert logits.dtype == torch.bfloat16
