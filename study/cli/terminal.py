"""A profile as text: the gradient's norm against the layer, on a terminal of any kind."""

import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd
import plotext

from study.plot.floats import decades

ROWS = 18
WIDTHS = (60, 120)  # characters in a line, the fewest and the most
_ASCII = str.maketrans("│┤├┼┌┐└┘─┬┴⣀·", "||||++++---*.")


class Screen(NamedTuple):
    """What a terminal can show."""

    width: int
    braille: bool
    colour: bool


def screen(stream: TextIO, environment: Mapping[str, str]) -> Screen:
    """What the terminal, file or pipe behind a stream can show.

    In the environment ``COLUMNS`` sets the width, ``TERM=dumb`` asks for ASCII, ``NO_COLOR`` for no
    colour (no-color.org).

    >>> import io
    >>> screen(io.StringIO(), {"TERM": "dumb"})
    Screen(width=80, braille=False, colour=False)
    """
    is_terminal = stream.isatty()
    is_dumb = environment.get("TERM") == "dumb"
    width = environment.get("COLUMNS", "")
    if width.isdecimal():
        columns = int(width)
    else:
        columns = shutil.get_terminal_size().columns if is_terminal else 80
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    colour = is_terminal and not is_dumb and not environment.get("NO_COLOR")
    return Screen(int(np.clip(columns, *WIDTHS)), encoding == "utf8" and not is_dumb, colour)


def plot(layers: pd.DataFrame, theory: pd.Series, about: Mapping[str, str], on: Screen) -> str:
    """Draw the norm of every layer: the median as a line, the band about it, theory as marks.

    The axis includes 1, the norm of the gradient at the output; a broken line is where the normal
    range of a float ends. ``layers`` has layer (0, 1, ...), median, low and high, log10 of the
    norm, -inf where it is 0; ``theory`` log10 of the norm, by layer, and may be empty; ``about``
    says what ``band`` and ``theory`` are, without ``band`` there is none. Lines have at most
    ``on.width`` characters, colours not counted.
    """
    norms = layers.set_index("layer")[["median", "low", "high"]]
    shown = np.array([0.0, *norms.to_numpy().ravel(), *theory])
    shown = shown[np.isfinite(shown)]
    margin = max(0.02 * np.ptp(shown), 1 - np.ptp(shown) / 2)  # two decades at least
    bottom = shown.min() - margin
    top = shown.max() + margin
    last = int(layers["layer"].max())
    figure = _canvas(on.width, last, bottom, top)

    # What is drawn later lies on top: ranges, band, median, theory, zeros.
    for name in ("float32", "float64"):
        for end in decades(name):
            if bottom < end < top:
                _draw(figure, [0, max(last, 1)], [end, end], "-", "red")
                _name_line(figure, norms["median"], end, f" {name} ends: 1e{end:+.0f} ")
    legend = ["⣀⣀ median"]
    if "band" in about:
        legend.append(f"·· {about['band']}")
        for bound in ("low", "high"):
            _draw(figure, norms.index, norms[bound], "·", "cyan")
    _draw(figure, norms.index, norms["median"], "braille" if on.braille else "*", "cyan+")
    if len(theory):
        legend.append(f"o {about['theory']}")
        _draw(figure, theory.index, theory, "o", "orange", joined=False)
    zero = norms.index[~np.isfinite(norms["median"])]
    if len(zero):
        legend.append("x exactly zero")
        _draw(figure, zero, [bottom] * len(zero), "x", "red", joined=False)

    text = figure.build().string()
    if not on.colour:
        text = plotext.uncolorize(text)
    where = f"layer: 0 at the input, {last:,} at the output" if last else "layer"
    words = textwrap.fill("   ".join(legend), on.width)
    rows = [line.rstrip() for line in text.splitlines()]
    drawn = "\n".join(["log10 of the norm of dC/dW, by layer", *rows, where, words])
    return drawn if on.braille else drawn.translate(_ASCII)


def _canvas(width: int, last: int, bottom: float, top: float) -> Any:
    """An empty figure of plotext."""
    plotext.terminal.limit(False, False)  # the width is ours to choose, also for a pipe
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, ROWS)
    figure.ruler(0).lim(0, max(last, 1))
    figure.ruler(1).lim(bottom, top)
    for ruler, low, high in ((figure.ruler(0), 0, last), (figure.ruler(1), bottom, top)):
        places = _ticks(low, high)
        ruler.ticks(places, [f"{place:,g}" for place in places])
    return figure


def _ticks(low: float, high: float) -> np.ndarray:
    """At most seven round whole numbers."""
    least = max((high - low) / 6, 1)
    power = 10.0 ** math.floor(math.log10(least))
    steps = power * np.array([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10])
    step = steps[(steps >= least) & (steps % 1 == 0)][0]
    return step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)


def _draw(
    figure: Any, x: Sequence, y: Sequence, symbol: str, colour: str, joined: bool = True
) -> None:
    """Add the points that are finite."""
    points = pd.Series(np.asarray(y, float), x)
    points = points[np.isfinite(points)]
    if len(points):
        marker = plotext.marker(symbol, colour)
        signal = figure.signal(points.index.tolist(), points.tolist(), marker=marker)
        signal.lines(joined)
        figure.draw(signal)


def _name_line(figure: Any, median: pd.Series, height: float, words: str) -> None:
    """Write on a horizontal line, at the end that is farther from the median."""
    distance = (median - height).abs()
    side = "left" if distance.iloc[0] > distance.iloc[-1] else "right"
    place = 0 if side == "left" else -1
    figure.draw(figure.text(median.index[place], height, words, alignment=side))
