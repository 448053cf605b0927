"""Scripts as people write them for transformers 4, with other import lines, and something small for them to work on.

Where the packages `datasets` and `transformers` are not installed, small stand-ins of `stand_ins` serve.
"""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent

if importlib.util.find_spec("tensorflow") and importlib.util.find_spec("keras"):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    import vit_tf

    tf.config.threading.set_intra_op_parallelism_threads(1)  # tests run in parallel
    tf.config.threading.set_inter_op_parallelism_threads(1)
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script as its own process would, and returns its globals: (script, arguments) -> dict."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    for package in ("datasets", "transformers"):
        if importlib.util.find_spec(package) is None:
            monkeypatch.syspath_prepend(SCRIPTS / "stand_ins" / package)

    def run(script, *arguments):
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        keras.utils.set_random_seed(0)
        return runpy.run_path(str(SCRIPTS / script), run_name="__main__")

    yield run
    for name, module in list(sys.modules.items()):  # other tests must not take a stand-in for the package
        if (getattr(module, "__file__", None) or "").startswith(str(SCRIPTS / "stand_ins")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def pictures(draw_pictures):
    """A folder of pictures for training and one for validation, each with reddish and bluish ones."""
    return draw_pictures((36, 48), validation=5)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A checkpoint of five classes with its image processor, on 32 x 32 images."""
    folder = tmp_path_factory.mktemp("checkpoint")
    keras.utils.set_random_seed(0)
    config = vit_tf.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        num_labels=5,
        initializer_range=0.1,
    )
    vit_tf.TFViTForImageClassification(config).save_pretrained(folder)
    vit_tf.ViTImageProcessor(size=32).save_pretrained(folder)
    return folder
