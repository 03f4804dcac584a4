"""Presets of zero-shot agents for two CPU cores. The agents differ in their critics only.

pointmaze, cube_small: OGBench's sets
walker_small: exorl/walker-EXPLORER
pixels_small: images, for exorl/point_mass_maze-rnd@32

Their settings are ours; `_zero_shot_study.py` has those of TD-JEPA's study. The docstring of each agent's
file lists the runs and their scores.
"""

import dataclasses

from valuelab.policies.one_step_flow import OneStepFlowConfig
from valuelab.policies.rebrac import ReBRACConfig
from valuelab.presets import _zero_shot_study
from valuelab.presets._groups import Group, each, merged

_CLONING = OneStepFlowConfig(hidden_dims=(128, 128), num_steps=5, normalize_q=True)

_NETWORKS = {
    "agent.critic.predictor_dims": (128, 128),
    # What lies behind a wall is far off: encodings, not predictors, are to learn it.
    "agent.critic.state_dims": (256, 256, 256),
    "agent.critic.state_dim": 50,
    "agent.critic.learning_rate": 1e-3,
    "agent.critic.feature_learning_rate": 1e-3,
    "agent.critic.target_rate": 0.1,  # values of goals far off are 150 backups away
    "data.normalize_observations": True,
}

_CLIMBING = ReBRACConfig(
    hidden_dims=(256, 256),
    bc_weight=0.0,
    target_weight=0.0,
    target_noise=0.2,
    target_noise_max=0.3,
    target_rate=1.0,  # targets follow the policy itself, not its average
    period=1,
    learning_rate=5e-4,
)
"""A deterministic policy that climbs Q alone; targets follow it with clipped noise."""

SMALL: Group = {
    "pointmaze": {
        **_NETWORKS,
        # A step changes Q by a hundredth of what it is: cloning has a small weight.
        "agent.policy": dataclasses.replace(_CLONING, bc_weight=0.01),
        # Random goals are near the state in few rows: F learns the surroundings of a goal slowly from them.
        "agent.later_goals": 0.5,
        # Tasks of goals fill a small part of the sphere, and evaluations ask for them alone.
        "agent.goal_share": 0.9,
        "steps": 20_000,
        "eval_every": 10_000,
        "eval_episodes": 10,
    },
    "cube_small": {
        **_NETWORKS,
        "agent.policy": dataclasses.replace(_CLONING, hidden_dims=(256, 256), bc_weight=3.0),
        "steps": 60_000,
        "eval_every": 20_000,
        "eval_episodes": 10,
    },
    "walker_small": {
        "agent.policy": _CLIMBING,
        "agent.critic.predictor_dims": (256,),
        "agent.critic.state_dims": (),
        "agent.critic.state_dim": 0,
        "agent.critic.discount": 0.98,
        "agent.critic.learning_rate": 5e-4,
        "agent.critic.feature_learning_rate": 5e-4,
        "agent.critic.target_rate": 0.01,
        "data.normalize_observations": True,
        "data.compact": True,
        "batch_size": 256,
        "steps": 20_000,
        "eval_every": 10_000,
        "eval_episodes": 10,
    },
}
"""States."""

PIXELS_SMALL: Group = {
    "pixels_small": {
        **_zero_shot_study.IMAGES,
        # Without cloning, actions are at a corner of their range after 500 updates, wherever the mass is, and
        # stay there: pushed along both axes it sticks to a wall.
        "agent.policy": dataclasses.replace(_CLIMBING, hidden_dims=(128, 128), bc_weight=0.1),
        "agent.critic.predictor_dims": (128,),
        "agent.critic.state_dims": (),
        "agent.critic.state_dim": 32,
        "agent.critic.learning_rate": 5e-4,
        "agent.critic.feature_learning_rate": 5e-4,
        "agent.critic.target_rate": 0.01,
        "batch_size": 64,
        "steps": 2_000,
        "eval_every": 1_000,
        "eval_episodes": 2,
    }
}
"""Images, for exorl/point_mass_maze-rnd@32."""

STATES = merged(_zero_shot_study.STATES, SMALL)
"""All presets without images."""

EVERY = merged(STATES, _zero_shot_study.PIXELS, PIXELS_SMALL)
"""All presets: of any critic."""

_EXPLORED = ("walker_small", "pixels_small")
_CLONED = ("pointmaze", "cube_small")
_ALL = (*_CLONED, *_EXPLORED)

_TASKS = merged(
    each(_ALL, {"agent.critic.task_dims": (256, 256)}),
    {"pixels_small": {"agent.critic.task_dims": (128,), "agent.critic.task_dim": 32}},
)


def _orthonormality(name: str, cloned: float, explored: float) -> Group:
    """The weight of an orthonormality loss of the critic, for OGBench's sets and for ExoRL's."""
    name = f"agent.critic.{name}"
    return merged(each(_CLONED, {name: cloned}), each(_EXPLORED, {name: explored}))


TD_JEPA = merged(
    _zero_shot_study.TD_JEPA,
    {"walker_small": {"agent.critic.state_dim": 64, "agent.critic.policy_sees": "encodings"}},
    _TASKS,
    # Sums over a hundred steps to come outweigh what keeps features apart, until they are few.
    _orthonormality("state_orthonormality", 100.0, 0.1),
    _orthonormality("task_orthonormality", 100.0, 0.1),
    each(_ALL, {"agent.whiten_goals": False}),
)
"""EVERY: of TD-JEPA."""

FORWARD_BACKWARD = merged(
    _zero_shot_study.FORWARD_BACKWARD,
    _TASKS,
    _orthonormality("orthonormality", 100.0, 0.1),
    {"pointmaze": {"agent.critic.orthonormality": 1.0}},
)
"""EVERY: of forward-backward representations."""

FEATURE_LEARNERS = merged(
    _zero_shot_study.FEATURE_LEARNERS, each(_ALL, {"agent.critic.feature_learner.hidden_dims": (256, 256)})
)
"""EVERY: of successor features with a feature learner that has networks."""

LAPLACIAN = _orthonormality("feature_learner.orthonormality", 0.01, 0.001)
"""EVERY: of Laplacian features."""

BYOL = merged(
    _zero_shot_study.BYOL,
    _orthonormality("feature_learner.orthonormality", 1.0, 0.1),
    each(_ALL, {"agent.critic.feature_learner.num_predictors": 1}),
)
"""EVERY: of BYOL."""

RLDP = merged(
    _zero_shot_study.RLDP,
    _orthonormality("feature_learner.orthonormality", 1.0, 0.1),
    each(_ALL, {"agent.critic.feature_learner.num_predictors": 1}),
)
"""EVERY: of RLDP."""

_VALUES = merged(_zero_shot_study.VALUES, each(_ALL, {"agent.critic.feature_learner.num_values": 1}))

HILP = merged(
    _VALUES,
    each(_ALL, {"agent.critic.loss": "values"}),
    {
        "pointmaze": {
            # 0.5 learns distances of the data's policy, which agree with geodesics less than straight lines.
            "agent.critic.feature_learner.expectile": 0.9,
            "agent.critic.feature_learner.discount": 0.995,  # ways are 150 steps long
            "agent.critic.feature_learner.goal_tasks": "differences",
            # The features are a map with about five directions. Whitening would turn differences away from
            # the goal, and uniform tasks lie mostly in the other 45 directions.
            "agent.whiten_goals": False,
            "agent.goal_share": 1.0,
            "agent.critic.differences": True,
            "agent.critic.loss": "features",
            # A renewed task needs no plan as far as the goal.
            "agent.critic.discount": 0.95,
            "data.goals.discount": 0.99,
            "agent.critic.feature_learning_rate": 3e-4,  # F follows features that move
            # The data hardly push against walls (0.06 % of the rows), so Q extrapolates there. A step changes
            # a sum of differences by about a tenth: cloning can have more weight than elsewhere.
            "agent.policy": dataclasses.replace(_CLONING, bc_weight=0.1),
        }
    },
)
"""EVERY: of HILP."""

ICVF = merged(
    _VALUES,
    _zero_shot_study.ICVF,
    each(
        _ALL,
        {
            "agent.critic.feature_learner.state_dims": (256, 256),
            "agent.critic.feature_learner.intent_dims": (256, 256),
        },
    ),
)
"""EVERY: of ICVF."""
