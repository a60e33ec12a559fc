"""What the numbers of networks must obey, layer by layer, whoever computed them."""

from study.runs.identities.columns import TOLERANCE, check, differ
from study.runs.identities.walks import Walks, watched

__all__ = ["TOLERANCE", "Walks", "check", "differ", "watched"]
