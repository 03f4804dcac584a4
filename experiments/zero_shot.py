r"""Trains an agent without rewards, then asks it for tasks: those of the dataset's world, or one of your own.

    python -m experiments.zero_shot --agent=td_jepa:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-v0 --num_seeds=5 --workdir=runs/zero_shot

    python -m experiments.zero_shot --agent=td_jepa:walker --dataset=exorl/walker-rnd --workdir=runs/walker

Each task is found by least squares from the rewards of labelled states of the dataset, and played. A reward
of your own is a function in a Python file, of arrays of all states at once:

    def corner(states):  # "observations" [N, D], "qpos", "qvel"
        return (states["qpos"][:, :2].min(axis=1) > 18).astype(float)

    python -m experiments.zero_shot --agent=td_jepa:pointmaze --reward=my_rewards.py:corner ...

The folder is that of experiments.train. The same command again goes on where it was stopped.
"""

from valuelab.runs import flags, zero_shot

parse = zero_shot.parse

if __name__ == "__main__":
    flags.run(zero_shot.main, parse)
