r"""Trains an agent without rewards, then evaluates it on tasks: of the dataset's environment, or your own.

    python -m experiments.zero_shot --agent=td_jepa:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --num_seeds=5 --workdir=runs/zero_shot

    python -m experiments.zero_shot --agent=td_jepa:walker --dataset=exorl/walker-rnd --workdir=runs/walker

Each task is inferred from the rewards of labelled states of the dataset. Your own reward is a
function in a Python file; its argument holds arrays of all states:

    def corner(states):  # "observations" [N, D], "qpos", "qvel"
        return (states["qpos"][:, :2].min(axis=1) > 18).astype(float)

    python -m experiments.zero_shot --agent=td_jepa:pointmaze --reward=my_rewards.py:corner ...

The folder has the files of experiments.train. The same command again resumes a stopped run.
"""

from valuelab.runs import flags, zero_shot

parse = zero_shot.parse

if __name__ == "__main__":
    flags.run(zero_shot.main, parse)
