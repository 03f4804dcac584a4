"""A maze and a cube with small networks: nine offline methods; in the maze three zero-shot agents.

    python -m experiments.benchmark --suite=cpu_small --jobs=2 --workdir=runs/cpu_small

hardware: two CPU cores, 6 GB of memory
expected: seven hours with --jobs=2 on cores that reach 80 GFLOP/s each in float32; four hours at 165 GFLOP/s
    (estimated: the time is mostly that of matrix products)
run: whole, with --jobs=2, on two cores of an AMD EPYC at 80 GFLOP/s each, partly shared with other work: 12.4
    core-hours. fql:cube_small made 39 updates/s there, and 124 on cores at 165 to 205 GFLOP/s. The `_study`
    jobs and those of floq and rebrac ran on two cores that were shared with other work. The jobs' files are
    in benchmarks/cpu_small. The results are in docs/results/index.md

Offline methods have four seeds, zero-shot agents five. IQL, IFQL and behaviour cloning have two jobs each:
one with the networks of their presets, one (`_study`) with the networks of OGBench's and FQL's studies, which
FQL and floq use as well. Methods with more expensive updates (quantiles, flow critics) get fewer updates, so
that all methods have about the same time: 20 to 40 core-minutes for most. The presets would take up to three
times as many updates. With the cube, zero-shot agents need more updates than two cores make in an hour.
"""

from valuelab.benchmark import Job, Suite
from valuelab.presets import _ogbench

MAZE = "ogbench/pointmaze-medium-navigate"
CUBE = "ogbench/cube-single-play"
# The simulator of the cube takes 600 steps per second, that of the maze 6,000.
EPISODES = {MAZE: 50, CUBE: 25}
PRESETS = {MAZE: "pointmaze", CUBE: "cube_small"}
# The weights of goal-conditioned IQL in OGBench's list of hyperparameters, and the fixed standard deviation
# with which they were tuned.
DDPG_BC = {
    domain: {"agent.extraction": "ddpg_bc", "agent.learn_std": False, "agent.bc_weight": weight}
    for domain, weight in ((MAZE, 0.003), (CUBE, 1.0))
}
IQL_STUDY = {**_ogbench.GAUSSIAN_POLICY, "agent.layer_norm": True}
# An update with eight levels takes as long as six of FQL's updates.
LEVELS = {f"agent.critic.{name}": 4 for name in ("num_levels", "num_target_levels", "num_read_levels")}


def offline(label: str, agent: str, domain: str, steps: int, **settings) -> Job:
    """A job that learns the default task of a domain; evaluated half-way and at the end."""
    return Job(
        label,
        f"{agent}:{PRESETS[domain]}",
        f"{domain}-singletask-v0",
        settings={
            "num_seeds": 4,
            "steps": steps,
            "eval_every": steps // 2,
            "eval_episodes": EPISODES[domain],
            **settings,
        },
    )


def zero_shot(agent: str, steps: int) -> Job:
    """A job that learns in the maze without rewards; evaluated on its five tasks, and on 200 pairs."""
    return Job(
        agent,
        f"{agent}:{PRESETS[MAZE]}",
        f"{MAZE}-v0",
        program="experiments.zero_shot",
        settings={
            "num_seeds": 5,
            "steps": steps,
            "eval_every": steps // 2,
            "eval_episodes": 10,
            "pairs": 200,
        },
    )


def offline_jobs(domain: str, steps: int, quantile_steps: int, flow_steps: int) -> tuple[Job, ...]:
    """The nine offline methods, four of them twice; expensive methods get fewer updates."""
    return (
        offline("bc", "bc", domain, steps),
        offline("iql", "iql", domain, steps),
        offline("iql_ddpg_bc", "iql", domain, steps, **DDPG_BC[domain]),
        offline("ifql", "ifql", domain, steps),
        offline("bc_study", "bc", domain, steps, **_ogbench.GAUSSIAN_POLICY),
        offline("iql_study", "iql", domain, steps, **IQL_STUDY),
        offline("iql_ddpg_bc_study", "iql", domain, steps, **(DDPG_BC[domain] | IQL_STUDY)),
        offline("ifql_study", "ifql", domain, steps, **{"agent.critic.activation": "gelu"}),
        offline("rebrac", "rebrac", domain, steps),
        offline("fql", "fql", domain, steps),
        offline("fql_hl_gauss", "fql_hl_gauss", domain, steps),
        offline("fql_iqn", "fql_iqn", domain, quantile_steps, **LEVELS),
        # Its curves are finer: they show when the field begins to use z.
        offline("floq", "floq", domain, flow_steps, eval_every=flow_steps // 4, log_every=500),
    )


SUITE = Suite(
    (
        *offline_jobs(MAZE, steps=20_000, quantile_steps=8_000, flow_steps=12_000),
        *offline_jobs(CUBE, steps=20_000, quantile_steps=4_000, flow_steps=10_000),
        zero_shot("td_jepa", steps=15_000),
        zero_shot("forward_backward", steps=15_000),
        zero_shot("hilp", steps=10_000),
    ),
    program="experiments.train",
)
