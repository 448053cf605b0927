import pytest

from vit_core import BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput


def test_an_output_answers_to_attribute_key_index_slice_and_unpacking():
    output = ImageClassifierOutput(loss="loss", logits="logits", attentions=("a",))
    assert output.logits == output["logits"] == output[1] == "logits"
    assert output[-1] == ("a",)
    assert output[:2] == ("loss", "logits")
    loss, logits, attentions = output
    assert (loss, logits, attentions) == output.to_tuple() == ("loss", "logits", ("a",))
    assert dict(**output) == dict(output.items()) == {"loss": "loss", "logits": "logits", "attentions": ("a",)}


def test_fields_that_are_none_are_no_items():
    output = ImageClassifierOutput(logits="logits")
    assert output.to_tuple() == ("logits",)
    assert output[0] == "logits"
    assert list(output.keys()) == ["logits"]
    assert len(output) == 1
    assert "loss" not in output
    assert output.loss is None
    assert output.get("loss", "nothing") == "nothing"


def test_items_can_be_set_by_attribute_and_by_key():
    output = BaseModelOutputWithPooling()
    output.pooler_output = 1
    output["last_hidden_state"] = 2
    assert output.to_tuple() == (2, 1)


def test_a_missing_key_names_those_there_are():
    with pytest.raises(KeyError, match=r"'logit' is not in this output, which has logits"):
        ImageClassifierOutput(logits=1)["logit"]
    with pytest.raises(KeyError, match="has no field 'logit'"):
        ImageClassifierOutput()["logit"] = 1


def test_a_reconstruction_is_also_called_logits():
    assert MaskedImageModelingOutput(reconstruction=3).logits == 3
