"""A suite of one job of 8 updates, which takes the place of the suites in the documents."""

from valuelab.benchmark import Job, Suite

TINY = {"agent.hidden_dims": (8,), "steps": 8, "log_every": 4, "eval_episodes": 0}
SUITE = Suite(
    (Job("bc", "bc:pointmaze", "ogbench/pointmaze-medium-navigate-v0", settings=TINY),),
    program="experiments.train",
)
