"""Presets of goal-conditioned agents against the commands of OGBench's study.

Commands and defaults are those of github.com/seohongpark/ogbench at 1d41409, impls/hyperparameters.sh and
get_config() in impls/agents.
"""

import ast
import runpy

import pytest
from absl import flags as absl_flags
from helpers import SUITES

from valuelab import configuration
from valuelab.benchmark import suites
from valuelab.runs import flags

AGENTS = {"gcbc": "bc", "gcivl": "ivl", "gciql": "iql", "qrl": "qrl", "crl": "crl", "hiql": "hiql"}
"""The study's name -> ours."""

# Kind of dataset; alpha of gcivl, gciql, qrl, crl; both alphas of hiql; its subgoal_steps; the flags that all
# commands share, but those of gcbc have no goals and no discount.
# p_trajgoal stands for actor_p_trajgoal, "seen" for encoder=impala_small, batch_size=256, train_steps=500000.
COMMANDS = """
pointmaze_navigate            10.0  0.003 0.0003   0.03    3.0     25
pointmaze_giant_navigate      10.0  0.003 0.0003   0.03    3.0     25  discount=0.995
pointmaze_stitch              10.0  0.003 0.0003   0.03    3.0     25  p_trajgoal=0.5
pointmaze_giant_stitch        10.0  0.003 0.0003   0.03    3.0     25  p_trajgoal=0.5 discount=0.995
antmaze_navigate              10.0    0.3  0.003    0.1    3.0     25
antmaze_giant_navigate        10.0    0.3  0.003    0.1    3.0     25  discount=0.995
antmaze_stitch                10.0    0.3  0.003    0.1    3.0     25  p_trajgoal=0.5
antmaze_giant_stitch          10.0    0.3  0.003    0.1    3.0     25  p_trajgoal=0.5 discount=0.995
antmaze_explore               10.0   0.01  0.001  0.003   10.0     25  p_trajgoal=0.0
humanoidmaze_navigate         10.0    0.1  0.001    0.1    3.0    100  discount=0.995
humanoidmaze_stitch           10.0    0.1  0.001    0.1    3.0    100  p_trajgoal=0.5 discount=0.995
antsoccer_navigate            10.0    0.1  0.003    0.3    3.0     25
antsoccer_stitch              10.0    0.1  0.003    0.3    3.0     25  p_trajgoal=0.5
manipulation_play             10.0    1.0    0.3    3.0    3.0     10
manipulation_noisy            10.0   0.03   0.03    0.1    3.0     10
visual_antmaze_navigate       10.0    0.3  0.003    0.1    3.0     25  seen
visual_antmaze_giant_navigate 10.0    0.3  0.003    0.1    3.0     25  seen discount=0.995
visual_antmaze_stitch         10.0    0.3  0.003    0.1    3.0     25  seen p_trajgoal=0.5
visual_antmaze_giant_stitch   10.0    0.3  0.003    0.1    3.0     25  seen p_trajgoal=0.5 discount=0.995
visual_antmaze_explore        10.0   0.01  0.001  0.003   10.0     25  seen p_trajgoal=0.0
visual_humanoidmaze_navigate  10.0    0.1  0.001    0.1    3.0    100  seen discount=0.995
visual_humanoidmaze_stitch    10.0    0.1  0.001    0.1    3.0    100  seen p_trajgoal=0.5 discount=0.995
visual_manipulation_play      10.0    1.0    0.3    3.0    3.0     10  seen p_aug=0.5
visual_manipulation_noisy     10.0   0.03   0.03    0.1    3.0     10  seen p_aug=0.5
powderworld                    3.0    3.0    3.0    3.0    3.0     10  seen eval_temperature=0.3
"""
TUNED = ("gcivl", "gciql", "qrl", "crl", "hiql", "subgoal_steps")

NETWORK = {"hidden_dims": (512, 512, 512), "activation": "gelu", "learning_rate": 3e-4}
POLICY = {
    **{**NETWORK, "distribution": "gaussian", "mean": "clip", "final_scale": 0.01, "learn_std": False},
    **{"dropout_rate": 0.0, "learning_rate_schedule": "constant"},
}
CRITIC = {**NETWORK, "layer_norm": True}
VALUES = {**CRITIC, "ensemble_size": 2, "discount": 0.99, "target_rate": 0.005}
PLAIN = {"representation_dim": 0, "cloning_gradient": False}
AWR = {**POLICY, "chosen": "awr", "weight_max": 100.0}
DDPG_BC = {**POLICY, "chosen": "ddpg_bc"}


def expected_agent(name: str, alpha: float, seen: bool, discrete: bool) -> dict:
    """The agent's settings of the study: dotted name to value."""
    if name == "gcbc":
        return {f"agent.{field}": value for field, value in POLICY.items()}
    extraction = AWR | {"inverse_temperature": alpha} if discrete else DDPG_BC | {"bc_weight": alpha}
    hierarchical = POLICY | {"chosen": "hierarchical", "weight_max": 100.0}
    hierarchical |= {f"{level}_inverse_temperature": alpha for level in ("low", "high")}
    parts = {
        "hiql": (
            {
                **{"chosen": "implicit_state_value", **VALUES, "expectile": 0.7},
                **{"representation_dim": 10, "cloning_gradient": seen},
            },
            hierarchical,
        ),
        "gcivl": (
            {"chosen": "implicit_state_value", **VALUES, "expectile": 0.9, **PLAIN},
            AWR | {"inverse_temperature": alpha},
        ),
        "gciql": ({"chosen": "expectile", **VALUES, "expectile": 0.9}, extraction),
        "qrl": (
            {
                **{"chosen": "quasimetric", **CRITIC, "quasimetric": "iqe", "latent_dim": 512},
                **{"group_size": 8, "margin": 0.05, "dynamics": not discrete},
                **{"offset": 500.0, "softness": 100.0},  # in value_loss
            },
            extraction,
        ),
        "crl": (
            {
                **{"chosen": "contrastive", **CRITIC, "ensemble_size": 2, "latent_dim": 512},
                **{"loss": "binary", "logsumexp_weight": 0.1, "state_value": discrete},
            },
            extraction,
        ),
    }
    critic, policy = parts[name]
    settings = {f"agent.critic.{field}": value for field, value in critic.items()}
    settings |= {f"agent.policy.{field}": value for field, value in policy.items()}
    settings = {field.removesuffix(".chosen"): value for field, value in settings.items()}
    return settings | {"agent.auxiliary": "none"}


def expected_goals(name: str, p_trajectory: float, subgoal_steps: int) -> dict:
    """The goals of the study."""
    current, trajectory, geometric = {
        "gcbc": (0.2, 0.5, True),  # without effect: cloning has no values
        **dict.fromkeys(("gcivl", "gciql", "hiql"), (0.2, 0.5, True)),
        "qrl": (0.0, 0.0, True),
        "crl": (0.0, 1.0, True),
    }[name]
    return {
        "data.goals.value.p_current": current,
        "data.goals.value.p_trajectory": trajectory,
        "data.goals.value.geometric": geometric,
        "data.goals.policy.p_current": 0.0,
        "data.goals.policy.p_trajectory": p_trajectory,
        "data.goals.policy.geometric": False,
        "data.goals.policy.rounded": True,
        "data.goals.negative_rewards": True,
        "data.goals.subgoal_steps": subgoal_steps if name == "hiql" else 0,
    }


def rows() -> dict[str, tuple[dict[str, str], set[str], dict[str, float]]]:
    """Kind -> values of TUNED, words, and flags with their values."""
    table = {}
    for line in COMMANDS.strip().splitlines():
        kind, *fields = line.split()
        tuned, shared = dict(zip(TUNED, fields, strict=False)), fields[len(TUNED) :]
        given = {flag: float(value) for flag, _, value in (each.partition("=") for each in shared) if value}
        table[kind] = tuned, {each for each in shared if "=" not in each}, given
    return table


@pytest.mark.parametrize("kind", rows())
@pytest.mark.parametrize("name", AGENTS)
def test_presets_are_the_commands_of_the_study_in_every_field(name, kind):
    tuned, words, given = rows()[kind]
    seen, discrete, cloning = "seen" in words, kind == "powderworld", name == "gcbc"
    arguments = [f"--agent={AGENTS[name]}:{kind}", "--dataset=ogbench/cube-single-play-v0"]
    config, _ = flags.parse_run(["train", *arguments], absl_flags.FlagValues())
    known = {field: each.value for field, each in configuration.fields(config).items()}
    known |= {field: part.chosen for field, part in configuration.parts(config).items()}
    alpha = ast.literal_eval(tuned.get(name, "0"))
    expected = expected_agent(name, alpha, seen, discrete)
    if "discount" in given and "agent.critic.discount" in expected:
        expected["agent.critic.discount"] = given["discount"]
    encoders = [field for field in known if field.startswith("agent.") and field.endswith(".encoder")]
    expected |= dict.fromkeys(encoders, "impala_small" if seen else None)
    assert {field: known[field] for field in known if field.startswith("agent.")} == expected

    p_trajectory = 1.0 if cloning else given.get("p_trajgoal", 1.0)
    run = {
        "batch_size": 256 if seen else 1024,
        "steps": 500_000 if seen else 1_000_000,
        "eval_episodes": 50,
        "eval_temperature": given.get("eval_temperature", 0.0),
        "data.num_frames": 1,
        "data.normalize_observations": False,
        "data.image_shift.pixels": 3 if "p_aug" in given else 0,
        # No goal of cloning and of QRL is drawn from a geometric distribution.
        **({} if name in ("gcbc", "qrl") else {"data.goals.discount": given.get("discount", 0.99)}),
        **expected_goals(name, p_trajectory, int(tuned["subgoal_steps"])),
    }
    assert {field: known[field] for field in run} == run
    if "p_aug" in given:
        assert known["data.image_shift.probability"] == 0.5


def test_jobs_of_the_suite_have_the_presets_of_their_datasets():
    for job in suites.read("ogbench_goal_conditioned", SUITES).jobs:
        kind = job.agent.partition(":")[2]
        dataset = job.dataset.removeprefix("ogbench/").removesuffix("-v0")
        assert set(kind.split("_")) - {"manipulation"} <= set(dataset.split("-"))
        assert job.settings == {"num_seeds": 4 if "visual" in dataset else 8}
        assert kind in rows()


def test_jobs_of_the_small_suite_differ_in_their_methods_only():
    for job in suites.read("goals_small", SUITES).jobs:
        config, _ = flags.parse_run(["train", *job.arguments[2:]], absl_flags.FlagValues())
        known = {field: each.value for field, each in configuration.fields(config).items()}
        assert (known["batch_size"], known["num_seeds"]) == (256, 4)
        assert known["data.normalize_observations"] == ("pointmaze" in job.dataset)
        assert {known[field] for field in known if field.endswith(".target_rate")} <= {0.02}
        widths = {
            known[field] for field in known if field.endswith(("policy.hidden_dims", "agent.hidden_dims"))
        }
        assert widths == {(256, 256)}


@pytest.mark.parametrize("name", AGENTS.values())
def test_each_kind_of_dataset_has_a_preset(name):
    assert rows().keys() <= runpy.run_path(str(flags.PRESETS / f"{name}.py"))["PRESETS"].keys()
