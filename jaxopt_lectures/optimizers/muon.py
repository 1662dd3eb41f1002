"""Muon: momentum whose matrices are made orthogonal, so that a step turns all directions of a layer alike.

Sources: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (the quintic polynomial, the
scale "original"); J. Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982 (weight decay, the scale
"match_rms_adamw"); J. Bernstein, L. Newhouse, "Modular duality in deep learning", arXiv:2410.21265 ("rms_to_rms");
N. Amsel et al., "The Polar Express", arXiv:2505.16932.
"""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike, interval, whole
from jaxopt_lectures.core.first import Begin
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.linalg.matrices import Matrix, chosen
from jaxopt_lectures.linalg.orthogonal import coefficients, orthogonalized
from jaxopt_lectures.optimizers.adam import adamw_rule

NOT_HIDDEN = r"(?i)embed|logits|vocab|readout|(^|[/_])(lm_?)?head(/|$)|(^|/)(wte|wpe)(/|$)"
"""What first and last layers are called: they map from or to tokens and classes, and are left to AdamW."""

SCALES = {
    "original": lambda rows, columns: math.sqrt(max(1.0, columns / rows)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "rms_to_rms": lambda rows, columns: math.sqrt(columns / rows),
}
"""What an orthogonal (inputs, outputs) matrix is multiplied by. Its own root mean square is 1 / sqrt(larger side)."""


class MuonState(NamedTuple):
    """Momentum `mu`; `nu`, the running mean of squares, of the parameters that are left to AdamW, None of matrices.

    `count` is () int32; `log_adam_b1` and `log_adam_b2` are as in Adam's state.
    """

    count: jax.Array
    mu: Signed
    nu: NonNegative
    log_adam_b1: Shared
    log_adam_b2: Shared


def muon_rule(
    g: Any, s: Any, p: Any, h: Any, t: Any, *, matrix: Matrix | None, nesterov: bool, polynomials: Any, scale: str
) -> Any:
    """One step for one array: for a matrix as below, for what is none AdamW's."""
    if matrix is None:
        return adamw_rule(g, s, p, _adam(h), t, nesterov=False, bias_correction=True)
    mu = h.beta * s.mu + (1 - h.beta) * g  # m_t = b m_{t-1} + (1 - b) g_t
    u = h.beta * mu + (1 - h.beta) * g if nesterov else mu
    u = matrix.back(orthogonalized(matrix.of(u), polynomials, h.eps))  # U S V^T -> U V^T
    u = SCALES[scale](*matrix.whole) * u
    return -h.learning_rate * (u + h.weight_decay * p), {"mu": mu, "nu": None}


def _adam(h: Any) -> SimpleNamespace:
    """AdamW's hyper-parameters by the names that it knows them by."""
    own = {name.removeprefix("adam_"): value for name, value in vars(h).items() if name.startswith("adam_")}
    return SimpleNamespace(eps=h.eps, **own)


def muon(
    learning_rate: HyperLike,
    ns_coeffs: str | Sequence[float] | Sequence[Sequence[float]] = "quintic",
    ns_steps: int = 5,
    beta: HyperLike = 0.95,
    eps: HyperLike = 1e-8,
    weight_decay: HyperLike = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    scale: Literal["original", "match_rms_adamw", "rms_to_rms"] = "match_rms_adamw",
    matrices: Mapping[str, str | None] | None = None,
    adam_learning_rate: HyperLike | None = None,
    adam_b1: HyperLike = 0.9,
    adam_b2: HyperLike = 0.999,
    adam_eps_root: HyperLike = 0.0,
    adam_weight_decay: HyperLike = 0.0,
) -> Transformation:
    """Muon: `m <- b m + (1 - b) g; w <- w - eta (scale * orthogonal(b m + (1 - b) g) + weight_decay w)`.

    Hidden matrices and convolution kernels are Muon's; vectors, embeddings and last layers (by their names:
    embed, logits, head, readout, vocab, wte, wpe) are AdamW's. `jol.explain(tx, params)` says which are which. With the
    scale "original" the rate is a step in spectral norm, 0.02 is usual, and AdamW wants one of its own, 3e-4; with
    "match_rms_adamw" steps are as large as AdamW's, and one rate serves both.

    Args:
      learning_rate: eta, >= 0.
      ns_coeffs: "quintic", "polar_express" (nearer to orthogonal), a triple, or a triple for each step.
      ns_steps: steps towards the orthogonal matrix; >= 1.
      beta: decay of the momentum, in [0, 1).
      eps: added to the norm by which a matrix is divided first, in gradient units, and AdamW's; >= 0.
      weight_decay: share of each matrix taken away per unit of learning rate; >= 0.
      weight_decay_mask: tree of bools, or a function of the parameters that gives one: which parameters decay.
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None.
      nesterov: whether the newest gradient counts once more.
      scale: "original" sqrt(max(1, outputs / inputs)), "match_rms_adamw" 0.2 sqrt(max(inputs, outputs)), "rms_to_rms"
        sqrt(outputs / inputs).
      matrices: a letter for each axis by regular expression of the path: `{"attention": "ibo", "conv1": None}`; i
        input, o output, b a stack of matrices each for itself; None leaves it to AdamW.
      adam_learning_rate: AdamW's; `learning_rate` if None.
      adam_b1: AdamW's.
      adam_b2: AdamW's.
      adam_eps_root: AdamW's.
      adam_weight_decay: AdamW's.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range; from `init`, letters that do not fit
        a parameter, or an expression that no parameter has.
    """
    whole("ns_steps", ns_steps, 1)
    if scale not in tuple(SCALES):
        raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}, got {scale!r}")
    layout = chosen(matrices, others=NOT_HIDDEN)
    return from_rule(
        muon_rule,
        MuonState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("beta", beta, 0, 1),
            interval("eps", eps, 0),
            interval("weight_decay", weight_decay, 0),
            interval("adam_learning_rate", learning_rate if adam_learning_rate is None else adam_learning_rate, 0),
            interval("adam_b1", adam_b1, 0, 1),
            interval("adam_b2", adam_b2, 0, 1),
            interval("adam_eps_root", adam_eps_root, 0),
            interval("adam_weight_decay", adam_weight_decay, 0),
        ],
        options={"nesterov": nesterov, "polynomials": coefficients(ns_coeffs, ns_steps), "scale": scale},
        initial={"nu": Begin(lambda p, matrix, **options: None if matrix else jnp.zeros_like(p))},
        dtypes={"mu": mu_dtype},
        decays=("adam_b1", "adam_b2"),
        couples="matrix",
        powers=2,
        needs_params=True,
        params_mask=weight_decay_mask,
        layout=layout,
        treatment=layout.told("muon", "adamw"),
    )


CARDS = (
    Card(
        name="muon",
        factory=muon,
        summary="momentum whose matrices are made orthogonal, AdamW for the rest",
        plain="m_t = b m_{t-1} + (1 - b) g_t,  u = b m_t + (1 - b) g_t\n"
        "X = u / |u|;  5 times:  A = X X^T,  X <- 3.4445 X - 4.7750 A X + 2.0315 A^2 X\n"
        "w <- w - eta (scale X + lambda w);  vectors, embeddings and last layers as in adamw",
        latex=r"\begin{aligned} m_t &= \beta m_{t-1} + (1-\beta) g_t, \quad u = \beta m_t + (1-\beta) g_t = U S V^T \\"
        r" w &\leftarrow w - \eta \left( \gamma\, U V^T + \lambda w \right), \quad"
        r" \gamma = 0.2 \sqrt{\max(m, n)} \end{aligned}",
        source="K. Jordan et al., 2024; J. Liu et al., arXiv:2502.16982",
        differs=(
            "optax.contrib.muon gives embeddings and last layers to Muon, convolution kernels to Adam, and mixes "
            "bias-corrected terms in Nesterov's step: entries differ by up to 0.1 of an update from the second on.",
            'optax\'s scale is our "original", and its consistent_rms=0.2 our "match_rms_adamw", the default here.',
            "torch.optim.Muon takes matrices only, (outputs, inputs), computes in bfloat16 and decays by 0.1.",
        ),
        learning_rate=3e-3,
        space={
            "learning_rate": Range(1e-4, 1e-1),
            "beta": Range(0.8, 0.98, "linear"),
            "weight_decay": Range(1e-5, 1.0),
        },
        off_neutral={"beta": 0.8, "eps": 0.05, "weight_decay": 0.1, "adam_learning_rate": 0.03, "adam_b1": 0.7}
        | {"adam_b2": 0.95, "adam_eps_root": 0.02, "adam_weight_decay": 0.05},
        tags=("first order", "matrix"),
    ),
)
