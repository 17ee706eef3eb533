"""Nothing outside a record decides its numbers: what could is pinned, or is part of the run's name."""

import contextlib
import json
import os
import subprocess
import sys

import jax
import pytest
from flax import linen as nn

from classicnets.runs.identity import digest
from classicnets.system import settings
from classicnets.system.environment import differences, environment
from classicnets.training import Config, Execution, Recipe, facts, train


class Mlp(nn.Module):
    """One hidden layer, dropout, batch norm: all that draws or sums."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.relu(nn.Dense(16)(images.reshape(len(images), -1)))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(10)(nn.Dropout(0.1, deterministic=not train)(x))


CONFIG, ONE = Config(recipe=Recipe(steps=3)), Execution(devices=1)


@contextlib.contextmanager
def process_with(values):
    """The settings of a process whose environment holds `values`."""
    before = {name: jax.config.values[name] for name in values}
    try:
        for name, value in values.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    return train(Mlp(), CONFIG, runs=tmp_path_factory.mktemp("default"), experiment="e", name="mlp", execution=ONE)


PINNED = [
    {"jax_default_prng_impl": "rbg"},
    {"jax_threefry_partitionable": False, "jax_random_seed_offset": 7},
    {"jax_enable_x64": True, "jax_default_matmul_precision": "bfloat16"},
    {"jax_numpy_dtype_promotion": "strict", "jax_debug_nans": True},
]


@pytest.mark.parametrize("values", PINNED, ids=lambda values: "-".join(values))
def test_pinned_settings_of_a_process_change_neither_bits_nor_name(default, tmp_path, values):
    with process_with(values):
        run = train(Mlp(), CONFIG, runs=tmp_path, experiment="e", name="mlp", execution=ONE)
        assert {name: jax.config.values[name] for name in values} == values  # which are the process's own again
    assert run.id == default.id
    assert run.status["parameters_sha256"] == default.status["parameters_sha256"]
    assert run.status["test_loss"] == default.status["test_loss"]
    assert run.environment[0]["settings"] == values
    assert f"settings {{}} -> {str(values)[:60]}" in differences(default.environment[0], run.environment[0])


def test_settings_of_the_thread_are_pinned_too(default, tmp_path):
    with jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.default_matmul_precision("bfloat16"):
        run = train(Mlp(), CONFIG, runs=tmp_path, experiment="e", name="mlp", execution=ONE)
    assert (run.id, run.status["parameters_sha256"]) == (default.id, default.status["parameters_sha256"])


@pytest.mark.parametrize(
    "values", [{"jax_disable_most_optimizations": True}, {"jax_optimization_level": "O1"}, {"jax_enable_pgle": True}]
)
def test_settings_that_cannot_be_pinned_are_part_of_the_name(values):
    before = facts(Mlp(), CONFIG, ONE)
    assert "settings" not in before
    with process_with(values):
        now = facts(Mlp(), CONFIG, ONE)
    assert now["settings"] == values
    assert digest(now) != digest(before)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("", None),
        ("--xla_force_host_platform_device_count=2 --xla_dump_to=/tmp/dump", None),
        ("--xla_cpu_enable_fast_math", ["xla_cpu_enable_fast_math=true"]),
        ("--xla_cpu_enable_fast_math=false --xla_cpu_enable_fast_math=true", ["xla_cpu_enable_fast_math=true"]),
        ("--xla_b=2 --xla_a=1", ["xla_a=1", "xla_b=2"]),
        ("--xla_a=1   --xla_b=2 --xla_dump_hlo_as_text", ["xla_a=1", "xla_b=2"]),
        ("FILE", ["xla_a=1"]),
    ],
)
def test_xla_flags_that_may_change_numbers_are_part_of_the_name(monkeypatch, tmp_path, flags, named):
    ours = " ".join(f"--{name}={value}" for name, (value, _) in settings.FLAGS.items())
    (tmp_path / "flags").write_text(f"--xla_a=1\n--xla_dump_to=x\n{ours}\n", encoding="utf-8")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags") if flags == "FILE" else f"{flags} {ours}")
    settings.xla_flags.cache_clear()
    try:
        assert settings.identifying().get("xla_flags") == named
    finally:
        monkeypatch.delenv("XLA_FLAGS")
        settings.xla_flags.cache_clear()


# Prints what a process, and one that it starts, add to a run's name.
NAMED = """
import json, subprocess, sys
{before}
from classicnets.system import settings
named = settings.identifying()
own = "from classicnets.system import settings; import json; print(json.dumps(settings.identifying()))"
child = json.loads(subprocess.run([sys.executable, "-c", own], capture_output=True, text=True, check=True).stdout)
import classicnets, jax, jax.numpy as jnp
conv = jax.jit(lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME"))
program = conv.lower(jnp.ones((8, 32, 16, 16)), jnp.ones((32, 32, 3, 3))).compile()
print(json.dumps([named, child, "ynn" in program.as_text()]))
"""
FLAG = "xla_cpu_experimental_ynn_fusion_type"
HARMLESS = "--xla_force_host_platform_device_count=2"
KEPT, LEFT = (f"{FLAG}={sign}LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION" for sign in "+-")


@pytest.mark.parametrize(
    ("flags", "before", "named"),
    [
        ("", "", {}),
        (HARMLESS, "import classicnets, jax; jax.devices()", {}),
        (f"--{LEFT}", "import jax; jax.devices()", {}),
        ("FILE", "import classicnets", {}),
        # Set by a user after the import, before a backend starts: completed when something is named or computed.
        ("", f"import classicnets, os; os.environ['XLA_FLAGS'] = '{HARMLESS}'", {}),
        # A user's own value stays, and what a backend has started with cannot be changed: the name says so.
        (f"--{KEPT}", "", {"xla_flags": [KEPT]}),
        ("", "import jax; jax.devices()", {"xla_flags": [KEPT]}),
    ],
)
def test_flags_are_set_before_a_backend_starts_or_told_by_the_name(tmp_path, flags, before, named):
    (tmp_path / "flags").write_text(f"{HARMLESS}\n", encoding="utf-8")
    flags = str(tmp_path / "flags") if flags == "FILE" else flags
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {"XLA_FLAGS": flags}
    program = NAMED.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    own, child, convolved_by_ynn = json.loads(done.stdout)
    assert own == child == named
    assert convolved_by_ynn == bool(named)


def test_every_setting_of_the_tables_has_its_default_here():
    assert settings.recorded() == {}
    assert environment()["settings"] == {}


TRAIN = """
import json, sys
from tests.system.test_settings import CONFIG, ONE, Mlp
from classicnets.training import train
run = train(Mlp(), CONFIG, runs=sys.argv[1], experiment="e", name="mlp", execution=ONE)
print(json.dumps([run.id, run.status["parameters_sha256"]]))
"""
ENVIRONMENT = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_X64": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "7",
}


def test_a_process_with_another_environment_gives_the_same_digest(tmp_path):
    answers = []
    for other in ({}, ENVIRONMENT):
        command = [sys.executable, "-c", TRAIN, str(tmp_path / str(len(other)))]
        done = subprocess.run(command, env={**os.environ, **other}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert answers[0] == answers[1]
