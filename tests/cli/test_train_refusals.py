"""What a command refuses is one sentence, before anything is written."""

import pytest
from helpers.answers import refusal_of


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--depth 21", "depth must be 6n+2 with n >= 1, got 21; the nearest is 20"),
        ("--shortcut D", "shortcut must be one of none, A, B, C, pool, got 'D'"),
        ("--dataset digts", "unknown data set 'digts'; the nearest is 'digits'"),
        ("--learning-rate=-0.1", "learning_rate must be positive, got -0.1"),
        ("--epochs 0", "epochs must be at least 1, got 0"),
        ("--runs {file}/below", "is a file"),
        ("--dataset cifar10", "data set 'cifar10' is not here yet; `classicnets data prepare cifar10` fetches it"),
        ("--batch-size 2000", "batch_size 2000 is more than the 1408 training images"),
        ("--devices 9", "devices must be at most"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--steps 9999999999", "steps must be less than 2**31, got 9999999999"),
        ("--width inf", "width must be finite, got inf"),
        ("--checkpoint-seconds inf", "checkpoint_seconds must be finite, got inf"),
        ("--learning-rate nan", "learning_rate must be finite, got nan"),
        ("--dtype float64", "dtype float64 needs jax_enable_x64, which is off"),
        ("--experiment ../x", "experiment and name are up to 100 letters, digits and -_.+, got '../x'"),
        ("--coordinator here --processes 2 --process 0", "coordinator must be HOST:PORT, got 'here'"),
        ("--dtype float16", "dtype must be float32, bfloat16 or float64, got float16"),
        ("--process 0", "coordinator, processes and process are given together"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, sentence, tmp_path, capsys, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    words = arguments.format(file=file).split()
    if "--runs" not in words:
        words += ["--runs", str(tmp_path / "runs")]
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    assert sentence in refusal_of(capsys, "train", "cifar_resnet", *words)
    assert sorted(tmp_path.iterdir()) == [file]
