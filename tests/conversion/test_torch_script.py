"""TorchScript programs, as OpenAI published CLIP: read as the weights in them, and nothing is compiled or run."""

import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import conversion
from conversion.containers.torch_file import read_torch_file

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
WIDTH, TEXT_WIDTH, PROJECTION = 8, 6, 5


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model(torch):
    """A small CLIP with the parts of OpenAI's, in half precision but for norms and embeddings, as theirs is."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.attn = nn.MultiheadAttention(width, 1)
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mlp = nn.Sequential()
            self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
            self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
            self.attn_mask, self.masks, self.scale = torch.zeros(3, 3), [torch.ones(2)], 0.5  # no part of a state dict

        def forward(self, x):
            y = self.ln_1(x)
            x = x + self.attn(y, y, y)[0] * self.scale + self.attn_mask.sum() + self.masks[0].sum()
            return x + self.mlp(self.ln_2(x))

    class Transformer(nn.Module):
        def __init__(self, width, layers):
            super().__init__()
            self.resblocks = nn.Sequential(*(Block(width) for _ in range(layers)))

        def forward(self, x):
            return self.resblocks(x)

    class Visual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, WIDTH, 4, 4, bias=False)
            self.class_embedding = nn.Parameter(torch.randn(WIDTH))
            self.positional_embedding = nn.Parameter(torch.randn(5, WIDTH))
            self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.transformer = Transformer(WIDTH, 2)
            self.proj = nn.Parameter(torch.randn(WIDTH, PROJECTION))

        def forward(self, x):
            x = self.conv1(x).flatten(2).transpose(1, 2) + self.positional_embedding[1:]
            return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj + self.class_embedding.sum()

    class CLIP(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.transformer = Visual(), Transformer(TEXT_WIDTH, 1)
            self.token_embedding, self.ln_final = nn.Embedding(9, TEXT_WIDTH), nn.LayerNorm(TEXT_WIDTH)
            self.positional_embedding = nn.Parameter(torch.randn(3, TEXT_WIDTH))
            self.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, PROJECTION))
            self.logit_scale = nn.Parameter(torch.ones([]))
            for name, value in (("input_resolution", 8), ("context_length", 3), ("vocab_size", 9)):
                self.register_buffer(name, torch.tensor(value))

        def forward(self, image, text):
            x = self.transformer(self.token_embedding(text) + self.positional_embedding)
            return self.visual(image) @ (self.ln_final(x)[:, 0] @ self.text_projection).T * self.logit_scale.exp()

    torch.manual_seed(0)
    return CLIP().eval()


@pytest.fixture(scope="module")
def programs(torch, model, tmp_path_factory):
    """The same model traced, and scripted with its matrices in half precision as OpenAI's have them."""
    folder = tmp_path_factory.mktemp("programs")
    images, texts = torch.randn(1, 3, 8, 8), torch.zeros(1, 3, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a trace, which holds for these sizes alone
        traced = torch.jit.trace(model, (images, texts))
    torch.jit.save(traced, folder / "traced.pt")
    half = torch.jit.script(model)
    for module in half.modules():
        for name, value in module.named_parameters(recurse=False):
            if value.dim() > 1 and "embedding" not in name:
                value.data = value.data.half()
    torch.jit.save(half, folder / "scripted.pt")
    return {name: folder / f"{name}.pt" for name in ("traced", "scripted")}


@pytest.mark.parametrize("kind", ["traced", "scripted"])
def test_a_program_is_read_as_its_state_dict(torch, programs, kind):
    expected = torch.jit.load(programs[kind]).state_dict()
    found = read_torch_file(programs[kind])
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), tensor.numpy(), err_msg=name)
    assert found["visual.conv1.weight"].dtype == ("F32" if kind == "traced" else "F16")


def test_a_published_clip_opens_and_becomes_a_state_dict(torch, programs, tmp_path):
    found = conversion.load(programs["scripted"], num_attention_heads=1)
    assert (found.format, found.task, found.config.hidden_act) == ("clip", "image-projection", "quick_gelu")
    assert found.tensors["visual_projection.weight"].dtype == "F16"
    conversion.convert(programs["scripted"], tmp_path / "clip.pt", "clip", num_attention_heads=1)
    written, expected = torch.load(tmp_path / "clip.pt"), torch.jit.load(programs["scripted"]).state_dict()
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_a_frozen_program_has_no_names(torch, programs, tmp_path):
    frozen = torch.jit.freeze(torch.jit.load(programs["traced"]))
    torch.jit.save(frozen, tmp_path / "frozen.pt")
    with pytest.raises(ValueError, match="no weights have names, since it was frozen"):
        read_torch_file(tmp_path / "frozen.pt")


# What no program is


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


MODULE = b"c__torch__.m\nA\n)\x81"


def module(*attributes):
    """The instructions of a module with attributes, which are names and instructions in turn."""
    pickled = MODULE + b"}("
    for key, value in zip(attributes[::2], attributes[1::2], strict=True):
        pickled += text(key) + value
    return pickled + b"ub"


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00(K\x04t(K\x01t\x89ccollections\nOrderedDict\n)RtR"
CODE = b'class A(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n'
#: A module whose attribute is itself, by way of the memo.
CYCLE = MODULE + b"q\x00}(" + text("a") + b"h\x00ub"
DEEP = MODULE + b"}(" + text("a")


def write(path: Path, pickled: bytes, records: Mapping[str, bytes | None] | None = None) -> Path:
    content = {"data.pkl": b"\x80\x02" + pickled + b".", "data/0": bytes(16), "constants.pkl": b"\x80\x02)."}
    content |= {"code/__torch__/m.py": CODE, **(records or {})}
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in content.items():
            if each is not None:
                archive.writestr(zipfile.ZipInfo(f"a/{name}"), each)
    return path


def test_a_program_by_hand_is_read(tmp_path):
    pickled = module("w", TENSOR, "mask", TENSOR, "inner", module("w", TENSOR), "flag", b"\x88")
    assert list(read_torch_file(write(tmp_path / "file", pickled))) == ["w", "inner.w"]
    untold = write(tmp_path / "file", pickled, {"code/__torch__/m.py": b"class A(Module):\n  w : Tensor\n"})
    assert list(read_torch_file(untold)) == ["w", "mask", "inner.w"]  # before PyTorch 1.5


def shared(levels: int) -> bytes:
    """Modules that hold the next one twice, so that there are 2 ** levels ways to the last one."""
    if not levels:
        return module("w", TENSOR)
    recalled = b"h" + bytes([levels])
    inner = text("a") + shared(levels - 1) + b"q" + bytes([levels]) + text("b") + recalled
    return MODULE + b"}(" + inner + b"ub"


def test_nothing_of_a_program_is_imported_or_run(tmp_path):
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w')\nimport this\n".encode() + CODE
    before = set(sys.modules)
    assert list(read_torch_file(write(tmp_path / "file", module("w", TENSOR), {"code/__torch__/m.py": code}))) == ["w"]
    assert set(sys.modules) <= before
    assert not canary.exists()


HOSTILE = {
    "a module in itself": (CYCLE, {}, "contain themselves"),
    "modules without end": (DEEP * 5000 + b"N" + b"ub" * 5000, {}, "more than 64 deep"),
    "a module that is given attributes twice": (module("w", TENSOR) + b"}b", {}, "sets attributes of an object"),
    "no storage": (module("w", TENSOR), {"data/0": None}, "lacks the record 'a/data/0'"),
    "a storage that is too short": (module("w", TENSOR), {"data/0": bytes(15)}, "has 15 bytes for storage '0'"),
    "a function": (module("w", b"cos\nsystem\n(" + text("true") + b"tR"), {}, "asks to run os.system"),
    "a function in its own package": (module("w", b"c__torch__evil\nf\n)R"), {}, "asks to run __torch__evil.f"),
    "a builder that PyTorch has not": (
        module("w", b"ctorch.jit._pickle\nrun\n)R"),
        {},
        r"asks to run torch.jit._pickle.run",
    ),
    "a class with a name without end": (
        b"c__torch__." + b"a" * 450 + b"\nA\n)\x81}b",
        {},
        "asks to run __torch__.aaa",
    ),
    "weights that are no module": (b"}(" + text("w") + TENSOR + b"u", {}, "is a TorchScript program without a module"),
    "two weights of one name": (
        module("a", module("w", TENSOR), "a", module("w", TENSOR)),
        {},
        "has two tensors named 'a.w'",
    ),
    "a name that is none": (b"c__torch__.m\nA\n)\x81}(N" + module("w", TENSOR) + b"ub", {}, "under the key None"),
    "a program within weights": (
        b"}(" + text("w") + module("w", TENSOR) + b"u",
        {"constants.pkl": None, "code/__torch__/m.py": None},
        "asks to run __torch__.m.A",
    ),
}


@pytest.mark.parametrize(("pickled", "records", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_program_is_refused_in_a_sentence(tmp_path, pickled, records, words):
    path = write(tmp_path / "file", pickled, records)
    with pytest.raises(ValueError, match=words) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500


def test_modules_that_are_shared_too_often_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("conversion.containers.torch_file.MOST_TENSORS", 1000)
    with pytest.raises(ValueError, match="more than 1000 tensors"):
        read_torch_file(write(tmp_path / "file", shared(40)))


def test_more_code_than_is_looked_at_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("conversion.containers.torch_script.LARGEST_CODE", len(CODE) - 1)
    with pytest.raises(ValueError, match="bytes of code in 'a/code/__torch__/m.py'"):
        read_torch_file(write(tmp_path / "file", module("w", TENSOR)))
