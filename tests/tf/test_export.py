"""SavedModels for serving."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel

IMAGES = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype("float32")
TOLERANCE = 1e-5


def exported(model, folder, **options):
    model.export(folder / "exported", verbose=False, **options)
    return tf.saved_model.load(str(folder / "exported"))


def test_a_process_with_tensorflow_alone_serves_any_batch(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    model.export(tmp_path / "exported", verbose=False)
    np.save(tmp_path / "images.npy", IMAGES)
    script = """if True:
        import sys
        sys.modules["keras"] = sys.modules["vit_tf"] = None  # importing them fails; TensorFlow itself tries to
        import numpy as np
        import tensorflow as tf
        folder = sys.argv[1]
        images = np.load(folder + "/images.npy")
        served = tf.saved_model.load(folder + "/exported")
        signature = served.signatures["serving_default"]
        results = {}
        for batch in (1, 3):
            results[f"serve_{batch}"] = served.serve(tf.constant(images[:batch]))["logits"]
            results[f"signature_{batch}"] = signature(pixel_values=tf.constant(images[:batch]))["logits"]
        assert list(signature.structured_outputs) == ["logits"]
        assert not [name for name in sys.modules if name.startswith(("keras.", "vit_")) and sys.modules[name]]
        np.savez(folder + "/results.npz", **results)
    """
    process = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    results = np.load(tmp_path / "results.npz")
    assert len(results) == 4
    for name, logits in results.items():
        expected = model(IMAGES[: int(name[-1])]).logits
        np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)


def test_an_export_that_interpolates_takes_other_sizes(one_layer, tmp_path):
    model = TFViTForImageClassification(one_layer)
    served = exported(model, tmp_path, interpolate_pos_encoding=True)
    for size in ((32, 32), (48, 72), (16, 100)):
        images = np.random.default_rng(0).normal(size=(2, 3, *size)).astype("float32")
        expected = model(images, interpolate_pos_encoding=True).logits
        np.testing.assert_allclose(served.serve(images)["logits"], expected, atol=TOLERANCE, rtol=0)


def test_a_base_model_serves_each_tensor_by_name(tiny_config, tmp_path):
    tiny_config.output_hidden_states = tiny_config.output_attentions = True
    tiny_config.return_dict = False
    model = TFViTModel(tiny_config, data_format="channels_last")
    images = IMAGES.transpose(0, 2, 3, 1)
    loaded = exported(model, tmp_path)
    served = loaded.signatures["serving_default"](pixel_values=tf.constant(images))
    output = model(images, return_dict=True)
    expected = {"last_hidden_state": output.last_hidden_state, "pooler_output": output.pooler_output}
    expected |= {f"hidden_states_{index}": output.hidden_states[index] for index in range(3)}
    expected |= {f"attentions_{index}": output.attentions[index] for index in range(2)}
    assert served.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(served[name], tensor, atol=TOLERANCE, rtol=0, err_msg=name)


def test_a_masked_model_serves_reconstructions(one_layer, tmp_path):
    model = TFViTForMaskedImageModeling(one_layer)
    served = exported(model, tmp_path)
    outputs = served.serve(IMAGES)
    assert outputs.keys() == {"reconstruction"}
    np.testing.assert_allclose(outputs["reconstruction"], model(IMAGES).reconstruction, atol=TOLERANCE, rtol=0)


def test_an_export_refuses_images_of_another_size(one_layer, tmp_path):
    served = exported(TFViTForImageClassification(one_layer), tmp_path)
    with pytest.raises((ValueError, TypeError)):
        served.serve(np.zeros((1, 3, 48, 48), "float32"))
