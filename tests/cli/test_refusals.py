"""Command lines that are refused: exit status 2, what is wrong on standard error, nothing written."""

import pytest
from helpers.commands import answer, unframed

# What the library refuses, in one sentence.
REFUSED = [
    ("train vgg16 --dataset digits", "images must be at least 32x32 pixels, got 8x8"),
    ("train vgg16 --dataset digits --stem small", "images must be at least 16x16 pixels, got 8x8"),
    ("train alexnet --dataset digits", "images must be at least 67x67 pixels, got 8x8"),
    ("train inception_v3 --dataset digits", "images must be at least 75x75 pixels, got 8x8"),
    ("train inception_v1 --dataset digits --stem small", "images must be at least 17x17 pixels, got 8x8"),
    ("train resnet50 --units 3 4", "features must be 2 numbers of at least 1, got (64, 128, 256, 512)"),
    ("train resnet50 --output-stride 7", "output_stride must be one of 4, 8, 16, 32, got 7"),
    ("train resnet18 --widen 2", "widen must be at least 1, and 1 in basic blocks, got 2"),
    ("train resnet50 --dropout 1.5", "dropout must be in [0, 1), got 1.5"),
    (
        "train resnet50 --head dense --no-global-pool",
        "global_pool must be True where head is 'dense'",
    ),
    (
        "train inception_v2 --branches 1x1 7x7",
        "branches must be one or more of 1x1, 3x3",
    ),
    ("train inception_v2 --branches", "branches must be one or more of 1x1, 3x3"),
    ("train cifar_resnet_v2 --depth 111", "depth must be 6n+2 with n >= 1, got 111; the nearest is 110"),
    (
        "train cifar_resnet_v2 --depth 165 --block bottleneck",
        "depth must be 9n+2 with n >= 1, got 165; the nearest is 164",
    ),
    ("train cifar_wide_resnet --depth 29", "depth must be 6n+4 with n >= 1, got 29; the nearest is 28"),
    ("train cifar_wide_resnet --widen 0", "widen must be at least 1, got 0"),
    ("train cifar_resnet --min-depth 0", "min_depth must be in [1, 65535], got 0"),
    ("train cifar_resnet --min-depth 70000", "min_depth must be in [1, 65535], got 70000"),
    ("train cifar_resnet --width -1", "width must be positive and at most 1000, got -1.0"),
    ("train cifar_resnet --boundaries 5 3 --schedule step", "boundaries must be positive and rising, got (5, 3)"),
    ("train cifar_resnet --boundaries 3", "boundaries must be empty unless schedule is step, got (3,)"),
    ("train cifar_resnet --schedule step", "boundaries must not be empty where schedule is step"),
    ("train cifar_resnet --momentum 1", "momentum must be in [0, 1), got 1.0"),
    ("train cifar_resnet --weight-decay -1", "weight_decay must be at least 0, got -1.0"),
    ("train cifar_resnet --clip-norm 0", "clip_norm must be positive or None, got 0.0"),
    ("train cifar_resnet --label-smoothing 1", "label_smoothing must be in [0, 1), got 1.0"),
    ("train cifar_resnet --seed -1", "seed must be in [0, 2**31), got -1"),
    ("train cifar_resnet --seed 99999999999", "seed must be less than 2**31, got 99999999999"),
    ("train cifar_resnet --train-size 0", "train_size must be in [1, 1408] for digits, got 0"),
    ("train cifar_resnet --train-size 5000", "train_size must be in [1, 1408] for digits, got 5000"),
    ("train cifar_resnet --validation-size 1537", "validation_size must be in [0, 1536] for digits, got 1537"),
    ("train cifar_resnet --steps-per-dispatch 0", "steps_per_dispatch must be at least 1, got 0"),
    ("train cifar_resnet --evaluate-every 0", "evaluate_every must be at least 1, got 0"),
    ("train cifar_resnet --keep 0", "keep must be at least 1, got 0"),
    ("train cifar_resnet --keep-every 0", "keep_every must be at least 1, got 0"),
    ("train cifar_resnet --devices 0", "devices must be at least 1, got 0"),
    ("train", "name a model first"),
    ("train resnet", "unknown model 'resnet'; the nearest is 'resnet50'"),
    ("train cifar_resnt", "unknown model 'cifar_resnt'; the nearest is 'cifar_resnet'"),
    ("trian cifar_resnet", "unknown command 'trian'"),
    ("eval nothing", "no run 'nothing'"),
    ("verify nothing", "no run 'nothing'"),
    ("rerun nothing", "no run 'nothing'"),
    ("describe", "name a model first"),
    ("describe resnet5", "unknown model 'resnet5'; it is not among the networks"),
    ("describe resnet50 --image-size 0", "image_size must be in [1, 2**20), got 0"),
    ("describe vgg16 --image-size 8", "images must be at least 32x32 pixels, got 8x8"),
    ("describe resnet50 --image-channels 0", "image_channels must be in [1, 2**20), got 0"),
    ("models --filter zzz", "no model's name contains 'zzz'"),
    ("data", "unknown action '' of data; choose list, prepare or show"),
    ("data fetch", "unknown action 'fetch' of data; choose list, prepare or show"),
    ("data prepare imagenet", "unknown data set 'imagenet'; the nearest is 'imagenet2012'"),
    ("data prepare imagenet2012", "imagenet2012 cannot be downloaded; --source takes a folder with its two tars"),
    ("data prepare mnist --skip-damaged", "skip_damaged must be False for mnist"),
    ("data prepare mnist --store shards", "store must be none for mnist, which is kept as arrays, got 'shards'"),
    ("data show digist", "unknown data set 'digist'; the nearest is 'digits'"),
    ("data show digits --sheet /nowhere/a.png", "sheet must be a file in a folder that is there, got '/nowhere/a.png'"),
    ("recipes alexnet", "unknown recipe 'alexnet'; the nearest is 'alexnet2012'"),
    ("train cifar_resnet --recipe vgg15", "unknown recipe 'vgg15'; the nearest is 'vgg2015'"),
    ("sweep cifar_resnet --recipe vgg15", "unknown recipe 'vgg15'; the nearest is 'vgg2015'"),
    (
        "train cifar_resnet --recipe cifar_resnet2016 --epochs 3",
        "epochs must not be given with a recipe that counts steps (64,000), got 3; give --steps",
    ),
    (
        "sweep cifar_resnet --recipe cifar_resnet2016 --epochs 3 4",
        "epochs must not be given with a recipe that counts steps (64,000), got (3, 4)",
    ),
    ("train cifar_resnet --crop area --normalise pixel", "normalise must be channel with crop area, which sees parts"),
    ("train cifar_resnet --colour pca", "colour must be none for digits, whose images are grey, got 'pca'"),
    ("train cifar_resnet --scales 9", "scales must be empty unless crop is scale, got (9,) with shift"),
    ("train cifar_resnet --crop scale --scales 9 8", "scales must be one or two rising sides in [8, 4096], got (9, 8)"),
    ("train cifar_resnet --crop scale --scales 7", "scales must be one or two rising sides in [8, 4096], got (7,)"),
    ("train cifar_resnet --test-side 9", "test_side must be none with crop shift, of which all is seen, got 9"),
    ("train cifar_resnet --crop area --test-side 7", "test_side must be in [8, 8192], got 7"),
    ("data prepare mnist --source /nowhere", "cannot read /nowhere/train-images-idx3-ubyte.gz: "),
    ("bench cifar_resnet --batch-size 0", "batch_size must be in [1, 2**20), got 0"),
    ("bench nothing", "unknown model 'nothing'"),
    ("resume", "name a run first; 'classicnets runs' lists them"),
    ("resume nothing", "no run 'nothing'"),
    ("fork --lr 1", "name a run first; 'classicnets runs' lists them"),
    ("fork nothing", "no run 'nothing'"),
    ("train cifar_resnet --runs=", "runs must be a directory, got ''"),
    ("plot", "unknown command 'plot'; choose from "),
    ("train cifar_resnet --dataset none", "unknown data set 'none'"),
    ("sweep", "name a model first"),
    ("sweep cifar_resnet --depth 8 9", "depth must be 6n+2 with n >= 1, got 9"),
    ("sweep cifar_resnet --seeds 0", "seeds must be at least 1, got 0"),
    ("sweep cifar_resnet --seeds 2 --seed 3", "seed must not be given beside seeds, got 3"),
    ("sweep cifar_resnet --seed 0 --seeds 2", "seed must not be given beside seeds, got 0"),
    ("sweep cifar_resnet --jobs 500", "jobs x cores must be at most"),
    ("sweep cifar_resnet --batch-size 128 5000", "batch_size 5000 is more than the 1408 training"),
    ("sweep cifar_resnet --probe", "probe is an option of a dry run: --dry-run --probe"),
    ("sweep cifar_resnet --dry-run --jobs 0", "jobs and cores must be at least 1"),
    ("sweep cifar_resnet --dry-run --slurm fast", "slurm takes NAME=VALUE, got 'fast'"),
    ("sweep cifar_resnet --engine slurm --slurm fast", "slurm takes NAME=VALUE, got 'fast'"),
    ("sweep inception_v1 --branches 1x1,9x9", "branches"),
    ("sweep vgg16 resnet_50", "unknown model 'resnet_50'"),
    ("train cifar_resnet --depth 21", "depth must be 6n+2 with n >= 1, got 21; the nearest is 20"),
    ("train cifar_resnet --dataset digts", "unknown data set 'digts'; the nearest is 'digits'"),
    ("train cifar_resnet --learning-rate=-0.1", "learning_rate must be positive, got -0.1"),
    ("train cifar_resnet --epochs 0", "epochs must be at least 1, got 0"),
    ("train cifar_resnet --runs /dev/null/below", "is a file"),
    (
        "train cifar_resnet --dataset cifar10",
        "data set 'cifar10' is not here yet; `classicnets data prepare",
    ),
    ("train cifar_resnet --batch-size 2000", "batch_size 2000 is more than the 1408 training images"),
    ("train cifar_resnet --devices 9", "devices must be at most"),
    ("train cifar_resnet --steps 0", "steps must be at least 1, got 0"),
    ("train cifar_resnet --steps 9999999999", "steps must be less than 2**31, got 9999999999"),
    ("train cifar_resnet --width inf", "width must be finite, got inf"),
    ("train cifar_resnet --checkpoint-seconds inf", "checkpoint_seconds must be finite, got inf"),
    ("train cifar_resnet --learning-rate nan", "learning_rate must be finite, got nan"),
    ("train cifar_resnet --dtype float64", "dtype float64 needs jax_enable_x64, which is off"),
    ("train cifar_resnet --experiment ../x", "experiment and name are up to 100 letters, digits and -_.+, got '../x'"),
    ("train cifar_resnet --coordinator here --processes 2 --process 0", "coordinator must be HOST:PORT, got 'here'"),
    ("train cifar_resnet --process 0", "coordinator, processes and process are given together"),
]
# What the option parser cannot read, in words of its own.
UNREADABLE = [
    ("train resnet50 --units x", "--units: 'x' is not a whole number"),
    ("train resnet50 --shortcut Z", "--shortcut: 'Z' is none of none, A, B, C, pool"),
    ("train resnet50 --widen 2.5", "--widen: '2.5' is not a whole number"),
    ("train resnet50 --norm layer", "'layer' is none of batch"),
    (
        "train resnet50 --activation gelu",
        "--activation: 'gelu' is none of relu, tanh, sigmoid",
    ),
    ("train resnet50 --head sliding", "--head: 'sliding' is none of dense, convolutional, pooled"),
    ("train vgg16 --kernel huge", "--kernel: 'huge' is none of stack, single"),
    ("train vgg16 --configuration Q", "--configuration: 'Q' is none of A, B, C, D, E"),
    ("train vgg16 --lrn maybe", "Unrecognized options: maybe"),
    ("train inception_v1 --kernel 4", "--kernel: '4' is none of 5, 3"),
    (
        "train inception_v3 --stem-padding same",
        "--stem-padding: 'same' is none of VALID, SAME; the nearest is 'SAME'",
    ),
    ("train inception_v3 --factorised perhaps", "Unrecognized options: perhaps"),
    ("train cifar_resnet --epochs 1.5", "--epochs: '1.5' is not a whole number"),
    (
        "train cifar_resnet --schedule sideways",
        "--schedule: 'sideways' is none of cosine, step, constant",
    ),
    ("train cifar_resnet --decay none", "--decay: 'none' is none of all, kernels"),
    (
        "train cifar_resnet --batch-norm local",
        "--batch-norm: 'local' is none of synchronised, per_replica",
    ),
    ("train cifar_resnet --normalise image", "--normalise: 'image' is none of channel, pixel"),
    ("train cifar_resnet --augment perhaps", "Unrecognized options: perhaps"),
    ("train cifar_resnet --conv magic", "--conv: 'magic' is none of auto, lax"),
    ("train cifar_resnet --num-classes 10", "Unrecognized options: --num-classes, 10"),
    ("train cifar_resnet extra", "Unrecognized options: extra"),
    ("train cifar_resnet --epochs", "Missing value for argument '--epochs'."),
    ("eval", "Missing from classicnets eval: RUN"),
    ("runs --filter x", "Unrecognized options: --filter, x"),
    ("describe resnet50 --image-size x", "'x' is not a whole number"),
    ("data prepare", "Missing from classicnets data prepare: NAME"),
    ("train cifar_resnet --norm batc", "'batc' is none of batch; the nearest is 'batch'"),
    ("train cifar_resnet --dept 20", "Perhaps you meant: --depth INT"),
    ("train cifar_resnet --normalise chanel", "'chanel' is none of channel, pixel; the nearest is 'channel'"),
    (
        "train cifar_resnet --dtype float16",
        "'float16' is none of float32, bfloat16, float64",
    ),
    ("train cifar_resnet --train-size some", "'some' is not none - <class 'int'>: 'some' is not a whole number"),
    ("train cifar_resnet --lr 0.1,0.01", "several are words apart, and make a sweep: 0.1 0.01"),
    (
        "train cifar_resnet --seed=0-3",
        "'0-3' is not a whole number; several are words apart, and make a sweep: 0 1 2 3",
    ),
    ("train cifar_resnet --seed=3-0", "--seed: '3-0' is not a whole number"),
    ("sweep cifar_resnet --depth 20..22", "and make a sweep: 20 21 22"),
    ("sweep cifar_resnet --wd 0,1", "and make a sweep: 0 1"),
    ("sweep cifar_resnet --fork RUN", "Unrecognized options: --fork, RUN"),
    ("sweep cifar_resnet --process=1", "Unrecognized options: --process"),
    ("sweep cifar_resnet --depht 8", "Perhaps you meant: --depth INT"),
    ("sweep cifar_resnet --engine cloud", "--engine: 'cloud' is none of local, ray, slurm"),
    ("sweep cifar_resnet --dry-run --engine cloud", "--engine: 'cloud' is none of local, ray, slurm"),
    ("sweep cifar_resnet --depth", "--depth: it needs at least one value"),
    ("sweep cifar_resnet --seed", "--seed: it needs at least one value"),
    ("sweep cifar_resnet --boundaries 3,x", "--boundaries: 'x' is not a whole number"),
    ("sweep cifar_resnet vgg16 --depth 8", "Unrecognized options: --depth, 8"),
]


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "sentence"), REFUSED)
def test_refused_in_one_sentence(words, sentence, capsys):
    status, out, err = answer(capsys, *words.split())
    assert (status, out) == (2, "")
    assert err.startswith("classicnets: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("words", "text"), UNREADABLE)
def test_what_cannot_be_read_is_told_by_the_parser(words, text, capsys):
    status, out, err = answer(capsys, *words.split())
    assert (status, out) == (2, "")
    assert text in unframed(err)
