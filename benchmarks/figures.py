"""The benchmarks' figures: wall time beside a rival, and of the largest jobs."""

import pandas as pd
from matplotlib.figure import Figure

import study


def ratios(tables: dict[str, pd.DataFrame]) -> Figure:
    """The rival's wall time over the study's, job by job: to the right of 1 the study is faster.

    The rival is torch's autograd on the norms of dC/dW alone or, where the label says so, the
    machine's limit of bare draws and matrix products. Median of pairwise ratios, in one run.
    """
    table = tables["bench"]
    jobs = table.assign(
        label=[
            f"{row.job}, {row.dtype}, width {row.width}, depth {row.depth}, batch {row.batch}"
            for row in table.itertuples()
        ]
    )
    figure, [[ax]] = study.plot.panels(1, 1, 0.14 * len(jobs) + 0.6)
    study.plot.dots(jobs[["label", "ratio"]], "ratio", "label", log=True, ax=ax)
    ax.set_xlabel("rival's time over the study's")
    return figure


def seconds(tables: dict[str, pd.DataFrame]) -> Figure:
    """Wall time of the largest jobs against depth: it is proportional to depth.

    One run each, float32, one example, weights drawn within it.
    """
    figure, [[ax]] = study.plot.panels(1, 1, 2.4)
    table = tables["capacity"]
    jobs = table.assign(job=[f"{row.job}, width {row.width:,}" for row in table.itertuples()])
    jobs = jobs[["job", "depth", "seconds"]]
    study.plot.curves(jobs, "depth", "seconds", hue="job", log="xy", legend=True, ax=ax)
    ax.set_ylabel("wall time (s)")
    return figure
