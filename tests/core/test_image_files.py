"""Image files: paths, bytes, open files and rows of a dataset, turned upright as their EXIF data say."""

import io
import tempfile
import zipfile
from collections import UserList

import numpy as np
import pytest
from PIL import Image

from vit_core import ViTImageProcessor

UPRIGHT = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)

#: How a camera stores a picture with each value of the tag Orientation (EXIF 2.32, section 4.6.4), which says where the
#: first row and the first column of what is stored belong.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT),  # held upright by a photographer's right hand
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


def photo(orientation, format_name="PNG", **options):
    """The bytes of a photo that stands upright when it is turned as the tag says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    picture.save(file, format_name, exif=exif, **options)
    return file.getvalue()


def processed(images, **options):
    return ViTImageProcessor(do_resize=False, **options)(images, return_tensors="np").pixel_values


EXPECTED = processed(UPRIGHT)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
def test_a_photo_is_turned_as_its_exif_data_say(tmp_path, orientation, format_name):
    options = {"lossless": True} if format_name == "WEBP" else {}
    path = tmp_path / "photo"
    path.write_bytes(photo(orientation, format_name, **options))
    with open(path, "rb") as file:
        for image in [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, {"path": str(path)}]:
            np.testing.assert_array_equal(processed(image), EXPECTED)


def test_a_photo_from_another_library_is_turned(fixture_folder):
    with Image.open(fixture_folder / "image_processing/exif_rotated.jpg") as picture:
        assert picture.getexif()[0x0112] == 6
        turned = np.rot90(np.asarray(picture), -1)
        np.testing.assert_array_equal(
            processed(fixture_folder / "image_processing/exif_rotated.jpg"), processed(turned)
        )


def test_a_picture_that_the_caller_opened_is_taken_as_it_is():
    with Image.open(io.BytesIO(photo(6))) as picture:
        np.testing.assert_array_equal(processed(picture), processed(STORED[6]))
        assert picture.size == (12, 9)


@pytest.mark.filterwarnings("ignore:.*EXIF")  # PIL's, when it opens such a file
@pytest.mark.parametrize(
    "damaged", [b"", b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01", b"nonsense"]
)
def test_damaged_exif_data_change_nothing(damaged):
    file = io.BytesIO()
    Image.fromarray(UPRIGHT).save(file, "JPEG", exif=damaged)
    with Image.open(file) as picture:
        expected = processed(np.asarray(picture))
    np.testing.assert_array_equal(processed(file), expected)


def test_an_open_file_is_read_from_its_start():
    file = io.BytesIO(photo(1))
    file.seek(5)
    np.testing.assert_array_equal(processed([file, file]), np.repeat(EXPECTED, 2, axis=0))
    np.testing.assert_array_equal(processed(file), EXPECTED)


def test_a_stream_that_cannot_be_rewound_is_read_from_where_it_is():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("photo.png", photo(1))

    class Stream:
        def __init__(self, file):
            self.read = file.read

    with zipfile.ZipFile(archive) as reader, reader.open("photo.png") as member:
        np.testing.assert_array_equal(processed(member), EXPECTED)
        np.testing.assert_array_equal(processed(Stream(io.BytesIO(photo(1)))), EXPECTED)


def test_a_temporary_file_is_an_open_file():
    with tempfile.NamedTemporaryFile() as file, tempfile.SpooledTemporaryFile() as spooled:
        file.write(photo(1))
        file.flush()
        spooled.write(photo(1))
        np.testing.assert_array_equal(processed([file, spooled]), np.repeat(EXPECTED, 2, axis=0))


def test_a_row_of_a_dataset_is_an_image(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(photo(1))
    rows = [
        {"bytes": photo(1), "path": "photo.png"},  # of a file that is elsewhere
        {"bytes": None, "path": str(path)},
        {"path": path},
        {"bytes": photo(1)},
    ]
    np.testing.assert_array_equal(processed(rows[0]), EXPECTED)
    np.testing.assert_array_equal(processed(rows), np.repeat(EXPECTED, 4, axis=0))


def test_a_column_of_a_dataset_is_a_batch():
    column = UserList([UPRIGHT, photo(1)])  # a sequence that is no list, as those of `datasets`
    np.testing.assert_array_equal(processed(column), np.repeat(EXPECTED, 2, axis=0))


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (io.StringIO("photo"), TypeError, 'the image was opened as text; open it with mode "rb"'),
        (io.BytesIO(), OSError, "the image is empty; get it again"),
        (io.BytesIO(b"photo"), OSError, "the image is not an image that PIL can read"),
        ({"bytes": None, "path": None}, ValueError, "the image is a row whose bytes and path are None"),
        ({"bytes": b""}, OSError, "the image is empty"),
        ({"path": "nowhere.png"}, FileNotFoundError, "there is no file nowhere.png"),
        ("https://example.com/photo.png", FileNotFoundError, r"is a URL; pass what fetch_images\(url\) returns"),
    ],
)
def test_a_file_that_is_no_image_is_named(image, error, words):
    with pytest.raises(error, match=words):
        processed(image)


def test_a_closed_file_is_named(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(photo(1))
    with open(path, "rb") as file:
        pass
    with pytest.raises(OSError, match=r"photo\.png cannot be read \(.*closed file\); open it again"):
        processed(file)
