"""A plain Vision Transformer that merges tokens, in NumPy and one image at a time, after the paper's words.

Bolya et al. 2022, https://arxiv.org/abs/2210.09461, section 3. Tokens are a list; each knows its patches, and attention
weighs it by their number.
"""

import math

import numpy as np

erf = np.vectorize(math.erf)


def norm(x, weights, name, epsilon):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def mergers(keys, count, before):
    """Which token is merged into which, by their places."""
    keys = [key / np.linalg.norm(key) for key in keys]
    even = [place for place in range(before, len(keys)) if place % 2 == 0]
    odd = [place for place in range(before, len(keys)) if place % 2 == 1]
    best = {place: max(odd, key=lambda other: keys[place] @ keys[other]) for place in even}  # the first of equal ones
    likest = sorted(even, key=lambda place: -(keys[place] @ keys[best[place]]))  # sorted keeps the order of equal ones
    return {place: best[place] for place in likest[: min(count, (len(keys) - before) // 2)]}


def merged(tokens, groups, found, before):
    """The tokens and the patches of each once some were merged: those at even places stand before those at odd ones."""
    tokens, groups = list(tokens), list(groups)
    for place, into in found.items():
        mine, theirs = len(groups[place]), len(groups[into])
        tokens[into] = (tokens[into] * theirs + tokens[place] * mine) / (theirs + mine)
        groups[into] = groups[into] + groups[place]
    order = [*range(before), *(place for odd in (0, 1) for place in range(before, len(tokens)) if place % 2 == odd)]
    left = [place for place in order if place not in found]
    return np.stack([tokens[place] for place in left]), [groups[place] for place in left]


def hidden_states(weights, config, embedded, counts):
    """The tokens of one image after each layer; those that were merged are equal.

    Args:
        weights: by canonical name, without what stands before "encoder".
        config: the model's.
        embedded: (tokens, hidden).
        counts: how many tokens each layer merges.
    """
    before, heads = config.architecture.num_prefix_tokens, config.num_attention_heads
    x, groups, found = embedded.astype("float64"), [[place] for place in range(len(embedded))], []
    for number, count in enumerate(counts):
        layer = f"encoder.layer.{number}"
        read = norm(x, weights, f"{layer}.layernorm_before", config.layer_norm_eps)
        query, key, value = (
            linear(read, weights, f"{layer}.attention.attention.{name}").reshape(len(x), heads, -1).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        sizes = np.array([len(group) for group in groups])
        exponentials = np.exp(query @ key.swapaxes(1, 2) / math.sqrt(key.shape[-1])) * sizes
        probabilities = exponentials / exponentials.sum(-1, keepdims=True)
        attended = (probabilities @ value).swapaxes(0, 1).reshape(len(x), -1)
        x = x + linear(attended, weights, f"{layer}.attention.output.dense")
        x, groups = merged(x, groups, mergers(key.mean(0), count, before), before)
        read = norm(x, weights, f"{layer}.layernorm_after", config.layer_norm_eps)
        mlp = linear(read, weights, f"{layer}.intermediate.dense")
        mlp = mlp * (1 + erf(mlp / math.sqrt(2))) / 2
        x = x + linear(mlp, weights, f"{layer}.output.dense")
        of_patches = np.empty_like(embedded, "float64")
        for token, group in zip(x, groups, strict=True):
            of_patches[group] = token
        found.append(of_patches)
    return found
