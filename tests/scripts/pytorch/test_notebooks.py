"""The notebooks that people copy, with PEFT and with Lightning; run by `nox -s interop`."""

import warnings

import pytest

torch = pytest.importorskip("torch")

from vit_torch import ViTForImageClassification  # noqa: E402


def test_low_rank_adapters(run, pictures, checkpoint, tmp_path):
    for name in ("transformers", "accelerate", "datasets", "peft"):
        pytest.importorskip(name, reason=f"the notebook uses {name}")
    start = checkpoint(num_labels=5)
    arguments = [start, pictures / "train", tmp_path / "out", tmp_path / "cache"]
    results = run("lora_image_classification.py", *arguments, output=tmp_path / "out")
    assert results["eval_accuracy"] > 0.8
    assert results["loaded_difference"] == 0
    assert results["merged_difference"] < 1e-4 * results["spread"]
    adapter = {path.name for path in (tmp_path / "out/adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= adapter
    merged = ViTForImageClassification.from_pretrained(tmp_path / "out/merged")
    assert merged.config.id2label == {0: "blue", 1: "red"}
    base = ViTForImageClassification.from_pretrained(start)
    changed = {
        name
        for name, tensor in merged.state_dict().items()
        if tensor.shape != base.state_dict()[name].shape or not torch.equal(tensor, base.state_dict()[name])
    }
    adapted = {
        f"vit.encoder.layer.{i}.attention.attention.{part}.weight" for i in (0, 1) for part in ("query", "value")
    }
    assert changed == {*adapted, "classifier.weight", "classifier.bias"}


@pytest.mark.filterwarnings("default")
def test_a_lightning_module(run, pictures, checkpoint, tmp_path):
    pytest.importorskip("lightning", reason="the notebook uses lightning")
    arguments = [checkpoint(num_labels=5), pictures / "train", tmp_path]
    results = run("lightning_image_classification.py", *arguments, output=tmp_path)
    assert results["validation_accuracy"] > 0.8
    assert results["loaded_difference"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ViTForImageClassification.from_pretrained(tmp_path / "model").config.id2label == {0: "blue", 1: "red"}
