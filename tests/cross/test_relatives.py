"""The relatives of ViT give the same numbers and the same bytes in every framework: each is compared with PyTorch."""

import sys
from pathlib import Path

import numpy as np
import pytest

import vit_torch
from vit_core.families import FAMILIES

sys.path.insert(0, str(Path(__file__).parent))
from relatives import config_of, each_model_and_variant, inputs_of, name_of

TOLERANCE = 1e-5


def in_every_framework(cases, scanned):
    """Run a test on these in each framework, and on some with layers that are scanned."""
    pairs = [(framework, case) for framework in ("keras", "flax") for case in cases]
    pairs += [("flax_scanned", case) for case in scanned]
    names = [f"{framework}-{name_of(case)}" for framework, case in pairs]
    return pytest.mark.parametrize(("framework", "case"), pairs, indirect=["framework"], ids=names)


CASES = each_model_and_variant()
#: One model of each config, with the last of the heads: layers and positions are the same code under every head.
ONE_OF_EACH_CONFIG = list(
    {(model_type, number): (model_type, task, number) for model_type, task, number in CASES}.values()
)
#: Those of which no gradients by transformers are among the fixtures that Flax is compared with in its own tests.
DIFFERENTIATED = [case for case in ONE_OF_EACH_CONFIG if case[0] in ("dinov3_vit", "vision_transformer")]
#: Of these, those whose scanned layers have options that no fixture has.
SCANNED = [case for case in DIFFERENTIATED if case[2] not in (0, 2) or case[0] == "dinov3_vit"]
#: One config of each way to tell layers where patches are.
POSITIONED = [
    case
    for case in ONE_OF_EACH_CONFIG
    if case not in {("deit", "masked-image-modeling", 1), ("vit_mae", "model", 0)}
    and case[0] not in ("data2vec-vision", "vit_msn")
    and case[:3:2] != ("vision_transformer", 0)
]


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


@in_every_framework(CASES, SCANNED)
def test_outputs_and_gradients_are_those_of_torch(twins, case):
    config = config_of(case)
    pair = twins(model_of(case), config)
    inputs = inputs_of(config, case[1])
    options = {"output_hidden_states": True, "output_attentions": True}
    is_differentiated = case in DIFFERENTIATED or type(pair.other).__name__ == "KerasTwin"
    options |= {"loss_of": loss_of} if is_differentiated else {}
    output, gradients = pair.other.run(inputs, **options)
    reference, references = pair.torch.run(inputs, **options)
    assert list(output.keys()) == list(reference.keys())
    for name, item in output.items():
        pairs = zip(item, reference[name], strict=True) if isinstance(item, tuple) else [(item, reference[name])]
        for one, other in pairs:
            np.testing.assert_allclose(np.asarray(one), other.detach().numpy(), atol=TOLERANCE, rtol=0, err_msg=name)
    if not is_differentiated:
        return
    largest_of_all = max(np.abs(gradient).max() for gradient in references.values())
    for name, wanted in references.items():
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        largest = 0.01 * largest_of_all if name.endswith("key.bias") else max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(gradients[name], wanted, atol=TOLERANCE * largest, rtol=0, err_msg=name)


@in_every_framework(POSITIONED, SCANNED)
def test_images_of_another_size_are_those_of_torch(twins, case):
    config = config_of(case)
    pair = twins(model_of(case), config)
    inputs = {name: each for name, each in inputs_of(config, case[1], size=(48, 56)).items() if name != "labels"}
    output, _ = pair.other.run(inputs, interpolate_pos_encoding=True)
    reference, _ = pair.torch.run(inputs, interpolate_pos_encoding=True)
    for name, item in output.items():
        np.testing.assert_allclose(np.asarray(item), reference[name].detach().numpy(), atol=TOLERANCE, rtol=0)


@in_every_framework(ONE_OF_EACH_CONFIG, SCANNED)
def test_what_starts_at_random_goes_through_torch_and_back_as_the_same_bytes(framework, tmp_path, case):
    framework.random_model(model_of(case), config_of(case)).save_pretrained(tmp_path / "start")
    getattr(vit_torch, model_of(case)).from_pretrained(tmp_path / "start").save_pretrained(tmp_path / "torch")
    framework.from_pretrained(model_of(case), tmp_path / "torch").save_pretrained(tmp_path / "back")
    for folder in ("start", "torch", "back"):
        assert {file.name for file in (tmp_path / folder).iterdir()} == {"config.json", "model.safetensors"}
    for name in ("config.json", "model.safetensors"):
        start = (tmp_path / "start" / name).read_bytes()
        assert (tmp_path / "torch" / name).read_bytes() == start
        assert (tmp_path / "back" / name).read_bytes() == start


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
