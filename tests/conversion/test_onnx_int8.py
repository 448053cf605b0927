"""Products in 8 bits, as onnxruntime computes what is written."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
onnx_int8 = pytest.importorskip("conversion.onnx_int8")


def product(rows, weights):
    """What onnxruntime computes of `int8_product`."""
    write = onnx_int8.Writer()
    written = onnx_int8.int8_product(write, "rows", weights)
    graph = onnx.helper.make_graph(
        write.nodes,
        "product",
        [onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [None, len(weights)])],
        [onnx.helper.make_tensor_value_info(written, onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in write.constants.items()],
    )
    versions = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(onnx_int8.RUNTIME, 1)]
    model = onnx.helper.make_model(graph, opset_imports=versions, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"rows": rows.astype(np.float32)})[0]


@pytest.mark.parametrize("made", [6, 300], ids=["rounded about their middle", "rounded about zero"])
def test_products_of_the_greatest_numbers_are_exact(made):
    signs = np.array([[1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, 1, -1]], np.float32).repeat(64, axis=1)
    signs[0, -1], signs[1, -1] = -1, 1  # whose middles are zero, too
    rows = signs * onnx_int8.GREATEST_ACTIVATION
    weights = np.resize(np.concatenate([signs, -signs]), (made, 256)).T.copy() * onnx_int8.GREATEST_WEIGHT
    np.testing.assert_allclose(product(rows, weights), rows.astype(int) @ weights.astype(int), rtol=1e-6)


@pytest.mark.parametrize("made", [7, 70])
def test_each_row_and_each_column_has_a_scale_of_its_own(made):
    random = np.random.default_rng(0)
    rows, weights = random.normal(size=(5, 64)), random.normal(size=(64, made)).astype("float32")
    row_scales, scales = 10.0 ** np.arange(-2, 3), (10.0 ** (np.arange(made) % 7)).astype("float32")
    plain = product(rows, weights)
    assert np.abs(plain - rows @ weights).max() < 0.02 * np.ptp(rows @ weights)
    scaled = product(rows * row_scales[:, None], weights * scales)
    np.testing.assert_allclose(scaled / row_scales[:, None] / scales, plain, atol=1e-3 * np.ptp(plain))


def test_rows_that_are_mostly_above_zero_lose_less_about_their_middle():
    random = np.random.default_rng(0)
    rows, weights = np.abs(random.normal(size=(50, 256))), random.integers(-64, 65, (256, 256)).astype("float32")
    weights[0] = 64  # so that they lose nothing
    error_about_zero = product(rows, weights) - rows @ weights
    error_about_middle = product(rows, weights[:, :128]) - rows @ weights[:, :128]
    assert error_about_middle.std() < 0.6 * error_about_zero.std()


@pytest.mark.parametrize("made", [3, 9])
def test_a_row_or_a_column_of_zeros_gives_zeros(made):
    rows, weights = np.ones((2, 8)), np.ones((8, made), "float32")
    rows[0] = weights[:, 1] = 0
    expected = np.outer([0, 8], np.arange(made) != 1)
    np.testing.assert_allclose(product(rows, weights), expected, rtol=1e-6)
