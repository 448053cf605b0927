"""Models of one's own on top of these, as research code writes them."""

import copy
import warnings

import pytest
import torch
from torch import nn

from vit_core.parameters import parameters
from vit_torch import ImageClassifierOutput, ViTConfig, ViTForImageClassification, ViTModel, ViTPreTrainedModel
from vit_torch.modeling import ViTEmbeddings

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


class Normalized(ViTPreTrainedModel):
    """A head of its own, a parameter, buffers of both kinds with values from __init__, further arguments."""

    def __init__(self, config, dropout=0.1, scale=2.0):
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.head = nn.Sequential(nn.BatchNorm1d(32), nn.Dropout(dropout), nn.Linear(32, 7))
        self.temperature = nn.Parameter(torch.tensor(scale))
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3])[:, None, None])
        self.register_buffer("std", torch.arange(1.0, 4.0)[:, None, None], persistent=False)
        self.post_init()

    def forward(self, pixel_values, labels=None):
        hidden_states = self.vit((pixel_values - self.mean) / self.std).last_hidden_state
        logits = self.head(hidden_states[:, 1:].mean(1)) / self.temperature
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


class Backbone(ViTPreTrainedModel):
    """The model under another name, with another config's class."""

    def __init__(self, config):
        super().__init__(config)
        self.backbone = ViTModel(config)
        self.tasks = nn.ModuleDict({"color": nn.Linear(32, 3), "shape": nn.Linear(32, 4)})
        self.post_init()

    def forward(self, pixel_values):
        summary = self.backbone(pixel_values).pooler_output
        return {name: head(summary) for name, head in self.tasks.items()}


class NamedBackbone(Backbone):
    """The name that the model has in it, said as transformers asks for it."""

    base_model_prefix = "backbone"


class Deeper(ViTForImageClassification):
    """An extra layer before a wider classifier."""

    def __init__(self, config):
        super().__init__(config)
        self.extra = nn.Linear(config.hidden_size, 64)
        self.classifier = nn.Linear(64, config.num_labels)
        self.post_init()

    def forward(self, pixel_values, **options):
        hidden_states = self.vit(pixel_values, **options).last_hidden_state
        return ImageClassifierOutput(logits=self.classifier(self.extra(hidden_states[:, 0]).relu()))


class Siamese(ViTPreTrainedModel):
    """Two models in one, of which one is a copy that lags behind."""

    def __init__(self, config):
        super().__init__(config)
        self.student = ViTModel(config, add_pooling_layer=False)
        self.teacher = ViTModel(config, add_pooling_layer=False).requires_grad_(False)
        self.post_init()

    def forward(self, pixel_values):
        return self.student(pixel_values)[0] - self.teacher(pixel_values)[0]


class Copied(ViTPreTrainedModel):
    """What is copied from parts in __init__ has values too."""

    def __init__(self, config):
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.momentum = copy.deepcopy(self.vit)
        self.register_buffer("first", self.vit.embeddings.cls_token.detach().clone(), persistent=False)
        if self.vit.embeddings.cls_token.abs().sum() > 0:
            self.vit.embeddings.cls_token.requires_grad_(False)

    def forward(self, pixel_values):
        return self.vit(pixel_values)[0] + self.momentum(pixel_values)[0]


class Shared(ViTForImageClassification):
    """A second classifier that is the first, and a frozen backbone."""

    def __init__(self, config):
        super().__init__(config)
        self.second = nn.Linear(32, config.num_labels, bias=False)
        self.second.weight = self.classifier.weight
        self.vit.requires_grad_(False)

    def forward(self, pixel_values):
        return self.second(self.vit(pixel_values)[0][:, 0]) - self.classifier(self.vit(pixel_values)[0][:, 0])


def result(model):
    outputs = model.eval()(PIXELS)
    return outputs.logits if isinstance(outputs, ImageClassifierOutput) else outputs


def train(model):
    model.train()
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    outputs = model(PIXELS)
    values = outputs.values() if isinstance(outputs, dict) else [outputs]
    sum(value.float().square().sum() for value in values).backward()
    optimizer.step()


@pytest.mark.parametrize("model_class", [Normalized, Backbone, Deeper, Siamese, Copied, Shared])
def test_a_trained_subclass_is_the_same_after_saving_and_loading(tiny_config, tmp_path, model_class):
    model = model_class(tiny_config)
    train(model)
    model.save_pretrained(tmp_path)
    again, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=0, rtol=0)
    torch.testing.assert_close(result(again), result(model), atol=0, rtol=0)
    assert again.config.architectures == [model_class.__name__]
    assert not [name for name, tensor in [*again.named_parameters(), *again.named_buffers()] if tensor.is_meta]
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in again.named_parameters() if parameter.requires_grad} == trainable
    train(again)


@pytest.mark.parametrize("model_class", [Normalized, Backbone, NamedBackbone, Deeper, Shared])
def test_a_subclass_starts_from_a_plain_checkpoint(tiny_config, tmp_path, model_class):
    plain = ViTModel(tiny_config)
    plain.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="start at random, so train them before use") as caught:
        model = model_class.from_pretrained(tmp_path)
    assert len(caught) == 1
    for name, tensor in model.base_model.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_what_a_subclass_computes_in_init_is_there_after_loading(tiny_config, tmp_path):
    Normalized(tiny_config).save_pretrained(tmp_path)
    model = Normalized.from_pretrained(tmp_path, scale=5.0, dropout=0.3)
    assert torch.equal(model.std.flatten(), torch.tensor([1.0, 2.0, 3.0]))
    assert model.head[1].p == 0.3
    assert model.temperature == 2.0  # the checkpoint's
    ViTModel(tiny_config, add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="temperature.* start at random"):
        model = Normalized.from_pretrained(tmp_path, 0.3, 5.0)
    assert model.temperature == 5.0
    assert model.head[0].num_batches_tracked == 0
    assert (model.head[2].bias == 0).all()  # by post_init
    assert 0.015 < model.head[2].weight.std() < 0.025


def test_what_a_subclass_adds_is_saved_behind_the_table(tiny_config, tmp_path):
    model = Normalized(tiny_config)
    table = [row.name for row in model.parameter_table()]
    assert table == [f"vit.{row.name}" for row in parameters(tiny_config, add_pooling_layer=False)]
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"head.0.bias, .* are in the checkpoint, but this model has no such"):
        plain = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    torch.testing.assert_close(plain.state_dict(), model.vit.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_subclass_loads_in_the_dtype_that_is_asked_for(tiny_config, tmp_path, dtype):
    Normalized(tiny_config).save_pretrained(tmp_path)
    model = Normalized.from_pretrained(tmp_path, torch_dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.config.torch_dtype == dtype
    assert torch.get_default_dtype() == torch.float32


class OwnConfig(ViTConfig):
    model_type = "my-vit"

    def __init__(self, width=5, **kwargs):
        super().__init__(**kwargs)
        self.width = width


class WithOwnConfig(ViTPreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.vit = ViTModel(config)
        self.head = nn.Linear(32, config.width)
        self.post_init()

    def forward(self, pixel_values):
        return self.head(self.vit(pixel_values).pooler_output)


def test_a_subclass_may_have_a_config_of_its_own(tiny_config, tmp_path):
    fields = {**tiny_config.to_diff_dict(), "model_type": "my-vit"}
    model = WithOwnConfig(OwnConfig.from_dict(fields, width=9))
    model.save_pretrained(tmp_path)
    again = WithOwnConfig.from_pretrained(tmp_path)
    assert type(again.config) is OwnConfig
    assert again.config.model_type == "my-vit"
    torch.testing.assert_close(result(again), result(model), atol=0, rtol=0)


class OwnStart(ViTForImageClassification):
    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 3.0)
            nn.init.constant_(module.bias, 4.0)


def test_the_start_that_a_subclass_defines_holds_for_what_a_checkpoint_lacks(tiny_config, tmp_path):
    plain = ViTModel(tiny_config, add_pooling_layer=False)
    plain.save_pretrained(tmp_path)
    assert (OwnStart(tiny_config).classifier.weight == 3).all()
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias were not in the checkpoint"):
        model = OwnStart.from_pretrained(tmp_path)
    assert (model.classifier.weight == 3).all()
    assert (model.classifier.bias == 4).all()
    torch.testing.assert_close(model.vit.state_dict(), plain.state_dict(), atol=0, rtol=0)


def test_the_start_that_a_subclass_defines_holds_for_its_own_parts_without_post_init(tiny_config, tmp_path):
    class WithoutPostInit(OwnStart):
        def __init__(self, config):
            super().__init__(config)
            self.extra = nn.Linear(32, 4)

    ViTModel(tiny_config).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="extra.weight"):
        model = WithoutPostInit.from_pretrained(tmp_path)
    assert (model.extra.weight == 3).all()
    assert (model.extra.bias == 4).all()


def test_a_module_that_says_it_has_its_start_keeps_it(tiny_config):
    class Kept(ViTPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.vit = ViTModel(config)
            self.zero = nn.Linear(32, 4)
            nn.init.constant_(self.zero.weight, 7.0)
            self.zero._is_hf_initialized = True
            self.post_init()

    assert (Kept(tiny_config).zero.weight == 7).all()


class Forgiving(ViTForImageClassification):
    _keys_to_ignore_on_load_missing = [r"^gate"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]  # noqa: RUF012
    _keys_to_ignore_on_save = [r"^gate"]  # noqa: RUF012

    def __init__(self, config):
        super().__init__(config)
        self.gate = nn.Parameter(torch.ones(3))


def test_names_that_a_subclass_ignores_are_not_warned_of(tiny_config, tmp_path):
    model = Forgiving(tiny_config)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Forgiving.from_pretrained(tmp_path)
    assert torch.equal(again.gate, torch.ones(3))


def test_mismatched_extras_keep_their_start_when_asked(tiny_config, tmp_path):
    Backbone(tiny_config).save_pretrained(tmp_path)

    class Wider(Backbone):
        def __init__(self, config):
            super().__init__(config)
            self.tasks["color"] = nn.Linear(32, 6)

    with pytest.raises(ValueError, match=r"tasks.color.weight with shape \(3, 32\)"):
        Wider.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"tasks.color.weight \(3, 32\) -> \(6, 32\)"):
        model = Wider.from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    assert result(model)["color"].shape == (2, 6)


def test_parts_that_are_built_alone_are_initialised(tiny_config):
    torch.empty(100_000).fill_(7e20)  # what the allocator may hand out next
    embeddings = ViTEmbeddings(tiny_config, use_mask_token=True)
    assert all(parameter.abs().max() <= 2 for parameter in embeddings.parameters())
    assert 0.01 < embeddings.position_embeddings.std() < 0.03
    assert (embeddings.mask_token == 0).all()


def test_a_constructor_that_fails_says_why(tiny_config, tmp_path):
    class Broken(ViTForImageClassification):
        def __init__(self, config):
            super().__init__(config)
            raise RuntimeError("no such thing")

    ViTForImageClassification(tiny_config).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="no such thing"):
        Broken.from_pretrained(tmp_path)
