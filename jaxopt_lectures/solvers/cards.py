"""The cards of the solvers that are gradient transformations too."""

import optax

from jaxopt_lectures.core.card import Card, Twin
from jaxopt_lectures.solvers.directions.bfgs import updated
from jaxopt_lectures.solvers.directions.lbfgs import LBFGS
from jaxopt_lectures.solvers.directions.newton_cg import newton_direction
from jaxopt_lectures.solvers.transformations import bfgs, lbfgs, newton_cg

_NEEDS = "update needs value_fn (see jol.minimize for a whole solve)."

CARDS = (
    Card(
        name="bfgs",
        factory=bfgs,
        summary="a matrix that becomes the inverse Hessian, and a line search",
        plain="s = x' - x, y = g' - g, rho = 1 / y's\n"
        "H <- (I - rho s y^T) H (I - rho y s^T) + rho s s^T\n"
        "x <- x - t H g, t by line search",
        latex=r"\begin{aligned} H &\leftarrow (I - \rho s y^T)\, H\, (I - \rho y s^T) + \rho s s^T,"
        r" \quad \rho = \frac{1}{y^T s} \\ x &\leftarrow x - t H g \end{aligned}",
        source="C. G. Broyden, R. Fletcher, D. Goldfarb, D. F. Shanno, 1970; J. Nocedal, S. J. Wright, Numerical "
        "Optimization, 2006, (6.17), (6.20)",
        lectures=("000 second-order methods, named",),
        differs=("Neither optax nor torch has it. " + _NEEDS,),
        learning_rate=1.0,
        tags=("lecture", "second order", "line search"),
        code=(updated,),
    ),
    Card(
        name="lbfgs",
        factory=lbfgs,
        summary="BFGS from the last few steps instead of a matrix, and a line search",
        plain="q = g;  back over the last m pairs:  a_i = rho_i s_i^T q,  q <- q - a_i y_i\n"
        "r = gamma q;  forth:  r <- r + (a_i - rho_i y_i^T r) s_i\n"
        "x <- x - t r, t by line search",
        latex=r"\begin{aligned} q &\leftarrow q - \alpha_i y_i, \quad \alpha_i = \rho_i s_i^T q"
        r" && i = k, \dots, k - m + 1 \\ r &\leftarrow r + (\alpha_i - \rho_i y_i^T r)\, s_i"
        r" && i = k - m + 1, \dots, k \\ x &\leftarrow x - t r \end{aligned}",
        source="D. C. Liu, J. Nocedal, On the limited memory BFGS method, Math. Programming 45, 1989; J. Nocedal, "
        "S. J. Wright, 2006, algorithm 7.4",
        lectures=("000 second-order methods, named",),
        differs=(
            _NEEDS,
            "optax 0.2.8 keeps pairs with s^T y < 0, so its direction may point uphill; here they are left out. "
            "Its line search is of another kind, so the steps differ; without one (linesearch=None) they are equal "
            "while s^T y > 0.",
        ),
        twin=Twin(
            "optax.lbfgs(learning_rate, memory_size, scale_init_precond)",
            lambda learning_rate, memory_size=10, scale_init_precond=True: optax.lbfgs(
                learning_rate, memory_size, scale_init_precond
            ),
        ),
        learning_rate=1.0,
        tags=("lecture", "second order", "line search"),
        code=(LBFGS.two_loops,),
    ),
    Card(
        name="newton_cg",
        factory=newton_cg,
        summary="Newton's equation by conjugate gradients, and a line search",
        plain="H d = -g by conjugate gradients, until |H d + g| <= min(1/100, sqrt|g|) |g|,\n"
        "or until H curves downwards along the next direction\n"
        "x <- x + t d, t by line search",
        latex=r"\begin{aligned} &\lVert H d + g \rVert \le \min\Bigl(\tfrac1{100}, \sqrt{\lVert g \rVert}\Bigr)"
        r" \lVert g \rVert \\ &x \leftarrow x + t d \end{aligned}",
        source="J. Nocedal, S. J. Wright, Numerical Optimization, 2006, algorithm 7.1; R. S. Dembo, T. Steihaug, 1983",
        differs=("Neither optax nor torch has it. " + _NEEDS,),
        learning_rate=1.0,
        tags=("second order", "line search"),
        code=(newton_direction,),
    ),
)
