"""PyTorch, eager or compiled, with channels last: torchvision's networks, and the CIFAR ResNets of He et al."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from experiments.peers import Work, serve

torch: Any = import_module("torch")
nn, functional = torch.nn, torch.nn.functional
# Ours -> torchvision's, whose initial values are left out where they take minutes.
NAMES = {"alexnet_owt": "alexnet", "inception_v1_bn": "googlenet", "resnet50_v1_5": "resnet50"}
RATE, MOMENTUM, DECAY, AUXILIARY = 0.01, 0.9, 1e-4, 0.3


class Block(nn.Module):
    """Two 3x3 convolutions, beside a shortcut without parameters (option A) or none."""

    def __init__(self, before: int, after: int, stride: int, shortcut: str):
        super().__init__()
        self.shortcut = shortcut
        self.conv1, self.norm1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.stride, self.added = stride, after - before

    def forward(self, x: Any) -> Any:
        """Return relu(x + f(x)), or relu(f(x))."""
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.shortcut == "none":
            return functional.relu(y, inplace=True)
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.added))
        return functional.relu(y + x, inplace=True)


def cifar_resnet(depth: int, shortcut: str = "A", channels: int = 3) -> Any:
    """Return the network of section 4.2, of 6 n + 2 layers."""
    layers, before = [nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)], 16
    for width in (16, 32, 64):
        for i in range((depth - 2) // 6):
            layers.append(Block(before, width, 2 if i == 0 and width > 16 else 1, shortcut))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def network(work: Work) -> Any:
    """Return the peer of a network of ours."""
    if work.network == "cifar_resnet":
        return cifar_resnet(work.fields["depth"])
    options = {"init_weights": False} if work.network.startswith("inception") else {}
    return getattr(import_module("torchvision").models, NAMES.get(work.network, work.network))(**options)


def make(work: Work) -> tuple[Callable[[], None], int]:
    """Return one step of SGD with momentum on fixed random images."""
    model = network(work).to(memory_format=torch.channels_last).train()
    images = torch.randn(work.batch, 3, work.side, work.side).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    apply = torch.compile(model) if "--compile" in sys.argv else model
    labels = torch.arange(work.batch) % (10 if work.network == "cifar_resnet" else 1000)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        outputs = apply(images)
        heads = [head for head in outputs if head is not None] if isinstance(outputs, tuple) else [outputs]
        losses = [functional.cross_entropy(head, labels) for head in heads]
        (losses[0] + AUXILIARY * sum(losses[1:])).backward()
        optimizer.step()

    return step, 1


if __name__ == "__main__":
    serve(make)
