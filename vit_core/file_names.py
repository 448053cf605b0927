"""The files that a checkpoint is made of; nobody writes their names a second time."""

CONFIG_NAME = "config.json"
PROCESSOR_NAME = "preprocessor_config.json"
MODEL_CARD_NAME = "README.md"
WEIGHTS_NAME = "model.safetensors"
INDEX_SUFFIX = ".index.json"  # of the file that says which shard holds which tensor

#: Patterns of the weights: one file or shards with an index, never some of both.
WEIGHT_FILES = (WEIGHTS_NAME, f"{WEIGHTS_NAME}{INDEX_SUFFIX}", "model-*-of-*.safetensors")
CHECKPOINT_FILES = (CONFIG_NAME, PROCESSOR_NAME, MODEL_CARD_NAME, *WEIGHT_FILES)
