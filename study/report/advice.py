"""What would keep the gradient of a network: another weight scale, width, or neither."""

from __future__ import annotations

import math

import numpy as np

from study.core.network import Network
from study.report.summary import KEPT, Summary
from study.theory.maps import trajectory

_AIM = KEPT - 0.5  # decades, so that a width just large enough has some to spare


def advice(found: Summary, best: Summary, net: Network, critical: float) -> str:
    """Say in a sentence what would keep the gradient.

    Parameters
    ----------
    found : what the network does
    best : what the same network does at the critical sigma_w
    net : the network
    critical : the sigma_w at which chi = 1
    """
    if found.verdict == "keeps":
        return "nothing, the gradient is kept"
    scale = "" if net.sigma_w == critical else "--sigma-w critical"
    there = f"{best.change[0]:+.3g} decades"
    if best.verdict == "keeps":
        return f"{scale}: the gradient of the same networks is then kept ({there})"
    then = f"{scale}, which leaves {there}, and " if scale else ""
    if best.verdict == "is dead":
        then = f"{scale} and " if scale else ""
        return f"{then}a larger --width: in so narrow a layer all units fall silent"
    chi = trajectory(net.activation, critical, net.sigma_b, net.depth).chi
    wide = float(np.log10(chi).sum() / 2)  # decades at infinite width
    if abs(wide) >= _AIM:
        return f"{then}fewer layers or residual connections: no width would keep it"
    # What finite width adds is in proportion to 1 / width.
    needed = net.width * (best.change[0] - wide) / (math.copysign(_AIM, best.change[0]) - wide)
    unit = 10 ** max(0, math.floor(math.log10(needed)) - 1)  # two digits are known, if that
    needed = math.ceil(needed / unit) * unit
    return f"{then}--width {needed} or more: the rest is of finite width, and falls as 1 / width"
