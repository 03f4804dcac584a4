"""How a value function is learnt."""
