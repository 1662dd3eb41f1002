"""Which slots of which parameters are kept in which code: what `store` was asked for."""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import sharding
from jaxopt_lectures.core.checks import same_shapes
from jaxopt_lectures.core.keeping import Own, Row
from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.core.slots import Slot
from jaxopt_lectures.core.together import whole_matrices
from jaxopt_lectures.storage.chunks import stepped
from jaxopt_lectures.storage.codecs import Codec
from jaxopt_lectures.storage.codes import Code, Encoded, encoded, fits
from jaxopt_lectures.storage.rounding import words

_CHUNK, _CHUNK_OF_ACCELERATORS = 2**15, 2**22  # elements: a cache's worth; enough work for a kernel
_BEFORE = 2**32 - 1  # the count at which first values are rounded

_to_code = jax.jit(encoded, static_argnames=("code", "block", "shard"))


@dataclass(frozen=True)
class Policy:
    """How a transformation's slots are kept; implements `core.keeping.Keeping`.

    Attributes:
      codecs: by the name of the slot; None is that of all others.
      key: of the random bits; that of seed 0 if None.
      stream: tells the transformations of one `store` apart.
      block: elements that share a scale; the codec's own number if None.
      min_size: smaller parameters are kept as they are.
      keep: what is found in a parameter's path keeps its slots as they are.
      elementwise: whether a step may be taken in chunks.
    """

    codecs: Mapping[str | None, Codec]
    key: jax.Array | None
    stream: int
    block: int | None
    min_size: int
    keep: re.Pattern[str] | None
    elementwise: bool

    def __repr__(self) -> str:
        named = {name: codec.name for name, codec in self.codecs.items()}
        return repr(named[None]) if list(named) == [None] else repr(named)

    def codec(self, name: str) -> Codec | None:
        """The codec of the slot of that name; None if it is kept as it is."""
        return self.codecs.get(name, self.codecs.get(None))

    def code(self, name: str, slot: Slot, path: Sequence[Any], size: int) -> Code | None:
        """The code of a slot of the parameter at `path`; None if it is kept as it is."""
        kept = slot.shape != "parameter" or size < self.min_size
        codec = None if kept or (self.keep and self.keep.search(path_text(path))) else self.codec(name)
        return codec.code(slot.nature) if codec else None

    def words(self, count: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """What the random bits of a step are made of, two for each of so many arrays."""
        key = jax.random.key(0) if self.key is None else self.key
        return words(jax.random.fold_in(key, self.stream), count, shape)

    def kept(self, name: str, code: Code, x: jax.Array, like: Any, word: jax.Array) -> Encoded:
        """An array in a code; its blocks follow the sharding of the parameter `like`, where that is known."""
        block = self.block or self.codec(name).block  # type: ignore[union-attr]
        shard = sharding.shard_shape(like)

        def encode(x: jax.Array, word: jax.Array) -> Encoded:
            x = jax.lax.optimization_barrier(x)  # first values are constants, which XLA would encode as it compiles
            return _to_code(code, x, block=block, word=word, shard=shard)

        def shardings() -> Any:
            shapes = jax.eval_shape(encode, jax.ShapeDtypeStruct(x.shape, x.dtype), word)
            return jax.tree.map(lambda found: sharding.like(found, like), shapes)

        return sharding.automatic(encode, shardings, x, word)

    def first(self, trees: Mapping[str, Any], slots: Mapping[str, Slot], params: Any) -> dict[str, Any]:
        """The first slots, by name, as they are kept."""
        leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
        word = self.words(jnp.uint32(_BEFORE), (len(leaves), len(slots)))
        made = dict(trees)
        for index, name in enumerate(sorted(slots)):
            found = treedef.flatten_up_to(trees[name])
            for place, (path, p) in enumerate(leaves):
                code = self.code(name, slots[name], path, math.prod(jnp.shape(p)))
                if code is not None and found[place] is not None:
                    found[place] = self.kept(name, code, found[place], p, word[place, index])
            made[name] = treedef.unflatten(found)
        return made

    def is_kept(self, leaf: Any) -> bool:
        """Whether it is an encoded slot, or the mapping of its arrays that Flax makes of it."""
        return isinstance(leaf, Encoded) or is_mapped(leaf)

    def read(self, name: str, slot: Slot, leaves: Sequence[Any], updates: Any) -> list[Any]:
        """The slots of a state; raises ValueError unless they are arrays, or in this policy's code."""
        arrays, found = [], [self.unmapped(name, slot.nature, leaf) for leaf in leaves]
        for (path, g), kept in zip(jax.tree_util.tree_leaves_with_path(updates), found, strict=True):
            code = None if kept is None else self.code(name, slot, path, math.prod(jnp.shape(g)))
            foreign = isinstance(kept, Encoded) and kept.code != (self.codec(name) or _NOTHING).code(slot.nature)
            if foreign or (code is not None and not isinstance(kept, Encoded)):
                raise ValueError(
                    f"slot {name!r} of parameter {path_text(path)!r} is kept as {_described(kept)} in this state, and "
                    f"as {code.name if code else 'an array'} by this transformation: "
                    "jol.convert_state(state, from_tx, to_tx, params) makes a state for it"
                )
            if isinstance(kept, Encoded) and not fits(kept, jnp.shape(g)):
                raise ValueError(
                    f"gradient {path_text(path)!r} has shape {jnp.shape(g)}, but slot {name!r} is kept as {kept!r}: "
                    "it is of a parameter of another shape"
                )
            arrays.append(g if isinstance(kept, Encoded) else kept)
        same_shapes(updates, jax.tree.leaves(updates), arrays, f"slot {name!r}")
        return found

    def unmapped(self, name: str, nature: str, leaf: Any) -> Any:
        """A slot as it is kept, where Flax made a mapping of it."""
        code = (self.codec(name) or _NOTHING).code(nature)
        return Encoded(leaf["codes"], leaf.get("scale"), code) if code and is_mapped(leaf) else leaf

    def steps(
        self, step: Callable[..., Any], plainly: Callable[..., list[Any]], count: jax.Array, rows: Sequence[Row]
    ) -> list[Any]:
        """One step on each array: in chunks where its slots are encoded, plain where not."""
        coded = [place for place, row in enumerate(rows) if _has_codes(row)]
        if not coded:
            return plainly(step, rows)
        plain = [place for place in range(len(rows)) if place not in set(coded)]
        out = dict(zip(plain, plainly(step, [rows[place] for place in plain]), strict=True))
        word = self.words(count, (len(rows), len(rows[0].own.slots)))
        if not self.elementwise:
            found = whole_matrices(functools.partial(_whole, step), [_with_word(rows[at], word[at]) for at in coded])
            out |= zip(coded, found, strict=True)
            return [out[place] for place in range(len(rows))]
        out |= {place: self.one(step, rows[place], word[place]) for place in coded}
        return [out[place] for place in range(len(rows))]

    def one(self, step: Callable[..., Any], row: Row, word: jax.Array) -> Any:
        """One elementwise step on one array with encoded slots, chunk by chunk; plain on one without."""
        formula, own, common = row
        if not _has_codes(row):
            return step(*row)
        elements = _CHUNK if jax.default_backend() == "cpu" else _CHUNK_OF_ACCELERATORS
        run = functools.partial(stepped, step, formula, elements, jax.device_count())
        return sharding.automatic(run, lambda: sharding.as_they_lie((own.g, own.slots), own.g), own, common, word)


_NOTHING = Codec("nothing", "", "", None, None)


def is_mapped(leaf: Any) -> bool:
    """Whether it is a mapping of an encoded slot's arrays: `nnx.Optimizer` gives that back."""
    return isinstance(leaf, Mapping) and "codes" in leaf and set(leaf) <= {"codes", "scale"}


def _with_word(row: Row, word: jax.Array) -> Row:
    """The row with what its random bits are made of among the array's own things."""
    return row._replace(own=row.own._replace(key=(row.own.key, word)))


def _whole(step: Callable[..., Any], formula: Any, own: Own, common: Any) -> Any:
    """A step that sees more than single elements, on an array of `_with_word`."""
    key, word = own.key
    return stepped(step, formula, 0, 1, own._replace(key=key), common, word)


def _has_codes(row: Row) -> bool:
    return any(isinstance(slot, Encoded) for slot in row.own.slots.values())


def _described(kept: Any) -> str:
    return kept.code.name if isinstance(kept, Encoded) else f"an array of {kept.dtype}"
