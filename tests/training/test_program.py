"""Somebody's own module is named by what it computes: not by its text, its place, or how it is run."""

import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from classicnets.training.program import fit

SHAPE, CLASSES, BATCH = (4, 4, 1), 3, 2
# What each module below begins with.
HEAD = """
import functools
import jax, jax.numpy as jnp, numpy as np
from flax import linen as nn
from jax import lax
"""
# A net around `body`, which makes `h` of the flat images x.
NET = (
    HEAD + "{before}\nclass Net(nn.Module):\n    {fields}\n    @nn.compact\n    def __call__(self, images, *, train):\n"
)
NET += "        x = images.reshape(len(images), -1)\n        {body}\n        return nn.Dense(3)(h)\n"


def net(body: str, before: str = "", fields: str = "", make: str = "Net()"):
    """The Flax module that `make` gives in a file of its own."""
    inner = textwrap.indent(textwrap.dedent(body), " " * 8).strip()
    text = NET.format(body=inner, before=textwrap.dedent(before), fields=fields)
    file = types.ModuleType("net")
    exec(compile(text, "net.py", "exec"), vars(file))
    return eval(make, vars(file))


def name(model) -> str:
    digest = fit(model, SHAPE, CLASSES, BATCH).program_sha256
    assert digest is not None
    return digest


PLAIN = "h = nn.relu(nn.Dense(4)(x))"
ACT = "h = act(nn.Dense(4)(x))"
LEAKY = "def leaky(slope):\n    return lambda x: jnp.where(x > 0, x, slope * x)"
RULE = """
@jax.custom_vjp
def straight(x):
    return jnp.sign(x)
straight.defvjp(lambda x: (jnp.sign(x), x), lambda x, g: ({}* g,))
"""
TABLE = """
table = np.arange(64.0, dtype=np.float32)
table[{}] += 1
@jax.jit
def act(x):
    return x * table[None, :4] + jnp.asarray(table).sum()
"""
FACTORY = """
def factory(width, act):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = images.reshape(len(images), -1)
            h = act(nn.Dense(width)(x))
            return nn.Dense(3)(h)
    return Net
"""
EQUAL = {
    "comments and spaces": [(PLAIN,), ("# hidden\nh = nn.relu( nn.Dense(4)(x) )  # layer",)],
    "names of variables": [(PLAIN,), ("hidden = nn.Dense(4)(x)\nh = nn.relu(hidden)",)],
    "a constant of the file, and written out": [
        ("h = 2.0 * nn.Dense(4)(x)",),
        ("h = TWO * nn.Dense(4)(x)", "TWO = 2.0"),
    ],
    "an alias": [(PLAIN,), (ACT, "act = nn.relu")],
    "a partial": [
        ("h = nn.leaky_relu(nn.Dense(4)(x), 0.1)",),
        (ACT, "act = functools.partial(nn.leaky_relu, negative_slope=0.1)"),
    ],
    "a closure": [("h = leaky(0.5)(nn.Dense(4)(x))", LEAKY), ("y = nn.Dense(4)(x)\nh = jnp.where(y > 0, y, 0.5 * y)",)],
    "under jit": [("h = jnp.tanh(nn.Dense(4)(x))",), (ACT, "act = jax.jit(jnp.tanh)")],
    "a lambda and a function": [
        (ACT, "act = lambda x: x * x"),
        (ACT, "def act(x):\n    return x * x"),
    ],
    "a method": [
        ("h = self.act(nn.Dense(4)(x))", "", "act = lambda self, x: jnp.tanh(x)"),
        ("h = jnp.tanh(nn.Dense(4)(x))",),
    ],
    "a class of a factory": [(PLAIN,), ("h = x", FACTORY, "", "factory(4, nn.relu)()")],
    "a field and a constant": [(PLAIN,), ("h = nn.relu(nn.Dense(self.width)(x))", "", "width: int = 4")],
    "a field that nothing reads": [(PLAIN,), (PLAIN, "", "unused: int = 4", "Net(unused=5)")],
    "fields of two types": [("h = nn.Dense(self.w)(x)", "", "w: int = 1", f"Net({w})") for w in ("4", "np.int64(4)")],
    "the order of what is independent": [
        ("a = nn.Dense(4, name='a')(x)\nb = nn.Dense(4, name='b')(x)\nh = a - b",),
        ("b = nn.Dense(4, name='b')(x)\na = nn.Dense(4, name='a')(x)\nh = a - b",),
    ],
    "what nothing reads": [(PLAIN,), ("jnp.linalg.norm(x)\n" + PLAIN,)],
    "an equal table in two arrays": [(ACT, TABLE.format(5)) for _ in range(2)],
    "an equal rule": [("h = straight(nn.Dense(4)(x))", RULE.format("2.0 ")) for _ in range(2)],
    "unrolled": [
        (f"h = lax.scan(lambda c, _: (jnp.tanh(c), None), nn.Dense(4)(x), None, 3, unroll={n})[0]",) for n in (1, 3)
    ],
    "dropout that is off": [("h = nn.Dropout(0.5, deterministic=True)(nn.Dense(4)(x))",), ("h = nn.Dense(4)(x)",)],
    "numbers of two types": [(f"h = {two} * nn.Dense(4)(x)",) for two in ("2.0", "2")],
}
DIFFERENT = {
    "a constant of the file": [("h = C * nn.Dense(4)(x)", f"C = {c}") for c in (2.0, 3.0)],
    "an alias": [(ACT, f"act = {act}") for act in ("nn.relu", "jnp.tanh")],
    "a partial": [(ACT, f"act = functools.partial(nn.leaky_relu, negative_slope={s})") for s in (0.1, 0.2)],
    "a closure": [(f"h = leaky({slope})(nn.Dense(4)(x))", LEAKY) for slope in (0.1, 1.0)],
    "a jitted function": [(ACT, f"act = jax.jit(lambda x: {c} * x)") for c in (2, 3)],
    "a bound method": [
        (
            ACT,
            f"class Scale:\n    s = {s}\n    def of(self, x):\n        return self.s * x\nact = Scale().of",
        )
        for s in (1.5, 2.5)
    ],
    "a factory": [("h = x", FACTORY, "", f"factory(4, {act})()") for act in ("nn.relu", "nn.gelu")],
    "a width of a factory": [("h = x", FACTORY, "", f"factory({width}, nn.relu)()") for width in (4, 5)],
    "the rule of a custom gradient": [("h = straight(nn.Dense(4)(x))", RULE.format(f"{c} ")) for c in (1.0, 2.0)],
    "a rule under jit": [("h = jax.jit(straight)(nn.Dense(4)(x))", RULE.format(f"{c} ")) for c in (1.0, 2.0)],
    "a rule in a loop": [
        ("h = lax.scan(lambda c, _: (straight(c), None), nn.Dense(4)(x), None, 2)[0]", RULE.format(f"{c} "))
        for c in (1.0, 2.0)
    ],
    "one number of a table under jit": [(ACT, TABLE.format(i)) for i in (3, 60)],
    "a table in a loop": [
        (
            "h = lax.scan(lambda c, _: (c * table, None), nn.Dense(4)(x), None, 2)[0]",
            f"table = np.arange({a}, {a} + 4.0)[None]",
        )
        for a in (0, 1)
    ],
    "a stopped gradient": [("h = nn.Dense(4)(x)",), ("h = lax.stop_gradient(nn.Dense(4)(x))",)],
    "an initialiser": [(f"h = nn.Dense(4, kernel_init=nn.initializers.normal({s}))(x)",) for s in (0.1, 0.2)],
    "a layer's name": [(f"h = nn.Dense(4, name='{n}')(x)",) for n in "ab"],
    "training and evaluation": [("h = nn.Dense(4)(x) * (2.0 if train else 1.0)",), ("h = nn.Dense(4)(x)",)],
    "a rate of dropout": [(f"h = nn.Dropout({r}, deterministic=not train)(nn.Dense(4)(x))",) for r in (0.1, 0.2)],
    "a momentum": [
        (f"h = nn.BatchNorm(use_running_average=not train, momentum={m})(nn.Dense(4)(x))",) for m in (0.9, 0.99)
    ],
    "a type": [(f"h = nn.Dense(4, dtype=jnp.{dtype})(x)",) for dtype in ("float32", "bfloat16")],
    "a weak type": [
        (f"h = (nn.Dense(4)(x).astype(jnp.bfloat16) * {two}).astype(jnp.float32)",) for two in ("2.0", "np.float32(2)")
    ],
    "a condition": [(f"h = lax.cond(x.sum() > {c}, jnp.tanh, jnp.sin, nn.Dense(4)(x))",) for c in (0.0, 1.0)],
    "branches": [
        (f"h = lax.cond(x.sum() > 0, {b}, nn.Dense(4)(x))",) for b in ("jnp.tanh, jnp.sin", "jnp.sin, jnp.tanh")
    ],
    "a precision": [(f"h = nn.Dense(4, precision={p})(x)",) for p in ("None", "'highest'")],
    "the number of steps": [(f"h = lax.fori_loop(0, {n}, lambda i, c: jnp.sin(c), nn.Dense(4)(x))",) for n in (2, 3)],
}


@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL)
def test_what_computes_the_same_has_one_name(pair):
    one, other = pair
    assert name(net(*one)) == name(net(*other))


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_computes_something_else_has_another(pair):
    one, other = pair
    assert name(net(*one)) != name(net(*other))


COUNT = "count = [0]\ndef counted(x):\n    count[0] += 1\n    return x * count[0]"
REFUSED = {
    "a random number": ("h = nn.Dense(4)(x) * np.random.rand()", ""),
    "a count of calls": ("h = counted(nn.Dense(4)(x))", COUNT),
    "a count under jit": ("h = act(nn.Dense(4)(x))", COUNT + "\nact = jax.jit(counted)"),
    "a callback": ("h = jax.pure_callback(np.sin, x, x)\nh = nn.Dense(4)(lax.stop_gradient(h))", ""),
    "a callback that returns nothing": ("jax.debug.callback(print, x)\nh = nn.Dense(4)(x)", ""),
    "a print in a loop": (
        "h = lax.fori_loop(0, 2, lambda i, c: (jax.debug.print('{}', i), c)[1], nn.Dense(4)(x))",
        "",
    ),
}


@pytest.mark.parametrize(("body", "before"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_function_of_its_inputs_is_refused(body, before):
    with pytest.raises(ValueError, match=r"^net:Net (computes something else each time|must compute its results)"):
        fit(net(body, before), SHAPE, CLASSES, BATCH)


def test_a_function_under_jit_that_keeps_an_older_value_is_refused():
    # jax itself would train with the older one.
    before = "C = 2.0\n@jax.jit\ndef act(x):\n    return C * x\ndef change(c):\n    global C\n    C = c"
    model = net(ACT, before, "change = staticmethod(change)")
    first = name(model)
    model.change(3.0)
    with pytest.raises(ValueError, match=r"a function under jax\.jit keeps what it read first"):
        fit(model, SHAPE, CLASSES, BATCH)
    model.change(2.0)
    assert name(model) == first


def test_our_layers_in_it_are_named_alike_however_they_run():
    inner = "images = jnp.concatenate([images] * 3, -1)\n"
    inner += (
        "return classicnets.create('cifar_resnet', depth=8, width=0.25, num_classes=3, **{})(images, train=train)\nh=x"
    )
    before = "import classicnets"
    names = {name(net(inner.format(how), before)) for how in ("{}", "{'conv': 'lax'}", "{'unroll': True}")}
    assert len(names) == 1
    assert name(net(inner.format("{'shortcut': 'none'}"), before)) not in names


class Returns(nn.Module):
    """Gives what `form` makes of logits [n, 3]."""

    form: str

    @nn.compact
    def __call__(self, images, *, train: bool):
        logits = nn.Dense(3)(images.reshape(len(images), -1))
        return {
            "dict": {"logits": logits},
            "map": logits[:, None, None],
            "five": jnp.tile(logits, (1, 2))[:, :5],
            "one image": logits[:1],
            "whole numbers": logits.argmax(-1, keepdims=True) * jnp.ones((1, 3), int),
            "a tuple": (logits, logits),
            "auxiliary": (logits, logits) if train else logits,
            "auxiliary of others": (logits, logits[:, :2]) if train else logits,
            "nothing": None,
        }[self.form]


@pytest.mark.parametrize(
    ("form", "what"),
    {
        "dict": "a dict",
        "map": r"float32 \[2, 1, 1, 3\]",
        "five": r"float32 \[2, 5\]",
        "one image": r"float32 \[1, 3\]",
        "whole numbers": r"int32 \[2, 3\]",
        "a tuple": "a tuple",
        "auxiliary of others": r"float32 \[2, 2\]",
        "nothing": "a NoneType",
    }.items(),
)
def test_other_outputs_than_logits_are_refused(form, what):
    with pytest.raises(ValueError, match=rf"Returns must give logits \[n, 3\].*got {what} for 2 images with train="):
        fit(Returns(form), SHAPE, CLASSES, BATCH)


def test_auxiliary_heads_are_logits_too():
    assert fit(Returns("auxiliary"), SHAPE, CLASSES, BATCH).auxiliary


@pytest.mark.parametrize(
    ("body", "before", "said"),
    [
        ("return x[:, :3]\nh = x", "", "net:Net has no parameters"),
        ("self.variable('cache', 'n', jnp.zeros, ())\nh = x", "", "net:Net has variables 'cache'"),
    ],
)
def test_variables_that_a_run_does_not_train_are_refused(body, before, said):
    with pytest.raises(ValueError, match=said):
        fit(net(body, before), SHAPE, CLASSES, BATCH)


@pytest.mark.parametrize("batch", [1, 2])
def test_batch_norm_of_one_value_a_channel_is_refused(batch):
    model = net("h = nn.BatchNorm(use_running_average=not train, name='bn')(nn.Dense(4)(x))")
    if batch == 1:
        with pytest.raises(ValueError, match="batch norm bn sees one value a channel"):
            fit(model, SHAPE, CLASSES, batch)
    else:
        fit(model, SHAPE, CLASSES, batch)


def test_constants_that_differ_in_the_program_alone_are_told_apart():
    # Neither the text of the program nor its outer constants show them.
    tables = [np.arange(2000.0), np.arange(2000.0)]
    tables[1][1500] = 0
    programs = [jax.make_jaxpr(jax.jit(lambda x, t=table: x + jnp.asarray(t).sum()))(1.0) for table in tables]
    assert str(programs[0]) == str(programs[1])
    body = "h = jax.jit(lambda x: x + jnp.asarray(table).sum())(nn.Dense(4)(x))"
    before = "table = np.arange(2000.0)\ntable[{}] = 0"
    assert name(net(body, before.format(0))) != name(net(body, before.format(1500)))
