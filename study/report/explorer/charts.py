"""The charts of the explorer: specified by Altair, compiled to what Vega draws.

Data and colours come from the page: datasets by name, parameters by name.

========  ===================================
chart     datasets; parameters
========  ===================================
profile   rows, zones; colour, bottom, top
formats   shown
factors   rows; colour
phase     networks, chosen, cursor; letters
========  ===================================

A row of ``rows`` has the columns of the atlas's table layers; one of ``networks`` those of its
table networks.
"""

from __future__ import annotations

import math
from typing import Any

from matplotlib.colors import to_hex

from study.plot.style import DECADES

SHOWN = {"ok": "#cfd8dc", "0": "#0b2a5b", "inf": "#c2410c"}
"""What a plain run shows of a layer's gradient norm, and the colour of that."""
THEORY, WEIGHT = "#111111", "#767676"
_AXIS = 58  # pixels to the left of every chart over layers, so that layers stand beneath layers
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"


def compiled(largest: float) -> dict[str, Any]:
    """Every chart as a Vega specification, by name.

    Parameters
    ----------
    largest : decades at the ends of the colour scale of the phase map

    Raises
    ------
    ImportError
        When Altair or vl-convert is not installed.
    """
    import vl_convert

    charts = {
        "profile": _profile(),
        "formats": _formats(),
        "factors": _factors(),
        "phase": _phase(largest),
    }
    return {name: vl_convert.vegalite_to_vega(_finished(chart)) for name, chart in charts.items()}


def library() -> str:
    """What draws Vega's specifications, as a script without dependencies: ``vegaEmbed``."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _finished(chart: Any) -> dict[str, Any]:
    text = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    own = {"labelColor": "#333333", "titleColor": "#333333"}
    done = chart.properties(width="container", background="transparent").configure(
        font=_FONT,
        aria=False,  # the page describes each chart in words and shows the rows as a table
        legend={**own, "titleFontWeight": "normal", "titleFontSize": 11},
        axis={**text, **own, "gridColor": "#e5e7eb", "domainColor": "#9ca3af"},
        view={"stroke": None},
        autosize={"type": "fit-x", "contains": "padding"},
    )
    return done.to_dict()


def _named(chart: Any, name: str) -> Any:
    """Its marks are then ``<name>_marks``, to be found in the page."""
    return chart.properties(name=name)


def _layers(**axis: Any):
    import altair as alt

    scale = alt.Scale(nice=False, zero=False, padding=6)
    own = {"title": "layer k, input → output", "grid": False, "tickMinStep": 1, "labelFlush": 8}
    return alt.X("layer:Q", scale=scale, axis=alt.Axis(**own | axis))


def _decades(field: str, title: str, **scale: Any):
    import altair as alt

    above = {"titleAngle": 0, "titleAlign": "left", "titleX": -_AXIS, "titleY": -12}
    axis = alt.Axis(minExtent=_AXIS, maxExtent=_AXIS, tickCount=6, format=",~r", **above)
    return alt.Y(field, title=title, axis=axis, scale=alt.Scale(nice=False, zero=False, **scale))


def _profile():
    import altair as alt

    params = [alt.param(name=n, value=v) for n, v in (("bottom", -1), ("top", 1))]
    params.append(alt.param(name="colour", value="#000000"))
    colour = alt.ExprRef("colour")
    ends = {"domainMin": alt.ExprRef("bottom"), "domainMax": alt.ExprRef("top")}
    x, title = _layers(), "log₁₀ ‖dC/dW⁽ᵏ⁾‖"
    rows = alt.Chart(alt.NamedData("rows"))
    zones = (
        alt.Chart(alt.NamedData("zones"))
        .mark_rect(clip=True)
        .encode(
            y=_decades("from:Q", title, **ends),
            y2="to:Q",
            color=alt.Color("grey:N", scale=None),
        )
    )
    names = (
        alt.Chart(alt.NamedData("zones"))
        .mark_text(align="left", dx=6, fontSize=11, color="#4b5563", clip=True)
        .encode(y=_decades("at:Q", title, **ends), x=alt.value(0), text="name:N")
    )
    band = rows.mark_area(color=colour, opacity=0.22, clip=True).encode(
        x=x, y=_decades("low:Q", title, **ends), y2="high:Q"
    )
    theory = rows.mark_line(color=THEORY, strokeDash=[6, 4], strokeWidth=1.4, clip=True).encode(
        x=x, y=_decades("theory:Q", title, **ends)
    )
    median = _decades("median:Q", title, **ends)
    line = rows.mark_line(color=colour, strokeWidth=2, clip=True).encode(x=x, y=median)
    marks = rows.mark_point(color=colour, filled=True, size=42, opacity=1).encode(
        x=x, y=median, tooltip="words:N"
    )
    layers = (zones, names, _named(band, "band"), _named(theory, "theory"), line)
    chart = alt.layer(*layers, _named(marks, "median")).add_params(*params)
    return chart.properties(height=270)


def _formats():
    import altair as alt

    scale = alt.Scale(domain=list(SHOWN), range=list(SHOWN.values()))
    axis = alt.Axis(minExtent=_AXIS, maxExtent=_AXIS, title=None, ticks=False, domain=False)
    return (
        alt.Chart(alt.NamedData("shown"))
        .mark_rect(stroke="white", strokeWidth=1, height={"band": 0.8})
        .encode(
            x=_layers(title=None, labels=False, ticks=False, domain=False),
            x2="end:Q",
            y=alt.Y("format:N", axis=axis),
            color=alt.Color("shows:N", scale=scale, legend=None),
            tooltip="words:N",
        )
        .properties(height=64)
    )


def _factors():
    import altair as alt

    rows = alt.Chart(alt.NamedData("rows"))
    title = "decades of ‖dC/dr‖, from the output down"
    derivative = _decades("derivative:Q", title)
    colour = alt.ExprRef("colour")
    one = rows.mark_line(color=colour, strokeWidth=2, point={"color": colour, "filled": True})
    two = rows.mark_line(
        color=WEIGHT, strokeWidth=2, point={"color": WEIGHT, "filled": True, "shape": "square"}
    )
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="#9ca3af")
    return (
        alt.layer(
            zero.encode(y=_decades("zero:Q", title)),
            _named(one.encode(x=_layers(), y=derivative), "derivative"),
            _named(two.encode(x=_layers(), y=_decades("weight:Q", title)), "weight"),
        )
        .add_params(alt.param(name="colour", value="#000000"))
        .properties(height=190)
    )


def _phase(largest: float):
    import altair as alt

    # Evenly spaced on the scale's own, symmetric logarithm.
    half = math.sqrt(1 + largest) - 1
    scale = alt.Scale(
        type="symlog",
        domain=[-largest, -half, 0, half, largest],
        range=[to_hex(DECADES(part)) for part in (0.0, 0.25, 0.5, 0.75, 1.0)],
        interpolate="rgb",
    )
    x = alt.X(
        "sigma_w:O",
        title="weight scale σ_w",
        axis=alt.Axis(format=".4~g", labelAngle=-45, ticks=False, domain=False),
    )
    y = alt.Y(
        "depth:O",
        title="depth (layers)",
        sort="descending",
        axis=alt.Axis(format=",d", ticks=False, domain=False),
    )
    legend = alt.Legend(
        title="decades of ‖dC/dr‖ gained (+) or lost (−)",
        titleLimit=400,
        orient="bottom",
        gradientLength=alt.ExprRef("max(120, width - 20)"),
        gradientThickness=10,
        values=[-largest, -10, 0, 10, largest],
        labelExpr="(datum.value > 0 ? '+' : '') + format(datum.value, ',d')",
    )
    squares = alt.Chart(alt.NamedData("networks")).encode(x=x, y=y)
    fill = squares.mark_rect(cursor="pointer", stroke="white", strokeWidth=1).encode(
        color=alt.Color("gain:Q", scale=scale, legend=legend), tooltip="words:N"
    )
    text = squares.mark_text(fontSize=alt.ExprRef("letters"), cursor="pointer").encode(
        text="label:N",
        color=alt.condition("datum.dark", alt.value("white"), alt.value("black")),
        tooltip="words:N",
    )

    def outlined(data: str, **stroke: Any):
        mark = {"filled": False, "fill": "transparent", "cursor": "pointer", **stroke}
        return alt.Chart(alt.NamedData(data)).mark_rect(**mark).encode(x=x, y=y)

    return (
        alt.layer(
            _named(fill, "squares"),
            text,
            outlined("chosen", stroke="#d0021b", strokeWidth=3),
            outlined("cursor", stroke="#111111", strokeWidth=2, strokeDash=[4, 3]),
        )
        .add_params(alt.param(name="letters", value=10))
        .properties(height=alt.Step(36))
    )
