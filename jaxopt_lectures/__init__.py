"""Optimizers for JAX that can be read, trusted and compared. `import jaxopt_lectures as jol`."""

from optax import apply_updates

from jaxopt_lectures import registry
from jaxopt_lectures.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_percentile,
    clip_by_value,
)
from jaxopt_lectures.core.transformation import Transformation, chain, eval_params, gradient_point
from jaxopt_lectures.optimizers.adadelta import adadelta
from jaxopt_lectures.optimizers.adagrad import adagrad, adagrad_norm
from jaxopt_lectures.optimizers.adam import adam, adamw, nadam
from jaxopt_lectures.optimizers.adamax import adamax
from jaxopt_lectures.optimizers.amsgrad import amsgrad
from jaxopt_lectures.optimizers.lion import lion
from jaxopt_lectures.optimizers.momentum import momentum, sgd
from jaxopt_lectures.optimizers.nesterov import nesterov
from jaxopt_lectures.optimizers.rmsprop import rmsprop
from jaxopt_lectures.wrappers.skip_nonfinite import skip_nonfinite
