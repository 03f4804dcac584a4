r"""How fast does every agent learn on this accelerator, and how many kernels does an update launch?

    python -m experiments.studies.speed.gpu --out=FOLDER --seconds=520

measures piece after piece, the most informative first, until the time is up, and writes each into
FOLDER/gpu.json as soon as it is done. The same command continues with the pieces that are not in the file.
benchmarks/gpu.sh starts it on a machine that is lent for minutes.

    programs   for every agent and number of seeds: updates per second, seconds to compile, memory, and the
               kernels of an update as the compiled program states them; for the agents of FIRST also as a
               profiler measures them, with their time on the device
    graphs     the programs of IQL and FQL under the settings of CUDA graphs in GRAPHS
    runs       experiments.train with IQL and FQL on OGBench's data in --data_dir, if there are any: the last
               quarter of the time, and all that is left over

Data of the programs are random, because their speed depends only on shapes. An error becomes the content of
its piece, and the other pieces continue. If the process dies in a group of pieces, the next one tries each
of them alone; a piece that has ended two processes is not tried again. On a CPU, operations of the program
take the place of kernels. Give small agents there, such as --agents=iql:pointmaze --num_seeds=1.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import rich.table

from experiments.studies.speed import agent as speed_agent
from experiments.studies.speed.agent import AgentSpeedConfig
from valuelab import configuration, files
from valuelab.benchmark import processes
from valuelab.benchmark.processes import Launch, Stop
from valuelab.configuration import Settings, setting
from valuelab.errors import InputError
from valuelab.runs import flags, outputs
from valuelab.training import compiled_programs, throughput
from valuelab.training.throughput import Loop

FIRST = ("iql", "fql", "floq", "td_jepa")
"""Agents that are measured before all others."""
PRESETS = {"eta_network": "eta_network:risk_averse"}
"""Agents that learn only in an environment, and the preset that names one."""
RECORDED = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION"
"""The commands that XLA of jaxlib 0.10.2 records into CUDA graphs unless told otherwise."""
GRAPHS: Mapping[str, Mapping[str, Any]] = {
    "no graphs": {"xla_gpu_enable_command_buffer": ""},
    "graphs of one kernel or more": {"xla_gpu_graph_min_graph_size": 1},
    "loops in graphs": {"xla_gpu_enable_command_buffer": f"{RECORDED},WHILE,CONDITIONAL"},
    "loops unrolled in graphs": {
        "xla_gpu_enable_command_buffer": f"{RECORDED},WHILE,CONDITIONAL",
        "xla_gpu_command_buffer_unroll_loops": True,
    },
}
"""Name -> settings of CUDA graphs that differ from XLA's defaults."""
RUNS = (
    ("iql:pointmaze", "pointmaze-medium-navigate"),
    ("fql:pointmaze", "pointmaze-medium-navigate"),
    ("iql:cube_small", "cube-single-play"),
    ("fql:cube_small", "cube-single-play"),
)
"""Agents and OGBench data of runs."""
RUNS_SHARE = 0.25
"""The share of the time that runs get, if there are data."""
RUN_SEEDS, RUN_EPISODES = 8, 20
"""The number of seeds of a run, and of the episodes with which each is evaluated at the end."""
STOP_SECONDS = 30.0
"""The time that a run has for saving its state after it was asked to stop."""
MOST_ATTEMPTS = 2
"""The number of processes that may die during a piece before it counts as failed."""
MOST_LISTED = 10
"""The number of kernels that are listed by name."""
PATHS = ("out", "data_dir", "workdir")
"""Settings that the file leaves out."""
MOST_LETTERS = 500
"""The length of an error message that is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPUSpeedConfig(Settings):
    """The settings of the measurement."""

    out: str = setting("runs/gpu", help="Folder that gets gpu.json.")
    seconds: float = setting(520.0, "(0, inf)", "Time after which no piece is begun, and runs are stopped.")
    agents: tuple[str, ...] = setting((), help="Agents to measure, NAME or NAME:PRESET; empty for all.")
    num_seeds: tuple[int, ...] = setting((1, 8), "[1, inf)", "Numbers of seeds in one program.")
    observation_dim: int = setting(28, "[1, inf)", "Numbers in an observation.")
    action_dim: int = setting(5, "[1, inf)", "Numbers in an action.")
    timing_seconds: float = setting(0.3, "(0, inf)", "Approximate duration of one timing.")
    timings: int = setting(5, "[1, inf)", "Number of timings of a program.")
    compile_jobs: int = setting(0, "[0, inf)", "Programs compiled at once; 0 for half of the cores.")
    data_dir: str = setting(
        "~/.cache/valuelab", help="Folder of datasets; runs use OGBench's that are there."
    )
    workdir: str = setting("", help="Folder for the workdirs of runs; empty for OUT/runs.")


class Piece(NamedTuple):
    """A program to measure.

    Attributes:
        agent: its name, with or without preset.
        num_seeds: number of members.
        graphs: a name of GRAPHS; empty for XLA's defaults.
        traced: whether a profiler counts its kernels.
    """

    agent: str
    num_seeds: int
    graphs: str = ""
    traced: bool = False

    @property
    def name(self) -> str:
        """The name of the piece in the file."""
        return ", ".join(filter(None, (self.agent, f"{self.num_seeds} seed(s)", self.graphs)))


def pieces(config: GPUSpeedConfig) -> list[Piece]:
    """All programs to measure, the most informative first."""
    others = [name for name in flags.known_agents() if name not in FIRST]
    sources = configuration.split_names("agents", config.agents) or (*FIRST, *others)

    def programs(sources: Iterable[str], traced: bool) -> list[Piece]:
        by_seeds = [(source, number) for number in config.num_seeds for source in sources]
        return [Piece(PRESETS.get(source, source), number, traced=traced) for source, number in by_seeds]

    def is_first(source: str) -> bool:
        return source.partition(":")[0] in FIRST

    first = [source for source in sources if is_first(source)]
    graphs = [Piece(source, config.num_seeds[0], name) for name in GRAPHS for source in first[:2]]
    rest = [source for source in sources if not is_first(source)]
    return programs(first, True) + graphs + programs(rest, False)


def compile_program(config: GPUSpeedConfig, piece: Piece) -> Loop:
    """Compiles the training program of a piece."""
    defaults = AgentSpeedConfig(
        **flags.default_fields(), observation_dim=config.observation_dim, action_dim=config.action_dim
    )
    settings, make_agent = flags.load_agent(piece.agent, defaults)
    agent, experience, _ = speed_agent.prepare(settings, make_agent)  # type: ignore[arg-type]
    options = GRAPHS.get(piece.graphs, {})
    return throughput.make_loop(agent, experience, piece.num_seeds, compiler_options=options)


def measure(config: GPUSpeedConfig, piece: Piece, loop: Loop) -> dict[str, Any]:
    """Times a compiled program, and counts its kernels.

    Returns:
        "updates_per_second" of all members together, the median of "timings"; "compile_seconds"; the bytes of
        "arguments" and "temporaries"; "counted", the kernels of an update in the program's text, with
        collectives, and "trip_count" of its loop; for a traced piece what `trace` returns.
    """
    blocks = throughput.choose_blocks(loop, config.timing_seconds)
    updates = blocks * loop.length * piece.num_seeds
    speeds = []
    for _ in range(config.timings):
        started = time.perf_counter()
        loop.run(blocks)
        speeds.append(updates / (time.perf_counter() - started))
    memory: Any = loop.compiled.memory_analysis()
    depth = compiled_programs.depth(loop.length)
    text = compiled_programs.loop(loop.compiled.as_text() or "", depth)
    measured = {
        "updates_per_second": statistics.median(speeds),
        "timings": speeds,
        "compile_seconds": loop.compile_seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "counted": text.launches,
        "trip_count": text.trip_count,
    }
    return measured | (trace(loop) if piece.traced else {})


def trace(loop: Loop) -> dict[str, Any]:
    """Runs one block of updates under a profiler.

    XLA launches kernels one by one while a profiler runs, also those that it keeps in CUDA graphs.

    Returns:
        What `count` returns.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 2 if jax.default_backend() == "cpu" else 1
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            loop.run(1)
        [file] = pathlib.Path(folder).rglob("*.xplane.pb")
        return count(jax.profiler.ProfileData.from_file(str(file)), loop.length)


def count(profile: Any, updates: int) -> dict[str, Any]:
    """Counts the kernels in a profile.

    Args:
        profile: a jax.profiler.ProfileData.
        updates: the number of updates of each member that it covers.

    Returns:
        By update, the members together: "kernels", "copies" (with the filling of memory), "device_seconds",
        and "longest", the names that take most of them with their seconds. Kernels outside the loop are
        included.
    """
    numbers = collections.Counter[str]()
    seconds: dict[str, float] = collections.defaultdict(float)
    for event in _device_events(profile):
        numbers[event.name] += 1
        seconds[event.name] += event.duration_ns / updates / 1e9
    copies = sum(number for name, number in numbers.items() if name.startswith(("Memcpy", "Memset")))
    return {
        "kernels": (numbers.total() - copies) / updates,
        "copies": copies / updates,
        "device_seconds": sum(seconds.values()),
        "longest": dict(sorted(seconds.items(), key=lambda item: -item[1])[:MOST_LISTED]),
    }


def _device_events(profile: Any) -> Iterable[Any]:
    """The kernels and copies of all streams; on a CPU, the operations of the program."""
    planes = list(profile.planes)
    streams = [
        line
        for plane in planes
        if plane.name.startswith("/device:")
        for line in plane.lines
        if line.name.startswith("Stream")
    ]
    if streams:
        return (event for line in streams for event in line.events)
    lines = (line for plane in planes for line in plane.lines)
    events = (event for line in lines for event in line.events)
    return (event for event in events if any(key == "hlo_op" for key, _ in event.stats))


def _data_dir(config: GPUSpeedConfig) -> pathlib.Path:
    return pathlib.Path(config.data_dir).expanduser().absolute()


def train(config: GPUSpeedConfig, agent: str, data: str, seconds: float) -> dict[str, Any]:
    """Runs experiments.train, and stops it after so many seconds.

    Returns:
        "status", one of the outcomes in benchmark.processes; "last_row", the last row of the log; if the run
        is done, "result", the content of result.json; otherwise "message", its last words.
    """
    parent = pathlib.Path(config.workdir or f"{config.out}/runs").absolute()
    workdir = parent / f"{agent.replace(':', '_')}--{data}"
    arguments = ["-m", "experiments.train", f"--agent={agent}", f"--workdir={workdir}"]
    arguments += [f"--dataset=ogbench/{data}-singletask-v0", f"--data_dir={_data_dir(config)}"]
    arguments += [f"--num_seeds={RUN_SEEDS}", "--eval_every=0", f"--eval_episodes={RUN_EPISODES}"]
    launch = Launch(workdir.name, arguments, str(workdir), timings=str(parent / "timings.jsonl"))
    stop = Stop()
    timers = [threading.Timer(after, stop) for after in (seconds, seconds + STOP_SECONDS)]
    for timer in timers:
        timer.start()
    try:
        status = processes.run(launch, stop)
    finally:
        for timer in timers:
            timer.cancel()
    rows = workdir / "metrics.jsonl"
    last = rows.read_text().splitlines()[-1:] if rows.exists() else []
    outcome = {"status": status, "last_row": json.loads(last[0]) if last else None}
    if status == processes.DONE:
        return outcome | {"result": processes.read_result(workdir)}
    return outcome | {"message": processes.last_words(workdir)}


class Report:
    """The file of pieces, written whenever one begins or ends.

    Attributes:
        pieces: name -> what was measured, or "error"; while a piece has neither, "attempts".
    """

    def __init__(self, path: pathlib.Path, facts: Mapping[str, Any]):
        """Opens the file of an earlier call, or begins a new one.

        Raises:
            InputError: when the file is of another device.
        """
        self._path, self._facts = path, facts
        self.pieces: dict[str, dict[str, Any]] = {}
        if path.exists():
            advice = "give another --out, or remove it"
            saved = files.read_json(path, "file of measurements", advice, device=str, pieces=dict)
            if saved["device"] != facts["device"]:
                raise InputError(
                    f"{path} holds measurements of {saved['device']}, but this is {facts['device']}: {advice}"
                )
            self.pieces = saved["pieces"]

    def is_done(self, name: str) -> bool:
        """Whether a piece was measured or has failed."""
        return name in self.pieces and "attempts" not in self.pieces[name]

    def attempts(self, name: str) -> int:
        """The number of processes that died during a piece."""
        return int(self.pieces.get(name, {}).get("attempts", 0))

    def begin(self, names: Iterable[str]) -> None:
        """Counts an attempt of each piece: if the process dies, the next one knows."""
        for name in names:
            self.pieces[name] = {"attempts": self.attempts(name) + 1}
        self._write()

    def end(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes the content of a piece."""
        self.pieces[name] = dict(content)
        self._write()

    def _write(self) -> None:
        outputs.write_json(self._path, {**self._facts, "pieces": self.pieces})


def next_group(todo: list[Piece], report: Report, jobs: int) -> list[Piece]:
    """The pieces to compile together: the next new ones, or one alone during which a process has died."""
    if report.attempts(todo[0].name):
        return todo[:1]
    return list(itertools.takewhile(lambda piece: not report.attempts(piece.name), todo[:jobs]))


def measure_programs(config: GPUSpeedConfig, report: Report, until: float) -> None:
    """Measures programs until a time of time.monotonic(); those of a group are compiled together."""
    jobs = config.compile_jobs or max(1, (os.cpu_count() or 1) // 2)
    todo = [piece for piece in pieces(config) if not report.is_done(piece.name)]
    slowest = 0.0
    while todo and time.monotonic() + slowest < until:
        group = next_group(todo, report, jobs)
        todo = todo[len(group) :]
        if report.attempts(group[0].name) >= MOST_ATTEMPTS:
            report.end(group[0].name, {"error": f"{MOST_ATTEMPTS} processes died during this piece"})
            continue
        started = time.monotonic()
        report.begin(piece.name for piece in group)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            compiling = [pool.submit(compile_program, config, piece) for piece in group]
        for piece, compiled in zip(group, compiling, strict=True):
            try:
                report.end(piece.name, measure(config, piece, compiled.result()))
            except Exception as error:  # whatever fails, the other pieces can be measured
                text = " ".join(f"{type(error).__name__}: {error}".split())
                report.end(piece.name, {"error": text[:MOST_LETTERS]})
        slowest = max(slowest, time.monotonic() - started)


def run(config: GPUSpeedConfig) -> dict[str, dict[str, Any]]:
    """Measures until the time is up; returns name -> what was measured.

    Raises:
        InputError: when an agent is unknown, or the folder cannot be written or holds measurements of another
            device.
    """
    ends = time.monotonic() + config.seconds
    for source in {piece.agent for piece in pieces(config)}:
        flags.load_agent(source)
    path = outputs.prepare_file("out", f"{config.out}/gpu.json")
    assert path
    known = [path.name for path in (_data_dir(config) / "ogbench").glob("*.npz")]
    runs = [(agent, data) for agent, data in RUNS if f"{data}-v0.npz" in known]
    settings = configuration.to_json(config)
    facts = {
        "settings": {name: value for name, value in settings.items() if name not in PATHS},
        **outputs.provenance(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    report = Report(path, facts)
    with files.locked(path.parent, "give another --out"):
        measure_programs(config, report, ends - (RUNS_SHARE * config.seconds if runs else 0))
        for index, (agent, data) in enumerate(runs):
            name = f"run of {agent} on {data}"
            left = (ends - time.monotonic()) / (len(runs) - index)
            if report.pieces.get(name, {}).get("status") != processes.DONE and left > 0:
                report.end(name, train(config, agent, data, left))
    return report.pieces


def show(measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table of the programs, and what became of the runs."""
    columns = ("updates/s", "kernels\ncounted", "kernels\nmeasured", "µs of\nkernels", "seconds to\ncompile")
    table = rich.table.Table("program", *columns)
    for name, piece in measured.items():
        if "updates_per_second" in piece:
            kernels = f"{piece['kernels']:,.0f}" if "kernels" in piece else ""
            time_of_kernels = f"{1e6 * piece['device_seconds']:,.0f}" if "kernels" in piece else ""
            speed, compiled = f"{piece['updates_per_second']:,.0f}", f"{piece['compile_seconds']:.1f}"
            table.add_row(name, speed, f"{piece['counted']:,}", kernels, time_of_kernels, compiled)
    outputs.show(table)
    for name, piece in measured.items():
        if reason := piece.get("error") or piece.get("message"):
            print(f"{name}: {reason}")


def main(config: GPUSpeedConfig) -> None:
    """Measures and prints as the command line describes."""
    measured = run(config)
    show(measured)
    left = sum(piece.name not in measured for piece in pieces(config))
    print(f"all numbers are in {config.out}/gpu.json")
    if left:
        print(f"programs that were not measured in this time: {left}; the same command continues with them")


if __name__ == "__main__":
    flags.run(main, functools.partial(flags.parse_config, GPUSpeedConfig()))
