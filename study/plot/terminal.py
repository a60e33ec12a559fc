"""A profile as text: the gradient's norm against the layer, for a terminal of any kind.

A character is two dots wide and four high where the terminal has the braille letters, else it is
one dot. Nothing is said by colour alone.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Mapping
from typing import NamedTuple, TextIO

import numpy as np
import pandas as pd

from study.plot.floats import decades

ROWS = 15
WIDTHS = (60, 120)
"""Characters in a line, the fewest and the most."""
ENDS = {name: decades(name) for name in ("float32", "float64")}

_LEFT = 8  # characters for the numbers of the axis, and the axis
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a braille letter
_COLOURS = {"median": "1;36", "band": "36", "theory": "33", "float": "31", "dead": "31"}


class Screen(NamedTuple):
    """What a terminal can show."""

    width: int
    braille: bool
    colour: bool


def screen(stream: TextIO, environment: Mapping[str, str]) -> Screen:
    """What the terminal, file or pipe behind a stream can show.

    Parameters
    ----------
    stream : where the text is going to be written
    environment : ``COLUMNS`` sets the width, ``TERM=dumb`` asks for ASCII, ``NO_COLOR`` for no
        colour (no-color.org)

    Examples
    --------
    >>> import io
    >>> screen(io.StringIO(), {"TERM": "dumb"})
    Screen(width=80, braille=False, colour=False)
    """
    terminal, dumb = stream.isatty(), environment.get("TERM") == "dumb"
    width = environment.get("COLUMNS", "")
    if width.isdecimal():
        width = int(width)
    else:
        width = shutil.get_terminal_size().columns if terminal else 80
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    colour = terminal and not dumb and not environment.get("NO_COLOR")
    return Screen(int(np.clip(width, *WIDTHS)), encoding == "utf8" and not dumb, colour)


def plot(layers: pd.DataFrame, theory: pd.DataFrame, about: Mapping[str, str], on: Screen) -> str:
    """Draw the norm of every layer: the median as a line, the band about it, theory as marks.

    The axis includes 1, the norm of the gradient at the output; a broken line is where the normal
    range of a float ends.

    Parameters
    ----------
    layers : columns layer (0, 1, ...), median, low and high, log10 of the norm; -inf where it is 0
    theory : columns layer and value, log10 of the norm; may be empty
    about : what ``band`` and ``theory`` are, in words; without ``band`` there is none
    on : what the terminal can show

    Returns
    -------
    Lines of at most ``on.width`` characters, colours not counted.

    Examples
    --------
    >>> k = np.arange(4)
    >>> layers = pd.DataFrame({"layer": k, "median": 9.0 * k, "low": 9.0 * k, "high": 9.0 * k})
    >>> none = pd.DataFrame({"layer": [], "value": []})
    >>> print("\\n".join(plot(layers, none, {}, Screen(60, False, False)).splitlines()[:4]))
    log10 of the norm of dC/dW, by layer
           |
         25|                                                ****
           |                                            ****
    """
    canvas = _Canvas(layers, theory, on)
    canvas.float_ranges()
    if "band" in about:
        canvas.band(layers)
    canvas.median(layers)
    canvas.theory(theory)
    canvas.float_names()
    legend = [("⣀⣀" if on.braille else "**", "median", "median")]
    if "band" in about:
        legend.append(("⠅⠅" if on.braille else "::", "band", about["band"]))
    if len(theory):
        legend.append(("o", "theory", about["theory"]))
    if canvas.dead.any():
        legend.append(("x", "dead", "exactly zero"))
    head = "log10 of the norm of dC/dW, by layer"
    return "\n".join([head, *canvas.rows(), *canvas.axis(), *_legend(legend, on)])


class _Canvas:
    """Characters with a style each; what is drawn later lies on top."""

    def __init__(self, layers: pd.DataFrame, theory: pd.DataFrame, on: Screen) -> None:
        self.on, self.columns = on, on.width - _LEFT
        self.high, self.wide = (4, 2) if on.braille else (1, 1)
        self.text = np.full((ROWS, self.columns), " ")
        self.style = np.full((ROWS, self.columns), "", dtype=object)
        self.last = int(layers["layer"].max())
        place = np.linspace(0, self.last, self.columns).round().astype(int)
        self.dead = ~np.isfinite(layers["median"].to_numpy()[place])
        shown = [layers[["median", "low", "high"]].to_numpy().ravel(), theory["value"], [0.0]]
        shown = np.concatenate(shown).astype(float)
        shown = shown[np.isfinite(shown)]
        span = shown.max() - shown.min()
        spare = max(0.04 * span, 1 - span / 2)  # two decades at least
        self.bottom, self.top = shown.min() - spare, shown.max() + spare

    def dots(self, values: np.ndarray) -> np.ndarray:
        """The rows of dots, counted from the top, of some values; nan remains."""
        share = (self.top - values) / (self.top - self.bottom)
        return np.round(np.clip(share, 0, 1) * (ROWS * self.high - 1))

    def row(self, value: float) -> int:
        """The row of characters of a value."""
        return int(self.dots(np.array(value))) // self.high

    def curve(self, values: pd.Series, zero: float = math.nan) -> np.ndarray:
        """The row of dots of a curve in every column of dots; `zero` stands for -inf."""
        values = np.where(np.isfinite(values), values, zero)
        at = np.linspace(0, self.last, self.columns * self.wide)
        return self.dots(np.interp(at, np.arange(len(values)), values))

    def fill(self, dots: np.ndarray, mark: str, style: str) -> None:
        """Add an array of dots to those that are there; without braille `mark` stands for one."""
        cells = dots.reshape(ROWS, self.high, self.columns, self.wide).swapaxes(1, 2)
        for row, column in zip(*np.nonzero(cells.any(axis=(2, 3))), strict=True):
            if self.on.braille:
                here = max(0, ord(self.text[row, column]) - 0x2800)
                mark = chr(0x2800 | here | int(_BITS[cells[row, column]].sum()))
            self.text[row, column], self.style[row, column] = mark, style

    def float_ranges(self) -> None:
        """A broken line at each end of a format's range."""
        self.names = {}
        for name, ends in ENDS.items():
            for end in ends:
                if self.bottom < end < self.top:
                    row = self.row(end)
                    self.text[row], self.style[row] = "┄" if self.on.braille else "-", "float"
                    self.names[row] = f" {name} ends: 1e{end:+.0f} "

    def float_names(self) -> None:
        """Their names, as far to the right as there is room; a line that has none goes without."""
        for row, name in self.names.items():
            free = "".join("." if style == "float" else "#" for style in self.style[row])
            start = free.rfind("." * len(name))
            if start >= 0:
                self.text[row, start : start + len(name)] = list(name)

    def band(self, layers: pd.DataFrame) -> None:
        """One dot in four, so that the median stands out."""
        top, bottom = self.curve(layers["high"]), self.curve(layers["low"], self.bottom)
        y, x = np.mgrid[: ROWS * self.high, : top.size]
        sparse = (y % 2 == 0) & (x % 2 == 0) | (not self.on.braille)
        self.fill((top <= y) & (y <= bottom) & sparse, ":", "band")

    def median(self, layers: pd.DataFrame) -> None:
        """A line; where it is steep, from beside the dot before to its own."""
        here = self.curve(layers["median"])
        before = np.append(here[:1], here[:-1])
        before = np.where(np.isnan(before), here, before)
        top = np.where(here > before, before + 1, here)
        bottom = np.where(here < before, before - 1, here)
        y = np.arange(ROWS * self.high)[:, None]
        self.fill((top <= y) & (y <= bottom), "*", "median")
        self.text[-1, self.dead], self.style[-1, self.dead] = "x", "dead"

    def theory(self, theory: pd.DataFrame) -> None:
        """A mark for each layer that is given."""
        known = theory[["layer", "value"]].to_numpy(float)
        known = known[np.isfinite(known[:, 1])]
        rows = [self.row(value) for value in known[:, 1]]
        columns = (known[:, 0] / max(self.last, 1) * (self.columns - 1)).round().astype(int)
        self.text[rows, columns], self.style[rows, columns] = "o", "theory"

    def rows(self) -> list[str]:
        """The canvas, with the numbers to its left."""
        ticks = {self.row(y): y for y in _ticks(self.bottom, self.top)}
        side, found = "│" if self.on.braille else "|", []
        for row in range(ROWS):
            label = f"{ticks[row]:,g}" if row in ticks else ""
            cells = zip(self.style[row], self.text[row], strict=True)
            runs = itertools.groupby(cells, key=lambda cell: cell[0])
            painted = [_paint("".join(c for _, c in run), style, self.on) for style, run in runs]
            found.append(f"{label:>{_LEFT - 1}}{side}{''.join(painted)}".rstrip())
        return found

    def axis(self) -> list[str]:
        """What stands below the canvas."""
        corner, under = ("└", "─") if self.on.braille else ("+", "-")
        numbers = [" "] * self.on.width
        for layer in _ticks(0, self.last, least=1.0):
            text = f"{layer:,g}"
            centre = _LEFT + round(layer / max(self.last, 1) * (self.columns - 1))
            start = min(centre - len(text) // 2, len(numbers) - len(text))
            numbers[start : start + len(text)] = list(text)
        about = f"layer: 0 at the input, {self.last:,} at the output" if self.last else "layer"
        return [
            " " * (_LEFT - 1) + corner + under * self.columns,
            "".join(numbers).rstrip(),
            " " * _LEFT + about,
        ]


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Four to eight multiples of 1, 2 or 5 times a power of ten, which is `least` or more."""
    if low == high:
        return [low]
    quarter = (high - low) / 4
    step = 10.0 ** math.floor(math.log10(quarter))
    step = max(least, *(step * m for m in (1, 2, 5) if step * m <= quarter))
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _paint(text: str, style: str, on: Screen) -> str:
    """Text in the colour of its style, if there are colours."""
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if on.colour and style else text


def _legend(entries: list[tuple[str, str, str]], on: Screen) -> list[str]:
    """Entries (mark, style, words) side by side as far as they fit."""
    lines, used = [], on.width
    for mark, style, words in entries:
        text, length = f"{_paint(mark, style, on)} {words}", len(mark) + 1 + len(words)
        if used + 3 + length > on.width:
            lines.append(text)
            used = length
        else:
            lines[-1] += f"   {text}"
            used += 3 + length
    return lines
