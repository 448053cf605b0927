"""What scripts for transformers 4 do with an image processor beside calling it."""

import contextlib
import inspect
import io
import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from hub_server import TOKEN
from PIL import Image

from vit_core import AutoImageProcessor, DeiTFeatureExtractor, DeiTImageProcessor, ViTImageProcessor

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)

#: Parameters of transformers 4.47.1's methods, in its order.
SIGNATURES = {
    "from_pretrained": "pretrained_model_name_or_path cache_dir force_download local_files_only token revision",
    "save_pretrained": "self save_directory push_to_hub",
    "from_dict": "image_processor_dict",
    "get_image_processor_dict": "pretrained_model_name_or_path",
    "to_json_file": "self json_file_path",
    "from_json_file": "json_file",
    "fetch_images": "self image_url_or_urls",
    "resize": "self image size resample data_format input_data_format",
    "rescale": "self image scale data_format input_data_format",
    "normalize": "self image mean std data_format input_data_format",
    "center_crop": "self image size data_format input_data_format",
    "preprocess": (
        "self images do_resize size resample do_rescale rescale_factor do_normalize image_mean image_std "
        "return_tensors data_format input_data_format do_convert_rgb"
    ),
}


@pytest.mark.parametrize("method", SIGNATURES)
def test_arguments_have_the_names_and_the_order_of_transformers(method):
    names = [
        name
        for name, parameter in inspect.signature(getattr(ViTImageProcessor, method)).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    expected = SIGNATURES[method].split()
    assert names == [
        name for name in expected if name != "self" or not inspect.ismethod(getattr(ViTImageProcessor, method))
    ]


def test_a_call_takes_the_arguments_of_preprocess_by_position():
    processor = ViTImageProcessor(size=4)
    by_position = processor(PIXELS, False, None, None, True, 0.5, False, None, None, "np", "channels_last")
    np.testing.assert_array_equal(by_position.pixel_values[0], PIXELS * np.float32(0.5))


#: Options of transformers' from_pretrained that say nothing of the images, some of them secrets.
HARMLESS = {
    "use_auth_token": "hf_SECRET",
    "token": "hf_SECRET",
    "proxies": {"http": "http://user:SECRET@proxy"},
    "mirror": "tuna",
    "user_agent": {"file_type": "SECRET"},
    "trust_remote_code": True,
    "resume_download": True,
    "local_files_only": True,
    "revision": None,
    "subfolder": None,
    "cache_dir": None,
    "_from_auto": True,
    "_from_pipeline": "image-classification",
    "_commit_hash": "abc",
    "use_fast": None,
}


@pytest.mark.parametrize("loader", [AutoImageProcessor, ViTImageProcessor])
@pytest.mark.parametrize("option", HARMLESS)
def test_options_of_loading_are_no_settings(fixture_folder, tmp_path, loader, option):
    folder = fixture_folder / "hf_vit_classifier"
    processor = loader.from_pretrained(folder, **{option: HARMLESS[option]})
    assert processor == ViTImageProcessor(size=32)
    assert option not in vars(processor)
    processor.save_pretrained(tmp_path)
    written = (tmp_path / "preprocessor_config.json").read_text()
    assert written == (folder / "preprocessor_config.json").read_text()


def test_what_tells_how_to_reach_a_checkpoint_is_never_written(tmp_path):
    processor = ViTImageProcessor.from_dict({"use_auth_token": "hf_SECRET", "note": 1})
    processor.token = "hf_SECRET"
    processor.save_pretrained(tmp_path)
    assert "SECRET" not in (tmp_path / "preprocessor_config.json").read_text() + repr(processor)
    assert ViTImageProcessor.from_pretrained(tmp_path).note == 1


def test_a_processor_lies_in_a_subfolder_or_is_named_as_a_file(fixture_folder):
    expected = ViTImageProcessor(size=32)
    assert ViTImageProcessor.from_pretrained(fixture_folder, subfolder="hf_vit_classifier") == expected
    file = fixture_folder / "hf_vit_classifier" / "preprocessor_config.json"
    for loader in (ViTImageProcessor, AutoImageProcessor):
        assert loader.from_pretrained(file) == loader.from_pretrained(str(file)) == expected
        assert loader.from_pretrained(pretrained_model_name_or_path=file.parent) == expected


def test_the_settings_of_a_checkpoint_come_with_the_options_that_are_left(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    settings, rest = ViTImageProcessor.get_image_processor_dict(folder, token="hf_SECRET", subfolder="", size=5)
    assert settings == json.loads((folder / "preprocessor_config.json").read_text())
    assert rest == {"size": 5}


def test_settings_go_through_a_json_file_of_any_name(tmp_path):
    processor = DeiTImageProcessor(size=7, image_mean=np.array([0.1, 0.2, 0.3]), note=np.array([1, 2]))
    processor.to_json_file(tmp_path / "settings.txt")
    assert (tmp_path / "settings.txt").read_text() == processor.to_json_string()
    again = DeiTImageProcessor.from_json_file(tmp_path / "settings.txt")
    assert again.size == {"height": 7, "width": 7}
    assert again.note == [1, 2]
    with pytest.raises(FileNotFoundError):
        DeiTImageProcessor.from_json_file(tmp_path / "gone.json")


def test_what_has_no_json_form_is_named():
    with pytest.raises(TypeError, match=r"cannot be saved: a set has no JSON form"):
        ViTImageProcessor(note={1}).to_json_string()


def test_a_key_of_settings_survives_pickling_and_copying():
    processor = ViTImageProcessor(size=7, note="x")
    assert pickle.loads(pickle.dumps(processor)) == processor


def test_calls_for_code_in_a_checkpoint_do_no_harm(tmp_path):
    class Mine(ViTImageProcessor):
        pass

    Mine.register_for_auto_class()
    Mine.register_for_auto_class("AutoImageProcessor")
    processor = Mine(size=3)
    processor._set_processor_class("SomeProcessor")
    processor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["preprocessor_config.json"]
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["processor_class"] == "SomeProcessor"


def test_the_old_name_of_deits_processor_warns():
    with pytest.warns(FutureWarning, match="DeiTFeatureExtractor is deprecated; use DeiTImageProcessor"):
        extractor = DeiTFeatureExtractor(size=9)
    assert extractor == DeiTImageProcessor(size=9)


def test_a_processor_is_pushed_with_the_options_of_transformers(hub, tmp_path):
    processor = ViTImageProcessor(size=9)
    processor.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="org/mine", use_auth_token=TOKEN)
    options = {"use_temp_dir": True, "private": True, "max_shard_size": "5GB", "create_pr": False}
    processor.push_to_hub("org/other", commit_message="x", token=TOKEN, **options)
    for name in ("org/mine", "org/other"):
        assert AutoImageProcessor.from_pretrained(name, token=TOKEN, cache_dir=tmp_path / "cache") == processor
        assert hub.repositories[name].head()["preprocessor_config.json"] == processor.to_json_string().encode()


# Images from the network


def photo():
    """A photo that is 12 high and 9 wide when it is turned as it says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.rot90(PIXELS).copy()).save(file, "PNG", exif=exif)
    return file.getvalue()


@pytest.fixture
def server():
    """The address of a server with a photo and a text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = {"/photo": photo(), "/text": b"text"}.get(self.path)
            self.send_response(200 if content else 404)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


def test_images_are_fetched_in_lists_as_they_are_given(server):
    processor = ViTImageProcessor(size=6)
    picture = processor.fetch_images(f"{server}/photo")
    np.testing.assert_array_equal(np.asarray(picture), PIXELS)
    assert picture.format == "PNG"
    first, (second,) = processor.fetch_images([f"{server}/photo", [f"{server}/photo"]])
    np.testing.assert_array_equal(processor([first, second])["pixel_values"][1], processor(PIXELS)["pixel_values"][0])
    assert processor.fetch_images([]) == []


def test_what_cannot_be_fetched_is_named(server, monkeypatch, tmp_path):
    processor = ViTImageProcessor()
    with pytest.raises(OSError, match=rf"{server}/gone cannot be downloaded .*404.*check the address"):
        processor.fetch_images(f"{server}/gone")
    with pytest.raises(OSError, match=rf"{server}/text is not an image"):
        processor.fetch_images(f"{server}/text")
    with pytest.raises(ValueError, match="starts with http:// or https://"):
        processor.fetch_images(tmp_path.as_uri())
    with pytest.raises(TypeError, match="3 is neither an address nor a list of addresses"):
        processor.fetch_images(3)
    monkeypatch.setattr("vit_core.image_processor_scripts.LARGEST_DOWNLOAD", 10)
    with pytest.raises(ValueError, match="more than 10 bytes, too many for an image"):
        processor.fetch_images(f"{server}/photo")
