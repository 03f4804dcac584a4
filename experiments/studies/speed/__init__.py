"""The speed of agents, flow critics and the solver of MDPs, relative to a reference in the same process."""
