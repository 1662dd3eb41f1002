"""The lectures' misprints, taken literally, beside our optimizers: every number that cards and oracles quote.

A literal transcription of lecture 003 passes a test that only asks the loss to go down; so the numbers are asked.
"""

from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.oracles import errata, oracle

pytestmark = pytest.mark.usefixtures("x64")


def descend(tx, gradient, start, steps):
    """Weights after each step, in float64, one program."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(gradient(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    w = jnp.asarray(start, jnp.float64)
    _, path = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((w, tx.init(w)))
    assert path.dtype == jnp.float64
    return np.asarray(path)


def hill(w):
    """The slope of (w - 3)^2 / 2: whoever loses the gradient's sign climbs it on one side."""
    return w - 3.0


def bowl(w):
    """The slope of w^2 / 2."""
    return w


def valley(w):
    """The slope of (100 x^2 + y^2) / 2."""
    return np.array([100.0, 1.0]) * w


def is_printed(value, printed):
    """`value` is what was printed, to half a unit of its last digit."""
    half = 0.5 * 10.0 ** Decimal(printed).as_tuple().exponent
    assert abs(float(value) - float(printed)) <= half, f"{value} is not {printed}"


def card_says(name, printed, value):
    """The card quotes the number, and it is right."""
    assert printed in " ".join(jol.registry.get(name).errata), f"the card of {name} no longer says {printed}"
    is_printed(value, printed)


# ---- gradient descent and momentum


def test_descent_without_a_rate():
    """003 on the way: w = w - w', four steps on 4 w^2 / 2 from 1 end at 81; with a rate of 0.1 at 0.6^4."""
    assert float(errata.gradient_descent_003_no_rate(1.0, [lambda w: 4 * w] * 4)[-1]) == 81.0
    np.testing.assert_allclose(descend(jol.sgd(1.0), lambda w: 4 * w, 1.0, 4)[-1], 81.0, rtol=0)
    np.testing.assert_allclose(descend(jol.sgd(0.1), lambda w: 4 * w, 1.0, 4)[-1], 0.6**4, rtol=1e-15)


def test_theta_on_both_sides():
    """001: theta^{k+1} = theta^{k+1} - rho g holds where rho g = 0, whatever theta; the step takes theta^k."""
    for theta in (0.0, 5.0):
        assert float(errata.minibatch_001_residual(theta, 0.1, 2.0)) == pytest.approx(0.2, abs=1e-15)
    np.testing.assert_allclose(descend(jol.sgd(0.1), lambda w: 2.0 + 0 * w, 5.0, 1)[0], 4.8, rtol=1e-15)


def test_sum_for_mean():
    """004: C is a mean over N samples, its printed gradient their sum: at N = 60000 a step 60000 times too long."""
    x = np.linspace(0.5, 1.5, 60_000)

    def cost(w):
        return jnp.mean(0.5 * (w * x - x) ** 2)

    right = descend(jol.sgd(1e-6), jax.grad(cost), 0.0, 1)[0]
    printed = descend(jol.sgd(1e-6), lambda w: jnp.sum((w * x - x) * x), 0.0, 1)[0]
    np.testing.assert_allclose(printed / right, 60_000, rtol=1e-12)  # two orders of 60000 additions


def test_sign_of_the_velocity_is_no_misprint():
    """000 and 002 subtract a velocity that points uphill, 001 and 004 add one that points down: the same path."""

    def rate(count):
        return 0.5 ** jnp.asarray(count, jnp.float64)

    ours = descend(jol.momentum(rate, 0.9), lambda w: 1.0 + 0.1 * w, 0.0, 8)
    printed = errata.momentum_000_sign(0.0, [lambda w: 1.0 + 0.1 * w] * 8, lambda t: 0.5**t)
    np.testing.assert_allclose(ours, printed, rtol=0, atol=1e-14)  # 8 steps of numbers below 10


# ---- AdaGrad


def test_adagrad_003():
    literal = errata.adagrad_003_literal(0.0, [hill] * 100, 0.1)[-1]
    card_says("adagrad", "-0.53", literal)
    is_printed(literal, "-0.52994")
    for inside in (True, False):
        is_printed(descend(jol.adagrad(0.1, 0.0, eps_in_sqrt=inside), hill, 0.0, 100)[-1], "1.60503")


def test_adagrad_003_first_step_ignores_the_sign():
    for g in (2.0, -2.0):
        is_printed(errata.adagrad_003_literal(0.0, [g], 0.1)[0], "-0.0999999")
        right = descend(jol.adagrad(0.1, 0.0, 0.0), lambda w, g=g: g + 0 * w, 0.0, 1)[0]
        np.testing.assert_allclose(right, -0.1 * np.sign(g), rtol=1e-15)


def test_adagrad_003_drifts():
    """1e-7 a step is added to the weights: ten zero gradients move them by 1e-6; ours stay, bit for bit."""
    literal = errata.adagrad_003_literal(0.0, [1.0] + [0.0] * 10, 0.1)
    np.testing.assert_allclose(literal[-1] - literal[0], 1e-6, rtol=1e-9)
    ours = descend(jol.adagrad(0.1), lambda w: jnp.where(w == 0, 1.0, 0.0), 0.0, 11)
    assert (ours == ours[0]).all()


def test_adagrad_004_inner_product():
    """One rate for all: on curvatures 100 and 1 the flat coordinate is left behind."""
    scalar = descend(jol.adagrad_norm(0.5), valley, np.ones(2), 200)[-1]
    elementwise = descend(jol.adagrad(0.5, 0.0), valley, np.ones(2), 200)[-1]
    card_says("adagrad_norm", "0.42", scalar[1])
    is_printed(scalar[1], "0.42420")
    card_says("adagrad_norm", "2e-49", elementwise[1])
    np.testing.assert_allclose(scalar, oracle("adagrad_norm")(np.ones(2), [valley] * 200, 0.5)[-1], atol=1e-14)


# ---- RMSProp


def test_rmsprop_003():
    literal = errata.rmsprop_003_literal(0.0, [hill] * 1000, 0.01)[-1]
    card_says("rmsprop", "-1.06", literal)
    is_printed(literal, "-1.06001")
    is_printed(descend(jol.rmsprop(0.01), hill, 0.0, 1000)[-1], "3.00000")


def test_rmsprop_002_has_no_eps():
    """0/0 at a first gradient of 0, for ever; ours without eps takes no step there."""
    assert np.isnan(errata.rmsprop_002_no_eps(1.0, [0.0, 1.0], 0.1)).all()
    tx, w, path = jol.rmsprop(0.1, eps=0.0), jnp.float64(1.0), []
    state = tx.init(w)
    for g in (0.0, 1.0):
        updates, state = tx.update(jnp.float64(g), state)
        w = w + updates
        path.append(float(w))
    assert path[0] == 1.0
    is_printed(path[1], "0.68377")


def test_rmsprop_004_inner_product():
    slope = [valley] * 200
    is_printed(errata.rmsprop_004_inner_product(np.ones(2), slope, 0.01)[-1][1], "0.47899")
    is_printed(descend(jol.rmsprop(0.01), valley, np.ones(2), 200)[-1][1], "2.8e-5")


# ---- AdaDelta


def first_at_half(path):
    """The step after which w is at most 1/2, counted from 1."""
    assert (path <= 0.5).any()
    return int(np.argmax(path <= 0.5)) + 1


def test_adadelta_002_text():
    """eps outside the root: steps sqrt(eps) times shorter at first, and 4739 instead of 131 to halve w. rho 0.95."""
    ours = descend(jol.adadelta(rho=0.95), bowl, 1.0, 131)
    outside = descend(jol.adadelta(rho=0.95, eps_in_sqrt=False), bowl, 1.0, 5000)
    text = np.asarray(errata.adadelta_002_text(1.0, [bowl] * 5000))
    card_says("adadelta", "131", first_at_half(ours))
    card_says("adadelta", "4739", first_at_half(outside))
    card_says("adadelta", "4739", first_at_half(text))
    is_printed(ours[0] - 1, "-0.00447209")
    is_printed(outside[0] - 1, "-0.00000447212")
    np.testing.assert_allclose((outside[0] - 1) / (ours[0] - 1), np.sqrt(1e-6), rtol=1e-5)  # eps beside 0.05
    # the option is the text, step by step; a step adds an error of 2^-53 to a weight of 1, 5000 of them 6e-13
    np.testing.assert_allclose(outside, text, rtol=0, atol=1e-12)


def test_adadelta_002_text_at_our_default():
    """At rho = 0.9, optax's and our default, the same is 3403 instead of 146."""
    assert first_at_half(descend(jol.adadelta(), bowl, 1.0, 200)) == 146
    assert first_at_half(descend(jol.adadelta(eps_in_sqrt=False), bowl, 1.0, 3500)) == 3403


def test_adadelta_002_listing():
    """Without numerator and minus it ascends to 96; Zeiler's is at 0.78."""
    literal = errata.adadelta_002_listing_literal(1.0, [bowl] * 50)
    card_says("adadelta", "96", literal[-1])
    is_printed(literal[0], "5.47212")
    is_printed(literal[-1], "96.0952")
    is_printed(descend(jol.adadelta(rho=0.95), bowl, 1.0, 50)[-1], "0.78208")


def test_adadelta_002_listing_with_the_minus():
    """The option is the listing, minus mended, eps outside the root as printed: RMSProp at 1, it never settles."""
    listing = np.asarray(errata.adadelta_002_listing_literal(1.0, [bowl] * 500, minus=True))
    ours = descend(jol.adadelta(rho=0.95, eps_in_sqrt=False, numerator=False), bowl, 1.0, 500)
    np.testing.assert_allclose(ours, listing, rtol=0, atol=1e-12)  # jumps of 1, 500 of them
    rmsprop = descend(jol.rmsprop(1.0, decay=0.95, eps=1e-6, eps_in_sqrt=False), bowl, 1.0, 500)
    np.testing.assert_allclose(ours, rmsprop, rtol=0, atol=1e-12)
    is_printed(ours[0], "-3.47212")
    np.testing.assert_allclose(np.abs(ours[399:]), 0.5, atol=2e-4)
    assert (np.sign(ours[400:]) == -np.sign(ours[399:-1])).all()


def test_adadelta_options_against_the_oracle():
    """All four, off the neutral values of the others."""
    for inside in (True, False):
        for numerator in (True, False):
            hypers = {"learning_rate": 0.7, "rho": 0.8, "eps": 0.05, "weight_decay": 0.1}
            options = {"eps_in_sqrt": inside, "numerator": numerator}
            ours = descend(jol.adadelta(**hypers, **options), bowl, 1.0, 30)
            truth = oracle("adadelta")(1.0, [bowl] * 30, **hypers, **options)
            np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-13)  # 30 steps of numbers of 1


# ---- Adam


def test_adam_003():
    literal = errata.adam_003_literal(0.0, [hill] * 1000, 1e-3)[-1]
    card_says("adam", "-6.4", literal)
    is_printed(literal, "-6.39927")
    right = descend(jol.adam(1e-3), hill, 0.0, 1000)[-1]
    card_says("adam", "0.92", right)
    is_printed(right, "0.92321")


def test_adam_003_first_step_ignores_the_sign():
    for g in (2.0, -2.0):
        literal = errata.adam_003_literal(0.0, [g], 1e-3)[0]
        card_says("adam", "-0.1", literal)
        is_printed(literal, "-0.0999999")
        right = descend(jol.adam(1e-3), lambda w, g=g: g + 0 * w, 0.0, 1)[0]
        np.testing.assert_allclose(right, -1e-3 * np.sign(g), rtol=1e-8)  # eps is 1e-8 beside 2


def test_adam_003_with_squares_and_roots():
    """Then only the bias correction is missing: the first step is 3.16 times too long, the docstring says."""
    path = descend(jol.adam(1e-3, eps=1e-7, bias_correction=False), hill, 0.0, 1000)
    is_printed(path[0], "0.00316227")
    is_printed(path[-1], "1.71957")
    assert "3.16 times too long" in jol.adam.__doc__
    is_printed(path[0] / descend(jol.adam(1e-3, eps=1e-7), hill, 0.0, 1)[0], "3.16")


def test_adam_000():
    """The hats of the step before are 0/0 at the first, NaN for ever; ours moves by the rate."""
    assert np.isnan(errata.adam_000_literal(0.0, [hill] * 3, 1e-3)).all()
    np.testing.assert_allclose(descend(jol.adam(1e-3), hill, 0.0, 1)[0], 1e-3, rtol=1e-8)
