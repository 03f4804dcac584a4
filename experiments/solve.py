r"""Solves a finite MDP for an objective of its return distribution, exactly or with a bound on the error.

    python -m experiments.solve --problem=NAME --objective=cvar --tau=0.1 --workdir=OUT
    python -m experiments.solve --mdp=FILE.npz --discount=0.95 --objective=target --target=3 --workdir=OUT

The file holds transitions [S, A, S], rewards [S, A, S] or [S, A, S, m] and, optionally, terminal [S] bool.
The program writes config.json, result.json, arrays.npz and, with matplotlib, policy.png, distributions.png
and, for objectives with a level or a target, tradeoff.png into OUT. The same command again says that it is
done.
"""

from valuelab.runs import flags, solving

parse = solving.parse

if __name__ == "__main__":
    flags.run(solving.main, parse)
