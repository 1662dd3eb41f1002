"""Problems with simple bounds only.

HS: Hock and Schittkowski, Test Examples for Nonlinear Programming Codes (1981), all of theirs that have no other
constraint. Where their start lies outside the box, it is moved to the nearest point of the box.

MGH: problems of Moré, Garbow and Hillstrom, and the chained Rosenbrock function, in a box. "Gay's box" is one of
those in D. M. Gay, A trust-region approach to linearly constrained optimization (1984), the others are chosen here.
They have active bounds, one-sided bounds, fixed variables and starts on a bound. At every solution the active set is
clear: no multiplier is near zero, and no free variable is near a bound.

Solutions with no closed form come from L-BFGS-B, refined by Newton steps in the free variables. TNC agrees, and so does
trust-constr to the precision of its barrier, except where `minima` lists a second value.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from .chained_rosenbrock import rosenbrock
from .more_garbow_hillstrom import MORE_GARBOW_HILLSTROM
from .problem import Problem, vector

INF = math.inf


def hs_1(x):
    x1, x2 = x
    return 100 * (x2 - x1**2) ** 2 + (1 - x1) ** 2


def hs_3(x):
    x1, x2 = x
    return x2 + 1e-5 * (x2 - x1) ** 2


def hs_4(x):
    x1, x2 = x
    return (x1 + 1) ** 3 / 3 + x2


def hs_5(x):
    x1, x2 = x
    return jnp.sin(x1 + x2) + (x1 - x2) ** 2 - 1.5 * x1 + 2.5 * x2 + 1


def hs_25(x):
    x1, x2, x3 = x
    t = jnp.arange(1, 100, dtype=x.dtype) / 100
    u = 25 + (-50 * jnp.log(t)) ** (2 / 3)
    return jnp.sum((jnp.exp(-((u - x2) ** x3) / x1) - t) ** 2)


def hs_38(x):
    x1, x2, x3, x4 = x
    return (
        100 * (x2 - x1**2) ** 2
        + (1 - x1) ** 2
        + 90 * (x4 - x3**2) ** 2
        + (1 - x3) ** 2
        + 10.1 * ((x2 - 1) ** 2 + (x4 - 1) ** 2)
        + 19.8 * (x2 - 1) * (x4 - 1)
    )


def hs_45(x):
    return 2 - jnp.prod(x) / 120


def hs_110(x):
    return jnp.sum(jnp.log(x - 2) ** 2 + jnp.log(10 - x) ** 2) - jnp.prod(x) ** 0.2


def box(start, lower, upper):
    """The three as vectors: a bound may be one number for all variables."""
    start = vector(start)
    return start, (vector(np.broadcast_to(lower, start.shape)), vector(np.broadcast_to(upper, start.shape)))


def hock_schittkowski(number, fun, start, lower, upper, minimum, solution, local=()):
    start, bounds = box(start, lower, upper)
    name, minima = f"hock_schittkowski_{number}", (minimum, *local)
    return Problem(name, f"HS {number}", fun, start, minimum, minima, vector(solution), bounds)


def boxed(free, lower, upper, minimum, solution, start=None, local=()):
    """`free`, a problem without bounds, in a box."""
    start, bounds = box(free.start if start is None else start, lower, upper)
    return dataclasses.replace(
        free,
        name=f"{free.name}_boxed",
        start=start,
        minimum=minimum,
        minima=(minimum, *local),
        solution=vector(solution),
        bounds=bounds,
    )


MGH = {int(problem.number.removeprefix("MGH ")): problem for problem in MORE_GARBOW_HILLSTROM}
J = np.arange(1, 11)

DISCRETE_BOUNDARY_VALUE = (
    *(-0.02541663669244381, -0.04705802235148847, -0.0651249781460914, -0.07965823405460125, -0.09053530899737418),
    *(-0.09746796443713525, -0.1, -0.09750533617197835, -0.08430365024428983, -0.05420196804181712),
)
BROYDEN_TRIDIAGONAL = (
    *(-0.65, -0.7231946108239261, -0.7197630391758426, -0.7132401054169368, -0.7103384389173796),
    *(-0.7103184016373818, -0.7131642189857521, -0.7195810230451131, -0.7228550247910278, -0.65),
)
BROYDEN_BANDED = (
    *(-0.55, -0.55, -0.55, -0.5573982496900831, -0.5923377649183503),
    *(-0.6243514542364726, -0.6227461953220034, -0.6211560313892597, -0.6204951732673482, -0.586502514846006),
)
CHAINED_ROSENBROCK = (
    *(0.9986970778078746, 0.9973893301119225, 0.9947691182123197, 0.9895310847982329, 0.9791014299700287),
    *(0.9584969673829751, 0.918425526270055, 0.8429029733324231, 0.7091961612283688, 0.5),
    *(0.27205208880563764, 0.1011626721794673, 0.1, 0.1, 0.3),
    *(0.11926775405250492, 0.1, 0.1, 0.1, 0.1),
)
CHAINED_LOWER = np.where(np.arange(20) == 14, 0.3, 0.1)
CHAINED_UPPER = np.select([np.arange(20) == 9, np.arange(20) == 14], [0.5, 0.3], INF)

HOCK_SCHITTKOWSKI = [
    hock_schittkowski(1, hs_1, (-2, 1), (-INF, -1.5), INF, 0.0, (1, 1)),
    # The start is in the valley of the worse minimum.
    hock_schittkowski(
        2, hs_1, (-2, 1.5), (-INF, 1.5), INF, 0.050426187893607075, (1.2243707487363524, 1.5), (4.941229317989185,)
    ),
    hock_schittkowski(3, hs_3, (10, 1), (-INF, 0), INF, 0.0, (0, 0)),
    hock_schittkowski(4, hs_4, (1.125, 0.125), (1, 0), INF, 8 / 3, (1, 0)),
    hock_schittkowski(
        5,
        hs_5,
        (0, 0),
        (-1.5, -3),
        (4, 3),
        -math.sqrt(3) / 2 - math.pi / 3,
        (0.5 - math.pi / 3, -0.5 - math.pi / 3),
    ),
    # The start is on a plateau of height 32.835, where the gradient is below 1e-6: a method may well stop there.
    hock_schittkowski(25, hs_25, (100, 12.5, 3), (0.1, 0, 0), (100, 25.6, 5), 0.0, (50, 25, 1.5), (32.835,)),
    hock_schittkowski(38, hs_38, (-3, -1, -3, -1), -10, 10, 0.0, (1, 1, 1, 1)),
    hock_schittkowski(45, hs_45, (1, 2, 2, 2, 2), 0, (1, 2, 3, 4, 5), 1.0, (1, 2, 3, 4, 5)),
    hock_schittkowski(110, hs_110, (9,) * 10, 2.001, 9.999, -45.778469707446305, (9.350265833069384,) * 10),
    boxed(MGH[1], -INF, (0.5, INF), 0.25, (0.5, 0.25)),
    boxed(MGH[2], (-INF, -3), (INF, -1.2), 58.492928, (7.08, -1.2)),
    boxed(MGH[5], (0, -1), (2, INF), 0.5233448360104926, (2.0, 0.170087923033796)),
    boxed(MGH[6], (-INF, 0.3), (INF, 0.5), 136.48653673534093, (0.19688251811489657, 0.3)),
    # Gay's box.
    boxed(MGH[7], (-100, -1, -1), (0.8, 1, 1), 0.9904221209613993, (0.8, 0.5619366456706895, 0.9649340753151796)),
    boxed(MGH[12], (0, 10, 0), (2, 10, 30), 0.0, (1, 10, 1)),  # the second variable is fixed
    # Gay's box.
    boxed(
        MGH[13],
        (0.1, -20, -1, -1),
        (100, 20, 1, 50),
        0.0001878196300583034,
        (0.1, -0.009982234157320425, 0.04307310782090479, 0.04378374152808778),
    ),
    # Gay's box.
    boxed(
        MGH[14],
        -100,
        (0, 10, 100, 100),
        1.5567008004385652,
        (0.0, 0.005338856860370825, 1.3997288764704865, 1.9608274605730476),
        local=(7.093836425129051,),
    ),
    boxed(
        MGH[15],
        (-INF, -INF, -INF, 0.2),
        (0.25, INF, INF, INF),
        0.0003315350939994875,
        (0.1874933783190266, 0.3370629535907919, 0.16161863764253936, 0.2),
    ),
    # Gay's box.
    boxed(
        MGH[16],
        (-10, 0, -100, -20),
        (100, 15, 0, 0.2),
        88860.47976750042,
        (-10.0, 12.677818288630911, -0.4855279925816282, 0.2),
    ),
    # Gay's box.
    boxed(
        MGH[18],
        (0, 0, 0, 1, 0, 0),
        (2, 8, 1, 7, 5, 5),
        0.0005320986590782521,
        (0.905676538694336, 8.0, 0.9043444023648453, 6.5343990599520305, 4.486866781719962, 5.0),
    ),
    # The first variable is fixed, at its start.
    boxed(
        MGH[20],
        (0, -INF, -INF, -INF, -1, -INF),
        (0, INF, INF, INF, INF, INF),
        0.004258133182256119,
        (0.0, 0.9949839431940848, -0.046713751900462605, 0.7787345976092988, -1.0, 0.8280585468220109),
    ),
    boxed(MGH[21], -INF, (0.5, 1) * 3 + (INF,) * 4, 0.75, (0.5, 0.25) * 3 + (1,) * 4),
    boxed(MGH[23], (0.3,) * 3 + (-INF,) * 7, INF, 0.0004846825045651102, (0.3,) * 3 + (0.0002499320526946574,) * 7),
    boxed(
        MGH[25],
        0,
        (0.5,) * 3 + (INF,) * 7,
        0.7741935526157359,
        (0.5,) * 3 + tuple(1 + 0.00806451894775941 * J[3:]),
        np.minimum(1 - J / 10, 0.5),
    ),
    # The start is the corner of all the lower bounds.
    boxed(MGH[28], -0.1, INF, 0.0003340574916987532, DISCRETE_BOUNDARY_VALUE, start=(-0.1,) * 10),
    boxed(
        MGH[29],
        -0.12,
        (INF,) * 9 + (-0.09,),
        0.012567264284641333,
        (
            *(-0.046414941699099765, -0.08840966393698971, -0.12, -0.12, -0.12),
            *(-0.12, -0.12, -0.12, -0.12, -0.09),
        ),
        start=(-0.1,) * 10,
    ),
    boxed(MGH[30], -1, (-0.65,) * 2 + (0,) * 6 + (-0.65,) * 2, 1.3282963119246893, BROYDEN_TRIDIAGONAL),
    boxed(MGH[31], -1, (-0.55,) * 5 + (0,) * 5, 0.695404126904782, BROYDEN_BANDED),
    boxed(MGH[32], (-0.5, -INF) * 5, INF, 11.25, (-0.5, -1) * 5),
    # One variable is fixed; at the solution seven others are at a bound, most of them from the start on.
    boxed(
        rosenbrock(20),
        CHAINED_LOWER,
        CHAINED_UPPER,
        20.422338527989147,
        CHAINED_ROSENBROCK,
        start=np.clip(rosenbrock(20).start, CHAINED_LOWER, CHAINED_UPPER),
    ),
]
