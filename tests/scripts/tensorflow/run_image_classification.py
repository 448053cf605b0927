"""Fine-tune a Vision Transformer on a folder of pictures in Keras, in the shape of transformers' own example."""

import json
import logging
import os
import sys
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from datasets import load_dataset
from PIL import Image
from transformers import HfArgumentParser

from vit_tf import (
    AutoConfig,
    AutoImageProcessor,
    DefaultDataCollator,
    KerasMetricCallback,
    PushToHubCallback,
    TFAutoModelForImageClassification,
    TFTrainingArguments,
    create_optimizer,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class DataTrainingArguments:
    train_dir: str | None = field(default=None, metadata={"help": "A folder with a folder of pictures for each class."})
    validation_dir: str | None = field(default=None, metadata={"help": "The same, for evaluation."})
    train_val_split: float | None = field(default=0.25, metadata={"help": "What is split off without such a folder."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use no more pictures than this."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate no more pictures than this."})


@dataclass
class ModelArguments:
    model_name_or_path: str = field(default="google/vit-base-patch16-224-in21k")
    config_name: str | None = field(default=None)
    cache_dir: str | None = field(default=None)
    model_revision: str = field(default="main")
    image_processor_name: str | None = field(default=None)
    token: str | None = field(default=None)
    trust_remote_code: bool = field(default=False)
    ignore_mismatched_sizes: bool = field(default=False)


def crop_and_flip(image, size, generator):
    """A random part of a picture, perhaps mirrored, in the wanted size."""
    width, height = image.size
    side = int(min(width, height) * generator.uniform(0.8, 1.0))
    left, top = generator.integers(0, width - side + 1), generator.integers(0, height - side + 1)
    image = image.crop((left, top, left + side, top + side)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else image


def main():
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TFTrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(json_file=os.path.abspath(sys.argv[1]))
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()

    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        sys.exit("There is nothing to do: pass --do_train, --do_eval or --do_predict.")
    logging.basicConfig(level=logging.INFO, handlers=[logging.StreamHandler(sys.stdout)])
    logger.info("Training parameters %s", training_args)
    is_filled = os.path.isdir(training_args.output_dir) and len(os.listdir(training_args.output_dir)) > 0
    if is_filled and training_args.do_train and not training_args.overwrite_output_dir:
        sys.exit(f"{training_args.output_dir} is not empty; pass --overwrite_output_dir.")
    set_seed(training_args.seed)

    # The pictures
    data_files = {}
    if data_args.train_dir is not None:
        data_files["train"] = os.path.join(data_args.train_dir, "**")
    if data_args.validation_dir is not None:
        data_files["validation"] = os.path.join(data_args.validation_dir, "**")
    dataset = load_dataset("imagefolder", data_files=data_files, cache_dir=model_args.cache_dir)
    if "validation" not in dataset:
        split = dataset["train"].train_test_split(data_args.train_val_split)
        dataset["train"], dataset["validation"] = split["train"], split["test"]
    dataset = {name: part.rename_column("label", "labels") for name, part in dataset.items()}
    labels = dataset["train"].features["labels"].names
    label2id, id2label = {}, {}
    for i, label in enumerate(labels):
        label2id[label] = str(i)
        id2label[str(i)] = label

    # The config and the image processor
    config = AutoConfig.from_pretrained(
        model_args.config_name or model_args.model_name_or_path,
        num_labels=len(labels),
        label2id=label2id,
        id2label=id2label,
        finetuning_task="image-classification",
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    image_processor = AutoImageProcessor.from_pretrained(
        model_args.image_processor_name or model_args.model_name_or_path,
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    if "shortest_edge" in image_processor.size:
        image_size = (image_processor.size["shortest_edge"],) * 2
    else:
        image_size = (image_processor.size["height"], image_processor.size["width"])
    generator = np.random.default_rng(training_args.seed)

    def preprocess_train(example_batch):
        images = [crop_and_flip(image.convert("RGB"), image_size, generator) for image in example_batch["image"]]
        example_batch["pixel_values"] = list(image_processor(images, do_resize=False, return_tensors="np").pixel_values)
        return example_batch

    def preprocess_eval(example_batch):
        images = [image.convert("RGB") for image in example_batch["image"]]
        example_batch["pixel_values"] = list(image_processor(images, return_tensors="np").pixel_values)
        return example_batch

    train_dataset = eval_dataset = None
    if training_args.do_train:
        train_dataset = dataset["train"].shuffle(seed=training_args.seed)
        if data_args.max_train_samples is not None:
            train_dataset = train_dataset.select(range(data_args.max_train_samples))
        train_dataset.set_transform(preprocess_train)  # new crops in each epoch
    if training_args.do_eval:
        eval_dataset = dataset["validation"]
        if data_args.max_eval_samples is not None:
            eval_dataset = eval_dataset.select(range(data_args.max_eval_samples))
        eval_dataset = eval_dataset.map(preprocess_eval, batched=True, remove_columns=["image"])
    collate_fn = DefaultDataCollator(return_tensors="np")

    def compute_metrics(p):
        logits, label_ids = p
        return {"accuracy": float((np.argmax(logits, axis=-1) == np.asarray(label_ids)).mean())}

    with training_args.strategy.scope():
        model = TFAutoModelForImageClassification.from_pretrained(
            model_args.model_name_or_path,
            config=config,
            from_pt=bool(".bin" in model_args.model_name_or_path),
            cache_dir=model_args.cache_dir,
            revision=model_args.model_revision,
            token=model_args.token,
            trust_remote_code=model_args.trust_remote_code,
            ignore_mismatched_sizes=model_args.ignore_mismatched_sizes,
        )
        num_replicas = training_args.strategy.num_replicas_in_sync
        total_train_batch_size = training_args.per_device_train_batch_size * num_replicas
        total_eval_batch_size = training_args.per_device_eval_batch_size * num_replicas
        dataset_options = tf.data.Options()
        dataset_options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF

        if training_args.do_train:
            num_train_steps = int(training_args.num_train_epochs * len(train_dataset))
            if training_args.warmup_steps > 0:
                num_warmup_steps = int(training_args.warmup_steps)
            elif training_args.warmup_ratio > 0:
                num_warmup_steps = int(training_args.warmup_ratio * num_train_steps)
            else:
                num_warmup_steps = 0
            optimizer, _ = create_optimizer(
                init_lr=training_args.learning_rate,
                num_train_steps=num_train_steps,
                num_warmup_steps=num_warmup_steps,
                adam_beta1=training_args.adam_beta1,
                adam_beta2=training_args.adam_beta2,
                adam_epsilon=training_args.adam_epsilon,
                weight_decay_rate=training_args.weight_decay,
                adam_global_clipnorm=training_args.max_grad_norm,
            )
            train_dataset = model.prepare_tf_dataset(
                train_dataset, shuffle=True, batch_size=total_train_batch_size, collate_fn=collate_fn
            ).with_options(dataset_options)
        else:
            optimizer = "sgd"  # only so that there is something to compile with
        if training_args.do_eval:
            eval_dataset = model.prepare_tf_dataset(
                eval_dataset, shuffle=False, batch_size=total_eval_batch_size, collate_fn=collate_fn
            ).with_options(dataset_options)

        # No loss: the model has its own
        model.compile(optimizer=optimizer, jit_compile=training_args.xla, metrics=["accuracy"])

        push_to_hub_model_id = training_args.push_to_hub_model_id
        if not push_to_hub_model_id:
            push_to_hub_model_id = f"{model_args.model_name_or_path.split('/')[-1]}-finetuned-image-classification"
        model_card_kwargs = {
            "finetuned_from": model_args.model_name_or_path,
            "tasks": "image-classification",
            "dataset": data_args.train_dir,
            "tags": ["image-classification", "tensorflow", "vision"],
        }
        callbacks = []
        if eval_dataset is not None:
            callbacks.append(KerasMetricCallback(metric_fn=compute_metrics, eval_dataset=eval_dataset))
        if training_args.push_to_hub:
            callbacks.append(
                PushToHubCallback(
                    output_dir=training_args.output_dir,
                    hub_model_id=push_to_hub_model_id,
                    hub_token=training_args.push_to_hub_token,
                    tokenizer=image_processor,
                    **model_card_kwargs,
                )
            )

        if training_args.do_train:
            history = model.fit(
                train_dataset,
                validation_data=eval_dataset,
                epochs=int(training_args.num_train_epochs),
                callbacks=callbacks,
                verbose=2,
            )
        if training_args.do_eval:
            n_eval_batches = len(eval_dataset)
            eval_predictions = model.predict(eval_dataset, steps=n_eval_batches)
            eval_labels = dataset["validation"]["labels"][: n_eval_batches * total_eval_batch_size]
            eval_metrics = compute_metrics((eval_predictions.logits, eval_labels))
            logger.info("Evaluation: %s", eval_metrics)

    if training_args.output_dir is not None:
        os.makedirs(training_args.output_dir, exist_ok=True)
        results = {}
        if training_args.do_train:
            results["history"] = {name: [float(value) for value in values] for name, values in history.history.items()}
        if training_args.do_eval:
            results["eval_accuracy"] = eval_metrics["accuracy"]
        with open(os.path.join(training_args.output_dir, "all_results.json"), "w") as file:
            json.dump(results, file)
        if not training_args.push_to_hub:
            model.save_pretrained(training_args.output_dir)


if __name__ == "__main__":
    main()
