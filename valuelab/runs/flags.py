"""From the command line to the settings of a run.

The agent file named by `--agent` is loaded first, so that each hyperparameter is a flag, with its default
and its help. A preset overrides the default of a field, and a flag overrides both.

An agent file is a Python module that defines `Config` (a frozen dataclass with a default for each field),
`make_agent(config, spec)` and, optionally, `PRESETS`: names of presets and their flag values, such as
{"pointmaze": {"agent.target_rate": 0.02, "data.rewards": "none", "steps": 30_000}}. `SETTINGS`, also
optional, are flag values for all runs of the agent, such as {"data.goals.subgoal_steps": 25}; presets
override them. A setting of `Config` may name a function of another file (`configuration.setting(function=)`);
`make_agent` gets this function as a further argument.
"""

import ast
import contextlib
import ctypes
import dataclasses
import functools
import operator
import os
import pathlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import flags

from valuelab import configuration, errors, presets
from valuelab.agents.shifted import ImageShift
from valuelab.configuration import RunConfig, setting
from valuelab.data.normalization import NormalizationConfig, d4rl_family
from valuelab.data.sampling import GoalRelabelling
from valuelab.environments import creation
from valuelab.errors import InputError
from valuelab.runs import command_line
from valuelab.runs.command_line import Arguments, parse_config, parse_flags
from valuelab.training.experience import Interaction
from valuelab.types import Agent, MakeAgent

__all__ = [
    "DEFAULTS",
    "PRESETS",
    "DataConfig",
    "default_fields",
    "known_agents",
    "load_agent",
    "load_saved_agent",
    "parse_config",
    "parse_flags",
    "parse_run",
    "run",
]

PRESETS = pathlib.Path(presets.__file__).parent
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
GOAL_DISCOUNT = 0.99
"""The discount of goals in the data if the agent has no discount."""
COMPILATION_CACHE = pathlib.Path("~/.cache/valuelab/compilation")
"""The folder of compiled programs unless $JAX_COMPILATION_CACHE_DIR is set."""
LEAST_COMPILATION_SECONDS = 0.1
"""Programs that compile faster are not kept. JAX's default of 1 s leaves out most programs of small runs."""
COMPILATION_CACHE_BYTES = 1 << 30
"""The size limit of that folder, enough for some hundreds of programs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(NormalizationConfig):
    """How the data are prepared."""

    compact: bool = setting(False, help="Store each observation once, in half of the memory.")
    stream: bool = setting(
        False,
        help="Leave the data on the disk, in compact storage, and read each batch from there, for data that "
        "are larger than the device. Batches are the same as without it.",
    )
    goals: GoalRelabelling = setting(
        GoalRelabelling(discount=None), help="How goal-conditioned data are relabelled."
    )
    future_discount: float | None = setting(
        None,
        "[0, 1)",
        "Add later observations to the batches of data without goals, for --agent.auxiliary=contrastive: the "
        "observation k steps after the transition's next one with probability (1 - d) d^k for a discount d "
        "in [0, 1), cut at the trajectory's end. None for none.",
    )
    filter: str = setting(
        "",
        help="Episodes that are kept before training; empty for all. value_order:X keeps those along which "
        "the values of the run in value_run have a rank correlation with time of at least X, from -1 to 1.",
    )
    weights: str = setting(
        "",
        help="Probabilities with which transitions are drawn; empty for equal ones. progress:B makes them "
        "proportional to exp(B d / s), at most 100. d is the value of the next observation minus that of "
        "the observation, by the run in value_run, and s is its standard deviation.",
    )
    value_run: str = setting(
        "",
        help="Workdir of the saved run whose values filter and weights use, or WORKDIR:STEP for another "
        "checkpoint than the newest. Values are means over its members.",
    )
    num_frames: int = setting(
        1, "[1, inf)", "Number of successive observations that are joined into one, the latest included."
    )
    image_shift: ImageShift = setting(
        ImageShift(), help="How images in training batches are shifted at random."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.least_order, self.progress_factor  # raises if one of them cannot be read
        used = [name for name in ("filter", "weights") if getattr(self, name)]
        if used and not self.value_run:
            raise InputError(
                f"{used[0]} is {getattr(self, used[0])}, but no run gives the values: give "
                "--data.value_run=WORKDIR of a saved run"
            )
        if self.value_run and not used:
            raise InputError(
                f"value_run is {self.value_run}, but nothing uses its values: give "
                "--data.filter=value_order:0.5 or --data.weights=progress:1, or leave it out"
            )
        if used and self.stream:
            raise InputError(
                f"{used[0]} is {getattr(self, used[0])}, but works only for data in memory: leave out "
                "--data.stream"
            )

    @property
    def least_order(self) -> float | None:
        """The smallest value order of an episode that `filter` keeps; None to keep all episodes."""
        return _named_number("filter", self.filter, "value_order", (-1, 1))

    @property
    def progress_factor(self) -> float | None:
        """The factor of standardised progress in `weights`; None for equal weights."""
        return _named_number("weights", self.weights, "progress", (0, 100))


def _named_number(field: str, text: str, name: str, bounds: tuple[float, float]) -> float | None:
    """The X of the setting NAME:X; None for an empty text."""
    given, _, number = text.partition(":")
    try:
        if not text:
            return None
        if given == name and bounds[0] <= float(number) <= bounds[1]:
            return float(number)
    except ValueError:
        pass
    low, high = bounds
    raise InputError(f"{field} is {text!r}; write {name}:X with a number X from {low} to {high}")


DEFAULTS = RunConfig(data=DataConfig(), interaction=Interaction())


def default_fields() -> dict[str, Any]:
    """The fields of DEFAULTS by name, for subclasses of RunConfig."""
    return {field.name: getattr(DEFAULTS, field.name) for field in dataclasses.fields(RunConfig)}


def load_agent(source: str, defaults: RunConfig = DEFAULTS, dataset: str = "") -> tuple[RunConfig, MakeAgent]:
    """Reads an agent file.

    Args:
        source: FILE.py or FILE.py:PRESET; a name without .py is that of a file in valuelab/presets.
        defaults: the settings of a run without an agent.
        dataset: the dataset of the run. Without a preset, a D4RL dataset gets the data.rewards of the preset
            for its family, d4rl_locomotion or d4rl_antmaze, if the agent file has it.

    Returns:
        The settings of a run, with the preset if one is given, and the function that builds the agent.

    Raises:
        InputError: when the file does not exist, cannot be used, or lacks the preset.
    """
    name, _, preset = source.partition(":")
    path = _agent_file(name)
    module, hyperparameters = _load(path)
    config = dataclasses.replace(defaults, agent=hyperparameters, agent_name=path.stem, agent_source=source)
    known = _presets(module)
    try:
        config = configuration.override(config, _settings(module))
    except InputError as error:
        raise InputError(f"SETTINGS of {name}: {error}") from error
    family = known.get(d4rl_family(dataset), {})
    if not preset and "data.rewards" in family:
        config = configuration.override(config, {"data.rewards": family["data.rewards"]})
    if preset:
        if preset not in known:
            raise errors.unknown(f"preset of {name}", preset, known)
        try:
            config = configuration.override(config, known[preset])
        except InputError as error:
            raise InputError(f"preset {preset!r} of {name}: {error}") from error
    return config, _checked(path, module.make_agent, hyperparameters)


def _agent_file(name: str) -> pathlib.Path:
    """The path of an agent's file.

    Raises:
        InputError: when the file does not exist, or no agent has this name.
    """
    if not name.endswith(".py"):
        if name not in known_agents():
            raise errors.unknown("agent", name, known_agents())
        return PRESETS / f"{name}.py"
    if not (path := pathlib.Path(name)).is_file():
        raise InputError(
            f"agent file {name} does not exist: give a full path, or one relative to {pathlib.Path.cwd()}"
        )
    return path


def load_saved_agent(
    folder: pathlib.Path, settings: Mapping[str, Any], defaults: RunConfig, trust_agent_file: bool
) -> tuple[RunConfig, MakeAgent]:
    """Reads the agent file of a saved run, which may come from anybody.

    Args:
        folder: the workdir of the run.
        settings: the settings in its config.json.
        defaults: as in `load_agent`.
        trust_agent_file: whether files outside valuelab/presets may be executed.

    Returns:
        The settings of the run, and the function that builds its agent.

    Raises:
        InputError: for an agent file or the file of an agent's function that is outside valuelab/presets and
            not trusted, and for the reasons of `load_agent` and `configuration.from_json`.
    """

    def check_trust(kind: str, file: str) -> None:
        if file and not trust_agent_file:
            raise InputError(
                f"{folder / 'config.json'} names the {kind} file {file!r}, whose code would be executed: "
                "read it, then give --trust_agent_file, in Python trust_agent_file=True"
            )

    source = str(settings.get("agent_source"))
    check_trust("agent", user_agent_file(source))
    config, make_agent = load_agent(source, defaults)
    config = configuration.from_json(config, settings)
    for name, file in _function_files(config).items():
        check_trust(name, file)
    return config, make_agent


def user_agent_file(source: str) -> str:
    """The path of an agent file outside valuelab/presets, from FILE.py or FILE.py:PRESET; else empty."""
    name = source.partition(":")[0]
    is_preset = not name.endswith(".py") or pathlib.Path(name).resolve().parent == PRESETS.resolve()
    return "" if is_preset else name


def agent_files(config: RunConfig) -> dict[str, str]:
    """The Python files of the user that the agent of a run is made with, by setting."""
    file = user_agent_file(config.agent_source)
    return ({"agent_source": file} if file else {}) | _function_files(config)


def _function_files(config: RunConfig) -> dict[str, str]:
    """The Python files whose functions the agent takes, by setting."""
    known = configuration.fields(config)
    files = {name: configuration.function_file(known[name].value) for name in known if known[name].function}
    return {name: file for name, file in files.items() if file}


def discount_field(config: RunConfig) -> str:
    """The dotted name of the agent's discount; empty if the agent has none."""
    known = configuration.fields(config)
    return next((name for name in ("agent.discount", "agent.critic.discount") if name in known), "")


def is_swept(config: RunConfig, name: str) -> bool:
    """Whether a field is swept, so that members have different values."""
    swept = dict.fromkeys(text.partition("=")[0] for text in config.sweep)
    return name in configuration.in_full(config, swept)


def complete(config: configuration.Config) -> configuration.Config:
    """The settings of a run with those that follow from others.

    They are the settings of a smoke run, eval_temperature and data.goals.discount.
    """
    settings: Any = config
    config = configuration.replace(config, {"eval_temperature": settings.temperature})
    return _with_goal_discount(configuration.smoke(config))


def _with_goal_discount(config: configuration.Config) -> configuration.Config:
    """The settings with data.goals.discount set to the agent's discount, unless it is given.

    If the agent has no discount, it becomes OGBench's default. It stays None if the discount is swept or 1.
    """
    settings: Any = config
    if not settings.dataset or settings.data.goals.discount is not None:
        return config
    name = discount_field(settings)
    value = configuration.fields(settings)[name].value if name else GOAL_DISCOUNT
    if value >= 1 or is_swept(settings, name):
        return config
    return configuration.replace(config, {"data.goals.discount": value})


def known_agents() -> list[str]:
    """The agents that --agent knows by name."""
    return sorted(path.stem for path in PRESETS.glob("[!_]*.py"))


def _load(path: pathlib.Path) -> tuple[Any, Any]:
    """Executes an agent file; returns the module, and its `Config` with the defaults."""
    module: Any = types.ModuleType(f"agent_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and type hints look up names there
    with command_line.errors_of_file(path, "agent file"):
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        for name in ("Config", "make_agent"):
            if not hasattr(module, name):
                needed = "Config, a frozen dataclass, and make_agent(config, spec)"
                raise InputError(f"it must define {needed}; {name} is missing")
        config = module.Config()
        configuration.check_aliases(config)
        configuration.from_json(config, configuration.to_json(config))  # it must survive saving and reading
        if not callable(module.make_agent):
            raise InputError(f"make_agent is {module.make_agent!r}, but must be a function of (config, spec)")
        _presets(module)
        _settings(module)
    return module, config


def _presets(module: Any) -> Mapping[str, Mapping[str, Any]]:
    """The PRESETS of an agent file; empty if it has none."""
    known = getattr(module, "PRESETS", {})
    is_nested = isinstance(known, Mapping) and all(isinstance(preset, Mapping) for preset in known.values())
    if not is_nested or not all(isinstance(key, str) for each in (known, *known.values()) for key in each):
        raise InputError(
            'PRESETS must map names to flag values, such as {"cube": {"agent.target_rate": 0.02}}'
        )
    return known


def _settings(module: Any) -> Mapping[str, Any]:
    """The SETTINGS of an agent file; empty if it has none."""
    settings = getattr(module, "SETTINGS", {})
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise InputError('SETTINGS must map flags to values, such as {"data.goals.subgoal_steps": 25}')
    return settings


def _checked(path: pathlib.Path, make_agent: Callable[..., Agent], defaults: Any) -> MakeAgent:
    """The function `make_agent` of an agent file, with errors that name the file.

    It also gives the agent the functions that the settings name by FILE.py:FUNCTION. Each file is executed
    once, so that an agent which is made again gets the same function.

    Args:
        path: the agent file.
        make_agent: (config, spec, **functions) -> the agent.
        defaults: the agent's config.
    """
    arguments = {
        name: field.function for name, field in configuration.fields(defaults).items() if field.function
    }
    load = functools.cache(command_line.load_function)

    @functools.wraps(make_agent)
    def checked_make_agent(config: Any, spec: Any) -> Agent:
        with jax.ensure_compile_time_eval():  # arrays of the user's file must not belong to a trace
            functions = {
                argument: load(source, f"agent.{name}")
                for name, argument in arguments.items()
                if configuration.function_file(source := operator.attrgetter(name)(config))
            }
        with command_line.errors_of_file(path, "agent file", keep_input_errors=True):
            agent = make_agent(config, spec, **functions)
        if not isinstance(agent, Agent):
            raise InputError(
                f"agent file {path}: make_agent returns a {type(agent).__name__}, but must return a "
                "valuelab.types.Agent"
            )
        return agent

    return checked_make_agent


def parse_run(
    argv: list[str], values: flags.FlagValues = flags.FLAGS, defaults: RunConfig = DEFAULTS
) -> tuple[RunConfig, MakeAgent]:
    """Parses the command line of a run.

    Args:
        argv: the command line, with the program's name.
        values: holds the defined flags; the flags of the run are added.
        defaults: the settings of a run without an agent; each field becomes a flag.

    Returns:
        The settings, and the function that builds the agent.

    Raises:
        InputError: for an argument that cannot be used.
        flags.Error: for a flag without its value.
    """
    usage = f"AGENT or AGENT:PRESET, where AGENT is {', '.join(known_agents())} or a file"
    agent: flags.Flag[str] = flags.Flag(flags.ArgumentParser(), None, "agent", None, usage)
    scan = flags.FlagValues()
    scan.set_gnu_getopt()  # continues after the 3 in "--steps 3"
    dataset: flags.Flag[str] = flags.Flag(flags.ArgumentParser(), None, "dataset", "", "")
    scan["agent"], scan["dataset"] = agent, dataset
    scan(argv, known_only=True)
    if command_line.asks_for_help(argv):
        command_line.add_to_help(_help(agent.value or ""))
    if agent.value == "":
        raise InputError(f"agent is empty: give one of {', '.join(known_agents())}, or a file")
    if agent.value:
        config, make_agent = load_agent(agent.value, defaults, dataset.value or "")
    else:  # --help works without an agent
        config, make_agent = defaults, None
    agent.unparse()  # it is parsed again with the other flags
    flags.DEFINE_flag(agent, values, module_name=sys.argv[0])
    config = parse_config(config, argv, values)
    if make_agent is None:
        raise InputError("no agent is given: write --agent=iql or --agent=FILE.py")
    return complete(config), make_agent


def agents_in_a_line() -> dict[str, str]:
    """Name -> the first line of its file's docstring, for all agents; executes no file."""
    return {
        name: (ast.get_docstring(ast.parse((PRESETS / f"{name}.py").read_text())) or "").partition("\n")[0]
        for name in known_agents()
    }


def presets_in_a_line(source: str) -> dict[str, str]:
    """Name -> description of the presets of an agent, given by name or as FILE.py.

    A file of the user may describe its presets in `DESCRIPTIONS`, a dictionary like `PRESETS`.

    Raises:
        InputError: when the file does not exist or cannot be used.
    """
    module, _ = _load(_agent_file(source))
    described = getattr(module, "DESCRIPTIONS", {}) if source.endswith(".py") else presets.DESCRIPTIONS
    return {name: str(described.get(name, "")) for name in _presets(module)}


def _help(source: str) -> str:
    """What --help says about agents: the presets of the given one, or all agents."""
    agent = source.partition(":")[0]
    if agent:
        rows = command_line.columns(presets_in_a_line(agent))
        return f"Presets, to be given as --agent={agent}:PRESET:\n{rows}" if rows else ""
    return (
        f"Agents, to be given as --agent=AGENT or --agent=AGENT:PRESET:\n"
        f"{command_line.columns(agents_in_a_line())}\n\n"
        "--agent=AGENT --help shows the presets and the hyperparameters of an agent. "
        "'python -m experiments list datasets' shows the names of datasets."
    )


def _limit_heaps() -> None:
    """Makes glibc return freed memory to the system.

    Simulators and compilers free hundreds of megabytes in small pieces on many threads. With two heaps and
    with large blocks outside the heaps, the evaluation of four seeds on the cube needs at most 1.7 GB instead
    of 2.3 GB. The threshold for large blocks is above the size of the operands that matrix products pack: a
    threshold of 128 kB halves the speed of training.
    """
    with contextlib.suppress(OSError, AttributeError):  # the C library is not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        libc.mallopt(_M_ARENA_MAX, 2)


def _enable_compilation_cache() -> None:
    """Makes JAX keep compiled programs for later processes, in at most COMPILATION_CACHE_BYTES.

    It keeps those that took at least LEAST_COMPILATION_SECONDS, unless the user has chosen a time.

    A folder that the user chooses has no limit. JAX's own limit is not used for three reasons: it needs
    another package, each process waits for a lock at each program, and a process that is killed between
    writing the two files of an entry leaves a cache that accepts no more entries.
    """
    settings = jax.config.values
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_COMPILATION_SECONDS)
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder = COMPILATION_CACHE.expanduser()
    except RuntimeError:  # there is no home folder
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        limit_size(folder, COMPILATION_CACHE_BYTES)
    if os.access(folder, os.W_OK):  # otherwise each process compiles its programs
        jax.config.update("jax_compilation_cache_dir", str(folder))


def limit_size(folder: pathlib.Path, size: int) -> None:
    """Deletes the least recently read files in a folder until the rest takes at most `size` bytes.

    Args:
        folder: a folder of files that can be made again; on a GPU JAX makes folders in its cache.
        size: in bytes.

    Raises:
        OSError: when the folder cannot be read.
    """
    kept = 0
    stats = {entry: entry.stat() for entry in folder.rglob("*") if entry.is_file()}
    for entry, stat in sorted(stats.items(), key=lambda item: -max(item[1].st_atime, item[1].st_mtime)):
        kept += stat.st_size
        if kept > size:
            entry.unlink(missing_ok=True)  # another process may delete it, too


def run(main: Callable[[Arguments], Any], parse: Callable[[list[str]], Arguments]) -> None:
    """Runs a program that uses JAX, as `command_line.run` does.

    Args:
        main: the program, a function of what `parse` returns.
        parse: command line -> the argument of `main`, such as `parse_run`; `parse_flags` for a program that
            defines its own flags.
    """
    _limit_heaps()
    _enable_compilation_cache()
    creation.quieten()
    command_line.run(main, parse)
