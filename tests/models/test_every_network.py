"""What holds of every network: a training step, jit, bfloat16, unrolling, widths, heads, image sizes, bad fields."""

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from helpers.networks import count, distance, drawn, images_of, shapes, traced

from classicnets.models import ENTRIES, FAMILIES, create, from_facts, inception_v3, stacks
from classicnets.models.network import smallest_image
from classicnets.runs.identity import describe as described

# One name of each class.
CLASSES = (
    *("alexnet", "vgg16", "inception_v1", "inception_v2", "inception_v3", "resnet50"),
    *("cifar_resnet", "cifar_resnet_v2", "cifar_wide_resnet"),
)
INCEPTION = {"width": 0.01, "min_depth": 8, "stem": "small", "num_classes": 10}
RESNET = {"units": (2, 3), "features": (2, 4), "stem": "small", "num_classes": 5}
BASIC = {**RESNET, "features": (8, 16)}
# (name, fields, side of the images) of networks that compile in seconds and have each kind of layer.
TINY = {
    "alexnet": ("alexnet", {"width": 1 / 12, "num_classes": 10}, 67),
    "alexnet, inputs dropped": ("alexnet_owt", {"width": 1 / 8, "num_classes": 10, "stem": "small"}, 12),
    "alexnet, convolutional": ("alexnet_slim", {"width": 1 / 8, "num_classes": 10, "global_pool": True}, 211),
    "alexnet, batch norm": (
        "alexnet",
        {"width": 1 / 12, "num_classes": 10, "norm": "batch", "pooling": "average", "head": "pooled", "stem": "small"},
        12,
    ),
    "vgg, C": ("vgg16_c", {"width": 1 / 16, "num_classes": 10}, 32),
    "vgg, LRN": ("vgg11_lrn", {"width": 1 / 16, "num_classes": 10}, 32),
    "vgg, batch norm": ("vgg11_bn", {"width": 1 / 16, "num_classes": 10, "head": "pooled"}, 32),
    "inception_v1": ("inception_v1", INCEPTION, 17),
    "inception_v1, batch norm": ("inception_v1_bn", {**INCEPTION, "auxiliary_pool": "5x5/3"}, 20),
    # It has both kinds of convolution: with a norm and no bias, and the stem's with a bias and no norm.
    "inception_v2": ("inception_v2_slim", INCEPTION, 16),
    "inception_v3": ("inception_v3", {"width": 1 / 16, "min_depth": 2, "num_classes": 5, "stem": "small"}, 28),
    "basic": ("resnet18", BASIC, 9),
    "bottleneck": ("resnet50", RESNET, 9),
    "stride in 3x3": ("resnet50_v1_5", RESNET, 9),
    "slim": ("resnet50_v1_slim", RESNET, 9),
    "pool": ("resnet50", {**RESNET, "shortcut": "pool"}, 9),
    "basic v2": ("resnet18", {**BASIC, "preactivation": True}, 9),
    "bottleneck v2": ("resnet50_v2", RESNET, 9),
    "slim v2": ("resnet50_v2_slim", RESNET, 9),
    **{f"cifar {s}": ("cifar_resnet", {"depth": 14, "width": 0.25, "shortcut": s}, 9) for s in ("none", "A", "C")},
    "cifar v2": ("cifar_resnet_v2", {"depth": 14, "width": 0.25}, 6),
    "cifar bottleneck v2": ("cifar_resnet_v2", {"depth": 20, "block": "bottleneck", "width": 0.125}, 6),
    "cifar wide": ("cifar_wide_resnet", {"depth": 16, "widen": 2, "width": 0.125}, 6),
}
SLOW = ("stride in 3x3", "slim", "pool", "basic v2", "bottleneck v2")
# Sizes at which each kind of layer still has several positions; what is not here takes the paper's own.
SIDES = {"vgg": 64, "inception_v1": 96, "inception_v2": 96, "inception_v3": 139, "resnet": 64, "plain": 64, "wide": 64}


def loss_of(model, variables, images, params):
    """(cross-entropy and 0.3 times that of each auxiliary head, or of features the mean square; new statistics)."""
    outputs, new = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(1)},
    )
    if model.num_classes is None:
        return (outputs**2).mean(), new
    labels = jnp.arange(len(images)) % model.num_classes
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = [optax.softmax_cross_entropy_with_integer_labels(x, labels).mean() for x in (logits, *auxiliary)]
    return losses[0] + 0.3 * sum(losses[1:]), new


def assert_trains(model, variables, images):
    """One step with finite gradients, none zero and all statistics moved; the same by jit, unrolled and in bfloat16."""

    def step(**options):
        loss = partial(loss_of, model.clone(**options), variables, images)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    (loss, new), gradients = step()
    assert np.isfinite(loss)
    for path, gradient in stacks.split(flatten_dict(gradients)).items():
        name = "/".join(path)
        assert np.isfinite(gradient).all(), name
        if model.norm and re.search(r"conv\d_\d/conv/bias|(^|/)(conv\d|shortcut)/bias", name):
            assert np.abs(gradient).max() < 1e-4, name  # batch norm takes away what is added to each position
        else:
            assert np.any(gradient), name
    for path, statistic in stacks.split(flatten_dict(new.get("batch_stats", {}))).items():
        assert np.any(statistic != stacks.split(flatten_dict(variables["batch_stats"]))[path]), path
    if hasattr(model, "unroll"):
        unrolled = step(unroll=True)
        for a, b in zip(jax.tree.leaves(((loss, new), gradients)), jax.tree.leaves(unrolled), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)

    def evaluated(**options):
        return jax.jit(lambda v, x: model.clone(**options).apply(v, x, train=False))(variables, images[:2])

    logits, half = evaluated(), evaluated(dtype=jnp.bfloat16)
    assert distance(model.apply(variables, images[:2], train=False), logits) < 1e-4
    assert half.dtype == jnp.bfloat16
    assert distance(half, logits) < 0.02


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] if k in SLOW else []) for k in TINY])
def test_a_tiny_network_trains(kind, monkeypatch):
    name, fields, side = TINY[kind]
    if name == "inception_v3":  # one module of each figure
        few = ("mixed_5b", "mixed_6a", "mixed_6e", "mixed_7a", "mixed_7b")
        monkeypatch.setattr(inception_v3, "MODULES", {module: inception_v3.MODULES[module] for module in few})
        traced.cache_clear()
    model = create(name, **fields)
    assert_trains(model, drawn(model, side), images_of(8, side))
    if name == "inception_v3":
        traced.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_each_name_trains(name):
    model = create(name)
    side = next((side for family, side in SIDES.items() if name.startswith(family)), ENTRIES[name].size)
    variables = model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False)
    assert_trains(model, variables, images_of(8, side))


@pytest.mark.parametrize("name", CLASSES)
def test_width_and_fewest_channels(name):
    """Each kernel and bias has max(int(c * width), min_depth) channels where it has c at width 1."""
    side = ENTRIES[name].size
    fields = {"num_classes": 7, "towers": 1} if name == "alexnet" else {"num_classes": 7}
    whole, narrow = (
        flatten_dict(shapes(create(name, **fields, width=width, min_depth=24), side)["params"]) for width in (1, 0.3)
    )
    assert whole.keys() == narrow.keys()
    own = 4 if name == "resnet50" else 1  # a bottleneck ends in four times its inner channels
    for path, leaf in whole.items():
        c = leaf.shape[-1]
        allowed = {max(int(c * 0.3), 24), own * max(int(c / own * 0.3), 24), c if c == 7 else 0}
        assert narrow[path].shape[-1] in allowed, path
    assert count(narrow) < count(whole)


@pytest.mark.parametrize("name", CLASSES)
def test_heads(name):
    """At the paper's size a convolutional head has the parameters and the output of the paper's, a dense one more."""
    side = ENTRIES[name].size
    found = {
        head: traced(create(name, num_classes=7, head=head), side) for head in ("dense", "convolutional", "pooled")
    }
    last = "fc6/dense" if name in ("alexnet", "vgg16") else "logits"
    usual = create(name).head
    assert jax.tree.map(jnp.shape, found["convolutional"][0]) == jax.tree.map(jnp.shape, found[usual][0])
    assert count(found["dense"][0]["params"]) > count(found["pooled"][0]["params"])
    assert last in found["dense"][2]
    assert {head: output.shape for head, (_, output, _) in found.items() if head != "convolutional"} == {
        "dense": (1, 7),
        "pooled": (1, 7),
    }


@pytest.mark.parametrize(
    ("name", "fields", "least"),
    [
        ("alexnet", {}, 67),
        ("alexnet", {"overlapping": False}, 39),
        ("alexnet", {"stem": "small"}, 7),
        ("alexnet_owt", {}, 63),  # torchvision's min_size
        ("alexnet_slim", {}, 195),
        ("alexnet_tf_benchmark", {}, 57),
        ("vgg16", {}, 32),
        ("vgg16", {"adaptive_pool": True}, 32),
        ("vgg16", {"head": "convolutional"}, 224),
        ("vgg16", {"stem": "small"}, 16),
        ("inception_v1", {}, 65),
        ("inception_v1", {"stem": "small"}, 17),
        ("inception_v1", {"auxiliary": False}, 1),
        ("inception_v1", {"auxiliary_pool": "adaptive"}, 1),
        ("inception_v1", {"max_pool": "ceil", "auxiliary": False}, 31),
        ("inception_v1", {"max_pool": "ceil"}, 79),
        ("inception_v1", {"max_pool": "ceil", "pool5": 2, "auxiliary": False}, 15),  # torchvision's min_size
        ("inception_v1", {"max_pool": "ceil", "stem": "small", "auxiliary": False}, 8),
        ("inception_v2", {"branches": ("1x1",)}, 1),
        ("inception_v2", {"branches": ("1x1",), "max_pool": "ceil"}, 31),
        ("inception_v2", {"branches": ("1x1",), "max_pool": "ceil", "stem": "small"}, 8),
        ("inception_v2", {"branches": ("1x1", "3x3"), "max_pool": "ceil"}, 7),
        ("inception_v3", {}, 75),
        ("inception_v3", {"stem_padding": "SAME"}, 49),
        ("inception_v3", {"stem": "small"}, 21),
        ("inception_v3", {"stem": "small", "stem_padding": "SAME"}, 13),
        ("resnet50", {}, 1),
        ("cifar_resnet_v2", {"depth": 8}, 1),
    ],
)
def test_smallest_images(name, fields, least):
    model = create(name, **fields)
    assert all(0 not in shape for shape in traced(model, least, least + 1)[2].values())
    for sizes in ((least - 1, least), (least, least - 1)):
        with pytest.raises(
            ValueError, match=rf"^images must be at least {least}x{least} pixels, got {'x'.join(map(str, sizes))}\b"
        ):
            traced(model, *sizes)


def test_auxiliary_heads_need_larger_images_only_in_training():
    model = create("inception_v1", stem="small", branches=("1x1",), num_classes=3)
    sizes = {(train, init): smallest_image(model, 3, train, init) for train in (False, True) for init in (False, True)}
    assert sizes == {(False, False): 1, (False, True): 17, (True, False): 17, (True, True): 17}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0.0}, "width must be positive and at most 1000, got 0.0"),
        ({"width": -0.1}, "width must be positive and at most 1000, got -0.1"),
        ({"min_depth": 0}, r"min_depth must be in \[1, 65535\], got 0"),
        ({"num_classes": 0}, r"num_classes must be None or in \[1, 2\*\*24\), got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.5}, r"dropout must be in \[0, 1\), got -0.5"),
        ({"norm": "layer"}, "norm must be one of batch, None, got 'layer'"),
        ({"activation": "gelu"}, "activation must be one of relu, tanh, sigmoid, got 'gelu'"),
        ({"head": "sliding"}, "head must be one of dense, convolutional, pooled(, None)?, got 'sliding'"),
        ({"head": "pool"}, "head must be one of dense, .*, got 'pool'; the nearest is 'pooled'"),
        ({"conv": "fast"}, "conv must be one of auto, lax, got 'fast'"),
    ],
)
def test_a_bad_shared_field_is_named(name, fields, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        create(name, **fields)
    with pytest.raises(ValueError, match=f"^{message}"):
        traced(type(create(name))(**fields), 32)


@pytest.mark.parametrize("name", CLASSES)
def test_each_field_is_explained(name):
    """A string below a field is its help on the command line."""
    explained = set()
    for cls in type(create(name)).__mro__:
        if not cls.__module__.startswith("classicnets"):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, [*tree.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                continue
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), (cls, ast.unparse(field))
            assert isinstance(text.value.value, str) and text.value.value.endswith("."), ast.unparse(field)
            explained.add(ast.unparse(field.target))
    assert explained == {f.name for f in dataclasses.fields(create(name))} - {"parent", "name"}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_record_names_its_network(name):
    facts = json.loads(json.dumps(described(create(name, num_classes=None))))
    found, fields = from_facts(facts)
    assert found == name
    again = create(found, **fields)
    assert described(again) == described(create(name, num_classes=None))
    assert isinstance(hash(again), int)


def test_a_name_is_entered_once():
    assert len(ENTRIES) == sum(len(family.ENTRIES) for family in FAMILIES) == 47
    assert set(CLASSES) <= set(ENTRIES)
    assert {type(create(name)) for name in CLASSES} == {entry.network for entry in ENTRIES.values()}
    assert all(entry.source for entry in ENTRIES.values())
    assert {entry.size for entry in ENTRIES.values()} == {32, 224, 227, 299}
