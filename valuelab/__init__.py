"""valuelab: value learning in JAX, from offline data.

The parts, in the order in which they import one another (BUILD.md draws it):

    types, errors, ops <- networks <- critics, policies <- agents <- training, evaluation <- experiments

with `data` and `environments` beside them, reached through `types` alone.
"""

__version__ = "0.1.0"
