"""What the scripts of every framework work on."""

import numpy as np
import PIL.Image
import pytest


@pytest.fixture(scope="session")
def draw_pictures(tmp_path_factory):
    """Makes a folder of reddish and bluish pictures: (height and width, how many of each for validation) -> folder."""

    def draw(size, validation):
        generator = np.random.default_rng(0)
        root = tmp_path_factory.mktemp("pictures")
        for split, number in {"train": 8, "validation": validation}.items():
            for label, channel in {"blue": 2, "red": 0}.items():
                (root / split / label).mkdir(parents=True)
                for index in range(number):
                    pixels = generator.integers(0, 160, (*size, 3), dtype=np.uint8)
                    pixels[..., channel] += 95
                    PIL.Image.fromarray(pixels).save(root / split / label / f"{index}.png")
        return root

    return draw
