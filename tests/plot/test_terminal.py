"""The plot in the terminal: every dot where the number is, on any terminal."""

import io
import math
import re

import numpy as np
import pandas as pd
import pytest

from study.plot import terminal
from study.plot.terminal import ENDS, ROWS, Screen, plot, screen

LEFT = 8
NONE = pd.DataFrame({"layer": [], "value": []})
DOTS = {0x01: (0, 0), 0x02: (1, 0), 0x04: (2, 0), 0x40: (3, 0),
        0x08: (0, 1), 0x10: (1, 1), 0x20: (2, 1), 0x80: (3, 1)}  # fmt: skip
SCREENS = [Screen(w, b, c) for w in (60, 80, 120) for b in (True, False) for c in (True, False)]


def layers(median, spread=0.0):
    median = np.asarray(median, float)
    return pd.DataFrame(
        {
            "layer": np.arange(len(median)),
            "median": median,
            "low": median - spread,
            "high": median + spread,
        }
    )


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def canvas(text, on):
    """What lies between the axes, a string a row, all of one length."""
    rows = plain(text).splitlines()[1 : 1 + ROWS]
    assert {row[LEFT - 1] for row in rows} == {"│" if on.braille else "|"}
    return [row[LEFT:].ljust(on.width - LEFT) for row in rows]


def dots(rows, on, mark="*"):
    """Where dots are, (rows, columns) of dots: decoded by the table of the Unicode standard."""
    if not on.braille:
        return np.array([[c == mark for c in row] for row in rows])
    found = np.zeros((4 * len(rows), 2 * len(rows[0])), bool)
    for i, row in enumerate(rows):
        for j, letter in enumerate(row):
            for bit, (y, x) in DOTS.items():
                found[4 * i + y, 2 * j + x] = "⠀" <= letter <= "⣿" and ord(letter) & bit
    return found


def scale(text):
    """log10 of the norm against the row: the line through the numbers at the axis."""
    rows = plain(text).splitlines()[1 : 1 + ROWS]
    known = [(i, float(row[: LEFT - 1].replace(",", ""))) for i, row in enumerate(rows)
             if row[: LEFT - 1].strip()]  # fmt: skip
    assert len(known) >= 3
    return np.polyfit(*zip(*known, strict=True), 1)


@pytest.mark.parametrize("on", [s for s in SCREENS if not s.colour], ids=str)
@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-627, 0.3, 1000),
        np.linspace(0, -6270, 10_000)[::-1],
        65 - np.linspace(0, 65, 50),
        np.full(300, -151.0),
        20 * np.sin(np.arange(200) / 15),
        [0.5],
    ],
    ids=["vanishes", "deep", "explodes", "flat", "waves", "one layer"],
)
def test_the_line_is_where_the_numbers_are(on, values):
    data = layers(values)
    text = plot(data, NONE, {}, on)
    found = dots(canvas(text, on), on)
    slope, start = scale(text)
    assert slope < 0
    high = 4 if on.braille else 1
    at = np.linspace(0, len(data) - 1, found.shape[1])
    expected = np.interp(at, data["layer"], data["median"])
    for column in range(found.shape[1]):
        own = np.flatnonzero(found[:, column])
        assert own.size, column
        # In characters: a tick is at most half of one off, a dot half a dot.
        where = (expected[column] - start) / slope
        here = ((own + 0.5) / high - 0.5) if on.braille else own
        assert np.abs(here - where).min() <= 1.1, (column, here, where)


@pytest.mark.parametrize("on", [Screen(60, True, False), Screen(60, False, False)])
def test_a_steep_line_has_no_gap(on):
    found = dots(canvas(plot(layers(-100.0 * (np.arange(20) % 2)), NONE, {}, on), on), on)
    for before, here in zip(found.T[:-1], found.T[1:], strict=True):
        low, high = np.flatnonzero(before).min(), np.flatnonzero(before).max()
        own = np.flatnonzero(here)
        assert own.size == own.max() - own.min() + 1
        assert own.min() <= high + 1
        assert own.max() >= low - 1
    assert (found.sum(axis=0) > 1).mean() > 0.5  # it is steep


@pytest.mark.parametrize("on", SCREENS, ids=str)
def test_no_line_is_too_long_and_colour_adds_nothing_but_colour(on):
    k = np.arange(400)
    data = layers(-k[::-1] * 1.0, spread=9.0)
    theory = pd.DataFrame({"layer": [0, 200, 399], "value": [-399.0, -199.0, 0.0]})
    about = {"band": "lowest to highest of 10 seeds", "theory": "theory, width 256"}
    text = plot(data, theory, about, on)
    assert max(map(len, plain(text).splitlines())) <= on.width
    assert text.isascii() or on.braille
    assert ("\x1b" in text) == on.colour
    bare = plot(data, theory, about, on._replace(colour=False))
    assert [line.rstrip() for line in plain(text).splitlines()] == bare.splitlines()
    assert "log10" in text
    assert "layer: 0 at the input, 399 at the output" in text
    for words in (*about.values(), "median"):
        assert words in text


@pytest.mark.parametrize("on", [Screen(80, True, False), Screen(80, False, False)])
def test_the_band_reaches_from_the_lowest_to_the_highest(on):
    data = layers(np.full(50, -10.0), spread=5.0)
    with_band = plot(data, NONE, {"band": "seeds"}, on)
    rows = canvas(with_band, on)
    found = dots(rows, on, ":") | dots(rows, on)
    slope, start = scale(with_band)
    high = 4 if on.braille else 1
    own = np.flatnonzero(found[:, 0]) / high
    assert own.min() == pytest.approx((-5 - start) / slope, abs=1)
    assert own.max() == pytest.approx((-15 - start) / slope, abs=1)
    data.loc[:20, "low"] = -np.inf  # in one seed a true zero
    found = canvas(plot(data, NONE, {"band": "seeds"}, on), on)
    assert all(row[0] != " " for row in found[-3:])
    without = plot(data, NONE, {}, on)
    found = dots(rows, on, ":") | dots(rows, on)
    assert dots(canvas(without, on), on).sum() < 0.5 * found.sum()


@pytest.mark.parametrize("on", [Screen(80, True, False), Screen(60, False, False)])
def test_marks_of_theory_lie_where_it_says(on):
    theory = pd.DataFrame({"layer": [0, 50, 99], "value": [-24.0, -6.0, -1.0]})
    text = plot(layers(np.linspace(-30, 0, 100)), theory, {"theory": "t"}, on)
    slope, start = scale(text)
    rows = canvas(text, on)
    marks = [(i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c == "o"]
    assert len(marks) == 3
    for (row, column), (layer, value) in zip(
        sorted(marks, key=lambda m: m[1]), theory.itertuples(index=False), strict=True
    ):
        assert column == round(layer / 99 * (on.width - LEFT - 1))
        assert row == pytest.approx((value - start) / slope, abs=1)


@pytest.mark.parametrize(
    ("values", "crossed"),
    [
        (np.linspace(-30, 0, 100), []),
        (np.linspace(-50, 0, 100), [("float32", -38)]),
        (np.linspace(-627, 0, 1000), [("float32", -38), ("float64", -308)]),
        (np.linspace(500, 0, 1000), [("float32", 39), ("float64", 308)]),
    ],
)
@pytest.mark.parametrize("braille", [True, False])
def test_the_ends_of_the_floats_are_drawn_where_they_are(values, crossed, braille):
    on = Screen(80, braille, False)
    text = plot(layers(values), NONE, {}, on)
    slope, start = scale(text)
    rows = canvas(text, on)
    lines = [i for i, row in enumerate(rows) if ("┄┄" if braille else "--") in row]
    assert len(lines) == len(crossed)
    for name, end in crossed:
        row = round((end - start) / slope)
        near = [i for i in lines if abs(i - row) <= 1]
        assert any(f"{name} ends: 1e{end:+d}" in rows[i] for i in near), (name, end)
    # No name hides a dot.
    bare = dots(canvas(plot(layers(values), NONE, {}, on), on), on)
    assert all(bare.any(axis=0))


def test_the_ends_are_those_of_the_floats():
    for name, (low, high) in ENDS.items():
        limits = np.finfo(name)
        assert low == pytest.approx(math.log10(limits.smallest_normal), abs=0.01)
        assert high == pytest.approx(math.log10(limits.max), abs=0.01)


@pytest.mark.parametrize("braille", [True, False])
def test_true_zeros_are_marked_and_not_joined_to_the_line(braille):
    on = Screen(80, braille, False)
    data = layers(np.linspace(-20, 0, 200), spread=1.0)
    data.loc[:99, ["median", "low"]] = -np.inf
    text = plot(data, NONE, {"band": "seeds"}, on)
    assert "x exactly zero" in text
    rows = canvas(text, on)
    half = (on.width - LEFT) // 2
    assert set(rows[-1][: half - 1]) == {"x"}
    assert "x" not in rows[-1][half + 1 :]
    line = dots(canvas(plot(data, NONE, {}, on), on), on)
    assert not line[:, : line.shape[1] // 2 - 2].any()
    data[["median", "low", "high"]] = -np.inf
    assert set(canvas(plot(data, NONE, {"band": "seeds"}, on), on)[-1]) == {"x"}


class Stream(io.StringIO):
    def __init__(self, terminal, encoding):
        super().__init__()
        self.terminal, self.name_of_encoding = terminal, encoding

    encoding = property(lambda self: self.name_of_encoding)

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("terminal_", "encoding", "environment", "expected"),
    [
        (True, "utf-8", {"TERM": "xterm"}, Screen(97, True, True)),
        (True, "UTF-8", {"TERM": "xterm", "NO_COLOR": "1"}, Screen(97, True, False)),
        (True, "utf8", {"TERM": "xterm", "NO_COLOR": ""}, Screen(97, True, True)),
        (True, "utf-8", {"TERM": "dumb"}, Screen(97, False, False)),
        (True, "iso8859-1", {}, Screen(97, False, True)),
        (True, "utf-8", {"COLUMNS": "60"}, Screen(60, True, True)),
        (True, "utf-8", {"COLUMNS": "wide"}, Screen(97, True, True)),
        (True, "utf-8", {"COLUMNS": "7"}, Screen(60, True, True)),
        (True, "utf-8", {"COLUMNS": "1000"}, Screen(120, True, True)),
        (False, "utf-8", {"TERM": "xterm"}, Screen(80, True, False)),
        (False, "ascii", {}, Screen(80, False, False)),
        (False, None, {}, Screen(80, False, False)),
    ],
)
def test_what_a_terminal_can_show(monkeypatch, terminal_, encoding, environment, expected):
    size = type("Size", (), {"columns": 97})
    monkeypatch.setattr(terminal.shutil, "get_terminal_size", lambda: size)
    assert screen(Stream(terminal_, encoding), environment) == expected
