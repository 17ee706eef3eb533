"""What a network's images went through before it saw them: part of its weights, since with another it is another.

    crop       the shorter side is brought to `resize` pixels and the central square of `side` is seen (torchvision,
               timm; Caffe's and slim's VGG and ResNets)
    squash     the whole image is brought to `resize` x `resize`, of which the central square of `side` is seen
               (Keras; Caffe's AlexNet and GoogLeNet)
    fraction   the central 87.5 % of both sides are brought to `side` x `side` (slim's Inceptions and resnet_v2)
    square     the central square is brought to `side` x `side` (tensorflow-vgg)
    whole      images have `side` pixels a side as they are; of others the central square is brought to that (CIFAR)

Then channels, range, mean and deviation: (pixels / divisor - mean) / deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

How = Literal["crop", "squash", "fraction", "square", "whole"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "tensorflow"]
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
FRACTION = 0.875


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """How uint8 RGB images become a network's input."""

    side: int
    """Height and width of the input in pixels."""
    how: How = "crop"
    """What is seen of an image."""
    resize: int | None = None
    """Pixels to which the shorter side, or both, are brought."""
    interpolation: Interpolation = "bilinear"
    """How pixels are interpolated: by Pillow's filters, or TensorFlow 1's bilinear, which does not smooth."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colours."""
    divisor: float = 255.0
    """What pixels, 0 to 255, are divided by."""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """What is taken off each channel then."""
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)
    """What each channel is divided by at last."""
    pixel_mean: np.ndarray | None = field(default=None, repr=False)
    """Mean of each pixel of the training images, [side, side, 3], in place of `mean`."""
    needs_pixel_mean: bool = False
    """Whether the mean of each pixel is taken off, which the weights' file does not hold."""
    pixel_mean_of: str = ""
    """Data set whose training images that mean is of."""

    def __call__(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Return float32 [n, side, side, 3] of uint8 images, each [h, w, 3], of any sizes.

        Raise ValueError for images of another form, and where the mean of each pixel is missing.
        """
        if self.needs_pixel_mean and self.pixel_mean is None:
            raise ValueError("these weights take off each pixel's mean over their training images, which is not here")
        if isinstance(images, np.ndarray) and self.how == "whole" and _is_of(images, self.side):
            seen = images
        else:
            seen = np.stack([self.seen(image) for image in images])
        x = np.asarray(seen, np.float32) / np.float32(self.divisor)
        if self.channels == "bgr":
            x = x[..., ::-1]
        mean = np.asarray(self.mean, np.float32) if self.pixel_mean is None else self.pixel_mean.astype(np.float32)
        return np.ascontiguousarray((x - mean) / np.asarray(self.deviation, np.float32))

    def seen(self, image: np.ndarray) -> np.ndarray:
        """Return what is seen of an image [h, w, 3] uint8: [side, side, 3], of whole numbers but for TensorFlow's."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be uint8, height x width x 3, got {image.dtype}, {list(image.shape)}")
        height, width = image.shape[:2]
        if self.how in ("square", "whole"):
            return self._resized(central(image, min(height, width), min(height, width)), self.side, self.side)
        if self.how == "fraction":
            top, left = (int((size - size * FRACTION) / 2) for size in (height, width))
            return self._resized(image[top : height - top, left : width - left], self.side, self.side)
        resize = self.resize or self.side
        if self.how == "squash":
            return central(self._resized(image, resize, resize), self.side, self.side)
        short = min(height, width)
        if self.interpolation == "tensorflow":
            tall, wide = (round(size * resize / short) for size in (height, width))
        else:
            tall, wide = (int(resize * size / short) for size in (height, width))
        return central(self._resized(image, tall, wide), self.side, self.side)

    def _resized(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        if self.interpolation == "tensorflow":
            return unsmoothed(image, height, width)
        if image.shape[:2] == (height, width):
            return image
        return np.asarray(Image.fromarray(image).resize((width, height), FILTERS[self.interpolation]))

    def facts(self) -> dict[str, Any]:
        """Return what is said of it in a file and beside a result; the pixels' mean is an array of its own."""
        return {key: value for key, value in asdict(self).items() if key != "pixel_mean"}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], pixel_mean: np.ndarray | None = None) -> "Preprocessing":
        """Return what `facts` says; raise ValueError for fields that are not there."""
        try:
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
            }
            return cls(**values, pixel_mean=pixel_mean)
        except TypeError as error:
            raise ValueError(f"its preprocessing is damaged ({error})") from None

    def sentence(self) -> str:
        """Return it in words, for a table of results."""
        seen = {
            "crop": f"shorter side {self.resize}, central {self.side}",
            "squash": f"{self.resize or self.side}x{self.resize or self.side}, central {self.side}",
            "fraction": f"central 87.5 %, {self.side}x{self.side}",
            "square": f"central square, {self.side}x{self.side}",
            "whole": f"{self.side}x{self.side} as they are",
        }[self.how]
        mean = " ".join(f"{value:g}" for value in self.mean)
        if self.needs_pixel_mean:
            mean = f"each pixel's of {self.pixel_mean_of or 'its training images'}"
        deviation = " ".join(f"{value:g}" for value in self.deviation)
        interpolation = "" if self.how == "whole" else f", {self.interpolation}"
        return f"{seen}{interpolation}, {self.channels}, / {self.divisor:g}, mean {mean}, deviation {deviation}"


def _is_of(images: np.ndarray, side: int) -> bool:
    return images.dtype == np.uint8 and images.shape[1:] == (side, side, 3)


def central(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the central part of an image, as torchvision rounds; with black beside it where the image is smaller."""
    tall, wide = (max(0, size - have) for size, have in ((height, image.shape[0]), (width, image.shape[1])))
    if tall or wide:
        image = np.pad(image, ((tall // 2, tall - tall // 2), (wide // 2, wide - wide // 2), (0, 0)))
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def unsmoothed(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return an image resized as TensorFlow 1's resize_bilinear does: between the four pixels about y * h / height."""

    def between(size: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.arange(count, dtype=np.float32) * np.float32(size / count)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, size - 1), place - low

    x = image.astype(np.float32)
    low, high, part = between(x.shape[0], height)
    x = x[low] + (x[high] - x[low]) * part[:, None, None]
    low, high, part = between(x.shape[1], width)
    return x[:, low] + (x[:, high] - x[:, low]) * part[:, None]


IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
CENTRED: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "deviation": (0.5, 0.5, 0.5)}
# In BGR, of Caffe's VGG and ResNets, which Keras and tensorflow-vgg take too.
VGG_MEAN: dict[str, Any] = {"channels": "bgr", "divisor": 1.0, "mean": (103.939, 116.779, 123.68)}


def with_pixel_mean(before: Preprocessing, images: np.ndarray, name: str) -> Preprocessing:
    """Return it with the mean of each pixel of training images [n, h, w, 3] uint8 of the data set `name`.

    In its own order of colours and range.
    """
    mean = images.mean(0, dtype=np.float64) / before.divisor
    return replace(before, pixel_mean=mean if before.channels == "rgb" else mean[..., ::-1], pixel_mean_of=name)
