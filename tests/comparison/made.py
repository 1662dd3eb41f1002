"""Records made by hand, for tests of what is derived from them."""

import math

from jaxopt_lectures.comparison.results import Comparison, Record, Result, Study, Twins
from jaxopt_lectures.tuning.trials import Trial

TASK = {
    "name": "blobs",
    "summary": "three clouds",
    "metric": "accuracy",
    "metric_unit": "%",
    "larger_is_better": True,
    "target": 0.6,
    "batch_size": 20,
    "scored": "test",
    "scored_examples": 360,
    "training_examples": 90,
    "validation_examples": 30,
    "data_sha256": "0" * 64,
    "files_sha256": {},
    "parameters": 31,
}
SPACE = {"learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}}


def trial(number, rate, metric, seed=0):
    return Trial(number, {"learning_rate": rate}, (seed,), (metric,), (1 - metric,), 30, math.isnan(metric))


def study(number, score, rate=0.01, curve=(0.3, 0.5, 0.7)):
    """With two trials, of which the first was chosen."""
    seed = 2 * number
    trials = trial(2 * number, rate, 0.7, seed), trial(2 * number + 1, 10 * rate, 0.5, seed)
    values = {"learning_rate": rate}
    return Study(seed, seed + 1, trials, values, (1.0, 0.5, 0.2), tuple(curve), score)


def result(name, scores, **more):
    studies = tuple(study(number, score) for number, score in enumerate(scores))
    fields = {
        "space": SPACE,
        "code": f"jol.{name}(learning_rate=0.01)",
        "edges": {},
        "state_bytes_per_parameter": 8.0,
        "way": "4 side by side, 2 at once",
        "seconds_per_step": 1e-4,
        "share_of_step": 0.25,
    }
    return Result(name, studies=studies, **{**fields, **more})


def comparison(*results, **task):
    return Comparison({**TASK, **task}, 30, (10, 20, 30), results)


def record(*comparisons, complete=True, **protocol):
    names = list(dict.fromkeys(one.name for each in comparisons for one in each.results))
    told = {
        "budget": 2,
        "seeds": max((len(one.studies) for each in comparisons for one in each.results), default=1),
        "steps": None,
        "schedule": "cosine",
        "warmup": 0,
        "sampler": "sobol",
        "seed": 0,
        "baseline": names[0] if names else "none",
        "optimizers": names,
        "tasks": [each.task["name"] for each in comparisons],
        "twins": False,
    }
    environment = {"date": "2026-11-21", "python": "3.11", "jax": "0.10.2", "device": "cpu", "commit": None}
    return Record({**told, **protocol}, environment, comparisons, complete)


TWINS = Twins("optax.adam(learning_rate)", {"learning_rate": 0.01}, (10, 30), (1e-7, 2e-5), (2e-6, 3e-4))
