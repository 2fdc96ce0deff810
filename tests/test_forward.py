"""Laws of the frozen forward: what is folded into the weights changes no answer."""

import numpy as np
import pytest

from skdistill._embedding import PiecewiseLinearEncoding
from skdistill._forward import Forward, Layer


def encode_layer(encoding):
    lines = ("column_", "slope_", "offset_", "lower_", "upper_")
    return Layer("encode", tuple(getattr(encoding, name) for name in lines))


def network(n_in, rng):
    arrays = [rng.normal(size=shape) for shape in ((n_in, 8), (8,), (8, 3), (3,))]
    return [Layer("linear", tuple(arrays[:2])), Layer("relu"), Layer("linear", tuple(arrays[2:]))]


@pytest.mark.parametrize("scale", [1e-13, 1e-6, 1.0, 1e6, 1e13])
@pytest.mark.parametrize("n", [1, 5, 63, 64, 1000])
def test_an_encoding_in_front_gives_what_its_own_encode_gives(n, scale):
    rng = np.random.default_rng(0)
    X = scale * np.column_stack([rng.normal(size=(1000, 2)), rng.integers(0, 3, size=1000)])
    encoding = PiecewiseLinearEncoding(6).fit(X)
    layers = network(encoding.n_features_out_, rng)
    (weight, bias), (W, c) = layers[0].arrays, layers[2].arrays
    far = X[:n] * np.where(rng.random((n, 3)) < 0.1, 50, 1)
    expected = np.maximum(encoding.encode(far) @ weight + bias, 0) @ W + c
    forward = Forward([encode_layer(encoding)], layers, np.dtype(np.float64))
    np.testing.assert_allclose(forward(far), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(forward.apply(far[0]), expected[0], rtol=0, atol=1e-11)
    single = Forward([encode_layer(encoding)], layers, np.dtype(np.float32))
    np.testing.assert_allclose(single(far.astype(np.float32)), expected, rtol=0, atol=1e-4)


def test_constant_columns_encode_to_nothing():
    rng = np.random.default_rng(0)
    encoding = PiecewiseLinearEncoding(4).fit(np.ones((5, 2)))
    layers = network(1, rng)
    forward = Forward([encode_layer(encoding)], layers, np.dtype(np.float64))
    answers = forward(rng.normal(size=(70, 2)))
    assert (answers == answers[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_within_the_bound_give_finite_logits(dtype):
    rng = np.random.default_rng(0)
    encoding = PiecewiseLinearEncoding(6).fit(rng.normal(size=(100, 3)))
    layers = network(encoding.n_features_out_, rng)
    forward = Forward([encode_layer(encoding)], layers, np.dtype(dtype))
    row = np.full((1, 3), np.sqrt(forward.safe_square / 3.01), dtype)
    assert forward.safe_square > 1e6
    assert np.isfinite(forward(row)).all()
