import numpy as np
import pytest

from vit_core import resample_patch_projection
from vit_core.loading_options import PATCH_RESAMPLINGS
from vit_core.position import resampling_matrix


@pytest.mark.parametrize("resampling", PATCH_RESAMPLINGS)
def test_kernels_are_those_of_timm(fixture_folder, resampling):
    expected = np.load(fixture_folder / "patch_projection/expected.npz")
    cases = [name for name in expected if name.startswith(resampling)]
    assert len(cases) == 6
    for name in cases:
        size = tuple(map(int, name.partition("/")[2].split("x")))
        resampled = resample_patch_projection(expected["kernel"], size, resampling)
        assert resampled.dtype == np.float32
        np.testing.assert_allclose(resampled, expected[name], atol=5e-6, rtol=0, err_msg=name)


@pytest.mark.parametrize("resampling", PATCH_RESAMPLINGS)
def test_a_patch_that_is_enlarged_with_the_kernel_has_the_same_token(resampling):
    random = np.random.default_rng(0)
    kernel, patch = random.standard_normal((5, 3, 6, 4)), random.standard_normal((3, 6, 4))
    down, right = resampling_matrix(6, 9, resampling=resampling), resampling_matrix(4, 10, resampling=resampling)
    larger = resample_patch_projection(kernel, (9, 10), resampling)
    tokens = np.einsum("ochw,chw->o", larger, down @ patch @ right.T)
    np.testing.assert_allclose(tokens, np.einsum("ochw,chw->o", kernel, patch), atol=1e-12)


def test_one_number_is_a_square_and_the_same_size_changes_nothing():
    kernel = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype("f2")
    assert resample_patch_projection(kernel, 6).shape == (2, 3, 6, 6)
    np.testing.assert_array_equal(resample_patch_projection(kernel, (4, 4)), kernel)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((2, 3, 4, 4), {"size": 0}, "size is 0; give a whole number from 1"),
        ((2, 3, 4, 4), {"size": (8, 8.0)}, "size is 8.0; give a whole number"),
        ((2, 3, 4, 4), {"size": (8, 8, 8)}, r"size is \(8, 8, 8\); give one number or \(height, width\)"),
        ((2, 3, 4, 4), {"size": 8, "resampling": "bicubic"}, "'bicubic'; choose one of antialiased, bilinear"),
        ((2, 48), {"size": 8}, r"shape \(2, 48\); give one of \(hidden, channels, height, width\)"),
    ],
)
def test_what_is_no_kernel_or_no_size_is_refused(shape, options, words):
    with pytest.raises(ValueError, match=words):
        resample_patch_projection(np.zeros(shape), **options)
