"""The text and its numbers, pressed into a PDF: the same files give the same bytes, anywhere.

Typst's own fonts alone are used, no date is written, and nothing is read but what is given.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from study.records.disk import write_together
from study.report.paper.numbers import encode, gather
from study.tools.checks import missing_extra

if TYPE_CHECKING:
    import types

SOURCE = Path(__file__).parents[3] / "paper"
"""The text of the paper, in a checkout of the project."""
TEXT = ("paper.typ", "style.typ", "references.bib", "quantities.toml")
"""The files of the text; the first is where it begins."""


def printer() -> types.ModuleType:
    """Return typst; where it is not installed, ImportError names what installs it."""
    try:
        import typst
    except ImportError:
        raise missing_extra("the paper", "paper") from None
    return typst


def figures_of(text: str) -> list[str]:
    """The names of the figures that a text shows, in its order.

    >>> figures_of('As #plate("kink", alt: "Three panels.")[Does it matter?] shows')
    ['kink']
    """
    return re.findall(r'#plate\(\s*"(\w+)"', text)


def read(source: Path, figures: Path) -> dict[str, bytes]:
    """Read the text of the paper and the figures that it shows, by the names it calls them.

    Raises
    ------
    FileNotFoundError
        When the text is missing, for an installed package has none, or a figure, with the command
        that draws it.
    """
    missing = [name for name in TEXT if not (source / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{source / missing[0]} is missing; it comes with a checkout")
    files = {name: (source / name).read_bytes() for name in TEXT}
    for name in figures_of(files[TEXT[0]].decode()):
        path = figures / f"{name}.svg"
        if not path.is_file():
            raise FileNotFoundError(f"figure {path} is missing; it is made by: make figures")
        files[f"figures/{name}.svg"] = path.read_bytes()
    return files


def press(files: Mapping[str, bytes]) -> bytes:
    """Press files, by the names that the text calls them, into a PDF.

    Raises
    ------
    ValueError
        When the text asks for what is not there, disagrees with a verdict or has a warning.
    """
    typst = printer()
    main = {"main.typ": files[TEXT[0]]} | {k: v for k, v in files.items() if k != TEXT[0]}
    compiler = typst.Compiler(main, font_paths=[], ignore_system_fonts=True)
    try:
        pdf, warnings = compiler.compile_with_warnings(format="pdf")
    except typst.TypstError as error:
        raise ValueError(f"text of the paper: {error.diagnostic}") from None
    if warnings:
        raise ValueError(f"text of the paper: {warnings[0].diagnostic}")
    return pdf


def write(results: Path, figures: Path, folder: Path, source: Path = SOURCE) -> list[Path]:
    """Gather the numbers, press the paper, and write ``numbers.json`` and ``paper.pdf``.

    Parameters
    ----------
    results, figures : folders of the tables and of the figures
    folder : where the two files go, whose paths are returned; it must exist
    source : folder of the text

    Raises
    ------
    ImportError, FileNotFoundError, ValueError
        As `press`, `read` and `numbers.gather`; nothing is then written.
    """
    files = read(source, figures)
    quantities = tomllib.loads(files["quantities.toml"].decode())
    files["numbers.json"] = encode(gather(results, quantities))
    made = {folder / "numbers.json": files["numbers.json"], folder / "paper.pdf": press(files)}
    write_together(made)
    return list(made)
