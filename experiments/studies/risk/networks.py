"""Networks trained in a gridworld: one for each seed."""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from valuelab import configuration, training
from valuelab.agents.eta_network import EtaNetworkConfig
from valuelab.configuration import RunConfig
from valuelab.training.experience import Experience
from valuelab.types import Agent, Memory, Sampler, Spec


class TrainedNetworks(NamedTuple):
    """D-eta-N after training, with M seeds.

    Attributes:
        config: hyperparameters.
        spec: of the gridworld.
        agent: built from config and spec.
        states: M trained states, one for each seed.
    """

    config: EtaNetworkConfig
    spec: Spec
    agent: Agent
    states: list[Any]

    @property
    def memory(self) -> Memory:
        """The memory of the agent, which carries stocks."""
        assert self.agent.memory is not None
        return self.agent.memory


def train_networks(
    config: RunConfig,
    agent: Agent,
    experience: Sampler | Experience,
    folder: pathlib.Path,
    facts: Mapping[str, Any],
) -> training.Run:
    """Trains a network for each seed of a run, or finishes their training.

    Args:
        config: settings of the run.
        agent: the agent.
        experience: source of the batches.
        folder: folder for checkpoints.
        facts: saved with the checkpoints.
    """
    with contextlib.closing(training.Checkpoints(folder, facts, config=config)) as checkpoints:
        return training.train(
            agent,
            experience,
            steps=config.steps,
            seeds=configuration.population(config).seeds.tolist(),
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            checkpoints=checkpoints,
        )
