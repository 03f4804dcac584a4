r"""Trains an agent on a dataset, in an environment or both, evaluates it, and writes all into a folder.

    python -m experiments.train --agent=iql:pointmaze \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 --num_seeds=4 --workdir=runs/pointmaze

    python -m experiments.train --agent=eta_network:cartpole --environment=gymnasium/CartPole-v1 \
      --workdir=runs/cartpole

    python -m experiments.train --agent=iql:pointmaze_online --workdir=runs/online \
      --dataset=ogbench/pointmaze-medium-navigate-singletask-v0 \
      --offline_steps=30000 --online_steps=30000

The same command again resumes the run if it was stopped, or says that it is done. With more --steps it
continues the run. --init_from=WORKDIR begins a new run from the states of an earlier one. On several hosts,
start the same command on each host with --distributed. On TPU slices and SLURM the hosts find each other;
elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

from valuelab.runs import flags, train

parse = flags.parse_run

if __name__ == "__main__":
    flags.run(train.main, parse)
