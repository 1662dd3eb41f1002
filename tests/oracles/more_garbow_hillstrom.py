"""The 35 problems of Moré, Garbow and Hillstrom 1981, residual by residual, as loops over the paper's indices.

`more_garbow_hillstrom(number, x)` is the sum of the squared residuals. In each function x[1] is the first variable:
x[0] is nan, so that a shifted index shows.
"""

import math

import numpy as np

BARD = "0.14 0.18 0.22 0.25 0.29 0.32 0.35 0.39 0.37 0.58 0.73 0.96 1.34 2.10 4.39"
GAUSSIAN = "9 44 175 540 1295 2420 3521 3989 3521 2420 1295 540 175 44 9"  # times 1e-4
MEYER = "34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872"
KOWALIK_OSBORNE = ".1957 .1947 .1735 .1600 .0844 .0627 .0456 .0342 .0323 .0235 .0246"
KOWALIK_OSBORNE_U = "4 2 1 .5 .25 .167 .125 .1 .0833 .0714 .0625"
OSBORNE_1 = """
844 908 932 936 925 908 881 850 818 784 751 718 685 658 628 603 580
558 538 522 506 490 478 467 457 448 438 431 424 420 414 411 406
"""  # times 1e-3
OSBORNE_2 = """
1366 1191 1112 1013 991 885 831 847 786 725 746 679 608 655 616 606 602 626 651 724 649 649
694 644 624 661 612 558 533 495 500 423 395 375 372 391 396 405 428 429 523 562 607 653
672 708 633 668 645 632 591 559 597 625 739 710 729 720 636 581 428 292 162 98 54
"""  # times 1e-3


def data(text, unit=1.0):
    """y[1], y[2], ..."""
    return np.array([math.nan, *(float(word) * unit for word in text.split())])


def rosenbrock(x):
    return [10 * (x[2] - x[1] * x[1]), 1 - x[1]]


def freudenstein_roth(x):
    return [
        -13 + x[1] + 5 * x[2] ** 2 - x[2] ** 3 - 2 * x[2],
        -29 + x[1] + x[2] ** 3 + x[2] ** 2 - 14 * x[2],
    ]


def powell_badly_scaled(x):
    return [1e4 * x[1] * x[2] - 1, math.exp(-x[1]) + math.exp(-x[2]) - 1.0001]


def brown_badly_scaled(x):
    return [x[1] - 1e6, x[2] - 2e-6, x[1] * x[2] - 2]


def beale(x):
    y = {1: 1.5, 2: 2.25, 3: 2.625}
    return [y[i] - x[1] * (1 - x[2] ** i) for i in (1, 2, 3)]


def jennrich_sampson(x):
    return [2 + 2 * i - (math.exp(i * x[1]) + math.exp(i * x[2])) for i in range(1, 11)]


def helical_valley(x):
    theta = math.atan(x[2] / x[1]) / (2 * math.pi)
    if x[1] < 0:
        theta += 0.5
    return [10 * (x[3] - 10 * theta), 10 * (math.hypot(x[1], x[2]) - 1), x[3]]


def bard(x):
    y = data(BARD)
    r = []
    for i in range(1, 16):
        u, v, w = i, 16 - i, min(i, 16 - i)
        r.append(y[i] - (x[1] + u / (v * x[2] + w * x[3])))
    return r


def gaussian(x):
    y = data(GAUSSIAN, 1e-4)
    r = []
    for i in range(1, 16):
        t = (8 - i) / 2
        r.append(x[1] * math.exp(-x[2] * (t - x[3]) ** 2 / 2) - y[i])
    return r


def meyer(x):
    y = data(MEYER)
    return [x[1] * math.exp(x[2] / (45 + 5 * i + x[3])) - y[i] for i in range(1, 17)]


def gulf(x):
    r = []
    for i in range(1, 100):
        t = i / 100
        y = 25 + (-50 * math.log(t)) ** (2 / 3)
        r.append(math.exp(-(abs(y - x[2]) ** x[3]) / x[1]) - t)
    return r


def box_three_dimensional(x):
    r = []
    for i in range(1, 11):
        t = 0.1 * i
        r.append(math.exp(-t * x[1]) - math.exp(-t * x[2]) - x[3] * (math.exp(-t) - math.exp(-10 * t)))
    return r


def extended_powell_singular(x):
    r = []
    for i in range(1, len(x) - 1, 4):
        r.append(x[i] + 10 * x[i + 1])
        r.append(5**0.5 * (x[i + 2] - x[i + 3]))
        r.append((x[i + 1] - 2 * x[i + 2]) ** 2)
        r.append(10**0.5 * (x[i] - x[i + 3]) ** 2)
    return r


def wood(x):
    return [
        10 * (x[2] - x[1] ** 2),
        1 - x[1],
        90**0.5 * (x[4] - x[3] ** 2),
        1 - x[3],
        10**0.5 * (x[2] + x[4] - 2),
        10**-0.5 * (x[2] - x[4]),
    ]


def kowalik_osborne(x):
    y, u = data(KOWALIK_OSBORNE), data(KOWALIK_OSBORNE_U)
    r = []
    for i in range(1, 12):
        r.append(y[i] - x[1] * (u[i] ** 2 + u[i] * x[2]) / (u[i] ** 2 + u[i] * x[3] + x[4]))
    return r


def brown_dennis(x):
    r = []
    for i in range(1, 21):
        t = i / 5
        r.append((x[1] + t * x[2] - math.exp(t)) ** 2 + (x[3] + x[4] * math.sin(t) - math.cos(t)) ** 2)
    return r


def osborne_1(x):
    y = data(OSBORNE_1, 1e-3)
    r = []
    for i in range(1, 34):
        t = 10 * (i - 1)
        r.append(y[i] - (x[1] + x[2] * math.exp(-t * x[4]) + x[3] * math.exp(-t * x[5])))
    return r


def biggs_exp6(x):
    r = []
    for i in range(1, 14):
        t = 0.1 * i
        y = math.exp(-t) - 5 * math.exp(-10 * t) + 3 * math.exp(-4 * t)
        r.append(x[3] * math.exp(-t * x[1]) - x[4] * math.exp(-t * x[2]) + x[6] * math.exp(-t * x[5]) - y)
    return r


def osborne_2(x):
    y = data(OSBORNE_2, 1e-3)
    r = []
    for i in range(1, 66):
        t = (i - 1) / 10
        model = x[1] * math.exp(-t * x[5])
        for k in (2, 3, 4):
            model += x[k] * math.exp(-((t - x[k + 7]) ** 2) * x[k + 4])
        r.append(y[i] - model)
    return r


def watson(x):
    n = len(x) - 1
    r = []
    for i in range(1, 30):
        t = i / 29
        slope = sum((j - 1) * x[j] * t ** (j - 2) for j in range(2, n + 1))
        value = sum(x[j] * t ** (j - 1) for j in range(1, n + 1))
        r.append(slope - value**2 - 1)
    return [*r, x[1], x[2] - x[1] ** 2 - 1]


def extended_rosenbrock(x):
    r = []
    for i in range(1, len(x) // 2 + 1):
        r.append(10 * (x[2 * i] - x[2 * i - 1] ** 2))
        r.append(1 - x[2 * i - 1])
    return r


def penalty_1(x):
    n = len(x) - 1
    r = [1e-5**0.5 * (x[i] - 1) for i in range(1, n + 1)]
    return [*r, sum(x[j] ** 2 for j in range(1, n + 1)) - 0.25]


def penalty_2(x):
    n = len(x) - 1
    a = 1e-5**0.5
    r = [x[1] - 0.2]
    for i in range(2, n + 1):
        y = math.exp(i / 10) + math.exp((i - 1) / 10)
        r.append(a * (math.exp(x[i] / 10) + math.exp(x[i - 1] / 10) - y))
    for i in range(n + 1, 2 * n):
        r.append(a * (math.exp(x[i - n + 1] / 10) - math.exp(-1 / 10)))
    return [*r, sum((n - j + 1) * x[j] ** 2 for j in range(1, n + 1)) - 1]


def variably_dimensioned(x):
    n = len(x) - 1
    s = sum(j * (x[j] - 1) for j in range(1, n + 1))
    return [*(x[i] - 1 for i in range(1, n + 1)), s, s**2]


def trigonometric(x):
    n = len(x) - 1
    cosines = sum(math.cos(x[j]) for j in range(1, n + 1))
    return [n - cosines + i * (1 - math.cos(x[i])) - math.sin(x[i]) for i in range(1, n + 1)]


def brown_almost_linear(x):
    n = len(x) - 1
    r = [x[i] + sum(x[1:]) - (n + 1) for i in range(1, n)]
    return [*r, math.prod(x[1:]) - 1]


def discrete_boundary_value(x):
    n = len(x) - 1
    h = 1 / (n + 1)
    y = [0.0, *x[1:], 0.0]
    return [2 * y[i] - y[i - 1] - y[i + 1] + h**2 * (y[i] + i * h + 1) ** 3 / 2 for i in range(1, n + 1)]


def discrete_integral_equation(x):
    n = len(x) - 1
    h = 1 / (n + 1)
    r = []
    for i in range(1, n + 1):
        below = sum(j * h * (x[j] + j * h + 1) ** 3 for j in range(1, i + 1))
        above = sum((1 - j * h) * (x[j] + j * h + 1) ** 3 for j in range(i + 1, n + 1))
        r.append(x[i] + h * ((1 - i * h) * below + i * h * above) / 2)
    return r


def broyden_tridiagonal(x):
    y = [0.0, *x[1:], 0.0]
    return [(3 - 2 * y[i]) * y[i] - y[i - 1] - 2 * y[i + 1] + 1 for i in range(1, len(x))]


def broyden_banded(x):
    n = len(x) - 1
    r = []
    for i in range(1, n + 1):
        band = [j for j in range(max(1, i - 5), min(n, i + 1) + 1) if j != i]
        r.append(x[i] * (2 + 5 * x[i] ** 2) + 1 - sum(x[j] * (1 + x[j]) for j in band))
    return r


def linear_full_rank(x, m=20):
    n = len(x) - 1
    mean = 2 / m * sum(x[1:])
    return [x[i] - mean - 1 if i <= n else -mean - 1 for i in range(1, m + 1)]


def linear_rank_1(x, m=20):
    s = sum(j * x[j] for j in range(1, len(x)))
    return [i * s - 1 for i in range(1, m + 1)]


def linear_rank_1_zeros(x, m=20):
    s = sum(j * x[j] for j in range(2, len(x) - 1))
    return [-1.0, *((i - 1) * s - 1 for i in range(2, m)), -1.0]


def chebyquad(x):
    n = len(x) - 1
    r = []
    for i in range(1, n + 1):
        # The i-th Chebyshev polynomial, shifted to [0, 1], and its integral there.
        mean = sum(math.cos(i * math.acos(2 * x[j] - 1)) for j in range(1, n + 1)) / n
        r.append(mean - (0 if i % 2 else -1 / (i**2 - 1)))
    return r


PROBLEMS = (
    *(rosenbrock, freudenstein_roth, powell_badly_scaled, brown_badly_scaled, beale, jennrich_sampson),
    *(helical_valley, bard, gaussian, meyer, gulf, box_three_dimensional, extended_powell_singular, wood),
    *(kowalik_osborne, brown_dennis, osborne_1, biggs_exp6, osborne_2, watson, extended_rosenbrock),
    *(extended_powell_singular, penalty_1, penalty_2, variably_dimensioned, trigonometric, brown_almost_linear),
    *(discrete_boundary_value, discrete_integral_equation, broyden_tridiagonal, broyden_banded),
    *(linear_full_rank, linear_rank_1, linear_rank_1_zeros, chebyquad),
)


def more_garbow_hillstrom(number, x):
    """The objective of problem `number` at `x`."""
    return float(sum(r * r for r in PROBLEMS[number - 1]([math.nan, *map(float, x)])))
