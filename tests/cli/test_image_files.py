from __future__ import annotations

from pathlib import Path

import pytest

from vit_cli.image_files import find_images


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folder_stands_for_the_images_in_it_sorted(images: Path) -> None:
    assert names(find_images([str(images)])) == ["cat.png", "gray.png", "photo.jpg"]


def test_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "DSC_001.JPG").touch()
    assert names(find_images([str(tmp_path)])) == ["DSC_001.JPG"]


def test_pattern_is_expanded_and_sorted(images: Path) -> None:
    assert names(find_images([f"{images}/*.png"])) == ["cat.png", "gray.png"]
    assert names(find_images([f"{images}/**/*.png"])) == ["cat.png", "gray.png", "rgba.png"]


def test_arguments_keep_their_order(images: Path) -> None:
    assert names(find_images([f"{images}/photo.jpg", f"{images}/c*"])) == ["photo.jpg", "cat.png"]


def test_existing_file_with_a_pattern_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert names(find_images([str(tmp_path / "a[1].png")])) == ["a[1].png"]


def test_named_file_is_taken_whatever_its_name(images: Path) -> None:
    assert names(find_images([str(images / "notes.txt"), str(images / "gone.png")])) == ["notes.txt", "gone.png"]


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OSError, match=f"no images in the folder {tmp_path}"):
        find_images([str(tmp_path)])


def test_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no file matches .*\*\.png"):
        find_images([f"{tmp_path}/*.png"])
