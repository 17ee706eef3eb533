"""What is known of each data set before it is read: a row of the table, or what a prepared set's manifest says."""

from dataclasses import dataclass

from classicnets.data import digits, store
from classicnets.system.words import nearest


@dataclass(frozen=True)
class Source:
    """What is known of a set before it is read: `pool` examples that are not for test, `validation` the last of them.

    sha256: of its content, None where no copy of it has been seen whose origin is sure.
    """

    shape: tuple[int | None, int | None, int]
    pool: int
    test: int
    source: str
    class_names: tuple[str, ...] = tuple("0123456789")
    validation: int = 5_000
    crop_padding: int = 4
    flip: bool = False
    sha256: str | None = None


# Padding by 4 and flips: He et al. 2015, section 4.2, as is CIFAR's split into 45,000 and 5,000. Digits and house
# numbers are not flipped: a mirrored 2 is no digit.
KRIZHEVSKY = "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm"""
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
DATASETS: dict[str, Source] = {
    "cifar10": Source(
        shape=(32, 32, 3),
        class_names=tuple(CIFAR10.split()),
        pool=50_000,
        test=10_000,
        flip=True,
        source=KRIZHEVSKY,
        sha256="3cf8c2a9526cfabc4017700dacc4d6c0e55661eb545b91a1fe2a4c10670f2a24",
    ),
    "cifar100": Source(
        shape=(32, 32, 3),
        class_names=tuple(CIFAR100.split()),
        pool=50_000,
        test=10_000,
        flip=True,
        source=KRIZHEVSKY,
    ),
    "digits": Source(
        shape=(8, 8, 1),
        pool=digits.POOL,
        validation=129,
        test=260,
        crop_padding=1,
        source="Alpaydin & Kaynak 1998, doi.org/10.24432/C50P49",
        sha256=digits.SHA256,
    ),
    "fashion_mnist": Source(
        shape=(28, 28, 1),
        class_names=tuple(FASHION.split(",")),
        pool=60_000,
        test=10_000,
        flip=True,
        source="Xiao et al. 2017, arxiv.org/abs/1708.07747",
        sha256="db65a23d2587cdfeb6766b625be8679206a6e5b4bcccd7d5b24d2b7be3577272",
    ),
    # Of its validation images, which the papers report on, test errors are made; 50,000 training images are held out.
    "imagenet2012": Source(
        shape=(None, None, 3),
        class_names=tuple(map(str, range(1_000))),
        pool=1_281_167,
        test=50_000,
        validation=50_000,
        flip=True,
        source="Russakovsky et al. 2015, image-net.org/challenges/LSVRC/2012",
    ),
    "mnist": Source(shape=(28, 28, 1), pool=60_000, test=10_000, source="LeCun et al. 1998, yann.lecun.com/exdb/mnist"),
    "svhn_cropped": Source(
        shape=(32, 32, 3), pool=73_257, test=26_032, source="Netzer et al. 2011, ufldl.stanford.edu/housenumbers"
    ),
}


def require_known(name: str) -> None:
    """Raise ValueError with the nearest name if no data set of the table is called `name`."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{nearest(str(name), DATASETS)}")


def source_of(name: str) -> Source:
    """Return what is known of a data set: the table's row, or of anyone's prepared images what their manifest says.

    Raise ValueError, with the nearest name, if there is no data set `name`.
    """
    if name in DATASETS:
        return DATASETS[name]
    facts = store.manifest(name) if name in store.prepared() else None
    if facts is None:
        raise ValueError(f"unknown data set {name!r}{nearest(str(name), [*DATASETS, *store.prepared()])}")
    sizes, shape = facts["sizes"], facts["shape"]
    return Source(
        shape=tuple(shape),
        class_names=tuple(facts["class_names"]),
        pool=sum(sizes.values()) - sizes["test"],
        test=sizes["test"],
        validation=sizes.get("validation", 0),
        flip=True,
        source=facts["source"],
    )
