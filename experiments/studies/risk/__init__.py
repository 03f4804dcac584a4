"""Risk-sensitive control: exact solutions and D-eta-N, compared with other methods."""
