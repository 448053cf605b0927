"""AVIF images are decoded in a process of their own, to the pixels that PIL decodes."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from vit_core import avif, limited_process
from vit_core.image_file import opened_picture

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="PIL has no decoder")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)


def image(mode, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).resize((60, 40)).save(file, "AVIF", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("is_possible", [True, False])
def test_the_pixels_are_those_of_pil(tmp_path, monkeypatch, mode, is_possible):
    if not is_possible:  # as on other systems
        monkeypatch.setattr(limited_process, "is_possible", lambda: False)
    elif not limited_process.is_possible():
        pytest.skip("limits of processes are Linux's")
    path = tmp_path / "image.avif"
    path.write_bytes(content := image(mode, orientation=6))
    expected = ImageOps.exif_transpose(Image.open(path))
    assert expected.size == (40, 60)
    for source in (path, content):
        with opened_picture(source, "image") as picture:
            assert picture.mode == expected.mode
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))


@pytest.mark.skipif(not limited_process.is_possible(), reason="limits of processes are Linux's")
@pytest.mark.parametrize(
    ("statement", "problem"),
    {
        "bytearray(2**30)": "MemoryError",
        "open('/dev/null')": "Too many open files",
        "import os; os.abort()": r"crashes on it \(SIGABRT\)",
        "sys.stdout.buffer.write(bytes(2**20))": "File too large",
    }.items(),
)
def test_whatever_the_decoder_does_is_one_sentence(tmp_path, monkeypatch, statement, problem):
    """As a hostile file would have it, once it is the decoder that runs."""
    program = avif.PROGRAM.read_text().replace("        with Avif", f"        {statement}\n        with Avif")
    assert program.count(statement) == 1
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(avif, "PROGRAM", tmp_path / "program.py")
    sentence = f"photo cannot be read as an image .the decoder .*{problem}"
    with pytest.raises(OSError, match=sentence), opened_picture(image("RGB"), "photo"):
        pass
