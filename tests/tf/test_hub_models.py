import numpy as np
import pytest
from hub_server import TOKEN

from vit_tf import AutoImageProcessor, TFViTForImageClassification, TFViTModel, ViTConfig, ViTImageProcessor

# The Hub's client warns about its own way of uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_a_model_that_was_pushed_is_loaded_again(hub, load, tmp_path):
    model, expected = load("hf_vit_classifier")
    url = model.push_to_hub("org/pushed", token=TOKEN, max_shard_size="50KB")
    assert url.startswith(hub.url())
    ViTImageProcessor(size=32).push_to_hub("org/pushed", token=TOKEN)
    assert AutoImageProcessor.from_pretrained("org/pushed", cache_dir=tmp_path).size == {"height": 32, "width": 32}
    for offline in (False, True):
        loaded = TFViTForImageClassification.from_pretrained("org/pushed", cache_dir=tmp_path, local_files_only=offline)
        np.testing.assert_allclose(loaded(expected["pixel_values"]).logits, expected["logits"], atol=1e-5, rtol=0)


def test_model_config_and_preprocessing_come_from_one_id(hub, fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_model"
    files = ("config.json", "model.safetensors", "preprocessor_config.json")
    hub.add("org/model", {f"encoder/{name}": (folder / name).read_bytes() for name in files})
    options = {"cache_dir": tmp_path, "subfolder": "encoder"}
    model = TFViTModel.from_pretrained("org/model", **options)
    assert model.config == ViTConfig.from_pretrained("org/model", **options)
    assert AutoImageProcessor.from_pretrained("org/model", **options).size == {"height": 32, "width": 32}


def test_pickled_weights_are_found_on_the_hub(hub, fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_model"
    hub.add("org/old", {name: (folder / name).read_bytes() for name in ("config.json", "pytorch_model.bin")})
    model = TFViTModel.from_pretrained("org/old", cache_dir=tmp_path)
    expected = np.load(folder / "expected.npz")
    hidden = model(expected["pixel_values"]).last_hidden_state
    np.testing.assert_allclose(hidden, expected["last_hidden_state"], atol=1e-5, rtol=0)


def test_a_model_that_does_not_exist_is_one_sentence(hub, tmp_path):
    with pytest.raises(OSError, match="org/nothing") as caught:
        TFViTModel.from_pretrained("org/nothing", cache_dir=tmp_path)
    assert "\n" not in str(caught.value)
