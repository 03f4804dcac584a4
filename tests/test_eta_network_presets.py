"""Presets of D-eta-N: flags take them, and an agent comes of them."""

import jax
import pytest
from absl import flags as absl_flags

from experiments import flags
from experiments.configs import eta_network
from valuelab.training.experience import blank
from valuelab.types import Spec

REWARD_DIMS = {"homeostasis": 2}


@pytest.mark.parametrize("preset", eta_network.PRESETS)
def test_flags_take_the_preset_and_an_agent_comes_of_it(preset):
    config, make_agent = flags.parse_run(["train", f"--agent=eta_network:{preset}"], absl_flags.FlagValues())
    assert config.environment
    images = config.environment.startswith("atari/")
    spec = Spec(
        observation_shape=(84, 84, 4) if images else (4,),
        observation_dtype="uint8" if images else "float32",
        action_dim=0,
        num_actions=3,
        reward_min=-float("inf"),
        reward_max=float("inf"),
        reward_dim=REWARD_DIMS.get(preset, 1),
        num_updates=config.steps,
    )
    agent = make_agent(config.agent, spec)
    state = jax.eval_shape(agent.init, jax.random.key(0), blank(spec, 1))
    assert jax.tree.leaves(state.params)
