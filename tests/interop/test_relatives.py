"""Folders of ViT's relatives travel between this project and transformers' PyTorch models, in both directions.

Run by `nox -s interop`, which installs transformers 4.47.1, 4.57.6 and the newest 5.
"""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import vit_torch  # noqa: E402
from vit_core.families import FAMILIES  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "initializer_range": 0.15, "num_labels": 10}  # fmt: skip
OF_THE_FAMILY = {
    "deit": {"encoder_stride": 8},
    "vit_mae": {
        "decoder_hidden_size": 24,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 40,
        "mask_ratio": 0.6,
    },
    "beit": {"vocab_size": 64, "use_mask_token": True},
}
VARIANTS = {
    "beit": [
        {"use_relative_position_bias": True},
        {"use_shared_relative_position_bias": True, "use_absolute_position_embeddings": True},
        {"use_mean_pooling": False, "layer_scale_init_value": 0.0, "use_absolute_position_embeddings": True},
    ],
    "data2vec-vision": [{"use_relative_position_bias": True}, {"use_absolute_position_embeddings": True}],
    "deit": [{}, {"qkv_bias": False, "hidden_act": "relu"}],
    "vit_mae": [{}, {"norm_pix_loss": True, "num_channels": 1}],
    "vit_msn": [{}],
    "ijepa": [{}],
    "dinov2": [{}, {"use_swiglu_ffn": True, "qkv_bias": False}, {"use_mask_token": False, "hidden_act": "relu"}],
    "dinov2_with_registers": [{"num_channels": 1}, {"use_swiglu_ffn": True, "num_register_tokens": 1}],
    "dinov3_vit": [
        {},
        {"use_gated_mlp": True, "hidden_act": "silu", "num_register_tokens": 3, "key_bias": True, "rope_theta": 50.0},
        {"num_register_tokens": 1, **dict.fromkeys(["query_bias", "value_bias", "proj_bias", "mlp_bias"], False)},
    ],
    "siglip_vision_model": [
        {},
        {"hidden_act": "gelu", "layer_norm_eps": 1e-3, "num_channels": 1},
        {"vision_use_head": False},
    ],
    "clip_vision_model": [{}, {"hidden_act": "gelu", "projection_dim": 20}],
}
IS_5 = transformers.__version__.startswith("5.")
#: Models whose files transformers 5 writes with names of its own; we read these, and write what everyone else does.
MISNAMED = ("ViTMAEForPreTraining", "ViTMSNForImageClassification", "SiglipVisionModel", "CLIPVisionModel")
CASES = [
    pytest.param(model_type, name, fields, id=f"{name}-{number}")
    for model_type, variants in VARIANTS.items()
    for name in FAMILIES[model_type].models.values()
    for number, fields in enumerate(variants)
]


def classes_of(name, fields):
    """The class of that name here and in transformers."""
    if not hasattr(transformers, name):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    other = getattr(transformers, name)
    if "use_mask_token" in fields and not hasattr(other.config_class(), "use_mask_token"):
        pytest.skip(f"transformers {transformers.__version__} gives every {name} a mask token")
    return getattr(vit_torch, name), other


def config_of(config_class, model_type, fields):
    """A config of ours or theirs; one of two towers has what is said of the image tower in its place."""
    values = {**SIZES, **OF_THE_FAMILY.get(model_type, {}), **fields}
    if model_type.startswith("dinov2"):
        del values["intermediate_size"]  # which follows from mlp_ratio
    if hasattr(config_class(), "vision_config"):
        labels = values.pop("num_labels")
        return config_class(vision_config=values, num_labels=labels)
    return config_class(**values)


def inputs(name, config):
    torch.manual_seed(1)
    batch = {"pixel_values": torch.randn(2, config.num_channels, 32, 32)}
    if name in ("Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel"):
        return (
            {**batch, "bool_masked_pos": torch.rand(2, 16) > 0.5} if getattr(config, "use_mask_token", True) else batch
        )
    if "MAE" in name:
        return {**batch, "noise": torch.rand(2, 16)}
    if name == "BeitForMaskedImageModeling":
        if config.use_absolute_position_embeddings and transformers.__version__.startswith("4.47"):
            return batch  # positions are added before masking there, and in later versions and here after it
        masked = torch.rand(2, 16) > 0.5
        return {**batch, "bool_masked_pos": masked, "labels": torch.randint(64, (int(masked.sum()),))}
    return {**batch, "bool_masked_pos": torch.rand(2, 16) > 0.5} if "Masked" in name else batch


def assert_same_results(ours, theirs, name):
    ours.eval(), theirs.eval()
    batch = inputs(name, ours.config)
    with torch.no_grad():
        mine = ours(**batch, output_hidden_states=True, output_attentions=True)
        other = theirs(**batch, output_hidden_states=True, output_attentions=True)
    assert list(mine.keys()) == list(other.keys())
    if IS_5 and name == "DeiTForMaskedImageModeling":  # which decodes the patches; 4 and we decode tokens [1:-1]
        mine, other = mine.hidden_states, other.hidden_states
        mine, other = ({"hidden_states": each} for each in (mine, other))
    for key in mine.keys():  # noqa: SIM118
        pairs = zip(mine[key], other[key], strict=True) if isinstance(mine[key], tuple) else [(mine[key], other[key])]
        for here, there in pairs:
            torch.testing.assert_close(here, there, atol=1e-5, rtol=0)


def assert_same_fields(written, config):
    """That what a file says means the same to who read it; a dtype has another name in newer versions."""
    written.pop("torch_dtype")
    assert str(config.torch_dtype if hasattr(config, "torch_dtype") else config.dtype) == "torch.float32"
    read = json.loads(config.to_json_string(use_diff=False))
    tower = written.pop("vision_config", {})
    assert {name: read.get(name) for name in written} == written
    assert {name: read["vision_config"].get(name) for name in tower} == tower


def wide(model):
    """With parameters that all show in the answers."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.mark.parametrize(("model_type", "name", "fields"), CASES)
def test_what_we_save_loads_in_transformers(model_type, name, fields, tmp_path):
    own, other = classes_of(name, fields)
    if IS_5 and name == "BeitForMaskedImageModeling" and not fields.get("use_mean_pooling", True):
        pytest.skip("transformers 5 takes the encoder's LayerNorm for the head's when it loads such a file of its own")
    ours = wide(own(config_of(own.config_class, model_type, fields)))
    ours.save_pretrained(tmp_path)
    theirs, info = other.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_results(ours, theirs, name)
    assert_same_fields(json.loads((tmp_path / "config.json").read_text()), theirs.config)


@pytest.mark.parametrize(("model_type", "name", "fields"), CASES)
def test_what_transformers_saves_loads_here_and_is_saved_again_byte_for_byte(model_type, name, fields, tmp_path):
    own, other = classes_of(name, fields)
    config = config_of(other.config_class, model_type, fields)
    theirs = wide(other._from_config(config, attn_implementation="eager"))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = own.from_pretrained(tmp_path / "theirs")
    assert_same_results(ours, theirs, name)
    ours.save_pretrained(tmp_path / "ours")
    if IS_5 and name in MISNAMED:
        return  # what we save loads there, and there alone are these names
    written, read = (tmp_path / folder / "model.safetensors" for folder in ("ours", "theirs"))
    assert written.read_bytes() == read.read_bytes()


def test_our_own_config_is_refused_there(tmp_path):
    vit_torch.VisionTransformerModel(vit_torch.VisionTransformerConfig(**SIZES)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="vision_transformer"):
        transformers.AutoModel.from_pretrained(tmp_path)
