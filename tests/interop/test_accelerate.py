"""accelerate trains our models, and what it saves opens.

Run by `nox -s interop`, with transformers 4.47.1 and the newest 5.
"""

import warnings

import pytest

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")

from vit_torch import ViTConfig, ViTForImageClassification  # noqa: E402

FIELDS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
          "image_size": 16, "patch_size": 8, "hidden_act": "relu", "layer_norm_eps": 1e-3,
          "id2label": {0: "cat", 1: "dog", 2: "fox"}}  # fmt: skip


@pytest.fixture
def prepared():
    """An accelerator, a model that it wrapped, and a batch."""
    accelerator = accelerate.Accelerator(cpu=True)
    torch.manual_seed(0)
    model = accelerator.prepare(ViTForImageClassification(ViTConfig(**FIELDS)))
    return accelerator, model, {"pixel_values": torch.randn(4, 3, 16, 16), "labels": torch.tensor([0, 1, 2, 1])}


def assert_same(loaded, model):
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0, rtol=0, msg=name)


def test_the_usual_line_at_the_end_of_a_loop_saves_the_model_whole(prepared, tmp_path):
    accelerator, model, batch = prepared
    accelerator.backward(model(**batch).loss)
    accelerator.unwrap_model(model).save_pretrained(
        tmp_path,
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(model),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = ViTForImageClassification.from_pretrained(tmp_path)
    assert_same(loaded, model)
    assert loaded.config.id2label == FIELDS["id2label"]


def test_weights_that_accelerate_saved_alone_open_with_one_warning_of_what_is_assumed(prepared, tmp_path):
    accelerator, model, _ = prepared
    accelerator.save_model(model, tmp_path)
    with pytest.warns(UserWarning, match="hidden_act") as caught:
        ViTForImageClassification.from_pretrained(tmp_path, num_attention_heads=2)
    assert len(caught) == 1
    assert "layer_norm_eps" in str(caught[0].message)


@pytest.mark.parametrize("max_shard_size", ["10GB", "30KB"])
def test_a_config_beside_them_makes_the_folder_whole(prepared, tmp_path, max_shard_size):
    accelerator, model, batch = prepared
    accelerator.save_model(model, tmp_path, max_shard_size=max_shard_size)
    model.config.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = ViTForImageClassification.from_pretrained(tmp_path)
    assert_same(loaded, model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, model.eval()(**batch).logits, atol=0, rtol=0)


def test_outputs_in_bfloat16_come_back_in_float32():
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    model = accelerator.prepare(ViTForImageClassification(ViTConfig(**FIELDS)))
    outputs = model(torch.randn(2, 3, 16, 16), labels=torch.tensor([0, 1]))
    assert outputs.logits.dtype == outputs["logits"].dtype == torch.float32
    accelerator.backward(outputs.loss)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_device_maps_and_offloading_take_a_model(prepared, tmp_path):
    _, model, batch = prepared
    model.eval().save_pretrained(tmp_path)
    with accelerate.init_empty_weights():
        empty = ViTForImageClassification(model.config)
    whole = empty._no_split_modules
    device_map = accelerate.infer_auto_device_map(empty, {"cpu": "1GB"}, no_split_module_classes=whole)
    assert set(device_map.values()) == {"cpu"}
    loaded = accelerate.load_checkpoint_and_dispatch(empty, str(tmp_path), device_map)
    offloaded = accelerate.cpu_offload(ViTForImageClassification.from_pretrained(tmp_path), torch.device("cpu"))
    with torch.no_grad():
        expected = model(**batch).logits
        torch.testing.assert_close(loaded.eval()(**batch).logits, expected, atol=0, rtol=0)
        torch.testing.assert_close(offloaded(**batch).logits, expected, atol=0, rtol=0)
