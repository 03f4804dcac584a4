"""From the command line to the settings of a run.

The agent file named by `--agent` is loaded first, so that each hyperparameter is a flag of its own, with
its default and its help. A setting is, in this order: the default of its field, what the preset says, what
its flag says.

An agent file is a Python module that defines `Config` (a frozen dataclass with a default for each field),
`make_agent(config, spec)`, and, if it likes, `PRESETS`: names to sets of flag values, such as
{"pointmaze": {"agent.target_rate": 0.02, "data.rewards": "none", "steps": 30_000}}.
"""

import contextlib
import ctypes
import dataclasses
import functools
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
from valuelab.errors import InputError
from valuelab.runs import command_line
from valuelab.runs.command_line import Parsed, parse_config, parse_flags
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
"""Of goals, where the agent has no discount."""
COMPILED = pathlib.Path("~/.cache/valuelab/compilation")
"""Where compiled programs are kept, unless $JAX_COMPILATION_CACHE_DIR says otherwise."""
COMPILED_BYTES = 1 << 30
"""How much of them: some hundreds of programs. The ones that nobody has read for longest go first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(NormalizationConfig):
    """How the data are prepared."""

    compact: bool = setting(False, help="Keep each observation once, which halves the memory of the dataset.")
    goals: GoalRelabelling = setting(
        GoalRelabelling(discount=None), help="How goal-conditioned data are relabelled."
    )
    num_frames: int = setting(
        1, "[1, inf)", "Number of observations that an agent sees side by side, the latest one included."
    )
    image_shift: ImageShift = setting(
        ImageShift(), help="How images that an agent learns from are moved at random."
    )


DEFAULTS = RunConfig(data=DataConfig(), interaction=Interaction())


def default_fields() -> dict[str, Any]:
    """The fields of DEFAULTS by name, for settings that have more."""
    return {field.name: getattr(DEFAULTS, field.name) for field in dataclasses.fields(RunConfig)}


def load_agent(source: str, defaults: RunConfig = DEFAULTS, dataset: str = "") -> tuple[RunConfig, MakeAgent]:
    """Reads an agent file.

    Args:
        source: FILE.py or FILE.py:PRESET; a bare name stands for a file of valuelab/presets.
        defaults: the settings of a run without an agent.
        dataset: of the run. Where no preset is given, rewards are normalised as the preset d4rl_locomotion
            or d4rl_antmaze says, if there is one and the dataset is of that family.

    Returns:
        The settings of a run with the defaults, or with the preset; and what makes the agent.

    Raises:
        InputError: when the file is missing or cannot be used, or has no such preset.
    """
    name, _, preset = source.partition(":")
    path = pathlib.Path(name) if name.endswith(".py") else PRESETS / f"{name}.py"
    if name.endswith(".py") and not path.is_file():
        raise InputError(f"agent file {name} does not exist; give a path from {pathlib.Path.cwd()}")
    if not name.endswith(".py") and name not in known_agents():
        raise errors.unknown("agent", name, known_agents())
    module, hyperparameters = _load(path)
    config = dataclasses.replace(defaults, agent=hyperparameters, agent_name=path.stem, agent_source=source)
    known = _presets(module)
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
    return config, _told_make_agent(path, module.make_agent)


def load_saved_agent(
    folder: pathlib.Path, settings: Mapping[str, Any], defaults: RunConfig, trust_agent_file: bool
) -> tuple[RunConfig, MakeAgent]:
    """Reads the agent file of a run that was saved, and so may be anybody's.

    Args:
        folder: the workdir of the run.
        settings: what its config.json holds.
        defaults: as for `load_agent`.
        trust_agent_file: whether a file outside valuelab/presets may be run.

    Returns:
        As `load_agent` does, with the settings of the run.

    Raises:
        InputError: for such a file without trust; where `load_agent` or `configuration.from_json` refuses.
    """
    source = str(settings.get("agent_source"))
    name = source.partition(":")[0]
    ours = not name.endswith(".py") or pathlib.Path(name).resolve().parent == PRESETS.resolve()
    if not ours and not trust_agent_file:
        raise InputError(
            f"{folder / 'config.json'} names the agent file {name!r}, whose code would be run: look at it, "
            "then give --trust_agent_file"
        )
    config, make_agent = load_agent(source, defaults)
    return configuration.from_json(config, settings), make_agent


def discount_field(config: RunConfig) -> str:
    """The name of the agent's discount; empty where it has none."""
    known = configuration.fields(config)
    return next((name for name in ("agent.discount", "agent.critic.discount") if name in known), "")


def is_swept(config: RunConfig, name: str) -> bool:
    """Whether a sweep gives members different values of a field."""
    swept = dict.fromkeys(text.partition("=")[0] for text in config.sweep)
    return name in configuration.in_full(config, swept)


def with_goal_discount(config: configuration.Config) -> configuration.Config:
    """The settings with the agent's discount for goals in the data, where none of their own is given.

    Agents without one get OGBench's default. Where a sweep gives members different ones, or there is none
    below 1, it stays open.
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
    """The names that --agent knows without a path."""
    return sorted(path.stem for path in PRESETS.glob("[!_]*.py"))


def _load(path: pathlib.Path) -> tuple[Any, Any]:
    """An agent file as a module, and its `Config` with the defaults."""
    module: Any = types.ModuleType(f"agent_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and type hints look names up
    with command_line.told_of(path, "agent file"):
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        if not hasattr(module, "Config") or not hasattr(module, "make_agent"):
            raise InputError("it must define Config, a frozen dataclass, and make_agent(config, spec)")
        config = module.Config()
        configuration.from_json(config, configuration.to_json(config))  # as it will be saved and read again
        if not callable(module.make_agent):
            raise InputError(f"make_agent is {module.make_agent!r}; it must be a function of (config, spec)")
        _presets(module)
    return module, config


def _presets(module: Any) -> Mapping[str, Mapping[str, Any]]:
    """What an agent file calls PRESETS."""
    found = getattr(module, "PRESETS", {})
    flat = isinstance(found, Mapping) and all(isinstance(preset, Mapping) for preset in found.values())
    if not flat or not all(isinstance(key, str) for each in (found, *found.values()) for key in each):
        raise InputError(
            'PRESETS must be names to sets of flag values, such as {"cube": {"agent.target_rate": 0.02}}'
        )
    return found


def _told_make_agent(path: pathlib.Path, make_agent: MakeAgent) -> MakeAgent:
    """The same, but what goes wrong in it is told with the agent file's name."""

    @functools.wraps(make_agent)
    def told_make_agent(config: Any, spec: Any) -> Agent:
        with command_line.told_of(path, "agent file", refusals=False):
            agent = make_agent(config, spec)
        if not isinstance(agent, Agent):
            raise InputError(
                f"agent file {path}: make_agent returns a {type(agent).__name__}; it must return an Agent "
                "of valuelab.types"
            )
        return agent

    return told_make_agent


def parse_run(
    argv: list[str], values: flags.FlagValues = flags.FLAGS, defaults: RunConfig = DEFAULTS
) -> tuple[RunConfig, MakeAgent]:
    """The settings of the run that a command line describes.

    Args:
        argv: the command line, with the program's name.
        values: where flags are defined; those of the run are added.
        defaults: the settings of a run without an agent; all fields become flags.

    Returns:
        The settings and what makes the agent.

    Raises:
        InputError: for anything on the command line that cannot be used.
        flags.Error: for a flag without its value.
    """
    usage = f"AGENT or AGENT:PRESET, where AGENT is {', '.join(known_agents())} or a file"
    agent: flags.Flag[str] = flags.Flag(flags.ArgumentParser(), None, "agent", None, usage)
    scan = flags.FlagValues()
    scan.set_gnu_getopt()  # reads on after the value in "--steps 3"
    dataset: flags.Flag[str] = flags.Flag(flags.ArgumentParser(), None, "dataset", "", "")
    scan["agent"], scan["dataset"] = agent, dataset
    scan(argv, known_only=True)
    if agent.value == "":
        raise InputError(f"agent is empty; give one of {', '.join(known_agents())}, or a file")
    if agent.value:
        config, make_agent = load_agent(agent.value, defaults, dataset.value or "")
    else:  # --help works all the same
        config, make_agent = defaults, None
    agent.unparse()  # it is parsed again with all others
    flags.DEFINE_flag(agent, values, module_name=sys.argv[0])
    config = parse_config(config, argv, values)
    if make_agent is None:
        raise InputError("no agent is given; write --agent=iql or --agent=FILE.py")
    return with_goal_discount(config), make_agent


def _give_memory_back() -> None:
    """Has glibc keep less of what is freed.

    Simulators and compilers free hundreds of megabytes in pieces, on many threads. With two heaps instead
    of dozens, and large blocks outside them, evaluating four seeds on the cube peaks at 1.7 GB instead of
    2.3. The threshold stays above the blocks that matrix products pack their operands into: at 128 kB it
    halved the speed of learning.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        libc.mallopt(_M_ARENA_MAX, 2)


def _keep_programs() -> None:
    """Has JAX keep what it compiles for the next process, within COMPILED_BYTES.

    A place that the user has chosen is the user's to bound. JAX's own bound is not used: it needs a package
    of its own, has every process wait for a lock at each program, and a process that is killed between the
    two files of an entry leaves a cache that takes no more.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder = COMPILED.expanduser()
    except RuntimeError:  # there is no home
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        bound(folder, COMPILED_BYTES)
    if os.access(folder, os.W_OK):  # else, in a home that cannot be written, programs are compiled each time
        jax.config.update("jax_compilation_cache_dir", str(folder))


def bound(folder: pathlib.Path, size: int) -> None:
    """Deletes the files of a folder that were read least recently, until the rest takes at most `size` bytes.

    Args:
        folder: of files that can be made again.
        size: in bytes.

    Raises:
        OSError: when the folder cannot be read.
    """
    kept = 0
    found = {entry: entry.stat() for entry in folder.iterdir()}
    for entry, stat in sorted(found.items(), key=lambda item: -max(item[1].st_atime, item[1].st_mtime)):
        kept += stat.st_size
        if kept > size:
            entry.unlink(missing_ok=True)  # another process may do the same


def run(main: Callable[[Parsed], Any], parse: Callable[[list[str]], Parsed]) -> None:
    """Runs a program that computes, as `command_line.run` does.

    Args:
        main: takes what `parse` returns.
        parse: command line -> what main takes: `parse_run`, or `parse_flags` for a program that defines
            its own flags.
    """
    _give_memory_back()
    _keep_programs()
    command_line.run(main, parse)
