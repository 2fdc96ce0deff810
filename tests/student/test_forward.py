"""Laws of the frozen forward: what is folded into the weights changes no answer."""

import numpy as np
import pytest
from scipy import special

from skdistill.student import Forward, Layer
from skdistill.student import forward as _forward
from skdistill.student.forward import _largest, log_softmax, softmax
from skdistill.tables import Lines, PiecewiseLinearEncoding, bins


def encode_layer(encoding):
    return Layer("encode", encoding.lines)


def network(n_in, rng, hidden=(8,)):
    layers = []
    for n_out in (*hidden, 3):
        layers += [Layer("linear", (rng.normal(size=(n_in, n_out)), rng.normal(size=n_out)))]
        layers += [Layer("relu")]
        n_in = n_out
    return layers[:-1]


def kinds(forward):
    names = {function: kind for kind, function in _forward._LAYERS.items()}
    return [names[function] for function, _ in forward.layers]


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
    forward = Forward([encode_layer(encoding), *layers], np.dtype(np.float64))
    np.testing.assert_allclose(forward(far), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(forward.apply(far[0]), expected[0], rtol=0, atol=1e-11)
    single = Forward([encode_layer(encoding), *layers], np.dtype(np.float32))
    np.testing.assert_allclose(single(far.astype(np.float32)), expected, rtol=0, atol=1e-4)


def test_constant_columns_encode_to_nothing():
    rng = np.random.default_rng(0)
    encoding = PiecewiseLinearEncoding(4).fit(np.ones((5, 2)))
    layers = network(1, rng)
    forward = Forward([encode_layer(encoding), *layers], np.dtype(np.float64))
    answers = forward(rng.normal(size=(70, 2)))
    assert (answers == answers[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_within_the_bound_give_finite_logits(dtype):
    rng = np.random.default_rng(0)
    encoding = PiecewiseLinearEncoding(6).fit(rng.normal(size=(100, 3)))
    layers = network(encoding.n_features_out_, rng)
    forward = Forward([encode_layer(encoding), *layers], np.dtype(dtype))
    row = np.full((1, 3), np.sqrt(forward.safe_square / 3.01), dtype)
    assert forward.safe_square > 1e6
    assert np.isfinite(forward(row)).all()


@pytest.mark.parametrize("hidden", [(), (8,), (8, 5), (8, 5, 4)])
@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "embedding"])
def test_networks_of_any_depth_are_folded_and_answer_as_before(encoded, hidden):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    encoding = PiecewiseLinearEncoding(6).fit(X)
    layers = network(encoding.n_features_out_ if encoded else 3, rng, hidden)
    forward = Forward([encode_layer(encoding)] * encoded + layers, np.dtype(np.float64))
    expected = encoding.encode(X) if encoded else X
    for kind, arrays in layers:
        expected = np.maximum(expected, 0) if kind == "relu" else expected @ arrays[0] + arrays[1]
    np.testing.assert_allclose(forward(X), expected, rtol=0, atol=1e-11)
    # No pass is spent on slopes, nor on a bias before a rectifier.
    assert kinds(forward) == ["encode"] * encoded + ["matmul", "floor"] * len(hidden) + ["linear"]
    if encoded:
        assert not Lines(*forward.layers[0][1]).slope.size


@pytest.mark.parametrize(("size", "single", "double"), [(1, 1, 1), (1e3, 0, 1), (1e5, 0, 0)])
def test_a_bias_moves_behind_the_relu_where_the_dtype_has_the_digits(size, single, double):
    rng = np.random.default_rng(0)
    layers = network(3, rng)
    (weight, bias), (W, c) = layers[0].arrays, layers[2].arrays
    layers[0] = Layer("linear", (weight, bias * size / (np.abs(bias) @ np.abs(W)).max()))
    X = rng.normal(size=(20, 3))
    expected = np.maximum(X @ weight + layers[0].arrays[1], 0) @ W + c
    for dtype, moved in ((np.float32, single), (np.float64, double)):
        forward = Forward(layers, np.dtype(dtype))
        assert ("matmul" in kinds(forward)) == moved
        atol = 4 * (size + 10) * np.finfo(dtype).eps
        np.testing.assert_allclose(forward(X.astype(dtype)), expected, rtol=0, atol=atol)


def test_one_row_of_many_columns_is_encoded_as_in_a_batch():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, bins._MANY + 6))
    encoding = PiecewiseLinearEncoding(3).fit(X)
    layers = network(encoding.n_features_out_, rng)
    forward = Forward([encode_layer(encoding), *layers], np.dtype(np.float64))
    np.testing.assert_allclose(forward.apply(X[0]), forward(X)[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scaling_in_front_works_in_float64_and_answers_in_the_dtype(dtype):
    rng = np.random.default_rng(0)
    mean, scale = np.full(3, 1e6), np.full(3, 0.5)
    X = (1e6 + rng.normal(size=(20, 3))).astype(dtype)
    layers = network(3, rng)
    (weight, bias), (W, c) = layers[0].arrays, layers[2].arrays
    forward = Forward([Layer("standardise", (mean + 0.01, scale)), *layers], np.dtype(dtype))
    expected = np.maximum((X.astype(float) - mean - 0.01) / scale @ weight + bias, 0) @ W + c
    for logits, rows in ((forward(X), expected), (forward.apply(X[0]), expected[0])):
        assert logits.dtype == dtype
        # A float64 near 1e6 has ten digits behind the point.
        atol = 20 * max(np.finfo(dtype).eps, 1e-10)
        np.testing.assert_allclose(logits, rows, rtol=0, atol=atol)


@pytest.mark.parametrize("n_bytes", [1, 200 * 8 * 8, 10**6])
def test_chunks_of_any_size_join_without_a_seam(n_bytes, monkeypatch):
    rng = np.random.default_rng(0)
    layers, X = network(3, rng), rng.normal(size=(450, 3))
    whole = Forward(layers, np.dtype(np.float64)).apply(X)
    monkeypatch.setattr(_forward, "_CHUNK_BYTES", n_bytes)
    forward = Forward(layers, np.dtype(np.float64))
    for n in (1, 127, 128, 129, 199, 200, 201, 400, 450):
        np.testing.assert_allclose(forward(X[:n]), whole[:n], rtol=0, atol=1e-13)


def test_weights_that_overflow_in_the_dtype_leave_no_row_safe():
    layers = [Layer("linear", (np.full((3, 2), 1e200), np.zeros(2)))]
    forward = Forward(layers, np.dtype(np.float32))
    assert forward.safe_square == 0


# One row of one positive number, on which each bound is met: 3 h + 5, and the like.
def line(*numbers):
    return tuple(np.array([number], dtype=float) for number in numbers)


@pytest.mark.parametrize(
    ("layer", "largest"),
    [
        (Layer("matmul", (np.full((1, 1), -3.0),)), 3 * 10),
        (Layer("linear", (np.full((1, 1), -3.0), *line(-5))), 3 * 10 + 5),
        (Layer("floor", line(-5)), 10 + 5),
        (Layer("affine", line(-3, -5)), 3 * 10 + 5),
        (Layer("layer_norm", (*line(-300, -5), np.array(1e-5))), 300 + 5),
        (Layer("layer_norm", (*line(3, 5), np.array(1e-5))), 10**2),
        (Layer("standardise", line(-5, 0.5)), (10 + 5) / 0.5),
        (Layer("encode", (np.array([0]), *line(-3, -5, -7, 6))), 3 * 10 + 5),
        (Layer("encode", (np.array([0]), *line(3, 5, -70, 6))), 70),
        (Layer("encode", (np.array([0]), *line(3, 5, 6, 70))), 70),
        (Layer("encode", (np.array([0]), np.zeros(0), *line(-5, -7, 6))), 10 + 5),
        (Layer("encode", (np.array([0]), np.zeros(0), *line(5, -70, 6))), 70),
        (Layer("encode", (np.array([0]), np.zeros(0), *line(5, 6, 70))), 70),
        (Layer("tanh"), 10),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_the_bound_is_the_largest_number_on_the_way(layer, largest):
    np.testing.assert_allclose(_largest([layer], 10.0), largest, rtol=1e-15)
    # What a layer makes small again has been large, and the next layer starts from what it makes.
    half = Layer("matmul", (np.full((1, 1), 0.5),))
    np.testing.assert_allclose(_largest([layer, half], 10.0), largest, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-5, 1.0, 1e5, 1e10, 1e20, 1e31])
def test_the_safe_square_is_as_large_as_the_weights_allow(size, dtype):
    layers = [Layer("matmul", (np.array([[1.0]]),)), Layer("matmul", (np.array([[size]]),))]
    safe = Forward(layers, np.dtype(dtype)).safe_square
    limit = {np.float32: 1e30, np.float64: 1e200}[dtype]
    # Sums of squares and what the network makes of the row both stay below the limit.
    for largest in (safe, max(1.0, size) * safe**0.5):
        assert largest <= limit * (1 + 1e-12)
    assert safe == pytest.approx(limit) or size * safe**0.5 * 1e3 > limit * (1 - 1e-12)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 8, 9, 70])
@pytest.mark.parametrize("n", [1, 63, 64, 100])
def test_softmax_is_that_of_scipy_for_rows_and_for_one_row(n, n_classes):
    logits = 10 * np.random.default_rng(0).normal(size=(n, n_classes))
    expected = special.softmax(logits, axis=1)
    np.testing.assert_allclose(softmax(logits.copy()), expected, rtol=1e-13)
    np.testing.assert_allclose(softmax(logits[0].copy()), expected[0], rtol=1e-13)
    expected = special.log_softmax(logits, axis=1)
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-13, atol=1e-14)
