"""The settings of a run: typed, overridden by dotted name, saved, compared and swept.

Settings are frozen dataclasses, nested where one part holds another, and a field is known everywhere
(flags, presets, config.json, messages) by its dotted name: `steps`, `data.rewards`, `agent.expectile`. A
field is an int, a float, a bool, a str, a `Literal`, a `tuple` of any length, or one of these or None; its
help is its line under Attributes in the docstring of its class. A class refuses values out of range in its
`__post_init__`, with `check_ranges` and `check_widths`, so that settings that exist are settings that hold.
"""

import dataclasses
import inspect
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from valuelab import errors
from valuelab.errors import InputError

Config = TypeVar("Config")
DEFAULT_DATA_DIR = "~/.cache/valuelab"
"""Where data lies unless told otherwise."""
_PHASES = ("offline_steps", "online_steps")


@dataclasses.dataclass(frozen=True)
class NoConfig:
    """The settings of a part that has none."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings of a run.

    A workdir belongs to one result. Fields with `compare=False` do not change it: they say where files
    lie, how often and in what form the run is looked at, and on which devices it runs. `difference`
    leaves them out, so that a run may be resumed with others.

    Attributes:
        agent: hyperparameters, the `Config` of the agent file.
        agent_name: name of the agent file, without folder and suffix.
        agent_source: agent file and preset as they were given.
        data: how the data are prepared.
        dataset: name of the dataset, such as ogbench/pointmaze-medium-navigate-v0.
        data_dir: folder that holds the datasets.
        environment: where the agent is evaluated and, if no dataset or online_steps are given, learns, such
            as gymnasium/CartPole-v1 or gridworld/NAME; empty for the dataset's own.
        trust_environment: run whatever code a Minari dataset names as its environment, and not only
            environments that installed packages register.
        interaction: how much it acts, where it learns in an environment.
        batch_size: transitions in a batch, of each seed.
        steps: updates in the whole run; the sum of the next two where one of them is given.
        offline_steps: updates on the dataset alone, before the agent begins to act.
        online_steps: updates while it acts, after those.
        seed: first random seed.
        num_seeds: seeds trained side by side: seed, seed + 1, ...
        sweep: a hyperparameter and its values, such as agent.expectile=0.7,0.9; several are crossed.
        mesh: devices along the axes seed and data, such as 2,4; empty to have it chosen.
        log_every: updates between two lines of metrics.
        eval_every: updates between two evaluations; 0 evaluates at the end only.
        eval_episodes: episodes of each task in an evaluation; 0 trains without evaluating.
        eval_temperature: of the policy when evaluated; 0 is its most likely action.
        eval_max_steps: steps after which an episode that does not end by itself is cut in an evaluation.
        checkpoint_every: updates between two checkpoints; 0 saves before evaluations only.
        keep_checkpoints: how many of the newest checkpoints stay.
        workdir: folder for everything that the run leaves.
        tensorboard: also write TensorBoard's event files.
        wandb_project: also log to this project of Weights & Biases; empty for none.
        distributed: train on several hosts, each started with this same command.
        video: save a video of an episode of each task at the end.
    """

    agent: Any = dataclasses.field(default_factory=NoConfig)
    agent_name: str = ""
    agent_source: str = dataclasses.field(default="", compare=False)
    data: Any = dataclasses.field(default_factory=NoConfig)
    dataset: str = ""
    data_dir: str = dataclasses.field(default=DEFAULT_DATA_DIR, compare=False)
    environment: str = ""
    trust_environment: bool = dataclasses.field(default=False, compare=False)
    interaction: Any = dataclasses.field(default_factory=NoConfig)
    batch_size: int = 256
    steps: int = 1_000_000
    offline_steps: int = 0
    online_steps: int = 0
    seed: int = 0
    num_seeds: int = 1
    sweep: tuple[str, ...] = ()
    mesh: tuple[int, ...] = dataclasses.field(default=(), compare=False)
    log_every: int = dataclasses.field(default=1_000, compare=False)
    eval_every: int = dataclasses.field(default=100_000, compare=False)
    eval_episodes: int = 50
    eval_temperature: float = 0.0
    eval_max_steps: int = 200_000
    checkpoint_every: int = dataclasses.field(default=10_000, compare=False)
    keep_checkpoints: int = dataclasses.field(default=3, compare=False)
    workdir: str = dataclasses.field(default="", compare=False)
    tensorboard: bool = dataclasses.field(default=False, compare=False)
    wandb_project: str = dataclasses.field(default="", compare=False)
    distributed: bool = dataclasses.field(default=False, compare=False)
    video: bool = dataclasses.field(default=False, compare=False)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            batch_size="[1, inf)",
            steps="[1, inf)",
            offline_steps="[0, inf)",
            online_steps="[0, inf)",
            seed="[0, 2147483647]",
            num_seeds="[1, inf)",
            mesh="[1, inf)",
            log_every="[1, inf)",
            eval_every="[0, inf)",
            eval_episodes="[0, inf)",
            eval_temperature="[0, inf)",
            eval_max_steps="[1, inf)",
            checkpoint_every="[0, inf)",
            keep_checkpoints="[1, inf)",
        )
        if len(self.mesh) not in (0, 2):
            raise InputError(
                f"mesh is {self.mesh}; it must be two numbers of devices, seed axis and data axis"
            )
        phases = self.offline_steps + self.online_steps
        if phases and self.steps != phases:
            raise InputError(
                f"steps is {self.steps}; it must be the sum {phases} of offline_steps {self.offline_steps} "
                f"and online_steps {self.online_steps}: leave it out"
            )


def check_ranges(config: Any, **ranges: str) -> None:
    """Refuses fields that lie outside their range; to be called in the `__post_init__` of a config.

    Args:
        config: a config.
        **ranges: field name to interval, such as expectile="(0, 1)" or steps="[1, inf)". Of a tuple every
            element is checked. What is no number of Python's passes: None, and arrays, which may be
            traced, and whose values a sweep has checked before.

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


def check_widths(config: Any, name: str, least: int = 1, block_depth: int = 0) -> None:
    """Refuses widths of hidden layers that make no network; to be called where `check_ranges` is.

    Encoders, which are linear without hidden layers, need only the latter.

    Args:
        config: a config.
        name: of the field that has them.
        least: width.
        block_depth: of residual blocks; 0 for none.

    Raises:
        InputError: when there are none, one is too small, or they differ where blocks add input to output.
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
    """What is known of one field.

    Attributes:
        annotation: its type.
        expected: the type in words, such as "a finite number".
        value: its value.
        help: its line under Attributes in the docstring.
        compared: whether it changes the result of the run.
    """

    annotation: Any
    expected: str
    value: Any
    help: str
    compared: bool


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
            expected = _expected(name, annotation)
            found[name] = Field(annotation, expected, value, helps.get(field.name, ""), field.compare)
    return found


def unknown_field(kind: str, name: str, names: Collection[str]) -> InputError:
    """The error for an unknown dotted name; what it offers are the names of the same part, if any."""
    part = name.rpartition(".")[0]
    return errors.unknown(kind, name, [known for known in names if known.rpartition(".")[0] == part] or names)


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
        words = f"a list, each {_SCALARS[arguments[0]][0]}"
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
        if str(value) not in choices:
            raise errors.unknown(f"value of {name}", str(value), choices)
        return choices[str(value)]
    try:
        if annotation in _SCALARS:
            return _SCALARS[annotation][1](value)
        elements = _elements(value, arguments[0]) if isinstance(value, str) else value
        return tuple(_SCALARS[arguments[0]][1](element) for element in elements)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{name} is {value!r}; it must be {field.expected}") from error


# How configs are changed, saved and compared.


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """A config with some fields set by dotted name: what a preset and the command line do.

    Where they set the phases of a run and not `steps`, that is set to the phases' sum.

    Args:
        config: a config.
        values: dotted name to value, or to the value as text. A config in the place of another comes first,
            so that names may be of its fields.

    Returns:
        A new config.

    Raises:
        InputError: for an unknown name, a value that is not of the field's type, or one out of range.
    """
    parts = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    config = replace(config, parts)
    values = {name: value for name, value in values.items() if name not in parts}
    known = fields(config)
    for name in values:
        if name not in known:
            raise unknown_field("field", name, known)
    typed = {name: _convert(name, known[name], value) for name, value in values.items()}
    if isinstance(config, RunConfig) and not typed.keys().isdisjoint(_PHASES):
        phases = [typed.get(name, getattr(config, name)) for name in _PHASES]
        typed = {"steps": sum(phases) or config.steps} | typed
    return replace(config, typed)


def replace(config: Config, values: Mapping[str, Any], path: str = "") -> Config:
    """`dataclasses.replace` by dotted name: values are taken as they are, and may be traced arrays.

    Args:
        config: a config.
        values: dotted name to value.
        path: put before names in messages.

    Returns:
        A new config.

    Raises:
        InputError: when a config refuses its new values.
    """
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


def to_json(config: Any) -> dict[str, Any]:
    """A config as nested dictionaries of what JSON holds (so tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(config: Config, saved: Mapping[str, Any]) -> Config:
    """The config that `to_json` saved; `config`, any of the same kind, says what the fields are."""
    return override(config, flatten(saved))


def difference(saved: Mapping[str, Any], config: Any) -> list[tuple[str, Any, Any]]:
    """In what a saved config and a new one would not give the same result.

    Args:
        saved: what `to_json` gave.
        config: the new config.

    Returns:
        (dotted name, saved value, new value) of each compared field that differs; None where one lacks it.
    """
    old, new = flatten(saved), flatten(to_json(config))
    ignored = {name for name, field in fields(config).items() if not field.compared}
    return [
        (name, old.get(name), new.get(name))
        for name in new | old
        if name not in ignored and old.get(name) != new.get(name)
    ]


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
    axes: dict[str, list[float]] = {}
    for text in config.sweep:
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"sweep {text!r} cannot be read; write --sweep=agent.FIELD=VALUE,VALUE,...")
        if name not in known:
            raise unknown_field("swept field", name, numeric)
        if name not in numeric:
            raise InputError(
                f"sweep of {name}: it is no number of the agent's, so its values cannot share one program; "
                f"fields that can be swept: {', '.join(numeric)}"
            )
        if name in axes:
            raise InputError(f"sweep of {name} is given twice; list all its values in one --sweep={name}=...")
        try:
            axes[name] = [_convert(name, known[name], value) for value in values.split(",")]
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
