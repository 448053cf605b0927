from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hub_server import TOKEN, HubServer
from hypothesis import given
from hypothesis import strategies as st

import vit_core.hub
from vit_core import ViTConfig, ViTImageProcessor
from vit_core.hub import ModelSource, locate
from vit_core.push import push_to_hub

# The Hub's client warns about its own way of uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

WEIGHTS = bytes(range(256)) * 64
ADVICE = "; pass a model that save_pretrained wrote, or one from the Hub that has it."


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    """A Hub with one model."""
    hub.add("org/vit", {"config.json": b'{"step": 1}', "model.safetensors": WEIGHTS})
    return hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def text_of(source: ModelSource, name: str = "config.json") -> str:
    return source.require(name).read_text()


# Folders


def test_existing_folder_is_the_source(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = locate(str(tmp_path))
    assert source.folder == tmp_path
    assert source.name == str(tmp_path)
    assert source.file("config.json") == tmp_path / "config.json"
    assert source.file("preprocessor_config.json") is None


def test_folder_that_is_named_like_a_hub_id_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org/vit").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("org/vit").folder == Path("org/vit")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert locate("~/mine").folder == tmp_path / "mine"


def test_subfolder_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "step/2").mkdir(parents=True)
    assert locate(tmp_path, subfolder="step/2").folder == tmp_path / "step/2"
    with pytest.raises(OSError, match="has no folder step/3"):
        locate(tmp_path, subfolder="step/3")


def test_interrupted_save_is_finished_before_its_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("old")
    (tmp_path / ".trivit-save-committed").mkdir()
    (tmp_path / ".trivit-save-committed/config.json").write_text("new")
    assert text_of(locate(tmp_path)) == "new"


def test_required_file_that_is_missing_is_named_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    with pytest.raises(OSError, match=rf"^here has no config\.json{ADVICE}$"):
        locate("here").require("config.json")


def test_folder_of_that_name_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert locate(tmp_path).file("config.json") is None


@pytest.mark.parametrize(
    "name", ["./gone", "/gone/vit", "~/gone", "gone/", "../gone", "a/../b", "C:\\gone", "a\\b", "vit.npz", "dino.pth"]
)
def test_missing_path_is_never_sent_to_the_hub(name: str, hub: HubServer) -> None:
    with pytest.raises(OSError, match="there is no folder"):
        locate(name)
    assert hub.requests == []


def test_missing_path_object_is_never_sent_to_the_hub(hub: HubServer) -> None:
    with pytest.raises(OSError, match="there is no folder or file org/vit"):
        locate(Path("org/vit"))
    assert hub.requests == []


def test_file_in_place_of_a_folder_is_the_weights_and_its_folder_the_rest(tmp_path: Path) -> None:
    (tmp_path / "vit.npz").touch()
    (tmp_path / "config.json").touch()
    source = locate(tmp_path / "vit.npz")
    assert (source.name, source.folder, source.weights) == (str(tmp_path / "vit.npz"), tmp_path, "vit.npz")
    assert source.file("config.json") == tmp_path / "config.json"
    assert locate(tmp_path).weights is None


@pytest.mark.parametrize("name", ["a/b/c", "-vit", "org/vit.git", "a b", "x" * 100])
def test_impossible_hub_id_says_what_is_wrong_with_it(name: str) -> None:
    with pytest.raises(OSError, match=r"is neither a folder nor a Hub id: Repo.id "):
        locate(name)


def test_empty_model_id_is_refused() -> None:
    with pytest.raises(OSError, match="empty"):
        locate("")


def test_bundled_checkpoint_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vit-tiny").mkdir()
    (tmp_path / "vit-tiny/config.json").write_text("{}")
    monkeypatch.setattr(vit_core.hub, "BUNDLED", tmp_path)
    assert locate("bundled/vit-tiny").folder == tmp_path / "vit-tiny"
    with pytest.raises(OSError, match="no bundled/vit-huge in this package; it has bundled/vit-tiny"):
        locate("bundled/vit-huge")


# Names of files


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../config.json", "a/../../b", "a//b", "./a", "a\\b", "C:config.json", "a\0b", "..", "a/"],
)
def test_name_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the name of a file inside a model"):
        locate(tmp_path).file(name)
    if name:
        with pytest.raises(ValueError, match="not the name of a file inside a model"):
            locate(tmp_path, subfolder=name)


@given(st.text(alphabet="ab./\\:~\0", max_size=8))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    folder = Path(__file__).parent
    try:
        path = ModelSource("here", folder).file(name)
    except ValueError:
        return
    assert path is None or Path(os.path.normpath(path)).is_relative_to(folder)


# Downloads


def test_file_is_downloaded(hub: HubServer, cache: Path) -> None:
    source = locate("org/vit", cache_dir=cache)
    assert source.folder is None
    assert hub.requests == []
    assert text_of(source) == '{"step": 1}'
    assert source.require("model.safetensors").read_bytes() == WEIGHTS
    assert source.require("model.safetensors").is_relative_to(cache)


def test_files_of_a_subfolder_are_downloaded(hub: HubServer, cache: Path) -> None:
    hub.add("org/many", {"config.json": b"outer", "step/2/config.json": b"inner", "step/2/model.safetensors": WEIGHTS})
    source = locate("org/many", cache_dir=cache, subfolder="step/2")
    assert text_of(source) == "inner"
    assert source.require("model.safetensors").read_bytes() == WEIGHTS
    assert source.file("preprocessor_config.json") is None


def test_branch_and_commit_give_the_bytes_of_that_revision(hub: HubServer, cache: Path) -> None:
    first = hub.repositories["org/vit"].branches["main"]
    hub.repositories["org/vit"].commit({"config.json": b"trial"}, branch="trial")
    hub.add("org/vit", {"config.json": b"second"})
    assert text_of(locate("org/vit", cache_dir=cache)) == "second"
    assert text_of(locate("org/vit", cache_dir=cache, revision=first)) == '{"step": 1}'
    assert text_of(locate("org/vit", cache_dir=cache, revision="trial")) == "trial"


def test_files_of_one_source_come_from_one_commit(hub: HubServer, cache: Path) -> None:
    source = locate("org/vit", cache_dir=cache)
    source.require("config.json")
    hub.add("org/vit", {"config.json": b"{}", "model.safetensors": b"of another commit"})
    assert source.require("model.safetensors").read_bytes() == WEIGHTS
    assert locate("org/vit", cache_dir=cache).require("model.safetensors").read_bytes() == b"of another commit"


def test_file_that_the_repository_lacks_is_none(hub: HubServer, cache: Path) -> None:
    source = locate("org/vit", cache_dir=cache)
    assert source.file("preprocessor_config.json") is None
    with pytest.raises(OSError, match=rf"^org/vit has no preprocessor_config\.json{ADVICE}$"):
        source.require("preprocessor_config.json")


def test_force_download_fetches_again_once(hub: HubServer, cache: Path) -> None:
    locate("org/vit", cache_dir=cache).require("config.json").write_text("spoilt")
    assert text_of(locate("org/vit", cache_dir=cache)) == "spoilt"
    source = locate("org/vit", cache_dir=cache, force_download=True)
    assert text_of(source) == '{"step": 1}'
    assert text_of(source) == '{"step": 1}'
    assert len(hub.requested("config.json")) == 2


def test_force_download_contradicts_local_files_only() -> None:
    with pytest.raises(ValueError, match="force_download=True needs the network"):
        locate("org/vit", force_download=True, local_files_only=True)


def test_token_is_sent_to_the_hub_and_not_to_its_storage(hub: HubServer, cache: Path) -> None:
    locate("org/vit", cache_dir=cache, token=TOKEN).require("model.safetensors")
    tokens = {server: {r.token for r in hub.requests if r.server == server} for server in ("hub", "cdn")}
    assert tokens == {"hub": {TOKEN}, "cdn": {None}}


def test_private_repository_needs_a_token(hub: HubServer, cache: Path) -> None:
    hub.add("org/secret", {"config.json": b"hidden"}, private=True)
    with pytest.raises(OSError, match=r"no such repository; check the spelling or, if it is private, pass token="):
        locate("org/secret", cache_dir=cache).file("config.json")
    assert text_of(locate("org/secret", cache_dir=cache, token=TOKEN)) == "hidden"


@pytest.mark.parametrize("force_download", [False, True])
@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("org/none", {}, r"download config\.json of org/none.*: http://127\.0\.0\.1:\d+ has no such repository"),
        ("org/none", {"token": "hf_right"}, "has no such repository"),
        ("org/gated", {}, r"is gated; ask for access at http://127\.0\.0\.1:\d+/org/gated"),
        ("org/vit", {"token": "hf_wrong"}, r"did not accept the token, or wants one \(401\)"),
        ("org/vit", {"revision": "v9"}, "no revision 'v9'"),
    ],
)
def test_refusal_is_one_sentence(
    hub: HubServer, cache: Path, model: str, options: dict[str, Any], words: str, force_download: bool
) -> None:
    hub.add("org/gated", {"config.json": b"{}"}, gated=True)
    with pytest.raises(OSError, match=words) as caught:
        locate(model, cache_dir=cache, force_download=force_download, **options).file("config.json")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("status", "words"), [(500, "answered with status 500; try again later"), (403, r"may not \(403\)"), (503, "503")]
)
def test_failing_hub_is_one_sentence(hub: HubServer, cache: Path, status: int, words: str) -> None:
    hub.down_with = status
    with pytest.raises(OSError, match=words):
        locate("org/vit", cache_dir=cache).file("config.json")


def test_hub_that_is_not_there_is_named(hub: HubServer, cache: Path) -> None:
    hub.close()
    with pytest.raises(OSError, match=rf"exchange with {hub.url()} failed .*local_files_only=True"):
        locate("org/vit", cache_dir=cache).file("config.json")


@pytest.mark.parametrize("faults", [["truncate", 503], ["truncate", "truncate", 500]])
def test_truncated_weights_are_an_error_and_never_used(hub: HubServer, cache: Path, faults: list[str | int]) -> None:
    locate("org/vit", cache_dir=cache).require("config.json")
    hub.faults[hashlib.sha256(WEIGHTS).hexdigest()] = faults
    with pytest.raises(OSError, match=r"cannot download model\.safetensors of org/vit: .* status 50[03]"):
        locate("org/vit", cache_dir=cache).file("model.safetensors")
    assert faults == []
    assert not list(cache.rglob("snapshots/*/model.safetensors"))
    assert locate("org/vit", cache_dir=cache).require("model.safetensors").read_bytes() == WEIGHTS


def test_interrupted_connection_is_resumed_where_it_broke(hub: HubServer, cache: Path) -> None:
    hub.add("org/vit", {"config.json": b"0123456789"})
    hub.faults["config.json"] = ["truncate"]
    assert text_of(locate("org/vit", cache_dir=cache)) == "0123456789"


# Offline

Offline = Callable[[], dict[str, bool]]


@pytest.fixture(params=["local_files_only", "HF_HUB_OFFLINE"])
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Offline:
    """Forbids the network in one of the two ways and returns the options that go with it."""

    def forbid() -> dict[str, bool]:
        if request.param == "local_files_only":
            return {"local_files_only": True}
        # The client reads the variable when it is imported.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return {}

    return forbid


def test_cached_file_needs_no_hub(hub: HubServer, cache: Path, offline: Offline) -> None:
    locate("org/vit", cache_dir=cache).require("config.json")
    hub.close()
    assert text_of(locate("org/vit", cache_dir=cache)) == '{"step": 1}'
    assert text_of(locate("org/vit", cache_dir=cache, **offline())) == '{"step": 1}'


def test_uncached_model_offline_names_file_and_model(hub: HubServer, cache: Path, offline: Offline) -> None:
    words = r"cannot download config\.json of org/vit: we are offline and have no copy"
    with pytest.raises(OSError, match=words):
        locate("org/vit", cache_dir=cache, **offline()).file("config.json")
    assert hub.requests == []


def test_optional_file_that_a_cached_copy_lacks_is_none_offline(hub: HubServer, cache: Path, offline: Offline) -> None:
    locate("org/vit", cache_dir=cache).require("config.json")
    source = locate("org/vit", cache_dir=cache, **offline())
    assert source.file("preprocessor_config.json") is None
    with pytest.raises(OSError, match=r"org/vit has no model\.safetensors in the local cache, and we are offline"):
        source.require("model.safetensors")


def test_force_download_offline_does_not_pretend_that_the_file_is_absent(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate("org/vit", cache_dir=cache).require("config.json")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"cannot download config\.json of org/vit again: we are offline"):
        locate("org/vit", cache_dir=cache, force_download=True).file("config.json")


# Pushing


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"step": 2}')
    (folder / "model.safetensors").write_bytes(b"pushed" * 100)
    return folder


def push(folder: Path, repo_id: str = "org/new", **options: Any) -> str:
    return push_to_hub(folder, repo_id, token=TOKEN, **options)


def test_what_was_pushed_is_downloaded_again(hub: HubServer, cache: Path, checkpoint: Path) -> None:
    (checkpoint / "preprocessor_config.json").write_text("{}")
    (checkpoint / "README.md").write_text("# A model\n")
    url = push(checkpoint)
    source = locate("org/new", cache_dir=cache)
    for file in checkpoint.iterdir():
        assert source.require(file.name).read_bytes() == file.read_bytes()
    assert url == f"{hub.url()}/org/new/commit/{hub.repositories['org/new'].branches['main']}"


def test_only_the_files_of_a_checkpoint_are_pushed(hub: HubServer, checkpoint: Path) -> None:
    for name in ("optimizer.pt", ".env", "notes.txt", "adapter.safetensors"):
        (checkpoint / name).write_text("mine")
    push(checkpoint)
    assert set(hub.repositories["org/new"].head()) == {
        ".gitattributes",
        "config.json",
        "model.safetensors",
    }


def test_weights_that_are_replaced_are_removed_by_the_same_commit(hub: HubServer, checkpoint: Path) -> None:
    push(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (checkpoint / name).write_text(name)
    (checkpoint / "model.safetensors.index.json").write_text("{}")
    hub.repositories["org/new"].commit({**hub.repositories["org/new"].head(), "keep.md": b""})
    push(checkpoint)
    assert set(hub.repositories["org/new"].head()) == {
        ".gitattributes",
        "keep.md",
        *(file.name for file in checkpoint.iterdir()),
    }


KEPT = {".gitattributes", "config.json"}


@pytest.mark.parametrize(
    ("there", "pushed", "left"),
    [
        ({}, {"pytorch_model.bin"}, {"pytorch_model.bin"}),
        ({"pytorch_model.bin"}, {"model.safetensors"}, {"pytorch_model.bin", "model.safetensors"}),
        ({"model.safetensors"}, {"pytorch_model.bin"}, {"pytorch_model.bin"}),  # else the old weights would be read
        ({"model.safetensors"}, {"flax_model.msgpack"}, {"flax_model.msgpack"}),
        ({"model.safetensors"}, {"tf_model.h5"}, {"tf_model.h5"}),
        ({"model.safetensors"}, {"model.fp16.safetensors"}, {"model.safetensors", "model.fp16.safetensors"}),
        (
            {"model.safetensors", "model.fp16.safetensors"},
            {"model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"},
            {"model.safetensors", "model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"},
        ),
    ],
)
def test_weights_of_every_kind_and_variant_are_pushed(hub: HubServer, checkpoint: Path, there, pushed, left) -> None:
    (checkpoint / "model.safetensors").unlink()
    for names in (there, pushed):
        for name in names:
            (checkpoint / name).write_text(name)
        push(checkpoint)
        for name in names:
            (checkpoint / name).unlink()
    assert hub.repositories["org/new"].head().keys() == KEPT | left


def test_name_without_organisation_goes_to_the_own_account(hub: HubServer, checkpoint: Path) -> None:
    assert "/me/mine/commit/" in push(checkpoint, "mine", private=True)
    assert hub.repositories["me/mine"].private


def test_pull_request_leaves_main_alone(hub: HubServer, checkpoint: Path) -> None:
    before = hub.repositories["org/vit"].branches["main"]
    push(checkpoint, "org/vit", create_pr=True)
    assert hub.repositories["org/vit"].branches["main"] == before
    assert hub.repositories["org/vit"].branches["refs/pr/1"] != before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token": "hf_wrong"}, r"cannot push to org/vit: .* did not accept the token"),
        ({"token": None}, r"wants one \(401\); pass token="),
        ({"token": "hf_right", "revision": "v9"}, "no revision 'v9'"),
    ],
)
def test_refused_push_is_one_sentence(hub: HubServer, checkpoint: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OSError, match=words) as caught:
        push_to_hub(checkpoint, "org/vit", **options)
    assert "\n" not in str(caught.value)


def test_files_without_weights_leave_the_weights_there_alone(hub: HubServer, checkpoint: Path) -> None:
    push(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "config.json").write_text('{"step": 3}')
    push(checkpoint)
    pushed = hub.repositories["org/new"].head()
    assert pushed["config.json"] == b'{"step": 3}'
    assert pushed["model.safetensors"] == b"pushed" * 100


def test_folder_that_is_no_checkpoint_is_not_pushed(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of a checkpoint")
    with pytest.raises(OSError, match=r"has neither weights nor config\.json, .* to push; save_pretrained first"):
        push(tmp_path)
    with pytest.raises(OSError, match="there is no folder"):
        push(tmp_path / "gone")
    assert hub.requests == []


def test_impossible_id_is_not_pushed_to(hub: HubServer, checkpoint: Path) -> None:
    with pytest.raises(OSError, match="neither a folder nor a Hub id"):
        push(checkpoint, "a/b/c")
    assert hub.requests == []


# Pushing as scripts for transformers do


def test_what_is_saved_is_pushed_on_request_under_the_name_of_its_folder(hub: HubServer, tmp_path: Path) -> None:
    ViTConfig(num_labels=7).save_pretrained(tmp_path / "my-model", push_to_hub=True, use_auth_token=TOKEN)
    assert hub.repositories["me/my-model"].head().keys() == {".gitattributes", "config.json"}
    ViTConfig().save_pretrained(tmp_path / "my-model", push_to_hub=True, repo_id="org/other", token=TOKEN)
    assert hub.repositories["org/other"].head().keys() == {".gitattributes", "config.json"}


def test_old_options_of_pushing_are_understood(hub: HubServer) -> None:
    url = ViTConfig().push_to_hub("org/new", True, "A message", commit_description="More", use_auth_token=TOKEN)
    assert "/org/new/commit/" in url
    assert hub.repositories["org/new"].head().keys() == {".gitattributes", "config.json"}


def test_tags_are_added_to_a_card_that_is_there_or_new(hub: HubServer) -> None:
    config = ViTConfig()
    config.push_to_hub("org/new", token=TOKEN, tags=["vit", "digits"])
    card = hub.repositories["org/new"].head()["README.md"].decode()
    assert "# org/new" in card
    assert "library_name: trivit" in card
    assert card.index("- vit") < card.index("- digits")
    config.push_to_hub("org/new", token=TOKEN, tags="third")
    again = hub.repositories["org/new"].head()["README.md"].decode()
    assert again.count("- vit") == again.count("- third") == 1


def test_an_option_that_does_not_exist_is_a_type_error(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="comit_message"):
        ViTConfig().save_pretrained(tmp_path, push_to_hub=True, comit_message="x")


@pytest.mark.parametrize("saved", [ViTConfig(), ViTImageProcessor()], ids=lambda saved: type(saved).__name__)
def test_an_option_that_does_not_exist_is_warned_of_if_nothing_is_pushed(saved, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="save_pretrained has no option comit_message, which is left out"):
        saved.save_pretrained(tmp_path, comit_message="x")
    saved.save_pretrained(tmp_path, token=TOKEN, repo_id="org/new", use_temp_dir=True)
