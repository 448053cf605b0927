"""The measurement on a graphics card runs where there is none, too."""

import json
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

from benchmarks import gpu


def test_one_call_measures_pytorch_and_jax_and_says_what_needs_a_card(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "card_name", lambda: None)  # also where there is one
    tiny = ["--models", "ViT-Ti/16", "--image", "32", "--batches", "2", "--dtypes", "bfloat16"]
    ways = ["--ways", "SDPA", "eager", "graphed", "--minutes", "0.01", "--output", str(tmp_path / "gpu.json")]
    monkeypatch.setattr(sys, "argv", ["gpu", *tiny, *ways])
    gpu.main()
    in_pytorch, in_jax = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert in_pytorch["ratios"].keys() >= {"eager"}
    assert "matrix products" in in_pytorch["limit"]["name"]
    assert "CUDA graphs need a card" in in_pytorch["left_out"]["graphed"]
    assert in_jax["rounds"] > 0
    printed = capsys.readouterr().out
    assert "PyTorch: ViT-Ti/16, batch 2, bfloat16" in printed
    assert "GFLOP/s" in printed
