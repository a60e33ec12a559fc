"""The contract of an experiment, the sweep, the cluster."""
