"""What the study found, as a page: the table of claims in words, every number from the table.

Frame -> text: nothing here reads a file or computes a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

DERIVATION = {
    "A": "Sigmoid's derivative is at most 1/4 and enters once a layer; ReLU's is 0 or 1, and 1 "
    "often enough in a healthy network.",
    "B": "In thousands of layers the weights alone can make gradients vanish or explode, whichever "
    "activation is used.",
    "C": "ReLU may help to keep exploding gradients under control, because it does not saturate: "
    "large weight norms are poor direct solutions, and an optimiser is unlikely to move towards "
    "them. And: the choice of ReLU'(0) makes no real difference.",
}
"""The three claims that were made with the derivation of backpropagation."""

VERDICTS = ("supported", "refuted", "inconclusive")

_LIMITS = (
    "The networks are fully connected. They are at initialisation, random, unless an experiment "
    "says that it trains; what training does to a gradient is not to be had from the others.",
    "Inputs are random unless an experiment says that they are images, and then they are small "
    "images of digits.",
    "A verdict is about the widths, depths, scales and number formats that were measured, which "
    "the tables list. Theory of infinite width is a guide beside them, not a bound.",
    "Intervals resample seeds, never the networks of one seed, which share their draws. They do "
    "not hold the error of a different implementation, which is tested elsewhere.",
    "Supported means that the data agree with a statement as it is worded here, not that it holds "
    "everywhere; refuted means that it fails where it was measured.",
)


def markdown(
    claims: pd.DataFrame, questions: Mapping[str, str], figures: Mapping[str, Sequence[str]]
) -> str:
    """Return the page.

    Parameters
    ----------
    claims : the table of `study.statistics.claims.judge_all`, of any number of experiments
    questions : what each experiment asks; the order of the page
    figures : links to the figures of each experiment, from where the page is

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"experiment": "toy", "claim": "falls", "about": "B", "statement": "It falls."}
    >>> row |= {"threshold": "below 0", "estimate": -1.5, "low": -2.0, "high": -1.0, "n_seeds": 20}
    >>> table = pd.DataFrame([row | {"verdict": "supported"}])
    >>> page = markdown(table, {"toy": "Does it fall?"}, {"toy": ["../figures/toy.png"]})
    >>> [line for line in page.splitlines() if line.startswith("| **supported**")][0]
    '| **supported** | [falls](#toy) | It falls. | -1.5 [-2, -1] | below 0 | 20 |'
    """
    lines = [
        "# What the study found",
        "",
        "Generated from the table of claims by `python -m study run` and `python -m study "
        "figures`; do not edit. Each claim has a threshold that was stated before its data were "
        "seen. It is *supported* when the whole interval of its estimate (95 %) lies where the "
        "claim is true, *refuted* when all of it lies where the claim is false, and "
        "*inconclusive* when it has a foot on either side.",
        "",
        f"**{_tally(claims)}**",
        "",
        "## The derivation's claims",
    ]
    for letter, text in DERIVATION.items():
        lines += ["", f"### {letter}. {text}", ""]
        lines += _summary(claims[claims["about"] == letter], "on this claim")
    lines += ["", "## Popular sayings", ""]
    lines += [*_summary(claims[claims["about"] == "saying"], "on a popular saying")]
    lines += ["", "## Experiment by experiment"]
    for name, question in questions.items():
        lines += ["", f"### {name}", "", f"*{question}*", ""]
        lines += [f"![{name}: {question}]({link})" for link in figures.get(name, ())]
        lines += ["", *_claims(claims[claims["experiment"] == name])]
    chance = 0.05 * len(claims)
    lines += ["", "## Limits", ""]
    lines += [f"- {text}" for text in _LIMITS]
    lines += [
        f"- Each interval stands alone: of {len(claims)} at 95 %, about {chance:.2g} miss their "
        "true value by chance."
    ]
    return "\n".join(lines) + "\n"


def tally(claims: pd.DataFrame) -> str:
    """How many claims there are of each verdict.

    >>> import pandas as pd
    >>> tally(pd.DataFrame({"verdict": ["refuted", "supported", "supported"]}))
    '2 supported, 1 refuted'
    """
    counts = claims["verdict"].value_counts()
    return ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v in counts) or "none judged"


def _tally(claims: pd.DataFrame) -> str:
    return f"{len(claims)} claim{'s' * (len(claims) != 1)}: {tally(claims)}."


def _summary(claims: pd.DataFrame, what: str) -> list[str]:
    """The claims of several experiments, each with a link to where it is in full."""
    if claims.empty:
        return [f"No experiment in the table bears {what}."]
    return [
        _tally(claims),
        "",
        *_table(claims, lambda row: f"[{escaped(row.claim)}](#{row.experiment})"),
    ]


def _claims(claims: pd.DataFrame) -> list[str]:
    if claims.empty:
        return ["No claim of this experiment is in the table."]
    return _table(claims, lambda row: escaped(row.claim))


def _table(claims: pd.DataFrame, name: Callable[[Any], str]) -> list[str]:
    lines = [
        "| verdict | claim | what is estimated | estimate, 95 % interval | true if | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for row in claims.itertuples():
        cells = (
            f"**{row.verdict}**",
            name(row),
            escaped(row.statement),
            interval(row),
            row.threshold,
            str(row.n_seeds),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def interval(row: Any) -> str:
    """The estimate of a claim, a row of the table, and its interval."""
    return f"{row.estimate:.4g} [{row.low:.4g}, {row.high:.4g}]"


def escaped(words: str) -> str:
    """Words that Markdown must not read as its own.

    >>> print(escaped("a | b, q* < 2"))
    a \\| b, q\\* \\< 2
    """
    for mark in "\\|*<":
        words = words.replace(mark, "\\" + mark)
    return words
