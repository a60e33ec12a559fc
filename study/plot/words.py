"""The words of the vocabulary that are curves: profile, depth, factors, spectrum, training."""

from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot import expected
from study.plot.frames import FACTORS, ROLES, decades, need, read
from study.plot.lines import curves
from study.plot.rows import dots
from study.statistics.summaries import NETWORK, VARIED

Theory: TypeAlias = bool | pd.DataFrame | None
Drawn: TypeAlias = Axes | sns.FacetGrid


def profile(
    df: pd.DataFrame | str | Path, y: str = "log10_grad_norm", theory: Theory = None, **look: Any
) -> Drawn:
    """Draw a norm against layer: median over seeds, its 95 % interval as a band or bars.

    Parameters
    ----------
    df : frame of `study.profile`, `study.backpropagate` or `study.torch.profile`, or a CSV's path
    y : the column drawn, norms as log10
    theory : True draws what theory expects, log10_grad_norm alone; or a DataFrame of lines
    **look : hue, style, col, row and the rest of `study.plot.curves`; what is returned, too

    Examples
    --------
    >>> import study
    >>> nets = [study.Network(name, 50, 64, sigma_w=1.0) for name in ("relu", "sigmoid")]
    >>> ax = study.plot.profile(study.profile(nets, seeds=range(5)), hue="activation", theory=True)
    >>> ax.get_xlabel()
    'layer $k$, input to output'
    """
    df = read(df)
    if "name" in df and "layer" in df:  # of torch: a row a parameter
        df = df[df["layer"] >= 0].assign(parameter=df["name"].str.rpartition(".")[2])
        look.setdefault("hue", "parameter")
    if theory is True:
        theory = expected.lines(df, expected.profile, ["depth", "width"], _mapped(look))
    return curves(df, "layer", y, theory=theory, **{"floats": True} | look)


def depth(
    df: pd.DataFrame | str | Path, y: str = "decades", theory: Theory = None, **look: Any
) -> Drawn:
    """Draw what reaches the input against depth.

    Parameters
    ----------
    df : frame of networks of several depths: layers, or one row a network and seed
    y : "decades" gained from output to input, found from the factors of a frame with layers; or a
        column, of a frame with layers that of layer 0
    theory : True draws the decades that theory expects; or a DataFrame of lines
    **look : hue, style, col, row and the rest of `study.plot.curves`

    Examples
    --------
    >>> import study
    >>> nets = [study.Network(name, depth, 32) for name in ("relu", "tanh") for depth in (5, 10)]
    >>> study.plot.depth(study.profile(nets, range(3)), hue="activation").get_xlabel()
    'depth (layers)'
    """
    df = read(df)
    if y == "decades" and y not in df:
        df = decades(df)
    elif "layer" in df:
        df = df[df["layer"] == 0]
    if theory is True:
        need(df, ["depth"])
        depths = expected.places(1, df["depth"].max())
        theory = expected.lines(
            df.drop(columns="depth"),
            lambda net: {"depth": depths, y: expected.gained(net, depths)},
            ["width"],
            _mapped(look),
        )
    return curves(df, "depth", y, theory=theory, **{"floats": True} | look)


def factors(
    df: pd.DataFrame | str | Path, per: str = "layer", theory: Theory = None, **look: Any
) -> Drawn:
    """Draw what the derivative did to the gradient, what the weights did, and both.

    Parameters
    ----------
    df : any frame with log10_derivative_factor and log10_weight_factor
    per : "layer": decades a layer against the layer; "network": their mean over the layers, a row
        a value of ``y`` (by default activation)
    theory : True draws mean field's 1/2 log10 E phi'^2 and log10 sigma_w
    **look : the rest of `study.plot.curves` or `study.plot.dots`; the hue is the factor

    Examples
    --------
    >>> import study
    >>> df = study.profile(study.Network("sigmoid", 20, 32, sigma_w=1.0), range(3))
    >>> ax = study.plot.factors(df, theory=True)
    """
    if per not in ("layer", "network"):
        raise ValueError(f"per = {per!r}; allowed: layer, network")
    df = read(df)
    need(df, FACTORS)
    mapped = _mapped(look)
    if theory:
        theory = expected.lines(df, expected.factors, ["depth"], mapped)
        theory = _by_factor(theory, mapped, per)
    shown = _by_factor(df, mapped, per)
    look = {"hue": "factor", "theory": theory} | look
    if per == "layer":
        return curves(shown, "layer", "decades_a_layer", **look)
    return dots(shown, "decades_a_layer", **{"y": "activation"} | look)


def _by_factor(df: pd.DataFrame, mapped: list[str], per: str) -> pd.DataFrame:
    """A row a factor: the derivative's, the weights', and of both; of all layers or their mean."""
    keys = [name for name in dict.fromkeys([*VARIED, "seed", "layer", *mapped]) if name in df]
    parts = {"derivative": df[FACTORS[0]], "weights": df[FACTORS[1]]}
    parts["both"] = parts["derivative"] + parts["weights"]
    frames = [df[keys].assign(factor=part, decades_a_layer=parts[part]) for part in parts]
    if per == "layer":
        return pd.concat(frames)
    keys = [*(name for name in keys if name != "layer"), "factor"]
    return pd.concat(frames).groupby(keys, sort=False, as_index=False).decades_a_layer.mean()


def spectrum(df: pd.DataFrame | str | Path, x: str = "rank", **look: Any) -> Drawn:
    """Draw the singular values of a Jacobian, as log10, by rank, or against depth with x="depth".

    Parameters
    ----------
    df : columns log10_s_1, log10_s_2, ..., or rank and log10_singular_value
    **look : theory as a DataFrame of lines, and the rest of `study.plot.curves`

    Examples
    --------
    >>> df = pd.DataFrame({"depth": [10], "seed": [0], "log10_s_1": [0.2], "log10_s_2": [-1.5]})
    >>> spectrum(df).get_xlabel()
    'rank $k$'
    """
    df = read(df)
    y = "log10_singular_value"
    wide = [name for name in df if str(name).startswith("log10_s_")]
    if wide:
        keys = [name for name in df if name in (*NETWORK, "seed", *_mapped(look))]
        df = df.melt(keys, wide, var_name="rank", value_name=y)
        df["rank"] = df["rank"].str.removeprefix("log10_s_").astype(int)
    return curves(df, x, y, **look)


def training(df: pd.DataFrame | str | Path, y: str = "loss", **look: Any) -> Drawn:
    """Draw loss, accuracy or a norm against the step of training.

    Parameters
    ----------
    df : columns step and y: a log of `study.engines.training`, a frame of `study.torch.watch`
    y : the column drawn
    **look : hue, style, col, row and the rest of `study.plot.curves`

    Examples
    --------
    >>> df = pd.DataFrame({"step": [0, 10, 20], "loss": [2.3, 1.1, 0.6]})
    >>> training(df, log="y").get_yscale()
    'log'
    """
    return curves(read(df), "step", y, **look)


def _mapped(look: dict) -> list[str]:
    """The columns that a call maps, without those that `factors` makes."""
    names = dict.fromkeys(look.get(role) for role in ROLES)
    return [name for name in names if name not in (None, "factor")]
