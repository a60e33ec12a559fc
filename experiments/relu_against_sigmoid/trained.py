"""Networks of one width that learn to tell 5,000 MNIST digits, each arm at a rate of its own.

Arms are those of `study.engines.arms`; the rate of each is tuned on two seeds, others are judged.
"""

from typing import Any

import numpy as np
import pandas as pd

from study.engines import arms
from study.engines.arms import CHANCE, Arm

# Columns of `outcomes`.
COLUMNS = arms.COLUMNS | {
    "output": "as drawn: sigma_w = 1; rescaled: its weights times one number a network, so that "
    "outputs have unit mean square before training [-]",
    "log10_output_scale": "that number, 0 where the output is as drawn [log10]",
    "spread_before": "largest over smallest ‖dC/dW^(k)‖ of all layers but the output's, before "
    "training [log10]",
    "spread_after": "the same after training; nan where it diverged [log10]",
}


def outcomes(arm: Arm, steps: int, seeds: list[int], **tuning: Any) -> pd.DataFrame:
    """Tune an arm, train its seeds at that rate, and say what became of them: a row a seed."""
    course, rows = arm.judged(seeds, steps, layered=[0, steps], **tuning)
    hidden = course.layers[course.layers.layer < max(1, arm.depth - 1)]
    spread = hidden.groupby(["step", "network"]).log10_grad_norm.agg(_spread)
    spread = spread.unstack(0).reindex(rows.index, columns=[0, steps]).astype(float)
    about = {"activation": arm.activation, "sigma_w": arm.sigma_w, "depth": arm.depth}
    about["output"] = "as drawn" if arm.remedy == "none" else "rescaled"
    about["log10_output_scale"] = np.log10(arm.start(seeds)[1].astype(float))
    rows = rows.assign(
        accuracy=rows.accuracy.fillna(CHANCE), spread_before=spread[0], spread_after=spread[steps]
    )
    return pd.DataFrame(about, rows.index).join(rows)


def _spread(norms: pd.Series) -> float:
    """Decades between the layers; a true zero among others makes it infinite."""
    return norms.max() - norms.min() if norms.max() > -np.inf else np.nan
