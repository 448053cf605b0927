"""Scripts as people write them for transformers 4, with other import lines, and something small for them to work on."""

import importlib.util
import json
import runpy
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 32,
         "patch_size": 8, "encoder_stride": 8, "initializer_range": 0.1}  # fmt: skip

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)  # tests run in parallel
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script as its own process would: (script, arguments, with transformers' models or ours) -> its results."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(script, *arguments, output, before=False):
        source = (SCRIPTS / script).read_text()
        if before:  # the script as it was, before its import lines were changed
            source = source.replace("from vit_torch.trainer import", "from transformers import")
            source = source.replace("from vit_torch import", "from transformers import")
        copy = tmp_path / script
        copy.write_text(source)
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        runpy.run_path(str(copy), run_name="__main__")
        return json.loads((Path(output) / "all_results.json").read_text())

    return run


@pytest.fixture(scope="session")
def pictures(draw_pictures):
    """A folder of pictures for training and one for validation, each with reddish and bluish ones."""
    return draw_pictures((36, 48), validation=4)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Makes and saves a checkpoint with its image processor: (class, fields of the config) -> its folder."""
    import vit_torch

    def saved(class_name="ViTForImageClassification", **fields):
        folder = tmp_path_factory.mktemp("checkpoint")
        torch.manual_seed(0)
        getattr(vit_torch, class_name)(vit_torch.ViTConfig(**{**SIZES, **fields})).save_pretrained(folder)
        vit_torch.ViTImageProcessor(size=32).save_pretrained(folder)
        return folder

    return saved
