"""`tf_model.h5`, which `save_pretrained(safe_serialization=False)` writes; `tests/interop` shows who reads it."""

import numpy as np
import pytest
from keras import layers

from conversion import convert
from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("model_class", [TFViTModel, TFViTForImageClassification, TFViTForMaskedImageModeling])
def test_hdf5_is_written_as_the_converter_writes_it(tiny_config, tmp_path, model_class, dtype):
    model = model_class(tiny_config, dtype=dtype)
    model.save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "converted", to="transformers-tf")
    model.save_pretrained(tmp_path / "model", safe_serialization=False)
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", "tf_model.h5"]
    expected = (tmp_path / "converted" / "tf_model.h5").read_bytes()
    assert (tmp_path / "model" / "tf_model.h5").read_bytes() == expected
    again = model_class.from_pretrained(tmp_path / "model", dtype=dtype)
    np.testing.assert_array_equal(again(IMAGES)[0], model(IMAGES)[0])


def test_biases_that_the_format_always_has_are_zeros(tiny_config, tmp_path):
    model = TFViTModel(tiny_config.replaced(qkv_bias=False))
    with pytest.warns(UserWarning, match="always has biases of query, key and value; zeros"):
        model.save_pretrained(tmp_path, safe_serialization=False)
    again = TFViTModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(again(IMAGES)[0], model(IMAGES)[0], atol=1e-6)


def test_what_has_no_place_in_hdf5_is_refused(tiny_config, tmp_path):
    class WithHead(TFViTForImageClassification):
        def __init__(self, config, **kwargs):
            super().__init__(config, **kwargs)
            self.features = layers.Dense(3)
            self.features.build((None, 5))

    with pytest.raises(ValueError, match=r"tf_model.h5 has no place for .*features\.kernel.*safe_serialization=False"):
        WithHead(tiny_config).save_pretrained(tmp_path / "model", safe_serialization=False)
    assert not (tmp_path / "model").exists()


def test_hdf5_is_written_in_one_piece(tiny_config, tmp_path):
    with pytest.raises(ValueError, match="max_shard_size is '1KB', but tf_model.h5 is written in one piece"):
        TFViTModel(tiny_config).save_pretrained(tmp_path, safe_serialization=False, max_shard_size="1KB")
