"""Fine-tunes an image classifier on a folder of pictures, on every device of this machine, as transformers' own Flax
example does. The import lines are all that changed.
"""

import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils, traverse_util
from flax.jax_utils import unreplicate
from flax.training import train_state
from flax.training.common_utils import get_metrics, onehot, shard, shard_prng_key
from PIL import Image
from transformers import HfArgumentParser

from vit_flax import (
    FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    FlaxAutoModelForImageClassification,
)

MODEL_CONFIG_CLASSES = list(FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.keys())
MODEL_TYPES = tuple(conf.model_type for conf in MODEL_CONFIG_CLASSES)


@dataclass
class TrainingArguments:
    output_dir: str
    do_train: bool = False
    do_eval: bool = False
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    num_train_epochs: float = 3.0
    warmup_steps: int = 0
    seed: int = 42


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": f"One of {', '.join(MODEL_TYPES)}"})
    config_name: str | None = None
    cache_dir: str | None = None
    dtype: str | None = "float32"
    token: str | None = None
    trust_remote_code: bool = False


@dataclass
class DataTrainingArguments:
    train_dir: str
    validation_dir: str
    image_size: int | None = 32


class TrainState(train_state.TrainState):
    dropout_rng: jnp.ndarray

    def replicate(self):
        return jax_utils.replicate(self).replace(dropout_rng=shard_prng_key(self.dropout_rng))


class PictureFolder:
    """A folder with a folder of pictures for each class."""

    def __init__(self, root, processor):
        self.classes = sorted(each.name for each in Path(root).iterdir() if each.is_dir())
        self.samples = [
            (file, at) for at, name in enumerate(self.classes) for file in sorted(Path(root, name).iterdir())
        ]
        self.processor = processor

    def __len__(self):
        return len(self.samples)

    def batches(self, size, rng=None):
        """Batches of one size, mixed if there is something to mix them with; what is left over is dropped."""
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        for start in range(0, len(self) - size + 1, size):
            chosen = [self.samples[at] for at in order[start : start + size]]
            pictures = [np.asarray(Image.open(file).convert("RGB")) for file, _ in chosen]
            if rng is not None:
                pictures = [picture[:, ::-1] if rng.random() < 0.5 else picture for picture in pictures]
            batch = self.processor(pictures, return_tensors="np")
            batch["labels"] = np.array([label for _, label in chosen])
            yield dict(batch)


def write_metric(summary, train_metrics, eval_metrics, train_time, step):
    summary["train_time"] = train_time
    for key, values in get_metrics(train_metrics).items():
        summary.setdefault(f"train_{key}", []).extend(np.asarray(values).tolist())
    for name, value in eval_metrics.items():
        summary[f"eval_{name}"] = float(value)
    summary["step"] = step


def create_learning_rate_fn(train_ds_size, train_batch_size, num_train_epochs, num_warmup_steps, learning_rate):
    """A learning rate that rises linearly and falls linearly."""
    num_train_steps = train_ds_size // train_batch_size * num_train_epochs
    warmup_fn = optax.linear_schedule(init_value=0.0, end_value=learning_rate, transition_steps=num_warmup_steps)
    decay_fn = optax.linear_schedule(
        init_value=learning_rate, end_value=0, transition_steps=num_train_steps - num_warmup_steps
    )
    return optax.join_schedules(schedules=[warmup_fn, decay_fn], boundaries=[num_warmup_steps])


def decay_mask_fn(params):
    """Weight decay for everything but biases and the scales of norms."""
    flat_params = traverse_util.flatten_dict(params)
    names = ("layernorm", "layer_norm", "ln")
    norms = {path[-2:] for name in names for path in flat_params if name in "".join(path).lower()}
    return traverse_util.unflatten_dict({path: path[-1] != "bias" and path[-2:] not in norms for path in flat_params})


def main():
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()

    processor = AutoImageProcessor.from_pretrained(model_args.model_name_or_path, cache_dir=model_args.cache_dir)
    train_dataset = PictureFolder(data_args.train_dir, processor)
    eval_dataset = PictureFolder(data_args.validation_dir, processor)
    if train_dataset.classes != eval_dataset.classes:
        raise ValueError("The folders of training and validation have other classes.")

    config = AutoConfig.from_pretrained(
        model_args.config_name or model_args.model_name_or_path,
        num_labels=len(train_dataset.classes),
        image_size=data_args.image_size,
        cache_dir=model_args.cache_dir,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    config.id2label = dict(enumerate(train_dataset.classes))
    config.label2id = {name: at for at, name in config.id2label.items()}
    model = FlaxAutoModelForImageClassification.from_pretrained(
        model_args.model_name_or_path,
        config=config,
        cache_dir=model_args.cache_dir,
        seed=training_args.seed,
        dtype=getattr(jnp, model_args.dtype),
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )

    num_epochs = int(training_args.num_train_epochs)
    train_batch_size = int(training_args.per_device_train_batch_size) * jax.device_count()
    eval_batch_size = int(training_args.per_device_eval_batch_size) * jax.device_count()
    steps_per_epoch = len(train_dataset) // train_batch_size
    mixing = np.random.default_rng(training_args.seed)
    rng = jax.random.PRNGKey(training_args.seed)
    rng, dropout_rng = jax.random.split(rng)

    linear_decay_lr_schedule_fn = create_learning_rate_fn(
        len(train_dataset), train_batch_size, num_epochs, training_args.warmup_steps, training_args.learning_rate
    )
    adamw = optax.adamw(
        learning_rate=linear_decay_lr_schedule_fn,
        b1=training_args.adam_beta1,
        b2=training_args.adam_beta2,
        eps=training_args.adam_epsilon,
        weight_decay=training_args.weight_decay,
        mask=decay_mask_fn,
    )
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=adamw, dropout_rng=dropout_rng)

    def loss_fn(logits, labels):
        return optax.softmax_cross_entropy(logits, onehot(labels, logits.shape[-1])).mean()

    def train_step(state, batch):
        dropout_rng, new_dropout_rng = jax.random.split(state.dropout_rng)

        def compute_loss(params):
            labels = batch.pop("labels")
            logits = state.apply_fn(**batch, params=params, dropout_rng=dropout_rng, train=True)[0]
            return loss_fn(logits, labels)

        loss, grad = jax.value_and_grad(compute_loss)(state.params)
        grad = jax.lax.pmean(grad, "batch")
        new_state = state.apply_gradients(grads=grad, dropout_rng=new_dropout_rng)
        metrics = {"loss": loss, "learning_rate": linear_decay_lr_schedule_fn(state.step)}
        return new_state, jax.lax.pmean(metrics, axis_name="batch")

    def eval_step(params, batch):
        labels = batch.pop("labels")
        logits = model(**batch, params=params, train=False)[0]
        metrics = {"loss": loss_fn(logits, labels), "accuracy": (jnp.argmax(logits, axis=-1) == labels).mean()}
        return jax.lax.pmean(metrics, axis_name="batch")

    p_train_step = jax.pmap(train_step, "batch", donate_argnums=(0,))
    p_eval_step = jax.pmap(partial(eval_step), "batch")
    state = state.replicate()

    summary, train_time = {}, 0
    for epoch in range(num_epochs):
        train_start, train_metrics = time.time(), []
        for batch in train_dataset.batches(train_batch_size, mixing):
            state, train_metric = p_train_step(state, shard(batch))
            train_metrics.append(train_metric)
        train_time += time.time() - train_start
        train_metric = unreplicate(train_metric)
        print(f"Epoch {epoch + 1}/{num_epochs}, loss {train_metric['loss']}, rate {train_metric['learning_rate']}")

        eval_metrics = []
        for batch in eval_dataset.batches(eval_batch_size):
            metrics = p_eval_step(state.params, shard(batch))
            eval_metrics.append(metrics)
        eval_metrics = jax.tree_util.tree_map(jnp.mean, get_metrics(eval_metrics))
        write_metric(summary, train_metrics, eval_metrics, train_time, (epoch + 1) * steps_per_epoch)

        if jax.process_index() == 0:  # after each epoch
            params = jax.device_get(jax.tree_util.tree_map(lambda x: x[0], state.params))
            model.save_pretrained(training_args.output_dir, params=params)
    processor.save_pretrained(training_args.output_dir)
    (Path(training_args.output_dir) / "all_results.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
