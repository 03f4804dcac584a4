"""Feature learners: the features of observations that successor features sum."""
