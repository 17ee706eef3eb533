"""Command lines that are refused: exit status 2, one sentence that names what is wrong, nothing written."""

import os
import subprocess
import sys

import pytest

ALL = os.environ.get("CLASSICNETS_FAULTS") == "all"

REFUSED = [
    ("train vgg16 --dataset digits", "images must be at least 32x32 pixels, got 8x8"),
    ("train vgg16 --dataset digits --stem small", "images must be at least 16x16 pixels, got 8x8"),
    ("train alexnet --dataset digits", "images must be at least 67x67 pixels, got 8x8"),
    ("train inception_v3 --dataset digits", "images must be at least 75x75 pixels, got 8x8"),
    ("train inception_v1 --dataset digits --stem small", "images must be at least 17x17 pixels, got 8x8"),
    ("train resnet50 --units 3 4", "features must be 2 numbers of at least 1, got (64, 128, 256, 512)"),
    (
        "train resnet50 --units x",
        "Error parsing --units: Could not find valid parse for arguments: ['x']; see 'classicnets train resne",
    ),
    ("train resnet50 --output-stride 7", "output_stride must be one of 4, 8, 16, 32, got 7"),
    ("train resnet50 --shortcut Z", "shortcut must be one of none, A, B, C, pool, got 'Z'"),
    (
        "train resnet50 --widen 2.5",
        "Error parsing --widen: invalid literal for int() with base 10: '2.5'; see 'classicnets train resnet5",
    ),
    ("train resnet18 --widen 2", "widen must be at least 1, and 1 in basic blocks, got 2"),
    ("train resnet50 --norm layer", "norm must be one of batch, None, got 'layer'"),
    (
        "train resnet50 --activation gelu",
        "activation must be one of relu, tanh, sigmoid, got 'gelu'; the nearest is 'relu'",
    ),
    ("train resnet50 --dropout 1.5", "dropout must be in [0, 1), got 1.5"),
    ("train resnet50 --head sliding", "head must be one of dense, convolutional, pooled, got 'sliding'"),
    (
        "train resnet50 --head dense --no-global-pool",
        "global_pool must be True where head is 'dense', which takes the whole map, got False",
    ),
    ("train vgg16 --kernel huge", "kernel must be one of stack, single, got 'huge'"),
    ("train vgg16 --configuration Q", "configuration must be one of A, B, C, D, E, got 'Q'"),
    ("train vgg16 --lrn maybe", "Unrecognized options: maybe; see 'classicnets train vgg16 --help'"),
    (
        "train inception_v2 --branches 1x1 7x7",
        "branches must be a non-empty subset of 1x1, 3x3, double3x3, pool, got ('1x1', '7x7')",
    ),
    ("train inception_v2 --branches", "branches must be a non-empty subset of 1x1, 3x3, double3x3, pool, got ()"),
    ("train inception_v1 --kernel 4", "kernel must be one of 5, 3, got 4"),
    ("train inception_v3 --stem-padding same", "stem_padding must be one of VALID, SAME, got 'same'"),
    (
        "train inception_v3 --factorised perhaps",
        "Unrecognized options: perhaps; see 'classicnets train inception_v3 --help'",
    ),
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
    (
        "train cifar_resnet --epochs 1.5",
        "Error parsing --epochs: invalid literal for int() with base 10: '1.5'; see 'classicnets train cifar_",
    ),
    ("train cifar_resnet --schedule linear", "schedule must be one of cosine, step, constant, got 'linear'"),
    ("train cifar_resnet --boundaries 5 3 --schedule step", "boundaries must be positive and rising, got (5, 3)"),
    ("train cifar_resnet --boundaries 3", "boundaries must be empty unless schedule is step, got (3,)"),
    ("train cifar_resnet --schedule step", "boundaries must not be empty where schedule is step"),
    ("train cifar_resnet --momentum 1", "momentum must be in [0, 1), got 1.0"),
    ("train cifar_resnet --weight-decay -1", "weight_decay must be at least 0, got -1.0"),
    ("train cifar_resnet --decay none", "decay must be one of all, kernels, got 'none'"),
    ("train cifar_resnet --clip-norm 0", "clip_norm must be positive or None, got 0.0"),
    ("train cifar_resnet --label-smoothing 1", "label_smoothing must be in [0, 1), got 1.0"),
    ("train cifar_resnet --batch-norm local", "batch_norm must be one of synchronised, per_replica, got 'local'"),
    ("train cifar_resnet --seed -1", "seed must be in [0, 2**31), got -1"),
    ("train cifar_resnet --seed 99999999999", "seed must be less than 2**31, got 99999999999"),
    ("train cifar_resnet --train-size 0", "train_size must be in [1, 1408] for digits, got 0"),
    ("train cifar_resnet --train-size 5000", "train_size must be in [1, 1408] for digits, got 5000"),
    ("train cifar_resnet --validation-size 1537", "validation_size must be in [0, 1536] for digits, got 1537"),
    ("train cifar_resnet --normalise image", "normalise must be one of channel, pixel, got 'image'"),
    (
        "train cifar_resnet --augment perhaps",
        "Unrecognized options: perhaps; see 'classicnets train cifar_resnet --help'",
    ),
    ("train cifar_resnet --steps-per-dispatch 0", "steps_per_dispatch must be at least 1, got 0"),
    ("train cifar_resnet --evaluate-every 0", "evaluate_every must be at least 1, got 0"),
    ("train cifar_resnet --keep 0", "keep must be at least 1, got 0"),
    ("train cifar_resnet --keep-every 0", "keep_every must be at least 1, got 0"),
    ("train cifar_resnet --conv magic", "conv must be one of auto, lax, got 'magic'"),
    ("train cifar_resnet --num-classes 10", "unknown option --num-classes; see --help"),
    ("train cifar_resnet --devices 0", "devices must be at least 1, got 0"),
    ("train cifar_resnet extra", "Unrecognized options: extra; see 'classicnets train cifar_resnet --help'"),
    (
        "train cifar_resnet --epochs",
        "Missing value for argument '--epochs'. Expected 1 values; see 'classicnets train cifar_resnet --help",
    ),
    ("train --resume", "--resume needs a value"),
    ("train --fork nothing", "no run 'nothing'"),
    ("train --resume a --fork b", "resume continues a run and fork begins another: give one of them"),
    ("train", "name a model first"),
    ("train resnet", "unknown model 'resnet'; the nearest is 'resnet50'"),
    ("train cifar_resnt", "unknown model 'cifar_resnt'; the nearest is 'cifar_resnet'"),
    ("trian cifar_resnet", "unknown command 'trian'"),
    ("eval", "name a run first; 'classicnets runs' lists them"),
    ("eval nothing", "no run 'nothing'"),
    ("verify nothing", "no run 'nothing'"),
    ("rerun nothing", "no run 'nothing'"),
    ("runs --filter x", "unknown option --filter; see --help"),
    ("describe", "name a model first"),
    ("describe resnet5", "unknown model 'resnet5'; the nearest is 'resnet50'"),
    ("describe resnet50 --image-size 0", "image_size must be in [1, 2**20), got 0"),
    (
        "describe resnet50 --image-size x",
        "Error parsing --image-size: invalid literal for int() with base 10: 'x'; see 'classicnets describe r",
    ),
    ("describe vgg16 --image-size 8", "images must be at least 32x32 pixels, got 8x8"),
    ("describe resnet50 --image-channels 0", "image_channels must be in [1, 2**20), got 0"),
    ("models --filter zzz", "no model's name contains 'zzz'"),
    ("data", "unknown action '' of data; choose list or prepare"),
    ("data fetch", "unknown action 'fetch' of data; choose list or prepare"),
    ("data prepare", "name a data set first"),
    (
        "data prepare imagenet",
        "unknown data set 'imagenet'; choose cifar10 or cifar100 or digits or fashion_mnist or mnist or svhn_",
    ),
    ("data prepare mnist --source /nowhere", "cannot read /nowhere/train-images-idx3-ubyte.gz: "),
    ("bench cifar_resnet --batch-size 0", "batch_size must be in [1, 2**20), got 0"),
    ("bench nothing", "unknown model 'nothing'"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSED if ALL else REFUSED[::9])
def test_refused_in_one_sentence(words, sentence, tmp_path):
    command = [sys.executable, "-m", "classicnets.cli.main", *words.split()]
    data = {"CLASSICNETS_DATA": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **data}, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"classicnets: {sentence}")
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    assert not list(tmp_path.iterdir())
