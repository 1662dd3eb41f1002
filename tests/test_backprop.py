"""The four equations against `jax.grad`, and against NumPy that writes every index; the chain; what raises."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures import backprop, losses
from tests.oracles import networks

ACTIVATIONS = sorted(backprop.ACTIVATIONS)
COSTS = ["mse", "cross_entropy"]
SIZES = {1: (3, 2), 2: (3, 4, 2), 5: (3, 5, 4, 5, 3, 2)}  # by depth; no two neighbours alike, so no transpose fits


def problem(sizes, seed=0, samples=7):
    """Layers, samples and one-hot targets in float64."""
    rng = np.random.default_rng(seed)
    layers = [(rng.normal(size=(to, come)), rng.normal(size=to)) for come, to in pairwise(sizes)]
    return layers, rng.normal(size=(samples, sizes[0])), np.eye(sizes[-1])[rng.integers(0, sizes[-1], samples)]


def cost_of(layers, x, y, activation, cost, reduction):
    """The cost by jax.nn alone, for `jax.grad`."""
    a = x
    for i, (w, b) in enumerate(layers):
        a = a @ w.T + b
        if i + 1 < len(layers) or cost == "mse":
            a = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}[activation](a)
    each = jnp.mean((y - a) ** 2, axis=1) if cost == "mse" else -jnp.sum(y * jax.nn.log_softmax(a), axis=1)
    return {"mean": jnp.mean, "sum": jnp.sum}[reduction](each)


def compiled(function, **static):
    return jax.jit(lambda layers, x, y: function(layers, x, y, **static))


# ---- the four equations


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", sorted(SIZES))
def test_equal_to_grad_and_to_the_oracle(depth, activation, cost):
    """1e-12: numbers of at most about 100 and sums of a few hundred roundings of 1.1e-16."""
    layers, x, y = problem(SIZES[depth])

    @jax.jit
    def both(layers, x, y, options=(activation, cost)):
        names = dict(zip(("activation", "cost"), options, strict=True))
        ours = {how: backprop.gradients(layers, x, y, reduction=how, **names) for how in ("mean", "sum")}
        theirs = {how: jax.value_and_grad(cost_of)(layers, x, y, *options, how) for how in ("mean", "sum")}
        return ours, theirs

    ours, theirs = both(layers, x, y)
    for reduction in ("mean", "sum"):
        truth = networks.back_propagation(layers, x, y, activation, cost, reduction)
        assert jax.tree.map(jnp.shape, ours[reduction][1]) == jax.tree.map(jnp.shape, layers)
        for one, other, third in zip(*map(jax.tree.leaves, (ours[reduction], theirs[reduction], truth)), strict=True):
            assert one.dtype == jnp.float64
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
            np.testing.assert_allclose(one, third, rtol=0, atol=1e-12 * max(1, np.abs(third).max()))
        assert max(float(jnp.abs(w).max()) for w, _ in ours[reduction][1]) > 1e-3, "something was compared"


@pytest.mark.usefixtures("x64")
def test_forward_is_the_oracle_and_the_layers_run_from_one():
    layers, x, _ = problem(SIZES[2])
    for cost in COSTS:
        zs, activations = backprop.forward(layers, x, "tanh", cost)
        assert (len(zs), len(activations)) == (2, 3), "z^1 ... z^L, but a^0 ... a^L"
        for i, sample in enumerate(x):
            oracle_zs, oracle_activations = networks.network(layers, sample, "tanh", cost)
            for ours, truth in zip([*zs, *activations], [*oracle_zs, *oracle_activations], strict=True):
                np.testing.assert_allclose(ours[i], truth, rtol=1e-13, atol=1e-15)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_central_differences(activation):
    """The derivative of any parameter by (C(p + h) - C(p - h)) / 2h: h^2 of curvature, 1e-16 / h of rounding."""
    layers, x, y = problem((3, 4, 2))
    _, found = compiled(backprop.gradients, activation=activation, cost="cross_entropy")(layers, x, y)
    cost = compiled(cost_of, activation=activation, cost="cross_entropy", reduction="mean")
    for layer, place in [(0, (2, 1)), (1, (0, 3))]:
        sides = []
        for h in (1e-5, -1e-5):
            moved = [(w.copy(), b) for w, b in layers]
            moved[layer][0][place] += h
            sides.append(cost(moved, x, y))
        np.testing.assert_allclose(found[layer][0][place], (sides[0] - sides[1]) / 2e-5, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_targets_that_do_not_sum_to_one():
    """BP1 is then a^L sum(y) - y."""
    layers, x, _ = problem((3, 4, 2))
    y = np.random.default_rng(1).uniform(0, 3, (len(x), 2))
    options = {"activation": "tanh", "cost": "cross_entropy", "reduction": "mean"}
    _, found = compiled(backprop.gradients, **options)(layers, x, y)
    wanted = compiled(jax.grad(cost_of), **options)(layers, x, y)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_the_mean_is_the_printed_loss():
    layers, x, y = problem((3, 4, 2))
    _, activations = backprop.forward(layers, x)
    value, _ = compiled(backprop.gradients)(layers, x, y)
    np.testing.assert_allclose(value, losses.mse(y, activations[-1]), rtol=1e-6)


def test_relu_at_zero():
    """Its derivative is 0 there, as jax.nn.relu's is."""
    _, found = backprop.gradients([(np.zeros((1, 1)), np.zeros(1))], [[1.0]], [[1.0]], activation="relu")
    np.testing.assert_array_equal(found[0][0], 0)
    assert jax.grad(jax.nn.relu)(0.0) == 0


# ---- sum against mean


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("cost", COSTS)
def test_a_sum_steps_n_times_as_far(cost):
    """Lecture 004 prints both: for N samples, the sum's step is N times the mean's at the same rate."""
    layers, x, y = problem((3, 4, 2), samples=60)
    tx = jol.sgd(0.1)

    def step(reduction):
        value, found = compiled(backprop.gradients, cost=cost, reduction=reduction)(layers, x, y)
        return value, jax.tree.leaves(tx.update(found, tx.init(layers))[0])

    (mean, short), (total, long) = step("mean"), step("sum")
    np.testing.assert_allclose(total, 60 * mean, rtol=1e-13)
    for one, other in zip(short, long, strict=True):
        np.testing.assert_allclose(other, 60 * one, rtol=1e-12)


def test_a_step_of_the_mean_descends_and_a_step_of_the_sum_does_not():
    """60 samples, rate 1: the sum's step is that of a rate of 60 on the mean."""
    layers, x, y = problem((3, 4, 2), samples=60)
    options = {"activation": "tanh", "cost": "cross_entropy"}
    mean, total = (compiled(backprop.gradients, reduction=how, **options) for how in ("mean", "sum"))
    before, short = mean(layers, x, y)
    _, long = total(layers, x, y)
    after = [
        mean(jax.tree.map(lambda p, g: np.float32(p) - g, layers, step), x, y)[0] for step in (short, long)
    ]  # 0.95 -> 0.81 and 12.8
    assert after[0] < 0.9 * before
    assert after[1] > 5 * before


# ---- dtypes


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype):
    """Computed in float32: equal to what float32 gives for the same, rounded, numbers; small gradients survive."""
    layers, x, y = jax.tree.map(lambda a: jnp.asarray(a, dtype), problem((3, 4, 2)))
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), (layers, x, y))
    value, found = compiled(backprop.gradients)(layers, x, y)
    wanted, slope = compiled(backprop.gradients)(*wide)
    assert value == wanted
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(slope), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_array_equal(one, other)
    # sigma'(-17) = 4.1e-8, a quarter of float16's smallest step; 2 (a - y) = -2
    _, tiny = backprop.gradients([(jnp.ones((1, 1), dtype), jnp.zeros(1, dtype))], [[-17.0]], [[1.0]])
    np.testing.assert_allclose(tiny[0][1], -2 * np.exp(-17), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_an_optimizer_takes_these_gradients_for_half_precision_weights(dtype):
    layers, x, y = problem((3, 4, 2))
    layers = jax.tree.map(lambda a: jnp.asarray(a, dtype), layers)
    tx = jol.adam(1e-2)
    ours = compiled(backprop.gradients)
    value, found = ours(layers, x, y)
    updates, _ = tx.update(found, tx.init(layers), layers)
    with jax.numpy_dtype_promotion("standard"):  # optax adds float32 updates to half-precision weights
        moved = jol.apply_updates(layers, updates)
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}
    assert ours(moved, x, y)[0] < value


def test_saturated_units_keep_their_slope():
    """1 - sigma(20) rounds to 0 in float32 beyond 17; sigma(z) sigma(-z) does not. tanh likewise."""
    for z in (20.0, -20.0, 40.0):
        slope = backprop.ACTIVATIONS["sigmoid"][1](jnp.float32(z))
        np.testing.assert_allclose(slope, networks.SLOPE["sigmoid"](z), rtol=2e-6)
        slope = backprop.ACTIVATIONS["tanh"][1](jnp.float32(z))
        np.testing.assert_allclose(slope, networks.SLOPE["tanh"](z), rtol=2e-6)


def test_pixels_and_labels_of_whole_numbers():
    layers, _, _ = problem((3, 4, 2))
    x = np.uint8([[0, 128, 255], [1, 2, 3]])
    ours, y = compiled(backprop.gradients, cost="cross_entropy"), np.array([[0, 1], [1, 0]])
    found, wanted = ours(layers, x, y), ours(layers, np.float32(x), np.float32(y))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- the chain of neurons


@pytest.mark.usefixtures("x64")
def test_four_neurons_as_printed():
    rng = np.random.default_rng(0)
    w, z, gradient = rng.normal(size=4), rng.normal(size=4), 0.7
    found = backprop.chain_bias_gradients(w, z, gradient)
    np.testing.assert_allclose(found, networks.four_neurons(w, z, gradient), rtol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("length", [1, 6])
def test_chain_is_the_gradient_of_a_chain(length, activation):
    """The same numbers from `jax.grad` and from `gradients` with layers of one neuron."""
    rng = np.random.default_rng(length)
    w, b, x, y = rng.normal(size=length) + 1, rng.normal(size=length), 0.3, 0.9
    layers = [(np.full((1, 1), w[i]), b[i : i + 1]) for i in range(length)]

    @jax.jit
    def three_ways(layers, x, y):
        zs, activations = backprop.forward(layers, x, activation)
        gradient = 2 * (activations[-1] - y)[0, 0]
        chain = backprop.chain_bias_gradients(w, jnp.concatenate(zs).ravel(), gradient, activation)
        by_grad = jax.grad(cost_of)(layers, x, y, activation, "mse", "mean")
        return chain, by_grad, backprop.gradients(layers, x, y, activation=activation)[1]

    found, *others = three_ways(layers, np.array([[x]]), np.array([[y]]))
    for other in others:
        np.testing.assert_allclose(found, [float(b[0]) for _, b in other], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("w", "ratio"), [(1.0, 0.015625), (4.0, 1.0), (100.0, 15625.0)])
def test_first_gradient_over_last_is_the_cube_of_a_quarter_of_the_weight(w, ratio):
    """At z = 0: vanishing below 4, exploding above. All numbers are powers and products that float64 holds exactly."""
    found = backprop.chain_bias_gradients(np.full(4, w), np.zeros(4), 1.0)
    assert found[0] / found[3] == ratio == (w / 4) ** 3
    assert found[3] == 0.25


def test_chain_of_many_samples():
    rng = np.random.default_rng(0)
    w, z, gradient = (np.float32(rng.normal(size=shape)) for shape in [(5,), (5, 3), (3,)])
    together = backprop.chain_bias_gradients(w, z, gradient)
    one_by_one = [backprop.chain_bias_gradients(w, z[:, i], gradient[i]) for i in range(3)]
    np.testing.assert_allclose(together, np.stack(one_by_one, axis=1), rtol=1e-6)


# ---- one-hot


def test_one_hot():
    np.testing.assert_array_equal(backprop.one_hot([2, 0], 3), [[0, 0, 1], [1, 0, 0]])
    assert backprop.one_hot(np.uint8([[1, 2]]), 3).shape == (1, 2, 3)
    assert backprop.one_hot(np.int8([127]), 1000)[0, 127] == 1
    assert backprop.one_hot(1, 2).dtype == jnp.float32
    np.testing.assert_array_equal(jax.jit(lambda y: backprop.one_hot(y, 3))(jnp.array([1])), [[0, 1, 0]])


@pytest.mark.parametrize(("label", "text"), [(3, "3"), (-1, "-1"), (250, "250")])
def test_label_out_of_range(label, text):
    """jax.nn.one_hot would give a row of zeros, on which every network is right."""
    with pytest.raises(ValueError, match=rf"labels must lie in 0 \.\.\. 2, got {text} at \(1, 0\)"):
        backprop.one_hot([[0, 1], [label, 2]], 3)
    under_jit = jax.jit(lambda y: backprop.one_hot(y, 3))(jnp.array([0, label]))
    assert np.isnan(under_jit[1]).all()
    np.testing.assert_array_equal(under_jit[0], [1, 0, 0])


def test_labels_of_lecture_004_are_one_class_more():
    """Labels 0 ... K are K + 1 classes: the K columns of the slide have no room for the last."""
    labels, classes = np.array([0, 1, 2, 3]), 3
    with pytest.raises(ValueError, match="got 3 at"):
        backprop.one_hot(labels, classes)
    np.testing.assert_array_equal(backprop.one_hot(labels, classes + 1), np.eye(4))


@pytest.mark.parametrize(
    ("labels", "classes", "error", "text"),
    [
        ([0.0, 1.0], 2, TypeError, "labels must be integers, got dtype float"),
        ([0], 0, ValueError, "classes must be at least 1"),
        ([0], 2.0, TypeError, "classes must be an integer"),
    ],
)
def test_one_hot_of_what_is_no_label(labels, classes, error, text):
    with pytest.raises(error, match=text):
        backprop.one_hot(labels, classes)


# ---- bad input

W, B = np.zeros((4, 3)), np.zeros(4)
X, Y = np.zeros((5, 3)), np.zeros((5, 4))


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([], "layers is empty"),
        ([(W.T, B)], r"layer 1: w of shape \(to, 3\).*fit to x, which has 3 columns, got \(3, 4\) and \(4,\)"),
        ([(W, np.zeros(3))], r"layer 1: .*got \(4, 3\) and \(3,\)"),
        ([(W, B), (W, B)], r"layer 2: w of shape \(to, 4\).*fit to layer 1.*got \(4, 3\) and \(4,\)"),
        ([(W[0], B)], r"layer 1: .*got \(3,\) and \(4,\)"),
    ],
)
def test_layers_that_do_not_fit(layers, text):
    with pytest.raises(ValueError, match=text):
        backprop.gradients(layers, X, Y)
    with pytest.raises(ValueError, match=text):
        backprop.forward(layers, X)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([(W, B), (W, B, B)], r"layer 2 must be a pair \(w, b\), got 3 entries"),
        ([(W,)], "layer 1 .*got 1 entries"),
        ((W, B), "layer 1 .*got ndarray"),  # a single pair for a sequence of them
        (W, "layer 1 .*got ndarray"),
        (np.zeros((1, 2, 3)), "layer 1 .*got ndarray"),  # whose rows are two long
        (jnp.asarray(W), "layer 1 .*got ArrayImpl"),
        (B, "layer 1 .*got float64"),
        ({"w": W, "b": B}, "layer 1 .*got str"),
        (np.zeros((0, 2)), "layers is empty"),
    ],
    ids=["three", "one", "bare", "matrix", "array", "jax", "vector", "names", "none"],
)
def test_layers_that_are_no_pairs(layers, text):
    with pytest.raises(ValueError, match=text):
        backprop.gradients(layers, X, Y)
    with pytest.raises(ValueError, match=text):
        backprop.forward(layers, X)


def test_a_pair_may_be_a_list():
    layers, x, y = problem((3, 2))
    found, wanted = (backprop.gradients(one, x, y) for one in ([list(layers[0])], layers))
    for mine, its in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("x", [X[0], X[None], X[:0]])
def test_samples_that_are_no_rows(x):
    with pytest.raises(ValueError, match=r"x must have shape \(N, P\)"):
        backprop.forward([(W, B)], x)


@pytest.mark.parametrize("y", [Y[:4], Y[:, :3], np.zeros(5, np.int32)])
def test_targets_that_do_not_fit(y):
    with pytest.raises(ValueError, match=r"y has shape .*, the network's output \(5, 4\): .*one_hot"):
        backprop.gradients([(W, B)], X, y)


@pytest.mark.parametrize("options", [{"activation": "gelu"}, {"cost": "mae"}, {"reduction": "none"}])
def test_unknown_names(options):
    (name, value), known = next(iter(options.items())), {"activation": "tanh", "cost": "mse", "reduction": "sum"}
    with pytest.raises(ValueError, match=rf"{name} must be one of .*'{known[name]}'.*, got '{value}'"):
        backprop.gradients([(W, B)], X, Y, **options)


def test_complex_numbers():
    with pytest.raises(TypeError, match="real arrays, got dtype complex64"):
        backprop.forward([(W, B)], np.complex64(X))


@pytest.mark.parametrize(
    ("weights", "zs", "gradient"), [([1.0], [0.0, 0.0], 1.0), ([], [], 1.0), ([1.0], 0.0, 1.0), ([1.0], [0.0], [1.0])]
)
def test_chains_that_do_not_fit(weights, zs, gradient):
    with pytest.raises(ValueError, match=r"a chain of n neurons has weights \(n,\)"):
        backprop.chain_bias_gradients(weights, zs, gradient)
    with pytest.raises(ValueError, match="activation must be one of"):
        backprop.chain_bias_gradients([1.0], [0.0], 1.0, "step")
