"""The tables on the pages of formats are the formats' own: what they show is what files hold."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from conversion.containers.weights_file import read_weights
from conversion.formats import FORMATS, WRITABLE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FIXTURES = ROOT / "tests/fixtures"
TEXTS = (
    *("transformer.", "token_", "positional_embedding", "ln_final", "text_", "logit_", "input_", "context_", "vocab_"),
)
#: Files that other people's code wrote, what stands before the names in them, and what is no part of the model.
FILES = {
    "transformers": ("hf_vit_classifier/model.safetensors", "vit.", ()),
    "google": ("google_jax_representation/published.npz", "", ()),
    "google-linen": ("google_jax_representation/linen.npz", "", ()),
    "dino": ("dino_vit/backbone.pth", "", ()),
    "mae": ("mae_vit/pretrain.pth", "model/", ()),
    "timm-deit": ("timm_deit_distilled/model.safetensors", "", ()),
    "timm-beit": ("timm_beitv2/model.safetensors", "", ()),
    "torchvision": ("torchvision_vit/vit.pth", "", ()),
    "dinov2-registers": ("dinov2_original/backbone.pth", "", ()),
    "clip": ("clip_original/clip.pt", "visual.", TEXTS),
    "big-vision-siglip": ("big_vision_siglip/siglip.npz", "params/img/", ("params/",)),
}
LAYER = re.compile(r"(encoder\.layer\.|encoderblock_|blocks\.|encoder_layer_)\d+")


def load_hooks(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks():
    return load_hooks("hooks")


def rows(table):
    """The cells of a table's rows, without its headers."""
    cells = [re.findall(r"(?<=\| ).*?(?= \|)", line) for line in table.splitlines() if line.startswith("| `")]
    return [[cell.replace("`", "").split("<br>") for cell in row] for row in cells]


def shown_shapes(hooks, name):
    """The shape of each name in a format's table of names, in words."""
    table = hooks.on_page_markdown(f"{{{{ names {name} }}}}")
    prefixes = re.findall(r"others with `(.+)`:", table) or re.findall(r"names start with `(.+)`:", table)
    column = -1 if name == "transformers" else 2
    found = {}
    for part, start in zip(table.split("In layer "), ("", *prefixes), strict=True):
        for row in rows(part):
            names = row[0] if name == "transformers" else row[1]
            found |= {start + each: shape for each, shape in zip(names, row[column], strict=True)}
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_table_has_the_names_and_numbers_of_axes_that_a_file_has(hooks, name):
    file, prefix, others = FILES[name]
    shapes = shown_shapes(hooks, name)
    for stored, tensor in read_weights(FIXTURES / file).items():
        stored = stored.removeprefix(prefix)
        if not stored.startswith(others or "\0"):
            shown = shapes[LAYER.sub(r"\1*", stored)]
            assert len(shown.strip("()").split(", ")) == len(tensor.shape), stored


def test_words_in_shapes_are_those_of_the_papers_model(hooks):
    shapes = shown_shapes(hooks, "google")
    assert shapes["embedding/kernel"] == "(height, width, channels, hidden)"
    attention = "Transformer/encoderblock_*/MultiHeadDotProductAttention_1"
    assert shapes[f"{attention}/query/kernel"] == "(hidden, heads, head)"
    assert shapes[f"{attention}/out/kernel"] == "(heads, head, hidden)"
    assert shown_shapes(hooks, "timm")["blocks.*.attn.qkv.weight"] == "(3 hidden, hidden)"
    assert shown_shapes(hooks, "big-vision")["pos_embedding"] == "(1, patches, hidden)"


@pytest.mark.parametrize("name", FORMATS)
def test_the_page_of_a_format_shows_its_facts_and_where_each_of_its_names_is(hooks, name):
    page = (DOCS / "formats" / hooks.PAGES[name]).read_text()
    assert any(name in line.split() for line in page.splitlines() if line.startswith("{{ facts "))
    names = re.findall(r"^{{ names ([\w-]+) }}$", page, re.MULTILINE)
    shown = {rule for each in names for rule in FORMATS[each].rules}
    assert set(FORMATS[name].rules) <= shown


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_refuses_is_on_a_page(name):
    pages = "\n".join(page.read_text() for page in (DOCS / "formats").glob("*.md"))
    refusing = re.findall(r"^{{ refused ([\w-]+) }}$", pages, re.MULTILINE)
    assert not FORMATS[name].refused or any(FORMATS[name].refused == FORMATS[other].refused for other in refusing)


def test_the_list_of_formats_has_every_format_and_what_is_written(hooks):
    table = hooks.on_page_markdown("{{ formats }}")
    assert table.count("formats/") == len(FORMATS)
    for name, form in WRITABLE.items():
        line = next(line for line in table.splitlines() if f"| `{name}` |" in line)
        assert f"| `{next(iter(form.files.values()))}` |" in line
    stand_ins = {other.name for form in WRITABLE.values() for other in form.others}
    assert table.count("only read") == len(FORMATS) - len(WRITABLE) - len(stand_ins)


def test_no_marker_is_left_on_any_page(hooks):
    of_families, of_speed = load_hooks("family_hooks"), load_hooks("speed_hooks")
    for page in DOCS.glob("**/*.md"):
        text = of_speed.on_page_markdown(of_families.on_page_markdown(page.read_text()))
        assert "{{" not in hooks.on_page_markdown(text), page


@pytest.mark.parametrize("marker", ["{{ names tim }}", "{{ nmes timm }}"])
def test_a_marker_of_no_table_is_an_error(hooks, marker):
    with pytest.raises(ValueError, match="no table"):
        hooks.on_page_markdown(marker)


def test_names_in_the_tables_of_a_page_may_break_between_their_parts(hooks):
    html = "<p><code>a.b</code></p><td><code>vit.pth</code> 0.5</td>"
    page = SimpleNamespace(file=SimpleNamespace(src_uri="formats/timm.md"))
    assert hooks.on_page_content(html, page) == "<p><code>a.b</code></p><td><code>vit.<wbr>pth</code> 0.5</td>"
    page.file.src_uri = "index.md"
    assert hooks.on_page_content(html, page) == html
