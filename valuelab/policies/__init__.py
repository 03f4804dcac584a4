"""How actions are drawn from a value function."""
