"""Optimizers for JAX that can be read, trusted and compared.

import jaxopt_lectures as jol

tx = jol.chain(jol.clip_by_global_norm(1.0), jol.adamw(jol.cosine_decay_schedule(3e-3, 1000)))
state = tx.init(params)
updates, state = tx.update(gradients, state, params)
params = jol.apply_updates(params, updates)
"""

from typing import Any

from jaxopt_lectures import registry
from jaxopt_lectures.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_percentile,
    clip_by_value,
)
from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.core.checks import interval
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Signed
from jaxopt_lectures.core.transformation import Transformation, chain, eval_params, gradient_point
from jaxopt_lectures.explanation import explain
from jaxopt_lectures.kernels.fuse import fuse
from jaxopt_lectures.optimizers.adadelta import adadelta
from jaxopt_lectures.optimizers.adagrad import adagrad, adagrad_norm
from jaxopt_lectures.optimizers.adam import adam, adamw, nadam
from jaxopt_lectures.optimizers.adamax import adamax
from jaxopt_lectures.optimizers.amsgrad import amsgrad
from jaxopt_lectures.optimizers.cautious import cautious_adamw
from jaxopt_lectures.optimizers.lion import lion
from jaxopt_lectures.optimizers.mars import mars
from jaxopt_lectures.optimizers.momentum import momentum, sgd
from jaxopt_lectures.optimizers.muon import muon
from jaxopt_lectures.optimizers.nesterov import nesterov
from jaxopt_lectures.optimizers.psgd_kron import psgd_kron
from jaxopt_lectures.optimizers.rmsprop import rmsprop
from jaxopt_lectures.optimizers.schedule_free import schedule_free_adamw, schedule_free_sgd
from jaxopt_lectures.optimizers.shampoo import shampoo
from jaxopt_lectures.optimizers.soap import soap
from jaxopt_lectures.scaling.layouts import params_sharding, state_sharding
from jaxopt_lectures.scaling.meshes import mesh_of
from jaxopt_lectures.scaling.shard import shard
from jaxopt_lectures.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    cyclic_schedule,
    exponential_decay,
    inverse_sqrt_schedule,
    inverse_time_schedule,
    join_schedules,
    linear_onecycle_schedule,
    linear_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
    sgdr_schedule,
    step_schedule,
    sutskever_momentum_schedule,
    warm_restarts_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
    warmup_stable_decay_schedule,
)
from jaxopt_lectures.solvers import Bounds, Result, backtracking, hager_zhang, minimize, strong_wolfe
from jaxopt_lectures.solvers.transformations import bfgs, lbfgs, newton_cg
from jaxopt_lectures.storage.convert import convert_state
from jaxopt_lectures.storage.store import store
from jaxopt_lectures.wrappers.accumulate import accumulate
from jaxopt_lectures.wrappers.averaging import average
from jaxopt_lectures.wrappers.by_path import by_path
from jaxopt_lectures.wrappers.cautious import cautious
from jaxopt_lectures.wrappers.hyperparams import set_hyperparams
from jaxopt_lectures.wrappers.lookahead import lookahead
from jaxopt_lectures.wrappers.metrics import metrics
from jaxopt_lectures.wrappers.narrow_weights import apply_updates, compensate, round_stochastic
from jaxopt_lectures.wrappers.probe import probe
from jaxopt_lectures.wrappers.sam import sam, sam_sgd
from jaxopt_lectures.wrappers.schedule_free import schedule_free
from jaxopt_lectures.wrappers.skip_nonfinite import skip_nonfinite
from jaxopt_lectures.wrappers.skip_spikes import skip_spikes
from jaxopt_lectures.wrappers.with_hyperparams import with_hyperparams

__all__ = [
    "Bounds",
    "Choice",
    "NonNegative",
    "Range",
    "Result",
    "Signed",
    "Transformation",
    "accumulate",
    "adadelta",
    "adagrad",
    "adagrad_norm",
    "adam",
    "adamax",
    "adamw",
    "adaptive_grad_clip",
    "amsgrad",
    "apply_updates",
    "average",
    "backtracking",
    "bfgs",
    "by_path",
    "cautious",
    "cautious_adamw",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_percentile",
    "clip_by_value",
    "compensate",
    "constant_schedule",
    "convert_state",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "cyclic_schedule",
    "eval_params",
    "explain",
    "exponential_decay",
    "from_rule",
    "fuse",
    "gradient_point",
    "hager_zhang",
    "interval",
    "inverse_sqrt_schedule",
    "inverse_time_schedule",
    "join_schedules",
    "lbfgs",
    "linear_onecycle_schedule",
    "linear_schedule",
    "lion",
    "lookahead",
    "mars",
    "mesh_of",
    "metrics",
    "minimize",
    "momentum",
    "muon",
    "nadam",
    "nesterov",
    "newton_cg",
    "params_sharding",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "probe",
    "psgd_kron",
    "registry",
    "rmsprop",
    "round_stochastic",
    "sam",
    "sam_sgd",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "set_hyperparams",
    "sgd",
    "sgdr_schedule",
    "shampoo",
    "shard",
    "skip_nonfinite",
    "skip_spikes",
    "soap",
    "state_sharding",
    "step_schedule",
    "store",
    "strong_wolfe",
    "sutskever_momentum_schedule",
    "warm_restarts_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
    "with_hyperparams",
]


# Imported when asked for, as they bring Flax along.
_ROOMS = ("backprop", "diagnostics", "losses", "models", "tasks", "training")
_LATE = {
    "History": "training.history",
    "Stop": "training.stopping",
    "compare": "comparison.protocol",
    "evaluate": "training.evaluation",
    "fit": "training.fit",
    "make_epoch": "training.ways",
    "make_step": "training.program",
    "memory_plan": "planning.plan",
    "range_test": "tuning.range_test",
    "sweep": "tuning.sweep",
}


def __getattr__(name: str) -> Any:
    """What is not here: what is imported late, the version, or a hint where to look."""
    if name in _ROOMS or name in _LATE:
        import importlib

        module = importlib.import_module(f"jaxopt_lectures.{_LATE.get(name, name)}")
        return module if name in _ROOMS else getattr(module, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("jaxopt-lectures")
    if not name.startswith("_"):
        import optax

        if hasattr(optax, name):
            raise AttributeError(f"jaxopt_lectures has no {name!r}: use optax.{name}, they work together")
    raise AttributeError(registry.unknown(name, "function of jaxopt_lectures", [*__all__, *_LATE]))
