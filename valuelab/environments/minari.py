"""Minari: the environment in which a local dataset was recorded."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from valuelab import errors, spaces, types
from valuelab.environments import creation, own

_WRAPPERS = {
    *("AtariPreprocessing", "ClipAction", "ClipReward", "DtypeObservation", "FilterObservation"),
    *("FlattenObservation", "FrameStackObservation", "GrayscaleObservation", "MaxAndSkipObservation"),
    *("NormalizeObservation", "NormalizeReward", "OrderEnforcing", "PassiveEnvChecker"),
    *("RecordEpisodeStatistics", "RescaleAction", "RescaleObservation", "ReshapeObservation"),
    *("ResizeObservation", "StickyAction", "TimeAwareObservation", "TimeLimit"),
}
"""Wrappers of gymnasium that change observations, actions or rewards, and do not access files."""


def make(
    dataset_id: str,
    data_dir: Path,
    trust_environment: bool = False,
    environment_kwargs: Mapping[str, Any] = creation.NO_KWARGS,
) -> types.Environment:
    """The evaluation environment of a Minari dataset, with the observations of its data.

    Args:
        dataset_id: such as "mujoco/hopper/expert-v0".
        data_dir: the folder that holds minari/ with the dataset.
        trust_environment: whether its metadata may run any code, not only environments that installed
            packages register.
        environment_kwargs: keyword arguments of gymnasium.make, in place of those of the metadata.

    Returns:
        The environment; its metric is "normalized_score", 100 (return - min) / (max - min), where the
        dataset holds reference scores, and "return" otherwise.

    Raises:
        InputError: when the dataset is missing or does not name an environment, its reference scores are
            invalid, or its environment is not registered.
    """
    minari = errors.require("minari", "data")
    errors.require("gymnasium", "environments")
    path = data_dir / "minari" / dataset_id / "data"
    if not path.is_dir():
        raise errors.InputError(
            f"Minari dataset {path}, which names its environment, does not exist: download it with "
            f"MINARI_DATASETS_PATH={data_dir / 'minari'} minari download {dataset_id}"
        )
    spaces.check_stated(path / "metadata.json")
    try:
        dataset = minari.MinariDataset(path)
        metadata = dataset.storage.metadata
    except Exception as error:  # missing metadata raise many kinds of exceptions
        raise errors.InputError(
            f"{path} cannot be opened ({errors.describe(error)}): correct metadata.json, or download it again"
        ) from error
    needs = f" (which needs {_shown(metadata['requirements'])})" if metadata.get("requirements") else ""
    own = dataset._eval_env_spec  # Minari prefers this one
    spec = own or dataset.env_spec
    if spec is None:
        raise errors.InputError(
            f"{path / 'metadata.json'} does not name an environment (env_spec): give "
            "--environment=gymnasium/ID"
        )
    if not trust_environment and (unknown := next(_unregistered(spec), None)):
        raise errors.InputError(
            f"{path / 'metadata.json'}: {'eval_env_spec' if own else 'env_spec'} names {unknown}{needs}, but "
            "no installed package registers such an environment: install the package, or check the code that "
            "would run and give --trust_environment"
        )
    low, high = (metadata.get(key) for key in ("ref_min_score", "ref_max_score"))
    normalized = low is not None or high is not None
    if normalized and not all(type(bound) in (int, float) and math.isfinite(bound) for bound in (low, high)):
        raise errors.InputError(
            f"{path / 'metadata.json'}: ref_min_score is {low!r} and ref_max_score is {high!r}, but both "
            "must be finite numbers: correct them, or remove both"
        )
    if normalized and not low < high:
        raise errors.InputError(
            f"{path / 'metadata.json'}: ref_min_score is {low} and ref_max_score is {high}, but "
            "ref_min_score must be less: correct them, or remove both"
        )

    def score(episode_return: float, success: bool) -> float:
        return 100 * (episode_return - low) / (high - low) if normalized else episode_return

    return types.Environment(
        name=dataset_id,
        make=functools.partial(_recover, dataset, f"the environment of {path}{needs}", environment_kwargs),
        tasks={"default": None},
        metric="normalized_score" if normalized else "return",
        score=score,
    )


def _recover(dataset: Any, name: str, environment_kwargs: Mapping[str, Any]) -> Any:
    """A new gymnasium.Env by a dataset's metadata."""
    recover = functools.partial(dataset.recover_environment, eval_env=True)
    return creation.create_with(name, recover, environment_kwargs)


def _unregistered(spec: Any) -> Iterator[str]:
    """The parts of a gymnasium.EnvSpec that would run code which no installed package registers."""
    registry = errors.require("gymnasium", "environments").registry
    creation.import_late_package(re.split("[.:]", str(spec.entry_point))[0])
    known = [other for other in registry.values() if other.entry_point == spec.entry_point]
    if not known or not isinstance(spec.entry_point, str):
        yield f"the entry point {_shown(spec.entry_point)}"
    for wrapper in spec.additional_wrappers:
        module, _, name = str(wrapper.entry_point).partition(":")
        if not module.startswith("gymnasium.wrappers.") or name not in _WRAPPERS:
            yield f"the wrapper {_shown(wrapper.entry_point)}"
    usual = {text for other in known for text in own.texts_of(other.kwargs)}
    for text in own.texts_of([spec.kwargs, *(wrapper.kwargs for wrapper in spec.additional_wrappers)]):
        if text not in usual and not own.is_plain(text):
            yield f"the argument {_shown(text)}"


def _shown(value: Any) -> str:
    """A value of a file as one line of a message."""
    return ", ".join(map(repr, value)) if isinstance(value, list) else repr(value)
