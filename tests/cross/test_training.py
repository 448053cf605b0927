"""Training from the same weights on the same batches takes the same way in every framework."""

import numpy as np
import pytest
import torch

LEARNING_RATE, WEIGHT_DECAY, BETAS, STEPS = 1e-3, 0.1, (0.9, 0.98), 3

# Adam divides a gradient by its own size. The key biases have no gradient but rounding, because softmax does not change
# when the same is added to all scores; with the usual 1e-8, that rounding would become whole steps of the learning rate
# in random directions. They change no output, so nothing is lost with an epsilon that is far above rounding.
EPSILON = 1e-4


OPTIONS = {"weight_decay": WEIGHT_DECAY}


def adamw_in_torch(model):
    return torch.optim.AdamW(model.parameters(), LEARNING_RATE, BETAS, EPSILON, **OPTIONS)


def adamw_in_keras():
    """AdamW with epsilon in torch's place.

    Of first and second moment m and v at step t, torch makes the step

        lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)

    (https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html), and Keras

        lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)

    ("epsilon hat" in Kingma and Ba 2014, https://arxiv.org/abs/1412.6980, section 2). They are the same if Keras'
    epsilon is torch's times sqrt(1 - b2^t). Weight decay is the same as it is: before the step, both take
    lr * weight_decay of every variable that has a gradient.
    """
    import keras

    class AdamWOfTorch(keras.optimizers.AdamW):
        @property
        def epsilon(self):
            return self._epsilon * keras.ops.sqrt(1 - self.beta_2 ** keras.ops.cast(self.iterations + 1, "float32"))

        @epsilon.setter
        def epsilon(self, value):
            self._epsilon = value

    return AdamWOfTorch(LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON, **OPTIONS)


def adamw_in_optax():
    """optax has epsilon where torch has it, and takes lr * weight_decay of every parameter, too.

    Its step is lr * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + weight_decay * parameter)
    (https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.adamw).
    """
    import optax

    return optax.adamw(LEARNING_RATE, *BETAS, EPSILON, **OPTIONS)


def batches(architecture):
    random = np.random.default_rng(5)
    for _ in range(STEPS):
        pixel_values = random.standard_normal((4, 3, 32, 32)).astype("float32")
        if architecture == "ViTForImageClassification":
            yield {"pixel_values": pixel_values, "labels": random.integers(0, 5, 4)}
        else:
            yield {"pixel_values": pixel_values, "bool_masked_pos": random.integers(0, 2, (4, 16))}


def train_torch(model, architecture):
    optimizer, losses = adamw_in_torch(model), []
    for batch in batches(architecture):
        loss = model(**{name: torch.from_numpy(value) for name, value in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_keras_in_a_loop(model, architecture):
    import tensorflow as tf

    optimizer, losses = adamw_in_keras(), []
    for batch in batches(architecture):
        with tf.GradientTape() as tape:
            loss = model(batch, training=True).loss
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        losses.append(float(loss))
    return losses


def train_keras_on_batches(model, architecture):
    model.compile(optimizer=adamw_in_keras())
    losses = []
    for batch in batches(architecture):
        model.reset_metrics()  # or it is the mean over all batches
        losses.append(model.train_on_batch(batch))
    return losses


def train_flax(model, architecture):
    import jax
    from flax.training.train_state import TrainState

    @jax.jit
    def step(state, batch):
        loss, gradients = jax.value_and_grad(lambda params: state.apply_fn(**batch, params=params, train=True).loss)(
            state.params
        )
        return state.apply_gradients(grads=gradients), loss

    state, losses = TrainState.create(apply_fn=model.__call__, params=model.params, tx=adamw_in_optax()), []
    for batch in batches(architecture):
        state, loss = step(state, batch)
        losses.append(float(loss))
    model.params = state.params
    return losses


@pytest.mark.parametrize(
    ("framework", "train", "architecture"),
    [
        ("keras", train_keras_in_a_loop, "ViTForImageClassification"),
        ("keras", train_keras_on_batches, "ViTForMaskedImageModeling"),
        ("flax", train_flax, "ViTForMaskedImageModeling"),
        ("flax_scanned", train_flax, "ViTForImageClassification"),
    ],
    indirect=["framework"],
)
def test_three_steps_of_adamw_lead_to_the_same_losses_and_weights(twins, tiny_config, architecture, train):
    tiny_config.initializer_range = 0.15
    pair = twins(architecture, tiny_config)
    before = {name: weight.copy() for name, weight in pair.torch.weights().items()}
    losses = train_torch(pair.torch.model, architecture)
    np.testing.assert_allclose(train(pair.other.model, architecture), losses, atol=1e-5, rtol=0)
    after = pair.other.weights()
    for name, weight in pair.torch.weights().items():
        np.testing.assert_allclose(after[name], weight, atol=1e-5, rtol=0, err_msg=name)
        assert np.abs(weight - before[name]).max() > 5e-5, name
