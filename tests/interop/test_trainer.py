"""transformers' Trainer trains our models, and what it saves are folders that open as they are.

Run by `nox -s interop`, with transformers 4.47.1 and the newest 5.
"""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

from hub_server import TOKEN  # noqa: E402

from vit_torch import (  # noqa: E402
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTImageProcessor,
)
from vit_torch.trainer import Trainer  # noqa: E402

IS_4 = transformers.__version__.startswith("4.")
#: A model whose answers depend on everything that a folder without a config.json would not tell.
FIELDS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
          "image_size": 16, "patch_size": 8, "encoder_stride": 8, "hidden_act": "relu", "layer_norm_eps": 1e-3,
          "id2label": {0: "cat", 1: "dog", 2: "fox"}}  # fmt: skip
STEPS = 6
CHECKPOINTS = ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


class Photographs(torch.utils.data.Dataset):
    """Noise, each image with one of three labels."""

    def __init__(self, number):
        generator = torch.Generator().manual_seed(number)
        self.images = torch.randn(number, 3, 16, 16, generator=generator)
        self.labels = torch.randint(3, (number,), generator=generator).tolist()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


@pytest.fixture(autouse=True)
def settings_of_one_test(monkeypatch):
    """accelerate keeps one state for the process, and TrainingArguments tell it of bfloat16 through the environment."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # what is there when no test has run, and again thereafter
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def trainer(tmp_path):
    """Makes a Trainer of a classifier, always the same at the start: (Trainer's arguments, options of training)."""

    def made(model=None, trainer_class=Trainer, data_collator=None, training=None, **options):
        transformers.set_seed(0)
        model = model or ViTForImageClassification(ViTConfig(**FIELDS, hidden_dropout_prob=0.1))
        metrics = accuracy if isinstance(model, ViTForImageClassification) else None
        arguments = transformers.TrainingArguments(
            **{"output_dir": str(tmp_path / "run"), "use_cpu": True, "report_to": "none", "disable_tqdm": True,
               "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
               "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, **options}
        )  # fmt: skip
        return trainer_class(
            model, arguments, data_collator, training or Photographs(12), Photographs(8), compute_metrics=metrics
        )

    return made


def opened(folder, model_class=ViTForImageClassification):
    """The model of a folder, which must open without an assumption."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model_class.from_pretrained(folder)


def assert_same_weights(one, other):
    other = other.state_dict()
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other[name], atol=0, rtol=0, msg=name)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_every_checkpoint_is_a_folder_that_opens_with_the_same_answers(trainer, tmp_path):
    trained = trainer()
    trained.train()
    folders = [tmp_path / "run" / name for name in CHECKPOINTS]
    models = [opened(folder) for folder in folders]
    assert_same_weights(models[-1], trained.model)
    assert not torch.equal(models[0].classifier.weight, models[-1].classifier.weight)
    images = Photographs(8).images
    with torch.no_grad():
        torch.testing.assert_close(models[-1](images).logits, trained.model.eval()(images).logits, atol=0, rtol=0)
    theirs = transformers.ViTForImageClassification.from_pretrained(folders[-1]).eval()
    with torch.no_grad():
        torch.testing.assert_close(models[-1](images).logits, theirs(images).logits, atol=1e-5, rtol=0)
    assert theirs.config.id2label == FIELDS["id2label"]


def test_a_saved_model_is_what_save_pretrained_writes_with_the_processor_and_the_arguments(trainer, tmp_path):
    trained = trainer()
    trained.processing_class = ViTImageProcessor(size=16)
    trained.save_model(str(tmp_path / "saved"))
    trained.model.save_pretrained(tmp_path / "direct")
    written = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert written == ["config.json", "model.safetensors", "preprocessor_config.json", "training_args.bin"]
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes()
    assert ViTImageProcessor.from_pretrained(tmp_path / "saved").size == {"height": 16, "width": 16}
    assert torch.load(tmp_path / "saved/training_args.bin", weights_only=False).max_steps == STEPS


def test_training_is_that_of_transformers_own_model(trainer, tmp_path):
    start = ViTForImageClassification(ViTConfig(**FIELDS))
    start.save_pretrained(tmp_path / "start")
    mine = trainer(ViTForImageClassification.from_pretrained(tmp_path / "start"))
    mine.train()
    theirs = trainer(transformers.ViTForImageClassification.from_pretrained(tmp_path / "start"), transformers.Trainer)
    theirs.train()
    assert losses(mine) == pytest.approx(losses(theirs), abs=1e-4)
    assert mine.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], abs=1e-4)
    np.testing.assert_allclose(
        mine.predict(Photographs(8)).predictions, theirs.predict(Photographs(8)).predictions, atol=1e-4
    )


def test_training_that_resumes_ends_with_the_weights_of_training_without_interruption(trainer, tmp_path):
    whole = trainer()
    whole.train()
    for checkpoint in (str(tmp_path / "run/checkpoint-2"), str(tmp_path / "run/checkpoint-4")):
        resumed = trainer()
        resumed.train(resume_from_checkpoint=checkpoint)
        assert resumed.state.global_step == STEPS
        assert_same_weights(resumed.model, whole.model)
        assert losses(resumed) == losses(whole)


def test_the_best_model_is_there_at_the_end(trainer, tmp_path):
    trained = trainer(load_best_model_at_end=True, metric_for_best_model="eval_loss", save_total_limit=1,
                      learning_rate=0.3)  # fmt: skip
    trained.train()
    evaluations = [entry["eval_loss"] for entry in trained.state.log_history if "eval_loss" in entry]
    assert trained.evaluate()["eval_loss"] == pytest.approx(min(evaluations), abs=1e-6)
    best = trained.state.best_model_checkpoint
    assert_same_weights(opened(best), trained.model)
    trained.save_model(str(tmp_path / "best"))
    assert_same_weights(opened(tmp_path / "best"), trained.model)


def test_label_smoothing_gives_the_loss_of_cross_entropy_with_smoothed_labels(trainer):
    smoothed = trainer(label_smoothing_factor=0.2)
    images, labels = Photographs(8).images, torch.tensor(Photographs(8).labels)
    with torch.no_grad():
        logits = smoothed.model.eval()(images).logits
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    assert smoothed.evaluate()["eval_loss"] == pytest.approx(expected.item(), abs=1e-5)
    smoothed.train()
    assert "eval_accuracy" in smoothed.evaluate()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
@pytest.mark.parametrize("settings", [None, {"use_reentrant": False}, {"use_reentrant": True}])
def test_gradient_checkpointing_changes_no_weight(trainer, settings):
    plain = trainer()
    plain.train()
    checkpointed = trainer(gradient_checkpointing=True, gradient_checkpointing_kwargs=settings)
    checkpointed.train()
    assert checkpointed.model.is_gradient_checkpointing
    assert losses(checkpointed) == pytest.approx(losses(plain), abs=1e-5)
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(checkpointed.model.state_dict()[name], tensor, atol=1e-4, rtol=1e-4)


class WeightedTrainer(Trainer):
    """What the forum's most copied answer does about unbalanced classes."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        weight = torch.tensor([1.0, 2.0, 4.0], device=labels.device)
        loss = torch.nn.functional.cross_entropy(outputs.get("logits"), labels, weight=weight)
        return (loss, outputs) if return_outputs else loss


def test_a_loss_of_ones_own_may_pop_the_labels(trainer, tmp_path):
    weighted = trainer(trainer_class=WeightedTrainer)
    weighted.train()
    images, labels = Photographs(8).images, torch.tensor(Photographs(8).labels)
    with torch.no_grad():
        logits = weighted.model.eval()(images).logits
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=torch.tensor([1.0, 2.0, 4.0]))
    evaluated = weighted.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert evaluated["eval_accuracy"] == (logits.argmax(-1) == labels).float().mean().item()
    assert_same_weights(opened(tmp_path / "run/checkpoint-6"), weighted.model)


@pytest.mark.filterwarnings("ignore:.*autocast.*:FutureWarning")
def test_bfloat16_trains_float32_weights_to_nearly_the_same_losses(trainer, tmp_path):
    plain = trainer()
    plain.train()
    half = trainer(bf16=True)
    half.train()
    assert losses(half) != losses(plain)
    assert losses(half) == pytest.approx(losses(plain), rel=0.05)
    assert opened(tmp_path / "run/checkpoint-6").dtype == torch.float32
    predictions = half.predict(Photographs(8)).predictions
    assert predictions.dtype == np.float32


def test_evaluation_in_bfloat16_saves_a_model_in_bfloat16(trainer, tmp_path):
    evaluated = trainer(bf16_full_eval=True)
    evaluated.evaluate()
    evaluated.save_model(str(tmp_path / "half"))
    assert ViTForImageClassification.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.bfloat16


def test_hidden_states_do_not_reach_the_metrics_when_their_keys_are_ignored(trainer):
    looking = trainer()
    looking.model.config.output_hidden_states = True
    logits = looking.predict(Photographs(8), ignore_keys=["hidden_states"]).predictions
    assert logits.shape == (8, 3)


def with_masks(examples):
    """A collator as in masked image modeling: half of the patches of each image are to be reconstructed."""
    mask = torch.rand(len(examples), 4) < 0.5
    return {"pixel_values": torch.stack([example["pixel_values"] for example in examples]), "bool_masked_pos": mask}


def test_masked_image_modeling_trains_as_transformers_own_model_does(trainer, tmp_path):
    ViTForMaskedImageModeling(ViTConfig(**FIELDS)).save_pretrained(tmp_path / "start")
    trained = []
    for model_class, trainer_class in [
        (ViTForMaskedImageModeling, Trainer),
        (transformers.ViTForMaskedImageModeling, transformers.Trainer),
    ]:
        trained.append(
            trainer(model_class.from_pretrained(tmp_path / "start"), trainer_class, data_collator=with_masks)
        )
        trained[-1].train()
    assert losses(trained[0]) == pytest.approx(losses(trained[1]), abs=1e-4)
    trained[0].save_model(str(tmp_path / "saved"))
    assert_same_weights(opened(tmp_path / "saved", ViTForMaskedImageModeling), trained[0].model)


class TwoHeads(ViTForImageClassification):
    """Research code: a second answer beside the classifier's."""

    def __init__(self, config):
        super().__init__(config)
        self.confidence = torch.nn.Linear(config.hidden_size, 1)
        self.post_init()


def test_a_subclass_is_saved_with_what_it_adds(trainer, tmp_path):
    trained = trainer(TwoHeads(ViTConfig(**FIELDS)), ddp_find_unused_parameters=True)
    trained.train()
    assert_same_weights(opened(tmp_path / "run/checkpoint-6", TwoHeads), trained.model)


def test_a_model_of_another_make_is_saved_as_transformers_saves_it(trainer, tmp_path):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3 * 16 * 16, 3)

        def forward(self, pixel_values, labels=None):
            logits = self.linear(pixel_values.flatten(1))
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    trainer(Plain()).train()
    assert not (tmp_path / "run/checkpoint-6/config.json").exists()
    assert (tmp_path / "run/checkpoint-6/model.safetensors").exists()


def test_a_state_dict_without_weights_leaves_the_config_alone(trainer, tmp_path):
    trainer()._save(str(tmp_path / "sharded"), state_dict={})  # as DeepSpeed has it
    assert json.loads((tmp_path / "sharded/config.json").read_text())["num_attention_heads"] == 2
    assert not (tmp_path / "sharded/model.safetensors").exists()


@pytest.mark.skipif(not IS_4, reason="transformers 5 always saves safetensors")
def test_pickled_weights_are_refused_with_a_warning_and_training_resumes(trainer, tmp_path):
    with pytest.warns(UserWarning, match="save_safetensors=False asks for pickled weights"):
        whole = trainer(save_safetensors=False)
    whole.train()
    with pytest.warns(UserWarning, match="save_safetensors"):
        resumed = trainer(save_safetensors=False)
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(resumed.model, whole.model)


#: A process of its own, since huggingface_hub reads where the Hub is when it is imported.
PUSHING = """
import sys
import torch, transformers
from vit_torch import ViTConfig, ViTForImageClassification, ViTImageProcessor
from vit_torch.trainer import Trainer

folder, token = sys.argv[1:]
examples = [{"pixel_values": torch.randn(3, 16, 16), "labels": label} for label in (0, 1, 2, 1)]
config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=16,
                   patch_size=8, num_labels=3)
arguments = transformers.TrainingArguments(
    folder, use_cpu=True, report_to="none", max_steps=2, save_steps=1, push_to_hub=True, hub_model_id="org/trained",
    hub_token=token, hub_strategy="all_checkpoints", hub_always_push=True,
)
trainer = Trainer(ViTForImageClassification(config), arguments, train_dataset=examples)
trainer.processing_class = ViTImageProcessor(size=16)
trainer.train()
trainer.push_to_hub(commit_message="End of training", tags=["noise"])
"""


def test_checkpoints_and_the_model_reach_the_hub(hub, tmp_path):
    script = [sys.executable, "-c", PUSHING, str(tmp_path / "pushed"), TOKEN]
    subprocess.run(script, env={**os.environ, "HF_HUB_DISABLE_XET": "1"}, check=True)
    files = hub.repositories["org/trained"].head()
    complete = {"config.json", "model.safetensors", "preprocessor_config.json", "training_args.bin"}
    assert complete | {"README.md"} | {f"checkpoint-2/{name}" for name in complete} <= files.keys()
    assert "noise" in files["README.md"].decode()
    loaded = ViTForImageClassification.from_pretrained("org/trained", cache_dir=tmp_path / "cache")
    assert_same_weights(loaded, opened(tmp_path / "pushed/checkpoint-2"))
