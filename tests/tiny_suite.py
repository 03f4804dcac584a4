"""In the place of suites of the documents: one member, of 8 updates."""

from valuelab.benchmark import Member, Suite

TINY = {"agent.hidden_dims": (8,), "steps": 8, "log_every": 4, "eval_episodes": 0}
SUITE = Suite(
    (
        Member(
            "bc",
            "bc:pointmaze",
            "ogbench/pointmaze-medium-navigate-v0",
            program="experiments.train",
            settings=TINY,
        ),
    )
)
