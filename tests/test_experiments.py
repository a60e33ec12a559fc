"""The experiments keep their contract, and what is committed is what they say."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study import experiment, records
from study.claims import judge_all
from study.sweep import read_results

RESULTS = Path(__file__).parent.parent / "results"
NAMES = experiment.discover()


def test_the_experiments_are_there():
    assert {"depth_decay", "scale_phase"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_each_keeps_the_contract(name, preset):
    assert experiment.load(name).cells(preset)
    assert experiment.question(name).endswith("?")


@pytest.mark.parametrize("name", NAMES)
def test_measure_depends_on_its_arguments_alone_and_its_columns_are_described(name):
    found = experiment.load(name)
    cell = dict(found.cells("quick")[0])
    if "depths" in cell:
        cell["depths"] = [3, 5]
    if "scales" in cell:
        cell["scales"] = [1.0, 2.0]
    with np.errstate(under="ignore"):
        first, again = found.measure(**cell), found.measure(**cell)
    for table in first:
        pd.testing.assert_frame_equal(first[table], again[table], check_exact=True)
    schemas = {table: records.schema(frame) for table, frame in first.items()}
    assert len(records.data_dictionary(schemas, found.columns)) == sum(map(len, schemas.values()))


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_verdicts_follow_from_the_committed_tables(name):
    found = experiment.load(name)
    with np.errstate(all="ignore"):
        judged = judge_all(found, read_results(RESULTS, name))
    kept = records.read_table(RESULTS / "claims.csv")
    kept = kept[kept.experiment == name].reset_index(drop=True)
    text = ["claim", "statement", "threshold", "verdict", "n_seeds"]
    pd.testing.assert_frame_equal(judged[text], kept[text], check_dtype=False)
    for column in ("estimate", "low", "high"):
        np.testing.assert_allclose(judged[column], kept[column], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_draws_from_the_committed_tables(name):
    with np.errstate(all="ignore"):
        figure = experiment.load(name).figure(read_results(RESULTS, name))
    titles = figure.get_suptitle(), figure.get_supxlabel()
    assert all(titles)
    plt.close(figure)


def test_verdicts_can_go_either_way():
    """A sigmoid that does not vanish refutes the claim that it does; so does a ReLU that holds."""
    found = experiment.load("depth_decay")
    real = read_results(RESULTS, "depth_decay")
    flat = {"networks": real["networks"].assign(log10_decay=0.0), "layers": real["layers"]}
    with np.errstate(all="ignore"):
        verdicts = judge_all(found, flat).set_index("claim").verdict
    assert verdicts["sigmoid vanishes as mean field says"] == "refuted"
    assert verdicts["weights alone make ReLU vanish"] == "refuted"
    assert verdicts["weights alone make ReLU explode"] == "refuted"
    assert verdicts["He initialisation preserves the gradient"] == "supported"
