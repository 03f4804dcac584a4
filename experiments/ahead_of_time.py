r"""Compiles the training program of a run for TPUs and GPUs that are not here, and tells what bounds it.

    python -m experiments.ahead_of_time --agent=iql --topology=v5e:2x4 --mesh=2,4
    python -m experiments.ahead_of_time --agent=fql --topology=h200 --num_seeds=8 --out=runs/fql.json

The program is the one that experiments.train runs, with the same flags. It prints for each device the memory
and whether it is enough; the operations, bytes, kernels and collectives of one update; and the largest number
of updates per second that each of them allows. The smallest of these is the bound: a real device is slower.
The data are random numbers of the shapes --observation_dim and --action_dim, or a --dataset. With
--environment the agent acts there; a simulator on the host is replaced by random outcomes.

--compare=FILE shows what has changed since an earlier command wrote FILE with --out.

`make compilers` installs what this needs: libtpu, and NVIDIA's plugin for JAX. It needs no device.
"""

from valuelab.runs import ahead_of_time, flags

parse = ahead_of_time.parse

if __name__ == "__main__":
    flags.run(ahead_of_time.main, parse)
