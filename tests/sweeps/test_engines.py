"""Every engine computes the same bits; Ray survives the loss of a node."""

import json
import os
import random
import sys
import time
from pathlib import Path

import pytest
from helpers.sweeping import digests, kill, processes, start, swept

from classicnets.models import create
from classicnets.runs import Run
from classicnets.sweeps import Job, engines, sweep, worker
from classicnets.sweeps.engines import Placement
from classicnets.sweeps.jobs import text
from classicnets.sweeps.plan import require_place
from classicnets.system import accelerators
from classicnets.training import Config, Recipe

ACCELERATORS = ("CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")
ENGINES = {"local": [], "ray": ["--engine", "ray"], "slurm": ["--engine", "slurm", "--slurm", "cluster=local"]}
NET = ["sweep", "cifar_resnet", "--width", "0.25", "--epochs", "2", "--json"]
PAIR = [*NET, "--shortcut", "none", "A"]
SIXTEEN = ["sweep", "cifar_resnet", "--width", "0.25", "0.5", "--shortcut", "none", "A", "--seeds", "2"]
SIXTEEN += ["--epochs", "2", "--json"]
DEPTHS = ("8", "14")


def test_two_runs_have_the_same_bits_from_every_engine(tmp_path):
    rows = {engine: swept(tmp_path / engine, *words, grid=PAIR) for engine, words in ENGINES.items()}
    assert len(digests(rows["local"])) == 2
    assert digests(rows["local"]) == digests(rows["ray"]) == digests(rows["slurm"])
    for row in (*rows["ray"], *rows["slurm"]):
        (segment,) = Run(Path(row["directory"])).environment
        assert segment["cores"] == 1


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """The digests of the grid from local workers that nothing disturbs."""
    found = digests(swept(tmp_path_factory.mktemp("sixteen"), grid=SIXTEEN, depths=DEPTHS))
    assert len(found) == len(set(found.values())) == 16
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "slurm"])
def test_sixteen_runs_have_the_digests_of_local_workers(engine, sixteen, tmp_path):
    assert digests(swept(tmp_path, *ENGINES[engine], grid=SIXTEEN, depths=DEPTHS)) == sixteen


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_sixteen_runs_whose_workers_and_driver_are_killed_at_random(engine, sixteen, tmp_path):
    rng, complete, killed = random.Random(engine), {}, 0
    for _ in range(6):
        process = start(tmp_path, *ENGINES[engine], grid=SIXTEEN, depths=DEPTHS)
        for _ in range(3):
            name, deadline = f"classicnets.sweeps.worker {tmp_path}", time.monotonic() + 60
            while not processes(name) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(rng.uniform(0, 8))
            killed += kill(name, rng)
        process.kill()
        process.communicate()
        for path in tmp_path.glob("sweep/*/status.json"):
            if json.loads(path.read_text())["state"] == "complete":
                assert complete.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    assert digests(swept(tmp_path, *ENGINES[engine], grid=SIXTEEN, depths=DEPTHS)) == sixteen
    assert killed >= 3
    assert all(path.stat().st_mtime_ns == written for path, written in complete.items())
    assert len(list(tmp_path.glob("sweep/*/config.json"))) == 16


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_loses_one_and_the_sweep_completes(tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    try:
        net, epochs = create("cifar_resnet", depth=8, width=0.25, num_classes=10), 40
        jobs = [Job(net, Config(recipe=Recipe(epochs=epochs), seed=seed), f"s{seed}") for seed in range(4)]
        ends = engines.ray([text([j]) for j in jobs], tmp_path, Placement(2, 1, retries=2, address=cluster.address))
        found, begun = {}, time.monotonic()
        for end in ends:
            if end:
                found[end[0]] = end[1]["errors"]
            if lost and len(list(tmp_path.glob("*/*/metrics.jsonl"))) >= 2:
                cluster.remove_node(lost, allow_graceful=False)
                lost = None
            assert time.monotonic() - begun < 300
        assert lost is None
        assert found == {index: [None] for index in range(4)}
    finally:
        cluster.shutdown()
    assert [row["state"] for row in sweep(jobs, tmp_path)] == ["complete"] * 4


@pytest.mark.parametrize(
    ("engine", "words", "sentence"),
    [
        ("ray", ["--address", "127.0.0.1:1"], "no Ray cluster answers at '127.0.0.1:1'"),
        ("slurm", [], "slurm cannot be used"),
        ("slurm", ["--slurm", "cluster=local", "colour=red"], "slurm cannot be used"),
        ("slurm", ["--slurm", "cluster=local", "mem_gb=lots"], "slurm cannot be used: "),
    ],
)
def test_places_that_are_not_there(engine, words, sentence, tmp_path):
    process = start(tmp_path, "--engine", engine, *words, grid=NET)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_package_an_engine_names_the_extra(engine, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"the engine {engine} needs the extra '{engine}'"):
        next(engines.ENGINES[engine](["{}"], tmp_path, Placement()))


@pytest.fixture
def dev(tmp_path, monkeypatch):
    """A folder like /dev, jax's plugin for CUDA, and an environment that says nothing of accelerators."""
    for name in ("JAX_PLATFORMS", *ACCELERATORS):
        monkeypatch.delenv(name, raising=False)
    touch(tmp_path / "plugins", "jax_plugins/xla_cuda12.py")
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    return tmp_path


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()


def test_gpus_are_those_of_dev_or_of_the_environment(dev, monkeypatch):
    assert accelerators.visible(dev) == []
    touch(dev, "nvidia0", "nvidia2", "nvidia10", "nvidiactl", "nvidia-uvm", "accel0")
    assert accelerators.visible(dev) == [{"CUDA_VISIBLE_DEVICES": number} for number in ("0", "2", "10")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8932f937")
    assert accelerators.visible(dev) == [{"CUDA_VISIBLE_DEVICES": name} for name in ("3", "GPU-8932f937")]
    for nothing in ("", "-1", "-1,3", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert accelerators.visible(dev) == []


def test_where_jax_computes_on_the_cpu_there_are_no_accelerators(dev, monkeypatch):
    touch(dev, "nvidia0")
    for platforms, count in (("cpu", 0), ("cuda,cpu", 1), ("gpu", 1), ("", 1)):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert len(accelerators.visible(dev)) == count
    (dev / "plugins" / "jax_plugins" / "xla_cuda12.py").unlink()
    assert accelerators.visible(dev) == []


def test_tpu_chips_are_those_of_dev_where_libtpu_is(dev, monkeypatch):
    touch(dev, "accel0", "accel1")
    assert accelerators.visible(dev) == []
    touch(dev, "packages/libtpu.py")
    monkeypatch.syspath_prepend(dev / "packages")
    one, two = accelerators.visible(dev)
    assert [each["TPU_VISIBLE_CHIPS"] for each in (one, two)] == ["0", "1"]
    assert one["TPU_PROCESS_BOUNDS"] == one["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "1,1,1"
    assert [each["TPU_PROCESS_ADDRESSES"] for each in (one, two)] == ["localhost:8476", "localhost:8477"]
    newer = dev / "newer"
    newer.mkdir()
    touch(newer, "vfio/vfio", "vfio/0", "vfio/3")
    assert [each["TPU_VISIBLE_CHIPS"] for each in accelerators.visible(newer)] == ["0", "3"]
    monkeypatch.setenv("TPU_VISIBLE_CHIPS", "1")
    assert [each["TPU_VISIBLE_CHIPS"] for each in accelerators.visible(dev)] == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="jobs must be at most the 1 TPU chips here, got 2"):
        require_place("local", Placement(jobs=2))


def test_each_local_worker_sees_one_accelerator(dev, monkeypatch):
    """Each worker waits for the other, so that neither does both tasks."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    answer = f"""if True:
        import json, os, pathlib, time
        input()
        folder = pathlib.Path({str(dev)!r}, "workers")
        folder.mkdir(exist_ok=True)
        (folder / str(os.getpid())).touch()
        end = time.monotonic() + 60
        while len(list(folder.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        print(json.dumps({{"sees": os.environ["CUDA_VISIBLE_DEVICES"]}}), flush=True)
    """
    monkeypatch.setattr(worker, "command", lambda *_: [sys.executable, "-c", answer])
    ended = dict(each for each in engines.local(["[]", "[]"], dev, Placement(jobs=2)) if each)
    assert ended.keys() == {0, 1}
    assert sorted(found["sees"] for found in ended.values()) == ["3", "5"]


@pytest.mark.parametrize(
    ("visible", "cores", "workers"),
    [("", 1, 6), ("", 4, 1), ("", 9, 1), ("0,1", 1, 2), ("0,1", 4, 1), ("0,1,2,3", 3, 2)],
)
def test_a_machine_has_room_for_one_worker_an_accelerator(visible, cores, workers, dev, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(accelerators, "available", lambda: 6)
    assert accelerators.at_once(cores) == workers
    assert accelerators.at_once(cores, "slurm") == max(1, 6 // cores)


def test_what_sbatch_refuses_is_said_in_one_sentence(tmp_path, monkeypatch):
    for name, does in (("sbatch", "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1"), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    how = Placement(slurm=(("slurm_partition", "gpuu"), ("mem_gb", "1.5")))
    with pytest.raises(ValueError, match=r"^slurm cannot be used: .*invalid partition"):
        next(engines.slurm(["[]"], tmp_path / "runs", how))
