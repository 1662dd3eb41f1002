"""The 35 unconstrained problems of Moré, Garbow and Hillstrom, ACM TOMS 7 (1981), 17-41.

Each function returns the residuals r(x); the objective is sum r_i(x)^2. Names and numbers are the paper's. Where the
dimension is free, n = 10 (Watson 6, extended Powell singular 12, Chebyquad 8). Minima that the paper gives with six
digits stand here with all that float64 carries.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np

from .problem import Problem, sum_of_squares, vector

BARD_Y = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
GAUSSIAN_Y = (
    *(0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989),
    *(0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009),
)
MEYER_Y = (
    *(34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744),
    *(8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872),
)
KOWALIK_OSBORNE_Y = (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
KOWALIK_OSBORNE_U = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
OSBORNE_1_Y = (
    *(0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751),
    *(0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490),
    *(0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406),
)
OSBORNE_2_Y = (
    *(1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608),
    *(0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661),
    *(0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428),
    *(0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559),
    *(0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054),
)


def count(m, x):
    """1, 2, ..., m in the dtype of x."""
    return jnp.arange(1, m + 1, dtype=x.dtype)


def rosenbrock(x):
    x1, x2 = x
    return jnp.stack([10 * (x2 - x1**2), 1 - x1])


def freudenstein_roth(x):
    x1, x2 = x
    return jnp.stack([-13 + x1 + ((5 - x2) * x2 - 2) * x2, -29 + x1 + ((x2 + 1) * x2 - 14) * x2])


def powell_badly_scaled(x):
    x1, x2 = x
    return jnp.stack([1e4 * x1 * x2 - 1, jnp.exp(-x1) + jnp.exp(-x2) - 1.0001])


def brown_badly_scaled(x):
    x1, x2 = x
    return jnp.stack([x1 - 1e6, x2 - 2e-6, x1 * x2 - 2])


def beale(x):
    x1, x2 = x
    return jnp.stack([1.5 - x1 * (1 - x2), 2.25 - x1 * (1 - x2**2), 2.625 - x1 * (1 - x2**3)])


def jennrich_sampson(x):
    x1, x2 = x
    i = count(10, x)
    return 2 + 2 * i - (jnp.exp(i * x1) + jnp.exp(i * x2))


def helical_valley(x):
    x1, x2, x3 = x
    # The paper's angle runs from -1/4 to 3/4 turn: its cut is the negative x2 axis, far from the start (-1, 0, 0).
    turns = 0.25 - jnp.arctan2(x1, x2) / (2 * math.pi)
    return jnp.stack([10 * (x3 - 10 * turns), 10 * (jnp.sqrt(x1**2 + x2**2) - 1), x3])


def bard(x):
    x1, x2, x3 = x
    u = count(15, x)
    v = 16 - u
    w = jnp.minimum(u, v)
    return jnp.asarray(BARD_Y, x.dtype) - (x1 + u / (v * x2 + w * x3))


def gaussian(x):
    x1, x2, x3 = x
    t = (8 - count(15, x)) / 2
    return x1 * jnp.exp(-x2 * (t - x3) ** 2 / 2) - jnp.asarray(GAUSSIAN_Y, x.dtype)


def meyer(x):
    x1, x2, x3 = x
    t = 45 + 5 * count(16, x)
    return x1 * jnp.exp(x2 / (t + x3)) - jnp.asarray(MEYER_Y, x.dtype)


def gulf(x):
    x1, x2, x3 = x
    # m = 99: at t = 1 the solution has |y - x2| = 0, whose power has no derivative in x3.
    t = count(99, x) / 100
    y = 25 + (-50 * jnp.log(t)) ** (2 / 3)
    return jnp.exp(-(jnp.abs(y - x2) ** x3) / x1) - t


def box_three_dimensional(x):
    x1, x2, x3 = x
    t = count(10, x) / 10
    return jnp.exp(-t * x1) - jnp.exp(-t * x2) - x3 * (jnp.exp(-t) - jnp.exp(-10 * t))


def powell_singular(x):
    """Any multiple of four: the extended problem is a sum of copies."""
    x1, x2, x3, x4 = x[0::4], x[1::4], x[2::4], x[3::4]
    return jnp.concatenate([x1 + 10 * x2, math.sqrt(5) * (x3 - x4), (x2 - 2 * x3) ** 2, math.sqrt(10) * (x1 - x4) ** 2])


def wood(x):
    x1, x2, x3, x4 = x
    return jnp.stack(
        [
            10 * (x2 - x1**2),
            1 - x1,
            math.sqrt(90) * (x4 - x3**2),
            1 - x3,
            math.sqrt(10) * (x2 + x4 - 2),
            (x2 - x4) / math.sqrt(10),
        ]
    )


def kowalik_osborne(x):
    x1, x2, x3, x4 = x
    y = jnp.asarray(KOWALIK_OSBORNE_Y, x.dtype)
    u = jnp.asarray(KOWALIK_OSBORNE_U, x.dtype)
    return y - x1 * (u**2 + u * x2) / (u**2 + u * x3 + x4)


def brown_dennis(x):
    x1, x2, x3, x4 = x
    t = count(20, x) / 5
    return (x1 + t * x2 - jnp.exp(t)) ** 2 + (x3 + x4 * jnp.sin(t) - jnp.cos(t)) ** 2


def osborne_1(x):
    x1, x2, x3, x4, x5 = x
    t = 10 * (count(33, x) - 1)
    return jnp.asarray(OSBORNE_1_Y, x.dtype) - (x1 + x2 * jnp.exp(-t * x4) + x3 * jnp.exp(-t * x5))


def biggs_exp6(x):
    x1, x2, x3, x4, x5, x6 = x
    t = count(13, x) / 10
    y = jnp.exp(-t) - 5 * jnp.exp(-10 * t) + 3 * jnp.exp(-4 * t)
    return x3 * jnp.exp(-t * x1) - x4 * jnp.exp(-t * x2) + x6 * jnp.exp(-t * x5) - y


def osborne_2(x):
    x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11 = x
    t = (count(65, x) - 1) / 10
    decay = x1 * jnp.exp(-t * x5)
    peaks = (
        x2 * jnp.exp(-((t - x9) ** 2) * x6)
        + x3 * jnp.exp(-((t - x10) ** 2) * x7)
        + x4 * jnp.exp(-((t - x11) ** 2) * x8)
    )
    return jnp.asarray(OSBORNE_2_Y, x.dtype) - (decay + peaks)


def watson(x):
    t = count(29, x)[:, None] / 29
    powers = t ** jnp.arange(x.size, dtype=x.dtype)
    slope = jnp.sum(jnp.arange(1, x.size, dtype=x.dtype) * x[1:] * powers[:, :-1], axis=1)
    value = jnp.sum(x * powers, axis=1)
    return jnp.concatenate([slope - value**2 - 1, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def extended_rosenbrock(x):
    odd, even = x[0::2], x[1::2]
    return jnp.concatenate([10 * (even - odd**2), 1 - odd])


def penalty_1(x):
    return jnp.append(math.sqrt(1e-5) * (x - 1), jnp.sum(x**2) - 0.25)


def penalty_2(x):
    n = x.size
    i = count(n, x)
    y = jnp.exp(i[1:] / 10) + jnp.exp(i[:-1] / 10)
    return jnp.concatenate(
        [
            x[:1] - 0.2,
            math.sqrt(1e-5) * (jnp.exp(x[1:] / 10) + jnp.exp(x[:-1] / 10) - y),
            math.sqrt(1e-5) * (jnp.exp(x[1:] / 10) - math.exp(-0.1)),
            jnp.sum((n - i + 1) * x**2, keepdims=True) - 1,
        ]
    )


def variably_dimensioned(x):
    tail = jnp.sum(count(x.size, x) * (x - 1), keepdims=True)
    return jnp.concatenate([x - 1, tail, tail**2])


def trigonometric(x):
    i = count(x.size, x)
    return x.size - jnp.sum(jnp.cos(x)) + i * (1 - jnp.cos(x)) - jnp.sin(x)


def brown_almost_linear(x):
    return jnp.append(x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x) - 1)


def discrete_boundary_value(x):
    h = 1 / (x.size + 1)
    t = h * count(x.size, x)
    padded = jnp.pad(x, 1)
    return 2 * x - padded[:-2] - padded[2:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral_equation(x):
    h = 1 / (x.size + 1)
    t = h * count(x.size, x)
    kernel = jnp.minimum(t[:, None], t) * (1 - jnp.maximum(t[:, None], t))
    return x + h * jnp.sum(kernel * (x + t + 1) ** 3, axis=1) / 2


def broyden_tridiagonal(x):
    padded = jnp.pad(x, 1)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def broyden_banded(x):
    row, column = np.indices((x.size, x.size))
    band = jnp.asarray((column >= row - 5) & (column <= row + 1) & (column != row), x.dtype)
    return x * (2 + 5 * x**2) + 1 - jnp.sum(band * (x * (1 + x)), axis=1)


def linear_full_rank(x, m=20):
    return jnp.pad(x, (0, m - x.size)) - 2 / m * jnp.sum(x) - 1


def linear_rank_1(x, m=20):
    return count(m, x) * jnp.sum(count(x.size, x) * x) - 1


def linear_rank_1_zeros(x, m=20):
    # The first and the last row are zero, and so are the first and the last column.
    row = count(m, x).at[jnp.array([0, m - 1])].set(1) - 1
    return row * jnp.sum((count(x.size, x) * x)[1:-1]) - 1


def chebyquad(x):
    residuals = []
    before, now = jnp.ones_like(x), 2 * x - 1
    for i in range(1, x.size + 1):
        integral = -1 / (i**2 - 1) if i % 2 == 0 else 0.0
        residuals.append(jnp.mean(now) - integral)
        before, now = now, 2 * (2 * x - 1) * now - before
    return jnp.stack(residuals)


def problem(number, residuals, start, minimum, local=(), solution=None, name=None):
    return Problem(
        name=name or residuals.__name__,
        number=f"MGH {number}",
        fun=functools.partial(sum_of_squares, residuals),
        start=vector(start),
        minimum=minimum,
        minima=(minimum, *local),
        solution=None if solution is None else vector(solution),
    )


J = np.arange(1, 11)
BROYDEN_TRIDIAGONAL = (
    *(-0.5707221320112248, -0.6818069499842752, -0.7022100760176601, -0.7055106298950804, -0.7049061557287436),
    *(-0.7014966070298512, -0.6918893223547983, -0.6657965144058537, -0.5960351090263657, -0.4164122575286934),
)
BROYDEN_BANDED = (
    *(-0.4283028635872503, -0.47659642435629024, -0.5196524636468617, -0.5580993248321808, -0.5925061568294574),
    *(-0.624503682199468, -0.6232394714405911, -0.6213938417965735, -0.6204535966590874, -0.5864692707204351),
)
# The discretisation by the integral equation and the one by differences agree at the grid points.
BOUNDARY_VALUE = (
    *(-0.043164982518764876, -0.08157715653538689, -0.11448571438052926, -0.14097357686259668, -0.1599086961819831),
    *(-0.1698772023127749, -0.16908998378120832, -0.1552495352218318, -0.12535589167893496, -0.07541653368589203),
)
OSBORNE_2 = (
    *(1.3099771546273007, 0.4315537946029891, 0.6336616989607241, 0.5994305347859163, 0.7541832263280116),
    *(0.9042885798596327, 1.3658118352370285, 4.823698817227157),
    *(2.3986848661317546, 4.568874597667672, 5.6753414705806415),
)
PENALTY_2 = (
    *(0.19998360519782363, 0.010350648471292294, 0.0196049344804384, 0.03208906722068565, 0.049932677399641294),
    *(0.0765139951539936, 0.11862407286950419, 0.19214487233557667, 0.3473205869418436, 0.3691643741593507),
)
CHEBYQUAD = (
    *(0.04315276015101662, 0.1930908403841861, 0.26632870689027294, 0.5),
    *(0.5, 0.733671293109727, 0.8069091596158139, 0.9568472398489833),
)
WATSON = (
    *(-0.015725086401458265, 1.0124348693691096, -0.2329916259567352),
    *(1.260430087799601, -1.5137289227222703, 0.9929964324311307),
)

MORE_GARBOW_HILLSTROM = [
    problem(1, rosenbrock, (-1.2, 1), 0.0, solution=(1, 1)),
    problem(2, freudenstein_roth, (0.5, -2), 0.0, (48.98425367924002,), solution=(5, 4)),
    problem(3, powell_badly_scaled, (0, 1), 0.0, solution=(1.0981593296998555e-5, 9.106146739866208)),
    problem(4, brown_badly_scaled, (1, 1), 0.0, solution=(1e6, 2e-6)),
    problem(5, beale, (1, 1), 0.0, solution=(3, 0.5)),
    problem(6, jennrich_sampson, (0.3, 0.4), 124.36218235561479, solution=(0.2578252136703641,) * 2),
    problem(7, helical_valley, (-1, 0, 0), 0.0, solution=(1, 0, 0)),
    problem(
        8, bard, (1, 1, 1), 8.214877306578978e-3, solution=(0.08241055974978902, 1.133036092029723, 2.343695178642536)
    ),
    problem(9, gaussian, (0.4, 1, 0), 1.1279327696191114e-8, solution=(0.39895613783875666, 1.0000190844878059, 0)),
    problem(
        10,
        meyer,
        (0.02, 4000, 250),
        87.94585517070155,
        solution=(0.0056096364710273, 6181.346346286483, 345.2236346241402),
    ),
    problem(11, gulf, (5, 2.5, 0.15), 0.0, solution=(50, 25, 1.5)),
    problem(12, box_three_dimensional, (0, 10, 20), 0.0, solution=(1, 10, 1)),
    problem(13, powell_singular, (3, -1, 0, 1), 0.0, solution=(0, 0, 0, 0)),
    problem(14, wood, (-3, -1, -3, -1), 0.0, solution=(1, 1, 1, 1)),
    problem(
        15,
        kowalik_osborne,
        (0.25, 0.39, 0.415, 0.39),
        3.075056038492381e-4,
        solution=(0.19280693457903791, 0.1912823287343666, 0.12305650692632084, 0.13606233068379464),
    ),
    problem(
        16,
        brown_dennis,
        (25, 5, -5, -1),
        85822.20162635628,
        solution=(-11.594439904762165, 13.203630051207204, -0.4034394881768595, 0.23677877445573633),
    ),
    problem(
        17,
        osborne_1,
        (0.5, 1.5, -1, 0.01, 0.02),
        5.464894697483132e-5,
        solution=(
            *(0.37541005210695205, 1.9358469127123683, -1.464687136613424),
            *(0.01286753464005729, 0.022122699661672605),
        ),
    ),
    problem(18, biggs_exp6, (1, 2, 1, 1, 1, 1), 0.0, (5.655649925499913e-3,), solution=(1, 10, 1, 5, 4, 3)),
    problem(
        19,
        osborne_2,
        (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5),
        4.013773629354772e-2,
        solution=OSBORNE_2,
    ),
    problem(20, watson, (0,) * 6, 2.2876700535523656e-3, solution=WATSON),
    problem(21, extended_rosenbrock, (-1.2, 1) * 5, 0.0, solution=(1,) * 10),
    problem(22, powell_singular, (3, -1, 0, 1) * 3, 0.0, solution=(0,) * 12, name="extended_powell_singular"),
    problem(23, penalty_1, J, 7.08765146709037e-5, solution=(0.15812230111311634,) * 10),
    problem(24, penalty_2, (0.5,) * 10, 2.9366053745674605e-4, solution=PENALTY_2),
    problem(25, variably_dimensioned, 1 - J / 10, 0.0, solution=(1,) * 10),
    problem(26, trigonometric, (0.1,) * 10, 0.0, (2.7950561218798073e-5,), solution=(0,) * 10),
    problem(27, brown_almost_linear, (0.5,) * 10, 0.0, (1.0,), solution=(1,) * 10),
    problem(28, discrete_boundary_value, J / 11 * (J / 11 - 1), 0.0, solution=BOUNDARY_VALUE),
    problem(29, discrete_integral_equation, J / 11 * (J / 11 - 1), 0.0, solution=BOUNDARY_VALUE),
    problem(30, broyden_tridiagonal, (-1,) * 10, 0.0, solution=BROYDEN_TRIDIAGONAL),
    problem(31, broyden_banded, (-1,) * 10, 0.0, (3.0572784324258184,), solution=BROYDEN_BANDED),
    problem(32, linear_full_rank, (1,) * 10, 10.0, solution=(-1,) * 10),
    # Rank 1 has a hyperplane of minimisers; these are the shortest.
    problem(33, linear_rank_1, (1,) * 10, 190 / 41, solution=3 / 41 * J / 385),
    problem(34, linear_rank_1_zeros, (1,) * 10, 227 / 37, solution=3 / 37 * J * (J % 10 > 1) / 284),
    problem(35, chebyquad, np.arange(1, 9) / 9, 3.5168737256779307e-3, solution=CHEBYQUAD),
]
