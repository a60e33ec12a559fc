"""What an experiment's claims come to on given tables."""

import numpy as np

from study.statistics.claims import verdict


def verdicts(experiment, tables):
    """The verdict of every claim, by its name."""
    with np.errstate(all="ignore"):
        return {
            claim.name: verdict(claim.judge(tables), claim.threshold, claim.negligible)
            for claim in experiment.claims
        }


def named(found, value):
    """The claims with that verdict."""
    return {name for name, verdict in found.items() if verdict == value}
