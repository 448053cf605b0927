"""`PushToHubCallback` in `fit`, with a Hub on this machine."""

import json
import threading

import keras
import numpy as np
import pytest
from hub_server import TOKEN
from huggingface_hub import ModelCard

import vit_tf.hub_callback
from vit_tf import AutoImageProcessor, PushToHubCallback, TFViTForImageClassification, ViTImageProcessor

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # the Hub's client, of its own way
    # Keras itself, when it writes variables.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

IMAGES = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2])


@pytest.fixture
def model(one_layer):
    model = TFViTForImageClassification(one_layer)
    model.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"])
    return model


def fit(model, *callbacks, **options):
    return model.fit(IMAGES, LABELS, batch_size=4, verbose=0, callbacks=list(callbacks), **options).history


@pytest.fixture
def messages(monkeypatch):
    """The message of each commit; each push is waited for, so that none is left out."""
    found, push = [], vit_tf.hub_callback.push_to_hub

    def noted(folder, repo_id, *, commit_message, token):
        found.append(commit_message)
        return push(folder, repo_id, commit_message=commit_message, token=token)

    monkeypatch.setattr(vit_tf.hub_callback, "push_to_hub", noted)
    submit = vit_tf.hub_callback.ThreadPoolExecutor.submit

    def submit_and_wait(pool, *arguments):
        future = submit(pool, *arguments)
        future.exception()
        return future

    monkeypatch.setattr(vit_tf.hub_callback.ThreadPoolExecutor, "submit", submit_and_wait)
    return found


def test_the_trained_model_its_processor_and_its_card_are_on_the_hub(hub, model, tmp_path):
    callback = PushToHubCallback(
        tmp_path / "digits",
        tokenizer=ViTImageProcessor(size=32),
        hub_model_id="org/digits",
        hub_token=TOKEN,
        tags=["vision"],
        dataset="Digits of mine",
        dataset_tags="org/digits-data",
        license="apache-2.0",
        finetuned_from="org/base",
    )
    history = fit(model, callback, epochs=2, validation_data=(IMAGES, LABELS))
    options = {"cache_dir": tmp_path / "cache"}
    loaded = TFViTForImageClassification.from_pretrained("org/digits", **options)
    np.testing.assert_allclose(loaded(IMAGES).logits, model(IMAGES).logits, atol=1e-6)
    assert AutoImageProcessor.from_pretrained("org/digits", **options).size == {"height": 32, "width": 32}
    folder = tmp_path / "digits"
    names = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert {file.name for file in folder.iterdir()} == names
    assert hub.repositories["org/digits"].head()["README.md"] == (folder / "README.md").read_bytes()

    card = ModelCard.load(folder / "README.md")
    metadata = card.data.to_dict()
    assert metadata["tags"] == ["vision", "generated_from_keras_callback"]
    assert metadata["license"] == "apache-2.0"
    assert metadata["base_model"] == "org/base"
    assert metadata["datasets"] == ["org/digits-data"]
    assert metadata["pipeline_tag"] == "image-classification"
    (result,) = metadata["model-index"]
    assert result["name"] == "org/digits"
    measured = {each["type"]: each["value"] for each in result["results"][0]["metrics"]}
    assert measured["accuracy"] == pytest.approx(history["val_accuracy"][-1])
    assert result["results"][0]["dataset"] == {"name": "Digits of mine", "type": "org/digits-data"}
    lines = [line for line in card.text.splitlines() if line.startswith("| ")]
    assert lines[0] == "| Epoch | Train accuracy | Train loss | Validation accuracy | Validation loss |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 0", "| 1"]
    assert f"{history['loss'][-1]:.4g}" in lines[-1]
    assert "- optimizer: SGD" in card.text
    assert "Trained from `org/base` on Digits of mine." in card.text


def test_a_card_names_no_folder_as_the_base_model(hub, model, tmp_path):
    (tmp_path / "base").mkdir()
    options = {"hub_model_id": "me/a", "hub_token": TOKEN, "finetuned_from": str(tmp_path / "base")}
    fit(model, PushToHubCallback(tmp_path / "a", "no", **options))
    card = ModelCard.load(tmp_path / "a" / "README.md")
    assert card.data.base_model is None
    assert str(tmp_path) not in card.content


def test_each_epoch_is_pushed_and_the_end_of_training(hub, model, tmp_path, messages):
    fit(model, PushToHubCallback(tmp_path / "a", hub_model_id="me/a", hub_token=TOKEN), epochs=2)
    assert messages == ["Training in progress, epoch 0", "Training in progress, epoch 1", "End of training"]


def test_steps_are_counted_over_epochs(hub, model, tmp_path, messages):
    callback = PushToHubCallback(tmp_path / "a", "steps", 3, hub_model_id="me/a", hub_token=TOKEN)
    fit(model, callback, epochs=4)  # of two steps
    steps = ["Training in progress, step 3", "Training in progress, step 6"]
    assert messages == [*steps, "End of training"]


@pytest.mark.parametrize("strategy", ["no", "NO"])
def test_no_strategy_saves_at_the_end_alone(hub, model, tmp_path, messages, strategy):
    callback = PushToHubCallback(tmp_path / "a", save_strategy=strategy, hub_model_id="me/a", hub_token=TOKEN)
    fit(model, callback, epochs=2)
    assert messages == ["End of training"]


def test_the_repository_is_named_as_the_folder(hub, model, tmp_path, monkeypatch):
    callback = PushToHubCallback(tmp_path / "my-vit", save_strategy="no", hub_token=TOKEN)
    assert callback.hub_model_id == "me/my-vit"
    fit(model, callback)
    assert "model.safetensors" in hub.repositories["me/my-vit"].head()


def test_while_a_push_is_under_way_nothing_is_saved_and_the_end_is_pushed(hub, model, tmp_path, monkeypatch):
    pushed, may_go_on, push = [], threading.Event(), vit_tf.hub_callback.push_to_hub

    def slow_push(folder, repo_id, *, commit_message, token):
        may_go_on.wait(60)
        pushed.append((commit_message, (folder / "model.safetensors").read_bytes()))
        return push(folder, repo_id, commit_message=commit_message, token=token)

    monkeypatch.setattr(vit_tf.hub_callback, "push_to_hub", slow_push)
    first = []

    def on_epoch_end(epoch, logs):
        if epoch == 0:
            first.append((tmp_path / "a" / "model.safetensors").read_bytes())
        if epoch == 2:
            may_go_on.set()

    callback = PushToHubCallback(tmp_path / "a", hub_model_id="me/a", hub_token=TOKEN)
    fit(model, callback, keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end), epochs=3)
    assert pushed[0] == ("Training in progress, epoch 0", first[0])
    assert pushed[-1][0] == "End of training"
    assert hub.repositories["me/a"].head()["model.safetensors"] == pushed[-1][1] != first[0]
    model.save_pretrained(tmp_path / "now")
    assert pushed[-1][1] == (tmp_path / "now" / "model.safetensors").read_bytes()


def test_training_goes_on_from_a_checkpoint(hub, model, tmp_path):
    model.compile(keras.optimizers.Adam(1e-3))
    callback = PushToHubCallback(tmp_path / "a", hub_model_id="me/a", hub_token=TOKEN, checkpoint=True)
    fit(model, callback, epochs=2, shuffle=False)
    files = hub.repositories["me/a"].head()
    assert json.loads(files["checkpoint/epoch.json"]) == {"epoch": 1}
    (tmp_path / "pulled.keras").write_bytes(files["checkpoint/model.keras"])
    resumed = keras.saving.load_model(tmp_path / "pulled.keras")
    assert int(resumed.optimizer.iterations) == 4
    for each in (model, resumed):
        each.fit(IMAGES, LABELS, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(resumed(IMAGES).logits, model(IMAGES).logits, atol=1e-5)


def test_a_push_that_fails_is_told_of_and_the_next_one_is_tried(hub, model, tmp_path, messages):
    callback = PushToHubCallback(tmp_path / "a", hub_model_id="me/a", hub_token=TOKEN)

    def on_epoch_begin(epoch, logs):
        hub.down_with = 500 if epoch == 0 else None

    def on_epoch_end(epoch, logs):
        hub.down_with = None

    broken = keras.callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin, on_epoch_end=on_epoch_end)
    with pytest.warns(UserWarning, match=r"cannot push to me/a: .* 500; try again later. Training goes on"):
        fit(model, callback, broken, epochs=2)
    assert "model.safetensors" in hub.repositories["me/a"].head()


def test_a_last_push_that_fails_is_an_error_that_names_the_folder(hub, model, tmp_path, messages):
    callback = PushToHubCallback(tmp_path / "a", "no", hub_model_id="me/a", hub_token=TOKEN)
    hub.down_with = 500
    with pytest.raises(OSError, match=r"cannot push to me/a: .* The trained model is in .*a\."):
        fit(model, callback)
    again = TFViTForImageClassification.from_pretrained(tmp_path / "a")
    np.testing.assert_allclose(again(IMAGES).logits, model(IMAGES).logits, atol=1e-6)


def test_a_bad_token_costs_no_training(hub, tmp_path):
    with pytest.raises(OSError, match=r"cannot push to org/a: .* did not accept the token"):
        PushToHubCallback(tmp_path / "a", hub_model_id="org/a", hub_token="hf_wrong")


def test_impossible_arguments_are_refused(hub, tmp_path):
    folder, options = tmp_path / "a", {"hub_model_id": "me/a", "hub_token": TOKEN}
    with pytest.raises(ValueError, match="save_strategy is 'batch'; it must be one of no, epoch, steps"):
        PushToHubCallback(folder, "batch", **options)
    with pytest.raises(ValueError, match="save_steps is None; save_strategy 'steps' needs"):
        PushToHubCallback(folder, "steps", **options)
    with pytest.raises(ValueError, match="checkpoint=True needs save_strategy 'epoch', and it is 'no'"):
        PushToHubCallback(folder, "no", checkpoint=True, **options)
    with pytest.raises(TypeError, match="takes no 'licence'; for the card it takes language, license"):
        PushToHubCallback(folder, licence="mit", **options)
    assert not hub.repositories
    images = keras.Input((4,))
    functional = keras.Model(images, keras.layers.Dense(2)(images))
    functional.compile("sgd", "mse")
    with pytest.raises(TypeError, match="save_pretrained, which a Functional has not"):
        functional.fit(np.zeros((2, 4)), np.zeros((2, 2)), callbacks=[PushToHubCallback(folder, **options)])
