"""Evaluation of policies: rollouts, statistics, diagnostics and plots."""
