"""The notebook that many Keras users start from: Keras' image layers, two callbacks, then inference."""

import sys

import keras
import numpy as np
import tensorflow as tf
from datasets import load_dataset
from keras import layers

from vit_tf import (
    AutoImageProcessor,
    DefaultDataCollator,
    KerasMetricCallback,
    PushToHubCallback,
    TFAutoModelForImageClassification,
    create_optimizer,
)

checkpoint, folder, output, hub_token = sys.argv[1:]

food = load_dataset("imagefolder", data_files={"train": f"{folder}/**"})["train"].train_test_split(test_size=0.25)
labels = food["train"].features["label"].names
label2id, id2label = {}, {}
for i, label in enumerate(labels):
    label2id[label] = str(i)
    id2label[str(i)] = label

image_processor = AutoImageProcessor.from_pretrained(checkpoint)
size = (image_processor.size["height"], image_processor.size["width"])
train_data_augmentation = keras.Sequential(
    [
        layers.RandomCrop(size[0], size[1]),
        layers.Rescaling(scale=1.0 / 127.5, offset=-1),
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(factor=0.02),
        layers.RandomZoom(height_factor=0.2, width_factor=0.2),
    ],
    name="train_data_augmentation",
)
val_data_augmentation = keras.Sequential(
    [layers.CenterCrop(size[0], size[1]), layers.Rescaling(scale=1.0 / 127.5, offset=-1)], name="val_data_augmentation"
)


def convert_to_tf_tensor(image):
    return tf.expand_dims(tf.convert_to_tensor(np.array(image)), 0)  # these layers take batches


def preprocess_train(example_batch):
    images = [train_data_augmentation(convert_to_tf_tensor(image.convert("RGB"))) for image in example_batch["image"]]
    example_batch["pixel_values"] = [tf.transpose(tf.squeeze(image)) for image in images]
    return example_batch


def preprocess_val(example_batch):
    images = [val_data_augmentation(convert_to_tf_tensor(image.convert("RGB"))) for image in example_batch["image"]]
    example_batch["pixel_values"] = [tf.transpose(tf.squeeze(image)) for image in images]
    return example_batch


food["train"].set_transform(preprocess_train)
food["test"].set_transform(preprocess_val)
data_collator = DefaultDataCollator(return_tensors="tf")

batch_size, num_epochs = 4, 6
num_train_steps = len(food["train"]) * num_epochs
optimizer, lr_schedule = create_optimizer(
    init_lr=3e-3, num_train_steps=num_train_steps, weight_decay_rate=0.01, num_warmup_steps=0
)
model = TFAutoModelForImageClassification.from_pretrained(
    checkpoint, id2label=id2label, label2id=label2id, ignore_mismatched_sizes=True
)
tf_train_dataset = food["train"].to_tf_dataset(
    columns="pixel_values", label_cols="label", shuffle=True, batch_size=batch_size, collate_fn=data_collator
)
tf_eval_dataset = food["test"].to_tf_dataset(
    columns="pixel_values", label_cols="label", shuffle=False, batch_size=batch_size, collate_fn=data_collator
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer=optimizer, loss=loss)


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    return {"accuracy": float((np.argmax(predictions, axis=1) == labels).mean())}


metric_callback = KerasMetricCallback(metric_fn=compute_metrics, eval_dataset=tf_eval_dataset)
push_to_hub_callback = PushToHubCallback(
    output_dir=output, tokenizer=image_processor, save_strategy="no", hub_model_id="me/food", hub_token=hub_token
)
history = model.fit(
    tf_train_dataset,
    validation_data=tf_eval_dataset,
    epochs=num_epochs,
    callbacks=[metric_callback, push_to_hub_callback],
    verbose=0,
)

# Inference, with what was pushed
image = food["test"]["image"][0]
image_processor = AutoImageProcessor.from_pretrained("me/food", cache_dir=f"{output}-cache")
inputs = image_processor(image, return_tensors="tf")
model = TFAutoModelForImageClassification.from_pretrained("me/food", cache_dir=f"{output}-cache")
logits = model(**inputs).logits
predicted_class_id = int(tf.math.argmax(logits, axis=-1)[0])
answer, right_answer = model.config.id2label[predicted_class_id], labels[food["test"]["label"][0]]
