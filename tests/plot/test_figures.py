"""Figures in print: their width, their smallest letters, their files."""

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from study.plot import style
from study.report.publish import rendered

ROOT = Path(__file__).parents[2]
SVGS = sorted((ROOT / "figures").glob("*.svg"))


def faults(svg):
    """What would not be legible in a figure printed at the width of the paper's text."""
    width = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) / 72
    # Letters are drawn at 100 points and shrunk; an exponent is shrunk within its text.
    sizes = [100 * float(size) for size in re.findall(r"scale\(([\d.]+) -[\d.]+\)", svg)]
    found = [] if abs(width - style.WIDTH) < 0.01 else [f"{width:.2f} inches wide"]
    return found + [f"{size} points" for size in {*sizes} if size < 6]


def drawn(width=style.WIDTH, size=style.SMALL):
    with style.house_style():
        figure, ax = plt.subplots(figsize=(width, 2))
        for k, colour in enumerate(style.COLOURS.values()):
            ax.barh(k, 1, color=colour)
        ax.set_title("one", fontsize=size)
    return figure


@pytest.mark.parametrize("path", SVGS, ids=lambda path: path.stem)
def test_figures_are_legible_in_print(path):
    assert not faults(path.read_text(encoding="utf-8"))


def test_the_width_is_that_of_the_text_of_the_paper():
    margin = re.search(r'paper: "a4", margin: \(x: (\d+)mm', (ROOT / "paper/style.typ").read_text())
    assert pytest.approx(210 - 2 * int(margin[1])) == 25.4 * style.WIDTH


@pytest.mark.parametrize(("width", "size"), [(11, 7), (style.WIDTH, 5)])
def test_a_figure_that_is_too_wide_or_too_small_is_noticed(width, size):
    figure = drawn(width, size)
    svg = rendered(figure, "control")["control.svg"].decode()
    plt.close(figure)
    assert len(faults(svg)) == 1


def test_a_picture_keeps_its_colours_and_its_bytes():
    figure, plain = drawn(), io.BytesIO()
    files = rendered(figure, "one")
    assert rendered(figure, "one") == files
    figure.savefig(plain, format="png", dpi=200)
    plt.close(figure)
    with Image.open(io.BytesIO(files["one.png"])) as small, Image.open(plain) as full:
        assert small.mode == "P"
        assert not small.info
        seen, was = (np.asarray(each.convert("RGB")).astype(int) for each in (small, full))
    assert len(files["one.png"]) < 0.6 * len(plain.getvalue())
    assert np.abs(seen - was).max() < 32  # of an edge here and there
    shown = {tuple(colour) for colour in seen.reshape(-1, 3)}
    assert (255, 255, 255) in shown
    assert {tuple(round(255 * c) for c in to_rgb(each)) for each in style.COLOURS.values()} <= shown
