"""SavedModels, which TensorFlow writes; `tests/tf/test_every_family.py` shows who serves them."""

from pathlib import Path

import pytest
import tensorflow as tf

from vit_tf.saved_model import write_saved_model


def written(text):
    """What TensorFlow's own function does, as far as files go."""
    return lambda model, folder, signatures: (Path(folder).mkdir(), (Path(folder) / "saved_model.pb").write_text(text))


def full(model, folder, signatures):
    Path(folder).mkdir()
    raise tf.errors.ResourceExhaustedError(
        None, None, f"{{{{node}}}} {folder}/part; No space left on device [Op:SaveV2]"
    )


def files(folder):
    return {path.name: (path / "saved_model.pb").read_text() for path in folder.iterdir()}


def test_full_disk_leaves_the_old_one_and_is_one_sentence(tmp_path, monkeypatch):
    for save in (written("old"), written("new")):
        monkeypatch.setattr(tf.saved_model, "save", save)
        write_saved_model(None, tmp_path / "1", {})
    assert files(tmp_path) == {"1": "new"}
    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match=f"^cannot save to {tmp_path}/1: No space left on device; .* is unchanged[.]$"):
        write_saved_model(None, tmp_path / "1", {})
    assert files(tmp_path) == {"1": "new"}


def test_process_that_is_killed_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.saved_model, "save", written("old"))
    write_saved_model(None, tmp_path / "1", {})
    (tmp_path / "1").rename(tmp_path / ".1-replaced")
    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_saved_model(None, tmp_path / "1", {})
    assert files(tmp_path) == {"1": "old"}
