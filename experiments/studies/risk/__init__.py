"""Risk-sensitive control: exact solutions and D-eta-N against other methods."""
