"""Settings: typed overrides, JSON, comparison, sweeps, and what is said when they cannot be used."""

import dataclasses
import json
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valuelab import configuration
from valuelab.agents.composed import ComposedConfig
from valuelab.agents.iql import IQLConfig
from valuelab.agents.zero_shot import ZeroShotConfig
from valuelab.configuration import RunConfig
from valuelab.critics.conservative import ConservativeConfig
from valuelab.critics.flow import FlowCriticConfig
from valuelab.critics.successor_features import SuccessorFeaturesConfig
from valuelab.critics.td_jepa import TDJEPAConfig
from valuelab.errors import InputError
from valuelab.feature_learners.hilp import HILPConfig
from valuelab.feature_learners.laplacian import LaplacianConfig
from valuelab.policies.ddpg_bc import DDPGBCConfig
from valuelab.policies.rebrac import ReBRACConfig


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How parameters move.

    Attributes:
        learning_rate: of Adam.
    """

    learning_rate: float = 3e-4


@dataclasses.dataclass(frozen=True)
class Base:
    """What several agents share.

    Attributes:
        discount: γ in [0, 1).
    """

    discount: float = 0.99


@dataclasses.dataclass(frozen=True)
class Config(Base):
    """An agent with a field of every type.

    Attributes:
        expectile: τ in (0, 1); a long
            explanation.
        layers: number of layers.
        layer_norm: whether to normalise.
        extraction: how the policy is found.
        hidden_dims: width of each layer.
        weight_max: bound, if any.
        optimizer: a nested config.

    Raises:
        InputError: out of range.
    """

    expectile: float = 0.7
    layers: int = 2
    layer_norm: bool = False
    extraction: Literal["awr", "ddpg_bc"] = "awr"
    hidden_dims: tuple[int, ...] = (256, 256)
    weight_max: float | None = 100.0
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)

    def __post_init__(self):
        configuration.check_ranges(
            self, expectile="(0, 1)", discount="[0, 1)", hidden_dims="[1, inf)", weight_max="(0, inf)"
        )


RUN = RunConfig(agent=Config(), agent_name="test")


def test_fields_have_dotted_names_and_the_help_of_their_docstrings():
    known = configuration.fields(RUN)
    assert known["agent.expectile"].help == "τ in (0, 1); a long explanation."
    assert known["agent.discount"].help == "γ in [0, 1)."
    assert known["agent.optimizer.learning_rate"].value == 3e-4
    assert known["agent.weight_max"].expected == "a finite number, or none"
    assert known["agent.extraction"].expected == "one of awr, ddpg_bc"
    assert "agent" not in known
    assert [name for name, field in known.items() if not field.help] == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "1_000", 1000),
        ("agent.expectile", "0.9", 0.9),
        ("agent.expectile", "5e-1", 0.5),
        ("agent.layer_norm", "True", True),
        ("agent.layer_norm", "false", False),
        ("agent.extraction", "ddpg_bc", "ddpg_bc"),
        ("agent.hidden_dims", "128,64", (128, 64)),
        ("agent.hidden_dims", "(128, 64)", (128, 64)),
        ("agent.hidden_dims", "128", (128,)),
        ("agent.hidden_dims", "(128,)", (128,)),
        ("agent.hidden_dims", "()", ()),
        ("agent.weight_max", "none", None),
        ("agent.weight_max", "3", 3.0),
        ("agent.optimizer.learning_rate", "0.1", 0.1),
        ("dataset", "ogbench/x", "ogbench/x"),
        ("sweep", "agent.expectile=0.7,0.9", ("agent.expectile=0.7,0.9",)),
    ],
)
def test_text_and_the_value_itself_give_the_same_config(name, text, value):
    config = configuration.override(RUN, {name: text})
    read = configuration.fields(config)[name].value
    assert read == value
    assert type(read) is type(value)
    assert configuration.override(RUN, {name: value}) == config


def test_overriding_leaves_the_original_and_the_other_fields_alone():
    new = configuration.override(
        RUN, {"agent.expectile": 0.9, "agent.optimizer.learning_rate": 1, "steps": 5}
    )
    assert new == dataclasses.replace(
        RUN, agent=Config(expectile=0.9, optimizer=Optimizer(learning_rate=1.0)), steps=5
    )
    assert RUN.agent.expectile == 0.7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("agent.expectle", 0.9, r"unknown field 'agent.expectle': did you mean 'agent.expectile'\?"),
        ("stpes", 3, r"unknown field 'stpes': did you mean 'steps'\?"),
        ("agent", "iql", "unknown field 'agent'"),
        ("agent.expectile.more", 1, "unknown field 'agent.expectile.more'"),
        ("agent.optimizer.rate", 1, r"did you mean 'agent.optimizer.learning_rate'\?"),
        ("agent.expectile", "high", "agent.expectile is 'high'; it must be a finite number"),
        ("agent.expectile", "inf", "agent.expectile is 'inf'; it must be a finite number"),
        ("agent.expectile", "nan", "agent.expectile is 'nan'; it must be a finite number"),
        ("agent.expectile", True, "agent.expectile is True; it must be a finite number"),
        ("agent.layers", "2.5", "agent.layers is '2.5'; it must be a whole number"),
        ("agent.layers", 2.0, "agent.layers is 2.0; it must be a whole number"),
        ("agent.layers", None, "agent.layers is None; it must be a whole number"),
        ("agent.layer_norm", "yes", "agent.layer_norm is 'yes'; it must be true or false"),
        ("agent.layer_norm", 1, "agent.layer_norm is 1; it must be true or false"),
        ("agent.extraction", "AWR", r"unknown value of agent.extraction 'AWR': did you mean 'awr'\?"),
        ("agent.extraction", "awrr", r"unknown value of agent.extraction 'awrr': did you mean 'awr'\?"),
        (
            "agent.hidden_dims",
            "8,x",
            "agent.hidden_dims is '8,x'; it must be a list with commas, each entry a whole number",
        ),
        ("agent.hidden_dims", "8,,8", "agent.hidden_dims is '8,,8'; it must be a list"),
        (
            "agent.hidden_dims",
            128,
            "agent.hidden_dims is 128; it must be a list with commas, each entry a whole number",
        ),
        ("agent.weight_max", "all", "agent.weight_max is 'all'; it must be a finite number, or none"),
        ("dataset", 3, "dataset is 3; it must be text"),
        ("agent.expectile", 1.0, r"agent.expectile is 1.0; it must lie in \(0, 1\)"),
        ("agent.hidden_dims", "64,0", r"agent.hidden_dims is \(64, 0\); it must lie in \[1, inf\)"),
        ("agent.weight_max", 0, r"agent.weight_max is 0.0; it must lie in \(0, inf\)"),
        ("steps", 0, r"steps is 0; it must lie in \[1, inf\)"),
        ("batch_size", "-1", r"batch_size is -1; it must lie in \[1, inf\)"),
        ("num_seeds", 0, r"num_seeds is 0; it must lie in \[1, inf\)"),
        ("eval_episodes", -1, r"eval_episodes is -1; it must lie in \[0, inf\)"),
        ("log_every", 0, r"log_every is 0; it must lie in \[1, inf\)"),
        ("seed", -1, r"seed is -1; it must lie in \[0, 2147483647\]"),
        ("mesh", "8", r"mesh is \(8,\); it must be two numbers of devices"),
    ],
)
def test_what_cannot_be_used_is_one_line(name, value, message):
    with pytest.raises(InputError, match=message) as caught:
        configuration.override(RUN, {name: value})
    assert "\n" not in str(caught.value)


def test_a_preset_may_put_another_config_in_the_place_of_a_part():
    @dataclasses.dataclass(frozen=True)
    class Other:
        momentum: float = 0.9

    config = configuration.override(RUN, {"agent.optimizer.momentum": "0.5", "agent.optimizer": Other()})
    assert config.agent.optimizer == Other(0.5)
    with pytest.raises(InputError, match=r"unknown field 'agent\.optimizer\.learning_rate'"):
        configuration.override(config, {"agent.optimizer.learning_rate": 1.0})


def test_the_steps_of_a_run_are_the_sum_of_its_phases():
    phased = configuration.override(RUN, {"offline_steps": "30", "online_steps": 4})
    assert (phased.steps, RUN.steps) == (34, 1_000_000)
    assert configuration.override(phased, {"online_steps": 0}).steps == 30
    assert configuration.override(phased, {"seed": 1}).steps == 34
    assert configuration.override(phased, {"online_steps": 5, "steps": 35}).steps == 35
    assert configuration.from_json(RUN, configuration.to_json(phased)) == phased
    with pytest.raises(
        InputError, match="steps is 8; it must be the sum 34 of offline_steps 30 and online_st"
    ):
        configuration.override(phased, {"steps": 8})


def test_ranges_are_open_or_closed_as_written_and_nan_lies_in_none():
    config = Optimizer(0.5)
    for interval in ("[0.5, 1]", "(0, 0.5]", "(0.4, inf)"):
        configuration.check_ranges(config, learning_rate=interval)
    for interval in ("(0.5, 1]", "[0, 0.5)"):
        with pytest.raises(InputError, match=r"learning_rate is 0\.5"):
            configuration.check_ranges(config, learning_rate=interval)
    with pytest.raises(InputError, match="learning_rate is nan"):
        configuration.check_ranges(Optimizer(math.nan), learning_rate="[0, inf)")


def test_a_type_that_no_text_can_give_is_refused_by_name():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        sizes: dict | None = None

    with pytest.raises(InputError, match=r"agent.sizes has type .*dict.*; choose int, float"):
        configuration.fields(RunConfig(agent=Odd()))


def test_json_gives_the_config_back():
    values = {"agent.hidden_dims": (8,), "agent.weight_max": None, "agent.expectile": 0.1 + 0.2}
    config = configuration.override(RUN, values | {"mesh": (2, 4), "sweep": ["agent.expectile=0.1,0.2"]})
    saved = json.loads(json.dumps(configuration.to_json(config)))
    assert saved["agent"]["hidden_dims"] == [8]
    restored = configuration.from_json(RUN, saved)
    assert dataclasses.asdict(restored) == dataclasses.asdict(config)
    assert configuration.difference(saved, config) == []


def test_difference_lists_what_changes_the_result_and_nothing_else():
    saved = configuration.to_json(RUN)
    elsewhere = {"workdir": "b", "data_dir": "c", "mesh": "2,4", "log_every": 7, "eval_every": 8}
    elsewhere |= {"checkpoint_every": 9, "tensorboard": True, "wandb_project": "p", "video": True}
    elsewhere |= {"wandb_entity": "e", "wandb_group": "g", "wandb_name": "n", "wandb_tags": "a,b"}
    new = configuration.override(RUN, elsewhere | {"agent.hidden_dims": "8", "steps": 3})
    assert configuration.difference(saved, new) == [
        ("agent.hidden_dims", [256, 256], [8]),
        ("steps", 1_000_000, 3),
    ]
    # Settings that an older version did not have: they had their defaults.
    del saved["seed"], saved["agent"]["optimizer"]["learning_rate"]
    saved["agent"]["removed"] = 1
    assert configuration.difference(saved, RUN) == [("agent.removed", 1, None)]
    assert ("seed", 0, 3) in configuration.difference(saved, dataclasses.replace(RUN, seed=3))


def test_a_run_can_grow_but_not_shrink():
    run = dataclasses.replace(RUN, steps=5, offline_steps=2, online_steps=3)
    saved = configuration.to_json(run)
    longer = configuration.override(run, {"online_steps": 4})
    grown = [("steps", 5, 6), ("online_steps", 3, 4)]
    assert configuration.growth(saved, longer) == grown
    assert configuration.difference(saved, longer) == configuration.shrinkage(saved, longer) == []
    shorter = configuration.override(run, {"online_steps": 1})
    shrunk = [("steps", 5, 3), ("online_steps", 3, 1)]
    assert configuration.difference(saved, shorter) == configuration.shrinkage(saved, shorter) == shrunk
    other = configuration.override(run, {"offline_steps": 3})
    assert configuration.difference(saved, other) == [("offline_steps", 2, 3)]
    # A run without online steps has no environment, so it is another run.
    offline = configuration.to_json(dataclasses.replace(RUN, steps=2, offline_steps=2))
    assert configuration.difference(offline, run) == [("online_steps", 0, 3)]


def test_without_a_sweep_a_population_is_its_seeds():
    population = configuration.population(dataclasses.replace(RUN, seed=3, num_seeds=2))
    assert population.size == 2
    assert population.hyperparameters == {}
    assert population.by_setting() == [({}, [0, 1])]
    assert population.seeds.dtype == np.uint32
    assert [population.label(member) for member in range(2)] == ["seed=3", "seed=4"]


def test_sweeps_are_crossed_with_each_other_and_with_seeds_in_a_fixed_order():
    sweep = ("agent.expectile=0.7,0.9", "agent.optimizer.learning_rate=1e-3,0.01,1")
    population = configuration.population(dataclasses.replace(RUN, sweep=sweep, num_seeds=2))
    # 2 expectiles x 3 rates x 2 seeds, the last varying fastest.
    np.testing.assert_array_equal(population.seeds, [0, 1] * 6)
    np.testing.assert_array_equal(
        population.hyperparameters["agent.expectile"], np.float32([0.7] * 6 + [0.9] * 6)
    )
    np.testing.assert_array_equal(
        population.hyperparameters["agent.optimizer.learning_rate"],
        np.float32([0.001, 0.001, 0.01, 0.01, 1, 1] * 2),
    )
    assert population.settings(8) == {
        "agent.expectile": 0.9,
        "agent.optimizer.learning_rate": 0.01,
        "seed": 0,
    }
    assert population.by_setting()[4] == (
        {"agent.expectile": 0.9, "agent.optimizer.learning_rate": 0.01},
        [8, 9],
    )
    assert population.label(11) == "agent.expectile=0.9 agent.optimizer.learning_rate=1.0 seed=1"


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            ["agent.expectile"],
            "sweep 'agent.expectile' cannot be read; write --sweep=agent.FIELD=VALUE,VALUE",
        ),
        (
            ["agent.expectile="],
            "^sweep is 'agent.expectile=': agent.expectile is ''; it must be a finite number",
        ),
        (
            ["agent.expectile=0.7,,0.9"],
            "^sweep is 'agent.expectile=0.7,,0.9': agent.expectile is ''; it must",
        ),
        (["agent.expectile=0.7;0.9"], "agent.expectile is '0.7;0.9'; it must be a finite number"),
        (["agent.expectile=0.7,1.2"], r"agent.expectile is 1.2; it must lie in \(0, 1\)"),
        (["agent.expectle=0.7"], r"unknown swept field 'agent.expectle': did you mean 'agent.expectile'\?"),
        (["expectile=0.7"], r"unknown swept field 'expectile': did you mean 'agent.expectile'\?"),
        (["agent.expectile=0.7", "agent.expectile=0.8"], "sweep of agent.expectile is given twice"),
        (["agent.expectile=0.7,0.9,0.7"], "sweep of agent.expectile has 0.7 twice: give each value once"),
        (
            ["agent.expectile=0.7,0.70000000001"],
            r"agent.expectile has 0.70000000001 twice \(as float32 it is 0.7\)",
        ),
        (["agent.hidden_dims=8,16"], "sweep of agent.hidden_dims: .* can be swept: .*agent.expectile"),
        (["agent.layers=2,3"], "sweep of agent.layers"),
        (["agent.layer_norm=true,false"], "sweep of agent.layer_norm"),
        (["agent.extraction=awr,ddpg_bc"], "sweep of agent.extraction"),
        (["agent.weight_max=1,none"], "sweep of agent.weight_max"),
        (["seed=0,1"], "sweep of seed"),
    ],
)
def test_sweeps_that_cannot_be_used_are_one_line(sweep, message):
    with pytest.raises(InputError, match=message) as caught:
        configuration.population(configuration.override(RUN, {"sweep": sweep}))
    assert "\n" not in str(caught.value)


def test_the_settings_of_members_may_be_traced():
    config = dataclasses.replace(RUN, sweep=("agent.expectile=0.25,0.5", "agent.optimizer.learning_rate=2,4"))

    @jax.jit
    @jax.vmap
    def products(hyperparameters):
        agent = configuration.replace(config, hyperparameters).agent
        return jnp.asarray(agent.expectile * agent.optimizer.learning_rate)

    np.testing.assert_array_equal(
        products(configuration.population(config).hyperparameters), [0.5, 1.0, 1.0, 2.0]
    )


# Parts that are chosen by name, and short names.


def iql_run(**settings) -> RunConfig:
    run = RunConfig(agent=IQLConfig(), agent_name="iql")
    return configuration.override(run, {f"agent.{name}": value for name, value in settings.items()})


def test_short_names_set_the_fields_of_both_parts():
    agent = iql_run(hidden_dims="8,8", expectile=0.9, policy="deterministic", weight_max=5).agent
    assert (agent.critic.hidden_dims, agent.policy.hidden_dims) == ((8, 8), (8, 8))
    assert (agent.critic.expectile, agent.policy.weight_max) == (0.9, 5.0)
    assert agent.policy.distribution == "deterministic"
    swept = configuration.replace(iql_run(), {"agent.learning_rate": jnp.float32(0.5)}).agent
    assert (swept.critic.learning_rate, swept.policy.learning_rate) == (0.5, 0.5)


def test_a_part_is_chosen_by_name_and_keeps_what_both_have():
    for chosen in ({"agent.extraction": "ddpg_bc"}, {"agent.policy": "ddpg_bc"}):
        config = configuration.override(iql_run(hidden_dims=(8,)), {**chosen, "agent.bc_weight": "0.5"})
        assert config.agent.policy == DDPGBCConfig(
            hidden_dims=(8,), bc_weight=0.5, learning_rate_schedule="cosine"
        )
    with pytest.raises(InputError, match=r"unknown value of agent.policy 'ddpg': did you mean 'ddpg_bc'\?"):
        configuration.override(iql_run(), {"agent.extraction": "ddpg"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"agent.expectile": 0.8, "agent.critic.expectile": 0.9},
            "agent.expectile and agent.critic.expectile both set agent.critic.expectile: give one of them",
        ),
        (
            {"agent.policy": "awr", "agent.extraction": "awr"},
            "agent.policy and agent.extraction both set agent.policy: give one of them",
        ),
        (
            {"agent.bc_weight": 1.0},
            "agent.bc_weight sets agent.policy.bc_weight, which awr does not have: choose "
            "agent.policy=ddpg_bc or noisy or one_step_flow or rebrac",
        ),
        ({"agent.expectile": 2.0}, r"agent.critic.expectile is 2.0; it must lie in \(0, 1\)"),
        ({"agent.critic.expectle": 0.9}, r"did you mean 'agent.critic.expectile'\?"),
    ],
)
def test_what_short_names_cannot_mean_is_told(values, message):
    with pytest.raises(InputError, match=message):
        configuration.override(iql_run(), values)


def test_a_saved_config_says_which_parts_it_has():
    config = iql_run(extraction="ddpg_bc", bc_weight=0.5)
    saved = configuration.to_json(config)
    assert saved["agent"]["policy"]["kind"] == "ddpg_bc"
    assert configuration.from_json(iql_run(), saved) == config
    assert configuration.difference(saved, config) == []
    assert ("agent.policy", "ddpg_bc", "awr") in configuration.difference(saved, iql_run())


def test_the_old_name_of_a_part_is_short_for_the_fields_of_the_new_one():
    config = SuccessorFeaturesConfig(feature_learner=HILPConfig())
    changed = configuration.override(config, {"representation.dim": 4, "representation.expectile": 0.8})
    assert changed.feature_learner == HILPConfig(dim=4, expectile=0.8)
    chosen = configuration.override(config, {"representation": "laplacian"})
    assert isinstance(chosen.feature_learner, LaplacianConfig)


def test_a_run_saved_before_a_setting_existed_has_its_former_value():
    new = RunConfig(agent=ComposedConfig(critic=FlowCriticConfig(), policy=ReBRACConfig()))
    saved = configuration.to_json(new)
    for name in ("time_scale", "time_fastest", "next_actions"):
        del saved["agent"]["critic"][name]
    del saved["agent"]["policy"]["period"]
    read = configuration.from_json(new, saved).agent
    assert (read.critic.time_scale, read.critic.time_fastest) == (math.sqrt(32), 64.0)
    assert (read.critic.next_actions, read.policy.period) == ("shared", 1)
    assert ("agent.policy.period", 1, 2) in configuration.difference(saved, new)
    zero_shot = ZeroShotConfig(critic=TDJEPAConfig(learning_rate=0.1))
    saved = configuration.to_json(zero_shot)
    del saved["critic"]["feature_learning_rate"]
    assert configuration.from_json(zero_shot, saved).critic.feature_learning_rate == 0.1
    conservative = configuration.fields(ConservativeConfig())["q_aggregation"]
    assert (conservative.before, conservative.help != "") == ("min", True)


def test_a_run_saved_before_a_part_existed_has_its_former_choice():
    plain = configuration.override(IQLConfig(), {"expectile": 0.8})
    saved = configuration.to_json(plain)
    assert saved.pop("auxiliary") == {"kind": "none"}
    changed = configuration.override(plain, {"auxiliary": "contrastive"})
    assert configuration.from_json(changed, saved) == plain
    assert configuration.difference(saved, plain) == []
    assert ("auxiliary", "none", "contrastive") in configuration.difference(saved, changed)


def test_a_part_keeps_only_the_values_that_its_new_choice_accepts():
    config = ZeroShotConfig(critic=SuccessorFeaturesConfig(predictor_dims=(8,), state_dim=0))
    chosen = configuration.override(config, {"critic": "td_jepa", "critic.task_dim": 4}).critic
    assert (type(chosen), chosen.predictor_dims, chosen.state_dim) == (TDJEPAConfig, (8,), 50)


def test_a_short_name_of_nothing_is_refused():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mistaken(IQLConfig):
        ALIASES = {"x": ("critic.nope",)}  # noqa: RUF012

    configuration.check_aliases(IQLConfig())
    with pytest.raises(InputError, match=r"ALIASES: 'x' stands for 'critic.nope', which is not a field"):
        configuration.check_aliases(Mistaken())


def test_a_config_saved_with_short_names_is_read():
    saved = configuration.to_json(iql_run())
    saved["agent"] = {
        **{"hidden_dims": [8], "activation": "relu", "layer_norm": False, "ensemble_size": 2},
        **{"expectile": 0.8, "discount": 0.99, "learning_rate": 3e-4, "target_rate": 0.005, "encoder": None},
        **{"extraction": "awr", "inverse_temperature": 3.0, "weight_max": 100.0, "bc_weight": 1.0},
        **{"policy": "gaussian", "mean": "tanh", "final_scale": 1.0, "learn_std": True, "dropout_rate": 0.0},
        "policy_schedule": "cosine",
    }
    config = iql_run(hidden_dims=(8,), expectile=0.8)
    assert configuration.from_json(iql_run(), saved) == config
    assert configuration.difference(saved, config) == []
    saved["agent"] |= {"extraction": "ddpg_bc", "bc_weight": 0.5}
    cloning = iql_run(hidden_dims=(8,), expectile=0.8, extraction="ddpg_bc", bc_weight=0.5)
    assert configuration.from_json(iql_run(), saved) == cloning
    assert configuration.difference(saved, cloning) == []
    saved["agent"]["extraction"] = "awr"
    assert configuration.difference(saved, iql_run(hidden_dims=(8,))) == [
        ("agent.critic.expectile", 0.8, 0.7)
    ]


def test_a_run_saved_before_parts_had_kinds_goes_on():
    saved = configuration.to_json(iql_run())
    del saved["agent"]["critic"]["kind"], saved["agent"]["policy"]["kind"]
    assert configuration.from_json(iql_run(), saved) == iql_run()
    assert configuration.difference(saved, iql_run()) == []


def test_short_names_are_swept_under_the_name_that_was_given():
    config = dataclasses.replace(iql_run(), sweep=("agent.expectile=0.7,0.9", "agent.learning_rate=0.1"))
    members = configuration.population(config)
    assert list(members.hyperparameters) == ["agent.expectile", "agent.learning_rate"]
    assert members.label(1) == "agent.expectile=0.9 agent.learning_rate=0.1 seed=0"
    for sweep in (("agent.hidden_dims=8,16",), ("agent.extraction=awr",), ("agent.bc_weight=1,2",)):
        with pytest.raises(
            InputError, match=r"^(sweep of|unknown swept field 'agent.(extraction|bc_weight)')"
        ):
            configuration.population(dataclasses.replace(iql_run(), sweep=sweep))
    twice = ("agent.expectile=0.7,0.9", "agent.critic.expectile=0.8")
    with pytest.raises(InputError, match=r"both set agent\.critic\.expectile"):
        configuration.population(dataclasses.replace(iql_run(), sweep=twice))


def test_a_subclass_may_change_a_default_alone():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Parent(configuration.Settings):
        rate: float = configuration.setting(0.1, "(0, 1)", "Share of the new.")
        dims: tuple[int, ...] = configuration.widths((8,), "Widths.", blocks="depth")
        depth: int = configuration.setting(0, "[0, inf)", "Depth.")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Child(Parent):
        rate: float = 0.5

    assert configuration.fields(Child())["rate"].help == "Share of the new."
    with pytest.raises(InputError, match=r"^rate is 1.0; it must lie in \(0, 1\)"):
        Child(rate=1.0)
    with pytest.raises(InputError, match=r"^dims is empty"):
        Child(dims=())
    with pytest.raises(InputError, match=r"^dims is \(8, 4\); layers of residual blocks"):
        Child(dims=(8, 4), depth=1)


@pytest.mark.parametrize(
    ("given", "phases"),
    [
        ({"steps": 5_000}, (0, 0)),
        ({"offline_steps": 5_000}, (20, 0)),
        ({"offline_steps": 5_000, "online_steps": 10}, (10, 10)),
    ],
)
def test_a_smoke_run_has_20_updates_and_at_most_one_episode(given, phases):
    config = configuration.override(RunConfig(), given)
    assert configuration.smoke(config) is config
    short = configuration.smoke(configuration.override(config, {"smoke": True}))
    assert (short.steps, short.eval_episodes, short.eval_every) == (20, 1, 0)
    assert (short.offline_steps, short.online_steps) == phases
    assert configuration.smoke(short) == short
    untrained = configuration.override(config, {"smoke": True, "eval_episodes": 0})
    assert configuration.smoke(untrained).eval_episodes == 0
