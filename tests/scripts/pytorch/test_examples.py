"""transformers' own PyTorch examples, rebuilt: they run with the import lines changed, and train as they did before.

Run by `nox -s interop`, with transformers 4.47.1 and the newest 5.
"""

import json
import warnings

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="the examples take Trainer and schedules from transformers")
pytest.importorskip("accelerate", reason="the examples train with accelerate")
pytest.importorskip("datasets", reason="the examples read pictures with datasets")

from vit_torch import (  # noqa: E402
    AutoImageProcessor,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTImageProcessor,
)

IS_4 = transformers.__version__.startswith("4.")
COMMON = ["--seed", 7, "--learning_rate", 3e-3, "--per_device_train_batch_size", 4]
TRAINER = ["--do_train", "--do_eval", "--num_train_epochs", 3, "--logging_steps", 1, "--use_cpu", "--report_to", "none",
           "--eval_strategy", "epoch", "--save_strategy", "epoch", "--disable_tqdm", True,
           "--remove_unused_columns", False]  # fmt: skip


def folders(pictures):
    return ["--train_dir", pictures / "train", "--validation_dir", pictures / "validation"]


def opened(folder, model_class=ViTForImageClassification):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model_class.from_pretrained(folder)


def losses(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def test_image_classification_with_trainer(run, pictures, checkpoint, tmp_path):
    arguments = [*folders(pictures), *COMMON, *TRAINER, "--model_name_or_path", checkpoint("ViTModel")]
    arguments += [
        "--load_best_model_at_end",
        True,
        "--metric_for_best_model",
        "accuracy",
        "--output_dir",
        tmp_path / "out",
    ]
    results = run("run_image_classification.py", *arguments, output=tmp_path / "out")
    assert results["eval_accuracy"] > 0.8
    model = opened(tmp_path / "out")
    assert model.config.id2label == {0: "blue", 1: "red"}
    assert AutoImageProcessor.from_pretrained(tmp_path / "out").size == {"height": 32, "width": 32}
    assert "image-classification" in (tmp_path / "out/README.md").read_text()
    checkpoints = sorted(tmp_path.glob("out/checkpoint-*"))
    assert [folder.name for folder in checkpoints] == ["checkpoint-12", "checkpoint-4", "checkpoint-8"]
    for folder in checkpoints:
        assert opened(folder).config == model.config


def test_image_classification_with_trainer_goes_on_where_it_stopped(run, pictures, checkpoint, tmp_path):
    start = checkpoint("ViTModel")
    arguments = [*folders(pictures), *COMMON, *TRAINER, "--model_name_or_path", start, "--output_dir"]
    run("run_image_classification.py", *arguments, tmp_path / "whole", output=tmp_path / "whole")
    (tmp_path / "part").mkdir()
    (tmp_path / "whole/checkpoint-8").rename(tmp_path / "part/checkpoint-8")
    run("run_image_classification.py", *arguments, tmp_path / "part", output=tmp_path / "part")
    whole, part = opened(tmp_path / "whole").state_dict(), opened(tmp_path / "part").state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(part[name], tensor, atol=0, rtol=0, msg=name)


@pytest.mark.skipif(not IS_4, reason="transformers 5 starts models and resizes images otherwise")
def test_image_classification_with_trainer_trains_as_before(run, pictures, checkpoint, tmp_path):
    arguments = [*folders(pictures), *COMMON, *TRAINER, "--model_name_or_path", checkpoint(num_labels=2)]
    script = "run_image_classification.py"
    before = run(script, *arguments, "--output_dir", tmp_path / "before", output=tmp_path / "before", before=True)
    after = run(script, *arguments, "--output_dir", tmp_path / "after", output=tmp_path / "after")
    assert losses(tmp_path / "after") == pytest.approx(losses(tmp_path / "before"), abs=2e-4)
    assert after["eval_loss"] == pytest.approx(before["eval_loss"], abs=1e-4)
    assert {path.name for path in (tmp_path / "after").iterdir()} == {
        path.name for path in (tmp_path / "before").iterdir()
    }


def test_image_classification_without_trainer(run, pictures, checkpoint, tmp_path):
    arguments = [*folders(pictures), *COMMON, "--model_name_or_path", checkpoint(num_labels=5),
                 "--ignore_mismatched_sizes", "--num_train_epochs", 3, "--gradient_accumulation_steps", 2,
                 "--checkpointing_steps", "epoch", "--output_dir"]  # fmt: skip
    script = "run_image_classification_no_trainer.py"
    results = run(script, *arguments, tmp_path / "whole", output=tmp_path / "whole")
    assert results["eval_accuracy"] > 0.8
    whole = opened(tmp_path / "whole")
    assert whole.config.num_labels == 2
    assert AutoImageProcessor.from_pretrained(tmp_path / "whole").size == {"height": 32, "width": 32}
    run(
        script,
        *arguments,
        tmp_path / "part",
        "--resume_from_checkpoint",
        tmp_path / "whole/epoch_1",
        output=tmp_path / "part",
    )
    part = opened(tmp_path / "part").state_dict()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(part[name], tensor, atol=0, rtol=0, msg=name)


@pytest.mark.skipif(not IS_4, reason="transformers 5 starts models and resizes images otherwise")
def test_image_classification_without_trainer_trains_as_before(run, pictures, checkpoint, tmp_path):
    arguments = [*folders(pictures), *COMMON, "--num_train_epochs", 2, "--model_name_or_path", checkpoint(num_labels=2)]
    script = "run_image_classification_no_trainer.py"
    before = run(script, *arguments, "--output_dir", tmp_path / "before", output=tmp_path / "before", before=True)
    after = run(script, *arguments, "--output_dir", tmp_path / "after", output=tmp_path / "after")
    assert after["train_loss"] == pytest.approx(before["train_loss"], abs=2e-4)
    assert after["eval_accuracy"] == before["eval_accuracy"]


def test_masked_image_modeling_from_nothing(run, pictures, tmp_path):
    fields = "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=48"
    arguments = [*folders(pictures), *COMMON, *TRAINER, "--dataset_cache", tmp_path / "cache", "--model_type", "vit",
                 "--config_overrides", fields, "--image_size", 32, "--patch_size", 4, "--encoder_stride", 4,
                 "--label_names", "bool_masked_pos", "--output_dir", tmp_path / "out"]  # fmt: skip
    results = run("run_mim.py", *arguments, output=tmp_path / "out")
    trained = losses(tmp_path / "out")
    assert trained[-1] < 0.9 * trained[0]
    assert results["eval_loss"] < trained[0]
    model = opened(tmp_path / "out", ViTForMaskedImageModeling)
    assert (model.config.image_size, model.config.patch_size, model.config.hidden_size) == (32, 4, 32)
    assert ViTImageProcessor.from_pretrained(tmp_path / "out").size == {"height": 224, "width": 224}


@pytest.mark.skipif(not IS_4, reason="transformers 5 starts models and resizes images otherwise")
def test_masked_image_modeling_with_trainer_trains_as_before(run, pictures, checkpoint, tmp_path):
    start = checkpoint("ViTForMaskedImageModeling")
    arguments = [*folders(pictures), *COMMON, *TRAINER, "--dataset_cache", tmp_path / "cache", "--label_names",
                 "bool_masked_pos", "--model_name_or_path", start, "--output_dir"]  # fmt: skip
    before = run("run_mim.py", *arguments, tmp_path / "before", output=tmp_path / "before", before=True)
    after = run("run_mim.py", *arguments, tmp_path / "after", output=tmp_path / "after")
    assert losses(tmp_path / "after") == pytest.approx(losses(tmp_path / "before"), abs=2e-4)
    assert after["eval_loss"] == pytest.approx(before["eval_loss"], abs=1e-4)


def test_masked_image_modeling_without_trainer(run, pictures, tmp_path):
    fields = "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=48,image_size=32,patch_size=4,"
    arguments = ["--train_dir", pictures / "train", "--config_overrides", fields + "encoder_stride=4", "--output_dir"]
    arguments += [tmp_path / "out", "--num_train_epochs", 6]
    results = run("run_mim_no_trainer.py", *arguments, output=tmp_path / "out")
    assert results["train_loss"] < 0.9 * results["first_loss"]
    assert opened(tmp_path / "out", ViTForMaskedImageModeling).config.encoder_stride == 4
