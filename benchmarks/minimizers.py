"""The minimisers that are compared, each as `make(fun, gtol) -> run(x0, *args) -> Outcome`.

All get the same function. Ours, optax's and optimistix's runs can be compiled; SciPy and PyTorch call it from Python,
SciPy as one compiled program for value and gradient.
"""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

import jaxopt_lectures as jol

HISTORY = 10  # pairs, of every L-BFGS


class Outcome(NamedTuple):
    """Where a run ended, and the evaluations and Hessian-vector products it took."""

    x: Any
    nfev: Any
    nhev: Any = 0


@functools.cache
def value_and_gradient(fun):
    """Compiled, once for a function."""
    return jax.jit(jax.value_and_grad(fun))


def steepness(fun, x, *args):
    """The largest element of the gradient."""
    return float(jnp.max(jnp.abs(value_and_gradient(fun)(jnp.asarray(x), *args)[1])))


def ours(method, **options):
    """`jol.minimize`."""

    def make(fun, gtol, maxiter=None, maxfun=None):
        limits = {"gtol": gtol, "maxiter": maxiter, "maxfun": maxfun, "history": HISTORY}

        def run(x0, *args):
            result = jol.minimize(fun, x0, args, method, **limits, **options)
            return Outcome(result.x, result.nfev, result.nhev)

        return run

    return make


def optax_lbfgs(fun, gtol, maxiter=5000, maxfun=2**31 - 1):
    """`optax.lbfgs` with its zoom line search, in one loop.

    Value and gradient at the new point are the line search's own: no evaluation is done twice. It counts them.
    """
    tx = optax.lbfgs(memory_size=HISTORY)

    def run(x0, *args):
        def value_fn(x):
            return fun(x, *args)

        def going(carry):
            _, _, _, gradient, nit, nfev = carry
            return (jnp.max(jnp.abs(gradient)) > gtol) & (nit < maxiter) & (nfev < maxfun)

        def step(carry):
            x, state, value, gradient, nit, nfev = carry
            updates, state = tx.update(gradient, state, x, value=value, grad=gradient, value_fn=value_fn)
            value, gradient = (optax.tree.get(state, name) for name in ("value", "grad"))
            nfev += optax.tree.get(state, "num_linesearch_steps")
            return optax.apply_updates(x, updates), state, value, gradient, nit + 1, nfev

        value, gradient = jax.value_and_grad(value_fn)(x0)
        x, _, _, _, _, nfev = jax.lax.while_loop(going, step, (x0, tx.init(x0), value, gradient, 0, 1))
        return Outcome(x, nfev)

    return run


def optimistix_solver(name, tolerance=1e-9, max_steps=20_000):
    """`optimistix.BFGS` or `optimistix.LBFGS`; it stops on small steps, not on `gtol`. A step is an evaluation."""

    def make(fun, gtol=None):
        import optimistix

        del gtol
        options = {"history_length": HISTORY} if name == "LBFGS" else {}
        solver = getattr(optimistix, name)(rtol=tolerance, atol=tolerance, **options)

        def run(x0, *args):
            solution = optimistix.minimise(
                lambda x, args: fun(x, *args), solver, x0, args, max_steps=max_steps, throw=False
            )
            return Outcome(solution.value, solution.stats["num_steps"])

        return run

    return make


def loosest(name, fun, gtol, x0, *args):
    """The largest power of ten as optimistix' tolerance with which its gradient ends below `gtol`; None: there is none.

    Whoever wants a gradient that small would have to find it out like this. Its search is not timed.
    """
    run = jax.jit(lambda tolerance, x0, *args: optimistix_solver(name, tolerance)(fun)(x0, *args))
    for exponent in range(3, 16):  # 10^-15 is about a rounding
        if steepness(fun, run(10.0**-exponent, x0, *args).x, *args) <= gtol:
            return 10.0**-exponent
    return None


def scipy_solver(method, bounds=None):
    """`scipy.optimize.minimize`, value and gradient in one compiled call; it stops on the gradient alone."""

    def make(fun, gtol, maxiter=15_000, maxfun=1_000_000):
        both = value_and_gradient(fun)
        options = {"gtol": gtol, "maxiter": maxiter}
        if method == "L-BFGS-B":
            options |= {"ftol": 0.0, "maxfun": maxfun, "maxcor": HISTORY}

        def run(x0, *args):
            def both_of(x):
                value, gradient = both(x, *args)
                return float(value), np.asarray(gradient)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # overflows of trial steps
                found = scipy.optimize.minimize(
                    both_of, np.asarray(x0), jac=True, method=method, options=options, bounds=bounds
                )
            return Outcome(found.x, found.nfev)

        return run

    return make


def torch_lbfgs(fun, gtol, maxiter=15_000):
    """`torch.optim.LBFGS` with its strong Wolfe search; `fun` is a function of tensors."""
    import torch

    def run(x0):
        x = torch.tensor(np.array(x0), requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [x],
            max_iter=maxiter,
            max_eval=10 * maxiter,
            tolerance_grad=gtol,
            tolerance_change=0.0,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

        def closure():
            optimizer.zero_grad()
            value = fun(x)
            value.backward()
            return value

        optimizer.step(closure)
        return Outcome(x.detach().numpy(), optimizer.state[x]["func_evals"])

    return run
