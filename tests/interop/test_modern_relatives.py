"""What transformers' DINOv2, DINOv3, SigLIP and CLIP do with images of any size, labels, masks and configs, we do.

Run by `nox -s interop`, which installs transformers 4.47.1, 4.57.6 and the newest 5.
"""

import copy
import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import vit_torch  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
TOWER = {**SIZES, "intermediate_size": 56}
TEXTS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 99,
         "max_position_embeddings": 9, "projection_dim": 20, "projection_size": 32}  # fmt: skip
#: A model of each kind, and fields of its config that are not the usual ones.
MODELS = {
    "Dinov2Model": {**SIZES, "use_swiglu_ffn": True, "mlp_ratio": 3, "layerscale_value": 0.5},
    "Dinov2ForImageClassification": {**SIZES, "qkv_bias": False, "image_size": 40},
    "Dinov2WithRegistersModel": {**SIZES, "num_register_tokens": 2, "patch_size": 4},
    "Dinov2WithRegistersForImageClassification": {**SIZES, "num_register_tokens": 3},
    "DINOv3ViTModel": {**TOWER, "use_gated_mlp": True, "num_register_tokens": 4, "rope_theta": 30.0},
    "SiglipVisionModel": {**TOWER, "image_size": 35},
    "SiglipForImageClassification": TOWER,
    "CLIPVisionModel": {**TOWER, "image_size": 35},
    "CLIPVisionModelWithProjection": {**TOWER, "projection_dim": 20},
    "CLIPForImageClassification": TOWER,
}
CLASSIFIERS = [name for name in MODELS if name.endswith("Classification")]
IS_5 = transformers.__version__.startswith("5.")


def config_of(config_class, fields):
    """A config of ours or theirs; one of two towers has the fields of the image tower in their place."""
    if not hasattr(config_class(), "vision_config"):
        return config_class(**fields)
    outer = {name: fields[name] for name in ("num_labels", "problem_type") if name in fields}
    inner = {name: value for name, value in fields.items() if name not in outer}
    return config_class(text_config=TEXTS, vision_config=inner, **outer)


@pytest.fixture
def pair(spread, tmp_path):
    """Makes a model of transformers and opens it here: (name, fields, attention) -> (ours, theirs)."""

    def made(name, attention="eager", **fields):
        if not hasattr(transformers, name):
            pytest.skip(f"transformers {transformers.__version__} has no {name}")
        theirs = getattr(transformers, name)
        config = config_of(theirs.config_class, {**MODELS[name], **fields})
        theirs = spread(theirs._from_config(config, attn_implementation=attention))
        theirs.save_pretrained(tmp_path / "theirs")
        return getattr(vit_torch, name).from_pretrained(tmp_path / "theirs").eval(), theirs

    return made


def takes(model, argument):
    return argument in inspect.signature(model.forward).parameters


def assert_close(ours, theirs):
    """All that was returned, tensor by tensor."""
    assert list(ours.keys()) == list(theirs.keys())
    for name in ours.keys():  # noqa: SIM118
        together = [each if isinstance(each, tuple) else (each,) for each in (ours[name], theirs[name])]
        for here, there in zip(*together, strict=True):
            torch.testing.assert_close(here, there, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(32, 32), (48, 24), (43, 61)])
@torch.no_grad()
def test_images_of_any_size(pair, name, size):
    ours, theirs = pair(name, "sdpa")
    if not (is_asked := takes(theirs, "interpolate_pos_encoding")) and name == "CLIPForImageClassification":
        size = (32, 32)
    images = torch.randn(2, 3, *size)
    asked = {"interpolate_pos_encoding": True} if is_asked else {}
    assert_close(ours(images, output_hidden_states=True, **asked), theirs(images, output_hidden_states=True, **asked))


def files_of_gradients(model, folder):
    """The same model with gradients for weights, saved."""
    of_gradients = copy.deepcopy(model)
    with torch.no_grad():
        for copied, parameter in zip(of_gradients.parameters(), model.parameters(), strict=True):
            copied.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    of_gradients.save_pretrained(folder)
    return folder


LABELS = {
    "single_label_classification": (5, torch.tensor([4, 1])),
    "multi_label_classification": (3, torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])),
    "regression": (1, torch.tensor([0.3, -2.0])),
}


@pytest.mark.parametrize("problem", LABELS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_losses_and_every_gradient(pair, name, problem, tmp_path):
    number, labels = LABELS[problem]
    ours, theirs = pair(name, num_labels=number, problem_type=problem)
    assert ours.config.problem_type == problem
    images = torch.randn(2, 3, *ours.config.image_shape)
    losses = [model(images, labels=labels).loss for model in (ours, theirs)]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=0)
    for loss in losses:
        loss.backward()
    found, expected = (
        type(ours).from_pretrained(files_of_gradients(model, tmp_path / type(model).__module__)).state_dict()
        for model in (ours, theirs)
    )
    assert max(gradient.abs().max() for gradient in expected.values()) > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in CLASSIFIERS])
def test_every_gradient_of_a_model_without_a_head(pair, name, tmp_path):
    ours, theirs = pair(name)
    images = torch.randn(2, 3, *ours.config.image_shape)
    for model in (ours, theirs):
        output = model(images)
        sum((output[key] ** 2).mean() for key in output.keys()).backward()  # noqa: SIM118
    found, expected = (
        type(ours).from_pretrained(files_of_gradients(model, tmp_path / type(model).__module__)).state_dict()
        for model in (ours, theirs)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["Dinov2ForImageClassification", "Dinov2WithRegistersModel"])
@torch.no_grad()
def test_masks_of_heads(pair, name):
    ours, theirs = pair(name)
    if not takes(theirs, "head_mask"):
        pytest.skip(f"transformers {transformers.__version__} has no masks of heads")
    images = torch.randn(2, 3, *ours.config.image_shape)
    mask = torch.rand(2, 4)
    assert_close(*(model(images, head_mask=mask, output_attentions=True) for model in (ours, theirs)))


@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
@torch.no_grad()
def test_image_towers_of_whole_models(family, spread, tmp_path):
    config = getattr(transformers, f"{family}Config")(
        text_config=TEXTS, vision_config={**TOWER, "projection_dim": 20}, projection_dim=20
    )
    whole = spread(getattr(transformers, f"{family}Model")._from_config(config, attn_implementation="eager"))
    whole.save_pretrained(tmp_path / "whole")
    images = torch.randn(2, 3, 32, 32)
    tower = getattr(vit_torch, f"{family}VisionModel").from_pretrained(tmp_path / "whole").eval()
    arguments = {"output_hidden_states": True, "output_attentions": True}
    theirs = getattr(transformers, f"{family}VisionModel").from_pretrained(
        tmp_path / "whole", attn_implementation="eager"
    )
    assert_close(tower(images, **arguments), theirs.eval()(images, **arguments))
    features = whole.get_image_features(images)
    features = features if torch.is_tensor(features) else features.pooler_output  # 5 returns all
    if family == "CLIP":
        projecting = vit_torch.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "whole").eval()
        torch.testing.assert_close(projecting(images).image_embeds, features, atol=1e-5, rtol=0)
        projecting.save_pretrained(tmp_path / "projecting")
        theirs, info = transformers.CLIPVisionModelWithProjection.from_pretrained(
            tmp_path / "projecting", output_loading_info=True
        )
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        torch.testing.assert_close(theirs.eval()(images).image_embeds, features, atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(tower(images).pooler_output, features, atol=1e-5, rtol=0)
    with pytest.warns(UserWarning, match="classifier"):
        classifier = getattr(vit_torch, f"{family}ForImageClassification").from_pretrained(tmp_path / "whole")
    classifier.save_pretrained(tmp_path / "classifier")
    theirs = getattr(transformers, f"{family}ForImageClassification").from_pretrained(tmp_path / "classifier")
    said = getattr(transformers, f"{family}Config").from_pretrained(tmp_path / "whole")
    of_texts = ({**config.text_config.to_dict(), "dtype": None} for config in (theirs.config, said))
    assert next(of_texts) == next(of_texts)
    assert_close(classifier.eval()(images), theirs.eval()(images))


def test_a_siglip_without_its_pooling_head(pair):
    ours, theirs = pair("SiglipVisionModel", vision_use_head=False)
    images = torch.randn(2, 3, 35, 35)
    assert theirs(images).pooler_output is None
    assert ours(images).pooler_output is None
    torch.testing.assert_close(ours(images)[0], theirs(images)[0], atol=1e-5, rtol=0)


#: Values that none of a family's fields has by itself.
FIELDS = {
    "dinov2": {"mlp_ratio": 2, "hidden_act": "relu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2,
               "initializer_range": 0.03, "layer_norm_eps": 1e-4, "num_channels": 1, "qkv_bias": False,
               "layerscale_value": 0.25, "drop_path_rate": 0.3, "use_swiglu_ffn": True, "apply_layernorm": False,
               "reshape_hidden_states": False, "use_mask_token": False, "out_indices": [0, 2]},
    "dinov2_with_registers": {"num_register_tokens": 7, "drop_path_rate": 0.3, "out_features": ["stem", "stage1"]},
    "dinov3_vit": {"intermediate_size": 20, "hidden_act": "silu", "attention_dropout": 0.1, "rope_theta": 10.0,
                   "query_bias": False, "key_bias": True, "value_bias": False, "proj_bias": False, "mlp_bias": False,
                   "layerscale_value": 0.5, "drop_path_rate": 0.3, "use_gated_mlp": True, "num_register_tokens": 2,
                   "pos_embed_shift": 0.5, "pos_embed_jitter": 1.5, "pos_embed_rescale": None, "num_channels": 1,
                   "initializer_range": 0.03, "layer_norm_eps": 1e-4},
    "siglip_vision_model": {"intermediate_size": 20, "hidden_act": "relu", "layer_norm_eps": 1e-4, "num_channels": 1,
                            "attention_dropout": 0.2},
    "clip_vision_model": {"intermediate_size": 20, "hidden_act": "relu", "layer_norm_eps": 1e-4, "num_channels": 1,
                          "attention_dropout": 0.2, "projection_dim": 12, "initializer_range": 0.03},
}  # fmt: skip


@pytest.mark.parametrize("model_type", FIELDS)
def test_fields_mean_the_same_in_both_directions(model_type, tmp_path):
    if model_type not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {model_type}")
    fields = {**SIZES, **FIELDS[model_type]}
    ours = vit_torch.AutoConfig.for_model(model_type, **fields)
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.CONFIG_MAPPING[model_type].from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = vit_torch.AutoConfig.from_pretrained(tmp_path / "theirs")
    for config in (ours, theirs, again):
        assert {name: getattr(config, name) for name in fields} == fields
    of_files = {"transformers_version", "dtype", "torch_dtype"}
    found, expected = (
        {key: value for key, value in config.to_dict().items() if key not in of_files} for config in (again, ours)
    )
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel", "CLIPVisionModel"])
def test_training_at_random_leaves_paths_out_as_often_and_saves_the_same_config(pair, name, tmp_path):
    at_random = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"), 0.2)
    at_random = {key: value for key, value in at_random.items() if hasattr(transformers_config(name), key)}
    if hasattr(transformers_config(name), "drop_path_rate"):
        at_random["drop_path_rate"] = 0.4
    ours, theirs = pair(name, **at_random)
    before = ours.config.to_dict()
    images = torch.randn(2, 3, *ours.config.image_shape)
    for model in (ours, theirs):
        model.train()
        assert not torch.equal(model(images)[0], model(images)[0])
    ours.save_pretrained(tmp_path / "again")
    assert ours.config.to_dict() == before
    for config in (ours.config, transformers.AutoConfig.from_pretrained(tmp_path / "again")):
        assert {key: getattr(config, key) for key in at_random} == at_random
    rates = {
        getattr(part, "rate", getattr(part, "drop_prob", None))
        for model in (ours, theirs)
        for part in model.modules()
        if "DropPath" in type(part).__name__
    }
    assert rates == ({0.4} if "drop_path_rate" in at_random else set())


def transformers_config(name):
    if not hasattr(transformers, name):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    return getattr(transformers, name).config_class()


#: Image processors whose steps those of ours are, and settings that are not the usual ones.
PROCESSORS = [
    ("BitImageProcessor", {}),
    ("BitImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": 30, "width": 34}, "resample": 2}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 50}, "crop_size": {"height": 48, "width": 48}}),
    ("SiglipImageProcessor", {"size": {"height": 48, "width": 64}}),
    ("DINOv3ViTImageProcessorFast", {"size": {"height": 48, "width": 64}}),
]


@pytest.mark.parametrize(("name", "settings"), PROCESSORS)
def test_pixels_of_image_processors(name, settings, photograph, tmp_path):
    theirs = getattr(transformers, f"{name}Pil" if IS_5 and hasattr(transformers, f"{name}Pil") else name, None)
    if theirs is None:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    try:
        theirs = theirs(**settings)
    except ImportError as error:
        pytest.skip(str(error))
    theirs.save_pretrained(tmp_path)
    ours = vit_torch.AutoImageProcessor.from_pretrained(tmp_path)
    found, expected = (
        np.asarray(each(images=[photograph], return_tensors="pt").pixel_values) for each in (ours, theirs)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
