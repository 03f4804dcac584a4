"""Agent files: flags take every preset, and an agent comes of it."""

import runpy

import jax
import pytest
from absl import flags as absl_flags
from helpers import SUITES

from valuelab import configuration
from valuelab.benchmark import suites
from valuelab.configuration import RunConfig
from valuelab.errors import InputError
from valuelab.runs import flags
from valuelab.training.experience import blank
from valuelab.types import Spec

AGENTS = flags.known_agents()
REWARD_DIMS = {"eta_network:homeostasis": 2}


def spec_for(config: RunConfig) -> Spec:
    """Such data as a preset is for."""
    discrete = config.agent_name == "eta_network" or "powderworld" in config.agent_source
    images = config.environment.startswith("atari/") or any(
        word in config.agent_source for word in ("pixels", "visual", "powderworld")
    )
    return Spec(
        observation_shape=(84, 84, 4) if images else (4,),
        observation_dtype="uint8" if images else "float32",
        action_dim=0 if discrete else 2,
        num_actions=3 if discrete else 0,
        reward_min=-1.0,
        reward_max=0.0,
        reward_dim=REWARD_DIMS.get(config.agent_source, 1),
        num_updates=config.steps,
    )


@pytest.mark.parametrize("name", AGENTS)
def test_flags_take_every_preset_and_an_agent_comes_of_it(name):
    presets = runpy.run_path(str(flags.PRESETS / f"{name}.py"))["PRESETS"]
    assert presets
    for preset in presets:
        config, make_agent = flags.parse_run(["train", f"--agent={name}:{preset}"], absl_flags.FlagValues())
        assert config.environment or name != "eta_network"
        make_agent(config.agent, spec_for(config))


# Settings of github.com/seohongpark/ogbench at 1d41409 (in impls/) and github.com/seohongpark/fql at 719d044,
# by file and line. In both GELU follows hidden layers (utils/networks.py:47, :45), and in critics layer norm
# follows GELU (:59, :57).
NETWORKS = {"activation": "gelu", "learning_rate": 3e-4}
CRITIC = {**NETWORKS, "layer_norm": True, "ensemble_size": 2, "discount": 0.99, "target_rate": 0.005}
# No tanh, σ = 1, and a last layer at 0.01 (ogbench utils/networks.py:162-165, fql utils/networks.py:102-105);
# means are clipped when they act (gciql.py:181, gcbc.py:79, iql.py:168), and by DDPG+BC (gciql.py:98).
GAUSSIAN = {**NETWORKS, "mean": "clip", "final_scale": 0.01, "learn_std": False}
IQL = {  # fql iql.py:246-257
    **CRITIC,
    **GAUSSIAN,
    "expectile": 0.9,
    "policy_schedule": "constant",
    "extraction": "awr",
    "hidden_dims": (512,) * 4,
}


def composed(critic: dict, policy: dict) -> dict:
    parts = {"critic": critic, "policy": policy}
    return {f"{part}.{name}": value for part, settings in parts.items() for name, value in settings.items()}


WIDE = {"hidden_dims": (512,) * 4}
GOALS = {**IQL, "hidden_dims": (512,) * 3, "extraction": "ddpg_bc", "encoder": "impala_small"}
SEEING = {"critic.encoder": "impala_small", "policy.encoder": "impala_small"}
PUBLISHED = {
    "bc:ogbench": {**GAUSSIAN, "hidden_dims": (512,) * 3},  # ogbench gcbc.py:148-152
    "iql:antmaze": {**IQL, "inverse_temperature": 10.0},  # fql iql.py:256
    "iql:cube": {**IQL, "inverse_temperature": 1.0},  # of visual-cube-single in fql README.md
    # ogbench hyperparameters.sh, from images; fql README.md, likewise
    "bc:visual_manipulation": {**GAUSSIAN, "hidden_dims": (512,) * 3, "encoder": "impala_small"},
    "iql:visual_antmaze": {**GOALS, "bc_weight": 0.3},
    "iql:visual_humanoidmaze": {**GOALS, "bc_weight": 0.1, "discount": 0.995},
    "iql:visual_manipulation": {**GOALS, "bc_weight": 1.0},
    "iql:visual_noisy": {**GOALS, "bc_weight": 0.03},
    "iql:powderworld": {**GOALS, "extraction": "awr", "inverse_temperature": 3.0},
    "iql:visual_cube_single": {**IQL, "inverse_temperature": 1.0, "encoder": "impala_small"},
    "rebrac:visual_cube_single": composed({}, {"bc_weight": 1.0, "target_weight": 0.0}) | SEEING,
    "fql:visual_scene": composed(WIDE, {**WIDE, "bc_weight": 100.0}) | SEEING,
    # fql ifql.py:236-246
    "ifql:antmaze_large": composed(
        {**CRITIC, **WIDE, "expectile": 0.9}, {**NETWORKS, **WIDE, "num_candidates": 32, "num_steps": 10}
    ),
    # fql rebrac.py:226-240, and README.md's command
    "rebrac:humanoidmaze_medium": composed(
        {**CRITIC, **WIDE, "discount": 0.995, "aggregation": "min"},
        {**NETWORKS, **WIDE, "final_scale": 0.01, "target_noise": 0.2, "target_noise_max": 0.5}
        | {"bc_weight": 0.01, "target_weight": 0.01, "target_rate": 0.005},
    ),
    # fql fql.py:255-266, and README.md's command
    "fql:antmaze_large": composed(
        {**CRITIC, **WIDE, "aggregation": "min"},
        {**NETWORKS, **WIDE, "bc_weight": 10.0, "num_steps": 10, "normalize_q": False},
    ),
}


# Settings of github.com/Div99/XQL at 74be720 (offline/): configs/mujoco_config.py and antmaze_config.py, with
# the flags of reproduce/mujoco/mujoco_consistent.sh and reproduce/antmaze/ant_consistent.sh. δ of the Huber
# loss stands in critic.py (update_q), the bound of weights in actor.py (update). Dropout of V is never on
# there: value.apply lacks training=True.
XQL = composed(
    {
        **{"hidden_dims": (256, 256), "activation": "relu", "layer_norm": False, "value_layer_norm": True},
        **{"ensemble_size": 2, "discount": 0.99, "learning_rate": 3e-4, "target_rate": 0.005},
        **{"exponent_max": 7.0, "huber": 20.0},
    },
    {"hidden_dims": (256, 256), "learning_rate": 3e-4, "weight_max": 100.0, "dropout_rate": 0.0},
)
# Settings of github.com/aviralkumar2907/CQL at 25c9984 (d4rl/): examples/cql_mujoco_new.py and
# cql_antmaze_new.py, with the flags of README.md; the first α and the target entropy stand in
# rlkit/torch/sac/cql.py (CQLTrainer.__init__).
CQL = composed(
    {
        **{"hidden_dims": (256,) * 3, "activation": "relu", "layer_norm": False, "aggregation": "min"},
        **{"ensemble_size": 2, "discount": 0.99, "learning_rate": 3e-4, "target_rate": 0.005},
        **{"conservative_weight": 5.0, "num_sampled": 10, "temperature": 1.0},
    },
    {
        **{"hidden_dims": (256,) * 3, "activation": "relu", "learning_rate": 1e-4},
        **{"target_entropy": -1.0, "initial_alpha": 1.0, "charges_entropy": False},
    },
)
PUBLISHED_D4RL = {
    "xql": {**XQL, "critic.temperature": 2.0, "policy.inverse_temperature": 3.0},
    "xql:d4rl_locomotion": {
        **XQL,
        **{"critic.temperature": 2.0, "policy.inverse_temperature": 3.0},
        "policy.learning_rate_schedule": "cosine",
    },
    "xql:d4rl_antmaze": {
        **XQL,
        **{"critic.temperature": 0.6, "policy.inverse_temperature": 10.0},
        "policy.learning_rate_schedule": "constant",
    },
    "cql:d4rl_locomotion": {**CQL, "critic.lagrange": False},
    "cql:d4rl_antmaze": {**CQL, "critic.lagrange": True, "critic.target_gap": 5.0},
}


def assert_has(expected: dict, *arguments: str) -> None:
    """The agent of a command line has these settings, of which some may be given by short names."""
    agent = flags.parse_run(["train", *arguments], absl_flags.FlagValues())[0].agent
    settings = {name: field.value for name, field in configuration.fields(agent).items()}
    settings |= {name: part.chosen for name, part in configuration.parts(agent).items()}
    full = configuration.in_full(agent, expected)
    assert {name: settings[name] for name in full} == full


@pytest.mark.parametrize(
    ("source", "frames", "pixels"),
    [
        ("iql:visual_antmaze", 1, 0),
        ("bc:visual_manipulation", 1, 3),
        ("iql:visual_noisy", 1, 3),
        ("fql:visual_cube_double", 3, 3),
        ("iql:visual_cube_single", 3, 3),
    ],
)
def test_presets_for_images_have_the_batches_of_the_studies(source, frames, pixels):
    config, _ = flags.parse_run(["train", f"--agent={source}"], absl_flags.FlagValues())
    shift = config.data.image_shift
    assert (config.batch_size, config.steps, config.data.num_frames) == (256, 500_000, frames)
    assert (shift.pixels, shift.together) == (pixels, True)
    assert shift.probability == 0.5 or not pixels


@pytest.mark.parametrize("source", PUBLISHED)
def test_presets_for_ogbench_have_the_settings_of_its_studies(source):
    assert_has(PUBLISHED[source], f"--agent={source}")


@pytest.mark.parametrize("source", PUBLISHED_D4RL)
def test_presets_for_d4rl_have_the_settings_of_the_authors_code(source):
    assert_has(PUBLISHED_D4RL[source], f"--agent={source}")


def test_jobs_named_after_the_study_have_its_networks():
    # Their widths and target averages are ours.
    networks = {
        "bc_study": GAUSSIAN,
        "iql_study": {**GAUSSIAN, "layer_norm": True},
        "iql_ddpg_bc_study": {**GAUSSIAN, "layer_norm": True},
        "ifql_study": {"critic.activation": "gelu", "critic.layer_norm": True, "policy.activation": "gelu"},
    }
    jobs = [job for job in suites.read("cpu_small", SUITES).jobs if job.label in networks]
    assert len(jobs) == 2 * len(networks)
    for job in jobs:
        expected = {name: value for name, value in networks[job.label].items() if name != "learning_rate"}
        assert_has(expected, *job.arguments[2:])


def test_goal_conditioned_jobs_have_the_settings_of_their_study():
    # ogbench gciql.py:281-291 and hyperparameters.sh:6, gcbc.py:148-152
    gciql = {**IQL, "hidden_dims": (512,) * 3, "extraction": "ddpg_bc", "bc_weight": 0.003}
    published = {"gciql": gciql, "gcbc": PUBLISHED["bc:ogbench"]}
    jobs = suites.read("ogbench_goal_conditioned", SUITES).jobs
    first = {job.label: job for job in reversed(jobs)}
    for label, expected in published.items():
        assert_has(expected, *first[label].arguments[2:])
        assert first[label].settings["batch_size"] == 1024


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ("--agent=iql --dataset=d4rl/hopper-medium-v2", "d4rl_locomotion"),
        ("--dataset d4rl/antmaze-umaze-v2 --agent iql", "d4rl_antmaze"),
        ("--agent=iql --dataset=rlds/d4rl_mujoco_ant/v2-expert", "d4rl_locomotion"),
        ("--agent=iql --dataset=d4rl/ant-expert-v2 --data.rewards=none", "none"),
        ("--agent=iql:antmaze --dataset=d4rl/antmaze-umaze-v2", "none"),
        ("--agent=iql --dataset=ogbench/antmaze-large-navigate-singletask-v0", "none"),
        ("--agent=iql --dataset=d4rl/pen-human-v1", "none"),
        ("--agent=bc --dataset=d4rl/hopper-medium-v2", "none"),
        ("--agent=iql", "none"),
    ],
)
def test_rewards_of_d4rl_are_normalised_without_a_preset_too(arguments, rule):
    config, _ = flags.parse_run(["train", *arguments.split()], absl_flags.FlagValues())
    assert config.data.rewards == rule


@pytest.mark.parametrize(
    ("arguments", "temperature"),
    [
        *((f"--agent={name}", 1.0) for name in ("fql", "ifql", "floq", "fql_iqn:pointmaze", "td_jepa")),
        *((f"--agent={name}", 0.0) for name in ("iql", "bc", "rebrac", "sac", "eta_network")),
        ("--agent=iql --agent.policy=best_of_flow", 1.0),
        ("--agent=fql --agent.policy=rebrac", 0.0),
        ("--agent=fql --eval_temperature=0", 0.0),
    ],
)
def test_flow_policies_are_evaluated_with_their_noise(arguments, temperature):
    config, _ = flags.parse_run(["train", *arguments.split()], absl_flags.FlagValues())
    assert config.eval_temperature == temperature


def parsed_or_told(*arguments: str) -> RunConfig | str:
    """The settings of a command line, or what its user is told."""
    try:
        return flags.parse_run(["train", *arguments], absl_flags.FlagValues())[0]
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("name", AGENTS)
def test_widths_are_refused_in_one_line_or_make_an_agent(name):
    config, make_agent = flags.load_agent(name)
    known = configuration.fields(config)
    fields = [field for field in known if field.endswith("_dims")]
    assert fields

    def told(field: str, text: str, *others: str) -> RunConfig | str:
        outcome = parsed_or_told(f"--agent={name}", f"--{field}={text}", *others)
        assert not isinstance(outcome, str) or (outcome.startswith(f"{field} is ") and "\n" not in outcome)
        return outcome

    for field in fields:
        assert all(isinstance(told(field, text), str) for text in ("0", "-3", "8,0"))
        if (blocks := field.rpartition(".")[0] + ".block_depth") in known:
            assert isinstance(told(field, "8,4", f"--{blocks}=1"), str)
    flat = [f"--{name}=0" for name in known if name.endswith(".block_depth")]
    linear = [f"--{field}=" for field in fields if not isinstance(told(field, ""), str)]
    for accepted in ([f"--{field}=8,4" for field in fields], linear):
        changed = parsed_or_told(f"--agent={name}", *accepted, *flat)
        spec = spec_for(config)
        assert jax.tree.leaves(
            jax.eval_shape(make_agent(changed.agent, spec).init, jax.random.key(0), blank(spec, 1))
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_the_defaults_make_an_agent_that_can_begin(name):
    config, make_agent = flags.load_agent(name)
    spec = spec_for(config)
    state = jax.eval_shape(make_agent(config.agent, spec).init, jax.random.key(0), blank(spec, 1))
    assert jax.tree.leaves(state)
