"""What `import valuelab as vl` offers for runs: short functions that do what the command lines do."""

import contextlib
import dataclasses
import inspect
import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from valuelab import configuration, data, environments, errors, observation_parts, spaces
from valuelab.configuration import RunConfig
from valuelab.data import storage
from valuelab.data.normalization import NormalizationConfig
from valuelab.distributional import defaults, objectives
from valuelab.distributional.defaults import SolvedMDP
from valuelab.distributional.mdps import MDP
from valuelab.distributional.objectives import Objective
from valuelab.domains.paths import is_path
from valuelab.environments.rewarded import Reward
from valuelab.errors import InputError, unknown
from valuelab.evaluation import rollout
from valuelab.evaluation.rollout import Episodes
from valuelab.files import local_path, read_json
from valuelab.runs import dataset_inspection, flags, inputs, own_rewards, results, solving, trained
from valuelab.runs.saved import SavedRun
from valuelab.runs.train import run as do_run
from valuelab.runs.trained import TrainedRun
from valuelab.runs.trained_policies import CommandPolicy, TrainedPolicy
from valuelab.training.experience import offline
from valuelab.types import Agent, Dataset, Environment, MakeAgent, Spec


def describe(
    dataset: str | Dataset, *, data_dir: str | pathlib.Path | None = None, show: bool = True
) -> dict[str, Any]:
    """Prints what a dataset holds, and the faults found in it, as `experiments.inspect_dataset` does.

    Args:
        dataset: a dataset, or the name of one.
        data_dir: folder of datasets, for a name; by default ~/.cache/valuelab.
        show: whether to print a table.

    Returns:
        The numbers, as nested dictionaries.

    Raises:
        InputError: when a name is unknown, or its data cannot be read.

    Example:
        >>> import valuelab as vl
        >>> vl.describe(dataset, show=False)["transitions"]
        40
    """
    if isinstance(dataset, str):
        dataset = data.load(dataset, data_dir, compact=True)
    report, _ = dataset_inspection.make_report(dataset, NormalizationConfig())
    if show:
        dataset_inspection.show(report)
    return report


def make_agent(agent: str, dataset: Dataset | Spec, **settings: Any) -> Agent:
    """Makes an agent by its name and preset.

    Args:
        agent: NAME, NAME:PRESET, FILE.py or FILE.py:PRESET, as for `--agent` of experiments.train.
        dataset: the dataset that it is to learn from: the agent then takes and gives the units of the
            dataset, and sees it as the preset says. Or a spec: the agent then takes numbers as they are.
        **settings: settings of the run by dotted name, as the flags of experiments.train, such as
            **{"agent.expectile": 0.9}. `steps` is the length of learning-rate schedules.

    Returns:
        The agent: pure functions init, update, act and value.

    Raises:
        InputError: for an unknown agent, preset or setting, or an agent that does not fit the data.

    Example:
        >>> import valuelab as vl
        >>> agent = vl.make_agent("iql", dataset, **{"agent.expectile": 0.9, "agent.hidden_dims": (8,)})
        >>> agent.init is not None
        True
    """
    if isinstance(dataset, Spec):
        config, make = _configure(agent, "", settings)
        return make(
            config.agent, dataclasses.replace(dataset, num_updates=dataset.num_updates or config.steps)
        )
    config, make = _configure(agent, dataset.name, {"dataset": dataset.name} | settings)
    dataset = inputs.select(config, dataset).dataset
    run_inputs = inputs.inputs_of_dataset(config, dataset, offline(inputs.make_sampler(config, dataset)))
    return inputs.make_builder(config, make, run_inputs.spec, run_inputs.normalization)({})


def train(
    agent: str,
    dataset: str | Dataset = "",
    *,
    environment: str | Environment = "",
    reward: str | Reward = "",
    steps: int | None = None,
    workdir: str | pathlib.Path | None = None,
    **settings: Any,
) -> TrainedRun:
    """Trains and evaluates an agent: the same run as `python -m experiments.train`, from Python.

    With a workdir the run can be stopped, and the same call goes on; a run that is done is loaded. Without a
    workdir nothing is kept but what is returned.

    Args:
        agent: NAME, NAME:PRESET, FILE.py or FILE.py:PRESET.
        dataset: name of a dataset, or a dataset; empty to learn by acting in `environment`.
        environment: where the agent is evaluated and, without a dataset, learns: a name, or (for evaluation
            alone) an environment. By default the one that belongs to the dataset. A dataset made from arrays
            has none, and is trained on without evaluation.
        reward: your own reward in place of the dataset's: a function of the arrays of all transitions,
            "observations", "actions" and "next_observations" [N, ...], that returns rewards [N]; or
            FILE.py:FUNCTION.
        steps: number of updates; by default as the preset says. A larger number continues a run.
        workdir: folder for everything that the run leaves; by default a temporary one, without pictures.
        **settings: other settings by dotted name, as the flags of experiments.train, such as num_seeds=4,
            eval_episodes=10, init_from="runs/earlier", environment_kwargs={"max_episode_steps": 200} or
            **{"agent.expectile": 0.9}.

    Returns:
        The trained run: states, metrics, result, and its policy.

    Raises:
        InputError: for settings, data or a folder that cannot be used.
        Interrupted: when stopped by Ctrl-C; with a workdir the same call goes on.

    Example:
        >>> import valuelab as vl
        >>> run = vl.train("bc", dataset, steps=8, batch_size=8, **{"agent.hidden_dims": (8,)})
        >>> run.step
        8
        >>> run.policy()(dataset.observations[0]).shape
        (2,)
    """
    name = dataset.name if isinstance(dataset, Dataset) else dataset
    given: dict[str, Any] = {"dataset": name} | settings
    if isinstance(settings.get("init_from"), pathlib.Path):
        given["init_from"] = str(settings["init_from"])
    if isinstance(kwargs := given.get("environment_kwargs"), Mapping):
        with errors.one_line(f"environment_kwargs is {kwargs}", "give what JSON holds"):
            given["environment_kwargs"] = json.dumps(dict(kwargs))
    if steps is not None:
        given["steps"] = steps
    if isinstance(environment, Environment):
        if not name:
            raise InputError(
                f"environment is the Environment {environment.name!r}: to learn by acting give its name, "
                "such as environment='gymnasium/CartPole-v1'"
            )
    elif environment:
        given["environment"] = environment
    elif isinstance(dataset, Dataset) and not _comes_from_a_source(name):
        given.setdefault("eval_episodes", 0)

    given["reward"] = reward if isinstance(reward, str) else getattr(reward, "__name__", "reward")
    with contextlib.ExitStack() as stack:
        quiet = workdir is None
        if workdir is None:
            workdir = stack.enter_context(tempfile.TemporaryDirectory(prefix="valuelab-"))
        given["workdir"] = str(workdir)
        config, make = _configure(agent, name, given)

        function = own_rewards.find(config) if isinstance(reward, str) else reward

        def find(resolved: RunConfig) -> inputs.RunInputs:
            return inputs.find_inputs(
                resolved,
                dataset if isinstance(dataset, Dataset) else None,
                function,
                environment if isinstance(environment, Environment) else None,
            )

        folder = local_path("workdir", workdir)
        if isinstance(dataset, Dataset) and config.data.num_frames > 1:
            dataset = storage.compact(dataset)
        if isinstance(dataset, Dataset) or callable(reward):
            _check_same_data(folder / "config.json", config, dataset, function)
        do_run(config, make, find, quiet)
        facts, normalization = results.read_run(folder, "workdir")
        saved = SavedRun(
            folder=folder,
            config=config,
            make_agent=make,
            spec=results.saved_spec(folder, facts),
            normalization=normalization,
        )
        run = trained.read(saved, trusted=True)
        if quiet:
            return dataclasses.replace(run, workdir=None, config=dataclasses.replace(config, workdir=""))
        return run


def evaluate(
    policy: TrainedRun | TrainedPolicy | CommandPolicy | Callable[[np.ndarray], Any],
    environment: str | Environment = "",
    *,
    episodes: int = 10,
    seed: int = 0,
    temperature: float | None = None,
    record: int = 0,
    max_steps: int = RunConfig.eval_max_steps,
) -> Episodes:
    """Plays episodes.

    Args:
        policy: a trained run, all of whose M members play; the policy of one member; or any function of one
            observation that returns an action, such as a script.
        environment: the name of an environment or of its dataset, or an environment; by default the one of
            the trained run.
        episodes: E, for each member and each of the T tasks of the environment.
        seed: seed of initial states and random actions.
        temperature: 0 for the most likely action, 1 for the policy as learnt; by default as the run or the
            policy says.
        record: number of first episodes of each member and task whose observations are kept.
        max_steps: steps after which an episode that does not end by itself is cut, with a warning.

    Returns:
        The episodes: returns, lengths, successes and scores, each [M, T, E].

    Raises:
        InputError: when the environment is unknown, or not like the data that the policy learnt from.

    Example:
        >>> import valuelab as vl
        >>> episodes = vl.evaluate(lambda observation: 0, "gymnasium/CartPole-v1", episodes=2)
        >>> episodes.returns.shape
        (1, 1, 2)
    """
    play: dict[str, Any] = {"episodes": episodes, "seed": seed, "record": record, "max_steps": max_steps}
    if not isinstance(policy, TrainedRun | TrainedPolicy | CommandPolicy):
        if not environment:
            raise InputError("environment is missing: give a name, such as 'gymnasium/CartPole-v1'")
        world = environments.make(environment) if isinstance(environment, str) else environment
        return rollout.evaluate(_scripted(policy, world), jnp.zeros(1), world, **play)
    return policy.evaluate(environment, temperature=temperature, step=0, **play)


def solve(
    mdp: MDP,
    objective: str | Objective | Callable[[Any], Any],
    *,
    discount: float | None = None,
    **settings: Any,
) -> SolvedMDP:
    """Solves a finite MDP for an objective of its return distribution.

    Args:
        mdp: the MDP; `make_mdp` makes one from matrices.
        objective: an objective of `valuelab.distributional.objectives`, or the name of one, such as
            "expectation", "cvar" or "target"; or a function f of the return in jax.numpy, whose mean is
            maximised. Its properties are tested at points of all magnitudes.
        discount: γ in (0, 1]; it has no default.
        **settings: the parameters of a named objective, such as tau=0.1, and what
            `valuelab.distributional.defaults.solve` takes: horizon, start_state, representation, atoms, ...

    Returns:
        The optimum from every state, first stocks, policy and return distributions. Its method `at` gives
        the solution for another level or target.

    Raises:
        InputError: for an unknown objective, a parameter out of range, or an objective that cannot be
            optimised in this MDP.

    Example:
        >>> import numpy as np, valuelab as vl
        >>> transitions, rewards = np.zeros((2, 2, 2, 2))
        >>> transitions[0, :, 1] = 1
        >>> rewards[0, :, 1] = [1, 2]
        >>> mdp = vl.make_mdp(transitions, rewards, terminal=np.array([False, True]))
        >>> vl.solve(mdp, "expectation", discount=1.0).start.values.tolist()
        [2.0, 0.0]
    """
    if discount is None:
        raise InputError("discount is missing: give discount=0.95, or discount=1.0 for sums of rewards")
    if isinstance(objective, str):
        parameters = {name: settings.pop(name) for name in solving.PARAMETERS if name in settings}
        objective = objectives.make(objective, **parameters)
        mdp = solving.with_rewards_of(mdp, objective)
    elif not isinstance(objective, Objective):
        objective = objectives.of_function(objective, mdp, discount, settings.get("horizon"))
    known = inspect.signature(defaults.solve).parameters.keys() - {"mdp", "objective"}
    for name in settings.keys() - known:
        raise unknown("setting of solve", name, known)
    return defaults.solve(mdp, objective, discount=discount, **settings)


def _configure(agent: str, dataset: str, settings: Mapping[str, Any]) -> tuple[RunConfig, MakeAgent]:
    """The settings of a run and what makes its agent, as `flags.parse_run` has them of a command line."""
    config, make = flags.load_agent(agent, flags.DEFAULTS, dataset)
    return flags.complete(configuration.override(config, settings)), make


def _comes_from_a_source(dataset: str) -> bool:
    """Whether a dataset of this name was read, so that its environment may be known."""
    return dataset.partition("/")[0] in data.SOURCES or is_path(dataset)


def _check_same_data(
    path: pathlib.Path, config: RunConfig, dataset: str | Dataset, reward: Reward | None
) -> None:
    """Refuses a workdir that is done on other data.

    A dataset or a reward function in memory may be another one of the same name.
    """
    if not path.exists() or not dataset:
        return
    if isinstance(dataset, str):
        dataset = inputs.read_dataset(config)
    if reward:
        dataset = own_rewards.labelled(config, dataset, reward)
    saved = read_json(path, "config of a run", "give another workdir").get("data", {}).get("digests", {})
    chosen = inputs.select(config, dataset)
    now = inputs.digests(inputs.make_sampler(config, chosen.dataset, chosen.weights).arrays)
    if changed := [name for name in now if saved.get(name) != now[name]]:
        raise InputError(
            f"{path} is of a run on other data ({', '.join(changed)} differ): give another workdir"
        )


def _scripted(function: Callable[[np.ndarray], Any], environment: Environment) -> Agent:
    """An agent without a state that does what a function of one observation in numpy says."""
    instance = environment.make()
    space, parts = instance.action_space, spaces.parts_of(instance.observation_space)
    instance.close()
    dtype = np.dtype(np.int32 if space.shape == () else np.float32)

    def act(state: Any, observations: Any, key: Any, temperature: Any) -> jax.Array:
        del state, key, temperature
        shape = jax.ShapeDtypeStruct((1, *space.shape), dtype)
        return jax.pure_callback(on_host, shape, observations, vmap_method="sequential")

    def on_host(observations: Any) -> np.ndarray:
        seen = jax.tree.map(lambda leaf: np.asarray(leaf)[0], observations)
        if parts:
            seen = jax.tree.map(lambda leaf: observation_parts.unpack(leaf, parts), seen)
        return np.asarray(function(seen), dtype).reshape(1, *space.shape)

    def nothing(*_: Any) -> Any:
        raise InputError("a scripted policy does not learn")

    return Agent(init=nothing, update=nothing, act=act)
