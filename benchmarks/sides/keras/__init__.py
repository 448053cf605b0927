"""Models in Keras on TensorFlow, and what TensorFlow's matrix products can do."""
