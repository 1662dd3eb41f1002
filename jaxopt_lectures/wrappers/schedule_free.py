"""Schedule-Free around any optimizer: its steps move z, the gradient is taken between z and the mean of all z."""

import optax

from jaxopt_lectures.core.checks import HyperLike
from jaxopt_lectures.core.transformation import Transformation, chain, check_transformation
from jaxopt_lectures.optimizers.schedule_free import averaged, averaging, schedule_free_rule
from jaxopt_lectures.wrappers.narrow_weights import widened


def schedule_free(
    base: optax.GradientTransformation,
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    weight_lr_power: HyperLike = 2.0,
    *,
    r: HyperLike = 0.0,
) -> Transformation:
    """Averages the weights of `base` on the way, instead of a momentum and of a rate that decays.

    `z <- z + u; x <- (1-c) x + c z; y <- b1 x + (1-b1) z`, where u is the step that `base` takes at y, the parameters;
    c is the share of this step's weight, `(k+1)^r (largest rate so far)^weight_lr_power`, in the sum of all. Evaluate,
    save and publish `jol.eval_params(state, params)`, which is x. It is a chain of `base` and of the averaging, and
    goes last in longer ones, for what changes its updates is undone by the next.

    Switch the momentum of `base` off: the averaging is in its place. `base` sees y, so that its weights decay there.
    bfloat16 parameters are stepped in float32, and the updates returned in it.

    Args:
      base: the transformation whose updates are added to z, ours or optax's.
      learning_rate: the rate of `base`, for the weights only; >= 0. A schedule for warm-up is given to both.
      b1: share of x in the point where the gradient is taken, in [0, 1].
      weight_lr_power: a step counts in the mean by the largest rate so far to this power; >= 0.
      r: a step counts in the mean by (k+1)^r besides; >= 0. 0: all alike.

    Raises:
      TypeError: `base` is not a transformation.
      ValueError: a number outside its range; or `update` is not given the parameters.

    Source: A. Defazio et al., "The road less scheduled", NeurIPS 2024, arXiv:2405.15682.
    """
    check_transformation(base, "schedule_free's base")
    return chain(widened(base), averaged(schedule_free_rule, averaging(learning_rate, 0, b1, weight_lr_power, r=r)))
