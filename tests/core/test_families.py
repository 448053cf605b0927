import json
import struct

import numpy as np
import pytest

from vit_core import (
    DeiTConfig,
    PretrainedConfig,
    SiglipConfig,
    SiglipVisionConfig,
    VisionTransformerConfig,
    ViTConfig,
    ViTMAEConfig,
    parameters,
)
from vit_core.auto import CONFIGS
from vit_core.families import FAMILIES, family_of, require_config
from vit_core.parameters import BARE, STACKS

FOLDERS = [
    *("hf_deit", "hf_deit_classifier", "hf_deit_masked"),
    *("hf_vit_mae", "hf_vit_mae_interpolated", "hf_vit_mae_norm_pix"),
    *("hf_beit_layerwise", "hf_beit_shared", "hf_beit_grads", "hf_beit_large", "hf_beit_masked_grads"),
    *("hf_data2vec_vision", "hf_vit_msn", "hf_ijepa"),
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "image_size": 32}
#: The families whose width of the MLP is a ratio.
WITH_RATIO = ("dinov2", "dinov2_with_registers")


def small(model_type, **fields):
    """A small config of a family."""
    sizes = {**SIZES, "mlp_ratio": 0.75} if model_type in WITH_RATIO else SIZES
    own = {name: size for name, size in sizes.items() if name != "intermediate_size" or model_type not in WITH_RATIO}
    return FAMILIES[model_type].config_class(**own, **fields)


MODELS = [(name, task) for name, family in FAMILIES.items() for task in family.models]


def published(folder):
    """The config that other people's code wrote, and the shapes of the tensors beside it."""
    said = json.loads((folder / "config.json").read_text())
    content = (folder / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return CONFIGS[said["model_type"]].from_dict(said), shapes


@pytest.mark.parametrize("name", FOLDERS)
def test_the_table_has_the_names_and_shapes_of_published_relatives(fixture_folder, name):
    config, shapes = published(fixture_folder / name)
    task = family_of(config).task_of(config.architectures[0])
    assert {row.name: row.shape for row in parameters(config, task)} == shapes


@pytest.mark.parametrize("name", FOLDERS)
def test_configs_of_relatives_come_back_as_they_were_written(fixture_folder, name):
    config, _ = published(fixture_folder / name)
    said = json.loads((fixture_folder / name / "config.json").read_text())
    written = json.loads(config.to_json_string())
    assert {**said, **written} == {**said, **{key: written[key] for key in written.keys() - said.keys()}}
    assert type(config).from_dict(written) == config


@pytest.mark.parametrize(("model_type", "task"), MODELS)
def test_rows_are_unique_and_know_where_they_belong(model_type, task):
    config = small(model_type)
    rows = parameters(config, task)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.name == row.prefix + row.base_name
        assert row.base_name == row.template.replace("*", str(row.layer))
        assert (row.prefix != "") == (row.is_of_base and task not in BARE)
        assert len(row.axes) == len(row.shape)
        if row.stack:
            assert row.base_name.startswith(f"{STACKS[row.stack]}.{row.layer}.")
            assert row.under("a.").name.split(".")[row.under("a.").depth_of_layer] == str(row.layer)
            assert row.in_layer(17).in_layer(row.layer) == row


def test_one_name_of_an_axis_has_one_size():
    for model_type, task in MODELS:
        sizes = {}
        for row in parameters(small(model_type, patch_size=8), task):
            if row.part in ("embeddings", "pooler", "layernorm") or row.stack == "encoder":
                sizes.update({(row.part, row.kind, axis): size for axis, size in zip(row.axes, row.shape, strict=True)})
        assert {size for (_, _, axis), size in sizes.items() if axis == "hidden"} == {32}
        assert {size for (_, _, axis), size in sizes.items() if axis == "mlp"} == {24}


def test_a_relative_differs_from_a_vit_in_what_its_paper_says():
    def names(model_type, task="model", **fields):
        return {row.name for row in parameters(small(model_type, **fields), task)}

    vit = names("vit")
    assert names("deit") - vit == {"embeddings.distillation_token"}
    assert names("dinov2_with_registers") - names("dinov2") == {"embeddings.register_tokens"}
    assert names("clip_vision_model") - vit == {
        *(
            "embeddings.layernorm.weight",
            "embeddings.layernorm.bias",
            "pooler.layernorm.weight",
            "pooler.layernorm.bias",
        )
    }
    assert "embeddings.position_embeddings" in vit - names("dinov3_vit")
    assert vit - names("ijepa") == {"embeddings.cls_token", "pooler.dense.weight", "pooler.dense.bias"}
    assert vit - names("vit_msn") == {"pooler.dense.weight", "pooler.dense.bias"}
    beit = names("beit", use_relative_position_bias=True)
    layers = [f"encoder.layer.{layer}" for layer in range(2)]
    assert beit - vit == {
        *(f"{layer}.{name}" for layer in layers for name in ("lambda_1", "lambda_2")),
        *(f"{layer}.attention.attention.relative_position_bias.relative_position_bias_table" for layer in layers),
        *("pooler.layernorm.weight", "pooler.layernorm.bias"),
    }
    assert {f"{layer}.attention.attention.key.bias" for layer in layers} <= vit - beit
    assert "layernorm.weight" in names("beit", use_mean_pooling=False) - beit
    assert names("data2vec-vision") == names("beit") - {"pooler.layernorm.weight", "pooler.layernorm.bias"}


def test_fixed_positions_are_not_trained_and_everything_else_is():
    rows = parameters(ViTMAEConfig(**SIZES, decoder_hidden_size=32, decoder_num_attention_heads=4), "pre-training")
    fixed = {row.name for row in rows if not row.trainable}
    assert fixed == {"vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"}
    assert {row.initializer for row in rows if row.name in fixed} == {"sincos"}
    for model_type, task in MODELS:
        if model_type != "vit_mae":
            assert all(row.trainable for row in parameters(small(model_type), task))


def test_layer_scale_starts_where_the_config_says():
    rows = parameters(FAMILIES["beit"].config_class(**SIZES, layer_scale_init_value=0.25))
    assert {row.initializer for row in rows if row.kind == "gain"} == {0.25}
    rows = parameters(FAMILIES["beit"].config_class(**SIZES, layer_scale_init_value=0))
    assert not [row for row in rows if row.kind == "gain"]


def test_a_config_of_our_own_says_what_every_family_is_made_of():
    for family in FAMILIES.values():
        config = small(family.model_type)
        options = vars(config.architecture)
        ours = VisionTransformerConfig(**SIZES, patch_size=config.patch_size, **options, qkv_bias=config.qkv_bias)
        assert ours.architecture == config.architecture
        assert [(r.name, r.shape) for r in parameters(ours)] == [(r.name, r.shape) for r in parameters(config)]
        again = VisionTransformerConfig.from_dict(json.loads(ours.to_json_string()))
        assert again == ours
        assert again.architecture == ours.architecture


def test_a_family_is_found_by_the_class_that_a_config_extends():
    class Mine(DeiTConfig):
        model_type = "mine"

    assert family_of(Mine()) is family_of(DeiTConfig) is FAMILIES["deit"]
    with pytest.raises(ValueError, match="PretrainedConfig is no config of a model that is here; extend one of ViT"):
        family_of(PretrainedConfig)


def test_configs_are_no_configs_of_another_family():
    for family in FAMILIES.values():
        others = {other.config_class for other in FAMILIES.values()} - {family.config_class}
        assert not issubclass(family.config_class, tuple(others))
    with pytest.raises(ValueError, match="model_type is 'deit', but a ViTConfig describes models of type 'vit'"):
        ViTConfig(model_type="deit")


@pytest.mark.parametrize(
    ("model_type", "fields", "words"),
    [
        ("vit_mae", {"mask_ratio": 1}, "mask_ratio is 1; give a number from 0 to below 1"),
        ("vit_mae", {"mask_ratio": "half"}, "mask_ratio is 'half'; give a number"),
        (
            "vit_mae",
            {"decoder_num_attention_heads": 5},
            "decoder_hidden_size is 512, which decoder_num_att",
        ),
        ("vit_mae", {"decoder_hidden_size": 30, "decoder_num_attention_heads": 2}, "need a multiple of 4"),
        ("vit_mae", {"norm_pix_loss": 2}, "norm_pix_loss is 2; give True or False"),
        ("beit", {"vocab_size": 0}, "vocab_size is 0; give a whole number"),
        ("beit", {"drop_path_rate": 1.0}, "drop_path_rate is 1.0; give a number from 0 to below 1"),
        ("beit", {"layer_scale_init_value": -1}, "layer_scale_init_value is -1.0; give a number"),
        ("beit", {"use_mean_pooling": "yes"}, "use_mean_pooling is 'yes'; give True or False"),
        (
            "beit",
            {"use_relative_position_bias": True, "use_shared_relative_position_bias": True},
            "are both True; no published model adds two tables",
        ),
        ("deit", {"encoder_stride": 0}, "encoder_stride is 0; give a whole number"),
        ("vision_transformer", {"pooler": "max"}, "pooler is 'max'; choose one of dense, mean-norm"),
        ("vision_transformer", {"norm": "batch"}, "norm is 'batch'; choose one of layer, rms"),
        ("vision_transformer", {"register_tokens": -1}, "register_tokens is -1; give a whole number"),
        ("dinov2", {"intermediate_size": 64}, "intermediate_size follows from hidden_size and mlp_ratio here"),
        ("dinov2", {"mlp_ratio": 0}, "mlp_ratio is 0; give a number"),
        ("dinov2_with_registers", {"num_register_tokens": 1.5}, "num_register_tokens is 1.5; give a whole number"),
        ("dinov3_vit", {"num_attention_heads": 64}, "heads are 6 wide (hidden_size / num_attention_heads)"),
        ("dinov3_vit", {"pos_embed_rescale": 0.5}, "pos_embed_rescale is 0.5; give a number from 1"),
        ("clip_vision_model", {"projection_dim": 0}, "projection_dim is 0; give a whole number"),
        ("vision_transformer", {"prefix_tokens": ("cls",)}, "prefix_tokens is 'cls'; choose one of cls_token"),
        ("vision_transformer", {"prefix_tokens": ["cls_token"] * 2}, "each can be there once"),
        ("vision_transformer", {"prefix_tokens": ()}, "classifier_reads is 'class-token', and there is no class"),
        ("vision_transformer", {"prefix_tokens": ("distillation_token", "cls_token")}, "the class token comes first"),
        ("vision_transformer", {"drop_path_rate": 1}, "drop_path_rate is 1; give a number from 0 to below 1"),
    ],
)
def test_an_impossible_field_is_named_with_its_value(model_type, fields, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        FAMILIES[model_type].config_class(**fields)


def test_drop_path_rates_rise_in_even_steps():
    architecture = FAMILIES["beit"].config_class(drop_path_rate=0.3).architecture
    np.testing.assert_allclose(architecture.drop_path_rates(4), [0, 0.1, 0.2, 0.3])
    assert architecture.drop_path_rates(1) == [0]
    assert architecture.drop_path_rates(0) == []


def test_a_model_with_a_teacher_needs_its_token():
    with pytest.raises(ValueError, match="a model with a teacher reads a distillation_token too, so add it"):
        parameters(VisionTransformerConfig(**SIZES), "image-classification-with-teacher")
    assert DeiTConfig().architecture.teacher_places == (0, 1)


def test_a_config_of_another_family_builds_no_model():
    require_config(ViTConfig(), ViTConfig, "ViTModel")
    for config in (DeiTConfig(), "vit", VisionTransformerConfig()):
        with pytest.raises(TypeError, match=f"ViTModel takes a ViTConfig, not a {type(config).__name__}; to load a"):
            require_config(config, ViTConfig, "ViTModel")


def test_a_siglip_without_a_head_says_so_and_one_with_a_head_does_not():
    for config_class in (SiglipVisionConfig, SiglipConfig):
        assert "vision_use_head" not in config_class().to_json_string()
        config = config_class(vision_use_head=False)
        assert config_class.from_dict(json.loads(config.to_json_string())).vision_use_head is False
        assert not any(row.part == "pooler" for row in parameters(config, "image-classification"))
    with pytest.raises(ValueError, match="vision_use_head is 1; give True or False"):
        SiglipVisionConfig(vision_use_head=1)


def test_a_whole_ratio_is_written_as_a_whole_number():
    config = FAMILIES["dinov2"].config_class(mlp_ratio=4.0)  # which transformers 5 refuses to read
    assert '"mlp_ratio": 4,' in config.to_json_string()
