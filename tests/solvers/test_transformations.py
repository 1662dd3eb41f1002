"""The solvers one step at a time: optax's convention, optax's steps where they are the same, and what fails there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.solvers.cards import CARDS
from tests.conformance.cases import same_type, standard

every_solver = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def rosenbrock(w):
    """The chained one, of a tree."""
    x = jnp.concatenate([w["a"], w["b"][None]])
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def start():
    return {"a": jnp.asarray([-1.2, 1.0, -1.2]), "b": jnp.asarray(1.0)}


def stepper(tx, fun):
    """One compiled step by the convention; the value comes from the state where it is there."""
    value_and_grad = optax.value_and_grad_from_state(fun)

    @jax.jit
    def step(w, state):
        value, grad = value_and_grad(w, state=state)
        updates, state = tx.update(grad, state, w, value=value, grad=grad, value_fn=fun)
        return optax.apply_updates(w, updates), state, value

    return step


@pytest.mark.usefixtures("x64")
@every_solver
def test_reaches_the_minimum_of_a_valley(card):
    """Newton's steps are twice as many as of one variable's valley; 80 are enough for each, and nothing rises."""
    tx = card.factory()
    step, w, state, values = stepper(tx, rosenbrock), start(), tx.init(start()), []
    for _ in range(80):
        w, state, value = step(w, state)
        values.append(float(value))
    # the line search lets a value rise by eight roundings at most
    assert (np.diff(values) <= 8 * np.finfo(float).eps * np.asarray(values[:-1])).all()
    assert max(float(jnp.max(jnp.abs(leaf - 1))) for leaf in jax.tree.leaves(w)) < 1e-8
    assert int(state.count) == 80
    assert float(state.value) == float(rosenbrock(w))


@pytest.mark.usefixtures("x64")
def test_optax_takes_the_same_steps_without_a_line_search():
    """Where s'y > 0; the two sum in other orders, and 15 steps of a well-conditioned problem magnify that little."""
    scale = jnp.asarray([1.0, 3.0, 10.0])
    gradient = jax.jit(lambda x: 2 * scale * x)
    paths = []
    for tx in (jol.lbfgs(0.5, 4, linesearch=None), optax.lbfgs(0.5, 4, linesearch=None)):
        x, path = jnp.ones(3), []
        state = tx.init(x)
        update = jax.jit(tx.update)
        for _ in range(15):
            with standard():
                updates, state = update(gradient(x), state, x)
            x = x + updates
            path.append(np.asarray(x))
        paths.append(np.stack(path))
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_never_points_uphill():
    """On cos from (0.3, 0.2) the first pair has s'y < 0; optax keeps it, and climbs."""
    gradient = jax.grad(lambda x: jnp.sum(jnp.cos(x)))
    climbs = {}
    for name, tx in {"ours": jol.lbfgs(0.1, linesearch=None), "optax": optax.lbfgs(0.1, linesearch=None)}.items():
        x, slopes = jnp.asarray([0.3, 0.2]), []
        state = tx.init(x)
        for _ in range(12):
            g = gradient(x)
            with standard():
                updates, state = tx.update(g, state, x)
            slopes.append(float(g @ updates))
            x = x + updates
        climbs[name] = sum(slope > 0 for slope in slopes)
    assert climbs["ours"] == 0
    assert climbs["optax"] > 0


@pytest.mark.usefixtures("x64")
def test_in_a_chain_and_with_a_line_search_of_optax():
    for tx in (
        optax.chain(optax.clip_by_global_norm(1e6), jol.lbfgs()),
        jol.chain(jol.clip_by_global_norm(1e6), jol.bfgs()),
        jol.lbfgs(linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=20)),
    ):
        with standard():
            step, w, state = stepper(tx, rosenbrock), start(), tx.init(start())
            for _ in range(100):  # optax's search asks for less, and needs more steps
                w, state, _ = step(w, state)
        assert float(rosenbrock(w)) < 1e-12


@pytest.mark.usefixtures("x64")
def test_newton_needs_one_step_for_a_parabola():
    """CG ends at a hundredth, or its root, of |g|: in as many products as there are curvatures it is exact."""
    scale = jnp.asarray([1.0, 2.0])

    def fun(x):
        return 0.5 * jnp.sum(scale * (x - 3) ** 2)

    tx, x = jol.newton_cg(), jnp.zeros(2)
    state = tx.init(x)
    updates, state = jax.jit(lambda g, s, x: tx.update(g, s, x, value_fn=fun))(jax.grad(fun)(x), state, x)
    np.testing.assert_allclose(x + updates, 3.0, rtol=1e-12)
    assert int(state.core.products) == 2


@every_solver
def test_keeps_types_through_scan_and_half_precision(card):
    """bfloat16 parameters: arithmetic and memory in float32, updates in bfloat16; the state's type is fixed."""
    tx = card.factory()

    def fun(w):
        return jnp.sum((w["w"].astype(jnp.float32) - 1.5) ** 2)

    w = {"w": jnp.zeros(3, jnp.bfloat16)}
    state = tx.init(w)

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jax.grad(fun)(w), state, w, value_fn=fun)
        return (optax.apply_updates(w, updates), state), None

    (after, scanned), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=3))((w, state))
    same_type(state, scanned)
    assert after["w"].dtype == jnp.bfloat16
    assert scanned.updates[0].dtype == jnp.float32 if isinstance(scanned.updates, list) else True
    np.testing.assert_array_equal(after["w"].astype(jnp.float32), 1.5)  # 1.5 is a bfloat16


def test_value_fn_is_given_the_extra_arguments_it_takes():
    def fun(x, shift):
        return jnp.sum((x - shift) ** 2)

    tx, x, shift = jol.lbfgs(), jnp.zeros(2), jnp.asarray([1.0, 2.0])
    updates, _ = tx.update(
        jax.grad(fun)(x, shift), tx.init(x), x, value=fun(x, shift), value_fn=fun, shift=shift, other="not taken"
    )
    assert fun(x + updates, shift) < fun(x, shift)


def test_drives_an_nnx_optimizer():
    """As Adam does, with the three arguments more."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    x = jnp.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0]])
    y = x @ jnp.asarray([[2.0], [-1.0]]) + 0.5
    optimizer = nnx.Optimizer(model, jol.lbfgs(), wrt=nnx.Param)
    graph = nnx.graphdef(model)

    def loss(params):
        return jnp.mean((nnx.merge(graph, params)(x) - y) ** 2)

    @nnx.jit
    def step(model, optimizer):
        params = nnx.state(model, nnx.Param)
        value, grads = jax.value_and_grad(loss)(params)
        optimizer.update(model, grads, value=value, grad=grads, value_fn=loss)
        return value

    values = [float(step(model, optimizer)) for _ in range(12)]
    assert values[-1] < 1e-9 * values[0]  # a quadratic of three variables
    np.testing.assert_allclose(model.kernel[...], [[2.0], [-1.0]], atol=1e-3)


@every_solver
def test_says_what_is_missing(card):
    tx, x = card.factory(), jnp.ones(2)
    with pytest.raises(ValueError, match=r"evaluates the function.*value_fn="):
        tx.update(x, tx.init(x), x)
    with pytest.raises(ValueError, match="reads the parameters"):
        tx.update(x, tx.init(x))
    with pytest.raises(TypeError, match="linesearch must be"):
        card.factory(linesearch="zoom")
    with pytest.raises(ValueError, match="learning_rate must lie in"):
        card.factory(-1.0)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="memory_size must be at least 1, got 0"):
        jol.lbfgs(memory_size=0)
    with pytest.raises(ValueError, match="max_products must be at least 1, got 0"):
        jol.newton_cg(max_products=0)
