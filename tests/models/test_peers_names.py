"""What a name that is not ours is answered with: the network that it means here, a near name, or no hint."""

import pytest

from classicnets.models import ENTRIES, create
from classicnets.models.peers import ours


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("googlenet", "it is 'inception_v1' here"),
        ("GoogLeNet", "it is 'inception_v1' here"),
        ("bninception", "it is 'inception_v2' here"),
        ("Inception-BN", "it is 'inception_v2' here"),
        ("InceptionV3", "it is 'inception_v3' here"),
        ("inception-v3", "it is 'inception_v3' here"),
        ("alexnet_v2", "it is 'alexnet_slim' here"),
        ("vgg_a", "it is 'vgg11' here"),
        ("vgg_16", "it is 'vgg16' here"),
        ("VGG16", "it is 'vgg16' here"),
        ("ResNet50", "it is 'resnet50' here"),
        ("resnet-50", "it is 'resnet50' here"),
        ("ResNet50V2", "it is 'resnet50_v2' here"),
        ("resnet_v1_50", "it is 'resnet50_v1_slim' here"),
        ("resnet_v2_101", "it is 'resnet101_v2_slim' here"),
        (
            "resnet56",
            "it is 'cifar_resnet' here: create('cifar_resnet', depth=56), on the command line cifar_resnet --depth 56",
        ),
        (
            "WRN-28-10",
            "it is 'cifar_wide_resnet' here: create('cifar_wide_resnet', depth=28, widen=10), "
            "on the command line cifar_wide_resnet --depth 28 --widen 10",
        ),
        (
            "plain20",
            "it is 'cifar_resnet' here: create('cifar_resnet', depth=20, shortcut='none'), "
            "on the command line cifar_resnet --depth 20 --shortcut none",
        ),
        ("resnt50", "the nearest is 'resnet50'"),
        ("cifar_resnt", "the nearest is 'cifar_resnet'"),
        *(
            (name, "it is not among the networks, which 'classicnets models' lists")
            for name in (
                "densenet121",
                "mobilenet_v2",
                "efficientnet_b0",
                "vit_b_16",
                "resnet50d",
                "resnet51",
                "lenet",
                "resnext50_32x4d",
            )
        ),
    ],
)
def test_a_hint_helps_or_is_not_given(name, end):
    with pytest.raises(ValueError) as refused:
        create(name)
    assert str(refused.value) == f"unknown model {name!r}; {end}"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {"depth": 20}) for name in ("resnet20_cifar10", "cifar_resnet20", "cifar10_resnet20", "resnet20")),
        *((name, {"depth": 28, "widen": 10}) for name in ("wrn_28_10", "wide_resnet28_10", "wideresnet28-10")),
        ("preresnet164", {"depth": 164, "block": "bottleneck"}),
    ],
)
def test_the_networks_of_cifar_are_one_with_fields(name, fields):
    network, found = ours(name)
    assert found == fields
    create(network, **found)


def test_no_name_of_ours_is_a_peers_of_another():
    for name in ENTRIES:
        network, _ = ours(name) or (name, {})
        assert network not in ENTRIES or network == name
