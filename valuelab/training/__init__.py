"""The loop that trains every agent, with its mesh, checkpoints and logs."""

from valuelab.training.checkpoints import Checkpoints
from valuelab.training.loop import Interrupted, NonFiniteError, Run, Throughput, train
from valuelab.training.mesh import make_mesh

__all__ = ["Checkpoints", "Interrupted", "NonFiniteError", "Run", "Throughput", "make_mesh", "train"]
