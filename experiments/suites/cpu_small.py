"""A maze and a cube with small networks: nine offline methods with four seeds, three zero-shot with five.

    python -m experiments.benchmark --suite=cpu_small --jobs=2 --workdir=runs/cpu_small

hardware: two CPU cores, 6 GB of memory
expected: seven hours with --jobs=2 on cores that reach 80 GFLOP/s each in float32; four, estimated, on such
    of 165: learning is matrix products, so time goes with their speed
run: whole, with jobs=2, on two cores of an AMD EPYC on days when they reached 80 GFLOP/s each, partly beside
    other work: 12.4 hours of a core. On a better day, 165 to 205 GFLOP/s, fql:cube_small made 124 updates a
    second there, and here 39. What the members left is in benchmarks/cpu_small, what it says in the README.
    The members named after the study were run on two cores that were shared with much other work

IQL, IFQL and cloning are there twice: as presets have them, and with the networks of OGBench's and FQL's
studies (`_study`), which FQL and floq have too. Methods whose updates cost more (quantiles, flow critics) get
fewer of them: what is compared is what can be learnt in about the same time, for most 20 to 40 core-minutes.
Presets would take up to three times as many updates.
"""

from valuelab.benchmark import Member, Suite
from valuelab.presets import _ogbench

MAZE = "ogbench/pointmaze-medium-navigate"
CUBE = "ogbench/cube-single-play"
# The cube's simulator takes 600 steps a second, the maze's 6,000.
EPISODES = {MAZE: 50, CUBE: 25}
PRESETS = {MAZE: "pointmaze", CUBE: "cube_small"}
# Weights of cloning for goal-conditioned IQL in OGBench's list of hyperparameters, with the fixed standard
# deviation that they are for.
DDPG_BC = {
    domain: {"agent.extraction": "ddpg_bc", "agent.learn_std": False, "agent.bc_weight": weight}
    for domain, weight in ((MAZE, 0.003), (CUBE, 1.0))
}
IQL_STUDY = {**_ogbench.GAUSSIAN_POLICY, "agent.layer_norm": True}
# An update with eight levels costs six of FQL's.
LEVELS = {f"agent.critic.{name}": 4 for name in ("num_levels", "num_target_levels", "num_read_levels")}


def learnt(label: str, agent: str, domain: str, steps: int, **settings) -> Member:
    """A member that learns the default task of a domain, looked at half-way and in the end."""
    return Member(
        label,
        f"{agent}:{PRESETS[domain]}",
        f"{domain}-singletask-v0",
        program="experiments.train",
        settings={
            "num_seeds": 4,
            "steps": steps,
            "eval_every": steps // 2,
            "eval_episodes": EPISODES[domain],
            **settings,
        },
    )


def zero_shot(agent: str, domain: str, steps: int) -> Member:
    """A member that learns a domain without rewards, and is asked for its five tasks."""
    return Member(
        agent,
        f"{agent}:{PRESETS[domain]}",
        f"{domain}-v0",
        program="experiments.zero_shot",
        settings={"num_seeds": 5, "steps": steps, "eval_every": steps // 2, "eval_episodes": 10},
    )


def offline(domain: str, steps: int, quantile_steps: int, flow_steps: int) -> tuple[Member, ...]:
    """The nine offline methods, four of them twice; those whose updates cost more with fewer of them."""
    return (
        learnt("bc", "bc", domain, steps),
        learnt("iql", "iql", domain, steps),
        learnt("iql_ddpg_bc", "iql", domain, steps, **DDPG_BC[domain]),
        learnt("ifql", "ifql", domain, steps),
        learnt("bc_study", "bc", domain, steps, **_ogbench.GAUSSIAN_POLICY),
        learnt("iql_study", "iql", domain, steps, **IQL_STUDY),
        learnt("iql_ddpg_bc_study", "iql", domain, steps, **(DDPG_BC[domain] | IQL_STUDY)),
        learnt("ifql_study", "ifql", domain, steps, **{"agent.critic.activation": "gelu"}),
        learnt("rebrac", "rebrac", domain, steps),
        learnt("fql", "fql", domain, steps),
        learnt("fql_hl_gauss", "fql_hl_gauss", domain, steps),
        learnt("fql_iqn", "fql_iqn", domain, quantile_steps, **LEVELS),
        learnt("floq", "floq", domain, flow_steps),
    )


SUITE = Suite(
    (
        *offline(MAZE, steps=20_000, quantile_steps=8_000, flow_steps=6_000),
        *offline(CUBE, steps=20_000, quantile_steps=4_000, flow_steps=8_000),
        *(
            zero_shot(agent, domain, steps)
            for domain, steps in ((MAZE, 10_000), (CUBE, 6_000))
            for agent in ("td_jepa", "forward_backward", "hilp")
        ),
    )
)
