"""torch.optim as a second opinion, in float64: equal where the forms are, apart by what the cards say where not."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol

torch = pytest.importorskip("torch", reason="torch is a twin in tests only; pip install torch==2.13.0")

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 30
RATE = 1e-2
# A quadratic valley of 20 dimensions, curvature 1 to 5, from between -2.5 and 2.5. Adam walks 0.3 of it in 30 steps.
CURVATURE = np.linspace(1.0, 5.0, 20)
START = np.linspace(-2.5, 2.5, 20)


def slope(w):
    return CURVATURE * w


def ours(tx, gradient=slope, steps=STEPS):
    """Weights after each step, every gradient taken at our own weights."""
    w, path = jnp.asarray(START), []
    state, step = tx.init(w), jax.jit(lambda g, s, p: tx.update(g, s, p))
    for t in range(steps):
        updates, state = step(jnp.asarray(at(gradient, np.asarray(w), t)), state, w)
        w = w + updates
        path.append(np.asarray(w))
    return np.array(path)


def theirs(make, gradient=slope, steps=STEPS, rate=None):
    """The same by torch; `rate(t)`, where given, sets the rate of each step."""
    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer, path = make([w]), []
    for t in range(steps):
        if rate is not None:
            optimizer.param_groups[0]["lr"] = float(rate(t))
        w.grad = torch.tensor(at(gradient, w.detach().numpy().copy(), t))
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def at(gradient, w, t):
    """A gradient is a function of the weights, or the one of step t."""
    return gradient(w) if callable(gradient) else gradient[t]


def apart(tx, make, **how):
    """The largest difference of the last weights."""
    return float(np.max(np.abs(ours(tx, **how)[-1] - theirs(make, **how)[-1])))


NOISE = np.random.default_rng(0).normal(size=(STEPS, 20))

# Ours with torch's settings, and torch.
EQUAL = {
    "sgd": (jol.sgd(RATE), lambda p: torch.optim.SGD(p, RATE)),
    "sgd momentum": (jol.sgd(RATE, momentum=0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9)),
    "sgd nesterov": (
        jol.sgd(RATE, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, RATE, momentum=0.9, nesterov=True),
    ),
    "momentum": (jol.momentum(RATE, 0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9)),
    "momentum outside": (
        jol.momentum(RATE, 0.9, learning_rate_inside=False),
        lambda p: torch.optim.SGD(p, RATE, momentum=0.9),
    ),
    "nesterov": (jol.nesterov(RATE, 0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9, nesterov=True)),
    "rmsprop": (jol.rmsprop(RATE, decay=0.99, eps_in_sqrt=False), lambda p: torch.optim.RMSprop(p, RATE)),
    "rmsprop centered": (
        jol.rmsprop(RATE, decay=0.99, eps_in_sqrt=False, centered=True),
        lambda p: torch.optim.RMSprop(p, RATE, centered=True),
    ),
    "rmsprop momentum": (
        jol.rmsprop(RATE, decay=0.9, eps=1e-3, eps_in_sqrt=False, centered=True, momentum=0.8),
        lambda p: torch.optim.RMSprop(p, RATE, alpha=0.9, eps=1e-3, centered=True, momentum=0.8),
    ),
    "adagrad": (jol.adagrad(RATE, 0.0, 1e-10, eps_in_sqrt=False), lambda p: torch.optim.Adagrad(p, RATE)),
    "adagrad accumulator": (
        jol.adagrad(RATE, 0.3, 1e-2, eps_in_sqrt=False),
        lambda p: torch.optim.Adagrad(p, RATE, initial_accumulator_value=0.3, eps=1e-2),
    ),
    "adadelta": (jol.adadelta(), lambda p: torch.optim.Adadelta(p)),
    "adadelta settings": (
        jol.adadelta(0.7, rho=0.8, eps=1e-3, weight_decay=0.1),
        lambda p: torch.optim.Adadelta(p, 0.7, rho=0.8, eps=1e-3, weight_decay=0.1),
    ),
    "adam": (jol.adam(RATE), lambda p: torch.optim.Adam(p, RATE)),
    "adam settings": (
        jol.adam(RATE, 0.8, 0.95, 1e-2),
        lambda p: torch.optim.Adam(p, RATE, betas=(0.8, 0.95), eps=1e-2),
    ),
    "adamw": (jol.adamw(RATE, weight_decay=0.1), lambda p: torch.optim.AdamW(p, RATE, weight_decay=0.1)),
    "adamax": (jol.adamax(RATE), lambda p: torch.optim.Adamax(p, RATE)),
    "adamax settings": (
        jol.adamax(RATE, 0.8, 0.9, 1e-2),
        lambda p: torch.optim.Adamax(p, RATE, betas=(0.8, 0.9), eps=1e-2),
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    """At every step, down the valley and through noise: 30 steps of a few roundings, and far below 1e-10."""
    tx, make = EQUAL[name]
    for gradient in (slope, NOISE):
        path = ours(tx, gradient)
        np.testing.assert_allclose(path, theirs(make, gradient), rtol=0, atol=1e-10)
        assert np.max(np.abs(path[-1] - START)) > 1e-2, "it moved"


@pytest.mark.parametrize(
    ("tx", "make"),
    [
        (lambda r: jol.sgd(r, momentum=0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9)),
        (lambda r: jol.adam(r), lambda p: torch.optim.Adam(p, RATE)),
        (lambda r: jol.adagrad(r, 0.0, 1e-10, eps_in_sqrt=False), lambda p: torch.optim.Adagrad(p, RATE)),
    ],
    ids=["sgd", "adam", "adagrad"],
)
def test_equal_under_a_schedule(tx, make):
    path = ours(tx(lambda count: RATE * 0.9 ** jnp.asarray(count, jnp.float64)))
    np.testing.assert_allclose(path, theirs(make, rate=lambda t: RATE * 0.9**t), rtol=0, atol=1e-10)


def test_rate_and_velocity():
    """torch keeps the rate outside the velocity: equal to `momentum` and `rmsprop` only while the rate is constant."""

    def schedule(count):
        return RATE * 0.7 ** jnp.asarray(count, jnp.float64)

    rmsprop = ours(jol.rmsprop(schedule, decay=0.99, eps_in_sqrt=False, momentum=0.9))
    other = theirs(lambda p: torch.optim.RMSprop(p, RATE, momentum=0.9), rate=lambda t: RATE * 0.7**t)
    assert np.max(np.abs(rmsprop - other)) > 0.1
    inside = ours(jol.momentum(schedule, 0.9))
    outside = theirs(lambda p: torch.optim.SGD(p, RATE, momentum=0.9), rate=lambda t: RATE * 0.7**t)
    assert np.max(np.abs(inside - outside)) > 0.1
    np.testing.assert_allclose(
        ours(jol.momentum(schedule, 0.9, learning_rate_inside=False)), outside, rtol=0, atol=1e-10
    )


# ---- the same name, another method

# What differs by default, all at a rate of 1e-2: the cards say by how much.
DIFFERENT = {
    "adagrad": (jol.adagrad(RATE), lambda p: torch.optim.Adagrad(p, RATE)),
    "rmsprop": (jol.rmsprop(RATE), lambda p: torch.optim.RMSprop(p, RATE)),
    "adamw": (jol.adamw(RATE), lambda p: torch.optim.AdamW(p, RATE)),
    "nadam": (jol.nadam(RATE), lambda p: torch.optim.NAdam(p, RATE)),
    "amsgrad": (jol.amsgrad(RATE), lambda p: torch.optim.Adam(p, RATE, amsgrad=True)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_apart_by_what_the_card_says(name):
    """Within a quarter of it: the number depends on the problem, the cards' on one like this."""
    quoted = re.findall(r"([\d.]+) apart after 30 steps", " ".join(jol.registry.get(name).differs))
    assert len(quoted) == 1, "the card says it, once"
    assert apart(*DIFFERENT[name]) == pytest.approx(float(quoted[0]), rel=0.25)


def test_cards_that_claim_a_difference_are_tested():
    claims = {c.name for c in jol.registry.cards() if "apart after" in " ".join(c.differs)}
    assert claims == set(DIFFERENT)


def test_why_amsgrad_differs():
    """torch takes the maximum of the plain means and corrects it afterwards; at b2 = 0 nothing is to be corrected."""
    gradients, m, v, v_max, w, path = NOISE, 0.0, 0.0, 0.0, START, []
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        v_max = np.maximum(v_max, v)
        w = w - RATE * (m / (1 - 0.9**t)) / (np.sqrt(v_max / (1 - 0.999**t)) + 1e-8)
        path.append(w)

    def amsgrad(b2):
        return lambda p: torch.optim.Adam(p, RATE, betas=(0.9, b2), amsgrad=True)

    np.testing.assert_allclose(path, theirs(amsgrad(0.999), gradients), rtol=0, atol=1e-10)
    assert apart(jol.amsgrad(RATE), amsgrad(0.999), gradient=gradients) > 1e-2
    assert apart(jol.amsgrad(RATE, b2=0.0), amsgrad(0.0), gradient=gradients) <= 1e-10
    # and where gradients grow, as no mean is ever below an earlier one
    growing = NOISE[:1] * np.linspace(1, 3, STEPS)[:, None]
    assert apart(jol.amsgrad(RATE), amsgrad(0.999), gradient=growing) <= 1e-10


def test_why_nadam_differs():
    """torch's momentum is b1 (1 - 0.96^(t momentum_decay) / 2): b1 once that power has died out, then it is ours.

    It starts at b1 / 2, and stays there at momentum_decay=0: that setting does not make it ours.
    """

    def nadam(decay):
        return lambda p: torch.optim.NAdam(p, RATE, momentum_decay=decay)

    # torch keeps the product of the momenta in float32
    assert apart(jol.nadam(RATE), nadam(1e6)) <= 1e-6
    for decay in (0.0, 4e-3):
        assert apart(jol.nadam(RATE), nadam(decay)) > 0.03


def test_why_the_others_differ():
    """Each setting on its own; together they make the twins of `test_equal`."""
    rmsprop, adagrad, adamw = (DIFFERENT[name][1] for name in ("rmsprop", "adagrad", "adamw"))
    assert apart(jol.rmsprop(RATE, decay=0.99), rmsprop) < 1e-6, "decay is nearly all of it: eps is 1e-8"
    assert apart(jol.rmsprop(RATE, decay=0.99, eps_in_sqrt=False), rmsprop) <= 1e-10
    assert apart(jol.adagrad(RATE, 0.0), adagrad) < 1e-6, "the accumulator is nearly all of it"
    assert apart(jol.adagrad(RATE, 0.0, 1e-10, eps_in_sqrt=False), adagrad) <= 1e-10
    assert apart(jol.adamw(RATE, weight_decay=1e-2), adamw) <= 1e-10


def test_what_torch_does_not_have():
    """The cards say so."""
    assert "torch has none" in " ".join(jol.registry.get("lion").differs)
    assert not hasattr(torch.optim, "Lion")
    assert "Neither optax nor torch has it" in " ".join(jol.registry.get("adagrad_norm").differs)
    assert not any("norm" in name.lower() for name in dir(torch.optim))
