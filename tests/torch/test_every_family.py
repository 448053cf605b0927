"""What a ViT can do, its relatives can."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import vit_torch
from vit_core.auto import AutoConfig
from vit_core.families import FAMILIES, family_of
from vit_core.rotary import Rotary
from vit_torch.layers import DropPath, ScaledLayer
from vit_torch.prefix_only import may_compute_prefix_only

TOLERANCE = 1e-5
PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
    "initializer_range": 0.2,
}
#: What families have besides, where it is not their default.
FIELDS = {
    "vit": [{"encoder_stride": 8}],
    "deit": [{"encoder_stride": 8}],
    "vit_mae": [
        {
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 2,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 24,
        }
    ],
    "beit": [
        {"vocab_size": 11, "use_mask_token": True, "use_relative_position_bias": True},
        {"vocab_size": 11, "use_mask_token": True, "use_shared_relative_position_bias": True},
    ],
    "data2vec-vision": [{"use_relative_position_bias": True, "use_absolute_position_embeddings": True}],
    "dinov2": [{"mlp_ratio": 1.5}, {"use_swiglu_ffn": True, "drop_path_rate": 0.2}],
    "dinov2_with_registers": [{"mlp_ratio": 1.5, "num_register_tokens": 3}],
    "dinov3_vit": [
        {"num_register_tokens": 2, "pos_embed_shift": 0.1, "pos_embed_jitter": 1.1},
        {"use_gated_mlp": True, "key_bias": True, "query_bias": False, "proj_bias": False, "mlp_bias": False},
    ],
    "clip_vision_model": [{"projection_dim": 6}],
    "vision_transformer": [
        {
            "encoder_stride": 8,
            "vocab_size": 11,
            "prefix_tokens": ("cls_token", "distillation_token"),
            "absolute_positions": "sincos",
            "relative_positions": "shared",
            "layer_scale": 0.5,
            "drop_path_rate": 0.2,
            "pooler": "mean-norm",
            "classifier_reads": "pooler",
            "register_tokens": 2,
            "embedding_norm": True,
            "query_key_norm": True,
            "gated_mlp": True,
            "norm": "rms",
            "patch_norm": True,
        },
        {
            "encoder_stride": 8,
            "vocab_size": 11,
            "prefix_tokens": (),
            "relative_positions": "layers",
            "final_norm": False,
            "pooler": None,
            "has_pooler": False,
            "classifier_reads": "mean",
            "patch_bias": False,
            "query_bias": False,
            "output_bias": False,
            "mlp_bias": False,
            "mlp_norm": True,
            "halves": "parallel",
            "rotary_positions": "mixed",
            "rotary_stretch": False,
            "position_resampling": "antialiased",
        },
        {
            "encoder_stride": 8,
            "vocab_size": 11,
            "register_tokens": 3,
            "positioned": "patches",
            "position_resampling": "offset",
            "rotary_positions": "indices",
            "rotary_grid": (3, 5),
            "rotary_first": "columns",
            "rotary_offset": 1.0,
            "relative_positions": "layers",
            "attention_norm": True,
            "halves": "post-norm",
            "pooler": "patch-attention",
            "pooler_attention_heads": 2,
            "keeps_pooler": True,
            "classifier_reads": "class-and-mean",
            "resamples_unasked": True,
        },
    ],
}
CASES = [
    (family.models[task], task, family.config_classes.get(task, family.config_class), fields)
    for family in FAMILIES.values()
    for fields in FIELDS.get(family.model_type, [{}])
    for task in family.models
    if task != "backbone"  # of which are tests of its own
]


def each(cases):
    ids = [f"{name}-{CASES.index(case)}" for case in cases for name in case[:1]]
    return pytest.mark.parametrize(("name", "task", "config_class", "fields"), cases, ids=ids)


every_model = each(CASES)
#: Without base models that are parts of others which are here, pooler and all.
every_whole_model = each(
    [
        case
        for case in CASES
        if case[1] != "model"
        or len(family_of(case[2]).models) == 1
        or case[2].model_type in ("vit", "siglip_vision_model", "clip_vision_model")
    ]
)


def config_of(config_class, fields, **more):
    follows = {"intermediate_size"} if config_class.model_type.startswith("dinov2") else set()
    sizes = {name: value for name, value in SIZES.items() if name not in follows}
    return config_class(**{**sizes, **fields, **more})


def chosen(*names_and_variants):
    """Some of the cases, by names and numbers of variants."""
    return each([[case for case in CASES if case[0] == name][variant] for name, variant in names_and_variants])


#: Together they have every option of a layer and every kind of head, for what takes seconds to compile; fixtures are
#: compiled in test_relatives.py.
OF_ALL_OPTIONS = [
    ("VisionTransformerForMaskedImageModeling", 0),
    ("VisionTransformerForImageClassification", 1),
    ("VisionTransformerForMaskedTokenModeling", 2),
]


@pytest.fixture
def build():
    """Make a model whose zeros are moved, and what to call it with."""

    def build(name, task, config_class, fields, **more):
        torch.manual_seed(0)
        model = getattr(vit_torch, name)(config_of(config_class, fields, **more)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        mask = torch.arange(32).reshape(2, 16) % 3 == 0
        inputs = {
            "image-classification": {"labels": torch.tensor([1, 4])},
            "masked-image-modeling": {"bool_masked_pos": mask},
            "masked-token-modeling": {"bool_masked_pos": mask, "labels": torch.arange(11)},
            "pre-training": {"noise": torch.rand(2, 16)},
        }
        given = inputs.get(task, {})
        if name == "ViTMAEModel":
            given = {"noise": torch.rand(2, 16)}
        return model, {"pixel_values": PIXELS, **given}

    return build


def reads_prefix(name, task, config_class, fields):
    """Whether a head reads tokens before the patches alone."""
    is_classifier = task.startswith("image-classification")
    return is_classifier and config_of(config_class, fields).architecture.summary_is_prefix


def scalar(outputs):
    values = outputs.to_tuple()
    return values[0] if "loss" in outputs else sum(value.float().square().mean() for value in values)


@every_model
def test_state_dict_is_what_the_table_says(build, name, task, config_class, fields):
    model, _ = build(name, task, config_class, fields)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == {row.name: row.shape for row in model.parameter_table()}
    fixed = {row.name for row in model.parameter_table() if not row.trainable}
    assert {key for key, parameter in model.named_parameters() if not parameter.requires_grad} == fixed


@every_model
def test_new_weights_start_as_the_table_says(name, task, config_class, fields):
    model = getattr(vit_torch, name)(config_of(config_class, fields))
    for row in model.parameter_table():
        parameter = model.get_parameter(row.name)
        if row.initializer == "sincos":
            assert 0.5 < parameter.square().mean() * 2 * 16 / 17 < 1.5 or parameter.shape[1] != 17
            assert (parameter[:, : model.config.architecture.num_positioned_prefix_tokens] == 0).all()
        elif row.initializer == "normal":
            assert 0 < parameter.abs().max() <= 2
        elif row.initializer == "rotary":
            expected = Rotary.of(model.config).starting_frequencies(model.config.num_attention_heads)
            torch.testing.assert_close(parameter.detach(), torch.from_numpy(expected).float())
        else:
            assert (parameter == {"zeros": 0.0, "ones": 1.0}.get(row.initializer, row.initializer)).all(), row.name


@every_model
def test_saving_and_loading(build, tmp_path, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert {key: each.requires_grad for key, each in again.named_parameters()} == {
        key: each.requires_grad for key, each in model.named_parameters()
    }
    torch.testing.assert_close(again(**inputs).to_tuple(), model(**inputs).to_tuple(), atol=0, rtol=0)
    assert AutoConfig.from_pretrained(tmp_path).architectures == [name]
    assert family_of(again.config).task_of(name) == task


@every_whole_model
def test_both_attentions_give_the_same(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    fused = model(**inputs).to_tuple()
    model.config.attn_implementation = "eager"
    torch.testing.assert_close(model(**inputs).to_tuple(), fused, atol=TOLERANCE, rtol=0)


@every_whole_model
def test_a_pruned_head_is_a_silenced_head(build, tmp_path, name, task, config_class, fields):
    # A norm over all heads sees the zeros of silenced ones.
    fields = {key: value for key, value in fields.items() if key != "attention_norm"}
    model, inputs = build(name, task, config_class, fields)
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    full = model(**inputs).to_tuple()
    silenced = model(**inputs, head_mask=mask).to_tuple()
    assert not torch.equal(silenced[0], full[0])
    model.prune_heads({1: [0, 2]})
    pruned = model(**inputs).to_tuple()
    torch.testing.assert_close(pruned, silenced, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(model(**inputs, head_mask=mask).to_tuple(), silenced, atol=TOLERANCE, rtol=0)
    assert {row.name: row.shape for row in model.parameter_table()} == {
        key: tuple(tensor.shape) for key, tensor in model.state_dict().items()
    }
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.config.pruned_heads == {1: [0, 2]}
    torch.testing.assert_close(again(**inputs).to_tuple(), pruned, atol=TOLERANCE, rtol=0)


@every_whole_model
def test_gradient_checkpointing_changes_no_gradient(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    gradients = []
    for enable in (False, True):
        model.train().zero_grad()
        if enable:
            model.gradient_checkpointing_enable()
        torch.manual_seed(1)  # for drop path
        scalar(model(**inputs)).backward()
        gradients.append({key: each.grad.clone() for key, each in model.named_parameters() if each.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], atol=TOLERANCE, rtol=0)


@every_whole_model
def test_half_precision_and_autocast_stay_near(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    expected = scalar(model(**inputs))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(scalar(model(**inputs)).float(), expected, atol=0, rtol=0.1)
    model.bfloat16()
    for attention in ("sdpa", "eager"):
        model.config.attn_implementation = attention
        outputs = model(**inputs)
        torch.testing.assert_close(scalar(outputs).float(), expected, atol=0, rtol=0.1)
        scalar(outputs).backward()


@chosen(*OF_ALL_OPTIONS)
def test_a_model_compiles_whole(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    outputs, expected = compiled(**inputs), model(**inputs)
    assert type(outputs) is type(expected)
    torch.testing.assert_close(outputs.to_tuple(), expected.to_tuple(), atol=TOLERANCE, rtol=0)
    scalar(outputs).backward()


@chosen(*OF_ALL_OPTIONS, ("ViTMAEForPreTraining", 0))
def test_a_model_exports_with_any_batch(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    inputs = {key: value for key, value in inputs.items() if key != "labels"}
    batch = Dim("batch")
    shapes = {key: {0: batch} for key in inputs}
    strict = task in ("pre-training", "masked-token-modeling")  # the other way takes the time that compiling takes
    program = torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=strict)
    for repeats in (1, 3):
        more = {key: torch.cat([value] * repeats) for key, value in inputs.items()}
        outputs = program.module()(**more)
        torch.testing.assert_close(outputs.to_tuple(), model(**more).to_tuple(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("name", "variant", "strict"),
    [
        ("BeitForImageClassification", 1, False),
        ("Dinov2WithRegistersModel", 0, True),
        ("DINOv3ViTModel", 0, False),
        ("VisionTransformerForImageClassification", 2, False),
    ],
)
def test_a_model_exports_with_any_image_size(build, name, variant, strict):
    # Sizes of one patch are compiled apart from larger ones, so height and width start at two patches.
    shapes = {"pixel_values": {0: Dim("batch"), 2: Dim("height", min=16), 3: Dim("width", min=16)}}
    model, _ = build(*[case for case in CASES if case[0] == name][variant])
    asked = {"interpolate_pos_encoding": True}
    inputs = {"pixel_values": torch.randn(3, 3, 32, 32), **asked}
    dynamic = {**shapes, "interpolate_pos_encoding": None}
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic, strict=strict).module()
    for shape in ((2, 3, 48, 72), (1, 3, 16, 100), (2, 3, 32, 32)):
        images = torch.randn(shape)
        found, expected = program(pixel_values=images, **asked), model(images, **asked)
        torch.testing.assert_close(found.to_tuple(), expected.to_tuple(), atol=TOLERANCE, rtol=0)


@every_whole_model
def test_a_model_can_be_pickled_and_copied(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        torch.testing.assert_close(other(**inputs).to_tuple(), model(**inputs).to_tuple())


@every_model
def test_tuples_hold_the_same_as_outputs(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    everything = {"output_attentions": True, "output_hidden_states": True}
    as_tuple = model(**inputs, **everything, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple, model(**inputs, **everything).to_tuple())


@every_whole_model
def test_images_of_another_size(build, name, task, config_class, fields):
    model, inputs = build(name, task, config_class, fields)
    images = torch.randn(2, 3, 48, 24)
    mask = torch.ones(2, 18)
    given = {"bool_masked_pos": mask} if "masked" in task else {}
    given = {"noise": torch.rand(2, 18)} if "noise" in inputs else given
    outputs = model(images, **given, interpolate_pos_encoding=True, output_hidden_states=True)
    tokens = model.config.architecture.num_prefix_tokens + (int(18 * 0.25) if "noise" in inputs else 18)
    assert outputs.hidden_states[0].shape == (2, tokens, 32)
    if model.config.architecture.resamples_unasked:
        torch.testing.assert_close(model(images, **given)[0], outputs[0])
    else:
        with pytest.raises(ValueError, match="48 x 24 pixels do not fit a model for 32 x 32"):
            model(images, **given)


@every_whole_model
def test_a_checkpoint_loads_for_another_image_size_as_it_resamples(build, tmp_path, name, task, config_class, fields):
    if "noise" in build(name, task, config_class, fields)[1]:
        pytest.skip("a decoder's positions are one line in the forward pass, a grid when they are loaded")
    model, _ = build(name, task, config_class, fields)
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 48, 24)
    larger = type(model).from_pretrained(tmp_path, image_size=(48, 24))
    torch.testing.assert_close(
        larger(images)[0], model(images, interpolate_pos_encoding=True)[0], atol=TOLERANCE, rtol=0
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        *(("vit_mae", "pre-training"), ("beit", "masked-token-modeling"), ("dinov2", "backbone")),
        *(("dinov2_with_registers", "model"), ("dinov3_vit", "model")),
        *(("siglip_vision_model", "model"), ("clip_vision_model", "image-projection")),
    ],
)
def test_a_model_exports_to_onnx(build, tmp_path, model_type, task):
    onnxruntime = pytest.importorskip("onnxruntime")
    family, (fields, *_) = FAMILIES[model_type], FIELDS.get(model_type, [{}])
    model, inputs = build(family.models[task], task, family.config_class, {**fields, "num_hidden_layers": 1})
    inputs = {key: value for key, value in inputs.items() if key != "labels"}
    with torch.no_grad():
        program = torch.onnx.export(model, (), kwargs=inputs, dynamo=True, verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    results = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    expected = torch.utils._pytree.tree_leaves(model(**inputs).to_tuple())
    for result, tensor in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, tensor.detach().numpy(), atol=1e-5, rtol=0)


# Drop path


def test_drop_path_leaves_images_out_and_scales_the_others():
    drop_path, ones = DropPath(0.25), torch.ones(10_000, 1, 2)
    dropped = drop_path(ones)
    assert sorted(set(dropped.flatten().tolist())) == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(dropped[..., 0], dropped[..., 1])
    assert 0.23 < (dropped == 0).float().mean() < 0.27
    assert drop_path.eval()(ones) is ones


def test_drop_path_is_the_same_under_the_same_seed_and_rises_from_layer_to_layer():
    config = vit_torch.BeitConfig(**{**SIZES, "num_hidden_layers": 3}, drop_path_rate=0.8)
    model = vit_torch.BeitModel(config).train()
    assert [layer.drop_path.rate for layer in model.encoder.layer] == pytest.approx([0.0, 0.4, 0.8])
    images = PIXELS.repeat(4, 1, 1, 1)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(model(images)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_layer_without_factors_only_drops(build):
    model, inputs = build("VisionTransformerModel", "model", vit_torch.VisionTransformerConfig, {"drop_path_rate": 0.3})
    assert isinstance(model.encoder.layer[0], ScaledLayer)
    assert not [key for key in model.state_dict() if "lambda" in key]
    plain = vit_torch.ViTModel(vit_torch.ViTConfig(**SIZES)).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(**inputs)[0], plain(**inputs)[0])


# What does not fit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise": torch.rand(2, 15)}, r"noise has shape \(2, 15\); one number for each patch is needed, \(2, 16\)"),
        ({"noise": torch.rand(16)}, r"noise has shape \(16,\)"),
        ({"head_mask": torch.ones(3)}, r"head_mask has shape \(3,\)"),
        ({"pixel_values": None}, "pixel_values are missing"),
        (
            {"pixel_values": torch.zeros(2, 3, 35, 32), "interpolate_pos_encoding": True},
            "35 x 32 pixels are no whole number of patches of 8 x 8; resize or crop them",
        ),
    ],
)
def test_what_a_masked_autoencoder_cannot_take_is_named(build, change, words):
    model, inputs = build(*next(case for case in CASES if case[0] == "ViTMAEForPreTraining"))
    with pytest.raises(ValueError, match=words):
        model(**{**inputs, **change})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mask_ratio": 1}, "mask_ratio is 1"),
        ({"decoder_num_attention_heads": 3}, "decoder_hidden_size is 512, which decoder_num_attention_heads, 3"),
    ],
)
def test_a_masked_autoencoder_that_cannot_be_is_named(fields, words):
    config = vit_torch.ViTMAEConfig(**SIZES)
    for name, value in fields.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=words):
        vit_torch.ViTMAEForPreTraining(config)


def test_patches_are_put_together_again(build):
    model, _ = build(*next(case for case in CASES if case[0] == "ViTMAEForPreTraining"))
    assert torch.equal(model.unpatchify(model.patchify(PIXELS)), PIXELS)
    wide = torch.randn(1, 3, 16, 40)
    patches = model.patchify(wide, interpolate_pos_encoding=True)
    assert torch.equal(patches[0, 6].reshape(8, 8, 3), wide[0, :, 8:16, 8:16].permute(1, 2, 0))
    assert torch.equal(model.unpatchify(patches, (16, 40)), wide)
    with pytest.raises(ValueError, match="there are 10 patches, but an image of 32 x 32 pixels has 4 x 4"):
        model.unpatchify(patches)
    with pytest.raises(ValueError, match="images have 1 channels, the model takes 3"):
        model.patchify(wide[:, :1])


def test_noise_comes_from_torchs_generator(build):
    model, _ = build(*next(case for case in CASES if case[0] == "ViTMAEForPreTraining"))
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(model(PIXELS).mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert (masks[0].sum(1) == 12).all()


def test_without_left_out_patches_there_is_no_loss(build):
    model, _ = build(*next(case for case in CASES if case[0] == "ViTMAEForPreTraining"), mask_ratio=0.0)
    outputs = model(PIXELS)
    assert outputs.loss == 0
    assert outputs.mask.sum() == 0


def test_visual_tokens_are_one_for_each_masked_patch(build):
    model, inputs = build(*next(case for case in CASES if case[0] == "BeitForMaskedImageModeling"))
    with pytest.raises(ValueError, match="labels hold 10 visual tokens for 11 masked patches; give one for each"):
        model(**{**inputs, "labels": torch.arange(10)})
    with pytest.raises(ValueError, match="labels are the visual tokens of masked patches; pass bool_masked_pos"):
        model(PIXELS, labels=torch.arange(11))
    with pytest.raises(ValueError, match="labels hold 11; with num_labels=11 they go from 0 to 10"):
        model(**{**inputs, "labels": torch.arange(1, 12)})
    nothing = {"bool_masked_pos": torch.zeros(2, 16), "labels": torch.zeros(0, dtype=torch.long)}
    assert model(PIXELS, **nothing).loss == 0
    ignored = torch.tensor([4, *[-100] * 10])
    expected = nn.functional.cross_entropy(model(**inputs).logits[0, :1], torch.tensor([4]))
    torch.testing.assert_close(model(**{**inputs, "labels": ignored}).loss, expected)


def test_a_teacher_needs_its_token():
    config = vit_torch.VisionTransformerConfig(**SIZES)
    with pytest.raises(ValueError, match="a model with a teacher reads a distillation_token too, so add it"):
        vit_torch.VisionTransformerForImageClassificationWithTeacher(config)


# Models of one's own


class WithHead(vit_torch.BeitPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.beit = vit_torch.BeitModel(config)
        self.head = nn.Linear(config.hidden_size, 3)
        self.post_init()

    def forward(self, pixel_values):
        return self.head(self.beit(pixel_values).pooler_output)


class WithScale(vit_torch.DeiTForImageClassification):
    def __init__(self, config):
        super().__init__(config)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixel_values):
        return super().forward(pixel_values).logits * self.scale


@pytest.mark.parametrize(
    ("model_class", "config_class", "fields"),
    [
        (WithHead, vit_torch.BeitConfig, {"use_shared_relative_position_bias": True}),
        (WithScale, vit_torch.DeiTConfig, {}),
    ],
)
def test_a_subclass_is_the_same_after_saving_and_loading(tmp_path, model_class, config_class, fields):
    model = model_class(config_class(**SIZES, **fields)).eval()
    model.save_pretrained(tmp_path)
    again, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(again(PIXELS), model(PIXELS), atol=0, rtol=0)
    assert again.base_model is again._modules[config_class.base_model_prefix]


@pytest.mark.parametrize(
    ("auto_class", "task"),
    [
        (vit_torch.AutoModel, "model"),
        (vit_torch.AutoModelForImageClassification, "image-classification"),
        (vit_torch.AutoModelForPreTraining, "pre-training"),
    ],
)
def test_every_family_has_its_place_in_the_auto_classes(auto_class, task):
    expected = {
        config_class: family.models[task]
        for family in FAMILIES.values()
        for config_class in family.all_config_classes
        if task in family.models
    }
    assert {config: model.__name__ for config, model in auto_class.models.items()} == expected


def test_masked_image_modeling_means_pixels_or_visual_tokens():
    models = vit_torch.AutoModelForMaskedImageModeling.models
    assert models[vit_torch.BeitConfig] is vit_torch.BeitForMaskedImageModeling
    assert models[vit_torch.DeiTConfig] is vit_torch.DeiTForMaskedImageModeling
    assert models[vit_torch.VisionTransformerConfig] is vit_torch.VisionTransformerForMaskedImageModeling


@pytest.mark.parametrize("is_training", [False, True])
@each([case for case in CASES if reads_prefix(*case)])
def test_last_layers_leave_out_patches_that_nobody_reads(build, name, task, config_class, fields, is_training):
    fields = {key: value for key, value in fields.items() if key != "drop_path_rate"} if is_training else fields
    model, inputs = build(name, task, config_class, fields)
    model.train(is_training)
    assert may_compute_prefix_only(model.base_model)
    answers = []
    for options in ({}, {"output_hidden_states": True}):
        model.zero_grad()
        logits = model(inputs["pixel_values"], **options).logits
        logits.square().sum().backward()
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        answers.append([logits, *gradients])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, other.abs().max().item()))
