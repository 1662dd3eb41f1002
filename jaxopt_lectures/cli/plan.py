"""The options of `plan`."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from jaxopt_lectures import registry


def plan(
    model: str,
    /,
    *,
    optimizer: str = registry.DEFAULT,
    store: str | None = None,
    mesh: str | None = None,
    zero: int | None = None,
    batch: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    remat: bool = False,
    dtype: str | None = None,
    memory: float | None = None,
    picture: Path | None = None,
) -> int:
    """Does it fit? Bytes on each device of a training run, and what to change; no device need be there.

    Parameters and optimizer state are exact, activations and temporaries estimated. Exit code 1: it does not fit.

    Args:
      model: gpt2-small, gpt2-medium, gpt2-large, gpt2-xl, gpt3-175b, glm-10b, vit-moe-15b, yolov3, llama2-7b,
        llama2-70b, mixtral-8x7b; or a task: a name of `tasks`, or module:attribute for one of your own.
      optimizer: a name of `list`, optax:NAME, FILE.py:NAME.
      store: code of the optimizer's state: bf16, fp8, int8, int4 ...
      mesh: axes and sizes, data=64,model=8; one device if not given.
      zero: 0 nothing is cut along data; 1 the state, what is done if not told; 3 parameters and gradients as well.
      batch: examples of a step on all devices; one on each part of data, or the task's own, if not given.
      remat: compute the inside of each block again in the backward pass.
      dtype: of the parameters: float32, bfloat16.
      memory: GB of each device, to be told whether it fits and what to change.
      picture: file to draw it to, .png, .pdf or .svg.
    """
    import jaxopt_lectures.cli.planned as planned

    options: dict[str, Any] = {"store": store, "zero": zero, "batch": batch, "remat": remat}
    return planned.run(model, optimizer, mesh, picture, options | {"dtype": dtype, "memory": memory})
