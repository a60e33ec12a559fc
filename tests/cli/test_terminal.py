"""The plot in the terminal: every mark where the number is, on any terminal."""

import io
import re

import numpy as np
import pandas as pd
import pytest

from study.cli import terminal
from study.cli.terminal import Screen, plot, screen

NONE = pd.Series(dtype=float)
SCREENS = [Screen(w, b, c) for w in (60, 80, 120) for b in (True, False) for c in (True, False)]
ABOUT = {"band": "lowest to highest of 10 seeds", "theory": "theory, infinite width"}


def layers(median, spread=0.0):
    median = np.asarray(median, float)
    names = {"layer": np.arange(len(median)), "median": median}
    return pd.DataFrame(names | {"low": median - spread, "high": median + spread})


def plain(text):
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def canvas(text):
    """What lies between the axes, a string a row, and log10 of the norm in each row."""
    lines = [re.match(r" *([-\d,.]*)[│┤|](.*)[│|]$", line) for line in plain(text).splitlines()]
    lines = [line for line in lines if line]
    known = [(i, float(line[1].replace(",", ""))) for i, line in enumerate(lines) if line[1]]
    slope, start = np.polyfit(*zip(*known, strict=True), 1)
    return [line[2] for line in lines], start + slope * np.arange(len(lines))


@pytest.mark.parametrize("on", SCREENS, ids=str)
@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-627, 0.3, 1000),
        np.linspace(0, -6270, 10_000)[::-1],
        65 - np.linspace(0, 65, 50),
        np.full(300, -151.0),
        20 * np.sin(np.arange(200) / 15),
    ],
    ids=["vanishes", "deep", "explodes", "flat", "waves"],
)
def test_the_line_is_where_the_numbers_are_and_no_line_is_too_long(on, values):
    text = plot(layers(values), NONE, {}, on)
    assert max(map(len, plain(text).splitlines())) <= on.width
    rows, heights = canvas(text)
    line = re.compile("[⠁-⣿]" if on.braille else r"\*")
    for column in range(len(rows[0])):
        marked = [i for i, row in enumerate(rows) if line.match(row[column])]
        if any(c.isalnum() for row in rows for c in row[column]):
            continue  # the name of a float's end lies there
        assert marked
        expected = np.interp(column / (len(rows[0]) - 1) * (len(values) - 1),
                             np.arange(len(values)), values)  # fmt: skip
        assert np.abs(heights[marked] - expected).min() <= 1.6 * abs(heights[1] - heights[0])


@pytest.mark.parametrize("on", SCREENS, ids=str)
def test_colour_adds_nothing_but_colour_and_a_dumb_terminal_gets_ascii(on):
    values = np.where(np.arange(100) < 30, -np.inf, np.linspace(-400, 0, 100))
    theory = pd.Series([-400.0, -200.0, np.nan], [0, 50, 99])
    text = plot(layers(values, 3.0), theory, ABOUT, on)
    assert ("\x1b" in text) == on.colour
    assert plain(text) == plot(layers(values, 3.0), theory, ABOUT, on._replace(colour=False))
    assert on.braille or text.isascii()
    rows, _ = canvas(text)
    assert 15 <= rows[-1].count("x") <= 0.3 * len(rows[0]) + 2
    assert sum(row.count("o") for row in rows) >= 2
    words = " ".join(plain(text).split())
    for word in ("median", *ABOUT.values(), "exactly zero", "float32 ends: 1e-38",
                 "float64 ends: 1e-308", "layer: 0 at the input, 99 at the output"):  # fmt: skip
        assert word in words


@pytest.mark.parametrize("values", [[0.5], [-np.inf], [np.nan, np.nan], [1e300, -1e300]])
def test_any_profile_has_a_plot(values):
    for on in SCREENS:
        assert len(plot(layers(values), NONE, {}, on).splitlines()) >= terminal.ROWS


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"COLUMNS": "100"}, Screen(100, True, True)),
        ({"COLUMNS": "1000"}, Screen(120, True, True)),
        ({"COLUMNS": "20", "NO_COLOR": "1"}, Screen(60, True, False)),
        ({"COLUMNS": "no", "TERM": "dumb"}, Screen(80, False, False)),
    ],
)
def test_what_a_terminal_can_show(environment, expected):
    assert screen(Terminal(), environment) == expected
    assert screen(io.StringIO(), environment).colour is False
