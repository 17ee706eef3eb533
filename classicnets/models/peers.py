"""What other libraries call these networks: patterns of their names -> our name and the fields that theirs stand for.

Of torchvision, timm, Keras, tf-slim, pycls and the CIFAR repositories. torchvision's resnet50 is named resnet50_v1_5
here, since resnet50 is the paper's; `classicnets describe resnet50` says so.
"""

import re
from typing import Any

# Compared without case, - and _, a dot before a last number that follows one; groups are the fields in braces.
PEERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (r"(?:caffe)?alexnet(?:v1|2012|bvlc)?", "alexnet", {}),
    (r"alexnet(?:v2|slim)", "alexnet_slim", {}),
    (r"(?:alexnet)?(?:owt|oneweirdtrick)|torchvisionalexnet", "alexnet_owt", {}),
    (r"vgga|vgg11a", "vgg11", {}),
    (r"vggb", "vgg13", {}),
    (r"vggc|vgg16c", "vgg16_c", {}),
    (r"vgg(?:16)?d", "vgg16", {}),
    (r"vgg(?:19)?e", "vgg19", {}),
    (r"vgg(11|13|16|19)(?:tv\w*)?", "vgg{0}", {}),
    (r"vgg(11|13|16|19)bn(?:tv\w*)?", "vgg{0}_bn", {}),
    (r"googlenet|googlenetv1|gnet|inception|inceptionv1", "inception_v1", {}),
    (r"googlenetbn|torchvisiongooglenet", "inception_v1_bn", {}),
    (r"bninception|inceptionbn|googlenetv2|inceptionv2", "inception_v2", {}),
    (r"inceptionv3|googlenetv3|tfinceptionv3", "inception_v3", {}),
    (r"(?:cifar\d*)?resnet(20|32|44|56|110|1202)(?:cifar\d*|v1)?", "cifar_resnet", {"depth": "{0}"}),
    (r"(?:cifar\d*)?plain(20|32|44|56|110)(?:cifar\d*)?", "cifar_resnet", {"depth": "{0}", "shortcut": "none"}),
    (
        r"(?:cifar\d*)?(?:preact|pre)resnet(110)(?:cifar\d*)?",
        "cifar_resnet_v2",
        {"depth": "{0}", "block": "basic"},
    ),
    (
        r"(?:cifar\d*)?(?:preact|pre)?resnet(164|1001)(?:v2)?(?:cifar\d*)?",
        "cifar_resnet_v2",
        {"depth": "{0}", "block": "bottleneck"},
    ),
    (r"wideresnet(50|101)\.2", "wide_resnet{0}_2", {}),
    (r"(?:wrn|wideresnet|cifarwideresnet)(\d+)\.(\d+)", "cifar_wide_resnet", {"depth": "{0}", "widen": "{1}"}),
    (r"resnetv1(50|101|152|200)", "resnet{0}_v1_slim", {}),
    (r"resnetv2(50|101|152|200)", "resnet{0}_v2_slim", {}),
    (r"(?:preact)resnet(50|101|152|200)", "resnet{0}_v2", {}),
    (r"resnet(50|101|152)(?:v15|tv\w*|1b)", "resnet{0}_v1_5", {}),
    (r"resnet(18|34|50|101|152|200)(?:v1)?", "resnet{0}", {}),
    (r"resnet(50|101|152|200)v2", "resnet{0}_v2", {}),
)


def ours(name: str) -> tuple[str, dict[str, Any]] | None:
    """Return (our name, fields) of the network that another library calls `name`, None if it is none of ours."""
    word = re.sub(r"(?<=\d)[-_x.](?=\d+$)", ".", name.lower())
    word = re.sub(r"[-_ ]", "", word)
    for pattern, network, fields in PEERS:
        match = re.fullmatch(pattern, word if r"\." in pattern else word.replace(".", ""))
        if match:
            values = {field: value.format(*match.groups()) for field, value in fields.items()}
            return network.format(*match.groups()), {k: int(v) if v.isdigit() else v for k, v in values.items()}
    return None
