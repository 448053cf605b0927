"""Backbones in PyTorch: the feature maps of transformers' backbones, from any checkpoint of a base model."""

import warnings

import numpy as np
import pytest
import torch

import conversion
import vit_torch
from conversion.proof.model_choice import models_to_try
from vit_torch import AutoBackbone, AutoModel, Dinov2Backbone, Dinov2Model, ViTBackbone, ViTConfig
from vit_torch.backbone import VisionTransformerBackbone

FOLDERS = ["hf_dinov2", "hf_dinov2_registers"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
IMAGES = {"image_size": (32, 24), "patch_size": 8}
#: What a script asks of a backbone, and the names of the results under which transformers' are kept.
CALLS = {
    "maps": {"out_features": ["stem", "stage1", "stage2"]},
    "unnormed": {"out_indices": [1, 2], "apply_layernorm": False},
    "tokens": {"out_features": ["stage1"], "reshape_hidden_states": False},
}


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return ViTBackbone(ViTConfig(**SIZES, **IMAGES, out_indices=[1, 3])).eval()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_feature_maps_are_those_of_transformers(fixture_folder, folder, call):
    expected = np.load(fixture_folder / f"{folder}_backbone/expected.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of the classifier that is in the checkpoint, too
        model = AutoBackbone.from_pretrained(fixture_folder / folder, **CALLS[call])
    for size in ("", "large/"):  # one that is no square
        with torch.no_grad():
            output = model(expected[f"{size}pixel_values"])
        assert len(output.feature_maps) == len(model.out_features)
        for stage, feature_map in zip(model.out_features, output.feature_maps, strict=True):
            close(feature_map, expected[f"{size}{call}/{stage}"])


def test_class_tokens_of_the_stages_come_with_the_maps_where_that_is_asked_for(fixture_folder):
    expected = np.load(fixture_folder / "hf_dinov3_backbone/expected.npz")
    options = {"out_features": ["stem", "stage1", "stage2"], "return_class_token": True}
    model = AutoBackbone.from_pretrained(fixture_folder / "hf_dinov3", **options)
    for size in ("", "large/"):
        output = model(expected[f"{size}pixel_values"])
        assert list(output) == ["feature_maps", "cls_tokens"]
        for stage, *found in zip(model.out_features, output.feature_maps, output.cls_tokens, strict=True):
            for ours, name in zip(found, ("maps", "cls_tokens"), strict=True):
                close(ours, expected[f"{size}{name}/{stage}"])


@pytest.mark.filterwarnings("ignore:.*(are|were not) in the checkpoint")
@pytest.mark.parametrize("folder", ["hf_dinov2_swiglu", "hf_dinov3", "hf_dinov3_gated", "hf_vit_classifier"])
def test_the_last_map_is_what_the_base_model_makes_of_the_patches(fixture_folder, folder):
    backbone, base = (each.from_pretrained(fixture_folder / folder) for each in (AutoBackbone, AutoModel))
    images = torch.randn(2, base.config.num_channels, *base.config.image_shape)
    with torch.no_grad():
        (feature_map,) = backbone(images, return_dict=False)[0]
        tokens = base(images).last_hidden_state[:, base.config.architecture.num_prefix_tokens :]
    assert feature_map.shape == (2, base.config.hidden_size, *base.config.grid)
    close(feature_map.flatten(2).transpose(1, 2), tokens)


def test_a_backbone_says_what_it_returns(small):
    assert small.stage_names == ["stem", "stage1", "stage2", "stage3"]
    assert (small.out_features, small.out_indices) == (["stage1", "stage3"], [1, 3])
    assert small.num_features == [16] * 4
    assert small.channels == [16, 16]
    assert small.out_feature_channels == dict.fromkeys(small.stage_names, 16)


def test_stages_can_be_set_and_are_saved(small, tmp_path):
    model = ViTBackbone(small.config.replaced())
    model.out_features = ["stem"]
    assert len(model(torch.zeros(1, 3, 32, 24)).feature_maps) == 1
    model.save_pretrained(tmp_path)
    again = AutoBackbone.from_pretrained(tmp_path)
    assert type(again) is ViTBackbone
    assert again.out_indices == [0]
    assert again.config.architectures == ["ViTBackbone"]
    with pytest.raises(ValueError, match="out_indices has 4, but"):
        model.out_indices = [4]
    assert model.out_indices == [0]


def test_hidden_states_and_attention_come_on_request(small):
    output = small(torch.zeros(1, 3, 32, 24), output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4
    assert [tuple(each.shape) for each in output.attentions] == [(1, 2, 13, 13)] * 3
    assert list(small(torch.zeros(1, 3, 32, 24))) == ["feature_maps"]


def test_images_of_another_size_are_asked_for(small):
    images = torch.zeros(1, 3, 40, 64)
    assert small(images, interpolate_pos_encoding=True).feature_maps[0].shape == (1, 16, 5, 8)
    with pytest.raises(ValueError, match="images of 40 x 64 pixels do not fit"):
        small(images)


def test_gradients_reach_every_parameter_that_a_map_depends_on(small):
    model = ViTBackbone(small.config)
    sum(each.square().sum() for each in model(torch.randn(1, 3, 32, 24)).feature_maps).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_graph_is_traced_for_images_of_any_size(fixture_folder):
    model = AutoBackbone.from_pretrained(fixture_folder / "hf_dinov2", out_indices=[1, 2])
    images, rows, columns = (
        torch.randn(2, 3, 32, 32),
        torch.export.Dim("rows", min=2),
        torch.export.Dim("columns", min=2),
    )
    program = torch.export.export(
        model,
        (images,),
        {"interpolate_pos_encoding": True},
        dynamic_shapes={"pixel_values": {2: 8 * rows, 3: 8 * columns}, "interpolate_pos_encoding": None},
    )
    larger = torch.randn(2, 3, 40, 56)
    for ours, traced in zip(model(larger)[0], program.module()(larger, interpolate_pos_encoding=True)[0], strict=True):
        close(ours, traced.detach().numpy())
    compiled = torch.compile(model, fullgraph=True, backend="eager")(images)
    assert all(map(torch.equal, compiled.feature_maps, model(images).feature_maps))


def test_auto_backbone_has_the_families_that_have_one():
    model = AutoBackbone.from_config(
        vit_torch.Dinov2Config(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, out_features=["stage1"])
    )
    assert type(model) is Dinov2Backbone
    assert model.out_indices == [1]
    assert AutoBackbone.models[vit_torch.VisionTransformerConfig] is VisionTransformerBackbone
    with pytest.raises(ValueError, match="AutoBackbone has no model for a DeiTConfig; it has those for DINO"):
        AutoBackbone.from_config(vit_torch.DeiTConfig())


# get_intermediate_layers


@pytest.mark.filterwarnings("ignore:.*classifier.* are in the checkpoint")
@pytest.mark.parametrize("folder", FOLDERS)
def test_intermediate_layers_are_the_maps_of_a_backbone(fixture_folder, folder):
    expected = np.load(fixture_folder / f"{folder}_backbone/expected.npz")
    model = AutoModel.from_pretrained(fixture_folder / folder)
    images = torch.from_numpy(expected["large/pixel_values"])
    for norm, call in ((True, "maps"), (False, "unnormed")):
        found = model.get_intermediate_layers(images, n=2, reshape=True, norm=norm)
        for stage, each in zip(("stage1", "stage2"), found, strict=True):
            close(each, expected[f"large/{call}/{stage}"])
    ((patches, class_token),) = model.get_intermediate_layers(images, [-1], return_class_token=True)
    last = model(images).last_hidden_state
    assert torch.equal(class_token, last[:, 0])
    assert torch.equal(patches, last[:, model.config.architecture.num_prefix_tokens :])


@pytest.mark.parametrize(
    "model_type", ["deit", "beit", "ijepa", "siglip_vision_model", "clip_vision_model", "vit_mae", "vision_transformer"]
)
def test_every_base_model_has_intermediate_layers(model_type):
    config = vit_torch.AutoConfig.for_model(model_type, **SIZES, image_size=32, patch_size=8)
    model = AutoModel.from_config(config).eval()
    first, last = model.get_intermediate_layers(torch.zeros(1, 3, 32, 32), [0, 2], reshape=True)
    assert first.shape == last.shape == (1, 16, 4, 4)


def test_what_has_no_class_token_returns_none():
    model = vit_torch.IJepaModel(vit_torch.IJepaConfig(**SIZES, **IMAGES))
    with pytest.raises(ValueError, match="return_class_token is True, and this model has no class token"):
        model.get_intermediate_layers(torch.zeros(1, 3, 32, 24), return_class_token=True)
    with pytest.raises(ValueError, match="n is 4; give how many of the model's 3 layers"):
        model.get_intermediate_layers(torch.zeros(1, 3, 32, 24), 4)
    with pytest.raises(ValueError, match="pixel_values are missing"):
        model.get_intermediate_layers(None)


def test_a_base_model_takes_a_backbones_checkpoint(fixture_folder, tmp_path):
    expected = np.load(fixture_folder / "hf_dinov2_backbone/expected.npz")
    Dinov2Backbone.from_pretrained(fixture_folder / "hf_dinov2").save_pretrained(tmp_path)
    model = Dinov2Model.from_pretrained(tmp_path)
    (found,) = model.get_intermediate_layers(expected["pixel_values"], reshape=True)
    close(found, expected["maps/stage2"])


def test_a_backbones_checkpoint_is_described_converted_and_proven(small, tmp_path):
    small.save_pretrained(tmp_path / "backbone")
    assert conversion.load(tmp_path / "backbone").task == "backbone"
    attempts = models_to_try(vit_torch, str(tmp_path / "backbone"), {})
    assert ("ViTModel", {"add_pooling_layer": False}) in attempts  # whose last hidden state shows each weight
    conversion.convert(tmp_path / "backbone", tmp_path / "timm", to="timm", compare=False)
    assert conversion.load(tmp_path / "timm").task == "model"


def test_a_dinov3_norms_the_last_stage_in_any_case_and_returns_patches_alone():
    fields = {"num_register_tokens": 2, "out_indices": [2, -1], "apply_layernorm": False, "return_class_token": True}
    config = vit_torch.DINOv3ViTConfig(**SIZES, **IMAGES, **fields, reshape_hidden_states=False)
    backbone = vit_torch.DINOv3ViTBackbone(config).eval()
    base = vit_torch.DINOv3ViTModel(config).eval()
    base.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 32, 24)
    with torch.no_grad():
        found, expected = backbone(images), base(images, output_hidden_states=True)
    for place, tokens in enumerate((expected.hidden_states[2], expected.last_hidden_state)):
        close(found.feature_maps[place], tokens[:, 3:].numpy())
        close(found.cls_tokens[place], tokens[:, 0].numpy())
