import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

from vit_core.position import resample_position_embeddings
from vit_torch import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

SAVED = ["hf_vit_model", "hf_vit_classifier", "hf_vit_masked", "hf_vit_variant_no_qkv_bias_relu"]


@pytest.fixture
def classifier_folder(fixture_folder, tmp_path):
    folder = tmp_path / "classifier"
    shutil.copytree(fixture_folder / "hf_vit_classifier", folder)
    return folder


def assert_same_weights(model, folder_or_weights):
    weights = (
        folder_or_weights if isinstance(folder_or_weights, dict) else load_file(folder_or_weights / "model.safetensors")
    )
    assert weights.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_is_byte_for_byte_what_transformers_saved(load, fixture_folder, tmp_path, name):
    model, _ = load(name)
    model.save_pretrained(tmp_path)
    for file in ("model.safetensors", "config.json"):
        written, reference = (tmp_path / file).read_bytes(), (fixture_folder / name / file).read_bytes()
        if file == "config.json":
            written, reference = json.loads(written), json.loads(reference)
            written.pop("label2id"), reference.pop("label2id")  # theirs is null where only id2label was given
        assert written == reference


def test_a_loaded_model_is_ready_for_inference_and_for_training(load):
    model, expected = load("hf_vit_classifier")
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(expected["pixel_values"], labels=expected["labels"]).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()


def test_no_parameter_that_a_file_fills_is_started_at_random_first(classifier_folder):
    called = set()

    class Recorded(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called.add(function)
            return function(*args, **kwargs or {})

    with Recorded():
        ViTForImageClassification.from_pretrained(classifier_folder)
    assert torch.empty in called
    assert not called & {torch.nn.init.kaiming_uniform_, torch.nn.init.uniform_, torch.nn.init.trunc_normal_}


def test_training_a_loaded_model_leaves_its_file_alone(classifier_folder):
    before = (classifier_folder / "model.safetensors").read_bytes()
    model = ViTForImageClassification.from_pretrained(classifier_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (classifier_folder / "model.safetensors").read_bytes() == before


def test_weights_in_memory_do_not_follow_their_file(classifier_folder):
    model = ViTForImageClassification.from_pretrained(classifier_folder, mmap=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    file = classifier_folder / "model.safetensors"
    with open(file, "r+b") as opened:
        opened.write(bytes(file.stat().st_size))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_model_can_be_saved_over_the_checkpoint_it_was_loaded_from(classifier_folder):
    model = ViTForImageClassification.from_pretrained(classifier_folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(classifier_folder)
    assert_same_weights(model, before)
    assert_same_weights(model, classifier_folder)


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_model", "hf_vit_variant_gray_selu"])
def test_pickled_weights_load_as_safetensors_do(fixture_folder, tmp_path, name):
    for file in ("config.json", "pytorch_model.bin"):
        shutil.copy(fixture_folder / name / file, tmp_path)
    model_class = ViTModel if name == "hf_vit_model" else ViTForImageClassification
    assert_same_weights(model_class.from_pretrained(tmp_path), fixture_folder / name)


def test_pickled_weights_in_the_format_before_torch_1_6_and_in_shards(load, tmp_path):
    model, _ = load("hf_vit_classifier")
    model.config.save_pretrained(tmp_path)
    weights = model.state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_same_weights(ViTForImageClassification.from_pretrained(tmp_path), weights)

    (tmp_path / "pytorch_model.bin").unlink()
    weight_map = {name: f"part-{index % 2}.bin" for index, name in enumerate(weights)}
    for part in ("part-0.bin", "part-1.bin"):
        torch.save({name: weights[name] for name in weights if weight_map[name] == part}, tmp_path / part)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same_weights(ViTForImageClassification.from_pretrained(tmp_path), weights)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickled_code_is_refused_and_never_run(classifier_folder, save):
    (classifier_folder / "model.safetensors").unlink()
    burnt = classifier_folder / "burnt"
    save({"classifier.bias": Bomb(str(burnt))}, classifier_folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="asks to run io.open, which is refused, .* get the checkpoint as safetensors"):
        ViTForImageClassification.from_pretrained(classifier_folder)
    assert not burnt.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no pickle at all"])
def test_a_damaged_pickle_is_named(classifier_folder, content):
    (classifier_folder / "model.safetensors").unlink()
    (classifier_folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"pytorch_model.bin (begins with|is no PyTorch file).*; get .* again"):
        ViTForImageClassification.from_pretrained(classifier_folder)


def test_a_pickle_of_something_else_is_named(classifier_folder):
    (classifier_folder / "model.safetensors").unlink()
    torch.save([torch.zeros(3)], classifier_folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no tensor of this model: it has 0, where"):
        ViTForImageClassification.from_pretrained(classifier_folder)


def test_a_base_checkpoint_loads_into_models_with_a_head_and_back(fixture_folder, tmp_path):
    with pytest.warns(UserWarning, match=r"classifier.weight, classifier.bias were not in the checkpoint") as caught:
        classifier = ViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_model")
    assert len(caught) == 1
    assert "pooler.dense.bias, pooler.dense.weight are in the checkpoint, but this model has no such" in str(
        caught[0].message
    )
    base = ViTModel.from_pretrained(fixture_folder / "hf_vit_model")
    for name, tensor in classifier.vit.state_dict().items():
        assert torch.equal(tensor, base.state_dict()[name]), name

    classifier.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="classifier.bias, classifier.weight are in the checkpoint"):
        back = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert_same_weights(back, classifier.vit.state_dict())
    with pytest.warns(UserWarning, match="vit.embeddings.mask_token, decoder.0.weight, decoder.0.bias were not"):
        ViTForMaskedImageModeling.from_pretrained(tmp_path)


def test_missing_weights_start_as_the_table_says(fixture_folder):
    with pytest.warns(UserWarning, match="start at random, so train them before use"):
        model, info = ViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_model", num_labels=400, initializer_range=0.5, output_loading_info=True
        )
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert sorted(info["unexpected_keys"]) == ["pooler.dense.bias", "pooler.dense.weight"]
    assert info["mismatched_keys"] == info["error_msgs"] == []
    assert 0.48 < model.classifier.weight.std() < 0.52
    assert (model.classifier.bias == 0).all()


def test_a_shape_that_does_not_fit_is_named_with_both_shapes(fixture_folder):
    words = r"classifier.weight with shape \(10, 32\), but the config makes it \(3, 32\)"
    with pytest.raises(ValueError, match=words) as caught:
        ViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", num_labels=3)
    assert isinstance(caught.value, RuntimeError)  # as scripts for transformers catch it
    with pytest.warns(UserWarning, match=r"classifier.weight \(10, 32\) -> \(3, 32\)"):
        model, info = ViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_classifier", num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert model(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 3)
    assert [name for name, _, _ in info["mismatched_keys"]] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("image_size", [48, (24, 56)])
def test_position_embeddings_are_resampled_when_image_size_is_overridden(load, image_size):
    model, _ = load("hf_vit_classifier")
    larger, _ = load("hf_vit_classifier", image_size=image_size)
    grid = larger.config.grid
    original = model.vit.embeddings.position_embeddings.detach().numpy()
    resampled = resample_position_embeddings(original, (4, 4), grid)
    np.testing.assert_array_equal(larger.vit.embeddings.position_embeddings.detach().numpy(), resampled)
    pixel_values = torch.randn(1, 3, grid[0] * 8, grid[1] * 8)
    interpolated = model(pixel_values, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(larger(pixel_values).logits, interpolated, atol=1e-5, rtol=0)


def test_a_config_of_the_caller_replaces_the_checkpoints(fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_classifier"
    config = ViTConfig.from_pretrained(folder)
    config.hidden_act, config.attn_implementation = "relu", "eager"
    for given in (config, tmp_path):
        config.save_pretrained(tmp_path)
        model = ViTForImageClassification.from_pretrained(folder, config=given)
        assert model.config.hidden_act == "relu"
    assert ViTForImageClassification.from_pretrained(folder, config=config).config.attn_implementation == "eager"


def test_weights_without_a_config_need_what_they_do_not_tell(classifier_folder):
    config = ViTConfig.from_pretrained(classifier_folder)
    (classifier_folder / "config.json").unlink()
    with pytest.raises(ValueError, match="does not tell the number of .* heads.* give it as num_attention_heads"):
        ViTForImageClassification.from_pretrained(classifier_folder)
    assert_same_weights(ViTForImageClassification.from_pretrained(classifier_folder, config=config), classifier_folder)


def test_options_of_transformers_that_are_needless_are_accepted(fixture_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViTForImageClassification.from_pretrained(
            fixture_folder / "hf_vit_classifier", from_tf=True, low_cpu_mem_usage=True, use_safetensors=True
        )


def test_an_option_that_does_not_exist_is_named(fixture_folder):
    with pytest.raises(TypeError, match="no option 'num_lables'"):
        ViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", num_lables=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.bfloat16"])
def test_dtype_converts_every_weight(fixture_folder, dtype):
    model = ViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_half_precision_survives_a_checkpoint(load, tmp_path):
    for dtype in (torch.bfloat16, torch.float16):
        model, _ = load("hf_vit_classifier", torch_dtype=dtype)
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == str(dtype).removeprefix("torch.")
        again = ViTForImageClassification.from_pretrained(tmp_path, dtype="auto")
        assert again.dtype == dtype
        assert_same_weights(again, tmp_path)
        assert_same_weights(model, tmp_path)
        assert ViTForImageClassification.from_pretrained(tmp_path).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["int8", "float12", torch.int64, "nn"])
def test_a_dtype_that_is_none_is_named(fixture_folder, dtype):
    with pytest.raises(ValueError, match="choose a floating-point type"):
        ViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier", dtype=dtype)


def test_the_default_device_is_respected(fixture_folder):
    with torch.device("meta"):
        model = ViTForImageClassification.from_pretrained(fixture_folder / "hf_vit_classifier")
    assert model.device == torch.device("meta")


def test_shards_are_written_and_read(load, tmp_path):
    model, _ = load("hf_vit_classifier")
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) == 3
    assert_same_weights(ViTForImageClassification.from_pretrained(tmp_path), model.state_dict())
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_tensors_that_are_not_contiguous_are_written_as_they_are_seen(tiny_config, tmp_path):
    model = ViTForImageClassification(tiny_config)
    dense = model.vit.encoder.layer[0].output.dense
    dense.weight = torch.nn.Parameter(torch.randn(48, 32).t())
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert_same_weights(model, tmp_path)


def test_a_state_dict_of_another_model_is_refused(load, tiny_config, tmp_path):
    model = ViTForImageClassification(tiny_config)
    with pytest.raises(ValueError, match="classifier.bias is in one of them only"):
        model.save_pretrained(tmp_path, state_dict=model.vit.state_dict())
    tiny_config.num_labels = 3
    with pytest.raises(ValueError, match=r"classifier.weight with shape \(3, 32\) instead of"):
        ViTForImageClassification(ViTConfig.from_dict(tiny_config.to_dict(), num_labels=2)).save_pretrained(
            tmp_path, state_dict=ViTForImageClassification(tiny_config).state_dict()
        )
    model.save_pretrained(tmp_path, is_main_process=False)
    assert list(tmp_path.iterdir()) == []
