"""The settings of a run: typed, overridden by dotted name, saved, compared and swept.

Settings are frozen dataclasses, nested where one part holds another. Flags, presets, config.json and
messages know a field by its dotted name: `steps`, `data.rewards`, `agent.critic.expectile`. A field is an
int, a float, a bool, a str, a `Literal`, a `tuple` of any length, or one of these or None.

A field is declared once, in a subclass of `Settings`: `setting` gives its default, its range and its help. A
subclass may change the default alone, by `name: type = default`; range and help stay. A plain frozen
dataclass works too: the help of its fields stands under Attributes in its docstring, and its `__post_init__`
may call `check_ranges` and `check_widths`. Either way, settings that exist lie in their ranges.

Two things make long names short. A part that `part` declares is chosen by name: `agent.policy=awr` puts
another config in its place. `ALIASES` of a config maps short names to the full names that they set.
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from valuelab import errors
from valuelab.errors import InputError

Config = TypeVar("Config")
Made = TypeVar("Made")
DEFAULT_DATA_DIR = "~/.cache/valuelab"
"""Where data lies unless told otherwise."""
_PHASES = ("offline_steps", "online_steps")
OTHER_NAMES = {
    "lr": ("learning_rate",),
    "gamma": ("discount",),
    "tau": ("target_rate", "expectile"),
    "beta": ("inverse_temperature",),
    "alpha": ("bc_weight", "conservative_weight", "temperature"),
    **dict.fromkeys(("restore", "load", "resume_from", "pretrained", "warm_start"), ("init_from",)),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "num_steps", "train_steps"), ("steps",)),
    **dict.fromkeys(("total_timesteps", "max_timesteps", "total_steps", "num_updates"), ("steps",)),
    **dict.fromkeys(("seeds", "n_seeds"), ("num_seeds",)),
    **dict.fromkeys(("env", "env_name", "env_id"), ("environment", "dataset")),
    **dict.fromkeys(("out", "output", "logdir", "log_dir", "save_dir", "output_dir"), ("workdir",)),
    **dict.fromkeys(("eval_freq", "eval_interval", "eval_period"), ("eval_every",)),
    **dict.fromkeys(("log_freq", "log_interval"), ("log_every",)),
    **dict.fromkeys(("save_freq", "save_interval", "save_every"), ("checkpoint_every",)),
    **dict.fromkeys(("wandb", "project"), ("wandb_project",)),
    **dict.fromkeys(("algo", "algorithm", "config", "preset"), ("agent",)),
}
"""A name that other libraries use -> the last part of the names of fields that it may stand for here."""
FUNCTION = "FILE.py:FUNCTION"
"""The form of a value that names a function of the user."""
MOST_MEANT = 3
"""The largest number of names that a message suggests for an unknown one."""


# How a field is declared.


class SameAs(NamedTuple):
    """The value of another field of the same config, as `before` of a field.

    Attributes:
        field: the name of the other field.
    """

    field: str


def setting(
    default: Any,
    interval: str = "",
    help: str = "",
    *,
    compare: bool = True,
    grows: bool = False,
    before: Any = None,
    function: str = "",
) -> Any:
    """A field of a subclass of `Settings`.

    Args:
        default: its value where nothing else is given.
        interval: its range, such as "(0, 1)" or "[1, inf)"; of a tuple, the range of each element. Empty for
            no bounds.
        help: what --help says of it. Empty in a subclass that changes the default alone.
        compare: whether the field changes the result of a run.
        grows: whether an existing run continues when the field becomes larger, as with more updates.
        before: its value in runs that were saved when there was no such field, or `SameAs` another field;
            None for the default.
        function: of a `Literal` of an agent that may also be FILE.py:FUNCTION, the argument of make_agent
            that takes this function; empty for other fields.
    """
    metadata: dict[str, Any] = {"interval": interval, "help": help, "grows": grows} if help else {}
    if before is not None:
        metadata |= {"before": before}
    if function:
        metadata |= {"function": function}
    return dataclasses.field(default=default, compare=compare, metadata=metadata)


def widths(default: tuple[int, ...], help: str, *, least: int = 1, blocks: str = "") -> Any:
    """A field with the width of each hidden layer of a network: as `setting`, but not empty.

    Args:
        default: widths.
        help: what --help says of it.
        least: smallest width that is allowed.
        blocks: name of the field with the number of layers of a residual block; empty for none.
    """
    metadata = {"help": help, "least": least, "blocks": blocks}
    return dataclasses.field(default=default, metadata=metadata)


class Choice(NamedTuple, Generic[Made]):
    """A choice of a part.

    Attributes:
        config: the class of its config.
        make: (config, spec) -> what the config describes.
    """

    config: type
    make: Callable[[Any, Any], Made]


def part(default: Any, choices: Mapping[str, Choice[Any]], help: str, *, before: str = "") -> Any:
    """A field that holds a config, which is chosen by name.

    Args:
        default: a config.
        choices: by the names that flags and presets use.
        help: what --help says of it.
        before: the name of its choice in runs that were saved when there was no such field; empty for the
            choice in the config that they are read with.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "before": before})


def make(choices: Mapping[str, Choice[Made]], config: Any, spec: Any) -> Made:
    """What the config of a part describes.

    Raises:
        InputError: for a config that is not of a class among the choices.
    """
    for choice in choices.values():
        if choice.config is type(config):
            return choice.make(config, spec)
    raise InputError(f"config {type(config).__name__} is not one of {', '.join(choices)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings whose fields are declared by `setting`; a value outside its range is refused.

    A subclass with checks of its own calls `super().__post_init__()` first.

    Attributes:
        ALIASES: short name to the full names of the fields that it sets.
    """

    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        """Checks each field, in order of declaration.

        Raises:
            InputError: for the first value out of its range.
        """
        for field in dataclasses.fields(self):
            declared = _declared(type(self), field.name)
            if interval := declared.get("interval"):
                check_ranges(self, **{field.name: interval})
            if "least" in declared:
                depth = getattr(self, declared["blocks"]) if declared["blocks"] else 0
                check_widths(self, field.name, declared["least"], depth)


def _declared(config_class: type, name: str) -> Mapping[str, Any]:
    """What `setting`, `widths` or `part` said of a field, in this class or else in its bases."""
    classes = (vars(base).get("__dataclass_fields__", {}) for base in reversed(config_class.__mro__))
    said = (known[name].metadata for known in classes if name in known)
    return functools.reduce(lambda declared, more: declared | dict(more), said, {})


# The settings of a run.


@dataclasses.dataclass(frozen=True)
class NoConfig:
    """The settings of a part that has none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """The settings of a run.

    A workdir belongs to one result. Fields with `compare=False` do not change it: they say where files
    lie, how often and in what form the run is looked at, and on which devices it runs. `difference`
    leaves them out, so that a run may be resumed with others.
    """

    agent: Any = setting(NoConfig(), help="Hyperparameters, the `Config` of the agent file.")
    agent_name: str = setting("", help="Name of the agent file, without folder and suffix.")
    agent_source: str = setting("", help="Agent file and preset as they were given.", compare=False)
    data: Any = setting(NoConfig(), help="How the data are prepared.")
    dataset: str = setting("", help="Name of the dataset, such as ogbench/pointmaze-medium-navigate-v0.")
    data_dir: str = setting(DEFAULT_DATA_DIR, help="Folder that holds the datasets.", compare=False)
    environment: str = setting(
        "",
        help="Environment where the agent is evaluated, such as gymnasium/CartPole-v1 or gridworld/NAME; "
        "empty for the dataset's own. Your own environment is MODULE:NAME or FILE.py:NAME. Without a "
        "dataset, or with online_steps, the agent also learns in it.",
    )
    environment_kwargs: str = setting(
        "",
        help="Keyword arguments of gymnasium.make for the environment, as a JSON object, such as "
        "'{\"max_episode_steps\": 200}'. Environments of gymnasium, OGBench and Minari take them.",
    )
    trust_environment: bool = setting(
        False,
        help="Run whatever code a Minari dataset names as its environment. Otherwise only environments that "
        "installed packages register are made.",
        compare=False,
    )
    trust_agent_file: bool = setting(
        False,
        help="Execute the agent file that a saved run names whose values this run uses (data.value_run), "
        "wherever it lies.",
        compare=False,
    )
    reward: str = setting(
        "",
        help="Your own reward, FILE.py:FUNCTION, a function of the arrays of all transitions; empty for the "
        "rewards of the dataset.",
    )
    interaction: Any = setting(NoConfig(), help="How the agent acts in an environment while it learns.")
    batch_size: int = setting(256, "[1, inf)", "Transitions in a batch of each seed.")
    steps: int = setting(
        1_000_000,
        "[1, inf)",
        "Updates in the whole run. It is the sum of offline_steps and online_steps if you give one of them. "
        "The same command with more steps continues a run.",
        grows=True,
    )
    offline_steps: int = setting(
        0, "[0, inf)", "Updates on the dataset alone, before the agent begins to act."
    )
    online_steps: int = setting(
        0, "[0, inf)", "Updates while the agent acts; they follow the offline ones.", grows=True
    )
    init_from: str = setting(
        "",
        help="Workdir of an earlier run from whose newest checkpoint this run takes its initial states, or "
        "WORKDIR:STEP for another checkpoint; empty to begin with random parameters.",
    )
    init_member: int | None = setting(
        None,
        "[0, inf)",
        "Member of the run in init_from from which all members begin; none to begin member i from member i.",
    )
    seed: int = setting(0, "[0, 2147483647]", "First random seed.")
    num_seeds: int = setting(1, "[1, inf)", "Number of seeds trained side by side: seed, seed + 1, ...")
    sweep: tuple[str, ...] = setting(
        (),
        help="A hyperparameter and its values, such as agent.expectile=0.7,0.9. Several sweeps are crossed.",
    )
    mesh: tuple[int, ...] = setting(
        (),
        "[1, inf)",
        "Numbers of devices along the axes seed and data, such as 2,4; empty for an automatic choice.",
        compare=False,
    )
    log_every: int = setting(1_000, "[1, inf)", "Updates between two lines of metrics.", compare=False)
    eval_every: int = setting(
        100_000,
        "[0, inf)",
        "Updates between two evaluations; 0 evaluates at the end only.",
        compare=False,
    )
    eval_episodes: int = setting(
        50, "[0, inf)", "Episodes of each task in an evaluation; 0 trains without evaluating."
    )
    eval_temperature: float | None = setting(
        None,
        "[0, inf)",
        "Temperature of the policy in evaluations; 0 takes its most likely action. None stands for 1 with a "
        "flow policy, which acts with its noise, and for 0 with any other.",
    )
    eval_max_steps: int = setting(
        200_000, "[1, inf)", "Steps after which an evaluation cuts an episode that does not end."
    )
    pairs: int = setting(
        0,
        "[0, 2000]",
        "Number of random pairs of a start and a goal that are played after the last update, with a "
        "goal-conditioned dataset of a maze of OGBench. Their success is reported by detour. Zero-shot "
        "agents infer the task of a goal from labelled states, or renew it at each step if it depends on "
        "the state (HILP with goal_tasks=differences).",
        compare=False,
    )
    checkpoint_every: int = setting(
        10_000, "[0, inf)", "Updates between two checkpoints; 0 saves before evaluations only.", compare=False
    )
    keep_checkpoints: int = setting(
        3, "[1, inf)", "Number of checkpoints to keep, the newest ones.", compare=False
    )
    workdir: str = setting("", help="Folder for everything that the run leaves.", compare=False)
    tensorboard: bool = setting(False, help="Also write TensorBoard's event files.", compare=False)
    wandb_project: str = setting(
        "", help="Project of Weights & Biases to log to as well; empty for none.", compare=False
    )
    wandb_entity: str = setting(
        "", help="User or team on Weights & Biases; empty for your default one.", compare=False
    )
    wandb_group: str = setting(
        "", help="Group of the members' runs there; empty for the name of the workdir.", compare=False
    )
    wandb_name: str = setting("", help="Name of the run there; empty for that of the workdir.", compare=False)
    wandb_tags: tuple[str, ...] = setting((), help="Tags of the run there, such as a,b.", compare=False)
    distributed: bool = setting(
        False, help="Train on several hosts; start this same command on each of them.", compare=False
    )
    smoke: bool = setting(
        False,
        help="Only try out whether the run works: 20 updates and one short evaluation episode, whatever the "
        "preset and other flags say.",
        compare=False,  # the fields that it changes are compared
    )
    video: bool = setting(False, help="Save a video of one episode of each task at the end.", compare=False)
    formats: tuple[str, ...] = setting(
        (),
        help="Further formats of pictures, such as pdf,svg; PNG is always written.",
        compare=False,
    )

    @property
    def temperature(self) -> float:
        """The temperature of evaluations: `eval_temperature`, or that of the agent's policy if it is None."""
        if self.eval_temperature is not None:
            return self.eval_temperature
        return getattr(getattr(self.agent, "policy", None), "EVAL_TEMPERATURE", 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.mesh) not in (0, 2):
            raise InputError(
                f"mesh is {self.mesh}; it must be two numbers of devices, seed axis and data axis"
            )
        for name in ("wandb_entity", "wandb_group", "wandb_name", "wandb_tags"):
            if getattr(self, name) and not self.wandb_project:
                raise InputError(f"{name} is given without wandb_project: give --wandb_project=NAME, too")
        json_object("environment_kwargs", self.environment_kwargs)
        phases = self.offline_steps + self.online_steps
        if phases and self.steps != phases:
            raise InputError(
                f"steps is {self.steps}; it must be the sum {phases} of offline_steps {self.offline_steps} "
                f"and online_steps {self.online_steps}: leave it out"
            )
        if self.init_member is not None and not self.init_from:
            raise InputError(
                f"init_member is {self.init_member}, but no run is given to begin from: give init_from, or "
                "leave out init_member"
            )


_SMOKE_UPDATES, _SMOKE_EVALUATION_STEPS, _SMOKE_PAIRS = 20, 50, 3


def smoke(config: Config) -> Config:
    """The settings of a smoke run, if `smoke` is set; else the settings as they are."""
    run: Any = config
    if not run.smoke:
        return config
    phases = (run.offline_steps > 0) + (run.online_steps > 0)
    share = _SMOKE_UPDATES // max(phases, 1)
    values = {
        "steps": _SMOKE_UPDATES,
        "offline_steps": share if run.offline_steps else 0,
        "online_steps": share if run.online_steps else 0,
        "log_every": _SMOKE_UPDATES // 4,
        "eval_every": 0,
        "eval_episodes": min(run.eval_episodes, 1),
        "eval_max_steps": min(run.eval_max_steps, _SMOKE_EVALUATION_STEPS),
        "pairs": min(run.pairs, _SMOKE_PAIRS),
        "checkpoint_every": 0,
    }
    return replace(config, values)


# How values are checked.


def check_ranges(config: Any, **ranges: str) -> None:
    """Refuses fields that lie outside their range; for the `__post_init__` of a plain dataclass.

    Args:
        config: a config.
        **ranges: field name to interval, such as expectile="(0, 1)" or steps="[1, inf)". Of a tuple every
            element is checked. None passes. Arrays pass too: they may be traced, and a sweep has checked
            their values before.

    Raises:
        InputError: naming the first field out of range, its value and the interval. The message begins
            with the field's name, and `replace` puts the path of a nested config before it.
    """
    for name, interval in ranges.items():
        value = getattr(config, name)
        if not isinstance(value, int | float | tuple):
            continue
        low, high = (float(bound) for bound in interval[1:-1].split(","))
        above = np.greater_equal if interval[0] == "[" else np.greater
        below = np.less_equal if interval[-1] == "]" else np.less
        if not np.all(above(value, low) & below(value, high)):
            raise InputError(f"{name} is {value}; it must lie in {interval}")


def json_object(name: str, text: str) -> dict[str, Any]:
    """The JSON object that a field holds as text; {} for an empty text.

    Raises:
        InputError: when the text is not a JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        found = error
    if not isinstance(found, dict):
        reason = f" ({found})" if isinstance(found, Exception) else ""
        raise InputError(
            f"{name} is {text!r}, but must be a JSON object{reason}: write '{{\"NAME\": VALUE}}'"
        )
    return found


def check_widths(config: Any, name: str, least: int = 1, block_depth: int = 0) -> None:
    """Refuses widths of hidden layers that make no network; call it where you call `check_ranges`.

    An encoder may be linear, without hidden layers; its widths need `check_ranges` alone.

    Args:
        config: a config.
        name: the field with the widths.
        least: smallest width that is allowed.
        block_depth: number of layers of a residual block; 0 for none.

    Raises:
        InputError: when there is no width, one is too small, or they differ although residual blocks add
            their input to their output.
    """
    widths = getattr(config, name)
    if not widths:
        raise InputError(f"{name} is empty; give the width of each hidden layer, such as 256,256")
    check_ranges(config, **{name: f"[{least}, inf)"})
    if block_depth and len(set(widths)) > 1:
        raise InputError(
            f"{name} is {widths}; layers of residual blocks must be equally wide: choose one width for all, "
            "or block_depth=0"
        )


# What the fields are.


class Field(NamedTuple):
    """A field of a config.

    Attributes:
        annotation: its type.
        expected: the type in words, such as "a finite number".
        value: its value.
        help: what `setting` says, or its line under Attributes in the docstring.
        compared: whether it changes the result of the run.
        grows: whether an existing run continues when the field becomes larger.
        before: its value in runs that were saved when there was no such field, or `SameAs` another field;
            None for the default.
        function: the argument of make_agent that takes the function of a FILE.py:FUNCTION; empty where the
            value names no function.
    """

    annotation: Any
    expected: str
    value: Any
    help: str
    compared: bool
    grows: bool = False
    before: Any = None
    function: str = ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a field that is a Literal; empty for other fields."""
        annotation, _ = _without_none(self.annotation)
        is_literal = typing.get_origin(annotation) is Literal
        return tuple(map(str, typing.get_args(annotation))) if is_literal else ()


def fields(config: Any, path: str = "") -> dict[str, Field]:
    """All fields of a config and of the configs in it.

    Args:
        config: a config.
        path: put before each name.

    Returns:
        Dotted name to field, in order of declaration.

    Raises:
        InputError: when a field has a type that cannot be written as text.
    """
    found: dict[str, Field] = {}
    hints = typing.get_type_hints(type(config))
    helps = _documented(type(config))
    for field in dataclasses.fields(config):
        name, value, annotation = path + field.name, getattr(config, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            found |= fields(value, name + ".")
        else:
            declared = _declared(type(config), field.name)
            function = declared.get("function", "")
            found[name] = Field(
                annotation=annotation,
                expected=_expected(name, annotation) + (f", or {FUNCTION}" if function else ""),
                value=value,
                help=declared.get("help") or helps.get(field.name, ""),
                compared=field.compare,
                grows=declared.get("grows", False),
                before=declared.get("before"),
                function=function,
            )
    return found


def function_file(source: str) -> str:
    """The file of a FILE.py:FUNCTION; empty for other text."""
    file = source.rpartition(":")[0]
    return file if file.endswith(".py") else ""


class Part(NamedTuple):
    """A part of a config that is chosen by name.

    Attributes:
        choices: name to class of config.
        chosen: the name of the present one; empty where it is not among the choices.
        help: what `part` says.
        before: the name of its choice in runs that were saved when there was no such part; empty for that of
            the config that they are read with.
    """

    choices: Mapping[str, type]
    chosen: str
    help: str
    before: str = ""


def parts(config: Any, path: str = "") -> dict[str, Part]:
    """The parts of a config, and of the configs in it, that are chosen by name: dotted name to part."""
    found: dict[str, Part] = {}
    for field in dataclasses.fields(config):
        value, declared = getattr(config, field.name), _declared(type(config), field.name)
        if not dataclasses.is_dataclass(value):
            continue
        if "choices" in declared:
            choices = {name: choice.config for name, choice in declared["choices"].items()}
            chosen = next((name for name, known in choices.items() if known is type(value)), "")
            found[path + field.name] = Part(
                choices=choices, chosen=chosen, help=declared["help"], before=declared.get("before", "")
            )
        found |= parts(value, f"{path}{field.name}.")
    return found


def aliases(config: Any, path: str = "") -> dict[str, tuple[str, ...]]:
    """The short names of a config, and of the configs in it: dotted name to the full names that it sets.

    A short name of a part also gives short names to the part's fields.
    """
    short_names = getattr(type(config), "ALIASES", {})
    found = {path + short: tuple(path + name for name in full) for short, full in short_names.items()}
    for short, (name, *_) in short_names.items():
        if dataclasses.is_dataclass(renamed := getattr(config, name, None)):
            found |= {f"{path}{short}.{own}": (f"{path}{name}.{own}",) for own in fields(renamed)}
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            found |= aliases(value, f"{path}{field.name}.")
    return found


def check_aliases(config: Any) -> None:
    """Refuses short names that stand for no field of the config, or of a choice of its parts.

    Raises:
        InputError: naming the first such short name.
    """
    known, known_parts = fields(config), parts(config)
    for short, full in aliases(config).items():
        for name in full:
            part, _, field = name.rpartition(".")
            choices = known_parts[part].choices.values() if part in known_parts else ()
            fits = any(field in choice.__dataclass_fields__ for choice in choices)  # type: ignore[attr-defined]
            if not (fits or name in known or name in known_parts):
                raise InputError(f"ALIASES: {short!r} stands for {name!r}, which is not a field: correct it")


def in_full(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by full names, where some are given by short ones.

    A short name that is also the name of a part stands for the part where its value is one of the choices.

    Args:
        config: a config.
        values: dotted name to value.

    Raises:
        InputError: when a field is given twice, by its short name and its full one.
    """
    short_names, known_parts = aliases(config), parts(config)
    full: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for given, value in values.items():
        chooses = given in known_parts and (
            dataclasses.is_dataclass(value) or str(value) in known_parts[given].choices
        )
        for name in (given,) if chooses else short_names.get(given, (given,)):
            if name in full:
                raise InputError(f"{given_as[name]} and {given} both set {name}: give one of them")
            full[name], given_as[name] = value, given
    return full


def unknown_field(kind: str, name: str, names: Collection[str]) -> InputError:
    """The error for an unknown dotted name.

    It suggests the names that end alike or for which other libraries have this name, else a similar name of
    the same part, else any similar name.
    """
    part, _, last = name.rpartition(".")
    same_part = [known for known in names if known.rpartition(".")[0] == part]
    others = [
        known for known in names if known.rpartition(".")[2] in (last, *OTHER_NAMES.get(last.lower(), ()))
    ]

    def rank(known: str) -> tuple[bool, int]:
        """The agent's own fields come first, and short names before long ones."""
        return "." in known and not known.startswith("agent."), known.count(".")

    best = min(map(rank, others), default=None)
    meant = (
        sorted(known for known in others if rank(known) == best)
        or errors.nearest(name, same_part)[:1]
        or errors.nearest(last, names)[:1]
    )
    return errors.unknown(kind, name, same_part or names, meant[:MOST_MEANT])


def _documented(config_class: type) -> dict[str, str]:
    """Field names to their lines in the Attributes of the class's docstring, and of those it inherits."""
    found: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        lines = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", attributes, re.MULTILINE)
        found |= {name: " ".join(text.split()) for name, text in lines}
    return found


# How a value is read.


def _flag(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_SCALARS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    bool: ("true or false", _flag),
    int: ("a whole number", _whole),
    float: ("a finite number", _number),
    str: ("text", _text),
}


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The X of an `X | None`, and whether None is allowed."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        match [choice for choice in typing.get_args(annotation) if choice is not type(None)]:
            case [only]:
                return only, True
    return annotation, False


def _expected(name: str, annotation: Any) -> str:
    """A field's type in words."""
    annotation, optional = _without_none(annotation)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
    elif typing.get_origin(annotation) is tuple and arguments[1:] == (...,) and arguments[0] in _SCALARS:
        words = f"a list with commas, each entry {_SCALARS[arguments[0]][0]}"
    elif annotation in _SCALARS:
        words = _SCALARS[annotation][0]
    else:
        raise InputError(
            f"{name} has type {annotation}; "
            "choose int, float, bool, str, Literal[...], tuple[..., ...], or one of these or None"
        )
    return f"{words}, or none" if optional else words


def _elements(text: str, annotation: Any) -> list[str]:
    """The elements of a list written as "8,16" or "(8, 16)"; text may hold commas, and is one element."""
    inner = text.strip("()[]").rstrip(",")
    return [text] if annotation is str else inner.split(",") if inner else []


def _convert(name: str, field: Field, value: Any) -> Any:
    """A value, given as text or not, as the field's type."""
    annotation, optional = _without_none(field.annotation)
    if optional and value in (None, "none"):
        return None
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        choices = {str(choice): choice for choice in arguments}
        if field.function and function_file(str(value)):
            return str(value)
        if str(value) not in choices:
            known = [*choices, FUNCTION] if field.function else choices
            raise errors.unknown(f"value of {name}", str(value), known)
        return choices[str(value)]
    try:
        if annotation in _SCALARS:
            return _SCALARS[annotation][1](value)
        elements = _elements(value, arguments[0]) if isinstance(value, str) else value
        return tuple(_SCALARS[arguments[0]][1](element) for element in elements)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{name} is {value!r}; it must be {field.expected}") from error


def split_names(flag: str, values: Sequence[str]) -> tuple[str, ...]:
    """The names in a flag that can be repeated, or contain commas.

    Raises:
        InputError: when a name is empty, or given twice.
    """
    names = [name for value in values for name in value.split(",")]
    for place, name in enumerate(names):
        if not name:
            raise InputError(
                f"{flag} is {','.join(values)!r}, with an empty name: give names, or leave the flag out"
            )
        if name in names[:place]:
            raise InputError(f"{flag} names {name} twice: give it once")
    return tuple(names)


# How configs are changed, saved and compared.


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """A config with some fields set by dotted name: what a preset and the command line do.

    Where they set the phases of a run and not `steps`, that is set to the phases' sum.

    Args:
        config: a config.
        values: dotted name, full or short, to value, or to the value as text. Parts come first, so that
            other names may be of their fields. A part is a config, or the name of one: then fields that the
            old config and the new one both have keep their values.

    Returns:
        A new config.

    Raises:
        InputError: for an unknown name, a name given twice, a value that is not of the field's type, or one
            out of range.
    """
    short_names = aliases(config)
    full = in_full(config, values)
    config, full = _with_parts(config, full)
    known = fields(config)
    for name in full:
        if name not in known:
            short = next(
                (short for short in short_names if short in values and name in short_names[short]), ""
            )
            raise _lacking(config, short, name) if short else unknown_field("field", name, known)
    typed = {name: _convert(name, known[name], value) for name, value in full.items()}
    if isinstance(config, RunConfig) and not typed.keys().isdisjoint(_PHASES):
        phases = [typed.get(name, getattr(config, name)) for name in _PHASES]
        typed = {"steps": sum(phases) or config.steps} | typed
    return replace(config, typed)


def _with_parts(config: Config, values: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """A config with those parts that values name put in place, outer ones first; and the other values."""
    others = dict(values)
    for name in sorted(values, key=lambda name: name.count(".")):
        known, value = parts(config), values[name]
        if dataclasses.is_dataclass(value):
            config = replace(config, {name: others.pop(name)})
        elif name in known:
            if str(value) not in known[name].choices:
                raise errors.unknown(f"value of {name}", str(value), known[name].choices)
            config = replace(
                config, {name: _chosen(_at(config, name), known[name].choices[others.pop(name)])}
            )
    return config, others


def _chosen(part: Any, config_class: type) -> Any:
    """A config of a class, with those values of another config that it has and accepts."""
    if type(part) is config_class:
        return part
    names = {field.name for field in dataclasses.fields(config_class)}
    kept: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        if field.name in names:
            value = {field.name: getattr(part, field.name)}
            with contextlib.suppress(InputError):  # a value out of the range of the new class
                config_class(**value)
                kept |= value
    return config_class(**kept)


def _at(config: Any, name: str) -> Any:
    """The value at a dotted name."""
    return functools.reduce(getattr, name.split("."), config)


def _lacking(config: Any, short: str, name: str) -> InputError:
    """The error for a short name of a field that only another choice of its part has."""
    part, _, field = name.rpartition(".")
    chosen = parts(config)[part]
    having = [
        choice
        for choice, config_class in chosen.choices.items()
        if field in config_class.__dataclass_fields__  # type: ignore[attr-defined]
    ]
    return InputError(
        f"{short} sets {name}, which {chosen.chosen} does not have: choose {part}={' or '.join(having)}"
    )


def replace(config: Config, values: Mapping[str, Any], path: str = "") -> Config:
    """`dataclasses.replace` by dotted name: values are taken as they are, and may be traced arrays.

    Args:
        config: a config.
        values: dotted name, full or short, to value.
        path: put before names in messages; it is empty for a whole config.

    Returns:
        A new config.

    Raises:
        InputError: when a config refuses its new values.
    """
    values = values if path else in_full(config, values)
    own = {name: value for name, value in values.items() if "." not in name}
    for part in dict.fromkeys(name.partition(".")[0] for name in values if "." in name):
        inner = {
            name[len(part) + 1 :]: value for name, value in values.items() if name.startswith(part + ".")
        }
        own[part] = replace(getattr(config, part), inner, f"{path}{part}.")
    try:
        return dataclasses.replace(typing.cast(Any, config), **own)
    except InputError as error:
        raise InputError(f"{path}{error}") from error


KIND = "kind"
"""The key in JSON that names which config a part is."""


def to_json(config: Any) -> dict[str, Any]:
    """A config as nested dictionaries of what JSON holds (so tuples become lists); parts have a KIND."""
    saved = json.loads(json.dumps(dataclasses.asdict(config)))
    for name, known in parts(config).items():
        if known.chosen:
            functools.reduce(lambda nested, key: nested[key], name.split("."), saved)[KIND] = known.chosen
    return saved


def from_json(config: Config, saved: Mapping[str, Any]) -> Config:
    """The config that `to_json` saved, also with short names; `config` is any of the same kind.

    Raises:
        InputError: where `override` does.
    """
    return override(config, _read(config, saved))


def _read(config: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    """What `to_json` saved, by full names, parts by the names of their choices.

    Runs from before parts were chosen by name saved short names, also of fields that their choice lacked.
    A field that they do not name has its value `before` it existed.
    """
    known_parts = parts(config)
    kinds: dict[str, Any] = {name: part.before for name, part in known_parts.items() if part.before}
    values: dict[str, Any] = {}
    for name, value in in_full(config, flatten(saved)).items():
        place, _, key = name.rpartition(".")
        if key == KIND:
            kinds[place] = value
        elif name in known_parts:
            kinds[name] = value
        else:
            values[name] = value
    chosen = {
        name: kind
        for name, kind in kinds.items()
        if name in known_parts and kind in known_parts[name].choices
    }
    known = fields(_with_parts(config, chosen)[0])
    short = {full for names in aliases(config).values() for full in names} - known_parts.keys()
    before = {name: field.before for name, field in known.items() if field.before is not None}
    for name, value in before.items():
        if isinstance(value, SameAs):
            other = ".".join([*name.split(".")[:-1], value.field])
            before[name] = values.get(other, known[other].value)
    return (
        before | kinds | {name: value for name, value in values.items() if name in known or name not in short}
    )


Change = tuple[str, Any, Any]
"""A dotted name, its saved value and its new value; None where one lacks it."""


def difference(saved: Mapping[str, Any], config: Any) -> list[Change]:
    """The fields because of which a new config does not continue the run of a saved one.

    Args:
        saved: what `to_json` gave; the kind of a part may be missing, as older versions did not save it.
        config: the new config.

    Returns:
        Each compared field that differs, except those that `growth` returns.
    """
    grown = growth(saved, config)
    return [change for change in _changes(saved, config) if change not in grown]


def growth(saved: Mapping[str, Any], config: Any) -> list[Change]:
    """The fields that make a run longer: those declared with `grows` whose new value is larger.

    A field that was 0 does not grow, because a run without online steps has no environment to continue in.
    Arguments as in `difference`.
    """
    return [(name, old, new) for name, old, new in _growing(saved, config) if new > old > 0]


def shrinkage(saved: Mapping[str, Any], config: Any) -> list[Change]:
    """The fields that would make a run shorter; arguments as in `difference`."""
    return [(name, old, new) for name, old, new in _growing(saved, config) if new < old]


def _growing(saved: Mapping[str, Any], config: Any) -> list[Change]:
    """The changes of fields that are declared with `grows`."""
    known = fields(config)
    return [
        (name, old, new)
        for name, old, new in _changes(saved, config)
        if name in known and known[name].grows and type(old) is int
    ]


def _changes(saved: Mapping[str, Any], config: Any) -> list[Change]:
    """Each compared field that differs."""
    old, new = (_read(config, each) for each in (saved, to_json(config)))
    old = _defaults(config) | old  # a setting that is newer than the saved run had its default then
    ignored = {name for name, field in fields(config).items() if not field.compared}
    ignored |= parts(config).keys() - old.keys()
    return [
        (name, old.get(name), new.get(name))
        for name in new | old
        if name not in ignored and old.get(name) != new.get(name)
    ]


def _defaults(config: Any, path: str = "") -> dict[str, Any]:
    """The defaults of all fields by dotted name, as `to_json` writes them."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= _defaults(value, f"{path}{field.name}.")
        elif field.default is not dataclasses.MISSING:
            default = field.default
            found[path + field.name] = list(default) if isinstance(default, tuple) else default
    return found


def flatten(nested: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names; `path` is put before each."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{path}{name}.") if isinstance(value, Mapping) else {path + name: value}
    return flat


# Several members in one program.


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """The members that train side by side: M of them, seeds varying fastest.

    Member i has the settings `replace(config, {name: values[i] ...})`, also inside vmap.

    Attributes:
        seeds: [M] uint32.
        hyperparameters: dotted name, such as "agent.expectile", to [M] float32; empty without a sweep.
    """

    seeds: np.ndarray
    hyperparameters: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        """M."""
        return len(self.seeds)

    def settings(self, member: int) -> dict[str, float]:
        """What sets one member apart: its swept fields as they were written, and its seed."""
        # The shortest decimal of a float32 is what the user wrote; float() alone gives 0.699999988.
        swept = {name: float(str(values[member])) for name, values in self.hyperparameters.items()}
        return swept | {"seed": int(self.seeds[member])}

    def by_setting(self) -> list[tuple[dict[str, float], list[int]]]:
        """What a sweep compares: swept fields as they were written, and the members that have them."""
        groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
        for member in range(self.size):
            settings = self.settings(member)
            del settings["seed"]
            groups.setdefault(tuple(settings.items()), []).append(member)
        return [(dict(swept), members) for swept, members in groups.items()]

    def label(self, member: int) -> str:
        """The same as text, such as "agent.expectile=0.7 seed=3"."""
        return " ".join(f"{name}={value}" for name, value in self.settings(member).items())


def population(config: RunConfig) -> Population:
    """The members of a run: every combination of the swept values, each with every seed.

    Args:
        config: settings, of which `sweep`, `seed` and `num_seeds` are used. Fields that can be swept are
            those of the agent annotated as float: they may be traced, while sizes and names are static.

    Returns:
        The population.

    Raises:
        InputError: for a sweep of something else, one that cannot be read, or a value out of range or given
            twice.
    """
    known = fields(config)
    numeric = [name for name in known if name.startswith("agent.") and known[name].annotation is float]
    short_names = {
        short: names for short, names in aliases(config).items() if all(name in known for name in names)
    }
    axes: dict[str, list[float]] = {}
    for text in config.sweep:
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"sweep {text!r} cannot be read; write --sweep=agent.FIELD=VALUE,VALUE,...")
        full = short_names.get(name, (name,))
        if not all(name in known for name in full):
            raise unknown_field("swept field", name, numeric)
        if not all(name in numeric for name in full):
            raise InputError(
                f"sweep of {name}: only numbers of the agent can be swept; "
                f"fields that can be swept: {', '.join(numeric)}"
            )
        if name in axes:
            raise InputError(f"sweep of {name} is given twice; list all its values in one --sweep={name}=...")
        try:
            axes[name] = [_convert(name, known[full[0]], value) for value in values.split(",")]
        except InputError as error:
            raise InputError(f"sweep is {text!r}: {error}; write --sweep={name}=VALUE,VALUE") from error
        held = np.asarray(axes[name], np.float32).tolist()
        for place, value in enumerate(axes[name]):
            if (first := held.index(held[place])) != place:
                same = "" if value == axes[name][first] else f" (as float32 it is {axes[name][first]})"
                raise InputError(f"sweep of {name} has {value} twice{same}: give each value once")
    combinations = list(itertools.product(*axes.values()))
    for combination in combinations:
        replace(config, dict(zip(axes, combination, strict=True)))  # refuses what is out of range
    seeds = np.arange(config.seed, config.seed + config.num_seeds, dtype=np.uint32)
    return Population(
        seeds=np.tile(seeds, len(combinations)),
        hyperparameters={
            name: np.repeat(np.asarray(values, np.float32), config.num_seeds)
            for name, values in zip(axes, zip(*combinations, strict=True), strict=True)
        },
    )
