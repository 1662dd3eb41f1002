"""A factory's transformation, built anew at each step of the hyper-parameters in its state."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.core.checks import Hyper
from jaxopt_lectures.core.given import value_at
from jaxopt_lectures.core.keeping import Keeping
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.wrappers.hyperparams import Declared, HyperparamsState
from jaxopt_lectures.wrappers.wrapped import treated, wrapped


def with_hyperparams(
    factory: Callable[..., optax.GradientTransformation], static: str | Iterable[str] = ()
) -> Callable[..., Transformation]:
    """`with_hyperparams(adamw)(1e-3)` is `adamw(1e-3)` with its hyper-parameters in the state.

    `state.hyperparams["learning_rate"]` is the rate; `state = jol.set_hyperparams(state, learning_rate=3e-4)` changes
    it, and the compiled step goes on as it is. They are float32 whatever the parameters are: a rate of 0.01 stays one,
    where bfloat16 would make it 0.01001.

    Live are the numbers of the call and of the defaults: floats, scalar arrays, and integers unless the factory's own
    default or annotation for them is an integer, which makes them sizes. A schedule is asked at each step for its
    value, which shows in the state. All else is handed over as it is. Where the factory makes one of our optimizers,
    `jol.store` and `jol.round_stochastic` enter it; a chain they take as one piece.

    Args:
      factory: a function that makes a transformation: ours, optax's, or yours that makes a chain.
      static: names of arguments that are to stay as they are.

    Returns:
      A function with the factory's arguments.

    Raises:
      TypeError: `factory` is not callable, or does not make a transformation.
      ValueError: `static` names no argument; and what the factory raises.
    """
    if not callable(factory) or isinstance(factory, optax.GradientTransformation):
        raise TypeError(
            f"with_hyperparams takes the factory, not what it made, with_hyperparams(f)(1e-3); got {factory!r}"
        )
    signature = _signature(factory)
    kept_out = {static} if isinstance(static, str) else set(static)
    open_ended = any(a.kind is a.VAR_KEYWORD for a in signature.parameters.values())
    unknown = sorted(kept_out - set(signature.parameters))
    if unknown and not open_ended:
        raise ValueError(f"static names {unknown[0]!r}; the arguments are {', '.join(signature.parameters)}")

    @functools.wraps(factory)
    def made(*args: Any, **kwargs: Any) -> Transformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        trial = factory(*args, **kwargs)  # checks ranges, and says what it declares
        wrapped(trial, "what the factory makes")
        declares = getattr(trial, "hypers", {})
        found = {
            name: value
            for name, value in _by_name(bound).items()
            if value is not None
            and name not in kept_out
            and (name in declares or _lives(signature.parameters.get(name), value))
        }
        return _live(functools.partial(_built, factory, bound), found, declares)

    return made


def _live(build: Callable[..., Any], given: Mapping[str, Any], declares: Mapping[str, Hyper]) -> Transformation:
    """The transformation that is built anew at each step, of the values in its state."""
    schedules = {name: Hyper(name, value, 0, 0) for name, value in given.items() if callable(value)}
    first = {name: value_at(schedules[name], jnp.int32(0)) if name in schedules else v for name, v in given.items()}
    ranges = [(name, hyper.low, hyper.high, hyper.closed) for name, hyper in declares.items() if name in given]
    declared = Declared(tuple(schedules), tuple(ranges))

    def around(dress: Callable[[Any], Any], keeping: Keeping | None = None) -> Transformation:
        product = dress(build(first))
        ours = product.kept if isinstance(product, Transformation) else None

        def inner(values: Mapping[str, Any]) -> Any:
            return optax.with_extra_args_support(dress(build(values)))

        def init(params: Any) -> HyperparamsState:
            dtype = arithmetic_dtype(*[jnp.result_type(p) for p in jax.tree.leaves(params)])
            values = {name: jnp.array(value, dtype) for name, value in first.items()}
            return HyperparamsState(jnp.zeros((), jnp.int32), values, inner(values).init(params), declared)

        def update(updates: Any, state: HyperparamsState, params: Any = None, **extra: Any) -> Any:
            values = {
                name: jnp.asarray(value_at(schedules[name], state.count)).astype(old.dtype)
                if name in schedules
                else old
                for name, old in state.hyperparams.items()
            }
            new, state_of = inner(values).update(updates, state.inner_state, params, **extra)
            if ours is None:  # float32 numbers may have widened what was narrow
                new, state_of = _as_before(new, updates), _as_before(state_of, state.inner_state)
            return new, HyperparamsState(optax.safe_increment(state.count), values, state_of, declared)

        def kept(keeping: Keeping | None, wide: bool) -> Transformation:
            return around(lambda tx: tx.kept(keeping, wide), keeping)

        return Transformation(
            init,
            update,
            slots=getattr(product, "slots", None),
            couples=couples_of(product),
            parts=(product,),
            kept=kept if ours is not None else None,
            keeping=keeping,
            title="with_hyperparams",
            treatment=lambda path, p: treated(product, path, p),
        )

    return around(lambda tx: tx)


def _built(factory: Callable[..., Any], bound: inspect.BoundArguments, values: Mapping[str, Any]) -> Any:
    """What the factory makes of the arguments with other values."""
    changed = inspect.BoundArguments(bound.signature, dict(bound.arguments))
    for name, argument in bound.signature.parameters.items():
        if argument.kind is argument.VAR_KEYWORD:
            mine = {key: value for key, value in values.items() if key in bound.arguments[name]}
            changed.arguments[name] = {**bound.arguments[name], **mine}
        elif name in values:
            changed.arguments[name] = values[name]
    return factory(*changed.args, **changed.kwargs)


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """The arguments by name, those of `**kwargs` too."""
    found: dict[str, Any] = {}
    for name, argument in bound.signature.parameters.items():
        if argument.kind is argument.VAR_KEYWORD:
            found |= bound.arguments[name]
        elif argument.kind is not argument.VAR_POSITIONAL:
            found[name] = bound.arguments[name]
    return found


def _lives(argument: inspect.Parameter | None, value: Any) -> bool:
    """Whether an argument that is not declared is a number, or a schedule, and not a size."""
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, np.integer)):
        return argument is None or not (isinstance(argument.default, int) or _is_size(argument.annotation))
    if isinstance(value, (float, np.ndarray, np.generic, jax.Array)):
        return _is_number(jnp.shape(value), jnp.result_type(value))
    return callable(value) and not isinstance(value, (type, optax.GradientTransformation)) and _is_schedule(value)


def _is_size(annotation: Any) -> bool:
    """Whether an annotation takes integers and no other numbers: `int`, `int | None`."""
    kinds = typing.get_args(annotation) or (annotation,)
    return int in kinds and float not in kinds


def _signature(factory: Callable[..., Any]) -> inspect.Signature:
    """Its arguments, with annotations that are text read where they can be."""
    try:
        return inspect.signature(factory, eval_str=True)
    except Exception:  # names that are not there at run time
        return inspect.signature(factory)


def _is_schedule(value: Callable[..., Any]) -> bool:
    """Whether a function of the step count gives a number."""
    try:
        result = jax.eval_shape(value, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception:  # a mask, an initializer, a metric: functions of something else
        return False
    return isinstance(result, jax.ShapeDtypeStruct) and _is_number(result.shape, result.dtype)


def _is_number(shape: tuple[int, ...], dtype: Any) -> bool:
    return shape == () and bool(jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def _as_before(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda x, like: x.astype(like.dtype) if x.dtype != like.dtype else x, new, old)
