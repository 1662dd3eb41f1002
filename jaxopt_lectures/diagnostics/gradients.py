"""How large gradients and updates are, layer by layer, and how noisy.

Sources: lecture 004 (gradients that vanish or explode on their way through the layers); S. McCandlish et al., "An
empirical model of large-batch training", arXiv 1812.06162, 2018, section 2.2 and appendix A.1 (noise scale).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.numbers import arithmetic_dtype, norm
from jaxopt_lectures.diagnostics.checks import floating, like

_norm = jax.jit(norm)  # outside of `jit` too, one program per shape


def norms_by_layer(tree: Any, depth: int | None = None) -> dict[str, jax.Array]:
    """The Euclidean norm of every part of a tree: `norm_l = sqrt(sum_{i in l} x_i^2)`.

    Args:
      tree: gradients, updates or parameters: any tree of floating-point arrays, `nnx.State` too.
      depth: how many steps of a leaf's path name its part: with depth 2 the leaves `layers/0/kernel` and
        `layers/0/bias` are one part, `layers/0`; with depth 0 the whole tree is one, named "". None: every leaf.

    Returns:
      Path -> norm, scalars of float32 (float64 for float64 leaves), in the order of the leaves. (`jax.jit` sorts the
      keys of a dict that it returns.) No square overflows or vanishes on the way.

    Raises:
      TypeError: a leaf that is not floating-point, named by its path; a depth that is no integer.
      ValueError: a tree without leaves, or a negative depth.
    """
    if depth is not None:
        whole("depth", depth, 0)
    parts: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(floating(tree, "leaf")):
        parts.setdefault(_name(path, depth), []).append(leaf)
    return {name: _norm(leaves) for name, leaves in parts.items()}


def update_ratios(updates: Any, params: Any, depth: int | None = None) -> dict[str, jax.Array]:
    """How far an update moves each part of the parameters, relative to its size: `norm(u_l) / norm(w_l)`.

    Args:
      updates: what is added to the parameters.
      params: the parameters; a tree like the updates.
      depth: as in `norms_by_layer`.

    Returns:
      Path -> ratio, scalars; inf for parameters that are all zero (fresh biases), NaN if they stay so.

    Raises:
      TypeError: a leaf that is not floating-point.
      ValueError: the trees differ in structure or in the shape of a leaf.
    """
    sizes = norms_by_layer(params, depth)
    moves = norms_by_layer(like(params, updates, "updates"), depth)
    return {name: moves[name] / size for name, size in sizes.items()}


class NoiseScale(NamedTuple):
    """Signal and noise of the gradient of one example, scalars.

    Attributes:
      signal: squared norm of the true gradient, `|G|^2`. Its unbiased estimate can be negative: then the examples are
        too few to see the gradient through the noise.
      noise: trace of the covariance of the examples' gradients, `tr(Sigma)`.
      scale: `noise / signal`, a number of examples: batches much smaller waste steps, much larger ones waste examples.
    """

    signal: jax.Array
    noise: jax.Array
    scale: jax.Array


def noise_scale(gradients: Any) -> NoiseScale:
    """The simple noise scale `tr(Sigma) / |G|^2` from the gradients of n examples.

    With the mean `m = (1/n) sum g_i`, `tr(Sigma)` is estimated by `S = (1/(n-1)) sum |g_i - m|^2` and `|G|^2` by
    `|m|^2 - S/n`, for the mean of n noisy gradients is too long by `tr(Sigma)/n`. Both are unbiased; their quotient
    is not, but it converges as n grows.

    Args:
      gradients: a tree of arrays with one gradient per entry of the leading axis, such as
        `jax.vmap(jax.grad(loss), in_axes=(None, 0))(params, examples)`; n >= 2.

    Returns:
      A `NoiseScale` of float32 (float64 for float64 gradients).

    Raises:
      TypeError: a leaf that is not floating-point.
      ValueError: fewer than two examples, or leaves that disagree on their number, naming the leaf.
    """
    gradients = floating(gradients, "gradient")
    leaves = jax.tree.leaves(gradients)
    number = jnp.shape(leaves[0])[0] if jnp.ndim(leaves[0]) else 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        if jnp.shape(leaf)[:1] != (number,) or number < 2:
            raise ValueError(
                "gradients must have one leading axis of at least 2 examples, equal in all leaves; "
                f"gradient{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}"
            )
    dtype = arithmetic_dtype(*[leaf.dtype for leaf in leaves])
    signal, noise = jnp.zeros((), dtype), jnp.zeros((), dtype)
    for leaf in leaves:
        examples = leaf.astype(dtype)
        mean = jnp.mean(examples, axis=0)
        spread = jnp.sum(jnp.square(examples - mean)) / (number - 1)  # S
        noise += spread
        signal += jnp.sum(jnp.square(mean)) - spread / number  # |m|^2 - S/n
    return NoiseScale(signal, noise, noise / signal)


def _name(path: Any, depth: int | None) -> str:
    """A leaf's path as text, without the attribute in which a variable of Flax boxes its array."""
    if path and getattr(path[-1], "name", None) == "value":
        path = path[:-1]
    return jax.tree_util.keystr(path[:depth], simple=True, separator="/")
