r"""Tunes hyperparameters with Optuna: an example for your own search over any agent and dataset.

    python -m experiments.examples.tune --agent=iql:pointmaze --trials=20 --workdir=runs/tuning \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --steps=20000 --eval_episodes=20

Each trial trains one run in WORKDIR/trial_NUMBER and is judged by its final score. The study is kept in
WORKDIR/study.db. The same command with more --trials continues it. To compare the trials, run
python -m experiments.report WORKDIR --out=FOLDER.

For a few given values of numbers, --sweep of experiments.train is faster: it trains all of them in one
program. The score of the best trial is too high, because it was chosen by this score: train it again with
other seeds.
"""

import dataclasses
import pathlib
from typing import Any

from absl import flags as absl_flags

import valuelab as vl
from valuelab import errors
from valuelab.configuration import RunConfig, Settings, setting
from valuelab.errors import InputError
from valuelab.runs import flags, outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig(Settings):
    """The settings of a study."""

    agent: str = setting("iql:pointmaze", help="Agent with a learning rate and an expectile.")
    dataset: str = setting("ogbench/pointmaze-medium-navigate-singletask-v0", help="Dataset of all trials.")
    data_dir: str = setting(RunConfig.data_dir, help="Folder that holds the datasets.")
    steps: int = setting(20_000, "[1, inf)", "Updates of a trial.")
    num_seeds: int = setting(2, "[1, inf)", "Seeds of a trial, whose mean score counts.")
    eval_episodes: int = setting(20, "[1, inf)", "Episodes of each task after the last update.")
    trials: int = setting(20, "[1, inf)", "Trials of the whole study, with those of earlier sessions.")
    workdir: str = setting("", help="Folder for the study and its runs.")


def run(config: TuneConfig, **settings: Any) -> Any:
    """Runs the trials that the study lacks.

    Args:
        config: the settings.
        **settings: further settings of each run, by dotted name.

    Returns:
        The study.

    Raises:
        InputError: for settings, data or a folder that cannot be used.
    """
    if not config.workdir:
        raise InputError(outputs.NO_WORKDIR)
    optuna = errors.require("optuna", "tuning")
    folder = outputs.make_folder(config.workdir).absolute()

    def objective(trial: Any) -> float:
        tried = {
            "agent.learning_rate": trial.suggest_float("agent.learning_rate", 1e-5, 1e-3, log=True),
            "agent.expectile": trial.suggest_float("agent.expectile", 0.6, 0.95),
        }
        given = {name: getattr(config, name) for name in ("data_dir", "num_seeds", "eval_episodes")}
        workdir = folder / f"trial_{trial.number}"
        trained = vl.train(
            config.agent, config.dataset, steps=config.steps, workdir=workdir, **given | settings | tried
        )
        assert trained.result
        return next(iter(trained.result["eval"].values()))["mean"]

    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name="study",
        direction="maximize",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))  # with one seed, sessions would repeat
    done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    if done < config.trials:
        study.optimize(objective, n_trials=config.trials - done)
    chosen = ", ".join(f"{name} {value:.3g}" for name, value in study.best_params.items())
    best = study.best_trial.number
    number = max(done, config.trials)
    print(f"best of {number} trials: trial {best} with {chosen}; score {study.best_value:.3g}")
    print(f"its run is {pathlib.Path(config.workdir) / f'trial_{best}'}")
    return study


def parse(argv: list[str], values: absl_flags.FlagValues = absl_flags.FLAGS) -> TuneConfig:
    """The settings of a command line; for arguments and errors see `flags.parse_config`."""
    return flags.parse_config(TuneConfig(), argv, values)


def main(config: TuneConfig) -> None:
    """Tunes as a command line says."""
    run(config)


if __name__ == "__main__":
    flags.run(main, parse)
