"""Muon, SOAP, Shampoo, PSGD Kron against oracles, torch and optax; which parameter is what; what goes wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.linalg.orthogonal import coefficients
from tests.conformance.cases import run, standard
from tests.optimizers.draws import whitening
from tests.oracles import oracle

STEPS, N = 50, 8


def gradients(shape, seed=0, steps=STEPS):
    """Of full rank, with eigenvalues apart: between equal ones, two correct programs choose different vectors."""
    rng = np.random.default_rng(seed)
    base = np.zeros(shape)
    np.fill_diagonal(base, np.linspace(4, 1, min(shape)))
    return [base + 0.3 * rng.normal(size=shape) for _ in range(steps)]


CASES = [
    ("muon", {"weight_decay": 0.1}, {}, (N, N)),
    ("muon", {"scale": "original"}, {}, (5, 12)),
    ("muon", {"scale": "rms_to_rms", "nesterov": False}, {}, (12, 5)),
    ("muon", {"ns_coeffs": "polar_express", "ns_steps": 7}, {"polynomials": coefficients("polar_express", 7)}, (N, N)),
    ("soap", {"weight_decay": 0.1}, {}, (N, N)),
    ("soap", {"precondition_frequency": 1}, {"frequency": 1}, (N, N)),
    ("soap", {"max_precond_dim": N}, {"sides": (True, False)}, (N, 2 * N)),
    ("shampoo", {"weight_decay": 0.1}, {}, (N, N)),
    ("shampoo", {"precondition_frequency": 7}, {"frequency": 7}, (N, N)),
    ("shampoo", {"b2": 1.0, "graft": False, "eps": 1e-6}, {"b2": 1.0, "graft": False, "eps": 1e-6}, (N, N)),
    ("shampoo", {"max_precond_dim": N}, {"sides": (True, False)}, (N, 2 * N)),
    ("psgd_kron", {"weight_decay": 0.1}, {}, (N, N)),
    ("psgd_kron", {"max_size_triangular": N}, {"diagonal": (1,)}, (N, 2 * N)),
]


@pytest.mark.parametrize(("name", "ours", "truth", "shape"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float64, 1e-9), (jnp.float32, 1e-3)], ids=["float64", "float32"])
def test_fifty_steps(name, ours, truth, shape, dtype, bound, x64):
    w, grads = np.random.default_rng(1).normal(size=shape), gradients(shape)
    path, state = run(
        getattr(jol, name)(0.02, **ours), {"w": jnp.asarray(w, dtype)}, [{"w": jnp.asarray(g, dtype)} for g in grads]
    )
    shared = {k: v for k, v in ours.items() if k in ("weight_decay", "scale", "nesterov")}
    drawn = whitening(shape, STEPS, 0, 1) if name == "psgd_kron" else {}
    expected = oracle(name)(w, grads, 0.02, **shared, **truth, **drawn)
    moved = np.abs(expected[-1] - w).max()
    assert moved > 0.2
    np.testing.assert_allclose(path[-1]["w"], expected[-1], rtol=0, atol=bound)
    assert not np.any(getattr(state, "failures", {"w": 0})["w"])


@pytest.mark.parametrize("shape", [(16, 48), (48, 16)])
def test_muon_is_torchs(shape):
    """torch takes (outputs, inputs), and its products are in bfloat16: 4e-4 of a step of 0.02, five of them."""
    torch = pytest.importorskip("torch", reason="torch is a twin in tests only, installed by make test")
    w, grads = np.random.default_rng(1).normal(size=shape).astype(np.float32), gradients(shape, steps=5)
    for scale, name in (("original", "original"), ("match_rms_adamw", "match_rms_adamw")):
        p = torch.nn.Parameter(torch.tensor(w.T.copy()))
        twin = torch.optim.Muon([p], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=name)
        for g in grads:
            p.grad = torch.tensor(g.T.astype(np.float32).copy())
            twin.step()
        path, _ = run(
            jol.muon(0.02, scale=scale, weight_decay=0.1), {"w": jnp.asarray(w)}, [{"w": jnp.float32(g)} for g in grads]
        )
        np.testing.assert_allclose(path[-1]["w"], p.detach().numpy().T, rtol=0, atol=2e-3, err_msg=scale)


def test_muon_is_optaxs(x64):
    """Without Nesterov's step, whose bias corrections differ, and with the scales by their other names."""
    w, grads = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(6, 10)))}, gradients((6, 10), steps=10)
    grads = [{"w": jnp.asarray(g)} for g in grads]
    for ours, theirs in (({"scale": "original"}, {}), ({}, {"consistent_rms": 0.2})):
        path, _ = run(jol.muon(0.02, nesterov=False, eps=0.0, **ours), w, grads)
        with standard():
            twin, _ = run(optax.contrib.muon(0.02, nesterov=False, eps=0.0, **theirs), w, grads)
        np.testing.assert_allclose(path[-1]["w"], twin[-1]["w"], atol=1e-9)


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo", "psgd_kron"])
def test_stacks_and_blocks_are_separate_matrices(name, x64):
    """Of a stack each matrix goes its own way, as blocks do."""
    factory = getattr(jol, name)
    stack = np.stack([gradients((N, N), seed)[0] for seed in range(3)])
    grads = [np.stack([gradients((N, N), 10 * k + seed, 1)[0] for seed in range(3)]) for k in range(5)]
    alone = [
        run(factory(0.02), {"w": jnp.asarray(stack[i])}, [{"w": jnp.asarray(g[i])} for g in grads])[0][-1]["w"]
        for i in range(3)
    ]
    together, _ = run(factory(0.02), {"w": jnp.asarray(stack)}, [{"w": jnp.asarray(g)} for g in grads])
    if name != "psgd_kron":  # whose probes are drawn for the whole array
        np.testing.assert_allclose(together[-1]["w"], alone, atol=1e-10)
        if name != "muon":
            wide = lambda x: jnp.asarray(np.concatenate(x, axis=1))  # noqa: E731
            blocks, _ = run(factory(0.02, block_size=N), {"w": wide(stack)}, [{"w": wide(g)} for g in grads])
            np.testing.assert_allclose(blocks[-1]["w"], np.concatenate(alone, axis=1), atol=1e-10)
    else:
        assert np.isfinite(together[-1]["w"]).all()


MODEL = {
    "embed/embedding": (50, 8),
    "block/attention/query/kernel": (8, 2, 4),
    "block/attention/query/bias": (2, 4),
    "block/multihead/kernel": (8, 8),
    "conv/kernel": (3, 3, 8, 16),
    "layers/attention/query/kernel": (5, 8, 2, 4),
    "layers/kernel": (5, 8, 8),
    "norm/scale": (8,),
    "lm_head/kernel": (8, 50),
}


def test_which_parameter_is_what():
    params = {name: jnp.ones(shape) for name, shape in MODEL.items()}
    said = {row.path: row.treatment for row in jol.explain(jol.muon(1e-3), params).rows}
    assert said == {
        "embed/embedding": "adamw",
        "block/attention/query/kernel": "muon on 8 x 8",
        "block/attention/query/bias": "adamw",
        "block/multihead/kernel": "muon on 8 x 8",
        "conv/kernel": "muon on 72 x 16",
        "layers/attention/query/kernel": "muon on 5 of 8 x 8",
        "layers/kernel": "muon on 5 of 8 x 8",
        "norm/scale": "adamw",
        "lm_head/kernel": "adamw",
    }
    heads = jol.muon(1e-3, matrices={"attention/query/kernel": "ibo", "conv": None})
    with pytest.raises(ValueError, match=r"has the shape \(5, 8, 2, 4\), but matrices='ibo' has 3 letters"):
        heads.init(params)
    del params["layers/attention/query/kernel"]
    said = {row.path: row.treatment for row in jol.explain(heads, params).rows}
    assert said["block/attention/query/kernel"] == "muon on 2 of 8 x 4"
    assert said["conv/kernel"] == "adamw"
    assert jax.tree.leaves(jax.eval_shape(heads.init, params).nu["block/multihead/kernel"]) == []


@pytest.mark.parametrize("name", ["soap", "shampoo", "psgd_kron"])
def test_a_failed_decomposition_keeps_the_last_one(name):
    """A NaN spoils means and factors, as it does Adam's, but bases stay as they were, and failures are counted."""
    tx = getattr(jol, name)(0.02, **({} if name == "psgd_kron" else {"precondition_frequency": 1}))
    w, grads = {"w": jnp.ones((N, N))}, [{"w": jnp.float32(g)} for g in gradients((N, N), steps=3)]
    _, state = run(tx, w, grads)
    updates, after = jax.jit(tx.update)({"w": grads[0]["w"].at[1, 2].set(jnp.nan)}, state, w)
    assert np.isnan(updates["w"]).all(), "a NaN is seen"
    assert after.failures["w"] == 1
    kept = {"soap": "bases", "shampoo": "roots", "psgd_kron": "factors"}[name]
    for side, old in getattr(state, kept)["w"].items():
        np.testing.assert_array_equal(getattr(after, kept)["w"][side], old)
    guarded = jol.skip_nonfinite(tx)
    state = guarded.init(w)
    for g in ({"w": jnp.full((N, N), jnp.nan)}, *grads):
        updates, state = guarded.update(g, state, w)
    assert np.isfinite(updates["w"]).all()


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo", "psgd_kron"])
@pytest.mark.parametrize("kind", ["zeros", "rank one", "one row", "one column", "one number", "empty"])
def test_degenerate_gradients(name, kind):
    shape = {"one row": (1, 5), "one column": (5, 1), "one number": (), "empty": (0, 4)}.get(kind, (5, 5))
    x = np.outer(np.arange(5.0), np.ones(5)) if kind == "rank one" else np.ones(shape) * (kind != "zeros")
    w = {"w": jnp.ones(shape)}
    path, state = run(getattr(jol, name)(0.01), w, [{"w": jnp.float32(x)}] * 30)
    assert np.isfinite(path[-1]["w"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert bool(np.any(path[-1]["w"] != w["w"])) == (kind not in ("zeros", "empty"))


def test_masks_switch_decay_off(x64):
    w, grads = {"w": jnp.ones((4, 4))}, [{"w": jnp.asarray(g)} for g in gradients((4, 4), steps=4)]
    for name, mask in (("muon", "weight_decay_mask"), ("soap", "mask"), ("shampoo", "mask"), ("psgd_kron", "mask")):
        masked, _ = run(getattr(jol, name)(0.1, weight_decay=1.0, **{mask: False}), w, grads)
        plain, _ = run(getattr(jol, name)(0.1), w, grads)
        np.testing.assert_allclose(masked[-1]["w"], plain[-1]["w"], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo", "psgd_kron"])
@pytest.mark.parametrize("codec", [None, "int8"])
def test_explicit_meshes_keep_types(name, codec):
    """In a scan, where the state after a step must be of the type that it was."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    w = {"w": jax.device_put(jnp.ones((16, 8)), jax.NamedSharding(mesh, jax.P("d", None))), "b": jnp.ones(8)}
    tx = getattr(jol, name)(1e-3)
    tx = tx if codec is None else jol.store(tx, codec, min_size=64)
    state = jax.jit(lambda s: jax.lax.scan(lambda s, _: (tx.update(w, s, w)[1], None), s, length=2)[0])(tx.init(w))
    assert int(state.count) == 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jol.muon(1e-3, scale="spectral"), ValueError, "scale must be one of 'original'"),
        (lambda: jol.muon(1e-3, ns_steps=0), ValueError, "ns_steps must be at least 1, got 0"),
        (lambda: jol.muon(1e-3, ns_steps=jnp.ones(())), TypeError, "static_args"),
        (lambda: jol.muon(1e-3, matrices={"nowhere": "io"}).init({"w": jnp.ones((2, 2))}), ValueError, "'nowhere'"),
        (lambda: jol.soap(1e-3, precondition_frequency=0), ValueError, "precondition_frequency must be at least 1"),
        (lambda: jol.shampoo(1e-3, root_method="svd"), ValueError, "root_method must be one of 'eigh', 'newton'"),
        (lambda: jol.shampoo(1e-3, block_size=0), ValueError, "block_size must be at least 1"),
        (lambda: jol.psgd_kron(1e-3, key=0), TypeError, "key must be a key of jax.random"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
