"""Initialisation and momentum after Sutskever et al. 2013: `python -m benchmarks.sutskever curves|digits_autoencoder`.

Deep autoencoders trained by plain descent, classical momentum and Nesterov's, each over the same rates, from Martens'
sparse weights and from small dense ones. Momentum rises as in the paper, in a shorter time. Every rate is tried with
the first seed, the best one with all seeds. Finished runs are kept: the command goes on where it was interrupted.
"""

import json
import statistics
import sys
import time

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import normal

import jaxopt_lectures as jol
from benchmarks.harness import RESULTS, save
from jaxopt_lectures import tasks

SEEDS = (0, 1, 2)
METHODS = {  # name -> (look-ahead, largest momentum)
    "plain": (False, 0.0),
    "classical 0.99": (False, 0.99),
    "classical 0.995": (False, 0.995),
    "Nesterov 0.99": (True, 0.99),
    "Nesterov 0.995": (True, 0.995),
}
PAPER = {
    "plain": 0.48,
    "classical 0.99": 0.10,
    "classical 0.995": 0.10,
    "Nesterov 0.99": 0.096,
    "Nesterov 0.995": 0.091,
}
"""Training error on the original CURVES after 750,000 steps, Sutskever et al. 2013, table 1; quoted from memory."""

SETTINGS = {
    # The momentum reaches 0.995 before the last steps, which are taken at 0.9, as in the paper.
    "curves": {"steps": 6000, "period": 50, "final_steps": 500, "rates": (0.3, 0.1, 0.03, 0.01, 0.003)},
    "digits_autoencoder": {"steps": 12_000, "period": 100, "final_steps": 1000, "rates": (0.3, 0.1, 0.03, 0.01, 0.003)},
}


class Bench:
    """One task; programs are compiled once for each of the two methods, rates and momenta are their arguments."""

    def __init__(self, name):
        self.task, self.settings = tasks.get(name), SETTINGS[name]
        self.x = jnp.asarray(self.task.data().train.x)
        self.graph = nnx.split(self.task.model(0))[0]
        self.programs = {look: jax.jit(self._train(look), donate_argnums=0) for look in (False, True)}
        self.judge = jax.jit(self._loss)

    def run(self, method, rate, seed, dense=False):
        """Training error at the end; NaN if it blew up."""
        look, largest = METHODS[method]
        params = self._weights(seed, dense)
        final = self.programs[look](params, self.x, jnp.float32(rate), jnp.float32(largest), jax.random.key(seed))
        return float(self.judge(final, self.x))

    def mean_image(self):
        """The error of who answers the mean image, whatever is asked: chance level."""
        return float(jnp.sum(jnp.var(self.x, axis=0)))

    def _weights(self, seed, dense):
        model = self.task.model(seed)
        if dense:
            keys = nnx.Rngs(seed)
            for layer in [*model.encoder, *model.decoder]:
                layer.kernel[...] = normal(0.01)(keys(), layer.kernel.shape, jnp.float32)
        return nnx.split(model)[1]

    def _loss(self, params, x):
        return self.task.loss(nnx.merge(self.graph, params), x, x)

    def _train(self, look):
        steps, size, count = self.settings["steps"], self.task.batch_size, len(self.x)
        per_epoch = count // size

        def train(params, images, rate, largest, key):
            schedule = jol.sutskever_momentum_schedule(
                largest,
                self.settings["period"],
                final_steps=self.settings["final_steps"],
                total_steps=steps,
            )
            tx = jol.nesterov(rate, schedule) if look else jol.momentum(rate, schedule)

            def step(index, carry):
                params, state, order = carry
                place = index % per_epoch
                order = jax.lax.cond(
                    place == 0, lambda: jax.random.permutation(jax.random.fold_in(key, index), count), lambda: order
                )
                batch = images[jax.lax.dynamic_slice_in_dim(order, place * size, size)]
                updates, state = tx.update(jax.grad(self._loss)(params, batch), state, params)
                return jol.apply_updates(params, updates), state, order

            start = params, tx.init(params), jnp.arange(count)
            params, state, _ = jax.lax.fori_loop(0, steps, step, start)
            return jol.eval_params(state, params)

        return train


def main(name):
    """Runs what is not in the results yet, prints, saves after every run."""
    path = RESULTS / f"sutskever-{name}.json"
    settings = {**SETTINGS[name], "seeds": SEEDS, "batch_size": tasks.get(name).batch_size}
    settings = json.loads(json.dumps(settings))
    found = json.loads(path.read_text()) if path.exists() else {}
    runs = found.get("runs", {}) if found.get("settings") == settings else {}
    bench = Bench(name)

    def error(method, rate, seed, dense=False):
        label = f"{'dense' if dense else 'sparse'}, {method}, rate {rate:g}, seed {seed}"
        if label not in runs:
            began = time.perf_counter()
            value = bench.run(method, rate, seed, dense)
            runs[label] = value if value == value else None
            print(f"{label}: {value:.4g} ({time.perf_counter() - began:.0f} s)", flush=True)
            save(path.stem, {}, settings=settings, runs=runs)
        return float("inf") if runs[label] is None else runs[label]

    rates = settings["rates"]
    rows = {"chance (the mean image)": {"error": bench.mean_image()}}
    for method in METHODS:
        best = min(rates, key=lambda rate: error(method, rate, SEEDS[0]))
        errors = [error(method, best, seed) for seed in SEEDS]
        spread = statistics.stdev(errors)
        rows[method] = {"rate": best, "error": statistics.fmean(errors), "spread": spread}
        if name == "curves":
            rows[method]["paper"] = PAPER.get(method)
        print(method, rows[method], flush=True)
    for method in ("plain", "Nesterov 0.99"):
        errors = [error(method, rate, SEEDS[0], dense=True) for rate in rates]
        rows[f"dense, {method}"] = {"error": min(errors)}
    save(path.stem, rows, settings=settings, runs=runs)
    for label, row in rows.items():
        print(label, row)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "curves")
