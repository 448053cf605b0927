import re

import keras
import pytest

from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel


def summary(model, **options):
    lines = []
    model.summary(line_length=80, print_fn=lambda line, *_: lines.append(line), **options)
    return "\n".join(lines)


def parameters_in(text):
    (total,) = re.findall(r"Total params: ([\d,]+)", text)
    return int(total.replace(",", ""))


def test_a_summary_shows_parts_with_shapes_and_parameters(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    text = summary(model)
    # The patches, class token and positions; two layers of attention, MLP and LayerNorms; LayerNorm and classifier.
    embeddings = 3 * 8 * 8 * 32 + 32 + 32 + 17 * 32
    layer = 4 * (32 * 32 + 32) + (32 * 48 + 48) + (48 * 32 + 32) + 2 * 64
    vit, classifier = embeddings + 2 * layer + 64, 32 * 5 + 5
    assert re.search(rf"vit \(TFViTModel\).*\(None, 17, 32\).*{vit:,}", text)
    assert re.search(rf"classifier \(Linear\).*\(None, 5\).*{classifier:,}", text)
    assert parameters_in(text) == vit + classifier
    assert "?" not in text


@pytest.mark.parametrize("expand_nested", [False, True])
@pytest.mark.parametrize("model_class", [TFViTModel, TFViTForImageClassification, TFViTForMaskedImageModeling])
def test_no_shape_is_unknown_and_all_parameters_count(tiny_config, model_class, expand_nested):
    model = model_class(tiny_config)
    text = summary(model, expand_nested=expand_nested)
    assert "?" not in text
    assert parameters_in(text) == sum(row.size for row in model.parameter_table())


def test_nested_parts_are_shown_on_request(tiny_config):
    text = summary(TFViTForImageClassification(tiny_config), expand_nested=True)
    for part in ("vit (TFViTModel)", "embeddings (ViTEmbeddings)", "encoder (ViTEncoder)", "layernorm"):
        assert part in text


def test_a_functional_model_shows_the_model_that_it_holds(tiny_config):
    model = TFViTModel(tiny_config, name="backbone")
    images = keras.Input((3, 32, 32))
    text = summary(keras.Model(images, keras.layers.Dense(3)(model(images).pooler_output)))
    assert "backbone (TFViTModel)" in text
    assert parameters_in(text) == sum(row.size for row in model.parameter_table()) + 32 * 3 + 3
