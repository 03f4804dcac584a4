"""valuelab: value learning in JAX, from offline data and by acting.

    import valuelab as vl

    dataset = vl.load_dataset("ogbench/pointmaze-medium-navigate-singletask-v0")
    run = vl.train("iql:pointmaze", dataset, steps=30_000, workdir="runs/pointmaze")
    action = run.policy()(observation)

The names in `__all__` are the public API. Each is imported when it is first used, so that `import valuelab`
takes no time and does not import JAX. All else is found in the parts, which import one another in one
direction (docs/development/architecture.md draws it):

    types, errors, ops <- networks <- critics, policies <- agents <- training, evaluation <- runs <- benchmark
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from valuelab.data import load as load_dataset
    from valuelab.data.from_arrays import dataset_from_arrays, dataset_from_episodes
    from valuelab.data.sources.npz import save as save_dataset
    from valuelab.distributional.mdps import MDP
    from valuelab.distributional.mdps import from_dense as make_mdp
    from valuelab.environments import make as make_environment
    from valuelab.errors import InputError
    from valuelab.evaluation import plots
    from valuelab.runs.api import describe, evaluate, make_agent, solve, train
    from valuelab.runs.trained import TrainedRun, load
    from valuelab.types import Agent, Critic, Dataset, Environment, Policy, Spec, Transitions

__version__ = "0.1.0"

__all__ = [
    "MDP",
    "Agent",
    "Critic",
    "Dataset",
    "Environment",
    "InputError",
    "Policy",
    "Spec",
    "TrainedRun",
    "Transitions",
    "__version__",
    "dataset_from_arrays",
    "dataset_from_episodes",
    "describe",
    "evaluate",
    "load",
    "load_dataset",
    "make_agent",
    "make_environment",
    "make_mdp",
    "plots",
    "save_dataset",
    "solve",
    "train",
]

_PLACES = {
    "MDP": "distributional.mdps:MDP",
    "Agent": "types:Agent",
    "Critic": "types:Critic",
    "Dataset": "types:Dataset",
    "Environment": "types:Environment",
    "InputError": "errors:InputError",
    "Policy": "types:Policy",
    "Spec": "types:Spec",
    "TrainedRun": "runs.trained:TrainedRun",
    "Transitions": "types:Transitions",
    "dataset_from_arrays": "data.from_arrays:dataset_from_arrays",
    "dataset_from_episodes": "data.from_arrays:dataset_from_episodes",
    "describe": "runs.api:describe",
    "evaluate": "runs.api:evaluate",
    "load": "runs.trained:load",
    "load_dataset": "data:load",
    "make_agent": "runs.api:make_agent",
    "make_environment": "environments:make",
    "make_mdp": "distributional.mdps:from_dense",
    "plots": "evaluation.plots:",
    "save_dataset": "data.sources.npz:save",
    "solve": "runs.api:solve",
    "train": "runs.api:train",
}
"""Public name -> module of valuelab, and the name in it; none for the module itself."""

if not TYPE_CHECKING:  # so that a type checker takes the imports above, and refuses other names

    def __getattr__(name: str) -> Any:
        """Imports a public name when it is first used."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        place, _, attribute = _PLACES[name].partition(":")
        module = importlib.import_module(f"{__name__}.{place}")
        globals()[name] = value = getattr(module, attribute) if attribute else module
        return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
