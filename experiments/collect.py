"""Collects a dataset in the layout in which its source publishes it.

    python -m experiments.collect --dataset=ogbench/pointmaze-medium-navigate-v0 --data_dir=DIR

writes DIR/ogbench/pointmaze-medium-navigate-v0.npz and -val.npz with OGBench's own environments and scripted
oracles;

    python -m experiments.collect --dataset=exorl/walker-rnd --data_dir=DIR --episodes=20

writes DIR/exorl/walker/rnd/buffer/episode_000000_1000.npz and so on: dm_control's walker, cheetah, quadruped
or point_mass_maze, explored by random network distillation or, as exorl/walker-noise, by noise. Episodes have
1,000 steps. With --episode_steps=100 they start ten times as often. With --anywhere they start in all
quarters of point_mass_maze. After an interruption, the same command continues where it stopped.
"""

import sys

from absl import flags

from valuelab import domains
from valuelab.runs import collecting, command_line

DATASET = flags.DEFINE_string("dataset", None, "ogbench/NAME-v0 or exorl/DOMAIN-EXPLORER.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", "~/.cache/valuelab", "The folder that holds ogbench/ and exorl/.")
EPISODES = flags.DEFINE_integer(
    "episodes", None, "Training episodes; if not given, as published (ogbench) or 100 (exorl)."
)
VAL_EPISODES = flags.DEFINE_integer(
    "val_episodes", None, "Validation episodes (ogbench); a tenth if not given."
)
EPISODE_STEPS = flags.DEFINE_integer(
    "episode_steps", domains.EPISODE_STEPS, "Steps of an episode (exorl), at most 1000."
)
ANYWHERE = flags.DEFINE_bool(
    "anywhere", False, "Start episodes anywhere in the domain (exorl/point_mass_maze)."
)
SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same arrays.")
PROCESSES = flags.DEFINE_integer("processes", None, "Parallel processes (ogbench); by default one per core.")


def main(arguments: list[str]) -> int:
    """Collects a dataset, and prints the result in one line."""
    del arguments
    dataset, data_dir = DATASET.value, DATA_DIR.value
    try:
        if dataset.startswith("exorl/"):
            starts = EPISODE_STEPS.value, ANYWHERE.value
            print(collecting.explore(dataset, data_dir, EPISODES.value, SEED.value, *starts))
        else:
            counts = EPISODES.value, VAL_EPISODES.value
            print(collecting.play_oracles(dataset, data_dir, *counts, SEED.value, PROCESSES.value))
        command_line.print_next(*collecting.next_steps(dataset, data_dir))
    except KeyboardInterrupt:
        kept = collecting.kept_folder(dataset, data_dir)
        print(f"stopped; finished episodes are kept in {kept}: run the command again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    command_line.run(main, command_line.parse_flags)
