"""Research code builds on the models, and needs nothing but its import lines changed."""

import importlib.util
import warnings

import pytest

torch = pytest.importorskip("torch")

from vit_torch import ViTForImageClassification  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*(start at random|has no such tensors).*:UserWarning")
#: transformers 5 has other parts, which research code for 4 does not fit.
HAS_TRANSFORMERS_4 = importlib.util.find_spec("transformers") is not None


def versions():
    """Ours, and transformers 4's own where it is installed: what a script does here it must do there."""
    if HAS_TRANSFORMERS_4:
        import transformers

        if transformers.__version__.startswith("4."):
            return [False, True]
    return [False]


@pytest.mark.parametrize("before", versions(), ids=lambda before: "before" if before else "after")
def test_a_model_with_two_heads_trains_and_travels(run, pictures, checkpoint, tmp_path, before):
    start = checkpoint("ViTModel")
    results = run("research_multitask.py", start, pictures, tmp_path, output=tmp_path, before=before)
    assert results["accuracy"] > 0.8
    assert results["loaded_difference"] == 0
    assert results["missing"] == 0
    assert results["steps"] == 24
    assert results["label"] == "red"


@pytest.mark.skipif(versions() == [False], reason="transformers 4 is not installed")
def test_a_subclass_has_the_features_that_it_had_before(run, pictures, checkpoint, tmp_path):
    start = checkpoint("ViTModel")
    mine, theirs = (
        run("research_multitask.py", start, pictures, tmp_path, output=tmp_path, before=before)["features"]
        for before in (False, True)
    )
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("before", versions(), ids=lambda before: "before" if before else "after")
def test_a_family_of_ones_own_is_found_by_the_auto_classes(run, checkpoint, tmp_path, before):
    results = run("research_family.py", checkpoint(num_labels=5), tmp_path, output=tmp_path, before=before)
    assert results["type"] == "GatedViTForImageClassification"
    assert results["gate_bias"] == 0.25
    assert results["gated_difference"] == 0
    assert results["hook_difference"] == 0
    assert results["is_a_model"]


def test_a_network_that_was_cut_is_saved_as_what_it_has_become(run, checkpoint, tmp_path):
    results = run("research_cut.py", checkpoint(num_labels=5), tmp_path, output=tmp_path)
    assert results == {"difference": 0, "layers": 1, "classes": 7}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ViTForImageClassification.from_pretrained(tmp_path / "cut").config.num_hidden_layers == 1
