"""`fuse`: an optimizer's step in one pass over memory."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.kernels.cpu import library
from jaxopt_lectures.kernels.cpu.source import Kernel
from jaxopt_lectures.kernels.pass_over import Leaves, leaves_of, reductions_of
from jaxopt_lectures.wrappers.narrow_weights import apply_updates
from jaxopt_lectures.wrappers.wrapped import foreign_name, treated, wrapped

_told: set[str] = set()


class Fused(Transformation):
    """A transformation with a step that never makes the updates; `init`, `update` and the state are what they were.

    Attributes:
      step: `step(gradients, state, params, **extra) -> (params, state)`, `extra` as for `update`.
    """

    step: Callable[..., tuple[Any, Any]]


def fuse(
    tx: optax.GradientTransformation, *, compile: bool = False, sharded: bool | None = None, quiet: bool = False
) -> Fused:
    """A step in one pass over memory, for a chain of elementwise rules, stored in any codec.

        tx = jol.fuse(jol.chain(jol.clip_by_global_norm(1.0), jol.store(jol.adamw(1e-3), "int8")))
        step = jax.jit(lambda params, state, gradients: tx.step(gradients, state, params), donate_argnums=(0, 1))
        params, state = step(params, state, gradients)

    A step reads each parameter, gradient and slot once, and writes parameter and slots once, in place where they are
    donated in the order in which they come back: AdamW moves 28 bytes a parameter. What needs all gradients first,
    norms, is computed before. Kernels follow from the rule: on CPU its jaxpr is translated to C++, on GPU a Pallas
    kernel calls it. The numbers are those of `update` and `apply_updates` but for the last bit. `init` and `update` are
    those of `tx`, and so is the state, which goes from one to the other. Derivatives and `vmap` take the plain step.

    Where there is no kernel (another device, no compiler, a rule that looks at more than one element) the plain step is
    taken, with one warning; `jol.explain` says for each parameter which it is, and why.

    Args:
      tx: the transformation, ours or optax's.
      compile: whether a kernel that did not come with the package, of a rule of yours, may be compiled on first use; it
        is kept in a cache (`JAXOPT_LECTURES_CACHE`). Needs a C++ compiler, and takes some seconds.
      sharded: whether arrays may lie on several devices, which takes the plain step; a call would gather them. None:
        as is seen, and inside of `jax.jit`, where it is not, whether there are several. In `shard_map` kernels take
        each device's part.
      quiet: no warning.

    Raises:
      TypeError: `tx` is not a transformation.
    """
    inner = wrapped(tx, "fuse's argument")

    def step(gradients: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        # who is not told why looks for nothing where there is nothing, as after an installation without kernels
        if not (quiet and not compile and jax.default_backend() == "cpu" and library.are_none()):
            found, kernels = looked_up(gradients, state, params, extra)
            if not isinstance(found, str) and not all(isinstance(kernel, str) for kernel in kernels):
                return found.taken(kernels)
            _tell(kernels, quiet)
        updates, state = inner.update(gradients, state, params, **extra)
        return apply_updates(params, updates), state

    def looked_up(g: Any, state: Any, params: Any, extra: Any, sharded: bool | None = sharded) -> Any:
        lacking: dict[str, Kernel] = {}

        def noted(kernel: Kernel) -> library.Library | str:
            known = library.found(kernel)
            if isinstance(known, str):
                lacking[kernel.name] = kernel
            return known

        found = _kernels(tx, g, state, params, extra, noted, sharded)
        if not (lacking and compile):
            return found
        library.made(list(lacking.values()))
        return _kernels(tx, g, state, params, extra, library.found, sharded)

    def treatment(path: str, p: Any) -> str:
        (why,) = _seen(tx, {path: jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p))}, looked_up)
        how = f"plain: {why}" if why else f"one pass on {jax.default_backend()}"
        return f"fuse({treated(tx, path, p)}; {how})"

    made = Fused(
        tx.init,
        inner.update,
        couples=couples_of(tx),
        parts=(tx,),
        again=lambda part: fuse(part, compile=compile, sharded=sharded, quiet=quiet),
        title="fuse",
        treatment=treatment,
        passes=getattr(tx, "passes", None),
    )
    made.step = step
    return made


def _kernels(
    tx: Any, gradients: Any, state: Any, params: Any, extra: Any, lookup: library.Lookup, sharded: bool | None
) -> tuple[Leaves | str, list[Any]]:
    """The leaves of a step and the kernel of each; or why it cannot be taken leaf by leaf, and that for each."""
    params = jax.tree.map(lambda p: p if hasattr(p, "dtype") else jnp.asarray(p), params)
    leaves = jax.tree.leaves(params)
    reason = None
    if not isinstance(tx, Transformation):
        reason = f"{foreign_name(tx)} is not of this library"
    elif tx.passes is None:
        reason = "it looks at more than one element at a time"
    elif not leaves:
        reason = "there are no parameters"
    if reason is not None:
        return reason, [reason] * len(leaves)
    lookup = functools.cache(lookup)  # leaves share kernels
    with reductions_of(gradients, lookup, sharded):
        passes = tx.passes(gradients, state, params, **extra)
    found = leaves_of(passes, params)
    return found, found.kernels(lookup, sharded)


def sources(tx: optax.GradientTransformation, params: Any) -> list[Kernel]:
    """The kernels for CPU that a step of `tx` on such parameters calls, its norms' among them; nothing is compiled."""
    kernels: dict[str, Kernel] = {}

    def kept(kernel: Kernel) -> str:
        kernels[kernel.name] = kernel
        return "it is only looked at"

    _seen(tx, params, lambda g, state, p, extra, sharded: _kernels(tx, g, state, p, extra, kept, sharded))
    return list(kernels.values())


def _seen(tx: Any, params: Any, look: Callable[..., tuple[Any, list[Any]]]) -> list[str]:
    """For each parameter why it has no kernel, or nothing; traced, not computed."""
    reasons: list[str] = []

    def trace(params: Any) -> None:
        _, kernels = look(params, tx.init(params), params, {}, False)
        reasons.extend(kernel if isinstance(kernel, str) else "" for kernel in kernels)

    jax.eval_shape(trace, params)
    return reasons


def _tell(reasons: Sequence[Any], quiet: bool) -> None:
    """Says once why the plain step is taken."""
    text = "; ".join(dict.fromkeys(reasons))
    if not quiet and text not in _told:
        _told.add(text)
        warnings.warn(f"fuse takes the plain step: {text}", stacklevel=3)
