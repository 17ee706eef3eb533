"""The same networks in PyTorch and Keras, timed beside ours: torchvision's and Keras's own, in their best form."""

import os
from collections.abc import Callable
from typing import Any

from classicnets.training.benchmark import Case

MISSING = "--peer {0} needs {1}: pip install 'classicnets[peers]'"


def torch_case(name: str, batch_size: int, image_size: int, train: bool) -> Case:
    """Return torchvision's network `name`, channels last, eager: a training step by SGD, or the forward pass.

    On the GPU where PyTorch sees one, else on all cores. Raise ValueError where PyTorch is not installed.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
        import torchvision  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(MISSING.format("torch", "torch and torchvision")) from None

    def make() -> Callable[[], Any]:
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network: Any = getattr(torchvision.models, name)(**options)
        network = network.to(device, memory_format=torch.channels_last).train(train)
        images = torch.randn(batch_size, 3, image_size, image_size, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(batch_size, device=device) % 1000
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

        def forward() -> None:
            with torch.inference_mode():
                network(images)
            _wait()

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            outputs = network(images)
            heads = outputs if isinstance(outputs, tuple) else (outputs,)
            losses = [torch.nn.functional.cross_entropy(head, labels) for head in heads if head is not None]
            total = losses[0] + sum((0.3 * loss for loss in losses[1:]), torch.zeros((), device=device))
            total.backward()
            optimizer.step()
            _wait()

        def _wait() -> None:
            if device == "cuda":
                torch.cuda.synchronize()

        return step if train else forward

    return Case(make)


def keras_case(name: str, batch_size: int, image_size: int, train: bool) -> Case:
    """Return Keras's application `name` on JAX: a training step by SGD, compiled, or the forward pass.

    Raise ValueError where Keras is not installed, or was imported with another backend.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import keras  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(MISSING.format("keras", "keras")) from None
    if keras.backend.backend() != "jax":
        raise ValueError(f"KERAS_BACKEND must be jax, got {keras.backend.backend()}")

    def make() -> Callable[[], Any]:
        import jax
        import jax.numpy as jnp
        import numpy as np

        shape = (image_size, image_size, 3)
        network = getattr(keras.applications, name)(weights=None, input_shape=shape, classifier_activation=None)
        # On the device, as ours are.
        images = jnp.asarray(np.random.default_rng(0).standard_normal((batch_size, *shape)), jnp.float32)
        labels = jnp.arange(batch_size) % 1000
        if train:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            network.compile(keras.optimizers.SGD(0.01, 0.9, weight_decay=1e-4), loss)
            return lambda: network.train_on_batch(images, labels)
        held = [
            [v.value for v in variables] for variables in (network.trainable_variables, network.non_trainable_variables)
        ]
        call = jax.jit(lambda held, x: network.stateless_call(*held, x, training=False)[0])
        return lambda: jax.block_until_ready(call(held, images))

    return Case(make)
