"""The numbers that transformers returns for the relatives of ViT, to 1e-5 in float32."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vit_torch
from vit_core.auto import AutoConfig
from vit_core.families import family_of
from vit_torch.tensors import in_canonical_names

TOLERANCE = 1e-5

#: Each fixture with what its expected results were computed from, besides the images.
FIXTURES = {
    "hf_deit": (),
    "hf_deit_classifier": ("labels",),
    "hf_deit_masked": ("bool_masked_pos",),
    "hf_beit_layerwise": (),
    "hf_beit_shared": (),
    "hf_beit_grads": ("labels",),
    "hf_beit_large": (),
    "hf_beit_masked_grads": ("labels", "bool_masked_pos"),
    "hf_data2vec_vision": ("labels",),
    "hf_vit_msn": ("labels",),
    "hf_ijepa": ("labels",),
    "hf_vit_mae": ("noise",),
    "hf_vit_mae_interpolated": ("noise", "interpolate_pos_encoding"),
    "hf_vit_mae_norm_pix": ("noise",),
    "hf_dinov2": ("labels",),
    "hf_dinov2_registers": ("labels",),
    "hf_dinov2_swiglu": (),
    "hf_dinov3": (),
    "hf_dinov3_gated": (),
    "hf_siglip_vision": (),
    "hf_siglip_headless": (),
    "hf_siglip_classifier": ("labels",),
    "hf_clip_vision": (),
    "hf_clip_projection": (),
    "hf_clip_classifier": ("labels",),
}
OUTPUTS = (
    *("loss", "logits", "cls_logits", "distillation_logits", "reconstruction", "mask", "ids_restore"),
    *("image_embeds", "last_hidden_state", "pooler_output"),
)


@pytest.fixture
def loaded(fixture_folder):
    """Load a checkpoint; returns the model, what it is called with, and the results that belong to it."""

    def loaded(name, **options):
        folder = fixture_folder / name
        config = AutoConfig.from_pretrained(folder)
        with np.load(folder / "expected.npz") as results:
            expected = {key: torch.from_numpy(results[key]) for key in results}
        model = getattr(vit_torch, config.architectures[0]).from_pretrained(folder, **options)
        inputs = {key: expected.get(key, True) for key in ("pixel_values", *FIXTURES[name])}
        return model, inputs, expected

    return loaded


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FIXTURES)
def test_every_output_hidden_state_and_attention_map(loaded, name, attn_implementation):
    model, inputs, expected = loaded(name, attn_implementation=attn_implementation)
    outputs = model(**inputs)
    assert set(outputs) == set(OUTPUTS) & set(expected)
    for key, value in outputs.items():
        assert_close(value, expected[key])
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    for kind in ("hidden_states", "attentions"):
        assert len(outputs[kind]) == sum(key.startswith(kind) for key in expected)
        for index, value in enumerate(outputs[kind]):
            assert_close(value, expected[f"{kind}.{index}"])


@pytest.mark.parametrize(
    "name",
    [
        "hf_data2vec_vision",
        "hf_vit_mae_interpolated",
        "hf_dinov2_registers",
    ],  # test_every_family.py compiles other kinds
)
def test_every_output_of_the_compiled_model(loaded, name):
    model, inputs, expected = loaded(name)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for key, value in compiled(**inputs).items():
        assert_close(value, expected[key])


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [name for name, inputs in FIXTURES.items() if inputs])
def test_the_gradient_of_every_parameter(loaded, name, attn_implementation):
    model, inputs, expected = loaded(name, attn_implementation=attn_implementation)
    model(**inputs).loss.backward()
    gradients = {key.removeprefix("grad/"): value for key, value in expected.items() if key.startswith("grad/")}
    gradients = in_canonical_names(gradients, family_of(model.config), is_bare=False)
    trained = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
    idle = {key for key, gradient in trained.items() if gradient is None}
    assert gradients.keys() == trained.keys() - idle
    largest_of_all = max(gradient.abs().max() for gradient in gradients.values())
    for key, reference in gradients.items():
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        largest = 0.01 * largest_of_all if key.endswith("key.bias") else reference.abs().max()
        assert (trained[key] - reference).abs().max() <= TOLERANCE * largest, key


@pytest.mark.parametrize(
    "name",
    [
        *("hf_deit_classifier", "hf_beit_large", "hf_data2vec_vision", "hf_vit_msn", "hf_ijepa", "hf_dinov2"),
        *("hf_dinov2_registers", "hf_dinov3", "hf_dinov3_gated", "hf_siglip_vision", "hf_siglip_classifier"),
        *("hf_clip_vision", "hf_clip_projection"),
    ],
)
def test_outputs_for_a_larger_image(loaded, name):
    model, _, expected = loaded(name)
    images = expected["pixel_values_large"]
    for key, value in model(images, interpolate_pos_encoding=True).items():
        assert_close(value, expected[f"large/{key}"])
    if model.config.architecture.resamples_unasked:
        for key, value in model(images).items():
            assert_close(value, expected[f"large/{key}"])
    else:
        with pytest.raises(ValueError, match="48 x 72 pixels do not fit a model for 32 x 32"):
            model(images)


@pytest.mark.parametrize("name", ["hf_dinov2_swiglu", "hf_dinov3"])
def test_outputs_where_patches_are_masked(loaded, name):
    model, inputs, expected = loaded(name)
    for key, value in model(**inputs, bool_masked_pos=expected["bool_masked_pos"]).items():
        assert_close(value, expected[f"masked/{key}"])


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("hf_siglip_full", vit_torch.SiglipVisionModel),
        ("hf_clip_full", vit_torch.CLIPVisionModel),
        ("hf_clip_full", vit_torch.CLIPVisionModelWithProjection),
    ],
)
def test_the_image_tower_of_a_model_of_images_and_texts(fixture_folder, name, model_class):
    with pytest.warns(UserWarning, match=r"the text tower, 2\d tensors, is left out\.$") as caught:
        model = model_class.from_pretrained(fixture_folder / name)
    assert len(caught) == 1
    assert "text_model" not in str(caught[0].message)
    with np.load(fixture_folder / name / "expected.npz") as results:
        expected = {key: torch.from_numpy(results[key]) for key in results}
    outputs = model(expected["pixel_values"], output_hidden_states=True, output_attentions=True)
    for kind in ("hidden_states", "attentions"):
        for index, value in enumerate(outputs.pop(kind)):
            assert_close(value, expected[f"{kind}.{index}"])
    for key, value in outputs.items():
        assert_close(value, expected[key])


@pytest.mark.parametrize("name", FIXTURES)
def test_half_precision_stays_near(loaded, name):
    model, inputs, expected = loaded(name, dtype=torch.bfloat16)
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    with torch.no_grad():
        outputs = model(**inputs)
    for key in set(outputs) - {"loss", "mask", "ids_restore"}:
        assert outputs[key].dtype == torch.bfloat16
        difference = (outputs[key].float() - expected[key]).abs().max()
        assert difference <= 2e-2 * (expected[key].max() - expected[key].min()), key


@pytest.mark.parametrize("name", FIXTURES)
def test_a_checkpoint_is_written_as_it_was_read(loaded, fixture_folder, tmp_path, name):
    model, inputs, _ = loaded(name)
    model.save_pretrained(tmp_path)
    stored, written = (load_file(folder / "model.safetensors") for folder in (fixture_folder / name, tmp_path))
    assert written.keys() == stored.keys()
    for key, tensor in stored.items():
        assert torch.equal(written[key], tensor), key
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {row.name: row.shape for row in model.parameter_table()} == shapes
    again = type(model).from_pretrained(tmp_path)
    assert again.config == copy.deepcopy(model.config)
    torch.testing.assert_close(again(**inputs).to_tuple(), model(**inputs).to_tuple(), atol=0, rtol=0)
