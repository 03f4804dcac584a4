"""How good a policy is: rollouts, statistics, pictures."""
