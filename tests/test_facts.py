"""What users of optax run into (reproduced on optax 0.2.8) and must not run into here.

`test_witness_...` show the same on optax. They prove nothing about us, so they skip, and say so, once optax mends it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import RATE, build, every_card, run, same_type, standard
from tests.oracles import oracle


def still(witnessed, what):
    """Soft: skips where optax no longer does what our documentation says of it."""
    if not witnessed:
        pytest.skip(f"optax {optax.__version__} mended it: {what}; say so in our documentation")


def after(tx, gradient, w, steps):
    """Weights, state and last updates after `steps` in one program; `gradient` is a function of the weights."""

    def step(carry, _):
        w, state, _ = carry
        updates, state = tx.update(gradient(w), state, w)
        return (optax.apply_updates(w, updates), state, updates), None

    start = (w, tx.init(w), jax.tree.map(jnp.zeros_like, gradient(w)))
    return jax.jit(lambda c: jax.lax.scan(step, c, length=steps)[0])(start)


# ---- bfloat16

HALF = 2.0**-9  # a rounding to bfloat16, relative to the power of two below; 2^-8 of the value at most


@pytest.mark.parametrize("factory", [jol.adam, jol.adamw], ids=["adam", "adamw"])
def test_first_update_in_bfloat16(factory):
    """-1e-3, also where the hyper-parameters are arrays, traced, or injected by optax in float32."""
    w = {"w": jnp.ones(2, jnp.bfloat16)}
    injected = optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32)
    traced = jax.jit(lambda lr, b1, b2: factory(lr, b1, b2).update(w, factory(lr, b1, b2).init(w), w)[0])
    with standard():
        found = [
            factory(1e-3).update(w, factory(1e-3).init(w), w)[0],
            traced(1e-3, 0.9, 0.999),
            injected(1e-3).update(w, injected(1e-3).init(w), w)[0],
        ]
    for updates in found:
        assert updates["w"].dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float64(updates["w"]), -1e-3, rtol=2 * HALF)  # adamw's decay adds 1e-7


def test_a_decay_that_bfloat16_rounds_to_one_is_refused():
    """b2 = 0.999 is 1 in bfloat16: a mean that forgets nothing and learns nothing. It raises, where it can be seen."""
    with pytest.raises(ValueError, match=r"b2 must lie in \[0, 1\), got Array\(1, dtype=bfloat16\)"):
        jol.adamw(1e-3, b2=jnp.bfloat16(0.999))
    w = {"w": jnp.ones(2, jnp.bfloat16)}
    with standard():
        injected = optax.inject_hyperparams(jol.adamw)(1e-3)
        with pytest.raises(ValueError, match="b2 must lie in"):
            injected.update(w, injected.init(w), w)


def test_witness_first_update_in_bfloat16():
    w = {"w": jnp.ones(2, jnp.bfloat16)}
    with standard():
        tx = optax.inject_hyperparams(optax.adamw)(1e-3)
        updates, state = tx.update(w, tx.init(w), w)
    still(float(state.hyperparams["b2"]) == 1.0 and np.isnan(updates["w"]).all(), "the first bfloat16 update was NaN")


CONSTANT = 1 - 0.999**4000  # 0.9817


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_mean_square_of_a_constant_gradient(dtype):
    """After 4000 gradients of 1: nu is 0.982, the step the rate."""
    w = {"w": jnp.zeros(3, dtype)}
    _, state, updates = after(jol.adam(1e-3), lambda w: jax.tree.map(jnp.ones_like, w), w, 4000)
    assert state.nu["w"].dtype == jnp.float32
    # each step rounds nu twice, and a mean over 1 / (1 - b2) = 1000 steps remembers that many of them
    bound = 2000 * 2.0**-24
    np.testing.assert_allclose(state.nu["w"], CONSTANT, rtol=bound)
    rounding = 2 * HALF if dtype == jnp.bfloat16 else 0
    np.testing.assert_allclose(np.float64(updates["w"]), -1e-3, rtol=bound + rounding)


def test_witness_mean_square_of_a_constant_gradient():
    w = {"w": jnp.zeros(3, jnp.bfloat16)}
    with standard():
        _, state, updates = after(optax.adam(1e-3), lambda w: jax.tree.map(jnp.ones_like, w), w, 4000)
    nu, step = float(state[0].nu["w"][0]), float(updates["w"][0])
    still(nu < 0.6 and step < -1.3e-3, f"in bfloat16 nu stalled at 0.5, the step was 1.37e-3; now {nu}, {step}")


def bfloat16_loss(tx):
    """Of 0.5 sum c (w - 0.3)^2, c from 1 to 50 in 64 dimensions, after 4000 steps of bfloat16 weights from 1."""
    c = jnp.linspace(1.0, 50.0, 64)

    def loss(w):
        return 0.5 * jnp.sum(c * (w.astype(jnp.float32) - 0.3) ** 2)

    w, _, _ = after(tx, jax.grad(loss), jnp.ones(64, jnp.bfloat16), 4000)
    assert w.dtype == jnp.bfloat16
    return float(loss(w))


def test_measure_bfloat16_quadratic():
    """At most 6e-4; the nearest bfloat16 to 0.3, 0.30078125, alone costs 0.5 * 64 * 25.5 * 0.00078^2 = 4.98e-4."""
    floor = 0.5 * np.linspace(1, 50, 64).sum() * (0.30078125 - 0.3) ** 2
    assert floor == pytest.approx(4.98e-4, rel=1e-3)
    loss = bfloat16_loss(jol.adam(1e-2))
    assert floor * (1 - 1e-4) <= loss <= 6e-4


def test_witness_bfloat16_quadratic():
    with standard():
        loss = bfloat16_loss(optax.adam(1e-2))
    still(loss > 6e-3, f"bfloat16 Adam ended at 0.091; now {loss}")


# ---- bias correction in float32


def distance_to_float64(factory, steps, b2=0.9999, rate=1e-2):
    """Largest error of the sum of Adam's float32 updates against NumPy float64, in 64 coordinates."""
    gradients = np.random.default_rng(0).normal(size=(steps, 64)).astype(np.float32)
    truth = oracle("adam")(np.zeros(64), gradients, learning_rate=rate, b2=b2)[-1]
    tx = factory(rate, b2=b2)

    def step(state, g):
        updates, state = tx.update(g, state)
        return state, updates

    _, updates = jax.jit(lambda s: jax.lax.scan(step, s, gradients))(tx.init(jnp.zeros(64)))
    return float(np.max(np.abs(np.asarray(updates, np.float64).sum(0) - truth)))


def test_measure_adam_float32():
    """20 steps of 1e-2: sqrt(20) * 1e-2 times about 4 roundings is 1e-8; 20,000 more, as the roundings of nu add up."""
    assert distance_to_float64(jol.adam, 20) <= 1e-7
    assert distance_to_float64(jol.adam, 20_000) <= 1e-5


def test_witness_adam_float32():
    with standard():
        short, long = distance_to_float64(optax.adam, 20), distance_to_float64(optax.adam, 20_000)
    still(short > 1e-6 and long > 1e-4, f"float32 Adam was off by 1.1e-5 and 3.7e-4; now {short}, {long}")


# ---- clipping


def clipped(tx, g):
    return jax.jit(lambda g: tx.update(g, tx.init(g))[0])(g)


def test_clip_of_zeros():
    np.testing.assert_array_equal(clipped(jol.clip_by_global_norm(0.0), {"w": jnp.zeros(3)})["w"], np.zeros(3))


def test_clip_of_one_infinity():
    """The infinite entry keeps its direction; optax turns it into NaN and all else into 0."""
    g = {"a": jnp.float32([1.0, -jnp.inf]), "b": jnp.ones(2)}
    found = clipped(jol.clip_by_global_norm(1.0), g)
    np.testing.assert_allclose(found["a"], [0.0, -1.0], rtol=2.0**-23, atol=1e-37)
    np.testing.assert_allclose(found["b"], [0.0, 0.0], atol=1e-37)


def test_clip_of_float16():
    """Ten times 300 have the norm 949: each becomes 1 / sqrt(10), to a rounding of float16."""
    found = clipped(jol.clip_by_global_norm(1.0), {"w": jnp.full(10, 300.0, jnp.float16)})
    np.testing.assert_allclose(np.float64(found["w"]), 0.1**0.5, rtol=2.0**-11)


def test_witness_clip():
    with standard():
        zero = clipped(optax.clip_by_global_norm(0.0), {"w": jnp.zeros(3)})["w"]
        one = clipped(optax.clip_by_global_norm(1.0), {"w": jnp.float32([1.0, jnp.inf, 2.0])})["w"]
        half = clipped(optax.clip_by_global_norm(1.0), {"w": jnp.full(10, 300.0, jnp.float16)})["w"]
    still(np.isnan(zero).all(), "a clip of zeros to 0 was NaN")
    still(np.isnan(one[1]) and float(one[0]) == float(one[2]) == 0.0, "one inf became NaN, the rest 0")
    still((np.asarray(half) == 0).all(), "float16 gradients whose norm overflows became 0")


# ---- NaN


def diverged(tx, steps=12):
    """Weights after gradients that are all NaN, compiled."""
    w, _, _ = after(tx, lambda w: {"w": jnp.full_like(w["w"], jnp.nan)}, {"w": jnp.ones(2)}, steps)
    return w["w"]


def test_nan_is_never_let_through():
    np.testing.assert_array_equal(diverged(jol.skip_nonfinite(jol.sgd(0.1), max_consecutive=2)), [1.0, 1.0])


def test_witness_nan_is_let_through():
    with standard():
        steps = [np.isnan(diverged(optax.apply_if_finite(optax.sgd(0.1), 2), n)).any() for n in (2, 3)]
    still(steps == [False, True], "apply_if_finite(sgd, 2) applied the third NaN")


# ---- directions and sweeps


def distance(tx, steps=200):
    """f = x^2 / 2 in ten dimensions from 1, f = 5, after `steps`."""
    w, _, _ = after(tx, lambda w: w, jnp.ones(10), steps)
    return 0.5 * float(jnp.sum(w**2))


def test_adadelta_descends():
    """By default, as at a learning rate of 1; the number is the oracle's."""
    truth = oracle("adadelta")(np.ones(10), [lambda w: w] * 200)[-1]
    np.testing.assert_allclose(distance(jol.adadelta()), 0.5 * np.sum(truth**2), rtol=1e-4)
    assert distance(jol.adadelta()) < 1.6
    assert distance(jol.adadelta()) == distance(jol.adadelta(1.0))


def test_witness_adadelta_ascends():
    with standard():
        f = distance(optax.adadelta())
    still(f > 10, f"optax.adadelta() climbed from 5 to 26; now {f}")


COSINE = {"init_value": 0.01, "peak_value": 0.1, "warmup_steps": 4.0, "decay_steps": 20.0, "end_value": 0.001}
SWEPT = {"peak_value": [0.1, 0.2, 0.3], "warmup_steps": [2.0, 4.0, 8.0], "decay_steps": [10.0, 20.0, 40.0]}


def swept(factory, name):
    return jax.vmap(lambda v: factory(**{**COSINE, name: v})(jnp.int32(6)))(jnp.float32(SWEPT[name]))


@pytest.mark.parametrize("name", SWEPT)
def test_schedules_can_be_swept(name):
    found = swept(jol.warmup_cosine_decay_schedule, name)
    for lane, value in enumerate(SWEPT[name]):
        whole = {k: int(v) if k.endswith("steps") else v for k, v in {**COSINE, name: value}.items()}
        with standard():
            theirs = optax.warmup_cosine_decay_schedule(**whole)(6)
        np.testing.assert_allclose(found[lane], theirs, rtol=1e-6, err_msg=name)  # a cosine and ten roundings
    assert len(set(np.asarray(found).tolist())) == 3


def test_a_sweep_trains():
    """Adam under three schedules at once is Adam under each."""

    def end(peak, warmup, steps):
        tx = jol.adam(jol.warmup_cosine_decay_schedule(0.0, peak, warmup, steps))
        return after(tx, lambda w: w, jnp.ones(3), 8)[0]

    together = jax.vmap(end)(*(jnp.float32(v) for v in SWEPT.values()))
    for lane in range(3):
        alone = end(*(v[lane] for v in SWEPT.values()))
        np.testing.assert_allclose(together[lane], alone, rtol=8 * 10 * 2.0**-24)  # 8 steps, ten roundings each


def test_witness_schedules_cannot_be_swept():
    failed = []
    with standard():
        for name in SWEPT:
            try:
                swept(optax.warmup_cosine_decay_schedule, name)
            except Exception:
                failed.append(name)
    still("peak_value" in failed and "warmup_steps" in failed, "a traced peak or warm-up raised")


# ---- trees

MIXED = {"wide": jnp.ones(3), "narrow": jnp.ones(2, jnp.bfloat16), "half": jnp.float16(1.0), "nothing": None}


@every_card
def test_mixed_dtypes_stay(card):
    """Each update has the dtype of its gradient, each weight keeps its own."""
    tx = build(card)
    updates, _ = jax.jit(tx.update)(MIXED, tx.init(MIXED), MIXED)
    same_type(updates, MIXED)
    same_type(optax.apply_updates(MIXED, updates), MIXED)


@pytest.mark.parametrize(
    "tx",
    [jol.clip(0.1), jol.clip_by_global_norm(0.1), jol.clip_by_percentile(10.0, 3), jol.skip_nonfinite(jol.adam(0.1))],
    ids=["clip", "global norm", "percentile", "skip"],
)
def test_mixed_dtypes_stay_in_clips_and_wrappers(tx):
    updates, _ = jax.jit(tx.update)(MIXED, tx.init(MIXED), MIXED)
    same_type(updates, MIXED)


def test_witness_flatten_makes_all_float32():
    w = {"wide": jnp.ones(3), "narrow": jnp.ones(2, jnp.bfloat16)}
    with standard():
        tx = optax.flatten(optax.adam(RATE))
        updates, _ = tx.update(w, tx.init(w), w)
    still(updates["narrow"].dtype == jnp.float32, "flatten(adam) turned bfloat16 updates into float32")


def test_masked_and_none():
    """A chain under a mask: the norm is that of the chosen leaves, the others pass, None stays None."""
    w = {"chosen": jnp.float32([3.0, 4.0]), "frozen": jnp.float32([1e6]), "nothing": None}
    tx = optax.masked(
        jol.chain(jol.clip_by_global_norm(1.0), jol.skip_nonfinite(jol.nesterov(0.5, 0.8))),
        {"chosen": True, "frozen": False, "nothing": None},
    )
    path, state = run(tx, w, [w])
    assert float(optax.tree_utils.tree_get(state, "norm")) == 5.0
    # clipped to (0.6, 0.8); phi moves by (1 + 0.8) * 0.5 of it; roundings of numbers below 4
    np.testing.assert_allclose(path[0]["chosen"], [3 - 0.9 * 0.6, 4 - 0.9 * 0.8], rtol=4 * 2.0**-24)
    np.testing.assert_array_equal(path[0]["frozen"], [2e6])
    assert path[0]["nothing"] is None
    ends = jol.eval_params(state, path[0])
    np.testing.assert_allclose(ends["chosen"], [3 - 0.5 * 0.6, 4 - 0.5 * 0.8], rtol=4 * 2.0**-24)
    np.testing.assert_array_equal(ends["frozen"], [2e6])
