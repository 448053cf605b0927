"""Flax scripts as people write them for transformers 4: they run with the import lines changed, and train as before.

`nox -s "interop(transformers-tf-flax)"` runs them as they were, with the models of transformers 4.47.1, which need
older packages than ours. Both have to come to the losses that transformers' models came to.
"""

import importlib.util
import json

import jax
import numpy as np
import pytest

if importlib.util.find_spec("transformers"):
    import transformers

    HAS_BEFORE = hasattr(transformers, "FlaxViTModel")
else:
    HAS_BEFORE = False

try:
    import vit_flax
except ImportError:  # this JAX is for transformers' models
    vit_flax = None

SIDES = [
    pytest.param(False, marks=pytest.mark.skipif(vit_flax is None, reason="this JAX is too old for vit_flax")),
    pytest.param(True, marks=pytest.mark.skipif(not HAS_BEFORE, reason="Flax models left transformers with version 5")),
]
with_both = pytest.mark.parametrize("before", SIDES, ids=["after", "before"])

#: Of transformers 4.47.1, with the checkpoint and the pictures of conftest.py.
EXAMPLE_LOSSES = [0.317522, 0.338205, 0.090281, 0.050615, 0.030272, 0.018485, 0.017574, 0.013661, 0.013292, 0.012447]
RESEARCH_LOSSES = [2.239757, 1.956527, 1.718463]

EVERYDAY = {
    "logits": 6.847319,
    "frozen": 6.847319,
    "attentions": 35.04128,
    "hidden states": 2910.247,
    "by position": 6.847319,
    "module": 6.847319,
    "method": 2689.991,
    "captured": 3484.937,
    "bound": 518.9707,
    "parts": 3193.262,
    "base module": 3484.937,
    "bytes": 6.847319,
    "assigned": 19.97034,
    "transplanted": 6.847319,
    "beside": 7.940675,
    "loss": 0.8274768,
    "trained": 32.10478,
    "vmap": 6.847319,
}


def example(pictures, checkpoint, output):
    batch = 8 // jax.device_count()  # 8 in all
    return [
        *("--do_train", "--do_eval", "--num_train_epochs", 5, "--learning_rate", 3e-3, "--warmup_steps", 2),
        *("--weight_decay", 0.01, "--per_device_train_batch_size", batch, "--per_device_eval_batch_size", batch),
        *("--train_dir", pictures / "train", "--validation_dir", pictures / "validation"),
        *("--model_name_or_path", checkpoint, "--output_dir", output),
    ]


@with_both
def test_the_image_classification_example(run, checkpoint, pictures, tmp_path, before):
    output = tmp_path / "out"
    arguments = example(pictures, checkpoint(), output)
    results = run("run_image_classification.py", *arguments, output=output, before=before)
    np.testing.assert_allclose(results["train_loss"], EXAMPLE_LOSSES, atol=1e-5, rtol=0)
    assert results["eval_accuracy"] == 1.0
    assert results["step"] == len(results["train_loss"]) == 10
    config = json.loads((output / "config.json").read_text())
    assert config["id2label"] == {"0": "blue", "1": "red"}
    assert config["architectures"] == ["ViTForImageClassification"]


@pytest.mark.skipif(vit_flax is None, reason="this JAX is too old for vit_flax")
def test_the_example_starts_from_a_base_model_and_what_it_saves_is_a_checkpoint(run, checkpoint, pictures, tmp_path):
    output = tmp_path / "out"
    arguments = [*example(pictures, checkpoint("model"), output), "--dtype", "bfloat16"]
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias were not in the checkpoint"):
        results = run("run_image_classification.py", *arguments, output=output)
    assert results["eval_accuracy"] == 1.0
    model, info = vit_flax.FlaxAutoModelForImageClassification.from_pretrained(output, output_loading_info=True)
    assert not any(info.values())
    assert model.config.label2id == {"blue": 0, "red": 1}
    assert vit_flax.AutoImageProcessor.from_pretrained(output).size == {"height": 32, "width": 32}


@with_both
@pytest.mark.filterwarnings("ignore:.*start at random:UserWarning")
def test_research_code_with_a_module_of_its_own(run, checkpoint, tmp_path, before):
    results = run("research_family.py", checkpoint(), tmp_path / "out", output=tmp_path / "out", before=before)
    np.testing.assert_allclose(results["losses"], RESEARCH_LOSSES, atol=1e-5, rtol=0)
    assert results["same"]
    assert results["frozen"]


@with_both
@pytest.mark.filterwarnings("ignore:.*(in this|in the) checkpoint, but this model has no such tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:.*weights are stored in float16 and stay so:UserWarning")
def test_what_notebooks_do_around_a_model(run, checkpoint, tmp_path, before):
    results = run("everyday.py", checkpoint(), tmp_path / "out", output=tmp_path / "out", before=before)
    assert results.pop("missing")
    assert results.keys() == EVERYDAY.keys()
    np.testing.assert_allclose(list(results.values()), [EVERYDAY[name] for name in results], rtol=2e-5)
