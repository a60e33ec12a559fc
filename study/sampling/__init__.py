"""Random weights by counter, uniform frames, what the networks of a seed share, digits."""
