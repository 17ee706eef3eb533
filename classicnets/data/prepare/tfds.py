"""Preparation of data sets through TensorFlow Datasets (TFDS). The only file that imports it.

TFDS downloads, checks the upstream checksums and shuffles; what it wrote is then read without TensorFlow and
kept as arrays. Where IDX files are at hand (mnist, fashion_mnist), nothing is downloaded and TensorFlow is not
needed: TFDS's own builder writes the same examples under the same keys, and so in the same order.
"""

import importlib.util
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from classicnets.data import arrays, store
from classicnets.data.prepare import idx
from classicnets.data.sources import DATASETS, Source, require_known


def prepare(name: str, source: Path | None = None) -> Path:
    """Prepare the data set `name`, anew if it is there, and return its folder.

    source: a folder with the four IDX files of mnist or fashion_mnist, `{train,t10k}-images-idx3-ubyte.gz` and
    `{train,t10k}-labels-idx1-ubyte.gz`; by default those of Debian's dataset-fashion-mnist, if they are there.
    ValueError, in one sentence, if that cannot be done: an unknown name, IDX files that are not, no TensorFlow
    where it is needed, a failed download, a full disk.
    """
    require_known(name)
    if name == "digits":
        raise ValueError("digits come with the package and need no preparation")
    if source is not None and name not in idx.DATASETS:
        raise ValueError(f"source is for {' and '.join(idx.DATASETS)} only, got {str(source)!r} for {name}")
    if source is None and name == "fashion_mnist" and idx.DEBIAN.is_dir():
        source = idx.DEBIAN
    splits = None if source is None else {"train": idx.split(source, "train"), "test": idx.split(source, "t10k")}
    if splits is None and importlib.util.find_spec("tensorflow") is None:
        files = " (or install the files of Debian's package dataset-fashion-mnist)" if name == "fashion_mnist" else ""
        raise ValueError(
            f"preparing {name} needs TensorFlow once: `pip install 'classicnets[prepare]'`, "
            f"then `classicnets data prepare {name}`{files}"
        )

    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        with store.replacing(name) as scratch, _quiet_off_a_terminal():
            builder = _builder(name, splits, scratch / "tfds")
            builder.download_and_prepare(
                download_dir=scratch / "downloads",
                download_config=tfds.download.DownloadConfig(force_checksums_validation=True, try_download_gcs=False),
                file_format="array_record",
            )
            arrays.write(
                scratch / "new",
                *_arrays(builder, DATASETS[name]),
                class_names=DATASETS[name].class_names,
                tensorflow_datasets=tfds.__version__,
                builder=builder.info.full_name,
                source=DATASETS[name].source,
                idx_folder=None if source is None else str(source),
            )
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise ValueError(f"preparing {name} failed: {' '.join(str(error).split())}") from error
    return store.root() / name


def imagenet_labels() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (the 1,000 synsets of 2012 in the order of labels, that of each validation image), as TFDS has them."""
    import tensorflow_datasets as tfds

    folder = Path(tfds.__file__).parent / "datasets" / "imagenet2012"
    synsets, validation = (
        tuple((folder / name).read_text(encoding="utf-8").split()) for name in ("labels.txt", "validation_labels.txt")
    )
    return synsets, validation


def _builder(name: str, splits: dict[str, tuple] | None, folder: Path) -> Any:
    """TFDS's builder of `name` in `folder`; it writes the examples of `splits` where they are given."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core.registered import skip_registration

    stock: Any = tfds.builder_cls(name)
    with skip_registration():

        class FromArrays(stock):
            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(*arrays) for split, arrays in (splits or {}).items()}

            def _generate_examples(self, images, labels):
                # TFDS has Pillow encode an image object; for an array it would need TensorFlow.
                for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                    yield i, {"image": Image.fromarray(image), "label": int(label)}

        class WithoutExtra(stock):
            """svhn_cropped without the 1.2 GiB of its split "extra"."""

            def _split_generators(self, dl_manager):
                urls = {split: f"{self.info.homepage}{split}_32x32.mat" for split in ("train", "test")}
                paths = dl_manager.download(urls)
                return {split: self._generate_examples(f"{split}_", paths[split]) for split in urls}

    # TFDS looks for a builder's metadata and checksums beside its module.
    for builder in (FromArrays, WithoutExtra):
        builder.name, builder.__module__ = name, stock.__module__
    chosen = FromArrays if splits else WithoutExtra if name == "svhn_cropped" else stock
    return chosen(data_dir=folder)


def _arrays(builder: Any, row: Source) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """images, labels and the sizes of the splits of a prepared builder, training first."""
    splits = dict(zip(("train", "test"), builder.as_data_source(split=["train", "test"]), strict=True))
    sizes = {name: len(split) for name, split in splits.items()}
    images = np.empty((sum(sizes.values()), *map(int, row.shape)), np.uint8)  # pyright: ignore[reportArgumentType]
    labels = np.empty(len(images), "<i4")
    for i, example in enumerate(example for split in splits.values() for example in split):
        images[i], labels[i] = example["image"], example["label"]
    return images, labels, sizes


@contextmanager
def _quiet_off_a_terminal() -> Iterator[None]:
    """TFDS's bars go to a terminal only, and its messages never to stdout, which is for results."""
    import tensorflow_datasets as tfds
    from absl import logging

    terminal, verbosity = sys.stderr.isatty(), logging.get_verbosity()
    tfds.display_progress_bar(terminal)
    # It warns that Pillow decodes more slowly than OpenCV.
    logging.set_verbosity(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr if terminal else io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
