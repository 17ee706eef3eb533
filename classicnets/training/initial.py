"""A network's initial variables, equal to those of `jax.jit(model.init)` in every bit, without compiling the network.

The compiler makes one program of `init`, in which code of its own draws each array: half a minute for Inception v3 on a
CPU. Here `init` is traced, what its results do not hang on (the forward pass) is left out, and the few operations that
remain are made one by one. Value i of a draw hangs on the key and on i alone (`jax_threefry_partitionable`), so that
draws of all shapes come from programs of a few lengths.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax, random
from jax.extend.core import Jaxpr, Literal
from jax.interpreters import partial_eval

from classicnets.runs.identity import is_ours
from classicnets.system.settings import pinned
from classicnets.training.step import GENERATOR


class _Draw(NamedTuple):
    """values(factor): what is drawn times `factor`, when all factors are known: the compiler joins them first."""

    values: Callable[[np.float32], np.ndarray]
    factor: np.float32


def _gaussian(key: jax.Array, size: int) -> jax.Array:
    """Return what sqrt(2) makes draws of `random.normal`."""
    least = np.nextafter(np.float32(-1), np.float32(0))
    return lax.erf_inv(random.uniform(key, (size,), np.float32, least, 1.0))


# jax.random's own programs, by their names in a trace, as (draw, factor); a program of another name is compiled at its
# own shape.
_DRAWS: dict[str, tuple[Callable[..., jax.Array], float]] = {
    "_normal": (lambda size, key: _gaussian(key, size), 2**0.5),
    "_uniform": (lambda size, key, low, high: random.uniform(key, (size,), np.float32, low, high), 1),
    "_truncated_normal": (lambda size, key, low, high: random.truncated_normal(key, low, high, (size,), np.float32), 1),
}


@partial(jax.jit, static_argnums=(0, 1))
def _draw(name: str, size: int, factor: jax.Array, *inputs: Any) -> jax.Array:
    return _DRAWS[name][0](size, *inputs) * factor


# What follows a draw: NumPy rounds it as XLA does, and compiles nothing for a shape.
_HOST: dict[str, Callable[..., Any]] = {"mul": np.multiply, "div": np.divide, "sqrt": np.sqrt}


@pinned()
def initial_variables(model: nn.Module, seed: int, shape: tuple[int, int, int]) -> Any:
    """Return `init` of a network, as `jax.jit` computes it; that of a module that is not ours is compiled."""
    if not is_ours(model):
        return jax.jit(partial(init, model, shape))(seed)
    traced, abstract = jax.make_jaxpr(partial(init, model, shape), return_shape=True)(seed)
    needed, _ = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    leaves = map(np.asarray, _evaluated(needed, traced.consts, [jnp.asarray(seed)]))
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def init(model: nn.Module, shape: tuple[int, int, int], seed: jax.Array | int) -> Any:
    """Return the variables that `model` begins with; each parameter's key comes from the seed and its path."""
    return model.init(random.key(seed, impl=GENERATOR), jnp.zeros((1, *shape)), train=False)


def _evaluated(jaxpr: Jaxpr, constants: list, arguments: list) -> list:
    """Return the results of the operations of a trace, made one by one."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        values |= zip(eqn.outvars, _results(eqn, [read(atom) for atom in eqn.invars]), strict=True)
    return [_value(read(atom)) for atom in jaxpr.outvars]


def _results(eqn: Any, inputs: list) -> list:
    name, shape, dtype = eqn.primitive.name, eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype
    if name == "scan":
        return _scanned(eqn, inputs)
    if dtype == np.float32:
        if name == "jit" and eqn.params["name"] in _DRAWS:
            return [_drawn(eqn.params["name"], shape, inputs)]
        if name == "mul" and isinstance(inputs[0], _Draw) and not eqn.invars[1].aval.shape:
            return [inputs[0]._replace(factor=inputs[0].factor * np.float32(inputs[1]))]
        if name in _HOST:
            return [_HOST[name](*(np.asarray(_value(value), np.float32) for value in inputs))]
        if name == "broadcast_in_dim" and not eqn.invars[0].aval.shape:
            return [np.full(shape, inputs[0], dtype)]
    results = eqn.primitive.bind(*map(_value, inputs), **eqn.primitive.get_bind_params(eqn.params))
    return list(results) if eqn.primitive.multiple_results else [results]


def _scanned(eqn: Any, inputs: list) -> list:
    """Return the results of a loop over units of equal shapes, each drawn by itself."""
    closed = eqn.params["jaxpr"]
    body, own = getattr(closed, "jaxpr", closed), getattr(closed, "consts", [])
    # What a loop goes through has an axis more outside of it: versions of jax say in different ways which inputs do.
    through = sum(outer.aval.ndim > inner.aval.ndim for outer, inner in zip(eqn.invars, body.invars, strict=True))
    carried = sum(outer.aval.ndim == inner.aval.ndim for outer, inner in zip(eqn.outvars, body.outvars, strict=True))
    held = len(inputs) - through - carried
    constants, carry, each = inputs[:held], inputs[held : held + carried], inputs[held + carried :]
    results = []
    for i in range(eqn.params["length"]):
        outputs = _evaluated(body, own, [*constants, *carry, *(values[i] for values in each)])
        carry = outputs[:carried]
        results.append(outputs[carried:])
    return [*carry, *(np.stack(values) for values in zip(*results, strict=True))]


def _drawn(name: str, shape: tuple[int, ...], inputs: list) -> _Draw:
    size = math.prod(shape)

    def values(factor: np.float32) -> np.ndarray:
        return np.asarray(_draw(name, _length(size), factor, *inputs))[:size].reshape(shape)

    return _Draw(values, np.float32(_DRAWS[name][1]))


def _value(value: Any) -> Any:
    return value.values(value.factor) if isinstance(value, _Draw) else value


def _length(size: int) -> int:
    """Return the next power of 4 from 4,096 on, or the next multiple of a million."""
    million = 2**20
    return -(-size // million) * million if size > million else max(2**12, 2 ** (-(-(size - 1).bit_length() // 2) * 2))
