"""One value has one form, whatever it is given as, and what is no value of a field is refused in one sentence."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from classicnets.data import DataConfig
from classicnets.models import ENTRIES, create
from classicnets.models.alexnet import AlexNet
from classicnets.models.inception_v1 import InceptionV1
from classicnets.models.inception_v2 import InceptionV2
from classicnets.models.inception_v3 import InceptionV3
from classicnets.models.resnet import CifarResNet, ResNet
from classicnets.models.resnet_v2 import CifarResNetV2, CifarWideResNet
from classicnets.models.vgg import VGG
from classicnets.system import fields
from classicnets.training import Config, Execution, Recipe

NETWORKS = (
    AlexNet,
    VGG,
    InceptionV1,
    InceptionV2,
    InceptionV3,
    CifarResNet,
    ResNet,
    CifarResNetV2,
    CifarWideResNet,
)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, 1.0),
        (1, float | None, 1.0),
        (np.float32(0.1), float, 0.1),
        (np.float16(0.1), float, 0.1),
        (jnp.bfloat16(0.1), float, 0.1),
        (np.array(0.1, np.float32), float, 0.1),
        (jnp.float32(1e-4), float, 1e-4),
        (np.float64(0.1) + np.float64(0.2), float, 0.1 + 0.2),
        (np.float16(65504), float, 65500.0),
        (np.float32(np.inf), float, math.inf),
        (np.int64(7), float, 7.0),
        (-0.0, float, 0.0),
        (np.float32(-0.0), float, 0.0),
        (np.int64(3), int, 3),
        (np.uint8(255), int | None, 255),
        (jnp.int32(3), int, 3),
        (np.bool_(True), bool, True),
        (np.str_("A"), str, "A"),
        (np.str_("A"), Literal["A", "B"] | None, "A"),
        (np.int32(3), Literal[5, 3], 3),
        ([1, np.int64(2)], tuple[int, ...], (1, 2)),
        (np.arange(2), tuple[int, ...], (0, 1)),
        (jnp.arange(2), tuple[int, ...] | None, (0, 1)),
        ([1, np.float32(0.1)], tuple[float, ...], (1.0, 0.1)),
        (np.array(["a", "b"]), tuple[str, ...], ("a", "b")),
        (None, int | None, None),
        ("anything", Any, "anything"),
    ],
)
def test_a_value_in_another_form_is_converted(value, annotation, expected):
    result = fields.converted(value, annotation)
    assert (repr(result), type(result)) == (repr(expected), type(expected))
    assert fields.fits(result, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (True, float),
        (np.bool_(True), int),
        (1, bool),
        (np.int64(1), bool),
        ("False", bool),
        (100.0, int),
        (np.float64(100.0), int | None),
        ("1", int),
        (1, str),
        (None, int),
        ("32", tuple[int, ...]),
        ({1, 2}, tuple[int, ...]),
        ([1, 2.0], tuple[int, ...]),
        (5.0, Literal[5, 3]),
        (True, Literal[1, 2]),
        (10**400, float),
        (np.zeros((2, 2)), tuple[float, ...]),
        (np.float32, float),
        (1 + 2j, float),
    ],
)
def test_another_value_is_not(value, annotation):
    assert not fields.fits(fields.converted(value, annotation), annotation)


def test_a_traced_value_passes():
    assert jax.jit(lambda rate: replace(Recipe(), learning_rate=rate).learning_rate * 2)(0.5) == 1.0


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (DataConfig(augment="False"), "augment must be True or False, got 'False'"),
        (DataConfig(validation_size=0.1), "validation_size must be an integer or None, got 0.1"),
        (DataConfig(train_size=100.0), "train_size must be an integer or None, got 100.0"),
        (DataConfig(image_size=(32, 32)), "image_size must be an integer or None, got (32, 32)"),
        (DataConfig(dataset=None), "dataset must be a string, got None"),
        (
            DataConfig(normalise="chanel"),
            "normalise must be one of channel, pixel, got 'chanel'; the nearest is 'channel'",
        ),
        (Recipe(schedule="step", boundaries=32), "boundaries must be a tuple of an integer, got 32"),
        (Recipe(schedule="step", boundaries=[32.5]), "boundaries must be a tuple of an integer, got (32.5,)"),
        (Recipe(schedule="step", boundaries="32"), "boundaries must be a tuple of an integer, got '32'"),
        (
            Recipe(schedule="step", boundaries=np.eye(2)),
            "boundaries must be a tuple of an integer, got array([[1., 0.], [0., 1.]])",
        ),
        (Recipe(schedule="step"), "boundaries must not be empty where schedule is step, got ()"),
        (
            Recipe(schedule=None),
            "schedule must be one of cosine, step, constant, linear, polynomial, exponential, plateau, got None",
        ),
        (Recipe(learning_rate="0.1"), "learning_rate must be a number, got '0.1'"),
        (Recipe(learning_rate=np.float32(np.nan)), "learning_rate must be finite, got nan"),
        (Recipe(clip_norm=math.inf), "clip_norm must be finite, got inf"),
        (Recipe(steps=2**31), "steps must be less than 2**31, got 2147483648"),
        (Recipe(epochs=True), "epochs must be an integer, got True"),
        (Execution(devices=1.0), "devices must be an integer or None, got 1.0"),
        (Execution(keep=None), "keep must be an integer, got None"),
        (Execution(tensorboard=1), "tensorboard must be True or False, got 1"),
        (Config(seed=True), "seed must be an integer, got True"),
        (Config(seed=-(2**31)), "seed must be more than -2**31, got -2147483648"),
        (Config(data=None), "data must be a DataConfig, got None"),
        (Config(recipe={"epochs": 3}), "recipe must be a Recipe, got {'epochs': 3}"),
        (Config(DataConfig(augment="False")), "augment must be True or False, got 'False'"),
    ],
)
def test_a_config_that_cannot_be_is_refused(config, sentence):
    with pytest.raises(ValueError) as refused:
        config.check()
    assert str(refused.value) == sentence


def test_data_check_and_load_refuse_alike():
    with pytest.raises(ValueError, match="train_size must be an integer or None"):
        DataConfig.check(DataConfig(train_size=100.0))


def test_values_of_numpy_make_the_same_config():
    for rate in np.logspace(-2, 0, 3):
        assert type(Recipe(learning_rate=rate).learning_rate) is float
    same = [
        (Recipe(5, momentum=0), Recipe(np.int64(5), momentum=-0.0)),
        (Recipe(schedule="step", boundaries=(2, 3)), Recipe(schedule=np.str_("step"), boundaries=np.array([2, 3]))),
        (DataConfig(train_size=100, augment=False), DataConfig(train_size=np.int32(100), augment=np.bool_(False))),
        (Execution(checkpoint_seconds=3.0), Execution(checkpoint_seconds=np.int64(3))),
        (Config(seed=3), Config(seed=np.int64(3))),
    ]
    for one, other in same:
        one.check()
        other.check()
        assert (repr(one), hash(one)) == (repr(other), hash(other))


def test_a_long_value_is_cut_and_stays_on_one_line():
    with pytest.raises(ValueError) as refused:
        Recipe(boundaries=["x" * 50] * 10).check()
    assert len(str(refused.value)) < 260
    assert "\n" not in str(refused.value)


def test_optional_choices_and_elements():
    @dataclass(frozen=True)
    class Example:
        letter: Literal["A", "B"] | None = None
        letters: tuple[Literal["A", "B"], ...] = ()

    fields.check(Example("A", ("A", "B")))
    with pytest.raises(ValueError, match=r"^letter must be one of A, B, None, got 'C'$"):
        fields.check(Example("C"))
    with pytest.raises(ValueError, match=r"^letters must be one of A, B, got 'C'$"):
        fields.check(Example(letters=("A", "C")))
    with pytest.raises(ValueError, match=r"^letters must be a tuple of 'A', 'B', got 'A'$"):
        fields.check(Example(letters="A"))


@pytest.mark.parametrize("network", NETWORKS)
def test_one_network_has_one_form(network):
    labels = np.array([0, 3, 9], np.int32)
    one = network(width=1.0, num_classes=10, dtype=jnp.float32, dropout=0.0)
    other = network(width=np.int64(1), num_classes=labels.max() + 1, dtype="float32", dropout=-0.0)
    other.check()
    assert (one, hash(one), repr(one)) == (other, hash(other), repr(other))
    assert type(other.num_classes) is int
    assert other.clone(num_classes=jnp.int32(5)) == network(width=1, num_classes=5, dropout=0)


def test_lists_and_arrays_make_the_same_network():
    one = ResNet(units=(1, 2), features=(8, 16))
    assert hash(ResNet(units=[1, 2], features=np.array([8, 16]))) == hash(one)
    assert ResNet(units=[1, 2], features=np.array([8, 16])) == one
    assert InceptionV3(branches=["1x1", "pool"]) == InceptionV3(branches=("1x1", "pool"))
    assert create("resnet18", num_classes=np.int32(7)) == create("resnet18", num_classes=7)


def test_conversion_leaves_a_bad_value_to_check():
    network = CifarResNet(width="2", dtype="float8")
    with pytest.raises(ValueError, match="width must be a number, got '2'"):
        network.check()


def test_the_kinds_of_networks_are_frozen():
    """They name recorded runs: a class that moves keeps its kind, and this table never changes, only grows."""
    assert {network.__name__: network.kind for network in NETWORKS} == {
        "AlexNet": "classicnets.models.alexnet:AlexNet",
        "VGG": "classicnets.models.vgg:VGG",
        "InceptionV1": "classicnets.models.inception_v1:InceptionV1",
        "InceptionV2": "classicnets.models.inception_v2:InceptionV2",
        "InceptionV3": "classicnets.models.inception_v3:InceptionV3",
        "CifarResNet": "classicnets.models.resnet:CifarResNet",
        "ResNet": "classicnets.models.resnet:ResNet",
        "CifarResNetV2": "classicnets.models.resnet_v2:CifarResNetV2",
        "CifarWideResNet": "classicnets.models.resnet_v2:CifarWideResNet",
    }
    classes = {type(create(name)) for name in ENTRIES}
    assert classes == set(NETWORKS)
    assert all("kind" in vars(network) for network in classes)
    assert len({network.kind for network in classes}) == len(classes)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(2, 3, 224, 224), (2, 1, 224, 224), (2, 4, 300, 300), (2, 3, 300, 400)])
def test_channels_first_are_refused(network, shape):
    with pytest.raises(ValueError) as refused:
        jax.eval_shape(lambda: network().init(jax.random.key(0), jnp.zeros(shape), train=False))
    assert str(refused.value) == f"images must be [n, h, w, c], got {list(shape)}; move the channels last"


@pytest.mark.parametrize("shape", [(1, 1, 1, 512), (1, 3, 3, 64), (1, 4, 4, 256), (1, 1, 28, 3), (1, 4, 32, 64)])
def test_small_maps_are_taken(shape):
    network = CifarResNet(depth=8)
    logits, _ = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), jnp.zeros(shape), train=False))
    assert logits.shape == (1, 10)
