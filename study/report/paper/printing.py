"""How a number is printed in the paper."""

from __future__ import annotations

import math
import re

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BOUNDS = {"below": "< {}", "above": "> {}", "within": "{} … {}"}


def printed(value: float | str, spec: str = ".4g") -> str:
    """A number as a reader expects it: a true minus sign, powers of ten, ∞.

    Parameters
    ----------
    value : number, or text, which is left as it is
    spec : Python's format of a number

    Examples
    --------
    >>> [printed(x) for x in (-20.734, 5.2e-05, math.inf, 16384, 0.0)]
    ['−20.73', '5.2 × 10⁻⁵', '∞', '1.638 × 10⁴', '0']
    >>> printed(10_000, ",d"), printed(1.0, ".1f")
    ('10,000', '1.0')
    """
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    number, _, exponent = format(value, spec).partition("e")
    power = f" × 10{str(int(exponent)).translate(_RAISED)}" if exponent else ""
    return number.replace("-", "−") + power


def threshold(words: str) -> str:
    """A claim's threshold, as the table of claims has it, in signs.

    Raises
    ------
    ValueError
        When it is not of the form that `study.statistics.claims.Threshold` has.

    Examples
    --------
    >>> threshold("within -0.00432137 to 0.00432137"), threshold("above 38")
    ('−0.004321 … 0.004321', '> 38')
    """
    found = re.fullmatch(r"(below|above|within) (\S+)(?: to (\S+))?", words)
    if not found:
        allowed = "below x, above x, within x to y"
        raise ValueError(f"threshold {words!r} is not allowed; allowed: {allowed}")
    kind, *ends = found.groups()
    return _BOUNDS[kind].format(*(printed(float(end)) for end in ends if end))
