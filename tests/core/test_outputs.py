import copy
import pickle

import pytest

from vit_core import BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput, ModelOutput


def test_an_output_is_a_dict_that_answers_to_attribute_index_and_slice():
    output = ImageClassifierOutput(loss="loss", logits="logits", attentions=("a",))
    assert isinstance(output, dict)
    assert output.logits == output["logits"] == output[1] == "logits"
    assert output[-1] == ("a",)
    assert output[:2] == ("loss", "logits")
    assert output.to_tuple() == ("loss", "logits", ("a",))
    assert dict(**output) == dict(output.items()) == {"loss": "loss", "logits": "logits", "attentions": ("a",)}


def test_iterating_gives_names():
    names = [*ImageClassifierOutput(loss=1, logits=2)]
    assert names == ["loss", "logits"]


def test_fields_that_are_none_are_no_items():
    output = ImageClassifierOutput(logits="logits")
    assert output.to_tuple() == ("logits",)
    assert output[0] == "logits"
    assert list(output.keys()) == ["logits"]
    assert len(output) == 1
    assert "loss" not in output
    assert output.loss is None
    assert output.get("loss", "nothing") == "nothing"


def test_items_set_by_attribute_and_by_key_stand_in_the_order_of_the_fields():
    output = BaseModelOutputWithPooling()
    output.pooler_output = 1
    output["last_hidden_state"] = 2
    assert output.to_tuple() == (2, 1)
    assert output.last_hidden_state == 2
    assert output["pooler_output"] == 1


def test_items_under_other_names_come_last():
    output = ImageClassifierOutput(logits="logits")
    output["features"] = "features"
    output["loss"] = "loss"
    assert list(output.items()) == [("loss", "loss"), ("logits", "logits"), ("features", "features")]
    assert output.features == "features"


@pytest.mark.parametrize("remove", ["none", "attribute", "del", "pop"])
def test_items_can_be_removed(remove):
    output = ImageClassifierOutput(loss=1, logits=2)
    if remove == "none":
        output["loss"] = None
    elif remove == "attribute":
        output.loss = None
    elif remove == "del":
        del output["loss"]
    else:
        assert output.pop("loss") == 1
    assert output.loss is None
    assert list(output) == ["logits"]


def test_what_changes_a_dict_changes_attributes():
    output = ImageClassifierOutput(logits=2)
    output.update(loss=1, logits=3)
    assert (output.loss, output.logits) == (1, 3)
    assert output.setdefault("attentions", "maps") == output.attentions == "maps"
    output.clear()
    assert (len(output), output.loss, output.logits) == (0, None, None)


def test_what_is_taken_out_may_be_missing():
    output = ImageClassifierOutput(loss=1, logits=2)
    assert output.pop("features", None) is None
    assert output.popitem() == ("logits", 2)
    with pytest.raises(KeyError, match="'logits' is not in this output, which has loss"):
        output.pop("logits")
    assert output.popitem() == ("loss", 1)
    with pytest.raises(KeyError, match="no items"):
        output.popitem()


def test_an_output_without_fields_has_the_items_that_it_is_given():
    assert ModelOutput(a=1, b=2).to_tuple() == ModelOutput({"a": 1, "b": 2}).to_tuple() == (1, 2)
    assert ModelOutput(a=1).a == 1


def test_copies_and_unions_are_outputs():
    output = ImageClassifierOutput(logits=2)
    union = output | {"loss": 1, "features": 3}
    assert type(union) is type(output.copy()) is ImageClassifierOutput
    assert (union.loss, list(union), list(output)) == (1, ["loss", "logits", "features"], ["logits"])
    output |= {"loss": 4}
    assert output.loss == 4


@pytest.mark.parametrize("as_items", [dict, lambda items: list(items), lambda items: iter(items)])
def test_an_output_is_made_of_the_items_of_another(as_items):
    output = ImageClassifierOutput(loss=1, logits=2)
    copied = ImageClassifierOutput(as_items(output.items()))
    assert (copied.loss, copied.logits, list(copied)) == (1, 2, ["loss", "logits"])


def test_an_output_of_names_and_values_holds_whatever_the_values_are():
    output = BaseModelOutputWithPooling.of(["last_hidden_state"], [{"a": 1}])
    assert output.last_hidden_state == {"a": 1}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda output: pickle.loads(pickle.dumps(output))])
def test_a_copied_or_pickled_output_is_an_equal_output(copied):
    output = ImageClassifierOutput(loss=1, attentions=(2,))
    again = copied(output)
    assert type(again) is ImageClassifierOutput
    assert (again.loss, again.logits, again.to_tuple()) == (1, None, (1, (2,)))


def test_items_are_set_by_name_only():
    with pytest.raises(TypeError, match="0 is no name of an item"):
        ImageClassifierOutput()[0] = 1


def test_a_missing_key_names_those_there_are():
    with pytest.raises(KeyError, match=r"'logit' is not in this output, which has logits"):
        ImageClassifierOutput(logits=1)["logit"]


def test_a_reconstruction_is_also_called_logits():
    assert MaskedImageModelingOutput(reconstruction=3).logits == 3
