"""timm builds models from the folders that we write, reads Google's files that we write, and we load what it saves.

Run by `nox -s interop`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
import warnings

import numpy as np
import pytest

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")

import torchvision.transforms.functional as transforms  # noqa: E402
from timm.data import create_transform, resolve_model_data_config  # noqa: E402
from timm.models import load_state_dict, save_for_hf  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from timm.utils import CheckpointSaver, ModelEmaV3  # noqa: E402

import vit_torch  # noqa: E402
from conversion import convert, load  # noqa: E402
from conversion.formats.timm_architectures import width_and_heads  # noqa: E402

#: timm's words for the model that `ours` makes.
ARGUMENTS = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 56 / 32}
VARIANTS = {
    "plain": ({}, {}),
    "no biases of query, key and value": ({"qkv_bias": False}, {"qkv_bias": False}),
    "tanh gelu": ({"hidden_act": "gelu_pytorch_tanh"}, {"act_layer": "gelu_tanh"}),
    "quick gelu": ({"hidden_act": "quick_gelu"}, {"act_layer": "quick_gelu"}),
    "relu": ({"hidden_act": "relu"}, {"act_layer": "relu"}),
    "silu": ({"hidden_act": "silu"}, {"act_layer": "silu"}),
    "wide image": ({"image_size": (32, 48)}, {"img_size": (32, 48)}),
    "wide patches": ({"patch_size": (8, 16)}, {"patch_size": (8, 16)}),
    "one channel": ({"num_channels": 1}, {"in_chans": 1}),
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "num_labels": 10, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}  # fmt: skip
GOOGLE = {"hidden_act": "gelu_pytorch_tanh"}  # what Google's models compute with


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    """Fields of our config, and arguments of theirs for the same model."""
    return request.param


def our_model(source, **fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return vit_torch.ViTForImageClassification.from_pretrained(source, **fields)


def assert_same_logits(ours, theirs, pixel_values):
    ours.eval(), theirs.eval()
    with torch.no_grad():
        mine, other = ours(pixel_values).logits, theirs(pixel_values)
    assert other.std() > 0.1  # otherwise much would be equal
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_state_dict_loads_strictly(variant, file, ours, images, tmp_path):
    fields, arguments = variant
    folder, model = ours(**fields)
    convert(folder, tmp_path / file, to="timm")
    theirs = VisionTransformer(**ARGUMENTS | arguments, num_classes=10)
    theirs.load_state_dict(load_state_dict(str(tmp_path / file)), strict=True)
    assert_same_logits(model, theirs, images(model.config))


def test_timm_builds_the_model_from_our_folder_alone(variant, ours, images, tmp_path):
    folder, model = ours(**variant[0])
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert theirs.num_classes == 10
    assert_same_logits(model, theirs, images(model.config))


@pytest.mark.parametrize(("hidden", "intermediate"), [(36, 101), (44, 15), (56, 41), (100, 57)])
def test_timm_builds_an_mlp_of_any_width_from_our_folder(hidden, intermediate, ours, images, tmp_path):
    folder, model = ours(hidden_size=hidden, intermediate_size=intermediate)
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert_same_logits(model, theirs, images(model.config))


def test_a_model_without_head_gives_timms_features(ours, images, tmp_path):
    folder, model = ours("ViTModel", add_pooling_layer=False)
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert theirs.num_classes == 0
    pixel_values = images(model.config)
    with torch.no_grad():
        hidden, other = model(pixel_values).last_hidden_state, theirs.forward_features(pixel_values)
        pooled = theirs(pixel_values)
    torch.testing.assert_close(hidden, other, atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden[:, 0], pooled, atol=1e-5, rtol=0)


def test_timm_puts_another_head_on_our_folder(ours, images, tmp_path):
    folder, model = ours()
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True, num_classes=3).eval()
    pixel_values = images(model.config)
    with torch.no_grad():
        assert theirs(pixel_values).shape == (2, 3)
        mine, other = model.vit(pixel_values).last_hidden_state, theirs.forward_features(pixel_values)
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_labels_travel_to_timm_and_back(ours, tmp_path):
    labels = {number: f"class {number}" for number in range(10)}
    folder, _ = ours(id2label=labels)
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert list(theirs.pretrained_cfg["label_names"]) == list(labels.values())
    save_for_hf(theirs, tmp_path / "again", model_config={"label_names": list(labels.values())})
    for folder in ("timm", "again"):
        assert load(tmp_path / folder).config.id2label == labels


PROCESSORS = {
    "plain": ("ViTImageProcessor", {}),
    "bicubic, another mean": (
        "ViTImageProcessor",
        {"resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2] * 3},
    ),
    "crop": ("DeiTImageProcessor", {"size": {"shortest_edge": 36}, "resample": 3}),
    "crop of all": ("DeiTImageProcessor", {"size": {"shortest_edge": 32}, "resample": 2}),
    "crop of what is not in proportion": ("DeiTImageProcessor", {"size": {"height": 36, "width": 36}, "resample": 3}),
}


@pytest.mark.parametrize(("name", "settings"), PROCESSORS.values(), ids=PROCESSORS.keys())
def test_timms_transform_of_our_folder_makes_our_pixel_values(name, settings, ours, photograph, tmp_path):
    folder, _ = ours()
    square = {"height": 32, "width": 32}
    settings = {"size": square, **settings} | ({"crop_size": square} if name.startswith("DeiT") else {})
    processor = getattr(vit_torch, name)(**settings)
    processor.save_pretrained(folder)
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    data = resolve_model_data_config(theirs)
    assert data["input_size"] == (3, 32, 32)
    assert list(data["mean"]) == processor.image_mean
    assert list(data["std"]) == processor.image_std
    assert_same_pixel_values(processor, data, photograph)


def test_timms_transform_of_our_folder_makes_our_pixel_values_for_wide_images(ours, photograph, tmp_path):
    folder, _ = ours(image_size=(32, 48))
    processor = vit_torch.ViTImageProcessor(size={"height": 32, "width": 48})
    processor.save_pretrained(folder)
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert_same_pixel_values(processor, resolve_model_data_config(theirs), photograph)


@pytest.mark.parametrize(("cropped", "resized"), [(40, 53), (40, 58), (48, 59)])
def test_timm_resizes_to_our_size_where_a_fraction_is_not_exact(cropped, resized, ours, photograph, tmp_path):
    folder, _ = ours(image_size=cropped)
    square = {"height": cropped, "width": cropped}
    processor = vit_torch.DeiTImageProcessor(size={"shortest_edge": resized}, crop_size=square, resample=3)
    processor.save_pretrained(folder)
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert_same_pixel_values(processor, resolve_model_data_config(theirs), photograph)


def assert_same_pixel_values(processor, data, photograph):
    """Ours are timm's, whose crop rounds half a pixel to an even one where ours rounds down, as transformers' does."""
    resize, crop, *rest = create_transform(**data, is_training=False).transforms
    resized, (height, width) = resize(photograph), crop.size
    expected = transforms.crop(resized, (resized.height - height) // 2, (resized.width - width) // 2, height, width)
    for step in rest:
        expected = step(expected)
    mine = torch.from_numpy(processor(photograph, return_tensors="np").pixel_values[0])
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_what_timm_saves_loads_here(variant, safe, spread, images, tmp_path):
    theirs = spread(timm.create_model("vit_tiny_patch16_224", **ARGUMENTS | variant[1], num_classes=10))
    save_for_hf(theirs, tmp_path, safe_serialization=safe)
    ours = our_model(tmp_path)
    assert ours.config.layer_norm_eps == 1e-6
    assert_same_logits(ours, theirs, images(ours.config))


def test_what_timm_saves_of_a_model_of_ours_loads_here(variant, ours, images, tmp_path):
    folder, model = ours(**variant[0])
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    save_for_hf(theirs, tmp_path / "again", safe_serialization=True)
    again = our_model(tmp_path / "again")
    assert again.config.hidden_act == model.config.hidden_act
    assert_same_logits(again, theirs, images(model.config))


def test_what_timm_saves_without_a_head_loads_here(spread, images, tmp_path):
    theirs = spread(timm.create_model("vit_tiny_patch16_224", **ARGUMENTS, num_classes=0))
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    ours = vit_torch.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    pixel_values = images(ours.config)
    with torch.no_grad():
        mine, other = ours(pixel_values).last_hidden_state, theirs.forward_features(pixel_values)
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_the_averages_of_a_training_checkpoint_of_timm_load_here(spread, images, tmp_path):
    theirs = spread(timm.create_model("vit_tiny_patch16_224", **ARGUMENTS, num_classes=10))
    optimizer = torch.optim.AdamW(theirs.parameters())
    averages = ModelEmaV3(theirs)
    arguments = argparse.Namespace(model="vit_tiny_patch16_224")
    saver = CheckpointSaver(
        theirs, optimizer, args=arguments, model_ema=averages, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path)
    )
    spread(averages.module)
    saver.save_checkpoint(epoch=0, metric=1.0)
    file, heads = tmp_path / "last.pth.tar", {"num_attention_heads": 4}
    with pytest.warns(UserWarning, match="the one under 'state_dict_ema' is read"):
        ours = vit_torch.ViTForImageClassification.from_pretrained(file, **heads)
    assert_same_logits(ours, averages.module, images(ours.config))
    assert_same_logits(our_model(file, under="state_dict", **heads), theirs, images(ours.config))


PRETRAINED = {
    "crop": {"crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "narrower crop": {"crop_pct": 0.875, "interpolation": "bilinear", "mean": (0.485, 0.456, 0.406)},
    "whole image": {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"},
    "crop of all": {"crop_pct": 1.0, "interpolation": "bicubic"},
    "crop of what is not in proportion": {"crop_pct": 0.95, "crop_mode": "squash"},
}


@pytest.mark.parametrize("pretrained", PRETRAINED.values(), ids=PRETRAINED.keys())
def test_preprocessing_that_timm_saves_is_ours(pretrained, photograph, tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS, num_classes=10)
    theirs.pretrained_cfg = {**theirs.pretrained_cfg, **pretrained}
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    data = resolve_model_data_config(theirs)
    assert all(data[name] == value or data[name] == list(value) for name, value in pretrained.items())
    assert_same_pixel_values(vit_torch.AutoImageProcessor.from_pretrained(tmp_path), data, photograph)


@pytest.mark.parametrize("left_out", ["crop_pct", "mean", "std", "interpolation", "crop_mode"])
def test_what_timms_config_does_not_say_of_preprocessing_is_what_timm_takes_for_granted(left_out, photograph, tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS, num_classes=10)
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["pretrained_cfg"][left_out]
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    data = resolve_model_data_config(theirs)
    assert_same_pixel_values(vit_torch.AutoImageProcessor.from_pretrained(tmp_path), data, photograph)


OF_OUR_OWN_CONFIG = {
    "the mean of the patches": {"global_pool": "avg", "fc_norm": False},
    "the mean of the patches, normalised": {"global_pool": "avg"},
    "no class token": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "no position of the class token": {"no_embed_class": True},
    "normalised queries": {"qk_norm": True},
    "scaled layers": {"init_values": 1e-5, "act_layer": "gelu_tanh"},
    "register tokens": {"reg_tokens": 2, "img_size": (32, 48)},
    "registers without a position": {"reg_tokens": 2, "no_embed_class": True, "in_chans": 1},
    "no positions": {"pos_embed": "none"},
    "normalised tokens": {"pre_norm": True, "patch_size": (8, 16)},
    "no norm at the end": {"final_norm": False},
    "attention pooling": {"global_pool": "map", "class_token": False},
    "no biases after attention and in the MLP": {"init_values": 0.1, "qkv_bias": False, "proj_bias": False},
}


@pytest.mark.parametrize("arguments", OF_OUR_OWN_CONFIG.values(), ids=OF_OUR_OWN_CONFIG.keys())
def test_other_models_of_timm_are_of_our_own_config_and_go_back(arguments, spread, images, tmp_path):
    theirs = spread(timm.create_model("vit_tiny_patch16_224", **ARGUMENTS | arguments, num_classes=10))
    save_for_hf(theirs, tmp_path / "timm", safe_serialization=True)
    with pytest.raises(ValueError, match="load it with VisionTransformerForImageClassification"):
        our_model(tmp_path / "timm")
    model = vit_torch.VisionTransformerForImageClassification.from_pretrained(tmp_path / "timm")
    pixels = images(model.config)
    assert_same_logits(model, theirs, pixels)
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "again", to="timm")
    assert_same_logits(model, timm.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True), pixels)


REFUSED = {
    "the largest of the patches": ({"global_pool": "max", "fc_norm": False}, "global_pool='max'"),
    "another norm": ({"norm_layer": "rmsnorm"}, "lacks blocks.0.norm1.bias"),
    "an activation that we lack": ({"act_layer": "hard_swish"}, "hard_swish"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_models_of_timm_that_we_lack_are_refused(arguments, reason, tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS | arguments, num_classes=10)
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match=reason):
        load(tmp_path)


def _google(**arguments):
    return VisionTransformer(**ARGUMENTS | {"num_classes": 10, "act_layer": "gelu_tanh"} | arguments)


def test_timm_reads_googles_published_names(ours, images, tmp_path):
    folder, model = ours(**GOOGLE)
    convert(folder, tmp_path / "vit.npz", to="google")
    theirs = _google()
    theirs.load_pretrained(tmp_path / "vit.npz")
    assert_same_logits(model, theirs, images(model.config))


def test_timm_reads_todays_names_of_modules(ours, images, tmp_path):
    """It knows them from big_vision, whose positions have another name and no place for the class token."""
    folder, model = ours(**GOOGLE)
    convert(folder, tmp_path / "vit.npz", to="google-linen")
    arrays = dict(np.load(tmp_path / "vit.npz"))
    arrays["pos_embedding"] = arrays.pop("Transformer/posembed_input/pos_embedding")
    np.savez(tmp_path / "renamed.npz", **arrays)
    theirs = _google()
    theirs.load_pretrained(tmp_path / "renamed.npz")
    assert_same_logits(model, theirs, images(model.config))


def test_timm_reads_big_visions_names(ours, images, tmp_path):
    folder, model = ours(**GOOGLE)
    convert(folder, tmp_path / "vit.npz", to="big-vision")
    theirs = _google(no_embed_class=True)
    theirs.load_pretrained(tmp_path / "vit.npz")
    assert_same_logits(model, theirs, images(model.config))


SPELLINGS = {
    "an optimizer's target": ("google", "opt/target/"),
    "params": ("big-vision", "params/"),
    "the image tower of two": ("big-vision", "params/img/"),
}


@pytest.mark.parametrize(("form", "prefix"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_file_with_a_prefix_is_the_same_model_to_timm_and_to_us(form, prefix, ours, images, tmp_path):
    folder, _ = ours(**GOOGLE)
    convert(folder, tmp_path / "vit.npz", to=form)
    arrays = {prefix + name: array for name, array in np.load(tmp_path / "vit.npz").items()}
    np.savez(tmp_path / "wrapped.npz", **arrays, **{"opt/state/step": np.int64(3)} if "opt" in prefix else {})
    theirs = _google(no_embed_class=form == "big-vision")
    theirs.load_pretrained(tmp_path / "wrapped.npz")
    model = our_model(tmp_path / "wrapped.npz")
    assert_same_logits(model, theirs, images(model.config))


@pytest.mark.parametrize("prefix", ["", "params/"])
def test_scanned_layers_are_the_same_model_to_timm_and_to_us(prefix, ours, images, tmp_path):
    folder, _ = ours(**GOOGLE)
    convert(folder, tmp_path / "vit.npz", to="big-vision")
    arrays, layers = {}, {}
    for name, array in np.load(tmp_path / "vit.npz").items():
        before, block, after = name.partition("encoderblock_")
        if block:
            layers.setdefault(f"{before}encoderblock/{after.split('/', 1)[1]}", {})[int(after.split("/")[0])] = array
        else:
            arrays[prefix + name] = array
    arrays |= {prefix + name: np.stack([found[i] for i in range(3)]) for name, found in layers.items()}
    np.savez(tmp_path / "scanned.npz", **arrays)
    theirs = _google(no_embed_class=True)
    theirs.load_pretrained(tmp_path / "scanned.npz")
    model = our_model(tmp_path / "scanned.npz")
    assert_same_logits(model, theirs, images(model.config))


def _architectures():
    """Each of timm's Vision Transformers without weights, by the name of its architecture."""
    with torch.device("meta"):
        for name in [*timm.list_models(module="vision_transformer"), *timm.list_models(module="deit")]:
            model = timm.create_model(name)
            if isinstance(model, VisionTransformer):
                yield name, model


@pytest.fixture(scope="module")
def architectures():
    return dict(_architectures())


def test_the_name_of_an_architecture_tells_its_width_and_heads(architectures):
    theirs = {
        name: (model.embed_dim, model.blocks[0].attn.num_heads)
        for name, model in architectures.items()
        if hasattr(model.blocks[0], "attn")  # blocks in parallel have several
    }
    assert len(theirs) > 150
    assert {name: width_and_heads(name) for name in theirs} == theirs


#: What timm's classes of activations are called here.
ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu"}


def test_a_folder_with_an_architecture_alone_is_read_as_timm_builds_it(architectures, tmp_path):
    """For every plain ViT; `timm_coverage.py` compares the logits of the others."""
    opened = {}
    for name, model in architectures.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architecture": name}))
        _write_hollow(folder / "model.safetensors", model)
        with contextlib.suppress(ValueError):
            found = load(folder)
            if found.format == "timm":
                opened[name] = found
    for name, found in opened.items():
        model = architectures[name]
        block, config = model.blocks[0], found.config
        assert not {each.name for each in found.assumed} & {"num_attention_heads"}
        assert (config.hidden_size, config.num_attention_heads) == (model.embed_dim, block.attn.num_heads), name
        assert config.layer_norm_eps == block.norm1.eps == block.norm2.eps == model.norm.eps, name
        assert config.hidden_act == ACTIVATIONS[type(block.mlp.act).__name__], name
        assert config.qkv_bias == (block.attn.qkv.bias is not None), name
        assert config.image_shape == model.patch_embed.img_size
        assert config.num_labels == model.num_classes or found.task == "model"
        assert model.global_pool == "token"
    assert opened.keys() == {name for name, model in architectures.items() if _is_plain(model)}
    assert {"test_vit", "vit_tiny_patch16_224", "vit_base_patch16_224_miil", "deit_small_patch16_224"} <= opened.keys()


def _is_plain(model):
    """Whether a model of timm is all that the first of their papers says, with the exact GELU and timm's epsilon."""
    block = model.blocks[0]
    return (
        type(block).__name__ == "Block"
        and type(block.mlp).__name__ == "Mlp"
        and (type(block.mlp.act).__name__, block.norm1.eps) == ("GELU", 1e-6)
        and all(isinstance(each, torch.nn.Identity) for each in (block.ls1, block.attn.q_norm, model.norm_pre))
        and model.global_pool == "token"
        and not (model.num_reg_tokens or model.no_embed_class or model.cls_token is None)
        and not hasattr(model, "dist_token")
    )


def _write_hollow(file, model):
    """A file of the model's tensors whose values are a hole on the disk, so that sizes cost nothing."""
    header, end = {}, 0
    for name, tensor in model.state_dict().items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(file, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


def test_a_small_model_gives_timms_logits_with_an_architecture_alone(images, spread, tmp_path):
    theirs = spread(timm.create_model("test_vit", num_classes=10))
    assert theirs.blocks[0].attn.num_heads == 2  # and not one, as its width of 64 would have
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"architecture": said["architecture"]}))
    model = our_model(tmp_path)
    assert_same_logits(model, theirs, images(model.config))


# What the page on moving from timm says of features


@pytest.fixture
def both(ours, tmp_path):
    """The same model here and in timm, and images for it."""
    folder, _ = ours()
    convert(folder, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    return our_model(tmp_path / "timm"), theirs, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.std() > 0.1
        torch.testing.assert_close(mine, other, atol=0, rtol=0)


def states_of(model, pixels):
    return model(pixels, output_hidden_states=True).hidden_states[1:]


def feature_map(states, config):
    return states[:, 1:].transpose(1, 2).unflatten(2, config.grid)


@torch.no_grad()
def test_intermediate_layers_are_hidden_states(both):
    model, theirs, pixels = both
    states, norm = states_of(model, pixels), model.vit.layernorm
    assert_equal([each[:, 1:] for each in states[-2:]], theirs.get_intermediate_layers(pixels, n=2))
    assert_equal([states[0][:, 1:], states[2][:, 1:]], theirs.get_intermediate_layers(pixels, n=[0, 2]))
    normed = theirs.get_intermediate_layers(pixels, n=2, norm=True)
    assert_equal([norm(each)[:, 1:] for each in states[-2:]], normed)
    (shaped,) = theirs.get_intermediate_layers(pixels, n=1, reshape=True)
    assert_equal([feature_map(states[-1], model.config)], [shaped])
    ((_, prefix),) = theirs.get_intermediate_layers(pixels, n=1, return_prefix_tokens=True)
    assert_equal([states[-1][:, :1]], [prefix])


@torch.no_grad()
def test_forward_intermediates_are_hidden_states_as_maps(both):
    model, theirs, pixels = both
    states = states_of(model, pixels)
    final, found = theirs.forward_intermediates(pixels)
    assert_equal([feature_map(each, model.config) for each in states], found)
    assert_equal([model.vit(pixels).last_hidden_state], [final])
    normed = theirs.forward_intermediates(pixels, norm=True, output_fmt="NLC", intermediates_only=True)
    assert_equal([model.vit.layernorm(each)[:, 1:] for each in states], normed)


@torch.no_grad()
def test_features_only_are_the_last_three_hidden_states_as_maps(both, tmp_path):
    model, _, pixels = both
    source = f"local-dir:{tmp_path / 'timm'}"
    states = states_of(model, pixels)
    features = timm.create_model(source, pretrained=True, features_only=True).eval()
    assert_equal([feature_map(each, model.config) for each in states[-3:]], features(pixels))
    assert features.feature_info.channels() == [model.config.hidden_size] * 3
    assert features.feature_info.reduction() == [model.config.patch_size] * 3
    one = timm.create_model(source, pretrained=True, features_only=True, out_indices=[1]).eval()
    assert_equal([feature_map(states[1], model.config)], one(pixels))


@torch.no_grad()
def test_the_parts_of_a_block_are_those_of_a_layer(both):
    model, theirs, pixels = both
    tokens = model.vit.embeddings(pixels)
    layer, block = model.vit.encoder.layer[1], theirs.blocks[1]
    pairs = [
        (tokens, theirs._pos_embed(theirs.patch_embed(pixels))),
        (model.vit.embeddings.patch_embeddings(pixels), theirs.patch_embed(pixels)),
        (layer(tokens)[0], block(tokens)),
        (layer.layernorm_before(tokens), block.norm1(tokens)),
        (layer.layernorm_after(tokens), block.norm2(tokens)),
        (layer.attention(tokens)[0], block.attn(tokens)),
        (layer.output.dense(layer.intermediate(tokens)), block.mlp(tokens)),
        (model.vit.layernorm(tokens), theirs.norm(tokens)),
        (model.classifier(tokens[:, 0]), theirs.head(tokens[:, 0])),
    ]
    for mine, other in pairs:
        assert_equal([mine], [other])
    fused = (layer.attention.attention.query, layer.attention.attention.key, layer.attention.attention.value)
    assert_equal([torch.cat([part.weight for part in fused])], [block.attn.qkv.weight])


@torch.no_grad()
def test_attention_maps_are_what_timm_multiplies_with_the_values(both):
    model, theirs, pixels = both
    found = []
    for block in theirs.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: found.append(output))
    theirs(pixels)
    maps = model(pixels, output_attentions=True).attentions
    for mine, other in zip(maps, found, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


@torch.no_grad()
def test_fewer_blocks_are_fewer_layers(both, tmp_path):
    model, theirs, pixels = both
    theirs.prune_intermediate_layers([1], prune_norm=False, prune_head=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no such tensors")
        shorter = vit_torch.ViTForImageClassification.from_pretrained(tmp_path / "timm", num_hidden_layers=2)
    assert_equal([shorter(pixels).logits], [theirs(pixels)])
    model.vit.encoder.layer = model.vit.encoder.layer[:2]
    assert_equal([model(pixels).logits], [theirs(pixels)])


# Relatives of ViT

RELATIVES = {
    "a DeiT with two heads": ("DeiTForImageClassificationWithTeacher", {}),
    "a DeiT of another activation": ("DeiTForImageClassificationWithTeacher", {"hidden_act": "relu"}),
    "a BEiT with a table in each layer": ("BeitForImageClassification", {"use_relative_position_bias": True}),
    "a BEiT with one table and positions": (
        "BeitForImageClassification",
        {"use_shared_relative_position_bias": True, "use_absolute_position_embeddings": True, "use_mask_token": True},
    ),
    "a BEiT that reads the class token": (
        "BeitForImageClassification",
        {"use_relative_position_bias": True, "use_mean_pooling": False},
    ),
    "a BEiT without scales": (
        "BeitForImageClassification",
        {"use_relative_position_bias": True, "layer_scale_init_value": 0.0, "image_size": (32, 32), "num_channels": 1},
    ),
    "a data2vec": ("Data2VecVisionForImageClassification", {"use_relative_position_bias": True}),
    "an MSN": ("ViTMSNForImageClassification", {}),
}


@pytest.mark.parametrize(("class_name", "fields"), RELATIVES.values(), ids=RELATIVES.keys())
def test_timm_builds_relatives_from_our_folder_alone(class_name, fields, spread, images, tmp_path):
    model_class = getattr(vit_torch, class_name)
    model = spread(model_class(model_class.config_class(**{**SIZES, **fields})))
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert theirs.num_classes == 10
    assert_same_logits(model, theirs, images(model.config))
    again = load(tmp_path / "timm")
    assert again.config.architectures == [class_name.replace("MSN", "")]


@pytest.mark.parametrize(
    ("architecture", "class_name", "arguments"),
    [
        ("deit_tiny_distilled_patch16_224", "DeiTForImageClassificationWithTeacher", {}),
        ("beit_base_patch16_224", "BeitForImageClassification", {"embed_dim": 32, "depth": 2, "num_heads": 4}),
        ("beitv2_base_patch16_224", "BeitForImageClassification", {"embed_dim": 32, "depth": 2, "num_heads": 4}),
        (
            "beit_base_patch16_224",
            "BeitForImageClassification",
            {"embed_dim": 32, "depth": 2, "num_heads": 4, "global_pool": "token", "use_shared_rel_pos_bias": True,
             "use_rel_pos_bias": False, "init_values": 0.0, "use_abs_pos_emb": True},
        ),
    ],
)  # fmt: skip
def test_relatives_that_timm_saves_give_its_logits(architecture, class_name, arguments, spread, images, tmp_path):
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 10}
    if architecture.startswith("deit"):
        sizes |= {"depth": 2}
    theirs = spread(timm.create_model(architecture, **sizes, **arguments))
    save_for_hf(theirs, tmp_path, model_args={**sizes, **arguments}, safe_serialization=True)
    model = getattr(vit_torch, class_name).from_pretrained(tmp_path)
    assert_same_logits(model, theirs, images(model.config))


OF_ANY_MAKE = [
    *("timm_aimv2", "timm_avg", "timm_clip", "timm_deit3", "timm_dinov2_reg4", "timm_dinov3", "timm_eva02", "timm_pe"),
    *("timm_rope_mixed", "timm_siglip", "timm_xp"),
]


@pytest.mark.parametrize("source", OF_ANY_MAKE)
def test_timm_opens_what_we_write_of_a_model_of_any_make(fixture_folder, tmp_path, source):
    convert(fixture_folder / source, tmp_path / "made", "timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'made'}", pretrained=True).eval()
    with np.load(fixture_folder / source / "expected.npz") as expected, torch.no_grad():
        logits = model(torch.from_numpy(expected["pixel_values"])).numpy()
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("patch_size", [8, (20, 12)])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("flexivit_small", {}),
        ("vit_tiny_patch16_224", {"patch_resampling": "antialiased", "position_resampling": "antialiased"}),
    ],
)
def test_patches_of_another_size_give_timms_logits(architecture, options, patch_size, spread, images, tmp_path):
    arguments = {"depth": 2, "embed_dim": 32, "num_heads": 4, "num_classes": 10, "img_size": 64}
    save_for_hf(spread(timm.create_model(architecture, **arguments)), tmp_path, model_args=arguments)
    other = {"patch_size": patch_size, "img_size": (40, 48)}
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, **arguments | other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = vit_torch.AutoModelForImageClassification.from_pretrained(
            tmp_path, patch_size=patch_size, image_size=(40, 48), **options
        )
    assert_same_logits(model, theirs, images(model.config))
