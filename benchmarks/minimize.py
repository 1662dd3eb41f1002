"""`jol.minimize` against SciPy, optax, optimistix and PyTorch: `python -m benchmarks.minimize [PART ...]`.

A table for each part, saved in benchmarks/results/minimize.json after each. Parts that are named are measured anew, the
others in the file are kept. The times are worth something on an idle machine only: each part says how busy it was.
"""

import importlib.util
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

import jaxopt_lectures as jol
from benchmarks.harness import RESULTS, compared, in_turn, machine, save
from benchmarks.minimizers import (
    Outcome,
    loosest,
    optax_lbfgs,
    optimistix_solver,
    ours,
    scipy_solver,
    steepness,
    torch_lbfgs,
    value_and_gradient,
)
from tests.problems import HOCK_SCHITTKOWSKI, MORE_GARBOW_HILLSTROM, rosenbrock

GTOL = 1e-6
EIGHTEEN = (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 14, 15, 16, 18, 21, 23, 25, 26)
"""The More-Garbow-Hillstrom problems whose evaluations are also summed by themselves."""

HOSTED = ("SciPy BFGS", "SciPy L-BFGS-B", "torch LBFGS")
"""Run from Python; the others are compiled."""


def has(package):
    """Whether a peer is installed."""
    return importlib.util.find_spec(package) is not None


def compiled(name, run):
    """A run, compiled if it can be."""
    return run if name in HOSTED else jax.jit(run)


def with_progress(part, items, row):
    """`row(item)` of all, by name, two at a time: most of the time goes into compiling. Nothing is timed here."""
    found = {}
    with ThreadPoolExecutor(2) as pool:
        for index, (item, result) in enumerate(zip(items, pool.map(row, items), strict=True), 1):
            found[item.name] = result
            print(f"{part} {index}/{len(items)}: {item.name}", flush=True)
    return found


def number(value):
    """A float that JSON knows."""
    value = float(value)
    return value if np.isfinite(value) else str(value)


def problems():
    """How many test problems are solved, in how many evaluations.

    Solved: no element of the gradient exceeds 1e-6, and the value is that of a known minimum.
    """
    first = ["ours lbfgs", "ours bfgs", "ours lbfgsb", "ours newton_cg", "SciPy BFGS", "SciPy L-BFGS-B"]
    makes = {f"ours {method}": ours(method) for method in ("lbfgs", "bfgs", "lbfgsb", "newton_cg", "nonlinear_cg")}
    makes |= {f"SciPy {method}": scipy_solver(method) for method in ("BFGS", "L-BFGS-B")}
    makes |= {"optax lbfgs": optax_lbfgs}
    if has("optimistix"):
        makes |= {f"optimistix {name}": optimistix_solver(name) for name in ("BFGS", "LBFGS")}

    def row(problem):
        runs = {name: compiled(name, make(problem.fun, GTOL)) for name, make in makes.items()}
        return {name: judged(problem, run(jnp.asarray(problem.start))) for name, run in runs.items()}

    chosen = [*MORE_GARBOW_HILLSTROM, rosenbrock(2), rosenbrock(100)]
    found = with_progress("problems", chosen, row)
    common = [name for name, of in found.items() if all(of[solver]["solved"] for solver in first)]
    eighteen = [problem.name for problem in chosen if problem.number in {f"MGH {number}" for number in EIGHTEEN}]
    rows = {}
    for solver in makes:
        of = {name: found[name][solver] for name in found}
        rows[solver] = {
            "problems": len(of),
            "solved": sum(one["solved"] for one in of.values()),
            "at a minimum": sum(one["at a minimum"] for one in of.values()),
            "nfev, common": sum(of[name]["nfev"] for name in common),
            "nhev, common": sum(of[name]["nhev"] for name in common),
            "solved, common": sum(of[name]["solved"] for name in common),
            "nfev, 18": sum(of[name]["nfev"] for name in eighteen),
            "solved, 18": sum(of[name]["solved"] for name in eighteen),
            "not solved": {name: described(one) for name, one in of.items() if not one["solved"]},
            "evaluations": {name: one["nfev"] for name, one in of.items()},
        }
    table(rows)
    excluded = {name: [solver for solver in first if not found[name][solver]["solved"]] for name in found}
    excluded = {name: solvers for name, solvers in excluded.items() if solvers}
    print(f"common: the {len(common)} problems that ours but nonlinear_cg and SciPy's two all solve; not among them:")
    for name, solvers in excluded.items():
        print(f"  {name}: " + "; ".join(f"{solver} {described(found[name][solver])}" for solver in solvers))
    return {"solvers": rows, "not common": excluded}


def judged(problem, outcome):
    """What the point that a solver returned is worth."""
    value, gradient = value_and_gradient(problem.fun)(jnp.asarray(outcome.x))
    value, gradient, x = float(value), np.asarray(gradient), np.asarray(outcome.x)
    if problem.bounds is not None:
        gradient = np.clip(x - gradient, *problem.bounds) - x
    steepest = float(np.max(np.abs(gradient)))
    at_minimum = any(abs(value - m) <= 1e-5 * abs(m) + 1e-8 for m in problem.minima)
    return {
        "solved": steepest <= GTOL and at_minimum,
        "at a minimum": at_minimum,
        "gradient": number(steepest),
        "value": number(value),
        "excess": number(min((value - m for m in problem.minima), key=abs)),
        "nfev": int(outcome.nfev),
        "nhev": int(outcome.nhev),
    }


def described(one):
    """In words."""
    return f"|g| {float(one['gradient']):.1e}, f - f* {float(one['excess']):.1e}, {one['nfev']} evaluations"


def times():
    """Milliseconds of a solve of the chained Rosenbrock function, compiled and warm."""
    rows = {}
    for n, rounds, repeats in ((2, 100, 20), (100, 30, 3), (1000, 8, 1)):
        problem = rosenbrock(n)
        start = jnp.asarray(problem.start)
        makes = {"ours lbfgs": ours("lbfgs"), "optax lbfgs": optax_lbfgs, "SciPy L-BFGS-B": scipy_solver("L-BFGS-B")}
        if n == 2:
            makes |= {"ours bfgs": ours("bfgs"), "SciPy BFGS": scipy_solver("BFGS")}
        runs = {name: make(problem.fun, GTOL) for name, make in makes.items()}
        tolerances = {}
        if has("optimistix"):
            for name in ("BFGS", "LBFGS") if n == 2 else ("LBFGS",):
                tolerances[name] = loosest(name, problem.fun, GTOL, start)
                runs[f"optimistix {name}"] = optimistix_solver(name, tolerances[name] or 1e-9)(problem.fun)
        if n == 100 and has("torch"):
            runs["torch LBFGS"] = torch_lbfgs(chained_rosenbrock_in_torch, GTOL)
        rows[f"n = {n}"] = timed(problem.fun, runs, start, rounds, repeats) | {"optimistix' tolerance": tolerances}
        report(f"n = {n}", rows[f"n = {n}"])
    rows["compilation, n = 2"] = compile_times()
    report("compilation, n = 2", rows["compilation, n = 2"])
    return rows


def chained_rosenbrock_in_torch(x):
    """The same for tensors."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def timed(fun, runs, start, rounds, repeats):
    """All in turn, each returning nothing but the point; and a direct call of `jol.minimize`.

    Those not run from Python go `repeats` times in a row: what ran before them would else be in their caches.
    """
    solvers, programs = {}, {}
    for name, run in runs.items():
        outcome = compiled(name, run)(start)
        solvers[name] = {"nfev": int(outcome.nfev), "gradient": number(steepness(fun, outcome.x))}
        programs[name] = point_only(name, run, start)
    programs["ours, jol.minimize called directly"] = lambda: jol.minimize(fun, start, gtol=GTOL).x
    print(f"timing {len(programs)} solvers, {rounds} rounds", flush=True)
    repeated = {name: 1 if name in HOSTED else repeats for name in programs}
    taken = in_turn({name: again(program, repeated[name]) for name, program in programs.items()}, rounds)
    return summary({name: [one / repeated[name] for one in ones] for name, ones in taken.items()}, solvers)


def again(program, repeats):
    """The program several times in a row."""

    def all_of_them():
        for _ in range(repeats):
            jax.block_until_ready(program())

    return all_of_them


def point_only(name, run, start, *args):
    """A program that returns the point alone."""
    program = compiled(name, lambda *arguments: run(*arguments).x)
    return lambda: program(start, *args)


def summary(seconds, solvers=None):
    """Medians and minima, and ours against each peer."""
    found = {
        name: {"median_ms": 1e3 * statistics.median(taken), "min_ms": 1e3 * min(taken)} | (solvers or {}).get(name, {})
        for name, taken in seconds.items()
    }
    mine = [name for name in seconds if name.startswith("ours")]
    against = {
        f"{one} / {peer}": compared(seconds, one, peer) | {"ratio_of_minima": min(seconds[one]) / min(seconds[peer])}
        for one in mine
        for peer in seconds
        if peer not in mine
    }
    return {"solvers": found, "ratios": against}


def compile_times(rounds=3):
    """Milliseconds to trace and compile a solve, with cold caches."""
    fun, start = rosenbrock(2).fun, jnp.asarray(rosenbrock(2).start)
    runs = {"ours lbfgs": ours("lbfgs"), "ours bfgs": ours("bfgs"), "optax lbfgs": optax_lbfgs}
    if has("optimistix"):
        runs |= {f"optimistix {name}": optimistix_solver(name) for name in ("BFGS", "LBFGS")}
    seconds = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, make in runs.items():
            jax.clear_caches()
            began = time.perf_counter()
            jax.jit(make(fun, GTOL)).lower(start).compile()
            if index:
                seconds[name].append(time.perf_counter() - began)
    return summary(seconds)


def starts(count=1000, by_scipy=100):
    """Many starts at once: 1000 of the chained Rosenbrock function, n = 10, around the usual start.

    SciPy goes through the first 100 in a Python loop; its time here is ten times that.
    """
    problem = rosenbrock(10)
    noise = np.random.default_rng(0).standard_normal((count, 10))
    points = jnp.asarray(problem.start + noise)
    gradients = jax.jit(jax.vmap(jax.grad(problem.fun)))
    makes = {"ours lbfgs": ours("lbfgs"), "optax lbfgs": optax_lbfgs}
    if has("optimistix"):
        tolerance = loosest("LBFGS", problem.fun, GTOL, jnp.asarray(problem.start))
        makes |= {"optimistix LBFGS": optimistix_solver("LBFGS", tolerance or 1e-9)}
    runs = {name: jax.vmap(make(problem.fun, GTOL)) for name, make in makes.items()}
    programs = {name: point_only(name, run, points) for name, run in runs.items()}
    solvers = {name: ended(jax.jit(run)(points), gradients) for name, run in runs.items()}

    alone = scipy_solver("L-BFGS-B")(problem.fun, GTOL)
    some = np.asarray(points[:by_scipy])

    def loop():
        outcomes = [alone(start) for start in some]
        return Outcome(*(np.stack(part) for part in zip(*outcomes, strict=True)))

    print(f"timing {count} starts", flush=True)
    solvers["SciPy L-BFGS-B"] = ended(loop(), gradients)
    seconds = in_turn(programs | {"SciPy L-BFGS-B": loop}, rounds=5, warmup=1)
    seconds["SciPy L-BFGS-B"] = [count / by_scipy * taken for taken in seconds["SciPy L-BFGS-B"]]
    found = summary(seconds, solvers)
    report(f"{count} starts", found)
    return found


def ended(outcome, gradients):
    """How many of many runs converged, and their evaluations."""
    steepest = jnp.max(jnp.abs(gradients(jnp.asarray(outcome.x))), axis=1)
    return {"nfev": int(jnp.sum(jnp.asarray(outcome.nfev))), "converged": float(jnp.mean(steepest <= GTOL))}


def digits(gtol=1e-4, iterations=500, evaluations=200):
    """A perceptron 64-32-10 on the 1797 digits, all at once, in float64: cross entropy + 1e-4 |x|^2."""
    from sklearn.datasets import load_digits

    images, answers = load_digits(return_X_y=True)
    data = jnp.asarray(images / 16), jnp.asarray(answers)
    keys = jax.random.split(jax.random.key(0))
    shapes = (64, 32), (32, 10)
    kernels = [jax.random.normal(key, shape) / shape[0] ** 0.5 for key, shape in zip(keys, shapes, strict=True)]
    start, tree = jax.flatten_util.ravel_pytree([(kernel, jnp.zeros(kernel.shape[1])) for kernel in kernels])

    def loss(x, images, answers):
        (w1, b1), (w2, b2) = tree(x)
        logs = jax.nn.log_softmax(jnp.tanh(images @ w1 + b1) @ w2 + b2)
        return -jnp.mean(jnp.take_along_axis(logs, answers[:, None], 1)) + 1e-4 * jnp.sum(x**2)

    makes = {"ours lbfgs": ours("lbfgs"), "optax lbfgs": optax_lbfgs, "SciPy L-BFGS-B": scipy_solver("L-BFGS-B")}
    runs = {name: make(loss, gtol, maxiter=iterations) for name, make in makes.items()}
    short = {name: make(loss, gtol, maxfun=evaluations) for name, make in makes.items()}
    tolerance = None
    if has("optimistix"):
        tolerance = loosest("LBFGS", loss, gtol, start, *data)
        name = "optimistix LBFGS"
        runs[name] = optimistix_solver("LBFGS", tolerance or 1e-9)(loss)
        short[name] = optimistix_solver("LBFGS", 0.0, max_steps=evaluations)(loss)

    solvers = {}
    for name, run in runs.items():
        print(f"digits: {name}", flush=True)
        outcome, early = (compiled(name, one)(start, *data) for one in (run, short[name]))
        solvers[name] = {
            "nfev": int(outcome.nfev),
            "gradient": number(steepness(loss, outcome.x, *data)),
            "loss": number(value_and_gradient(loss)(jnp.asarray(outcome.x), *data)[0]),
            f"loss after {evaluations}": number(value_and_gradient(loss)(jnp.asarray(early.x), *data)[0]),
            "that took": int(early.nfev),
        }
    seconds = in_turn({name: point_only(name, run, start, *data) for name, run in runs.items()}, rounds=5, warmup=1)
    found = summary(seconds, solvers) | {"optimistix' tolerance": tolerance}
    report("digits", found)
    return found


def float32():
    """The 35 problems in float32, at the default gtol: how many come close, in float64's eyes."""
    makes = {
        "lbfgs": ours("lbfgs"),
        "bfgs": ours("bfgs"),
        "lbfgs, hager_zhang": ours("lbfgs", linesearch=jol.hager_zhang()),
    }

    def row(problem):
        def value(x):
            return float(value_and_gradient(problem.fun)(jnp.asarray(x, jnp.float64))[0])

        start, found = jnp.asarray(problem.start, jnp.float32), {}
        highest = value(problem.start)
        for name, make in makes.items():
            outcome = jax.jit(make(problem.fun, None))(start)
            if outcome.x.dtype != jnp.float32:
                raise TypeError(f"{name} on {problem.name} gave {outcome.x.dtype}, not float32")
            end = value(outcome.x)
            # How far it is from a minimum, in multiples of what is allowed.
            gap = min((end - m) / (1e-6 * (highest - m) + 1e-3 * abs(m)) for m in problem.minima)
            finite = bool(jnp.all(jnp.isfinite(outcome.x))) and np.isfinite(end)
            found[name] = {"close": gap <= 1, "finite": finite, "gap": number(gap), "nfev": int(outcome.nfev)}
        return found

    found = with_progress("float32", MORE_GARBOW_HILLSTROM, row)
    rows = {}
    for name in makes:
        of = {problem: row[name] for problem, row in found.items()}
        rows[name] = {
            "problems": len(of),
            "close": sum(one["close"] for one in of.values()),
            "not finite": sum(not one["finite"] for one in of.values()),
            "nfev": sum(one["nfev"] for one in of.values()),
            "evaluations": {p: one["nfev"] for p, one in of.items()},
            "not close, times what is allowed": {p: one["gap"] for p, one in of.items() if not one["close"]},
        }
    table(rows)
    for name, one in rows.items():
        print(f"  {name}, not close: {one['not close, times what is allowed']}")
    return rows


def bounded():
    """All problems with bounds against SciPy's L-BFGS-B: the same value and active set, in how many evaluations."""

    def row(problem):
        lower, upper = problem.bounds
        mine = jax.jit(ours("lbfgsb", bounds=jol.Bounds(lower, upper))(problem.fun, GTOL))
        theirs = scipy_solver("L-BFGS-B", bounds=list(zip(lower, upper, strict=True)))(problem.fun, GTOL)
        outcomes = {"ours": mine(jnp.asarray(problem.start)), "SciPy": theirs(problem.start)}
        return {
            side: judged(problem, outcome) | {"active": active(np.asarray(outcome.x), lower, upper)}
            for side, outcome in outcomes.items()
        }

    found = with_progress("bounded", HOCK_SCHITTKOWSKI, row)
    same = [name for name, one in found.items() if alike(one["ours"], one["SciPy"])]
    rows = {}
    for side in ("ours", "SciPy"):
        of = {name: one[side] for name, one in found.items()}
        rows[side] = {
            "problems": len(of),
            "solved": sum(one["solved"] for one in of.values()),
            "at a minimum": sum(one["at a minimum"] for one in of.values()),
            "nfev": sum(one["nfev"] for one in of.values()),
            "nfev where they agree": sum(of[name]["nfev"] for name in same),
            "not solved": {name: described(one) for name, one in of.items() if not one["solved"]},
            "evaluations": {name: one["nfev"] for name, one in of.items()},
        }
    table(rows)
    differ = {name: one for name, one in found.items() if name not in same}
    print(f"the same value and active set: {len(same)} of {len(found)}; the others:")
    for name, one in differ.items():
        for side, at in one.items():
            print(f"  {name}, {side}: {described(at)}, f {at['value']}, active {at['active']}")
    return {"solvers": rows, "the same": len(same), "different": differ}


def alike(a, b):
    """Whether two points have the same value and the same active bounds."""
    a_value, b_value = float(a["value"]), float(b["value"])
    near = abs(a_value - b_value) <= 1e-6 * max(abs(a_value), abs(b_value)) + 1e-9
    return near and a["active"] == b["active"]


def active(x, lower, upper):
    """The bounds that hold x, as text: L, U, B for both, - for none."""
    with np.errstate(invalid="ignore"):
        low, high = (np.abs(x - side) <= 1e-8 * (1 + np.abs(side)) for side in (lower, upper))
    return "".join("B" if a and b else "L" if a else "U" if b else "-" for a, b in zip(low, high, strict=True))


def table(rows):
    """Numbers and words in plain columns."""
    keys = dict.fromkeys(key for row in rows.values() for key, value in row.items() if not isinstance(value, dict))
    cells = [
        [f"{row[k]:.4g}" if isinstance(row.get(k), float) else str(row.get(k, "-")) for k in keys]
        for row in rows.values()
    ]
    widths = [max(map(len, column)) for column in zip(keys, *cells, strict=True)]
    first = max(map(len, rows))
    for name, line in zip(["", *rows], [list(keys), *cells], strict=True):
        print(name.ljust(first), *(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), sep="  ")


def report(title, found):
    """The times of one case, and ours against the peers."""
    print(f"\n{title}")
    table(found["solvers"])
    rows = {}
    for name, row in found["ratios"].items():
        quartiles = "{:.3g} .. {:.3g}".format(*row["ratio_quartiles"])
        rows[name] = {"ratio": row["ratio"], "quartiles": quartiles, "of minima": row["ratio_of_minima"]}
    table(rows)


PARTS = (problems, times, starts, digits, float32, bounded)


def main(names):
    """Runs the parts, saves after each."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    # The vectors are short: with more threads, SciPy's BLAS is several times slower where others use the cores too.
    threadpoolctl.threadpool_limits(1)
    path = RESULTS / "minimize.json"
    rows = json.loads(path.read_text())["rows"] if names and path.exists() else {}
    peers = {name: version(name) for name in ("scipy", "optimistix", "torch") if has(name)}
    for part in PARTS:
        if names and part.__name__ not in names:
            continue
        print(f"\n== {part.__name__}: {part.__doc__.splitlines()[0]}", flush=True)
        began, busy = time.perf_counter(), os.getloadavg()[0]
        found = part()
        taken = time.perf_counter() - began
        rows[part.__name__] = found | {"took_s": taken, "load_before": busy, "commit": machine()["commit"]}
        print(f"{taken:.0f} s, load before {busy:.1f}; saved {save('minimize', rows, peers=peers)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
