"""The program that a Flax module computes, traced abstractly: whether it can be trained on its data, and its name.

A module that is not ours is named by SHA-256 over three programs at the run's own shapes: its initialisation, its
evaluation, and the gradient of the training loss (the rule of a `custom_vjp` shows in no forward program). A program is
read as the graph that its results hang on: each value is told by the operation that gives it, that operation's
parameters, and the values that it takes. So names, source lines, the order of independent operations and what nothing
reads make no difference, and every constant, type and weak type does.
"""

import hashlib
import inspect
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import random
from jax.experimental.xla_metadata import set_xla_metadata

from classicnets.runs.identity import is_ours
from classicnets.runs.modules import import_path
from classicnets.system.settings import pinned, reference_execution

# The axis of devices that parallel networks reduce over; here there is one.
AXIS = "data"
# Operations that only wrap a program: what it computes is the same without them.
WRAPPERS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"} | {
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
# Parameters of operations that say how something is run or written, not what it is.
UNNAMED = {"name", "debug_info", "unroll", "_split_transpose", "ctx_mesh", "mesh", "sharding", "out_sharding"} | {
    "in_shardings",
    "out_shardings",
    "in_layouts",
    "out_layouts",
    "donated_invars",
    "linear",
}


@dataclass(frozen=True)
class Fit:
    """What a trace says of a module that can be trained: whether it has auxiliary heads, and a foreign one's digest."""

    auxiliary: bool
    program_sha256: str | None = None


def fit(model: Any, shape: tuple[int, int, int], classes: int, batch: int) -> Fit:
    """Return what is to be known of `model` on images of `shape` [h, w, c], `batch` of them normalised together.

    Raise ValueError, in one sentence, for a module that cannot be trained so: logits that are not [n, classes] numbers,
    no parameters, variables that are neither parameters nor batch statistics, a batch norm over one value a channel; of
    a foreign module also for calls back to Python and for two traces that differ.
    """
    with pinned():
        return _fit_ours(model, shape, classes, batch) if is_ours(model) else _fit_foreign(model, shape, classes, batch)


@lru_cache(maxsize=1024)
def _fit_ours(model: Any, shape: tuple[int, int, int], classes: int, batch: int) -> Fit:
    def outputs(key, images):
        rngs = {"params": key, "dropout": key}
        return model.init_with_output(rngs, images, train=True)

    with reference_execution(), nn.intercept_methods(_refuse_single_values):
        logits, variables = jax.eval_shape(outputs, _key(), _images(batch, shape))
    _require_variables(model, variables)
    return Fit(len(_heads(model, logits, (batch, classes), training=True)) > 1)


def _fit_foreign(model: Any, shape: tuple[int, int, int], classes: int, batch: int) -> Fit:
    name = import_path(type(model))
    if "train" not in inspect.signature(type(model).__call__).parameters:
        raise ValueError(f"{name} must take train=True or False beside the images: __call__(self, images, *, train)")
    with reference_execution():
        programs, auxiliary = _programs(model, shape, classes, batch)
        first = _sha256(programs, name)
        # Other metadata, so that functions under `jax.jit` are traced again and show what they read now.
        with set_xla_metadata(traced=uuid.uuid4().hex):
            again = _sha256(_programs(model, shape, classes, batch)[0], name)
    if first != again:
        raise ValueError(
            f"{name} computes something else each time that it is traced: it must not read np.random or anything that "
            "changes (a function under jax.jit keeps what it read first)"
        )
    return Fit(auxiliary, first)


def _programs(model: Any, shape: tuple[int, int, int], classes: int, batch: int) -> tuple[list, bool]:
    """Return ([(the paths of its results, a program)], whether the module has auxiliary heads)."""
    parallel = model.clone(axis_name=AXIS) if any(f.name == "axis_name" for f in fields(model)) else model
    images, labels = _images(batch, shape), jax.ShapeDtypeStruct((batch,), jnp.int32)

    def initialised(key):
        return model.init(key, jnp.zeros((1, *shape)), train=False)

    def evaluated(variables, images):
        return model.apply(variables, images, train=False)

    heads: Sequence = ()

    def loss(params, rest, images, labels, key):
        nonlocal heads
        with nn.intercept_methods(_refuse_single_values):
            outputs, new = parallel.apply(
                {"params": params, **rest}, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )
        heads = _heads(model, outputs, (batch, classes), training=True)
        wide = [logits.astype(jnp.float32) for logits in heads]
        return sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() for logits in wide), new

    def gradient(params, rest, *inputs):
        return jax.value_and_grad(loss, has_aux=True)(params, rest, *inputs)

    initialisation, variables = jax.make_jaxpr(initialised, return_shape=True)(_key())
    _require_variables(model, variables)
    axes: list = [(AXIS, 1)]
    evaluation, logits = jax.make_jaxpr(evaluated, axis_env=axes, return_shape=True)(variables, images)
    _heads(model, logits, (batch, classes), training=False)
    params, rest = variables["params"], {key: tree for key, tree in variables.items() if key != "params"}
    training, results = jax.make_jaxpr(gradient, axis_env=axes, return_shape=True)(params, rest, images, labels, _key())
    return [(_paths(variables), initialisation), ([], evaluation), (_paths(results), training)], len(heads) > 1


def _images(batch: int, shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *shape), jnp.float32)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(random.key, 0)


def _paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _require_variables(model: Any, variables: Any) -> None:
    name = import_path(type(model))
    if not jax.tree.leaves(variables.get("params", {})):
        raise ValueError(f"{name} has no parameters, and nothing that could be trained")
    others = sorted(set(variables) - {"params", "batch_stats"})
    if others:
        raise ValueError(f"{name} has variables {others[0]!r}; a run keeps 'params' and 'batch_stats' only")


def _heads(model: Any, outputs: Any, expected: tuple[int, int], training: bool) -> Sequence:
    """Return the logits, and in training those of auxiliary heads; raise ValueError for other outputs."""
    heads = outputs if training and isinstance(outputs, tuple) and outputs else (outputs,)
    for head in heads:
        is_array = isinstance(head, jax.ShapeDtypeStruct | jax.Array)
        if not is_array or head.shape != expected or not jnp.issubdtype(head.dtype, jnp.floating):
            form = f"{head.dtype} {list(head.shape)}" if is_array else f"a {type(head).__name__}"
            raise ValueError(
                f"{import_path(type(model))} must give logits [n, {expected[1]}], one for each class of the data, got "
                f"{form} for {expected[0]} images with train={training}"
            )
    return heads


def _refuse_single_values(call: Callable, arguments: tuple, keywords: dict, context: Any) -> Any:
    """Refuse a batch norm whose batch has one value a channel: it gives zeros whatever the images are."""
    module = context.module
    if type(module).__name__ == "BatchNorm" and context.method_name == "__call__" and arguments:
        x, axis = arguments[0], getattr(module, "axis", -1)
        kept = math.prod(x.shape[i] for i in ([axis] if isinstance(axis, int) else axis))
        running = keywords.get("use_running_average", getattr(module, "use_running_average", False))
        if not running and x.size == kept:
            raise ValueError(
                f"batch norm {'/'.join(module.path) or type(module).__name__} sees one value a channel, from which it "
                "makes zeros: batch_size, or the images, must be larger"
            )
    return call(*arguments, **keywords)


def _sha256(programs: Sequence[tuple[list[str], Any]], name: str) -> str:
    """Return one digest of programs and of what their results are called."""
    digest = hashlib.sha256()
    for paths, closed in programs:
        digest.update(repr((paths, _results(closed, name))).encode())
    return digest.hexdigest()


def _results(program: Any, name: str, inputs: Sequence[bytes] | None = None) -> list[bytes]:
    """Return the digest of each result of a program, of the digests of its inputs, or of their places for None."""
    jaxpr = getattr(program, "jaxpr", program)
    consts = getattr(program, "consts", None)
    if inputs is None:
        inputs = [_hash("input", i, _type(var.aval)) for i, var in enumerate(jaxpr.invars)]
    values: dict[Any, bytes] = dict(zip(jaxpr.invars, inputs, strict=True))
    for i, var in enumerate(jaxpr.constvars):  # an open program is given its constants as inputs
        values[var] = _hash("constant", i, _type(var.aval)) if consts is None else _constant(consts[i], var.aval)

    def of(var) -> bytes:
        return _constant(var.val, var.aval) if hasattr(var, "val") else values[var]

    for eqn in jaxpr.eqns:
        operation, taken = eqn.primitive.name, [of(var) for var in eqn.invars]
        effects = [effect for effect in eqn.effects if type(effect).__name__ != "NamedAxisEffect"]
        if "callback" in operation or effects:
            raise ValueError(f"{name} must compute its results and do nothing else, got the operation {operation}")
        inner = eqn.params.get(WRAPPERS.get(operation))
        if inner is not None:
            results = _results(inner, name, taken)
        else:
            params = {key: _parameter(value, name) for key, value in eqn.params.items() if key not in UNNAMED}
            whole = _hash(operation, sorted(params.items()), taken)
            results = [_hash(whole, i, _type(var.aval)) for i, var in enumerate(eqn.outvars)]
        values.update(zip(eqn.outvars, results, strict=True))
    return [of(var) for var in jaxpr.outvars]


def _constant(value: Any, aval: Any) -> bytes:
    return _hash("constant", _type(aval), _bytes(value))


def _bytes(value: Any) -> bytes:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = random.key_data(value)
    return np.ascontiguousarray(value).tobytes()


def _type(aval: Any) -> str:
    return f"{getattr(aval, 'dtype', aval)} {getattr(aval, 'shape', ())} {getattr(aval, 'weak_type', False)}"


def _hash(*parts: Any) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _parameter(value: Any, name: str) -> str:
    """Return a parameter of an operation as text; functions, whose programs stand beside them, as ''."""
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        return f"program {_results(value, name)}"
    if isinstance(value, np.ndarray | jax.Array):
        return f"array {_bytes(value).hex()}"
    if isinstance(value, np.dtype | Enum) or value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, Mapping):
        return repr(sorted((str(key), _parameter(one, name)) for key, one in value.items()))
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} {[_parameter(one, name) for one in value]}"
    if is_dataclass(value):
        return f"{type(value).__name__} {[(f.name, _parameter(getattr(value, f.name), name)) for f in fields(value)]}"
    if callable(value):
        return ""
    text = repr(value)
    if " at 0x" in text:
        raise ValueError(f"{name} cannot be named: an operation of it holds a {type(value).__name__}")
    return text
