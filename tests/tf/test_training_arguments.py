"""`TFTrainingArguments` and `set_seed`."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import TFTrainingArguments, set_seed


@pytest.fixture
def _precision_afterwards():
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


def test_batches_are_as_large_as_the_devices_of_the_strategy_take_together(tmp_path):
    arguments = TFTrainingArguments(str(tmp_path), per_device_train_batch_size=3, per_gpu_eval_batch_size=5)
    assert isinstance(arguments.strategy, tf.distribute.OneDeviceStrategy)
    assert arguments.strategy is arguments.strategy
    assert (arguments.n_replicas, arguments.train_batch_size, arguments.eval_batch_size) == (1, 3, 5)
    with arguments.strategy.scope():
        assert "CPU:0" in keras.Variable(np.zeros(2)).value.device.upper()


@pytest.mark.usefixtures("_precision_afterwards")
@pytest.mark.parametrize(("flag", "policy"), [("fp16", "mixed_float16"), ("bf16", "mixed_bfloat16")])
def test_half_precision_is_set_with_the_strategy(tmp_path, flag, policy):
    arguments = TFTrainingArguments(str(tmp_path), **{flag: True})
    assert keras.config.dtype_policy().name == "float32"
    _ = arguments.strategy
    assert keras.config.dtype_policy().name == policy


def test_older_names_are_understood(tmp_path):
    arguments = TFTrainingArguments(
        str(tmp_path),
        evaluation_strategy="EPOCH",
        push_to_hub_model_id="mine",
        push_to_hub_organization="org",
        push_to_hub_token="hf_secret",
        no_cuda=True,
    )
    assert arguments.eval_strategy == arguments.evaluation_strategy == "epoch"
    assert arguments.do_eval
    assert arguments.hub_model_id == "org/mine"
    assert arguments.hub_token == "hf_secret"
    assert arguments.use_cpu
    assert "hf_secret" not in repr(arguments) + arguments.to_json_string() + str(arguments.to_sanitized_dict())


def test_warm_up_is_a_number_of_steps_or_a_share(tmp_path):
    assert TFTrainingArguments(str(tmp_path), warmup_ratio=0.25).get_warmup_steps(10) == 3
    assert TFTrainingArguments(str(tmp_path), warmup_steps=4, warmup_ratio=0.25).get_warmup_steps(10) == 4


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="eval_strategy is 'often'; it must be one of no, steps, epoch"):
        TFTrainingArguments(str(tmp_path), eval_strategy="often")
    with pytest.raises(ValueError, match="fp16 and bf16 are both true"):
        TFTrainingArguments(str(tmp_path), fp16=True, bf16=True)


def test_a_tpu_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    def resolver(name, zone, project):
        raise ValueError(f"no {name} in {zone} of {project}\nand more")  # as TensorFlow does, after a long wait

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    arguments = TFTrainingArguments(str(tmp_path), tpu_name="fast", tpu_zone="here", gcp_project="p")
    with pytest.raises(OSError, match=r"^cannot reach the TPU 'fast': no fast in here of p$"):
        _ = arguments.strategy


def test_a_seed_fixes_every_generator():
    def draws():
        set_seed(7)
        return random.random(), np.random.rand(), float(tf.random.normal(())), float(keras.random.normal(()))

    assert draws() == draws()
