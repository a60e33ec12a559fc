"""Estimates, intervals, claims and verdicts."""
