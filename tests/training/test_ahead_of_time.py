"""Compiled programs are counted, and programs for TPUs and GPUs compile."""

import json
import os
import pathlib
import subprocess
import sys
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags as absl_flags

from valuelab import environments
from valuelab.errors import InputError, MissingExtraError
from valuelab.runs import ahead_of_time as launcher
from valuelab.training import ahead_of_time, compiled_programs, throughput, topologies
from valuelab.training.ahead_of_time import Memory
from valuelab.training.compiled_programs import Collective
from valuelab.training.feeding import MOST_UPDATES
from valuelab.training.topologies import ACCELERATORS, Topology

ROOT = pathlib.Path(__file__).resolve().parents[2]

PROGRAM = """\
HloModule jit_advance, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%rows (data: f32[100,4], at: s32[8]) -> f32[8,4] {
  %data = f32[100,4]{1,0} parameter(0)
  %same = f32[100,4]{1,0} bitcast(%data)
  %at = s32[8]{0} parameter(1)
  ROOT %taken = f32[8,4]{1,0} gather(%same, %at), offset_dims={1}, slice_sizes={1,4}
}

%insert (ring: f32[50,4], row: f32[1,4], place: s32[]) -> f32[50,4] {
  %ring = f32[50,4]{1,0} parameter(0)
  %row = f32[1,4]{1,0} parameter(1)
  %place = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %new = f32[50,4]{1,0} dynamic-update-slice(%ring, %row, %place, %zero)
}

%linear (x: f32[8,4], w: f32[4,3]) -> f32[8,3] {
  %x = f32[8,4]{1,0} parameter(0)
  %w = f32[4,3]{1,0} parameter(1)
  ROOT %y = f32[8,3]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%flow_step (state: (s32[], f32[8,4], f32[4,3])) -> (s32[], f32[8,4], f32[4,3]) {
  %state = (s32[], f32[8,4]{1,0}, f32[4,3]{1,0}) parameter(0)
  %point = f32[8,4]{1,0} get-tuple-element(%state), index=1
  %weights = f32[4,3]{1,0} get-tuple-element(%state), index=2
  %velocity = f32[8,3]{1,0} fusion(%point, %weights), kind=kCustom, calls=%linear
  %moved = f32[8,4]{1,0} custom-call(%velocity, %weights), custom_call_target="__cublas$gemm"
  ROOT %next = (s32[], f32[8,4]{1,0}, f32[4,3]{1,0}) tuple(%point, %moved, %weights)
}

%more (state: (s32[], f32[8,4], f32[4,3])) -> pred[] {
  %state.1 = (s32[], f32[8,4]{1,0}, f32[4,3]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

%update (carry: (s32[], f32[100,4], f32[50,4], f32[4,3])) -> (s32[], f32[100,4], f32[50,4], f32[4,3]) {
  %carry = (s32[], f32[100,4]{1,0}, f32[50,4]{1,0}, f32[4,3]{1,0:T(8,128)S(1)}) parameter(0)
  %step = s32[] get-tuple-element(%carry), index=0
  %all = f32[100,4]{1,0} get-tuple-element(%carry), index=1
  %buffer = f32[50,4]{1,0} get-tuple-element(%carry), index=2
  %w.1 = f32[4,3]{1,0:T(8,128)S(1)} get-tuple-element(%carry), index=3
  %one = s32[] constant(1)
  %step.1 = s32[] add(%step, %one)
  %index = s32[8]{0} custom-call(%step), custom_call_target="draw"
  %batch = f32[8,4]{1,0} fusion(%all, %index), kind=kLoop, calls=%rows, metadata={op_name="a/while/gather"}
  %first = f32[1,4]{1,0} slice(%batch), slice={[0:1], [0:4]}
  %buffer.1 = f32[50,4]{1,0} fusion(%buffer, %first, %step), kind=kLoop, calls=%insert
  %w.2 = f32[4,3]{1,0} copy(%w.1)
  %start = (s32[], f32[8,4]{1,0}, f32[4,3]{1,0}) tuple(%step, %batch, %w.2)
  %flow = (s32[], f32[8,4]{1,0}, f32[4,3]{1,0}) while(%start), condition=%more, body=%flow_step, backend_config={"known_trip_count":{"n":"10"}}
  %end = f32[8,4]{1,0} get-tuple-element(%flow), index=1
  %reduce = f32[8,4]{1,0} all-reduce-start(%end), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%sum
  %reduced = f32[8,4]{1,0} all-reduce-done(%reduce)
  %gather = f32[32,4]{1,0} all-gather(%end), replica_groups=[2,4]<=[8], dimensions={0}
  %other = (f32[8,4]{1,0}, f32[8,4]{1,0}, u32[]) collective-permute-start(%end), source_target_pairs={{0,1},{1,0}}
  %swapped = f32[8,4]{1,0} collective-permute-done(%other)
  ROOT %result = (s32[], f32[100,4]{1,0}, f32[50,4]{1,0}, f32[4,3]{1,0}) tuple(%step.1, %all, %buffer.1, %w.2)
}

%before (carry: (s32[], f32[100,4], f32[50,4], f32[4,3])) -> pred[] {
  %carry.1 = (s32[], f32[100,4]{1,0}, f32[50,4]{1,0}, f32[4,3]{1,0}) parameter(0)
  %step.2 = s32[] get-tuple-element(%carry.1), index=0
  %last = s32[] constant(500)
  ROOT %go = pred[] compare(%step.2, %last), direction=LT
}

ENTRY %main (p: f32[100,4], q: f32[50,4], r: f32[4,3]) -> f32[4,3] {
  %p = f32[100,4]{1,0} parameter(0)
  %q = f32[50,4]{1,0} parameter(1)
  %r = f32[4,3]{1,0} parameter(2)
  %zero.1 = s32[] constant(0)
  %in = (s32[], f32[100,4]{1,0}, f32[50,4]{1,0}, f32[4,3]{1,0}) tuple(%zero.1, %p, %q, %r)
  %out = (s32[], f32[100,4]{1,0}, f32[50,4]{1,0}, f32[4,3]{1,0}) while(%in), condition=%before, body=%update, backend_config={"known_trip_count":{"n":"500"},"note":"x"}
  ROOT %weights.1 = f32[4,3]{1,0} get-tuple-element(%out), index=3
}
"""  # noqa: E501


def test_kernels_of_an_update():
    """Fusions: %batch and %buffer.1. Products: %velocity and %moved, ten times each."""
    loop = compiled_programs.loop(PROGRAM)
    assert loop.kernels == {"products": 20, "fusions": 2, "copies": 1, "other": 2}  # %index and %first
    assert loop.trip_count == 500
    assert loop.launches == 25 + 3
    inner = compiled_programs.loop(PROGRAM, depth=2)
    assert (inner.trip_count, inner.kernels["products"], inner.launches) == (10, 2, 2)


def test_a_condition_counts_where_the_number_of_iterations_is_unknown():
    """In a GPU's program the condition is a fusion, and the host reads its result in each iteration."""
    compare = "  ROOT %go = pred[] compare(%step.2, %last), direction=LT"
    fused = "  ROOT %go = pred[] fusion(%step.2, %last), kind=kLoop, calls=%sum"
    unnamed = PROGRAM.replace('"known_trip_count":{"n":"500"},', "")
    assert compiled_programs.loop(unnamed).trip_count == 500  # as for a TPU: from 0, while less than 500
    unknown = unnamed.replace(compare, fused)
    loop = compiled_programs.loop(unknown)
    assert loop.trip_count is None
    assert loop.kernels["fusions"] == 3


def test_collectives_of_an_update():
    """On a ring of four, an all-reduce sends 2 · 3/4 of its result, an all-gather 3/4."""
    batch = 8 * 4 * 4
    assert compiled_programs.loop(PROGRAM).collectives == {
        "all-gather": Collective(1, 4 * batch, 3 * batch),
        "all-reduce": Collective(1, batch, 1.5 * batch),
        "collective-permute": Collective(1, batch, batch),
    }
    mesh = "replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_1'}, use_global"
    moved = PROGRAM.replace("replica_groups={{0,1,2,3},{4,5,6,7}}", mesh)  # groups of two
    assert compiled_programs.loop(moved).collectives["all-reduce"] == Collective(1, batch, batch)


def test_bytes_of_an_update():
    """Only the rows that are read count, only the row that is replaced, and nothing in on-chip memory."""
    row, batch, index, weights, outputs = 16, 128, 32, 48, 96
    expected = {
        "draw": 4 + index,  # the step and the result
        "rows": 2 * batch + index,  # 8 of 100 rows, the batch, the indices
        "slice": batch + row,
        "insert": 2 * row + 4,  # the row read and written, and its place
        "copy": weights,  # its operand is in on-chip memory
        "flow": 10 * ((batch + weights + outputs) + (outputs + weights + batch)),
    }
    assert compiled_programs.loop(PROGRAM).bytes == sum(expected.values())


def test_sizes_of_arrays():
    assert compiled_programs.size("(f32[2,3]{1,0}, s32[])") == 28
    assert (
        compiled_programs.size("(bf16[2,128,28]{1,2,0:T(8,128)(2,1)}, pred[7], f8e4m3fn[5])") == 14336 + 7 + 5
    )
    assert compiled_programs.size("f32[4]{0:T(128)S(1)}") == 0
    assert compiled_programs.size("f32[4]{0:T(128)S(1)}", on_chip=True) == 16


def test_a_text_without_a_program_or_loop_is_refused():
    with pytest.raises(InputError, match="not that of a compiled program"):
        compiled_programs.loop("")
    text = jax.jit(lambda x: x + 1).lower(jnp.ones(3)).compile().as_text()
    with pytest.raises(InputError, match="has no loop"):
        compiled_programs.loop(text)


def test_flop_of_products_and_convolutions():
    """A product [2, 3] x [3, 5] in five iterations, and a 3 x 3 convolution of 2 channels to 4 on 8 x 8."""

    def program(left, right, images, kernel):
        looped = jax.lax.fori_loop(0, 5, lambda _, x: x + (left @ right).sum(), 0.0)
        return looped, jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME")

    shapes = ((2, 3), (3, 5), (1, 2, 8, 8), (4, 2, 3, 3))
    jaxpr = jax.make_jaxpr(program)(*map(jnp.ones, shapes)).jaxpr
    assert throughput.product_flop(jaxpr) == 5 * 2 * 30 + 2 * (4 * 64) * (2 * 9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h20", "unknown topology 'h20': did you mean 'h200'"),
        ("v5:2x4", "unknown topology 'v5:2x4': did you mean 'v5"),
        ("v5e", "topology 'v5e' cannot be described: give one of v5e:1x1, v5e:2x2, "),
        ("v5e:2x2x2", "topology 'v5e:2x2x2' cannot be described: give one of v5e:1x1, v5e:2x2, "),
        ("v5p:2x4", "topology 'v5p:2x4' cannot be described: give one of v5p:2x2x1, "),
        ("h200:9", "topology 'h200:9' cannot be described: give one of h200, h200:2, h200:4, h200:8$"),
    ],
)
def test_unknown_topologies_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        topologies.describe(name)


@pytest.mark.parametrize(
    ("name", "package", "requirement"),
    [
        (
            "h200",
            "jax_plugins.xla_cuda12",
            f"jax-cuda12-plugin=={jax.__version__} jax-cuda12-pjrt=={jax.__version__}",
        ),
        ("v5e:2x4", "libtpu", "libtpu=="),
    ],
)
def test_a_missing_package_is_named_with_its_command(name, package, requirement, monkeypatch, tmp_path):
    monkeypatch.setattr(topologies, "FOLDER", tmp_path / "missing folder")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        topologies.describe(name)
    assert f"pip install --no-deps '--target={tmp_path / 'missing folder'}'" in str(caught.value)
    assert requirement in str(caught.value)


def test_a_program_that_does_not_fit_is_refused():
    accelerator = ACCELERATORS["v5e"]
    memory = Memory(20 << 30, 1 << 30, 0, 0, accelerator.memory)
    program = ahead_of_time.Lowered(
        lowered=None,
        flop=0.0,
        depth=1,
        num_devices=1,
        num_members=1,
        arguments={"data": 18e9, "states": 2e9},
    )
    with pytest.raises(
        InputError, match=r"22.5 GB, 5.4 GB more. Its largest known part is the data \(18.0 GB\): give"
    ):
        ahead_of_time.check_fits(program, accelerator, memory)
    ahead_of_time.check_fits(program, accelerator, memory._replace(arguments=1 << 30))


@pytest.mark.parametrize(
    "message",
    [
        "Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded hbm capacity by 4.25G.",
        "the total memory required for HLO temporaries (20.00G) exceeds available HBM (15.75G)",
    ],
)
def test_the_memory_that_xla_misses(message):
    missing = "it needs 21.5 GB, 4.6 GB more than are free"
    assert ahead_of_time._missing_memory(f"RESOURCE_EXHAUSTED: {message}") == missing


def test_a_simulator_on_the_host_is_replaced():
    """An environment that is computed on the device stays."""
    kept, host = (environments.vector(name, 8) for name in ("gridworld/target", "gymnasium/Pendulum-v1"))
    assert ahead_of_time.on_device(kept) is kept
    replaced, actions = ahead_of_time.on_device(host), jnp.zeros((8, 1))
    simulated, drawn = (each.step(each.reset(jax.random.key(0))[0], actions)[1] for each in (host, replaced))
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, simulated)
    assert np.isfinite(drawn.observations).all()


def test_the_report_on_a_program(capsys):
    """Two members and four shards on the virtual devices of this process."""
    line = ["test", "--agent=iql", "--agent.hidden_dims=8", "--batch_size=8", "--mesh=2,4", "--log_every=4"]
    config, make_agent = launcher.parse(line, absl_flags.FlagValues())
    topology = Topology("cpu", ACCELERATORS["v5e"], jax.devices())
    program = launcher.lower(config, make_agent, topology)
    assert (program.num_devices, program.num_members) == (8, 2)
    assert program.digest == launcher.lower(config, make_agent, topology).digest
    report, _ = ahead_of_time.compile_and_report(program, topology.accelerator)
    assert report.loop.collectives["all-reduce"].number > 0
    assert report.updates_per_second == pytest.approx(2 / max(report.seconds.values()))
    facts = {"agent": "iql", "topology": "cpu", "num_members": 2, "num_devices": 8, **report.to_json()}
    before = json.loads(json.dumps(facts)) | {"flop": 2 * report.flop}
    launcher.show(facts, before)
    printed = capsys.readouterr().out
    assert "another program" not in printed
    lines = [line for line in printed.splitlines() if "FLOP" in line]
    assert len(lines) == 1
    assert lines[0].rstrip(" │").endswith("-50.0%")
    launcher.show(facts, before | {"agent": "fql"})
    assert "another program: fql, 2 member(s) on 8 device(s) of cpu" in capsys.readouterr().out


def test_the_data_of_a_streamed_run_are_the_batches_of_a_chunk(tmp_path):
    """The rows of the dataset are not on the devices."""
    observations, episode = np.zeros((40, 3), np.float32), np.arange(40) % 10 == 9
    path = tmp_path / "mine.npz"
    np.savez(path, observations=observations, actions=np.zeros((40, 2), np.float32), terminals=episode)
    line = ["test", "--agent=bc", "--agent.hidden_dims=8", "--batch_size=8", "--log_every=4"]
    line += [f"--dataset={path}", f"--data_dir={tmp_path}", "--eval_episodes=0", "--data.stream"]
    config, make_agent = launcher.parse(line, absl_flags.FlagValues())
    program = launcher.lower(config, make_agent, Topology("cpu", ACCELERATORS["v5e"], jax.devices()))
    updates = MOST_UPDATES // 4 * 4
    assert program.arguments["data"] == updates * (3 + 2 + 3) * 4  # a row of observation, action and goal


def test_settings_that_cannot_be_used_are_refused():
    def refused(*words: str) -> str:
        with pytest.raises(InputError) as caught:
            launcher.main(launcher.parse(["test", "--agent=iql", *words], absl_flags.FlagValues()))
        return str(caught.value)

    assert "no topology is given: write --topology=NAME, with one of v5e:1x1" in refused()
    assert "report on a compiled program" in refused(
        "--topology=h200", f"--compare={ROOT / 'pyproject.toml'}"
    )
    for words, message in (
        (("--agent=iql", "--mesh=3,4"), "mesh 3,4 does not fit 8 device"),
        (
            ("--agent=eta_network",),
            "random data, whose actions --num_actions chooses: agent eta_network needs",
        ),
    ):
        config, make_agent = launcher.parse(["test", *words], absl_flags.FlagValues())
        with pytest.raises(InputError, match=message):
            launcher.lower(config, make_agent, Topology("cpu", ACCELERATORS["v5e"], jax.devices()))


TABLE = ROOT / "benchmarks" / "ahead_of_time.json"


@pytest.mark.slow
@pytest.mark.skipif(not topologies.FOLDER.is_dir(), reason="make compilers installs them")
@pytest.mark.parametrize(
    ("topology", "programs"), [("v5e:2x4", ["iql", "fql", "td_jepa"]), ("h200", ["iql"])]
)
def test_programs_are_those_of_the_table(topology, programs, tmp_path):
    """Kernels and collectives of an update; fewer kernels are an improvement: make the table again."""
    table = json.loads(TABLE.read_text())["programs"]
    if table["iql"][topology]["versions"]["jax"] != metadata.version("jax"):
        pytest.skip("the table was made with another version of JAX")
    out = tmp_path / "table.json"
    chosen = [f"--topologies={topology}", *(f"--programs={name}" for name in programs)]
    line = ["-m", "experiments.studies.speed.ahead_of_time", *chosen, f"--out={out}"]
    clean = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run([sys.executable, *line], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    made = json.loads(out.read_text())["programs"]
    for name in programs:
        counted, expected = (
            {part: each[name][topology][part] for part in ("kernels", "collectives", "trip_count")}
            for each in (made, table)
        )
        assert counted == expected, (
            f"{name}: run python -m experiments.studies.speed.ahead_of_time --out={TABLE}"
        )
