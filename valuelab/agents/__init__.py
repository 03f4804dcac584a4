"""Whole algorithms: short files that compose critics and policies."""
