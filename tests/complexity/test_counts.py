"""Every published count of parameters, running statistics and multiply-adds, and every number that a paper prints."""

import math
from collections import defaultdict

import jax
import pytest

from classicnets.complexity.counts import describe, variables_of
from classicnets.complexity.printed import compared
from classicnets.models import ENTRIES, create, fields_of, input_size

TORCHVISION, TIMM, SLIM = "torchvision 0.29.1", "timm 1.0.31", "tf-slim"
KERAS, KERAS_NOTOP = "Keras applications", "Keras applications, include_top=False"
AKAMASTER, BEARPAW, KUANGLIU = "akamaster", "bearpaw/pytorch-classification", "kuangliu/pytorch-cifar"
COUNTED = "counted by an independent program from the paper's tables"

NO_AUX = {"auxiliary": False}
CIFAR = {"num_classes": 10}
SMALL = {**CIFAR, "stem": "small"}
FEATURES = {"num_classes": None}
V1_SLIM = {"padding": "same", "max_pool": "same", "use_scale": False, "auxiliary": False}
V3_SLIM = {"use_scale": False, "count_padding": False, "dropout": 0.2}

# (source, network, its fields, parameters, running statistics, multiply-adds at the network's own image size); None
# where the source does not say.
COUNTS = [
    (COUNTED, "alexnet", {}, 60_965_224, 0, 724_406_816),
    (COUNTED, "alexnet", {"towers": 1}, 62_378_344, 0, 1_135_256_096),
    (TORCHVISION, "alexnet_owt", {}, 61_100_840, 0, 714_188_480),
    (SLIM, "alexnet_slim", {}, 50_303_912, 0, 736_555_776),
    (SLIM, "alexnet_slim", FEATURES, 46_206_912, 0, None),
    ("TensorFlow alexnet_benchmark, torchvision alexnet.features", "alexnet_tf_benchmark", {}, 2_469_696, 0, None),
    (BEARPAW, "alexnet_owt", {**CIFAR, "head": "pooled"}, 2_472_266, 0, None),
    (f"{TORCHVISION}, {SLIM} vgg_a", "vgg11", {}, 132_863_336, 0, 7_609_090_048),
    (COUNTED, "vgg11_lrn", {}, 132_863_336, 0, 7_609_090_048),
    (TORCHVISION, "vgg13", {}, 133_047_848, 0, 11_308_466_176),
    (COUNTED, "vgg16_c", {}, 133_638_952, 0, 11_770_888_192),
    (f"{TORCHVISION}, {SLIM}, {KERAS}", "vgg16", {}, 138_357_544, 0, 15_470_264_320),
    (f"{TORCHVISION}, {SLIM}, {KERAS}", "vgg19", {}, 143_667_240, 0, 19_632_062_464),
    (TORCHVISION, "vgg11_bn", {}, 132_868_840, 5_504, 7_609_090_048),
    (TORCHVISION, "vgg13_bn", {}, 133_053_736, 5_888, 11_308_466_176),
    (TORCHVISION, "vgg16_bn", {}, 138_365_992, 8_448, 15_470_264_320),
    (TORCHVISION, "vgg19_bn", {}, 143_678_248, 11_008, 19_632_062_464),
    (SLIM, "vgg11", FEATURES, 128_766_336, 0, None),
    (SLIM, "vgg16", FEATURES, 134_260_544, 0, None),
    (SLIM, "vgg19", FEATURES, 139_570_240, 0, None),
    (SLIM, "vgg16", {"head": "convolutional"}, 138_357_544, 0, 15_470_264_320),
    (KERAS_NOTOP, "vgg16", {**FEATURES, "head": None}, 14_714_688, 0, None),
    (KERAS_NOTOP, "vgg19", {**FEATURES, "head": "pooled"}, 20_024_384, 0, None),
    (KUANGLIU, "vgg11_bn", {**CIFAR, "head": "pooled"}, 9_231_114, 5_504, None),
    (KUANGLIU, "vgg13_bn", {**CIFAR, "head": "pooled"}, 9_416_010, 5_888, None),
    (f"{KUANGLIU}, {BEARPAW}", "vgg16_bn", {**CIFAR, "head": "pooled"}, 14_728_266, 8_448, None),
    (f"{KUANGLIU}, {BEARPAW}", "vgg19_bn", {**CIFAR, "head": "pooled"}, 20_040_522, 11_008, None),
    (f"{COUNTED}, both heads", "inception_v1", {}, 13_378_280, 0, 1_582_671_872),
    (COUNTED, "inception_v1", NO_AUX, 6_998_552, 0, 1_582_671_872),
    (TORCHVISION, "inception_v1_bn", {}, 13_004_888, 15_072, 1_498_376_192),
    (f"{TORCHVISION}, aux_logits=False", "inception_v1_bn", NO_AUX, 6_624_904, 14_560, 1_498_376_192),
    (SLIM, "inception_v1_bn", V1_SLIM, 6_617_624, 14_560, None),
    (f"{SLIM}, base", "inception_v1_bn", {**V1_SLIM, **FEATURES}, 5_592_624, 14_560, None),
    (f"{SLIM}, base, scale", "inception_v1_bn", {**V1_SLIM, **FEATURES, "use_scale": True}, 5_599_904, 14_560, None),
    (COUNTED, "inception_v2", {}, 11_285_224, 20_032, None),
    (f"{COUNTED}, and the text's stem", "inception_v2", {"use_separable": True}, 11_278_528, 20_032, None),
    (SLIM, "inception_v2_slim", {}, 11_178_336, 19_776, None),
    (f"{SLIM}, base", "inception_v2_slim", FEATURES, 10_153_336, 19_776, None),
    (f"{SLIM}, base, scale", "inception_v2_slim", {**FEATURES, "use_scale": True}, 10_163_224, 19_776, None),
    (f"{SLIM}, base", "inception_v2_slim", {**FEATURES, "use_separable": False}, 10_160_032, 19_904, None),
    (f"{SLIM}, base, half", "inception_v2_slim", {**FEATURES, "width": 0.5}, 2_542_088, 9_888, None),
    (f"{SLIM}, base, quarter", "inception_v2_slim", {**FEATURES, "width": 0.25}, 638_159, 4_960, None),
    (f"{SLIM}, base, double", "inception_v2_slim", {**FEATURES, "width": 2.0}, 40_586_840, 39_552, None),
    (f"{TORCHVISION}, {SLIM} with scale", "inception_v3", {}, 27_161_264, 36_224, 5_713_216_096),
    (f"{TORCHVISION}, {TIMM}, no head", "inception_v3", NO_AUX, 23_834_568, 34_432, 5_713_216_096),
    (SLIM, "inception_v3", V3_SLIM, 27_143_152, 36_224, None),
    (f"{SLIM} without head, {KERAS}", "inception_v3", {**V3_SLIM, **NO_AUX}, 23_817_352, 34_432, None),
    (f"{SLIM} base, {KERAS_NOTOP}", "inception_v3", {**V3_SLIM, **FEATURES}, 21_768_352, 34_432, None),
    (f"{SLIM}, base, scale", "inception_v3", FEATURES, 21_785_568, 34_432, None),
    (f"{SLIM}, base, half", "inception_v3", {**V3_SLIM, **FEATURES, "width": 0.5}, 5_446_608, 17_216, None),
    (f"{SLIM}, base, quarter", "inception_v3", {**V3_SLIM, **FEATURES, "width": 0.25}, 1_373_476, 8_680, None),
    (f"{SLIM}, base, double", "inception_v3", {**V3_SLIM, **FEATURES, "width": 2.0}, 87_037_248, 68_864, None),
    (f"{TORCHVISION}, {TIMM}", "resnet18", {}, 11_689_512, 9_600, 1_814_073_344),
    (f"{TORCHVISION}, {TIMM}", "resnet34", {}, 21_797_672, 17_024, 3_663_761_408),
    (COUNTED, "plain18", {}, 11_515_688, None, 1_794_805_760),
    (COUNTED, "plain34", {}, 21_623_848, None, 3_644_493_824),
    (COUNTED, "resnet50", {}, 25_557_032, 53_120, 3_857_973_248),
    (COUNTED, "resnet101", {}, 44_549_160, 105_344, 7_570_194_432),
    (COUNTED, "resnet152", {}, 60_192_808, 151_424, 11_282_415_616),
    (TIMM, "resnet200", {}, 64_673_832, 176_000, None),
    (f"{TORCHVISION}, {TIMM}, pycls", "resnet50_v1_5", {}, 25_557_032, 53_120, 4_089_184_256),
    (f"{TORCHVISION}, {TIMM}, pycls", "resnet101_v1_5", {}, 44_549_160, 105_344, 7_801_405_440),
    (f"{TORCHVISION}, {TIMM}, pycls", "resnet152_v1_5", {}, 60_192_808, 151_424, 11_513_626_624),
    (f"{TORCHVISION}, {TIMM}", "wide_resnet50_2", {}, 68_883_240, 68_224, None),
    (f"{TORCHVISION}, {TIMM}", "wide_resnet101_2", {}, 126_886_696, 137_856, None),
    (SLIM, "resnet50_v1_slim", {}, 25_557_032, 53_120, None),
    (SLIM, "resnet101_v1_slim", {}, 44_549_160, 105_344, None),
    (SLIM, "resnet152_v1_slim", {}, 60_192_808, 151_424, None),
    (SLIM, "resnet200_v1_slim", {}, 64_673_832, 176_000, None),
    (f"{SLIM}, 1001 classes", "resnet50_v1_slim", {"num_classes": 1001}, 25_559_081, 53_120, None),
    (f"{SLIM}, 1001 classes", "resnet101_v1_slim", {"num_classes": 1001}, 44_551_209, 105_344, None),
    (f"{SLIM}, 1001 classes", "resnet152_v1_slim", {"num_classes": 1001}, 60_194_857, 151_424, None),
    (f"{SLIM}, 1001 classes", "resnet200_v1_slim", {"num_classes": 1001}, 64_675_881, 176_000, None),
    (f"{SLIM}, base", "resnet50_v1_slim", FEATURES, 23_508_032, 53_120, None),
    (f"{SLIM}, base", "resnet101_v1_slim", FEATURES, 42_500_160, 105_344, None),
    (f"{SLIM}, base", "resnet152_v1_slim", FEATURES, 58_143_808, 151_424, None),
    (f"{SLIM}, base", "resnet200_v1_slim", FEATURES, 62_624_832, 176_000, None),
    (KERAS, "resnet50", {"biases": "all"}, 25_583_592, 53_120, None),
    (KERAS, "resnet101", {"biases": "all"}, 44_601_832, 105_344, None),
    (KERAS, "resnet152", {"biases": "all"}, 60_268_520, 151_424, None),
    (KERAS_NOTOP, "resnet50", {**FEATURES, "biases": "all"}, 23_534_592, 53_120, None),
    (KERAS_NOTOP, "resnet101", {**FEATURES, "biases": "all"}, 42_552_832, 105_344, None),
    (KERAS_NOTOP, "resnet152", {**FEATURES, "biases": "all"}, 58_219_520, 151_424, None),
    (KUANGLIU, "resnet18", SMALL, 11_173_962, 9_600, None),
    (KUANGLIU, "resnet34", SMALL, 21_282_122, 17_024, None),
    (KUANGLIU, "resnet50", SMALL, 23_520_842, 53_120, None),
    (KUANGLIU, "resnet101", SMALL, 42_512_970, 105_344, None),
    (KUANGLIU, "resnet152", SMALL, 58_156_618, 151_424, None),
    (TIMM, "resnet50_v2", {}, 25_549_352, 45_440, None),
    (TIMM, "resnet101_v2", {}, 44_541_480, 97_664, None),
    (TIMM, "resnet152_v2", {}, 60_185_128, 143_744, None),
    (f"{SLIM} resnet_v2_200 without its biases", "resnet200_v2", {}, 64_666_152, 168_320, None),
    (f"{SLIM}, {KERAS}", "resnet50_v2_slim", {}, 25_568_360, 45_440, None),
    (f"{SLIM}, {KERAS}", "resnet101_v2_slim", {}, 44_577_896, 97_664, None),
    (f"{SLIM}, {KERAS}", "resnet152_v2_slim", {}, 60_236_904, 143_744, None),
    (SLIM, "resnet200_v2_slim", {}, 64_726_120, 168_320, None),
    (f"{SLIM}, 1001 classes", "resnet50_v2_slim", {"num_classes": 1001}, 25_570_409, 45_440, None),
    (f"{SLIM}, 1001 classes", "resnet101_v2_slim", {"num_classes": 1001}, 44_579_945, 97_664, None),
    (f"{SLIM}, 1001 classes", "resnet152_v2_slim", {"num_classes": 1001}, 60_238_953, 143_744, None),
    (f"{SLIM}, base", "resnet200_v2_slim", FEATURES, 62_677_120, 168_320, None),
    (f"{SLIM}, 1001 classes", "resnet200_v2_slim", {"num_classes": 1001}, 64_728_169, 168_320, None),
    (KERAS_NOTOP, "resnet50_v2_slim", FEATURES, 23_519_360, 45_440, None),
    (KERAS_NOTOP, "resnet101_v2_slim", FEATURES, 42_528_896, 97_664, None),
    (KERAS_NOTOP, "resnet152_v2_slim", FEATURES, 58_187_904, 143_744, None),
    *(
        (f"{AKAMASTER}, option A", "cifar_resnet", {"depth": depth, "shortcut": shortcut}, parameters, statistics, macs)
        for shortcut in ("none", "A")
        for depth, parameters, statistics, macs in (
            (20, 269_722, 1_376, 40_551_040),
            (32, 464_154, 2_272, 68_862_592),
            (44, 658_586, 3_168, 97_174_144),
            (56, 853_018, 4_064, 125_485_696),
            (110, 1_727_962, 8_096, 252_887_680),
            (1202, 19_421_274, 89_632, 2_829_238_912),
        )
    ),
    *(
        (f"{AKAMASTER}, option B", "cifar_resnet", {"depth": depth, "shortcut": "B"}, parameters, statistics, macs)
        for depth, parameters, statistics, macs in (
            (20, 272_474, 1_568, 40_813_184),
            (32, 466_906, 2_464, 69_124_736),
            (44, 661_338, 3_360, 97_436_288),
            (56, 855_770, 4_256, 125_747_840),
            (110, 1_730_714, 8_288, 253_149_824),
            (1202, 19_424_026, 89_824, None),
        )
    ),
    (COUNTED, "cifar_resnet", {"depth": 56, "shortcut": "none", "width": 2.0}, 3_401_770, None, 501_056_768),
    (BEARPAW, "cifar_resnet_v2", {"depth": 110, "block": "basic"}, 1_730_522, 8_096, None),
    (COUNTED, "cifar_resnet_v2", {"depth": 164, "block": "bottleneck"}, 1_703_258, None, None),
    (COUNTED, "cifar_resnet_v2", {"depth": 1001, "block": "bottleneck"}, 10_327_706, None, None),
    (BEARPAW, "cifar_wide_resnet", {"depth": 28, "widen": 10}, 36_479_194, 17_952, 5_243_328_768),
    *(
        (COUNTED, "cifar_wide_resnet", {"depth": depth, "widen": widen}, parameters, None, macs)
        for depth, widen, parameters, macs in (
            (16, 4, 2_748_890, 392_612_352),
            (16, 8, 10_961_370, 1_548_145_664),
            (16, 10, 17_116_634, 2_412_173_568),
            (22, 8, 17_158_106, 2_454_115_328),
            (40, 1, 563_930, 83_280_512),
            (40, 2, 2_243_546, 327_599_360),
            (40, 4, 8_949_210, 1_298_582_016),
        )
    ),
]


def images_of(name):
    return (input_size(name), input_size(name), 3)


def numbers(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("source", "name", "fields", "parameters", "statistics", "macs"), COUNTS)
def test_published_counts(source, name, fields, parameters, statistics, macs):
    model = create(name, **fields)
    if statistics is not None:
        variables = variables_of(model, images_of(name))
        assert numbers(variables["params"]) == parameters
        assert numbers(variables.get("batch_stats", {})) == statistics
    if macs is not None or statistics is None:
        found = describe(model, images_of(name))
        assert (found["parameters"], found["macs"]) == (parameters, macs if macs is not None else found["macs"])
        assert sum(layer["parameters"] for layer in found["layers"]) == parameters
        assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_counts_of_an_entry(name):
    found = describe(create(name), images_of(name))
    assert (ENTRIES[name].parameters, ENTRIES[name].macs) == (found["parameters"], found["macs"])


def test_every_name_has_a_published_count():
    assert {name for _, name, *_ in COUNTS} == set(ENTRIES)


# Where counting gives another number than the paper prints, and no rounding explains it.
DIFFERENCES = {
    ("alexnet", "outputs", "253,440"),
    ("alexnet", "outputs", "650,000"),
    ("inception_v3", "macs", "5 G"),
    ("inception_v3", "macs", "4.8 G"),
    ("vgg16", "macs", "15.3 G"),
    ("inception_v1", "parameters", "2.7K"),
    ("inception_v1", "macs", "34M"),
    *(("inception_v1", "parameters", f"{k}K") for k in (364, 437, 463, 580, 840, 1072, 1388)),
    ("inception_v1", "macs", "54M"),
    ("inception_v2", "parameters", "13.6 M"),
    ("inception_v3", "parameters", "25 M"),
    ("cifar_resnet_v2", "parameters", "10.2 M"),
}


def test_what_the_papers_print():
    seen, differing = 0, set()
    for name, printed in ((name, entry.printed) for name, entry in ENTRIES.items()):
        defaults = {field: default for field, _, default in fields_of(name)}
        for fields in {str(one.fields): one.fields for one in printed}.values():
            found = describe(create(name, **fields), images_of(name))
            for row in compared(name, {**defaults, **fields}, defaults, found):
                seen += 1
                assert row["counted"] > 0
                assert bool(row["why"]) == (row["verdict"] == "differs")
                if row["verdict"] == "differs":
                    differing.add((name, row["quantity"], row["printed"]))
            assert not list(compared(name, {**fields, "width": 2.0}, defaults, found))
    assert seen == sum(len(entry.printed) for entry in ENTRIES.values())
    assert differing == DIFFERENCES


def test_equal_counts_of_different_networks_are_noted():
    names = defaultdict(list)
    for _, name, fields, parameters, _, _ in COUNTS:
        if not fields:
            names[parameters].append(name)
    assert {name for group in names.values() if len(group) > 1 for name in group} <= {
        n for n, e in ENTRIES.items() if e.note
    }
    assert "torchvision's resnet50" in ENTRIES["resnet50"].note
