"""The data of all claims: a log of uniformly random torques on Pendulum, and acting in Pendulum.

With γ = 0.95 the values fill a large part of the range that the rewards allow, which flow critics need. Small
networks make about a thousand updates per second, so many seeds are affordable. Small networks on an easy
environment can show that a claim does not hold everywhere. They cannot show that it holds at full size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from experiments.studies.flow_claims.claims import ClaimConfig
from valuelab import environments
from valuelab.configuration import RunConfig
from valuelab.data import normalization as normalizations
from valuelab.data import recording, sampling
from valuelab.training.experience import Experience, Interaction, mixed, offline
from valuelab.types import Dataset, Key, Normalization, Spec

ENVIRONMENT = "gymnasium/Pendulum-v1"
_NUM_ENVIRONMENTS = 20
"""Environments that record the log together."""
_REWARD_SCALE = 0.1


class PendulumData(NamedTuple):
    """The log, and what agents may know of it.

    Attributes:
        dataset: the log.
        normalization: fitted to the log.
        spec: of the log, with the number of updates of the test.
    """

    dataset: Dataset
    normalization: Normalization
    spec: Spec

    def offline(self, batch_size: int) -> Experience:
        """Batches from the log."""
        return offline(sampling.transitions(self.dataset, batch_size))

    def online(self, update_to_data: float, steps: int) -> Callable[[RunConfig], Experience]:
        """Batches of which one half comes from the log and one half from acting.

        Args:
            update_to_data: updates per environment step.
            steps: environment steps of the whole run, after 200 steps of warm-up.

        Returns:
            Settings of a run -> its experience.
        """
        interaction = Interaction(
            num_environments=1,
            capacity=steps + 200,
            warmup_steps=200,
            update_to_data=update_to_data,
            dataset_share=0.5,
        )
        environment = environments.vector(ENVIRONMENT, interaction.num_environments)

        def experience(run: RunConfig) -> Experience:
            sampler = sampling.transitions(self.dataset, run.batch_size)
            return mixed(sampler, environment, interaction, offline_steps=0)

        return experience


def record(config: ClaimConfig) -> PendulumData:
    """Records the log; equal settings give the same log."""
    environment = environments.vector(ENVIRONMENT, _NUM_ENVIRONMENTS)

    def random_torques(observations: jax.Array, key: Key) -> jax.Array:
        shape = (len(observations), environment.spec.action_dim)
        return jax.random.uniform(
            key, shape, minval=environment.action_low[None], maxval=environment.action_high[None]
        )

    steps = -(-config.log_steps // _NUM_ENVIRONMENTS)
    log = recording.record(environment, random_torques, steps, jax.random.key(config.seed))
    fitted = normalizations.fit(log, observations=True, rewards="none")
    normalization = fitted._replace(reward_scale=_REWARD_SCALE)
    return PendulumData(log, normalization, normalizations.make_spec(log, normalization, config.steps))
