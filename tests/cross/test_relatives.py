"""The relatives of ViT give the same numbers and the same bytes in every framework: each is compared with PyTorch."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vit_torch
from vit_core.families import FAMILIES

sys.path.insert(0, str(Path(__file__).parent))
from relatives import CASES, CLASSIFIERS_ALONE, config_of, inputs_of, name_of

TOLERANCE = 1e-5


def in_every_framework(cases):
    """Run a test on these in each framework; with layers that are scanned, on one model of each config."""
    one_of_each = {(model_type, number): (model_type, task, number) for model_type, task, number in cases}
    pairs = [(framework, case) for framework in ("keras", "flax") for case in cases]
    pairs += [("flax_scanned", case) for case in one_of_each.values()]
    names = [f"{framework}-{name_of(case)}" for framework, case in pairs]
    return pytest.mark.parametrize(("framework", "case"), pairs, indirect=["framework"], ids=names)


def model_of(case):
    return FAMILIES[case[0]].models[case[1]]


def loss_of(output):
    """The model's loss; of a model without one, sums in which the gradients of different entries are not alike."""
    if "loss" in output:
        return output["loss"]
    results = [item for item in output.values() if not isinstance(item, tuple) and "float" in str(item.dtype)]
    return sum((result * result).mean() if hasattr(result, "mean") else mean_square(result) for result in results)


def mean_square(result):
    import tensorflow as tf

    return tf.reduce_mean(result * result)


@in_every_framework(CASES)
def test_outputs_and_gradients_are_those_of_torch(twins, case):
    config = config_of(case)
    pair = twins(model_of(case), config)
    inputs = inputs_of(config, case[1])
    output, gradients = pair.other.run(inputs, loss_of, output_hidden_states=True, output_attentions=True)
    reference, references = pair.torch.run(inputs, loss_of, output_hidden_states=True, output_attentions=True)
    assert list(output.keys()) == list(reference.keys())
    for name, item in output.items():
        pairs = zip(item, reference[name], strict=True) if isinstance(item, tuple) else [(item, reference[name])]
        for one, other in pairs:
            np.testing.assert_allclose(np.asarray(one), other.detach().numpy(), atol=TOLERANCE, rtol=0, err_msg=name)
    largest_of_all = max(np.abs(gradient).max() for gradient in references.values())
    for name, wanted in references.items():
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        largest = 0.01 * largest_of_all if name.endswith("key.bias") else max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(gradients[name], wanted, atol=TOLERANCE * largest, rtol=0, err_msg=name)


@in_every_framework([case for case in CASES if case[2] == 0 or (case[0], case[2]) in CLASSIFIERS_ALONE])
def test_images_of_another_size_are_those_of_torch(twins, case):
    config = config_of(case)
    pair = twins(model_of(case), config)
    inputs = {name: each for name, each in inputs_of(config, case[1], size=(48, 56)).items() if name != "labels"}
    output, _ = pair.other.run(inputs, interpolate_pos_encoding=True)
    reference, _ = pair.torch.run(inputs, interpolate_pos_encoding=True)
    for name, item in output.items():
        np.testing.assert_allclose(np.asarray(item), reference[name].detach().numpy(), atol=TOLERANCE, rtol=0)


@in_every_framework(CASES)
def test_every_framework_saves_the_same_bytes(framework, tmp_path, case):
    torch.manual_seed(0)
    model = getattr(vit_torch, model_of(case))(config_of(case))
    model.save_pretrained(tmp_path / "torch")
    framework.from_pretrained(model_of(case), tmp_path / "torch").save_pretrained(tmp_path / "other")
    files = {file.name for file in (tmp_path / "torch").iterdir()}
    assert files == {file.name for file in (tmp_path / "other").iterdir()} == {"config.json", "model.safetensors"}
    for name in files:
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "torch" / name).read_bytes()


@in_every_framework(CASES)
def test_what_starts_at_random_goes_through_torch_unchanged(framework, tmp_path, case):
    framework.random_model(model_of(case), config_of(case)).save_pretrained(tmp_path / "other")
    getattr(vit_torch, model_of(case)).from_pretrained(tmp_path / "other").save_pretrained(tmp_path / "torch")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "torch" / name).read_bytes()


def test_nothing_left_out_is_no_loss(twins):
    case = ("vit_mae", "pre-training", 0)
    config = config_of(case, mask_ratio=0.0)
    pair = twins(model_of(case), config)
    inputs = inputs_of(config, case[1])
    assert pair.torch.run(inputs)[0].loss.item() == 0
    assert float(pair.other.run(inputs)[0].loss) == 0


def test_a_masked_autoencoder_has_no_dropout_after_its_embeddings(twins):
    case = ("vit_mae", "model", 0)
    config = config_of(case, num_hidden_layers=0, hidden_dropout_prob=0.9)
    pair = twins(model_of(case), config)
    inputs, options = inputs_of(config, case[1]), {}
    if "Flax" in type(pair.other).__name__:
        options = {"dropout_rng": np.array([0, 1], "uint32")}
    output, _ = pair.other.run(inputs, training=True, **options)
    reference, _ = pair.torch.run(inputs, training=True)
    still, _ = pair.torch.run(inputs)
    for found in (output.last_hidden_state, reference.last_hidden_state.detach()):
        np.testing.assert_allclose(np.asarray(found), still.last_hidden_state.detach(), atol=TOLERANCE)
