"""Schedule-Free SGD and AdamW."""

import numpy as np

from . import at, ratio


def schedule_free_sgd(
    w, gradients, learning_rate, warmup_steps=0, b1=0.9, weight_decay=0.0, weight_lr_power=2.0, r=0.0, means=None
):
    """Schedule-Free SGD: Defazio et al. 2024, arXiv 2405.15682, equations 2-4 and algorithm 1's warm-up and weights.

    At step k = 0, 1, ...: rate <- lr min(1, (k+1) / warmup_steps); z <- z - rate (g + weight_decay y);
    weight <- (k+1)^r (largest rate so far)^weight_lr_power; c <- weight / (sum of the weights so far);
    x <- (1-c) x + c z; y <- b1 x + (1-b1) z. The path is that of y, where the gradients are taken. A list that is
    given as `means` receives x, what is evaluated, after each step.
    Counterpart, without warm-up and at a constant rate: `optax.contrib.schedule_free_sgd`.
    """
    y = np.array(w, dtype=np.float64)
    z = np.array(y)
    x = np.array(y)
    largest = 0.0
    total = 0.0
    path = []
    for k, g in enumerate(gradients):
        g = at(g, y)
        warmup = at(warmup_steps, k)
        rate = at(learning_rate, k)
        if k + 1 < warmup:
            rate = rate * (k + 1) / warmup
        z = z - rate * (g + at(weight_decay, k) * y)
        largest = max(largest, rate)
        weight = (k + 1) ** at(r, k) * largest ** at(weight_lr_power, k)
        total = total + weight
        c = ratio(weight, total)
        x = (1 - c) * x + c * z
        y = at(b1, k) * x + (1 - at(b1, k)) * z
        path.append(np.asarray(y))
        if means is not None:
            means.append(np.asarray(x))
    return path


def schedule_free_adamw(
    w,
    gradients,
    learning_rate,
    warmup_steps=0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    weight_lr_power=2.0,
    r=0.0,
    means=None,
):
    """Schedule-Free AdamW: Defazio et al. 2024, arXiv 2405.15682, algorithm 1, as the authors' `AdamWScheduleFree`.

    As `schedule_free_sgd` with g / (sqrt(v / (1 - prod b2)) + eps) for g, v <- b2 v + (1-b2) g*g. The paper has the
    root of 1 - b2^t in the rate, and so in the weights; the released optimizer, and optax, have it under v.
    Counterpart, without warm-up and at a constant rate: `optax.contrib.schedule_free_adamw`.
    """
    y = np.array(w, dtype=np.float64)
    z = y.copy()
    x = y.copy()
    v = np.zeros(y.shape)
    left = 1.0
    rates = []
    weights = []
    path = []
    for k, g in enumerate(gradients):
        g = at(g, y)
        v = at(b2, k) * v + (1 - at(b2, k)) * g**2
        left = left * at(b2, k)
        direction = ratio(g, np.sqrt(v / (1 - left)) + at(eps, k))
        rates.append(at(learning_rate, k) * min(1.0, (k + 1) / max(at(warmup_steps, k), 1e-300)))
        z = z - rates[-1] * direction - rates[-1] * at(weight_decay, k) * y
        weights.append((k + 1.0) ** at(r, k) * max(rates) ** at(weight_lr_power, k))
        c = ratio(weights[-1], sum(weights))
        x = x + c * (z - x)
        y = z + at(b1, k) * (x - z)
        path.append(np.asarray(y))
        if means is not None:
            means.append(np.asarray(x))
    return path
