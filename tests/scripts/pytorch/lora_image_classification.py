"""Fine-tune low-rank adapters with PEFT and Trainer, in the shape of PEFT's notebook on image classification."""

import json
import sys

import numpy as np
import torch
from datasets import load_dataset
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import TrainingArguments, set_seed

from vit_torch import AutoImageProcessor, AutoModelForImageClassification
from vit_torch.trainer import Trainer

model_checkpoint, train_dir, output_dir, cache_dir = sys.argv[1:]
set_seed(0)

dataset = load_dataset("imagefolder", data_dir=train_dir, cache_dir=cache_dir)["train"]
labels = dataset.features["label"].names
label2id, id2label = {}, {}
for i, label in enumerate(labels):
    label2id[label] = i
    id2label[i] = label

image_processor = AutoImageProcessor.from_pretrained(model_checkpoint)


def preprocess(example_batch):
    images = [image.convert("RGB") for image in example_batch["image"]]
    example_batch["pixel_values"] = list(image_processor(images, return_tensors="pt")["pixel_values"])
    return example_batch


splits = dataset.train_test_split(test_size=0.25, seed=0)
train_ds, val_ds = splits["train"], splits["test"]
train_ds.set_transform(preprocess)
val_ds.set_transform(preprocess)


def print_trainable_parameters(model):
    trainable_params, all_param = 0, 0
    for _, param in model.named_parameters():
        all_param += param.numel()
        if param.requires_grad:
            trainable_params += param.numel()
    print(f"trainable: {trainable_params} of {all_param}")


def pretrained():
    return AutoModelForImageClassification.from_pretrained(
        model_checkpoint,
        label2id=label2id,
        id2label=id2label,
        ignore_mismatched_sizes=True,  # the classifier of a checkpoint for other classes
    )


model = pretrained()
print_trainable_parameters(model)
config = LoraConfig(
    r=4,
    lora_alpha=8,
    target_modules=["query", "value"],
    lora_dropout=0.1,
    bias="none",
    modules_to_save=["classifier"],
)
lora_model = get_peft_model(model, config)
lora_model.print_trainable_parameters()


def compute_metrics(eval_pred):
    predictions = np.argmax(eval_pred.predictions, axis=1)
    return {"accuracy": float((predictions == eval_pred.label_ids).mean())}


def collate_fn(examples):
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["label"] for example in examples])
    return {"pixel_values": pixel_values, "labels": labels}


args = TrainingArguments(
    f"{output_dir}/run",
    remove_unused_columns=False,
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=1e-1,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    per_device_eval_batch_size=4,
    num_train_epochs=3,
    logging_steps=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    label_names=["labels"],
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(
    lora_model,
    args,
    train_dataset=train_ds,
    eval_dataset=val_ds,
    processing_class=image_processor,
    compute_metrics=compute_metrics,
    data_collator=collate_fn,
)
train_results = trainer.train()
metrics = trainer.evaluate(val_ds)

lora_model.save_pretrained(f"{output_dir}/adapter")

torch.manual_seed(1)  # the classifier starts elsewhere, and the adapter brings the trained one
config = PeftConfig.from_pretrained(f"{output_dir}/adapter")
inference_model = PeftModel.from_pretrained(pretrained(), f"{output_dir}/adapter").eval()

batch = collate_fn([val_ds[i] for i in range(len(val_ds))])
with torch.no_grad():
    expected = lora_model.eval()(batch["pixel_values"]).logits
    loaded = inference_model(pixel_values=batch["pixel_values"]).logits
    merged_model = inference_model.merge_and_unload()
    merged_model.save_pretrained(f"{output_dir}/merged")
    merged = AutoModelForImageClassification.from_pretrained(f"{output_dir}/merged")(batch["pixel_values"]).logits

results = {
    "train_loss": train_results.training_loss,
    "eval_accuracy": metrics["eval_accuracy"],
    "eval_loss": metrics["eval_loss"],
    "loaded_difference": (loaded - expected).abs().max().item(),
    "merged_difference": (merged - expected).abs().max().item(),
    "spread": expected.std().item(),
}
with open(f"{output_dir}/all_results.json", "w") as f:
    json.dump(results, f)
