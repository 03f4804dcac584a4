"""Agent files: flags take every preset, and an agent comes of it."""

import ast
import pathlib
import re
import runpy
from collections.abc import Iterator

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

ROOT = pathlib.Path(__file__).resolve().parents[2]
AGENTS = flags.known_agents()
REWARD_DIMS = {"eta_network:homeostasis": 2}
GOAL_CONDITIONED = {"crl", "hiql", "qrl"}
"""Agents that need data with goals."""


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
        goal_conditioned=config.agent_name in GOAL_CONDITIONED,
    )


@pytest.mark.parametrize("name", AGENTS)
def test_flags_take_every_preset_and_an_agent_comes_of_it(name):
    presets = runpy.run_path(str(flags.PRESETS / f"{name}.py"))["PRESETS"]
    assert presets
    for preset in presets:
        config, make_agent = flags.parse_run(["train", f"--agent={name}:{preset}"], absl_flags.FlagValues())
        assert config.environment or name != "eta_network"
        make_agent(config.agent, spec_for(config))


def test_every_agent_has_a_page_that_the_index_lists():
    pages = ROOT / "docs/algorithms"
    index = (pages / "index.md").read_text()
    missing = [name for name in AGENTS if not (pages / f"{name}.md").is_file()]
    assert not missing, f"no page docs/algorithms/NAME.md for {', '.join(missing)}"
    unlisted = [name for name in AGENTS if f"]({name}.md)" not in index or f"\n{name}\n" not in index]
    assert not unlisted, f"docs/algorithms/index.md does not list {', '.join(unlisted)}"


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
OGBENCH_STUDY = {
    "crl": composed(  # ogbench crl.py:297-306
        {**NETWORKS, "hidden_dims": (512,) * 3, "latent_dim": 512, "layer_norm": True, "ensemble_size": 2}
        | {"loss": "binary", "state_value": False},
        {**GAUSSIAN, "hidden_dims": (512,) * 3, "bc_weight": 0.1},
    ),
    "bc:ogbench": {**GAUSSIAN, "hidden_dims": (512,) * 3},  # ogbench gcbc.py:148-152
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
D4RL_STUDIES = {
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
        ("iql:visual_antmaze_navigate", 1, 0),
        ("bc:visual_manipulation_play", 1, 3),
        ("iql:visual_manipulation_noisy", 1, 3),
    ],
)
def test_presets_for_images_have_the_batches_of_the_studies(source, frames, pixels):
    config, _ = flags.parse_run(["train", f"--agent={source}"], absl_flags.FlagValues())
    shift = config.data.image_shift
    assert (config.batch_size, config.steps, config.data.num_frames) == (256, 500_000, frames)
    assert (shift.pixels, shift.together) == (pixels, True)
    assert shift.probability == 0.5 or not pixels


@pytest.mark.parametrize("source", OGBENCH_STUDY)
def test_presets_for_ogbench_have_the_settings_of_its_study(source):
    assert_has(OGBENCH_STUDY[source], f"--agent={source}")


@pytest.mark.parametrize("source", D4RL_STUDIES)
def test_presets_for_d4rl_have_the_settings_of_the_authors_code(source):
    assert_has(D4RL_STUDIES[source], f"--agent={source}")


# Published presets, in every field. The defaults are those of the sources' get_config: agents/*.py of
# github.com/seohongpark/fql at 719d044 and of github.com/CMU-AIRe/floq, configs/ of ikostrikov/rlpd and of
# ikostrikov/implicit_q_learning. SAC's are those of the table in appendix D of arXiv:1812.05905. The commands
# are the flags in their README.md, by their names.


def whole(critic: tuple[str, dict], policy: tuple[str, dict], **run) -> dict:
    """Every field of an agent, without a prefix, and some of its run."""
    parts = {"critic": critic, "policy": policy}
    settings = {f"agent.{part}": kind for part, (kind, _) in parts.items()}
    for part, (_, values) in parts.items():
        settings |= {f"agent.{part}.{name}": value for name, value in values.items()}
    settings["agent.auxiliary"] = "none"
    frames = {"data.num_frames": 1, "data.image_shift.pixels": 0, "data.image_shift.probability": 1.0}
    return settings | frames | {"batch_size": 256, "steps": 1_000_000, "eval_temperature": 0.0} | run


FQL_CRITIC = {
    **{**CRITIC, **WIDE, "encoder": None, "block_depth": 0, "target_members": 0},
    **{"aggregation": "mean", "q_aggregation": "mean", "loss": "squared"},
}
FLOQ_CRITIC = {
    **{**CRITIC, **WIDE, "encoder": None, "field_hidden_dims": (512,) * 4, "block_depth": 0},
    **{"aggregation": "mean", "next_actions": "each_draw", "num_draws": 8, "num_steps": 8, "coverage": 0.1},
    **{"solver": "euler", "integration_dtype": "float32", "target": "expected", "supervision": "velocity"},
    **{"times": "uniform", "value_embedding": "categorical", "time_embedding": "cosine"},
    **{"num_bins": 50, "bin_width": 16.0},  # 51 edges
}
IQN_CRITIC = {
    **{**CRITIC, **WIDE, "encoder": None, "aggregation": "mean", "huber": 1.0, "num_waves": 64},
    **dict.fromkeys(("num_levels", "num_target_levels", "num_read_levels"), 8),
}
ONE_STEP = (
    "one_step_flow",
    {
        **{**NETWORKS, **WIDE, "encoder": None, "bc_weight": 10.0, "num_steps": 10, "normalize_q": False},
        **{"field_hidden_dims": (512,) * 4, "field_learning_rate": None, "task_embedding": False},
    },
)
BEST_OF = ("best_of_flow", {**NETWORKS, **WIDE, "encoder": None, "num_candidates": 32, "num_steps": 10})
REBRAC = {
    **{
        **NETWORKS,
        **WIDE,
        "encoder": None,
        "final_scale": 0.01,
        "target_noise": 0.2,
        "target_noise_max": 0.5,
    },
    **{"bc_weight": 0.0, "target_weight": 0.0, "target_rate": 0.005, "period": 2},
}
SAC_CRITIC = {
    **{**FQL_CRITIC, "hidden_dims": (256, 256), "activation": "relu", "layer_norm": False},
    **{"aggregation": "min", "q_aggregation": "min"},
}
SAC = {
    **{"hidden_dims": (256, 256), "activation": "relu", "encoder": None, "final_scale": 1.0, "period": 1},
    **{"learning_rate": 3e-4, "target_entropy": -1.0, "initial_alpha": 1.0, "charges_entropy": True},
    **{"log_std_min": -20.0},
}
FQL_SAC = whole(  # fql agents/sac.py, with the bounds of log σ in utils/networks.py
    ("temporal_difference", {**FQL_CRITIC, "aggregation": "min"}),
    (
        "sac",
        {**SAC, **NETWORKS, **WIDE, "final_scale": 0.01, "target_entropy": -0.5, "charges_entropy": False}
        | {"log_std_min": -5.0},
    ),
)
RLPD = whole(
    (
        "temporal_difference",
        {**SAC_CRITIC, "layer_norm": True, "ensemble_size": 10, "target_members": 2, "q_aggregation": "mean"},
    ),
    ("sac", {**SAC, "target_entropy": -0.5}),
)
GAUSSIAN_AWR = {
    **{**GAUSSIAN, **WIDE, "encoder": None, "distribution": "gaussian", "dropout_rate": 0.0},
    **{"learning_rate_schedule": "constant", "inverse_temperature": 10.0, "weight_max": 100.0},
}
EXPECTILE = {**CRITIC, **WIDE, "encoder": None, "expectile": 0.9}
FQL_IQL = whole(("expectile", EXPECTILE), ("awr", GAUSSIAN_AWR))
PAPER = {"hidden_dims": (256, 256), "activation": "relu"}
IQL_PAPER = whole(
    ("expectile", {**EXPECTILE, **PAPER, "layer_norm": False, "expectile": 0.7}),
    (
        "awr",
        {**GAUSSIAN_AWR, **PAPER, "mean": "tanh", "final_scale": 1.0, "learn_std": True}
        | {"learning_rate_schedule": "cosine", "inverse_temperature": 3.0},
    ),
)
FQL_REBRAC = whole(
    ("temporal_difference", {**FQL_CRITIC, "aggregation": "min", "q_aggregation": "min"}), ("rebrac", REBRAC)
)
NOISY = {"eval_temperature": 1.0}
FQL = whole(("temporal_difference", FQL_CRITIC), ONE_STEP, **NOISY)
CATEGORICAL = whole(("temporal_difference", {**FQL_CRITIC, "loss": "categorical"}), ONE_STEP, **NOISY)
IFQL = whole(("expectile", EXPECTILE), BEST_OF, **NOISY)
# Two million updates: floq main.py, offline_steps.
FLOQ_RUN = {**NOISY, "steps": 2_000_000}
RESNET = whole(  # a layer, then two blocks of four: floq agents/fql.py with use_resnets
    ("temporal_difference", {**FQL_CRITIC, "hidden_dims": (512,) * 9, "block_depth": 4}), ONE_STEP, **FLOQ_RUN
)
IQN = whole(("implicit_quantile", IQN_CRITIC), ONE_STEP, **FLOQ_RUN)
FLOQ = whole(("flow", FLOQ_CRITIC), ONE_STEP, **FLOQ_RUN)
DISTRIBUTIONAL = whole(("flow", {**FLOQ_CRITIC, "target": "distributional"}), ONE_STEP, **FLOQ_RUN)
AT_ZERO = whole(("flow", {**FLOQ_CRITIC, "times": "zero", "num_steps": 1}), ONE_STEP, **FLOQ_RUN)
SEEN = {
    **dict.fromkeys(("agent.critic.encoder", "agent.policy.encoder"), "impala_small"),
    **{"steps": 500_000, "data.num_frames": 3, "data.image_shift.pixels": 3},
    "data.image_shift.probability": 0.5,
}
"""encoder=impala_small offline_steps=500000 p_aug=0.5 frame_stack=3."""

FLAGS = {
    "batch_size": ("batch_size",),
    "discount": ("agent.critic.discount",),
    "q_agg": ("agent.critic.aggregation",),
    "expectile": ("agent.critic.expectile",),
    "critic_flow_steps": ("agent.critic.num_steps",),
    "noise_coverage": ("agent.critic.coverage",),
    "block_depth": ("agent.critic.block_depth",),
    "field_depth": ("agent.critic.field_hidden_dims",),  # floq's block_depth, of a plain field
    "num_min_qs": ("agent.critic.target_members",),
    "hidden_dims": ("agent.critic.hidden_dims", "agent.policy.hidden_dims"),
    "backup_entropy": ("agent.policy.charges_entropy",),
    "utd_ratio": ("agent.policy.period",),
    "alpha": ("agent.policy.bc_weight",),
    "alpha_actor": ("agent.policy.bc_weight",),
    "alpha_critic": ("agent.policy.target_weight",),
    "temperature": ("agent.policy.inverse_temperature",),  # alpha of fql agents/iql.py
    "dropout_rate": ("agent.policy.dropout_rate",),
}
"""A flag of a source -> our fields."""
FQL_COMMANDS = {
    "antmaze_large": "q_agg=min alpha=10",
    "antmaze_giant": "discount=0.995 q_agg=min alpha=10",
    "humanoidmaze_medium": "discount=0.995 alpha=30",
    "humanoidmaze_large": "discount=0.995 alpha=30",
    "antsoccer_arena": "discount=0.995 alpha=10",
    "cube_single": "alpha=300",
    "cube_double": "alpha=300",
    "scene": "alpha=300",
    "puzzle_3x3": "alpha=1000",
    "puzzle_4x4": "alpha=1000",
    "visual_cube_single": "seen alpha=300",
    "visual_cube_double": "seen alpha=100",
    "visual_scene": "seen alpha=100",
    "visual_puzzle_3x3": "seen alpha=300",
    "visual_puzzle_4x4": "seen alpha=300",
}
FLOQ_COMMANDS = FQL_COMMANDS | {
    "antmaze_large": "alpha=10",
    "antmaze_giant": "discount=0.995 q_agg=min batch_size=512 alpha=10",
    "humanoidmaze_large": "discount=0.995 batch_size=512 alpha=20",
}
FIELD_COMMANDS = FLOQ_COMMANDS | {
    "cube_single": "alpha=300 field_depth=2",
    "cube_double": "alpha=300 field_depth=2",
}
BEST_COMMANDS = {
    "antmaze_giant_best": FLOQ_COMMANDS["antmaze_giant"] + " critic_flow_steps=4",
    "puzzle_4x4_best": "alpha=1000 noise_coverage=0.25",
}
RESNET_COMMANDS = FLOQ_COMMANDS | {
    # num_transformations=4: four blocks of two layers.
    "humanoidmaze_large": FLOQ_COMMANDS["humanoidmaze_large"] + " block_depth=2",
}
UNWEIGHTED = {
    preset: " ".join(flag for flag in command.split() if flag == "seen" or flag.startswith("discount"))
    for preset, command in FQL_COMMANDS.items()
}
PUBLISHED: dict[str, tuple[dict, dict[str, str]]] = {
    "fql": (FQL, {"": "", **FQL_COMMANDS}),
    "fql_hl_gauss": (CATEGORICAL, FQL_COMMANDS),
    "fql_resnet": (RESNET, RESNET_COMMANDS),
    "fql_iqn": (IQN, FLOQ_COMMANDS),
    "floq": (FLOQ, FIELD_COMMANDS | BEST_COMMANDS | {"published": ""}),
    "floq_distributional": (DISTRIBUTIONAL, FIELD_COMMANDS),
    "floq_one_step": (AT_ZERO, FIELD_COMMANDS),
    "ifql": (IFQL, {"": "", **UNWEIGHTED}),
    "rebrac": (
        FQL_REBRAC,
        {
            "humanoidmaze_medium": "discount=0.995 alpha_actor=0.01 alpha_critic=0.01",
            "visual_cube_single": "seen alpha_actor=1 alpha_critic=0",
        },
    ),
    "iql": (
        FQL_IQL,
        {
            "humanoidmaze_medium": "discount=0.995 temperature=10",
            "visual_cube_single": "seen temperature=1",
            "antmaze": "temperature=10",
            "cube": "temperature=1",
        },
    ),
}
"""Agent -> its defaults, and the commands of its presets. Flow agents have all that are not for CPUs."""
PUBLISHED_OTHERS = {
    "iql": (IQL_PAPER, ""),
    "iql:d4rl_locomotion": (IQL_PAPER, ""),
    "iql:d4rl_antmaze": (IQL_PAPER, "expectile=0.9 temperature=10"),
    "iql:d4rl_adroit": (IQL_PAPER, "temperature=0.5 dropout_rate=0.1"),  # configs/kitchen_config.py
    "sac": (whole(("temporal_difference", SAC_CRITIC), ("sac", SAC)), ""),
    "sac:humanoidmaze_medium": (FQL_SAC, "discount=0.995"),
    "sac:rlpd": (  # D4RL AntMaze; 300,000 steps, of which 5,000 before the first update
        RLPD | {"steps": 20 * 295_000},
        "utd_ratio=20 backup_entropy=False hidden_dims=(256,256,256) num_min_qs=1",
    ),
}
UNUSED = {"agent.critic.time_size", "agent.critic.time_scale", "agent.critic.time_fastest"}
"""Fields without effect in these presets; without bins of the plain critic, which are ours."""
SMALL_PRESETS = {"pointmaze", "pointmaze_online", "pointmaze_goals", "cube_small"}


def read_command(command: str) -> dict:
    """The settings of a command: flags and values of a source, and "seen" for those of images."""
    given = dict(flag.split("=") for flag in command.split() if flag != "seen")
    values = {flag: value if flag == "q_agg" else ast.literal_eval(value) for flag, value in given.items()}
    if "field_depth" in values:
        values["field_depth"] = (512,) * values["field_depth"]
    settings = {name: value for flag, value in values.items() for name in FLAGS[flag]}
    return settings | (SEEN if "seen" in command.split() else {})


def assert_is_whole(source: str, expected: dict) -> None:
    """An agent and its run have these settings, and the agent has no others."""
    config, _ = flags.parse_run(["train", f"--agent={source}"], absl_flags.FlagValues())
    known = {name: field.value for name, field in configuration.fields(config).items()}
    known |= {name: part.chosen for name, part in configuration.parts(config).items()}
    for part in ("agent.critic", "agent.policy"):
        if not known.get(f"{part}.field_hidden_dims", True):
            known[f"{part}.field_hidden_dims"] = known[f"{part}.hidden_dims"]
    unused = set(UNUSED)
    if known["agent.critic"] == "temporal_difference":
        unused |= {"agent.critic.num_bins", "agent.critic.bin_width"}
    if known["agent.policy"] == "noisy" and known["agent.policy.task_embedding"]:
        unused |= {"agent.policy.activation", "agent.policy.final_scale"}
    compared = {name for name in known if name.startswith("agent.")} - unused | expected.keys()
    assert {name: known[name] for name in compared} == expected, source


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_presets_are_the_commands_of_their_studies_in_every_field(name):
    defaults, commands = PUBLISHED[name]
    for preset, command in commands.items():
        source = f"{name}:{preset}" if preset else name
        assert_is_whole(source, defaults | read_command(command))
    if "flow" in defaults["agent.policy"]:
        presets = runpy.run_path(str(flags.PRESETS / f"{name}.py"))["PRESETS"]
        assert commands.keys() - {""} == presets.keys() - SMALL_PRESETS


@pytest.mark.parametrize("source", PUBLISHED_OTHERS)
def test_other_published_presets_are_the_settings_of_their_sources_in_every_field(source):
    defaults, command = PUBLISHED_OTHERS[source]
    assert_is_whole(source, defaults | read_command(command))


# TD-JEPA's study, from the authors' code: the scripts in scripts/train/proprio change the defaults of the
# classes in metamotivo/agents. Comments give their names where these differ. The scripts sweep the rate of
# features, orthonormality and goals; docs/algorithms/td_jepa.md has the values.

FAR_WIDE = (512,) * 4
STUDY_OGBENCH = {  # launch_*_ogbench.py
    "batch_size": 256,
    "steps": 1_000_000,  # num_train_steps
    "eval_every": 250_000,
    "eval_episodes": 10,
    "eval_temperature": 1.0,
    "agent.goal_share": 0.5,  # train_goal_ratio
    "agent.later_goals": 0.0,  # the study has none
    "agent.moment_rate": 0.005,  # of _z_cov, in update
    "agent.policy": "one_step_flow",
    "agent.policy.hidden_dims": (512, 512),
    "agent.policy.field_hidden_dims": FAR_WIDE,  # actor_vf
    "agent.policy.task_embedding": True,
    "agent.policy.activation": "gelu",  # of actor_vf
    "agent.policy.encoder": None,
    "agent.policy.normalize_q": True,
    "agent.policy.num_steps": 10,  # flow_steps
    "agent.policy.learning_rate": 1e-4,  # lr_actor
    "agent.policy.field_learning_rate": 3e-4,  # lr_actor_vf
    "agent.critic.predictor_dims": (512, 512),
    "agent.critic.ensemble_size": 2,
    "agent.critic.state_dims": FAR_WIDE,
    "agent.critic.state_dim": 50,  # L_dim, phi_dim
    "agent.critic.policy_sees": "observations",
    "agent.critic.pessimism": 0.0,
    "agent.critic.target_pessimism": 0.0,
    "agent.critic.discount": 0.99,
    "agent.critic.learning_rate": 1e-4,
    "agent.critic.feature_learning_rate": 1e-4,
    "agent.critic.target_rate": 0.005,
}
STUDY_EXORL = {  # launch_*_dmc.py
    **{name: value for name, value in STUDY_OGBENCH.items() if not name.startswith("agent.policy")},
    "batch_size": 1024,
    "steps": 3_000_000,
    "eval_temperature": 0.0,
    "agent.policy": "noisy",
    "agent.policy.hidden_dims": (1024,),
    "agent.policy.task_embedding": True,
    "agent.policy.encoder": None,
    "agent.policy.noise": 0.2,  # actor_std
    "agent.policy.noise_max": 0.3,  # stddev_clip
    "agent.policy.bc_weight": 0.0,  # bc_coeff
    "agent.policy.normalize_q": False,
    "agent.policy.learning_rate": 1e-4,
    "agent.critic.predictor_dims": (1024,),
    "agent.critic.state_dims": (),
    "agent.critic.state_dim": 256,
    "agent.critic.policy_sees": "encodings",
    "agent.critic.discount": 0.98,
    "agent.critic.target_rate": 0.001,
}
STUDY_RUNS = {
    "antmaze": STUDY_OGBENCH | {"agent.policy.bc_weight": 0.3},
    "manipulation": STUDY_OGBENCH | {"agent.policy.bc_weight": 3.0},
    **dict.fromkeys(("walker", "cheetah", "quadruped"), STUDY_EXORL),
    "point_mass_maze": STUDY_EXORL | {"agent.critic.discount": 0.99, "agent.policy.learning_rate": 1e-6},
}


def of_critic(kind: str, whiten: bool, **values) -> dict:
    fields = {f"agent.critic.{name.replace('__', '.')}": value for name, value in values.items()}
    return {"agent.critic": kind, "agent.whiten_goals": whiten} | fields


def of_learner(kind: str, **values) -> dict:
    given = {f"feature_learner__{name}": value for name, value in values.items()}
    whole = {"loss": "features", "center": False, "differences": False}
    whole |= {"feature_learner": kind, "feature_learner__dim": 50}
    return of_critic("successor_features", True, **whole, **given)


GOALS_OF = {"num_values": 2, "random_goals": 0.375}  # prob_random_goal
STUDY_AGENTS: dict[str, tuple[dict, dict]] = {
    "td_jepa": (
        of_critic(
            "td_jepa",
            True,  # scale_train_goals
            **{"task_dims": FAR_WIDE, "task_dim": 50, "symmetric": False, "target": "temporal_difference"},
            **{"state_orthonormality": 1.0, "task_orthonormality": 1.0},
        ),
        of_critic("td_jepa", False, task_dims=(256, 256), state_orthonormality=0.1, task_orthonormality=0.1),
    ),
    "forward_backward": (
        of_critic("forward_backward", False, task_dims=FAR_WIDE, task_dim=50, orthonormality=100.0),
        of_critic("forward_backward", False, task_dims=(256, 256), orthonormality=1.0),
    ),
    "hilp": (
        of_learner(
            "hilp",
            **{**GOALS_OF, "hidden_dims": FAR_WIDE, "normalize": False, "expectile": 0.5, "discount": 0.99},
            goal_tasks="encodings",
        )
        | {"agent.critic.center": True},
        of_critic("successor_features", True, feature_learner__hidden_dims=(256, 256))
        | {"data.goals.discount": 0.99, "agent.critic.feature_learner.discount": 0.98},
    ),
    "icvf": (
        of_learner(
            "icvf",
            **{**GOALS_OF, "hidden_dims": FAR_WIDE, "normalize": True, "expectile": 0.9, "discount": 0.99},
            **{"state_dims": FAR_WIDE, "intent_dims": FAR_WIDE, "same_goals": 0.5},
        ),
        of_critic("successor_features", True, state_dim=50, feature_learner__hidden_dims=(256, 256))
        | {"data.goals.discount": 0.99, "agent.critic.feature_learner.discount": 0.98}
        | {"agent.critic.feature_learner.state_dims": ()}
        | {"agent.critic.feature_learner.intent_dims": (1024,) * 3},
    ),
    "laplacian": (
        of_learner("laplacian", hidden_dims=FAR_WIDE, normalize=True, orthonormality=1.0),
        of_critic("successor_features", True, feature_learner__hidden_dims=(256, 256)),
    ),
    "rldp": (
        of_learner(
            "rldp",
            **{"hidden_dims": FAR_WIDE, "normalize": True, "orthonormality": 0.01, "horizon": 5},
            **{"dynamics_dims": (512, 512), "num_predictors": 2},
        )
        | {"agent.critic.loss": "measures", "agent.whiten_goals": False},
        of_critic("successor_features", False, feature_learner__hidden_dims=(256, 256))
        | {"agent.critic.feature_learner.dynamics_dims": (1024,)},
    ),
    **{
        name: (
            of_learner(
                "byol",
                **{"hidden_dims": FAR_WIDE, "normalize": True, "orthonormality": 0.01, "ahead": ahead},
                **{"predictor_dims": (512, 512), "num_predictors": 2},
            ),
            of_critic("successor_features", True, feature_learner__hidden_dims=(256, 256))
            | {"agent.critic.feature_learner.predictor_dims": (1024,)},
        )
        for name, ahead in (("byol", "next"), ("byol_gamma", "geometric"))
    },
}
"""Agent -> what its presets for OGBench have in addition, and what those for ExoRL change in that."""


def study(name: str, preset: str) -> dict:
    """The settings of an agent in the study."""
    ogbench, changes = STUDY_AGENTS[name]
    settings = STUDY_RUNS[preset] | ogbench | (changes if preset not in ("antmaze", "manipulation") else {})
    if preset == "point_mass_maze" and "agent.critic.feature_learner.discount" in settings:
        settings["agent.critic.feature_learner.discount"] = 0.99
    return settings


@pytest.mark.parametrize("name", STUDY_AGENTS)
def test_published_presets_of_zero_shot_agents_are_the_study_in_every_field(name):
    for preset in STUDY_RUNS:
        assert_is_whole(f"{name}:{preset}", study(name, preset))


def rows_of_the_page() -> Iterator[tuple[list[str], list[str], str, str]]:
    """Fields, agents, and values on OGBench and on ExoRL, of each row of the page's table with a field."""
    page = (ROOT / "docs" / "algorithms" / "td_jepa.md").read_text().partition("## Settings of the study")[2]
    for line in re.findall(r"^\| (.*) \|$", page, re.MULTILINE):
        setting, ogbench, exorl = line.split(" | ")[:3]
        fields, _, agents = setting.partition(" of ")
        if fields.startswith("`"):
            yield (
                re.findall("`(.*?)`", fields),
                re.findall("`(.*?)`", agents) or list(STUDY_AGENTS),
                ogbench,
                exorl,
            )


def value_on_the_page(cell: str, preset: str) -> str:
    """The text that a cell has for a preset: after it "(`PRESET`)", or nothing."""
    values = {of: value for value, of in re.findall(r"`([^`]*)`(?: \(`(\w+)`\))?", cell)}
    return values.get(preset, values.get("", ""))


@pytest.mark.parametrize("name", STUDY_AGENTS)
def test_the_page_has_the_settings_of_the_study(name):
    for preset in STUDY_RUNS:
        column = 0 if preset in ("antmaze", "manipulation") else 1
        found: dict[str, str] = {}
        for fields, agents, *cells in rows_of_the_page():
            if name in agents and (value := value_on_the_page(cells[column], preset)):
                found |= dict.fromkeys(fields, value)
        expected = study(name, preset)
        del expected["agent.policy.encoder"]  # of images
        assert found.keys() == expected.keys(), (name, preset)
        chosen = {field for field in found if field in ("agent.critic", "agent.policy")} | {
            field for field in found if field.endswith("feature_learner")
        }
        assert {field: found[field] for field in chosen} == {field: expected[field] for field in chosen}
        given = [
            f"--{field}={'' if value == 'none' else value}"
            for field, value in found.items()
            if field not in chosen
        ]
        plain, changed = (
            flags.parse_run(["train", f"--agent={name}:{preset}", *flag], absl_flags.FlagValues())[0]
            for flag in ([], given)
        )
        assert configuration.fields(changed) == configuration.fields(plain)


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
