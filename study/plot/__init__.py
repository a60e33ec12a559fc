"""Frames to figures: drawing only. Nothing here computes a number or reads a file."""
