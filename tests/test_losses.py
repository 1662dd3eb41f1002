"""The printed losses against NumPy float64, torch and optax, at the ends of the range, and in the wrong shape."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxopt_lectures import losses
from tests.oracles import networks

UNIT = 2.0**-24  # float32: the largest relative error of one rounding
SQUARES = [losses.mse, losses.lse]
MAGNITUDES = [losses.mae, losses.lad]
CLASSES = [losses.cross_entropy, losses.cross_entropy_with_logits]
MAX = float(jnp.finfo(jnp.float32).max)

_value_and_slope = jax.jit(jax.value_and_grad(losses.cross_entropy_with_logits, argnums=1))

moderate = hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32))


def rows(values):
    """(..., c) as shares that sum to 1."""
    return values / values.sum(axis=-1, keepdims=True)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rows(rng.uniform(size=(5, 3)))


# ---- the formulas


@given(moderate, moderate)
def test_means_of_any_numbers(y, y_hat):
    """One rounding in the residual, doubled by the square; one in the square; 12 in the sum; one in the division."""
    floor = 1e-37  # what is smaller is flushed to 0
    for loss in SQUARES:
        np.testing.assert_allclose(loss(y, y_hat), networks.mse(y, y_hat), rtol=16 * UNIT, atol=floor)
    for loss in MAGNITUDES:
        np.testing.assert_allclose(loss(y, y_hat), networks.mae(y, y_hat), rtol=16 * UNIT, atol=floor)


@given(hnp.arrays(np.float32, (4,), elements=st.floats(-50, 50, width=32)), st.integers(0, 3))
def test_cross_entropy_of_any_logits(logits, label):
    """The terms are at most 100, and about ten roundings are made of sums of such."""
    o = np.eye(4)[label]
    truth = networks.cross_entropy_with_logits(o, logits)
    np.testing.assert_allclose(losses.cross_entropy_with_logits(o, logits), truth, rtol=0, atol=10 * UNIT * 101)


@pytest.mark.usefixtures("x64")
def test_oracle_in_float64(sample):
    """A dozen roundings of 1.1e-16, of sums of numbers below 10."""
    y, y_hat, o = sample
    near = {"rtol": 1e-14, "atol": 1e-15}
    for loss, truth in [(losses.mse, networks.mse), (losses.mae, networks.mae)]:
        found = loss(y, y_hat)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, truth(y, y_hat), **near)
    probabilities = np.array([networks.softmax(row) for row in y])
    truth = [networks.cross_entropy(*pair) for pair in zip(o, probabilities, strict=True)]
    np.testing.assert_allclose(losses.cross_entropy(o, probabilities), truth, **near)
    np.testing.assert_allclose(losses.cross_entropy_with_logits(o, y), truth, **near)
    np.testing.assert_allclose(
        [networks.cross_entropy_with_logits(*pair) for pair in zip(o, y, strict=True)], truth, **near
    )


@pytest.mark.usefixtures("x64")
def test_gradients(sample):
    """2 (y_hat - y) / N, sign(y_hat - y) / N, - o / y_hat, softmax - o."""
    y, y_hat, o = sample
    p = rows(np.exp(y))
    for loss, arguments, truth in [
        (losses.mse, (y, y_hat), 2 * (y_hat - y) / y.size),
        (losses.mae, (y, y_hat), np.sign(y_hat - y) / y.size),
        (losses.cross_entropy, (o, p), -o / p),
        (losses.cross_entropy_with_logits, (o, y), p - o),
    ]:
        slope = jax.jit(jax.grad(lambda *pair, loss=loss: jnp.sum(loss(*pair)), argnums=1))
        found = slope(*arguments)
        np.testing.assert_allclose(found, truth, rtol=1e-14, atol=1e-15)


# ---- twins


@pytest.mark.usefixtures("x64")
def test_optax_twins(sample):
    y, y_hat, o = sample
    near = {"rtol": 1e-14}
    np.testing.assert_allclose(losses.mse(y, y_hat), jnp.mean(optax.squared_error(y_hat, y)), **near)
    np.testing.assert_allclose(losses.mse(y, y_hat), 2 * jnp.mean(optax.l2_loss(y_hat, y)), **near)  # it carries 1/2
    np.testing.assert_allclose(
        losses.cross_entropy_with_logits(o, y), optax.softmax_cross_entropy(jnp.asarray(y), jnp.asarray(o)), **near
    )
    with jax.numpy_dtype_promotion("standard"):
        integer = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(y), jnp.array([0, 2, 1, 1, 0]))
    np.testing.assert_allclose(losses.cross_entropy_with_logits(np.eye(3)[[0, 2, 1, 1, 0]], y), integer, **near)


@pytest.mark.usefixtures("x64")
def test_torch_twins(sample):
    torch = pytest.importorskip("torch", reason="torch is a twin in tests only; pip install torch==2.13.0")
    y, y_hat, o = sample
    of, near = torch.nn.functional, {"rtol": 1e-14}
    t, t_hat, shares = (torch.tensor(a, requires_grad=True) for a in (y, y_hat, o))
    for ours, theirs in [(losses.mse, of.mse_loss), (losses.mae, of.l1_loss)]:
        np.testing.assert_allclose(ours(y, y_hat), theirs(t_hat, t).item(), **near)
    theirs = of.cross_entropy(t, shares, reduction="none")
    np.testing.assert_allclose(losses.cross_entropy_with_logits(o, y), theirs.detach().numpy(), **near)
    # torch's l1_loss has the subgradient 0 at 0 too
    of.l1_loss(t_hat[0, 0], t_hat[0, 0].detach()).backward()
    assert t_hat.grad[0, 0] == 0 == jax.grad(losses.mae, argnums=1)(1.0, 1.0)


def test_names_of_lecture_002_are_means():
    """LSE is MSE and LAD is MAE, element for element; the sums that the names promise are N times as large."""
    o, y_hat = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1])
    assert losses.lse(o, y_hat) == losses.mse(o, y_hat) == 3.5
    assert losses.lad(o, y_hat) == losses.mae(o, y_hat) == 1.5
    assert np.sum((o - y_hat) ** 2) == 4 * losses.lse(o, y_hat)


def test_leading_axes_stay():
    o, y_hat = np.float32(np.full((2, 5, 4), 0.25)), np.float32(np.full((2, 5, 4), 0.25))
    for loss in CLASSES:
        assert loss(o, y_hat).shape == (2, 5)
        np.testing.assert_allclose(loss(o, y_hat), np.log(4), rtol=4 * UNIT)
        np.testing.assert_array_equal(jax.jit(jax.vmap(loss))(o, y_hat), loss(o, y_hat))


# ---- dtypes


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype):
    """A residual of 300 has the square 90000, beyond float16's 65504; a mean of 5000 ones is 1."""
    y, y_hat = jnp.full((5000,), 300, dtype), jnp.zeros((5000,), dtype)
    for loss, value in [(losses.mse, 90000.0), (losses.lse, 90000.0), (losses.mae, 300.0), (losses.lad, 300.0)]:
        found, slope = jax.jit(jax.value_and_grad(loss, argnums=1))(y, y_hat)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, value, rtol=16 * UNIT)
        assert slope.dtype == dtype
    o, logits = jnp.array([0, 1], dtype), jnp.array([300, -300], dtype)
    found, slope = _value_and_slope(o, logits)
    assert found == 600
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(np.float32(slope), [1, -1])
    small = jnp.array([6e-8, 1], jnp.float16)  # float16's smallest number
    found = losses.cross_entropy(jnp.array([1, 0], jnp.float16), small)
    np.testing.assert_allclose(found, -np.log(2.0**-24), rtol=4 * UNIT)


@pytest.mark.parametrize("loss", [*SQUARES, *MAGNITUDES, *CLASSES])
def test_whole_numbers_and_truth_values(loss):
    """Targets are often labels, counts or flags; uint8 0 - 1 is not 255."""
    y_hat = np.float32([0.2, 0.3, 0.5])
    wanted = loss(np.float32([0, 0, 1]), y_hat)
    for target in ([False, False, True], [0, 0, 1], np.uint8([0, 0, 1]), jnp.array([0, 0, 1], jnp.int8)):
        assert loss(target, y_hat) == wanted
        assert loss(target, y_hat).dtype == jnp.float32
    assert losses.mse(np.uint8([0, 0]), np.uint8([1, 1])) == 1
    assert jnp.isfinite(jax.grad(loss, argnums=1)(jnp.array([0, 0, 1]), y_hat)).all()


# ---- limits


def test_subgradient_of_a_magnitude():
    """0 at 0, not the 1 of jnp.abs; elsewhere the sign."""
    y, y_hat = jnp.float32([1, 1, 1]), jnp.float32([1, 3, -3])
    np.testing.assert_allclose(jax.grad(losses.mae, argnums=1)(y, y_hat), np.float32([0, 1, -1]) / 3, rtol=UNIT)
    np.testing.assert_allclose(jax.grad(losses.lad)(y, y_hat), np.float32([0, -1, 1]) / 3, rtol=UNIT)


def test_zero_times_log_zero():
    """o log(y_hat) tends to 0 as y_hat does, for o = 0, and its gradient is 0 all the way."""
    o, y_hat = jnp.float32([0, 1, 0]), jnp.float32([0, 1, 1e-40])
    assert losses.cross_entropy(o, y_hat) == 0
    np.testing.assert_array_equal(jax.grad(losses.cross_entropy, argnums=1)(o, y_hat), [0, -1, 0])
    assert jnp.isfinite(jax.grad(losses.cross_entropy)(o, y_hat)).all()


def test_impossible_event():
    """As printed, a class of probability 0 that occurs costs inf; its logits cost what they cost."""
    o, logits = jnp.float32([0, 1]), jnp.float32([0, -1e4])
    assert losses.cross_entropy(o, jax.nn.softmax(logits)) == np.inf
    assert jax.grad(losses.cross_entropy, argnums=1)(o, jax.nn.softmax(logits))[1] == -np.inf
    value, slope = _value_and_slope(o, logits)
    assert value == 1e4
    np.testing.assert_array_equal(slope, [1, -1])


@given(
    hnp.arrays(np.float32, (3,), elements=st.floats(-MAX, MAX, width=32, allow_subnormal=False)),
    st.sampled_from([[1, 0, 0], [0, 0.5, 0.5], [0.25, 0.25, 0.5], [0, 0, 0]]),
)
def test_logits_of_any_size(logits, o):
    """Finite, with the gradient softmax - o, for every finite logit."""
    o = np.float32(o)
    value, slope = _value_and_slope(o, logits)
    truth = networks.cross_entropy_with_logits(o, logits)
    # relative to the largest term, about ten roundings; beyond float32 the largest number stands
    room = 10 * UNIT * (1 + 2 * np.abs(np.float64(logits)).max())
    assert abs(float(value) - min(truth, MAX)) <= room
    np.testing.assert_allclose(slope, o.sum() * np.float64(networks.softmax(logits)) - o, atol=1e-5)


def test_infinite_logits():
    """-inf masks a class out, +inf decides; NaN stays."""
    cost = losses.cross_entropy_with_logits
    np.testing.assert_allclose(cost(np.float32([1, 0, 0]), np.float32([1, 1, -np.inf])), np.log(2), rtol=4 * UNIT)
    _, masked = _value_and_slope(jnp.float32([1, 0, 0]), jnp.float32([1, 1, -np.inf]))
    np.testing.assert_allclose(masked, [-0.5, 0.5, 0], atol=4 * UNIT)
    assert cost([1, 0], np.float32([np.inf, 0])) == 0
    assert cost([0, 1], np.float32([np.inf, 0])) == np.finfo(np.float32).max
    assert np.isnan(cost([1, 0], np.float32([np.nan, 0])))
    assert np.isnan(losses.cross_entropy([1, 0], np.float32([np.nan, 0])))
    assert np.isnan(losses.cross_entropy([1, 0], np.float32([-0.5, 1.5]))), "no probability"


def test_second_derivatives():
    """diag(p) - p p^T, at p = (1/2, 1/2)."""
    hessian = jax.jit(jax.hessian(losses.cross_entropy_with_logits, argnums=1))
    found = hessian(jnp.float32([1, 0]), jnp.zeros(2))
    np.testing.assert_allclose(found, [[0.25, -0.25], [-0.25, 0.25]], rtol=4 * UNIT)


# ---- bad input


@pytest.mark.parametrize("loss", [*SQUARES, *MAGNITUDES, *CLASSES])
@pytest.mark.parametrize("shapes", [((3,), (3, 1)), ((3, 1), (3,)), ((2, 3), (3,)), ((), (1,)), ((2,), (3,))])
def test_nothing_is_broadcast(loss, shapes):
    with pytest.raises(ValueError, match="they must be equal") as caught:
        loss(*map(np.zeros, shapes))
    first, second = loss.__code__.co_varnames[:2]
    assert f"{first} has shape {shapes[0]}, {second} {shapes[1]}" in str(caught.value)


def test_labels_in_the_place_of_rows():
    for loss in CLASSES:
        with pytest.raises(ValueError, match=r"o has shape \(5,\), .* \(5, 3\).*one_hot\(labels, classes\)"):
            loss(np.zeros(5, np.int32), np.zeros((5, 3)))


@pytest.mark.parametrize("loss", [*SQUARES, *MAGNITUDES, *CLASSES])
def test_nothing_and_what_is_no_number(loss):
    with pytest.raises(ValueError, match="there is no element"):
        loss(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(TypeError, match="must be real, got dtype complex64"):
        loss(np.complex64([1j]), np.float32([1]))
    with pytest.raises(TypeError):
        loss(["one"], [1.0])


def test_two_scalars_have_no_classes():
    for loss in CLASSES:
        with pytest.raises(ValueError, match="the last axis must be that of the classes"):
            loss(1.0, 0.5)
    assert losses.mse(1.0, 0.5) == 0.25
