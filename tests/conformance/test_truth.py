"""Every card against its NumPy float64 oracle, at every step, and against its optax twin."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.cases import RATE, build, every_card, flat, gradients, run, standard, tree
from tests.optimizers.draws import whitening
from tests.oracles import oracle

STEPS = 20


def walk(card, w, grads, **hypers):
    """The oracle's path with every hyper-parameter off its neutral value, as vectors."""
    return walked(card, w, grads, **{"learning_rate": RATE, **card.off_neutral, **hypers})


def walked(card, w, grads, **hypers):
    """The oracle's path for the whole tree as one vector: what is elementwise does not mind, what is not must not.

    Where an array's elements see each other and no others, array by array.
    """
    if build(card).couples in ("element", "tree"):
        return oracle(card.name)(flat(w), [flat(g) for g in grads], **hypers)
    names = sorted(w)  # the order of the leaves
    drawn = [
        whitening(w[k].shape, len(grads), names.index(k), len(names)) if "random" in card.tags else {} for k in names
    ]
    paths = [
        oracle(card.name)(np.asarray(w[k]), [np.asarray(g[k]) for g in grads], **drawn[index], **hypers)
        for index, k in enumerate(names)
    ]
    return [np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*paths, strict=True)]


def problem(card, dtype, steps=STEPS):
    """Parameters and gradients. Methods that take eigenvectors get square matrices of full rank, whose eigenvalues are
    apart: in a null space, or between equal eigenvalues, two correct programs choose different vectors.
    """
    w = tree(dtype)
    matrix = build(card).couples == "matrix"
    if matrix:
        w["matrix"] = w["matrix"][:3, :3]
    grads = gradients(w, steps)
    for g in grads if matrix else ():
        g["matrix"] = jnp.diag(jnp.asarray([3.0, 2.0, 1.0], dtype)) + dtype(0.2) * g["matrix"]
    return w, grads


def scheduled(value):
    """A schedule that passes through `value` and never repeats; stays in [0, 1) for decays."""
    return lambda count: value * (0.9 + 0.1 / (1 + jnp.asarray(count, jnp.result_type(float))))


@every_card
def test_oracle_float64(card, x64):
    w, grads = problem(card, jnp.float64)
    path, _ = run(build(card), w, grads)
    for step, (ours, truth) in enumerate(zip(path, walk(card, w, grads), strict=True)):
        # each step adds a few roundings of numbers below 10: 20 * 8 * 10 * 2^-53 = 2e-13
        np.testing.assert_allclose(flat(ours), truth, rtol=0, atol=1e-12, err_msg=f"step {step}")


@every_card
def test_oracle_float64_defaults(card, x64):
    w, grads = problem(card, jnp.float64)
    path, _ = run(card.factory(RATE), w, grads)
    truth = walked(card, w, grads, learning_rate=RATE)
    np.testing.assert_allclose(flat(path[-1]), truth[-1], rtol=0, atol=1e-12)


@every_card
def test_oracle_float64_schedules(card, x64):
    """Every numeric hyper-parameter at once is a schedule."""
    hypers = {name: scheduled(value) for name, value in {"learning_rate": RATE, **card.off_neutral}.items()}
    w, grads = problem(card, jnp.float64)
    path, _ = run(card.factory(**hypers), w, grads)
    first = {name: float(hypers[name](0)) for name in hypers if name.startswith("initial_")}
    for ours, truth in zip(path, walk(card, w, grads, **hypers | first), strict=True):
        np.testing.assert_allclose(flat(ours), truth, rtol=0, atol=1e-12)


@every_card
def test_oracle_float32(card):
    w, grads = problem(card, jnp.float32)
    path, _ = run(build(card), w, grads)
    truth = walk(card, w, grads)
    moved = np.max(np.abs(np.diff([flat(w), *truth], axis=0)), axis=1)
    for step, ours in enumerate(path):
        # each update carries about 10 roundings (means, root, quotient) and each sum one more of numbers below 8
        bound = (10 * np.sum(moved[: step + 1]) + 8 * (step + 1)) * 2**-24
        # products of matrices, roots and eigenvectors carry more: the condition number of the factors, 100, at most
        bound *= 100 if build(card).couples == "matrix" else 1
        assert np.max(np.abs(flat(ours) - truth[step])) <= bound, step


@every_card
def test_twin_float64(card, x64):
    if card.twin is None:
        assert "optax" in " ".join(card.differs), "a card without a twin says so"
        return
    w = tree(jnp.float64)
    grads = gradients(w, STEPS)
    shared = {k: v for k, v in card.off_neutral.items() if k in inspect.signature(card.twin.factory).parameters}
    for rate, hypers in ((RATE, {}), (RATE, shared), (scheduled(RATE), {})):
        path, _ = run(card.factory(rate, **hypers), w, grads)
        with standard():
            twin, _ = run(card.twin.factory(rate, **hypers), w, grads)
        for ours, theirs in zip(path, twin, strict=True):
            np.testing.assert_allclose(flat(ours), flat(theirs), rtol=0, atol=1e-12)


@every_card
def test_twin_signature(card):
    """Whatever argument optax has, we have at the same place with the same default, unless the card says otherwise."""
    theirs = getattr(__import__("optax"), card.name, None)
    if theirs is None:
        assert card.twin is None or f"optax.{card.name}(" not in card.twin.call
        return
    ours = inspect.signature(card.factory).parameters
    for position, (name, parameter) in enumerate(inspect.signature(theirs).parameters.items()):
        assert name in ours, f"optax's argument {name}"
        assert ours[name].kind == parameter.kind, name
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert list(ours)[position] == name
        differs = " ".join(card.differs)
        assert ours[name].default == parameter.default or f"default is {ours[name].default:g}" in differs, name


@every_card
@given(data=st.data())
def test_oracle_any_hyperparameters(card, data):
    """Hyper-parameters anywhere in their ranges, as traced values of one compiled program."""
    with jax.enable_x64(True):
        w, grads = problem(card, jnp.float64, steps=4)
        w, *grads = ({name: x[name] for name in ("matrix", "short")} for x in (w, *grads))
        start = {"learning_rate": RATE, **card.off_neutral}
        ranges = build(card).hypers
        drawn = {
            name: data.draw(st.floats(max(ranges[name].low, -2.0), min(ranges[name].high, 2.0) - 1e-3), label=name)
            for name in start
        }
        program = _PROGRAMS.setdefault(card.name, jax.jit(lambda h: run(card.factory(**h), w, grads, jit=False)[0][-1]))
        ours = program({name: jnp.asarray(value, jnp.float64) for name, value in drawn.items()})
        truth = walk(card, w, grads, **drawn)[-1]
        # where the divisor is near 0 (no eps, no accumulated squares) one rounding is amplified by 1 / divisor
        np.testing.assert_allclose(flat(ours), truth, rtol=1e-9, atol=1e-9)


_PROGRAMS: dict = {}
