"""The compiled training loop: steps, batches, checkpoints, stopping."""

from jaxopt_lectures.training.batches import Batches, Chunk, deal
from jaxopt_lectures.training.checkpoints import Unreadable
from jaxopt_lectures.training.evaluation import evaluate
from jaxopt_lectures.training.fit import fit
from jaxopt_lectures.training.history import History
from jaxopt_lectures.training.log import tensorboard
from jaxopt_lectures.training.program import TrainState, make_step, start
from jaxopt_lectures.training.stopping import Stop
from jaxopt_lectures.training.ways import make_epoch

__all__ = [
    "Batches",
    "Chunk",
    "History",
    "Stop",
    "TrainState",
    "Unreadable",
    "deal",
    "evaluate",
    "fit",
    "make_epoch",
    "make_step",
    "start",
    "tensorboard",
]
