"""How features of observations are learnt, whatever acts: what successor features are made of."""
