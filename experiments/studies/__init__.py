"""Experiments that answer one question each: flow critics, risk, speed, and adaptation to a new task."""
