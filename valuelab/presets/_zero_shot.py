"""Presets that zero-shot agents share. The agents differ in their critics only.

pointmaze, cube_small: OGBench's sets with small networks, for two CPU cores
antmaze, manipulation: OGBench's sets with large networks, for one GPU
walker, cheetah, quadruped, point_mass_maze: exorl/DOMAIN-EXPLORER with large networks, for one GPU; agents
    other than TD-JEPA use observations there, without an encoder of states
walker_small: exorl/walker-EXPLORER, for two CPU cores
domain_pixels, manipulation_pixels: images of ExoRL's domains, and OGBench's visual sets, for one GPU
pixels_small: images, for exorl/point_mass_maze-rnd@32 and two CPU cores

The docstring of each agent's file lists the runs and their scores.
"""

import dataclasses

from valuelab.policies.rebrac import ReBRACConfig
from valuelab.presets._groups import Group, each, merged

_MAZES = {"agent.policy.normalize_q": True, "agent.policy.bc_weight": 0.3}
_MANIPULATION = {"agent.policy.normalize_q": True, "agent.policy.bc_weight": 3.0}

_CLIMBING = ReBRACConfig(
    hidden_dims=(1024, 1024),
    bc_weight=0.0,
    target_weight=0.0,
    target_noise=0.2,
    target_noise_max=0.3,
    target_rate=1.0,  # targets follow the policy itself, not its average
    period=1,
    learning_rate=1e-4,
)
"""A deterministic policy that climbs Q alone; targets follow it with clipped noise. Its widths are ours."""

_EXPLORED = {
    "agent.policy": _CLIMBING,
    "agent.critic.predictor_dims": (1024,),
    "agent.critic.discount": 0.98,
    "agent.critic.target_rate": 0.001,
    "data.compact": True,
    "batch_size": 1024,
    "steps": 3_000_000,
    "eval_episodes": 10,
}

_POINT_MASS_MAZE = {
    **_EXPLORED,
    "agent.policy": dataclasses.replace(_CLIMBING, learning_rate=1e-6),
    "agent.critic.discount": 0.99,
}

_IMAGES = {
    "agent.critic.policy_sees": "encodings",
    # Features of a batch are kept apart by whatever tells its images apart. If all images of a batch moved
    # alike, features would be of the shift, and of nothing else.
    "data.normalize_observations": True,
    "data.image_shift.pixels": 4,
    "data.image_shift.together": False,
    "data.num_frames": 3,
    "data.compact": True,
}

_NETWORKS = {
    "agent.critic.predictor_dims": (128, 128),
    # What lies behind a wall is far off: encodings, not predictors, are to learn it.
    "agent.critic.state_dims": (256, 256, 256),
    "agent.critic.state_dim": 50,
    "agent.critic.learning_rate": 1e-3,
    "agent.critic.feature_learning_rate": 1e-3,
    "agent.critic.target_rate": 0.1,  # values of goals far off are 150 backups away
    "agent.policy.hidden_dims": (128, 128),
    "agent.policy.num_steps": 5,
    "data.normalize_observations": True,
}

OGBENCH: Group = {"antmaze": _MAZES, "manipulation": _MANIPULATION}
"""OGBench with large networks: mazes; cubes, scene and puzzle."""

EXORL: Group = {
    "walker": _EXPLORED,
    "cheetah": _EXPLORED,
    "quadruped": _EXPLORED,
    "point_mass_maze": _POINT_MASS_MAZE,
}
"""ExoRL with large networks."""

_EXPLORED_IMAGES = {**_IMAGES, "agent.critic.state_dims": (), "agent.critic.state_dim": 256}

PIXELS: Group = {
    "domain_pixels": {**_EXPLORED, **_EXPLORED_IMAGES},
    "manipulation_pixels": {**_MANIPULATION, **_IMAGES, "agent.critic.state_dim": 50},
}
"""Images of ExoRL's domains, such as exorl/walker-rnd@64, and OGBench's visual sets."""

SMALL: Group = {
    "pointmaze": {
        **_MAZES,
        **_NETWORKS,
        "agent.policy.bc_weight": 0.01,  # a step changes Q by a hundredth of what it is
        "steps": 20_000,
        "eval_every": 10_000,
        "eval_episodes": 10,
    },
    "cube_small": {
        **_MANIPULATION,
        **_NETWORKS,
        "agent.policy.hidden_dims": (256, 256),
        "steps": 60_000,
        "eval_every": 20_000,
        "eval_episodes": 10,
    },
    "walker_small": {
        **_EXPLORED,
        "agent.policy": dataclasses.replace(_CLIMBING, hidden_dims=(256, 256), learning_rate=5e-4),
        "agent.critic.predictor_dims": (256,),
        "agent.critic.learning_rate": 5e-4,
        "agent.critic.feature_learning_rate": 5e-4,
        "agent.critic.target_rate": 0.01,
        "data.normalize_observations": True,
        "batch_size": 256,
        "steps": 20_000,
        "eval_every": 10_000,
    },
}
"""Sizes for two CPU cores."""

PIXELS_SMALL: Group = {
    "pixels_small": {
        **_POINT_MASS_MAZE,
        **_EXPLORED_IMAGES,
        # Without cloning, actions are at a corner of their range after 500 updates, wherever the mass is, and
        # stay there: pushed along both axes it sticks to a wall.
        "agent.policy": dataclasses.replace(
            _CLIMBING, hidden_dims=(128, 128), learning_rate=5e-4, bc_weight=0.1
        ),
        "agent.critic.predictor_dims": (128,),
        "agent.critic.state_dim": 32,
        "agent.critic.learning_rate": 5e-4,
        "agent.critic.feature_learning_rate": 5e-4,
        "agent.critic.target_rate": 0.01,
        "data.image_shift.pixels": 2,
        "batch_size": 64,
        "steps": 2_000,
        "eval_every": 1_000,
        "eval_episodes": 2,
    }
}
"""Images, for exorl/point_mass_maze-rnd@32."""

STATES = merged(OGBENCH, EXORL, SMALL)
"""All presets without images."""

EVERY = merged(STATES, PIXELS, PIXELS_SMALL)
"""All presets: of any critic."""

_OF_EXORL = (*EXORL, "walker_small", "domain_pixels", "pixels_small")
_OF_MAZE_AND_CUBE = ("pointmaze", "cube_small")


def _orthonormality(*names: str, in_maze_and_cube: bool = True) -> Group:
    """EVERY: the weights of the orthonormality losses, by the names that they have in a critic."""
    weights: list[Group] = [each(_OF_EXORL, {f"agent.critic.{name}": 0.1 for name in names})]
    if in_maze_and_cube:
        # Sums over a hundred steps to come outweigh what keeps features apart, until they are few.
        weights.append(each(_OF_MAZE_AND_CUBE, {f"agent.critic.{name}": 100.0 for name in names}))
    return merged(*weights)


_TASKS = merged(
    each((*_OF_EXORL, *_OF_MAZE_AND_CUBE), {"agent.critic.task_dims": (256, 256)}),
    {"pixels_small": {"agent.critic.task_dims": (128,), "agent.critic.task_dim": 32}},
)

TD_JEPA = merged(
    each(
        (*EXORL, "walker_small"),
        {
            "agent.critic.state_dims": (),
            "agent.critic.state_dim": 256,
            "agent.critic.policy_sees": "encodings",
        },
    ),
    {"walker_small": {"agent.critic.state_dim": 64}},
    _TASKS,
    _orthonormality("state_orthonormality", "task_orthonormality"),
)
"""EVERY: of TD-JEPA, which encodes states in ExoRL's domains."""

FORWARD_BACKWARD = merged(_TASKS, _orthonormality("orthonormality"))
"""EVERY: of forward-backward representations."""

FEATURE_LEARNERS = each(
    (*_OF_EXORL, *_OF_MAZE_AND_CUBE), {"agent.critic.feature_learner.hidden_dims": (256, 256)}
)
"""EVERY: of successor features with a feature learner that has networks."""

SPREAD = _orthonormality("feature_learner.orthonormality", in_maze_and_cube=False)
"""EVERY: of such a feature learner with an orthonormality loss."""
