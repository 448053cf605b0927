"""Folders travel between this project and transformers, in both directions, with equal results.

Run by `nox -s interop`, which installs transformers 4.47.1, 4.57.6 and the newest 5.
"""

import json
import warnings

import numpy as np
import PIL.Image
import pytest

torch = pytest.importorskip("torch")

transformers = pytest.importorskip("transformers")

import vit_torch  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "encoder_stride": 8, "initializer_range": 0.15}  # fmt: skip
VARIANTS = {
    "plain": {},
    "ten classes": {"id2label": {i: f"class {i}" for i in range(10)}},
    "gray, relu, no q/k/v bias": {"num_channels": 1, "hidden_act": "relu", "qkv_bias": False},
    "tanh gelu": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
}
CLASSES = ["ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"]
IS_4 = transformers.__version__.startswith("4.")


def inputs(class_name, config):
    torch.manual_seed(1)
    pixel_values = torch.randn(2, config.num_channels, 32, 32)
    if class_name == "ViTForMaskedImageModeling":
        return {"pixel_values": pixel_values, "bool_masked_pos": torch.rand(2, 16) > 0.5}
    return {"pixel_values": pixel_values}


def assert_same_results(ours, theirs, class_name):
    ours.eval(), theirs.eval()
    batch = inputs(class_name, ours.config)
    with torch.no_grad():
        mine, other = ours(**batch), theirs(**batch)
    assert list(mine.keys()) == list(other.keys())
    for name in mine.keys():  # noqa: SIM118
        torch.testing.assert_close(mine[name], other[name], atol=1e-5, rtol=0)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    return {**SIZES, **request.param}


@pytest.mark.parametrize("class_name", CLASSES)
def test_what_we_save_loads_in_transformers(class_name, variant, tmp_path):
    ours = getattr(vit_torch, class_name)(vit_torch.ViTConfig(**variant))
    ours.save_pretrained(tmp_path)
    theirs, info = getattr(transformers, class_name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_results(ours, theirs, class_name)
    assert theirs.config.id2label == ours.config.id2label


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("max_shard_size", ["5GB", "60KB"])
def test_what_transformers_saves_loads_here_and_is_saved_again_byte_for_byte(
    class_name, variant, max_shard_size, tmp_path
):
    theirs = getattr(transformers, class_name)(transformers.ViTConfig(**variant))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=max_shard_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = getattr(vit_torch, class_name).from_pretrained(tmp_path / "theirs")
    assert_same_results(ours, theirs, class_name)
    ours.save_pretrained(tmp_path / "ours", max_shard_size=max_shard_size)
    weights = sorted(path.name for path in (tmp_path / "theirs").glob("*.safetensors"))
    assert weights == sorted(path.name for path in (tmp_path / "ours").glob("*.safetensors"))
    if IS_4 or max_shard_size == "5GB":  # 5 orders its layers' tensors otherwise, and so fills shards otherwise
        for name in weights:
            assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.skipif(not IS_4, reason="transformers 5 renamed its modules and writes the old names only to files")
@pytest.mark.parametrize("class_name", CLASSES)
def test_state_dict_has_the_keys_of_transformers_in_their_order(class_name, variant):
    ours = getattr(vit_torch, class_name)(vit_torch.ViTConfig(**variant))
    theirs = getattr(transformers, class_name)(transformers.ViTConfig(**variant))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert_same_results(ours, theirs, class_name)


@pytest.mark.skipif(not IS_4, reason="transformers 5 prunes no heads")
def test_pruned_heads_travel(tmp_path):
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES))
    theirs.prune_heads({1: [0, 2], 2: [3]})
    theirs.save_pretrained(tmp_path / "theirs")
    ours = vit_torch.ViTForImageClassification.from_pretrained(tmp_path / "theirs")
    assert_same_results(ours, theirs, "ViTForImageClassification")
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path / "ours")
    assert_same_results(ours, again, "ViTForImageClassification")


@pytest.mark.parametrize("processor_class", ["ViTImageProcessor", "ViTImageProcessorFast"])
def test_the_pipeline_of_transformers_answers_with_our_model_and_our_processor(processor_class, tmp_path):
    labels = {0: "cat", 1: "dog", 2: "fox"}
    model = vit_torch.ViTForImageClassification(vit_torch.ViTConfig(**SIZES, id2label=labels)).eval()
    processor = getattr(vit_torch, processor_class)(size=32)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    with torch.no_grad():
        probabilities = model(**processor(image, return_tensors="pt")).logits.softmax(-1)[0]
    expected = sorted(zip(probabilities.tolist(), labels.values(), strict=True), reverse=True)

    classify = transformers.pipeline("image-classification", model=model, image_processor=processor, device="cpu")
    for given in (image, str(tmp_path / "image.png")):
        answers = classify(given, top_k=2)
        assert [answer["label"] for answer in answers] == [label for _, label in expected[:2]]
        assert [answer["score"] for answer in answers] == pytest.approx([score for score, _ in expected[:2]], abs=1e-6)
    for batched in classify([image] * 3, top_k=2, batch_size=2):
        assert [answer["score"] for answer in batched] == pytest.approx([score for score, _ in expected[:2]], abs=1e-6)


@pytest.mark.parametrize("problem_type", ["regression", "single_label_classification", "multi_label_classification"])
def test_losses_and_gradients_are_equal(problem_type, tmp_path):
    labels = {
        "regression": torch.randn(2, 3),
        "single_label_classification": torch.tensor([0, 2]),
        "multi_label_classification": torch.tensor([[1.0, 0, 1], [0, 0, 1]]),
    }[problem_type]
    config = vit_torch.ViTConfig(**SIZES, num_labels=3, problem_type=problem_type)
    ours = vit_torch.ViTForImageClassification(config).eval()
    ours.save_pretrained(tmp_path)
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    batch = inputs("ViTForImageClassification", config) | {"labels": labels}
    for model in (ours, theirs):
        model(**batch).loss.backward()
    mine, other = ours.vit.embeddings.cls_token.grad, theirs.vit.embeddings.cls_token.grad
    torch.testing.assert_close(mine, other, atol=1e-5 * other.abs().max().item(), rtol=0)


@pytest.mark.parametrize(("name", "size"), [("ViTImageProcessor", (40, 30)), ("DeiTImageProcessor", (300, 280))])
def test_preprocessing_travels_and_is_equal(name, size, tmp_path):
    theirs_class = getattr(transformers, name if IS_4 else f"{name}Pil", None) or getattr(transformers, name)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels)
    ours = getattr(vit_torch, name)()
    ours.save_pretrained(tmp_path / "ours")
    theirs = theirs_class.from_pretrained(tmp_path / "ours")
    expected = np.asarray(theirs(image, return_tensors="np").pixel_values)
    mine = ours(image, return_tensors="np").pixel_values
    if IS_4:
        np.testing.assert_array_equal(mine, expected)
    else:  # 5 rescales and normalises in one step, which rounds otherwise
        np.testing.assert_allclose(mine, expected, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    again = vit_torch.AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    np.testing.assert_array_equal(again(image, return_tensors="np").pixel_values, mine)


def test_peft_finds_its_target_modules(tmp_path):
    peft = pytest.importorskip("peft")
    model = vit_torch.ViTForImageClassification(vit_torch.ViTConfig(**SIZES))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["query", "value"]))
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * 2 * SIZES["num_hidden_layers"]
    adapted(**inputs("ViTForImageClassification", model.config), labels=torch.tensor([0, 1])).loss.backward()
    adapted.merge_and_unload().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
