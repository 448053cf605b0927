"""The files that a checkpoint is made of; nobody writes their names a second time."""

CONFIG_NAME = "config.json"
PROCESSOR_NAME = "preprocessor_config.json"
MODEL_CARD_NAME = "README.md"
WEIGHTS_NAME = "model.safetensors"
INDEX_SUFFIX = ".index.json"  # of the file that says which shard holds which tensor

#: What transformers 4 wrote instead of safetensors, in PyTorch, TensorFlow and Flax, and what KerasHub writes.
PYTORCH_NAME, TENSORFLOW_NAME, FLAX_NAME = "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"
KERAS_NAME = "model.weights.h5"
#: Names of weights that a folder or a repository may have, the likeliest first.
USUAL_NAMES = (WEIGHTS_NAME, PYTORCH_NAME, TENSORFLOW_NAME, FLAX_NAME, KERAS_NAME)

#: What a checkpoint has beside its weights.
OTHER_FILES = (CONFIG_NAME, PROCESSOR_NAME, MODEL_CARD_NAME)
