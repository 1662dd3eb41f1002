"""Transformers as shapes, and as the work that one device does in them, to be traced and never run.

The parameters of text models are named as those of `jaxopt_lectures.models.transformer.GPT`. The forward pass takes
whatever part of each parameter a device has: fewer heads, fewer inner features, fewer experts. Sums over devices change
no shape and are left out.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

RULES: Mapping[str, tuple[str | None, ...]] = {
    "experts/": ("model",),
    "(query|key|value|rise|gate|scores)/kernel": (None, "model"),
    "(query|key|value|rise)/bias": ("model",),
    "(output|fall)/kernel": ("model", None),
    "tokens/embedding": ("model", None),
}
"""Tensor parallel, experts divided among the same devices; on plain models the rules of `models.transformer.GPT`."""


@dataclasses.dataclass(frozen=True)
class Transformer:
    """The sizes of a transformer.

    Attributes:
      vocabulary: number of tokens, or of classes of a model of images.
      context: positions of a sequence.
      layers: number of layers.
      heads: of the queries.
      width: features of each position.
      inner: features inside of a layer's dense part.
      key_heads: of keys and values; as many as of the queries if 0.
      tables: learned tables of positions, each with `positions` rows.
      positions: rows of a table; `context` if 0.
      biases: whether dense layers and norms have biases; norms without divide by the root mean square.
      gated: whether the dense part is `fall(silu(gate(x)) * rise(x))`.
      tied: whether the token embedding is also the last layer.
      experts: of a layer with experts; 0 for none.
      chosen: experts that see each token.
      every: each so many-th layer has experts.
      patch: pixels along a patch's edge, for models of images; 0 for text.
    """

    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int
    inner: int
    key_heads: int = 0
    tables: int = 1
    positions: int = 0
    biases: bool = True
    gated: bool = False
    tied: bool = True
    experts: int = 0
    chosen: int = 2
    every: int = 1
    patch: int = 0

    @property
    def blocks(self) -> int:
        """How often the same layers are repeated."""
        return self.layers // self.every

    @property
    def repeats(self) -> int:
        """How many parts can be rematerialized one by one."""
        return self.blocks

    @property
    def rules(self) -> Mapping[str, tuple[str | None, ...]]:
        """Which axis of a mesh cuts which axis of a parameter."""
        return RULES

    def params(self, dtype: Any, blocks: int | None = None) -> dict[str, Any]:
        """The parameters, `jax.ShapeDtypeStruct`; of a model with so many blocks, if given."""

        def array(*shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype)

        def dense(before: int, after: int, biased: bool = self.biases) -> dict[str, Any]:
            return {"kernel": array(before, after)} | ({"bias": array(after)} if biased else {})

        def norm() -> dict[str, Any]:
            return {"scale": array(self.width)} | ({"bias": array(self.width)} if self.biases else {})

        def inside() -> dict[str, Any]:
            two = {"rise": dense(self.width, self.inner), "fall": dense(self.inner, self.width)}
            return two | ({"gate": dense(self.width, self.inner)} if self.gated else {})

        def layer(number: int) -> dict[str, Any]:
            slim = self.width // self.heads * (self.key_heads or self.heads)
            made = {"norms": {0: norm(), 1: norm()}, "query": dense(self.width, self.width)}
            made |= {"key": dense(self.width, slim), "value": dense(self.width, slim)}
            made["output"] = dense(self.width, self.width)
            if not self._has_experts(number):
                return made | inside()
            many = jax.tree.map(lambda p: array(self.experts, *p.shape), inside())
            return made | {"router": dense(self.width, self.experts, False), "experts": many}

        made: dict[str, Any] = {"norm": norm()}
        made["blocks"] = {number: layer(number) for number in range((blocks or self.blocks) * self.every)}
        for table in range(self.tables):
            name = "positions" if table == 0 else f"positions_{table}"
            made[name] = {"embedding": array(self.positions or self.context, self.width)}
        if self.patch:
            made["patches"] = dense(3 * self.patch**2, self.width)
            return made | {"scores": dense(self.width, self.vocabulary)}
        made["tokens"] = {"embedding": array(self.vocabulary, self.width)}
        return made if self.tied else made | {"scores": dense(self.width, self.vocabulary, False)}

    def inputs(self, examples: int, dtype: Any) -> jax.ShapeDtypeStruct:
        """So many sequences of tokens, or of flat patches."""
        if self.patch:
            return jax.ShapeDtypeStruct((examples, self.context, 3 * self.patch**2), dtype)
        return jax.ShapeDtypeStruct((examples, self.context), jnp.int32)

    def loss(self, params: Any, inputs: jax.Array, again: bool = False) -> jax.Array:
        """Mean cross-entropy, of each token or of each image, on one device; `again`: blocks are rematerialized."""
        if self.patch:
            x = _dense(params["patches"], inputs)
        else:
            x = params["tokens"]["embedding"][inputs]
        for name in sorted(params):
            if name.startswith("positions"):
                x = x + params[name]["embedding"][: self.context]

        def block(layers: list[Any], x: jax.Array) -> jax.Array:
            for layer in layers:
                x = self._layer(layer, x)
            return x

        run = jax.checkpoint(block) if again else block
        layers = [params["blocks"][number] for number in sorted(params["blocks"])]
        for start in range(0, len(layers), self.every):
            x = run(layers[start : start + self.every], x)
        x = self._norm(params["norm"], x)
        if self.patch:
            x = x.mean(1)
        kernel = params["scores"]["kernel"] if "scores" in params else params["tokens"]["embedding"].T
        scores = (x @ kernel).astype(jnp.float32)
        return jnp.mean(jax.nn.logsumexp(scores, -1) - scores[..., 0])

    def _has_experts(self, number: int) -> bool:
        return self.experts > 0 and (number + 1) % self.every == 0

    def _layer(self, layer: Any, x: jax.Array) -> jax.Array:
        x = x + self._attention(layer, self._norm(layer["norms"][0], x))
        y = self._norm(layer["norms"][1], x)
        return x + (self._routed(layer, y) if "experts" in layer else self._inside(layer, y))

    def _attention(self, layer: Any, x: jax.Array) -> jax.Array:
        """The attention of the heads that the device has; a part of a head counts as one."""
        size = self.width // self.heads
        query, key, value = (_dense(layer[name], x) for name in ("query", "key", "value"))
        heads = -(-query.shape[-1] // size)
        few = math.gcd(heads, -(-key.shape[-1] // size))
        seen = _seen(_heads(query, heads, size), _heads(key, few, size), _heads(value, few, size), not self.patch)
        return _dense(layer["output"], seen.reshape(*x.shape[:-1], -1)[..., : query.shape[-1]])

    def _inside(self, layer: Any, x: jax.Array) -> jax.Array:
        risen = _dense(layer["rise"], x)
        return _dense(
            layer["fall"], jax.nn.silu(_dense(layer["gate"], x)) * risen if self.gated else jax.nn.gelu(risen)
        )

    def _routed(self, layer: Any, x: jax.Array) -> jax.Array:
        """Each of the device's experts sees its share of the tokens, all experts equally many."""
        tokens = x.reshape(-1, self.width)
        shares = jax.nn.softmax((tokens @ layer["router"]["kernel"]).astype(jnp.float32), -1)
        weights, _ = jax.lax.top_k(shares, self.chosen)
        here = layer["experts"]["rise"]["kernel"].shape[0]
        places = jnp.zeros((here, -(-tokens.shape[0] * self.chosen // self.experts)), jnp.int32)
        seen = jax.vmap(self._inside)(layer["experts"], tokens[places])
        weighed = seen * weights[:, 0][places][..., None].astype(x.dtype)
        return jnp.zeros_like(tokens).at[places].add(weighed).reshape(x.shape)

    def _norm(self, norm: Any, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        if self.biases:
            wide = wide - wide.mean(-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, -1, keepdims=True) + 1e-5)
        return wide.astype(x.dtype) * norm["scale"] + norm.get("bias", jnp.zeros((), x.dtype))


def _dense(layer: Any, x: jax.Array) -> jax.Array:
    y = x @ layer["kernel"]
    return y + layer["bias"] if "bias" in layer else y


def _heads(x: jax.Array, heads: int, size: int) -> jax.Array:
    """Features as heads; too few are filled up, too many left out."""
    missing = max(0, heads * size - x.shape[-1])
    filled = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x[..., : heads * size]
    return filled.reshape(*x.shape[:-1], heads, size)


def _seen(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """Attention with its scores in float32, several heads of queries for each of keys and values."""
    grouped = query.reshape(*query.shape[:2], key.shape[2], -1, query.shape[3])
    scores = jnp.einsum("btkhd,bskd->bkhts", grouped, key, preferred_element_type=jnp.float32) / math.sqrt(key.shape[3])
    if causal:
        scores = jnp.where(jnp.tri(query.shape[1], key.shape[1], dtype=bool), scores, -1e30)
    shares = jax.nn.softmax(scores, -1).astype(query.dtype)
    return jnp.einsum("bkhts,bskd->btkhd", shares, value).reshape(query.shape)
