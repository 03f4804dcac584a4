"""How fast agents, flow critics and the solver of MDPs are, as ratios to a reference in the same process."""
