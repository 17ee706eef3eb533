"""Parameters, multiply-adds, activations and receptive fields of any network, counted from its traced operations.

Nothing is computed: initialisation, which runs the forward pass of one image, is traced once by `jax.make_jaxpr`, and
the equations that its output needs are walked, loops as often as they run. Multiply-adds are those of convolutions and
dense products, on the plain convolution path:

    convolution    outputs * kernel height * kernel width * input channels per group
    dense product  outputs * length of the sum
"""

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


class Field(NamedTuple):
    """What one output position sees of the image's height: `size` pixels, `stride` pixels from its neighbour's."""

    size: int
    stride: int


def variables_of(model: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Return the shapes of a network's variables for images of `shape`; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.eval_shape(jax.random.key, 0), images)


def parameters(variables: Any) -> int:
    """Return how many numbers are trained."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def describe(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return {"parameters", "macs", "activation_bytes", "layers"} for one image of `shape` [h, w, c].

    A layer is a module without submodules: name, type, output shape, how often it repeats (scanned blocks),
    parameters, macs, activation_bytes (of its outputs; sums and concatenations between layers are not counted),
    receptive_field and stride in pixels of the image's height. Layers of auxiliary heads have parameters, but none of
    the inference pass's macs.
    """
    if any(f.name == "conv" for f in dataclasses.fields(model)):
        model = model.clone(conv="lax")
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    calls: dict[str, tuple[str, Any]] = {}

    def record(call, arguments, keywords, context):
        output = call(*arguments, **keywords)
        if context.method_name == "__call__":
            calls["/".join(context.module.path)] = (type(context.module).__name__, output)
        return output

    with nn.intercept_methods(record):
        traced, (output, variables) = jax.make_jaxpr(
            lambda key, x: model.init_with_output(key, x, train=False), return_shape=True
        )(jax.eval_shape(jax.random.key, 0), images)
    needed = traced.jaxpr.outvars[: len(jax.tree.leaves(output))]
    counts = _walk(traced.jaxpr, len(traced.jaxpr.invars) - 1, needed)
    owned: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        module = "/".join(part.key for part in path[:-1])
        owned[module] = owned.get(module, 0) + math.prod(leaf.shape)
    leaves = [path for path in calls if path and not any(other.startswith(f"{path}/") for other in calls)]
    layers = [_layer(path, *calls[path], owned.get(path, 0), counts.get(path, _Count())) for path in leaves]
    for before, layer in pairwise(layers):
        if layer["type"] == "Dropout":  # which does nothing here
            layer |= {key: before[key] for key in ("receptive_field", "stride")}
    return {
        "parameters": parameters(variables),
        "macs": sum(count.macs for count in counts.values()),
        "activation_bytes": sum(layer["activation_bytes"] for layer in layers),
        "layers": layers,
    }


@dataclasses.dataclass
class _Count:
    """What the equations under one module path come to."""

    macs: int = 0
    repeat: int = 1
    field: Field | None = None


def _layer(path: str, kind: str, found: Any, owned: int, count: _Count) -> dict:
    (output,) = jax.tree.leaves(found)[:1]
    return {
        "name": path,
        "type": kind,
        "output": list(output.shape[1:]),
        "repeat": count.repeat,
        "parameters": owned,
        "macs": count.macs,
        "activation_bytes": math.prod(output.shape) * output.dtype.itemsize * count.repeat,
        "receptive_field": count.field.size if count.field else None,
        "stride": count.field.stride if count.field else None,
    }


def _walk(jaxpr: Any, image: int, needed: list) -> dict[str, _Count]:
    """{module path: count} of what the outputs `needed` need; `image`: the position of the images among the inputs."""
    counts: dict[str, _Count] = {}
    jaxpr = jaxpr.replace(eqns=_alive(jaxpr.eqns, needed))

    def run(jaxpr: Any, fields: list[Field | None], outer: tuple[str, ...], times: int) -> list[Field | None]:
        known: dict[Any, Field | None] = dict(zip(jaxpr.invars, fields, strict=True))

        def field(atom: Any) -> Field | None:
            return None if hasattr(atom, "val") else known.get(atom)

        for equation in jaxpr.eqns:
            path = (*outer, *_scopes(equation))
            inputs = [field(atom) for atom in equation.invars]
            inner = next(_inner(equation), None)
            if inner is None:
                outputs = [_field_after(equation, inputs)] * len(equation.outvars)
                # The first name is the network's own.
                count = counts.setdefault("/".join(path[1:]), _Count())
                count.macs += times * _macs(equation)
                count.repeat, count.field = times, outputs[0] or count.field
            elif equation.primitive.name == "scan":
                outputs = _scan(equation, inner, inputs, path, times)
            else:
                outputs = run(inner, inputs[-len(inner.invars) :], path, times)
            known.update(zip(equation.outvars, outputs, strict=False))
        return [field(atom) for atom in jaxpr.outvars]

    def _scan(equation: Any, inner: Any, inputs: list, path: tuple[str, ...], times: int) -> list[Field | None]:
        # What runs along the loop has one axis more outside than inside; the parameters' names differ between versions.
        same = [
            [a.aval.shape == b.aval.shape for a, b in zip(*pair, strict=True)]
            for pair in ((equation.invars, inner.invars), (equation.outvars, inner.outvars))
        ]
        carries = sum(same[1])
        consts = sum(same[0]) - carries
        length, outputs = equation.params["length"], []
        carry = inputs[consts : consts + carries]
        before = {path: count.macs for path, count in counts.items()}
        for _ in range(length):
            # The last pass alone counts: earlier ones only let the receptive field grow.
            for where, count in counts.items():
                count.macs = before.get(where, 0)
            outputs = run(inner, [*inputs[:consts], *carry, *inputs[consts + carries :]], path, times * length)
            carry = outputs[:carries]
        return outputs

    run(jaxpr, [Field(1, 1) if i == image else None for i in range(len(jaxpr.invars))], (), 1)
    return counts


def _alive(equations: list, needed: list) -> list:
    """Those that an atom of `needed` depends on."""
    atoms, alive = {id(atom) for atom in needed}, []
    for equation in reversed(equations):
        if any(id(atom) in atoms for atom in equation.outvars):
            alive.append(equation)
            atoms |= {id(atom) for atom in equation.invars}
    return alive[::-1]


def _scopes(equation: Any) -> list[str]:
    """The module names around an equation; `jit(relu)` is a transformation's and `net.stage` a method's."""
    return [scope for scope in str(equation.source_info.name_stack).split("/") if scope and not {*"(."} & {*scope}]


def _inner(equation: Any) -> Iterator[Any]:
    """The equation's own jaxprs."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "jaxpr"):
                yield one.jaxpr
            elif hasattr(one, "eqns"):
                yield one


def _macs(equation: Any) -> int:
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // features
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        length = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return math.prod(equation.outvars[0].aval.shape) * length
    return 0


def _field_after(equation: Any, inputs: list[Field | None]) -> Field | None:
    """The receptive field of an output, from the largest of the inputs'."""
    seen = [field for field in inputs if field]
    if not seen:
        return None
    before = Field(max(f.size for f in seen), max(f.stride for f in seen))
    name, parameters = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        spatial = parameters["dimension_numbers"].rhs_spec[2:]
        kernel = equation.invars[1].aval.shape[spatial[0]]
        return _window(before, kernel, parameters["window_strides"][0], parameters["rhs_dilation"][0])
    if name.startswith("reduce_window"):
        return _window(before, parameters["window_dimensions"][1], parameters["window_strides"][1])
    shape = equation.invars[0].aval.shape
    if name == "slice" and len(shape) == 4 and parameters["strides"]:
        return Field(before.size, before.stride * parameters["strides"][1])
    # A mean over the map, or a dense layer of it, sees all of it.
    axes = parameters.get("axes", ())
    if name.startswith("reduce_") and len(shape) == 4 and 1 in axes and 2 not in axes:  # a window of an adaptive pool
        return Field(before.size + (shape[1] - 1) * before.stride, before.stride)
    spread = name.startswith("reduce_") and 1 in axes
    spread |= name == "dot_general" and 1 in parameters["dimension_numbers"][0][0]
    if len(shape) == 4 and (spread or (name == "reshape" and len(equation.outvars[0].aval.shape) == 2)):
        return Field(before.size + (shape[1] - 1) * before.stride, before.stride * shape[1])
    return before


def _window(before: Field, size: int, strides: int, dilation: int = 1) -> Field:
    return Field(before.size + (size - 1) * dilation * before.stride, before.stride * strides)
