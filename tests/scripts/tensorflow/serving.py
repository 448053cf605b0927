"""Export for TF Serving: the model alone, and with a signature that takes encoded pictures and returns their labels."""

import os
import sys

import tensorflow as tf

from vit_tf import TFViTForImageClassification, ViTImageProcessor

checkpoint, output = sys.argv[1:]

model = TFViTForImageClassification.from_pretrained(checkpoint, from_pt=True)
processor = ViTImageProcessor.from_pretrained(checkpoint)
CONCRETE_INPUT = "pixel_values"
SIZE = processor.size["height"]

# The model as it is, in the folder that TF Serving looks into
model.save_pretrained(f"{output}/plain", saved_model=True)


def normalize_img(img, mean=processor.image_mean, std=processor.image_std):
    return (img / 255 - tf.constant(mean)) / tf.constant(std)


def preprocess(string_input):
    decoded = tf.io.decode_jpeg(tf.io.decode_base64(string_input), channels=3)
    resized = tf.image.resize(decoded, size=(SIZE, SIZE))
    return tf.transpose(normalize_img(resized), (2, 0, 1))  # the model takes the channels first


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def preprocess_fn(string_input):
    decoded_images = tf.map_fn(preprocess, string_input, fn_output_signature=tf.float32)
    return {CONCRETE_INPUT: decoded_images}


def model_exporter(model):
    m_call = tf.function(model.call).get_concrete_function(
        tf.TensorSpec(shape=[None, 3, SIZE, SIZE], dtype=tf.float32, name=CONCRETE_INPUT)
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serving_fn(string_input):
        labels = tf.constant(list(model.config.id2label.values()), dtype=tf.string)
        predictions = m_call(**preprocess_fn(string_input))
        indices = tf.argmax(predictions.logits, axis=1)
        probabilities = tf.nn.softmax(predictions.logits, axis=1)
        return {"label": tf.gather(labels, indices), "confidence": tf.reduce_max(probabilities, axis=1)}

    return serving_fn


version = 1
tf.saved_model.save(
    model,
    os.path.join(output, "with_labels", str(version)),
    signatures={"serving_default": model_exporter(model)},
)
