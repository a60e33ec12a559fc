"""What an experiment's claims come to on given tables, and the committed tables to give them."""

import functools

import numpy as np
import pandas as pd
from toyhouse import ROOT

from study.runs.sweep import read_results
from study.statistics.claims import verdict


@functools.cache
def committed(name):
    """The tables of an experiment under version control, not to be written to."""
    return read_results(ROOT / "results", name)


def changed(tables, change):
    """The tables after "table: column = expression where condition", or a function of a table."""
    table, rule = change.split(": ") if isinstance(change, str) else change
    frame = tables[table]
    if callable(rule):
        return tables | {table: rule(frame)}
    rule, _, where = rule.partition(" where ")
    rows = frame.query(where) if where else frame
    return tables | {table: pd.concat([frame.drop(rows.index), rows.eval(rule)]).sort_index()}


def verdict_of(claim, tables):
    with np.errstate(all="ignore"):
        return verdict(claim.judge(tables), claim.threshold, claim.negligible)


def verdicts(experiment, tables):
    """The verdict of every claim, by its name."""
    return {claim.name: verdict_of(claim, tables) for claim in experiment.claims}


def named(found, value):
    """The claims with that verdict."""
    return {name for name, verdict in found.items() if verdict == value}
