import pytest
import torch
from torch.nn import functional

from vit_torch import ViTConfig
from vit_torch.losses import classification_loss


def loss(logits, labels, **fields):
    return classification_loss(logits, labels, ViTConfig(num_labels=logits.shape[1], **fields))


def test_integer_labels_mean_classes():
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    expected = (torch.log1p(torch.tensor(-1.0).exp()) + torch.log1p(torch.tensor(2.0).exp())) / 2
    for labels in (torch.tensor([1, 1]), torch.tensor([[1], [1]], dtype=torch.int32)):
        torch.testing.assert_close(loss(logits, labels), expected)


def test_ignored_labels_count_for_nothing():
    logits = torch.randn(3, 4)
    some = loss(logits, torch.tensor([1, -100, 2]))
    torch.testing.assert_close(some, loss(logits[[0, 2]], torch.tensor([1, 2])))


def test_float_labels_mean_several_classes():
    logits, labels = torch.randn(2, 3), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    expected = -(labels * logits.sigmoid().log() + (1 - labels) * (-logits).sigmoid().log()).mean()
    torch.testing.assert_close(loss(logits, labels), expected)


def test_one_label_means_a_number_whatever_its_dtype_and_shape():
    logits = torch.tensor([[1.0], [3.0]])
    for labels in (torch.tensor([2.0, 1.0]), torch.tensor([[2], [1]])):
        torch.testing.assert_close(loss(logits, labels), torch.tensor(2.5))


def test_problem_type_overrules_what_labels_imply():
    logits = torch.randn(2, 3)
    several = torch.tensor([[1, 0, 1], [0, 0, 1]])
    torch.testing.assert_close(
        loss(logits, several, problem_type="multi_label_classification"), loss(logits, several.float())
    )
    numbers = torch.randn(2, 3)
    torch.testing.assert_close(loss(logits, numbers, problem_type="regression"), functional.mse_loss(logits, numbers))


@pytest.mark.parametrize(
    ("labels", "fields", "words"),
    [
        (torch.tensor([0, 3]), {}, "labels hold 3; with num_labels=3 they go from 0 to 2"),
        (torch.tensor([0, -1]), {}, "labels hold -1;"),
        (torch.tensor([0]), {}, r"labels of shape \(1,\) do not give one class to each of 2 images"),
        (torch.tensor([0.0, 1.0]), {}, r"labels have shape \(2,\); they need that of the logits, \(2, 3\)"),
        (torch.zeros(2, 1), {"problem_type": "regression"}, r"labels have shape \(2, 1\)"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, fields, words):
    with pytest.raises(ValueError, match=words):
        loss(torch.randn(2, 3), labels, **fields)
