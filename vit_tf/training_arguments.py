"""The training arguments of TensorFlow scripts for transformers 4, as a dataclass to parse a command line into."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

STRATEGIES = ("no", "steps", "epoch")


def _argument(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class TFTrainingArguments:
    """What a training script may be told.

    A script reads them and does what they say; of themselves, `strategy` chooses devices and precision. The names and
    defaults are those of transformers 4.47. Those that steer transformers' Trainer are accepted and left alone.
    """

    output_dir: str = field(metadata={"help": "Folder for what the training writes."})
    overwrite_output_dir: bool = _argument(False, "Whether to write into a folder that is not empty.")
    do_train: bool = _argument(False, "Whether to train.")
    do_eval: bool = _argument(False, "Whether to evaluate; also true if eval_strategy is not 'no'.")
    do_predict: bool = _argument(False, "Whether to predict the test set.")
    eval_strategy: str = _argument("no", "When to evaluate: no, steps or epoch.")
    evaluation_strategy: str | None = _argument(None, "The older name of eval_strategy.")
    eval_steps: float | None = _argument(None, "Steps between evaluations.")
    per_device_train_batch_size: int = _argument(8, "Rows of a training batch on each device.")
    per_device_eval_batch_size: int = _argument(8, "Rows of an evaluation batch on each device.")
    per_gpu_train_batch_size: int | None = _argument(None, "The older name of per_device_train_batch_size.")
    per_gpu_eval_batch_size: int | None = _argument(None, "The older name of per_device_eval_batch_size.")
    gradient_accumulation_steps: int = _argument(1, "Batches whose gradients are added up before an update.")
    learning_rate: float = _argument(5e-5, "The highest learning rate.")
    weight_decay: float = _argument(0.0, "Weight decay of AdamW.")
    adam_beta1: float = _argument(0.9, "How much of the mean of the gradients Adam keeps in a step.")
    adam_beta2: float = _argument(0.999, "How much of the mean of their squares Adam keeps in a step.")
    adam_epsilon: float = _argument(1e-8, "A small number that Adam adds to the root of that mean.")
    max_grad_norm: float = _argument(1.0, "The largest norm of the gradients.")
    num_train_epochs: float = _argument(3.0, "Epochs of training.")
    max_steps: int = _argument(-1, "Steps of training, instead of epochs, if positive.")
    lr_scheduler_type: str = _argument("linear", "How the learning rate falls.")
    warmup_ratio: float = _argument(0.0, "Warm-up as a share of all steps.")
    warmup_steps: int = _argument(0, "Steps of warm-up, instead of a share, if positive.")
    poly_power: float = _argument(1.0, "Power of the polynomial by which the learning rate falls.")
    log_level: str = _argument("passive", "How much is logged.")
    logging_dir: str | None = _argument(None, "Folder for TensorBoard.")
    logging_strategy: str = _argument("steps", "When to log: no, steps or epoch.")
    logging_first_step: bool = _argument(False, "Whether to log the first step.")
    logging_steps: float = _argument(500, "Steps between logs.")
    save_strategy: str = _argument("steps", "When to save: no, steps or epoch.")
    save_steps: float = _argument(500, "Steps between saves.")
    save_total_limit: int | None = _argument(None, "How many checkpoints are kept.")
    load_best_model_at_end: bool = _argument(False, "Whether the best model is the one that is kept.")
    metric_for_best_model: str | None = _argument(None, "What tells the best model.")
    greater_is_better: bool | None = _argument(None, "Whether the best model has the largest value of it.")
    seed: int = _argument(42, "Seed of the training.")
    data_seed: int | None = _argument(None, "Seed of the order of the data.")
    no_cuda: bool = _argument(False, "Whether to leave GPUs alone.")
    use_cpu: bool = _argument(False, "The newer name of no_cuda.")
    fp16: bool = _argument(False, "Whether to compute in float16; weights stay in float32.")
    bf16: bool = _argument(False, "Whether to compute in bfloat16; weights stay in float32.")
    dataloader_drop_last: bool = _argument(False, "Whether to leave out a last batch that is not full.")
    dataloader_num_workers: int = _argument(0, "Processes that read data.")
    remove_unused_columns: bool = _argument(True, "Whether to leave out columns that the model does not take.")
    run_name: str | None = _argument(None, "Name of the run, for logs.")
    disable_tqdm: bool | None = _argument(None, "Whether to show no progress bars.")
    report_to: str | None = _argument(None, "Where to report the run.")
    resume_from_checkpoint: str | None = _argument(None, "Folder of a checkpoint to go on from.")
    ignore_data_skip: bool = _argument(False, "Whether to start with the first batch when going on.")
    label_smoothing_factor: float = _argument(0.0, "How much of a label is spread over the other classes.")
    gradient_checkpointing: bool = _argument(False, "Whether to save memory by computing activations twice.")
    push_to_hub: bool = _argument(False, "Whether to push the model to the Hub.")
    hub_model_id: str | None = _argument(None, "Name of the repository on the Hub.")
    hub_strategy: str = _argument("every_save", "When to push.")
    hub_token: str | None = _argument(None, "Token for the Hub.")
    hub_private_repo: bool | None = _argument(None, "Whether the repository is private.")
    push_to_hub_model_id: str | None = _argument(None, "The older name of the repository, without its owner.")
    push_to_hub_organization: str | None = _argument(None, "The older name of the repository's owner.")
    push_to_hub_token: str | None = _argument(None, "The older name of hub_token.")
    local_rank: int = _argument(-1, "Number of the process; one process serves all devices in TensorFlow.")
    tpu_num_cores: int | None = _argument(None, "Cores of a TPU.")
    tpu_name: str | None = _argument(None, "Name of a TPU.")
    tpu_zone: str | None = _argument(None, "Zone of the TPU.")
    gcp_project: str | None = _argument(None, "Project of the TPU.")
    xla: bool = _argument(False, "Whether to compile with XLA; for compile(jit_compile=...).")

    def __post_init__(self) -> None:
        self.output_dir = str(Path(self.output_dir).expanduser())
        self.logging_dir = self.logging_dir or str(Path(self.output_dir) / "runs")
        self.eval_strategy = self.evaluation_strategy = self._strategy_name("eval_strategy", self.evaluation_strategy)
        self.logging_strategy = self._strategy_name("logging_strategy")
        self.save_strategy = self._strategy_name("save_strategy")
        self.do_eval = self.do_eval or self.eval_strategy != "no"
        self.no_cuda = self.use_cpu = self.no_cuda or self.use_cpu
        self.hub_token = self.hub_token or self.push_to_hub_token
        if self.hub_model_id is None and self.push_to_hub_model_id:
            owner = [self.push_to_hub_organization] if self.push_to_hub_organization else []
            self.hub_model_id = "/".join([*owner, self.push_to_hub_model_id])
        if self.fp16 and self.bf16:
            raise ValueError("fp16 and bf16 are both true; choose one.")

    def _strategy_name(self, argument: str, older: str | None = None) -> str:
        value = older or getattr(self, argument)
        name = str(getattr(value, "value", value)).lower()  # or transformers' enum
        if name not in STRATEGIES:
            raise ValueError(f"{argument} is {value!r}; it must be one of {', '.join(STRATEGIES)}.")
        return name

    @cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """The devices to train on: a TPU, all GPUs or the CPU; and, with `fp16` or `bf16`, Keras' global precision.

        Raises:
            OSError: the TPU of `tpu_name` cannot be reached.
        """
        tpu = None if self.no_cuda else self._tpu()
        if self.bf16 or (self.fp16 and tpu is not None):  # TPUs have no float16
            keras.config.set_dtype_policy("mixed_bfloat16")
        elif self.fp16:
            keras.config.set_dtype_policy("mixed_float16")
        if tpu is not None:
            return tf.distribute.TPUStrategy(tpu)
        gpus = [] if self.no_cuda else tf.config.list_physical_devices("GPU")
        if len(gpus) > 1:
            return tf.distribute.MirroredStrategy()
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")

    def _tpu(self) -> Any:
        if not self.tpu_name:
            return None
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
                self.tpu_name, zone=self.tpu_zone, project=self.gcp_project
            )
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, tf.errors.OpError) as error:
            raise OSError(f"cannot reach the TPU {self.tpu_name!r}: {str(error).splitlines()[0]}") from error
        return resolver

    @property
    def n_replicas(self) -> int:
        """How many devices train."""
        return self.strategy.num_replicas_in_sync

    @property
    def n_gpu(self) -> int:
        """The older name of `n_replicas`."""
        return self.n_replicas

    @property
    def train_batch_size(self) -> int:
        """Rows of a training batch on all devices together."""
        return (self.per_gpu_train_batch_size or self.per_device_train_batch_size) * self.n_replicas

    @property
    def eval_batch_size(self) -> int:
        """Rows of an evaluation batch on all devices together."""
        return (self.per_gpu_eval_batch_size or self.per_device_eval_batch_size) * self.n_replicas

    @property
    def should_log(self) -> bool:
        """Whether the script logs; Keras does."""
        return False

    @property
    def should_save(self) -> bool:
        """Whether this process saves; there is only one."""
        return True

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of warm-up.

        Args:
            num_training_steps: steps of the whole training, of which `warmup_ratio` is a share.
        """
        return self.warmup_steps if self.warmup_steps > 0 else math.ceil(num_training_steps * self.warmup_ratio)

    def to_dict(self) -> dict[str, Any]:
        """The arguments by name; tokens are not told."""
        return {
            name: f"<{name.upper()}>" if name.endswith("_token") and value else value
            for name, value in asdict(self).items()
        }

    def to_sanitized_dict(self) -> dict[str, Any]:
        """The arguments as numbers and text, for TensorBoard; with the sizes of batches."""
        sizes = {"train_batch_size": self.train_batch_size, "eval_batch_size": self.eval_batch_size}
        simple = (bool, int, float, str)
        return {name: v if isinstance(v, simple) else str(v) for name, v in {**self.to_dict(), **sizes}.items()}

    def to_json_string(self) -> str:
        """The arguments as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def __repr__(self) -> str:
        values = self.to_dict()
        return f"{type(self).__name__}({', '.join(f'{each.name}={values[each.name]!r}' for each in fields(self))})"
