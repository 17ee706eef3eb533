"""Real faults: kills, signals, full disks, flipped bits, two starts, values that are not finite, hostile names.

In the suite each fault has a few cases; CLASSICNETS_FAULTS=all (`make faults`) runs them in full numbers.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.images import class_folders

from classicnets.data import arrays, store
from classicnets.runs import Run, checkpoints, find_run
from classicnets.runs.verify import verify
from classicnets.training import Config, Execution, Recipe, train

ALL = os.environ.get("CLASSICNETS_FAULTS") == "all"
NET = ["train", "cifar_resnet", "--depth", "8", "--width", "0.25", "--json"]
EPOCHS = 8 if ALL else 4
TRAIN = [*NET, "--epochs", str(EPOCHS), "--checkpoint-seconds", "0", "--steps-per-dispatch", "4"]


def cases(few: int, every: int):
    """Seeds of `few` cases in the suite, of `every` one in full."""
    return pytest.mark.parametrize("seed", range(every if ALL else few))


def start(*words, **more):
    command = [sys.executable, "-m", "classicnets.cli.main", *map(str, words)]
    environment = {**os.environ, **more}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_to_end(*words, **more):
    """(exit status, standard output, standard error)."""
    process = start(*words, **more)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out, err


def timeless(run: Run) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in run.metrics]


def only_run(root: Path) -> Run:
    (path,) = root.glob("*/*/config.json")
    return Run(path.parent)


def assert_whole(root: Path) -> None:
    """Each listed step of what there is of a run verifies."""
    for path in root.glob("*/*/checkpoints"):
        assert [checkpoints.damage(path, step) for step in checkpoints.steps(path)] == [None] * len(
            checkpoints.steps(path)
        )


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The run that nothing happened to."""
    root = tmp_path_factory.mktemp("unharmed")
    begun = time.monotonic()
    status, _, err = run_to_end(*TRAIN, "--runs", root)
    assert status == 0, err
    run = only_run(root)
    run.took = time.monotonic() - begun
    return run


def assert_ends_like(unharmed: Run, root: Path) -> None:
    status, out, err = run_to_end(*TRAIN, "--runs", root)
    assert status == 0, err
    assert json.loads(out)["parameters_sha256"] == unharmed.status["parameters_sha256"]
    run = only_run(root)
    assert timeless(run) == timeless(unharmed)
    found = verify(run)
    assert found["problems"] == []
    # Which steps before the last are there hangs on where dispatches ended; the best on validation is among them.
    assert {unharmed.status["step"], unharmed.status["best_step"]} <= set(found["checkpoints"])
    assert not [p for p in run.path.rglob("*") if p.name.startswith(("tmp-", "trash-")) or p.name.endswith(".tmp")]


@cases(2, 100)
def test_killed_at_a_random_moment(seed, unharmed, tmp_path):
    process = start(*TRAIN, "--runs", tmp_path)
    moment = random.Random(seed).uniform(0.3, 1) * unharmed.took
    before = time.monotonic()
    while time.monotonic() - before < moment and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert_whole(tmp_path)
    assert_ends_like(unharmed, tmp_path)


@cases(2, 40)
def test_asked_to_end(seed, unharmed, tmp_path):
    """By SIGTERM or SIGINT at a random moment: exit 75, what is finished is saved, and the resumed run is the same."""
    process = start(*TRAIN, "--runs", tmp_path)
    wait_for(lambda: answers(process, signal.SIGTERM), process)  # before, the interpreter itself is starting
    time.sleep(random.Random(1000 + seed).uniform(0, 0.95) * unharmed.took)
    process.send_signal(signal.SIGTERM if seed % 2 else signal.SIGINT)
    _, err = process.communicate(timeout=10)
    if process.returncode < 0:  # the interpreter was ending, and had given the handlers back
        assert only_run(tmp_path).status["state"] == "complete"
    elif process.returncode:  # it may have been done before
        assert process.returncode == 75, err
        assert err.endswith("classicnets: interrupted; start the same command again to resume\n")
        assert all(line.startswith((str(tmp_path), "epoch ")) for line in err.splitlines()[:-1])
    assert_whole(tmp_path)
    assert_ends_like(unharmed, tmp_path)


def answers(process, number: int) -> bool:
    """Whether the process has a handler for the signal, as Linux tells."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_second_signal_ends_it_at_once(tmp_path):
    process = start(*NET, "--epochs", "4000", "--checkpoint-seconds", "3000", "--runs", tmp_path)
    wait_for(lambda: any(tmp_path.glob("*/*/metrics.jsonl")), process)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 75


def wait_for(condition, process=None):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.002)


@cases(1, 50)
def test_two_starts_at_once(seed, unharmed, tmp_path):
    both = [start(*TRAIN, "--runs", tmp_path) for _ in range(2)]
    found = [(*process.communicate(timeout=300), process.returncode) for process in both]
    statuses = sorted(status for *_, status in found)
    assert statuses == [0, 4], found
    refused = next(err for _, err, status in found if status == 4)
    winner = next(process.pid for process, (*_, status) in zip(both, found, strict=True) if status == 0)
    assert f"is held by process {winner} on {os.uname().nodename}" in refused
    run = only_run(tmp_path)
    assert run.status["parameters_sha256"] == unharmed.status["parameters_sha256"]
    assert timeless(run) == timeless(unharmed)
    assert len(run.environment) == 1


# A process that makes two checkpoints, then is killed at the n-th file operation of Python's of a third save, which
# deletes the first; each case is a child of one process, so that the imports are made once.
SAVER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from classicnets.runs import checkpoints
root, cases = Path(sys.argv[1]), [int(n) for n in sys.argv[2:]]
operations = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree")
state = {"a": np.arange(1000.0), "b": {"c": np.ones((3, 4), np.float32)}}
seen, limit = 0, None
def watch(event, arguments):
    global seen
    if limit is not None and event in operations:
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
for case in cases:
    child = os.fork()
    if not child:
        here = root / str(case)
        here.mkdir()
        checkpoints.save(here, 1, state); checkpoints.save(here, 2, state)
        limit = case
        checkpoints.save(here, 3, state)
        limit = None
        (here / "survived").touch()
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_killed_at_each_file_operation_of_a_save_and_a_deletion(tmp_path):
    numbers = range(1, 400) if ALL else [1, 20, 60, 90, 100, 105, 110, 115, 120, 130]
    for i in range(0, len(numbers), 20):
        part = [str(n) for n in numbers[i : i + 20]]
        subprocess.run([sys.executable, "-c", SAVER, str(tmp_path), *part], check=True)
        if (tmp_path / part[-1] / "survived").exists():
            break
    folders = sorted(tmp_path.iterdir(), key=lambda p: int(p.name))
    assert any((folder / "survived").exists() for folder in folders) or not ALL
    seen = set()
    for folder in folders:
        steps = checkpoints.steps(folder)
        seen.add(tuple(steps))
        assert [checkpoints.damage(folder, step) for step in steps] == [None] * len(steps), folder
        assert steps in ([1, 2], [1, 2, 3], [2, 3]), folder
        checkpoints.clean(folder)
        assert {p.name for p in folder.iterdir()} - {"survived"} == set(map(str, steps))
        assert all(float(checkpoints.restore(folder, step, STATE)["a"][7]) == 7 for step in steps)
    assert {(1, 2), (2, 3)} <= seen


STATE = {"a": np.zeros(1000), "b": {"c": np.zeros((3, 4), np.float32)}}


def bits(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def page(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = rng.randrange(0, len(content), 4096)
    if not any(content[start : start + 4096]):
        start = next(i for i in range(0, len(content), 4096) if any(content[i : i + 4096]))
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(bytes(content))


def shorter(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size))


@pytest.mark.parametrize(("harm", "number"), [(bits, 100), (page, 50), (shorter, 50)])
def test_damage_is_found_and_named_and_the_step_before_used(harm, number, unharmed, tmp_path):
    rng = random.Random(harm.__name__)
    for i in range(number if ALL else number // 5):
        root = tmp_path / str(i)
        shutil.copytree(unharmed.checkpoints, root)
        before, newest = checkpoints.steps(root)[-2:]
        files = [p for p in (root / str(newest)).rglob("*") if p.is_file() and any(p.read_bytes())]
        victim = rng.choice(sorted(files))
        harm(victim, rng)
        assert checkpoints.damage(root, newest) == str(victim.relative_to(root / str(newest)))
        assert checkpoints.newest_good(root) == before
        shutil.rmtree(root)


def test_a_damaged_step_is_set_aside_and_saved_again(unharmed, tmp_path):
    shutil.copytree(unharmed.path, tmp_path / "default" / unharmed.id)
    run = only_run(tmp_path)
    newest = checkpoints.steps(run.checkpoints)[-1]
    bits(run.checkpoints / str(newest) / "manifest.json", random.Random(0))
    status, out, _ = run_to_end("verify", run.id, "--runs", tmp_path, "--json")
    problems = json.loads(out)["problems"]
    assert status == 6
    assert problems[0] == f"{run.checkpoints / str(newest) / 'manifest.json'} is damaged"
    run.set_status("running", step=newest)
    status, _, err = run_to_end(*TRAIN, "--runs", tmp_path)
    assert f"checkpoint {newest} of {run.id} is damaged (manifest.json) and was set aside" in err
    assert status == 0
    assert checkpoints.damage(run.checkpoints, newest) is None
    assert run.status["parameters_sha256"] == unharmed.status["parameters_sha256"]
    assert (run.checkpoints / f"damaged-{newest}").is_dir()


@contextmanager
def disk(path: Path, size: str):
    """A file system of its own, of `size` bytes."""
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path, leave: int) -> Path:
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):  # the run writes at the same time
        while shutil.disk_usage(path).free > leave:
            file.write(bytes(4096))
    return ballast


@cases(1, 20)
def test_a_disk_that_fills(seed, unharmed, tmp_path):
    with disk(tmp_path / "disk", "8m") as root:
        process = start(*TRAIN, "--runs", root)
        when = seed % 5
        wait_for(lambda: len(list(root.glob("*/*/checkpoints/[0-9]*"))) >= min(when, 2), process)
        time.sleep(random.Random(seed).uniform(0, 0.3))
        ballast = fill(root, leave=4096 * random.Random(seed).randrange(8))
        out, err = process.communicate(timeout=120)
        if process.returncode == 0:
            assert json.loads(out)["parameters_sha256"] == unharmed.status["parameters_sha256"]
            return
        assert process.returncode == 5, err
        *progress, sentence = err.splitlines()
        assert str(root) in sentence
        assert "bytes" in sentence
        assert all(line.startswith((str(root), "epoch ")) for line in progress)
        assert_whole(root)
        assert not list(root.glob("*/*/checkpoints/tmp-*"))
        ballast.unlink()
        assert_ends_like(unharmed, root)


def test_a_disk_that_is_too_small_is_refused_before_compiling(tmp_path):
    with disk(tmp_path / "disk", "64k") as root:
        status, _, err = run_to_end(*TRAIN, "--runs", root)
        assert status == 5
        assert "checkpoints could not be written: " in err
        assert not list(root.iterdir())


@pytest.mark.parametrize("kept_as", ["arrays", "shards"])
def test_a_disk_that_is_too_small_for_a_data_set_leaves_nothing(kept_as, tmp_path):
    class_folders(tmp_path / "source", 2, 50, size=(64, 64))
    with disk(tmp_path / "disk", "1m") as root:
        words = ("data", "prepare", "mine", "--source", tmp_path / "source", "--store", kept_as)
        process = start(*words, CLASSICNETS_DATA=str(root / "data"))
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (2, ""), err
        assert err.startswith("classicnets: preparing mine failed: ") and len(err.splitlines()) == 1
        # NumPy says of a short write how much was written.
        assert "No space left on device" in err or "requested and" in err
        assert not list(root.iterdir())


class Poisoned(nn.Module):
    """A small network in which a value is not finite at one step, counted by itself."""

    where: str
    at: int
    value: str

    @nn.compact
    def __call__(self, images, *, train: bool):
        count = self.variable("batch_stats", "count", jnp.zeros, ())
        poison = self.variable("batch_stats", "poison", jnp.zeros, ())
        now = count.value == self.at - 1
        weight = self.param("weight", nn.initializers.ones, ())
        logits = nn.Dense(10)(images.reshape(len(images), -1)) + 0 * weight
        if train and not self.is_initializing():
            count.value += 1
            if self.where == "loss":
                logits = jnp.where(now, float(self.value), logits)
            elif self.where == "batch statistics poison":
                poison.value = jnp.where(now, float(self.value), 0.0)
            elif self.where == "gradient weight":  # the slope of a root at 0
                logits += jnp.where(now, jnp.sqrt(jnp.where(now, weight - 1, 1.0)), 0.0)
        elif self.where.endswith("_loss"):
            logits = jnp.where(count.value >= self.at, jnp.nan, logits)
        return logits


@pytest.mark.parametrize("where", ["loss", "gradient weight", "batch statistics poison", "train_loss"])
def test_a_value_that_is_not_finite_ends_the_run(where, tmp_path):
    rng = random.Random(where)
    for i in range(10 if ALL else 2):
        at, value = rng.randrange(12, 34), rng.choice(["nan", "inf"])
        how = Execution(checkpoint_seconds=0, steps_per_dispatch=rng.randrange(1, 12))
        config = Config(recipe=Recipe(epochs=3, weight_decay=0, momentum=0, learning_rate=1e-3))
        run = train(
            Poisoned(where, at, value), config, runs=tmp_path, experiment=str(i), name="poisoned", execution=how
        )
        status = run.status
        assert (status["state"], status["tensor"]) == ("diverged", where)
        assert status["step"] == (-(-at // 11) * 11 if where == "train_loss" else at)
        good = checkpoints.newest_good(run.checkpoints)
        assert good == status["checkpoint"] == checkpoints.steps(run.checkpoints)[-1]
        assert 11 <= good < at or where == "train_loss"
        best = min((r["validation_error"], r["step"]) for r in run.metrics if r["validation_loss"] is not None)[1]
        assert best in checkpoints.steps(run.checkpoints)
        assert best < at


def test_what_is_not_finite_is_not_saved_and_no_step_goes_back(tmp_path):
    good = {"a": np.ones(3)}
    checkpoints.save(tmp_path, 4, good)
    with pytest.raises(checkpoints.NotFinite, match="a"):
        checkpoints.save(tmp_path, 5, {"a": np.array([1, np.nan, 2])})
    for step in (3, 4):
        with pytest.raises(FileExistsError, match=f"{step} would not be newer than 4"):
            checkpoints.save(tmp_path, step, good)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["4"]
    for step in (6, 8, 10, 12):
        checkpoints.save(tmp_path, step, good, keep=2, kept={6})
    assert checkpoints.steps(tmp_path) == [6, 10, 12]


NAMES = ["..", "../x", "/etc/x", "a/b", "", ".", "x" * 101, "a\nb", "a b", "é", "a;rm", "$HOME", "a\\b", "-\u202e", "~"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_refused(name, tmp_path):
    root = tmp_path / "runs"
    for experiment, label in ((name, "net"), ("default", name)):
        with pytest.raises(ValueError, match="letters, digits"):
            Run.of(root, experiment, label, {"seed": 0})
    assert not root.exists()


def test_links_out_of_the_root_are_refused(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "runs"
    outside.mkdir()
    root.mkdir()
    (root / "away").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link out of"):
        Run.of(root, "away", "net", {"seed": 0})
    run = Run.of(root, "here", "net", {"seed": 0})
    run.path.parent.mkdir()
    run.path.symlink_to(outside)
    with pytest.raises(ValueError, match="is a link out of"):
        Run.of(root, "here", "net", {"seed": 0})
    with pytest.raises(ValueError, match="runs must be a directory"):
        Run.of(Path("a\0b"), "here", "net", {"seed": 0})
    with pytest.raises(ValueError, match="no run"):
        find_run(root, "../outside")
    assert not list(outside.iterdir())


@cases(1, 20)
def test_damaged_prepared_data_is_never_trained_on(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path))
    images = np.random.default_rng(seed).integers(0, 255, (40, 28, 28, 1)).astype(np.uint8)
    with store.replacing("mnist") as scratch:
        arrays.write(scratch / "new", images, np.arange(40, dtype=np.int32) % 10, {"train": 30, "test": 10})
    rng = random.Random(seed)
    bits(tmp_path / "mnist" / rng.choice(["images.npy", "labels.npy"]), rng)
    with pytest.raises(ValueError, match=r"data set 'mnist' is damaged: .*classicnets data prepare mnist"):
        arrays.read("mnist")


@pytest.mark.skipif(not ALL, reason="needs Debian's faketime; make faults runs it")
@pytest.mark.parametrize("shifts", [("-1d", "+0d"), ("+1d", "+0d"), ("+0d", "-1d"), ("+0d", "+1d")])
def test_a_clock_that_jumps_changes_nothing(shifts, unharmed, tmp_path):
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    for epochs, shift in zip((3, EPOCHS), shifts, strict=True):
        clock = {"LD_PRELOAD": str(library), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        if epochs == 3:
            process = start(*TRAIN, "--runs", tmp_path, **clock)
            wait_for(lambda: any(tmp_path.glob("*/*/checkpoints/33")), process)
            process.kill()
            process.communicate()
            before = checkpoints.steps(only_run(tmp_path).checkpoints)
            assert before == sorted(before)
        else:
            status, _, err = run_to_end(*TRAIN, "--runs", tmp_path, **clock)
            assert status == 0, err
    run = only_run(tmp_path)
    assert timeless(run) == timeless(unharmed)
    assert checkpoints.newest_good(run.checkpoints) == unharmed.status["step"]
    assert run.status["parameters_sha256"] == unharmed.status["parameters_sha256"]


def test_a_run_is_repeated_from_its_record(unharmed, tmp_path):
    shutil.copytree(unharmed.path, tmp_path / "default" / unharmed.id)
    status, out, err = run_to_end("rerun", unharmed.id, "--runs", tmp_path)
    assert (status, out, err) == (0, f"{unharmed.id}: bit-identical\n", "")
    run = Run(tmp_path / "default" / unharmed.id)
    lines = [json.dumps(r | {"test_loss": 1.0} if r["epoch"] == 3 else r) for r in run.metrics]
    (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    status, out, _ = run_to_end("rerun", unharmed.id, "--runs", tmp_path, "--json")
    found = json.loads(out)
    assert status == 1
    assert (found["identical"], found["step"], found["field"], found["recorded"]) == (False, 33, "test_loss", 1.0)


def test_a_fork_starts_from_the_weights_and_names_its_parent(unharmed, tmp_path):
    shutil.copytree(unharmed.path, tmp_path / "default" / unharmed.id)
    words = ["fork", unharmed.id, "--runs", tmp_path, "--learning-rate", "1e-6", "--steps", "1", "--json"]
    status, out, err = run_to_end(*words)
    assert status == 0, err
    fork = Run(Path(json.loads(out)["directory"]))
    assert fork.id != unharmed.id
    assert fork.facts["parent"]["run"] == unharmed.id
    assert fork.facts["parent"]["step"] == unharmed.status["step"]
    # At this rate the parent's errors are the fork's.
    assert abs(fork.status["train_loss"] - unharmed.status["train_loss"]) < 0.01
    before = sorted(tmp_path.rglob("*"))
    status, _, err = run_to_end("fork", unharmed.id, "--runs", tmp_path, "--width", "0.5")
    assert (status, len(err.splitlines()), sorted(tmp_path.rglob("*"))) == (2, 1, before)
    assert "has shape" in err
    shutil.rmtree(tmp_path / "default" / unharmed.id)  # a fork that has begun does not need its parent
    status, out, _ = run_to_end("resume", fork.id, "--runs", tmp_path, "--json")
    assert (status, json.loads(out)["run"]) == (0, fork.id)


def test_other_conditions_are_told_and_recorded(unharmed, tmp_path):
    shutil.copytree(unharmed.path, tmp_path / "default" / unharmed.id)
    run = only_run(tmp_path)
    segments = run.environment
    segments[-1] |= {"cores": 99, "versions": {**segments[-1]["versions"], "jax": "0.1"}}
    (run.path / "environment.json").write_text(json.dumps(segments))
    run.set_status("running", step=0)
    status, _, err = run_to_end(*TRAIN, "--runs", tmp_path)
    assert status == 0
    assert "resumed under other conditions, bits can differ from here: cores 99 -> " in err
    assert "jax 0.1 -> " in err
    assert len(run.environment) == len(segments) + 1
