"""The kinds of features that a model has, and what to call them; the command's help needs no more than this."""

KINDS = {
    "class": "class tokens",
    "mean": "means of the patches",
    "patches": "patches",
    "pooled": "pooled features",
}
