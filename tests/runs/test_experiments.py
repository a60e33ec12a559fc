"""The experiments keep their contract, and what is committed is what they say."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import study
from study.records import tables as records
from study.runs import experiment
from study.runs.sweep import read_results
from study.statistics.claims import judge_all, median_interval
from study.theory.gradient_norms import gradient_decades

RESULTS = Path(__file__).parents[2] / "results"
NAMES = experiment.discover()


def shrunk(cell):
    """The same question of smaller networks, and fewer of them."""
    small = {"depths": [3, 5], "scales": [1.0, 2.0]}
    return {**cell, **{name: value for name, value in small.items() if name in cell}}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_each_keeps_the_contract(name, preset):
    assert experiment.load(name).cells(preset)
    assert experiment.question(name).endswith("?")


@pytest.mark.parametrize("name", NAMES)
def test_measure_depends_on_its_arguments_alone_and_its_columns_are_described(name):
    found = experiment.load(name)
    cell = shrunk(found.cells("quick")[0])
    with np.errstate(under="ignore"):
        first = found.measure(**cell)
        again = found.measure(**cell)
    for table in first:
        pd.testing.assert_frame_equal(first[table], again[table], check_exact=True)
    schemas = {table: records.schema(frame) for table, frame in first.items()}
    assert len(records.data_dictionary(schemas, found.columns)) == sum(map(len, schemas.values()))


@pytest.mark.parametrize("name", NAMES)
def test_committed_verdicts_follow_from_the_committed_tables_and_the_figures_draw_them(name):
    found = experiment.load(name)
    tables = read_results(RESULTS, name)
    with np.errstate(all="ignore"):
        judged = judge_all(found, tables)
        drawn = found.figure(tables)
    kept = records.read_table(RESULTS / "claims.csv")
    kept = kept[kept.experiment == name].reset_index(drop=True)
    text = ["claim", "about", "statement", "threshold", "verdict", "n_seeds"]
    pd.testing.assert_frame_equal(judged[text], kept[text], check_dtype=False)
    for column in ("estimate", "low", "high"):
        np.testing.assert_allclose(judged[column].astype(float), kept[column], rtol=1e-12)
    assert found.figure.__doc__  # the caption
    for figure in [drawn] if isinstance(drawn, Figure) else drawn.values():
        assert all(ax.has_data() for ax in figure.axes)
        plt.close(figure)


def verdicts(found, tables):
    with np.errstate(all="ignore"):
        return judge_all(found, tables).set_index("claim").verdict.to_dict()


def decays(decay, bend):
    """Networks whose gradient gains decay(activation, sigma_w, depth), digits' bent a layer."""
    found = experiment.load("depth_decay")
    rng = np.random.default_rng(5)
    rows = []
    for inputs, bent, depths in (
        ("random", 0.0, [100, 1000, 10000]),
        ("digits", bend, [100, 1000]),
    ):
        for name, sigma in found.cells("paper")[-1]["nets"]:
            for depth in depths:
                about = {"inputs": inputs, "activation": name, "sigma_w": sigma, "depth": depth}
                values = decay(name, sigma, depth) + bent * depth + rng.normal(0, 0.1, 12)
                rows += [about | {"seed": i, "log10_decay": v} for i, v in enumerate(values)]
    return {"networks": pd.DataFrame(rows)}


def test_the_verdicts_of_depth_decay_can_go_either_way():
    found = experiment.load("depth_decay")

    def as_theory_says(name, sigma, depth):
        he = name == "relu" and sigma == 2**0.5
        chi = study.theory.mean_field(name, sigma).chi
        return 0.0 if he else 0.5 * np.log10(chi) * depth

    def otherwise(name, sigma, depth):
        return -20.0 if name == "relu" and sigma == 2**0.5 else 0.0

    assert set(verdicts(found, decays(as_theory_says, 0.0)).values()) == {"supported"}
    assert set(verdicts(found, decays(otherwise, 0.1)).values()) == {"refuted"}


def test_the_verdicts_of_scale_phase_can_go_either_way():
    found = experiment.load("scale_phase")
    module = __import__(found.module, fromlist=["expected_growth"])
    scales = found.cells("paper")[0]["scales"]
    rng = np.random.default_rng(6)

    def growth(of):
        rows = [
            {"activation": a, "sigma_w": s, "log10_growth": of(a, s)}
            for a in module.FOUR
            for s in scales
        ]
        rows = pd.DataFrame(rows).merge(pd.DataFrame({"seed": range(12)}), how="cross")
        rows["log10_growth"] += rng.normal(0, 1e-4, 12)[rows.seed]
        return {"growth": rows}

    # What is said of sigmoid and of ReLU is false where theory is true, and true where not.
    said = {
        "a sigmoid's gradient always vanishes",
        "at equal excess ReLU's gradients explode less, by ‖dC/dr‖",
    }
    judged = verdicts(found, growth(module.expected_growth))
    expected = {name: "refuted" if name in said else "supported" for name in judged}
    assert judged == expected
    judged = verdicts(found, growth(lambda a, s: np.log10(s / 40)))
    assert all(judged[name] != verdict for name, verdict in expected.items())
    assert set(judged.values()) == {"supported", "refuted"}


@pytest.mark.parametrize("table", ["growth", "phase"])
def test_scale_phase_measures_what_it_says(table):
    """Against the profile, network by network."""
    found = experiment.load("scale_phase")
    cell = next(shrunk(c) for c in found.cells("quick") if c["table"] == table)
    cell["seeds"] = cell["seeds"][:3]
    with np.errstate(under="ignore"):
        rows = found.measure(**cell)[table]
        row = rows[(rows.activation == "relu") & (rows.sigma_w == 2.0)].iloc[-1]
        net = study.Network("relu", int(row.depth), int(row.width), 2.0, dtype="float32")
        df = study.profile(net, cell["seeds"], engine="matrix_free")
    down = df.log10_derivative_factor + df.log10_weight_factor
    if table == "phase":
        own = down.groupby(df.seed).sum().median()
        np.testing.assert_allclose(row.log10_decay, own, rtol=1e-12)
        assert row.n_seeds == 3
    else:
        window = down[(df.seed == row.seed) & (df.layer >= 50) & (df.layer < 95)]
        np.testing.assert_allclose(row.log10_growth, window.mean(), rtol=1e-12)


@pytest.mark.parametrize("inputs", ["random", "digits"])
def test_depth_decay_measures_what_it_says(inputs):
    found = experiment.load("depth_decay")
    cell = next(shrunk(c) for c in found.cells("quick") if c["inputs"] == inputs)
    with np.errstate(under="ignore"):
        made = found.measure(**cell)
    networks = made["networks"]
    assert len(networks) == len(cell["nets"]) * len(cell["seeds"]) * 2
    assert networks.groupby(["activation", "sigma_w"], sort=False).ngroup().is_monotonic_increasing
    assert sorted(networks.depth.unique()) == [3, 5]
    assert set(made) == {"networks", "gradient_norms"}


def test_a_dead_network_is_a_true_zero_in_depth_decay(monkeypatch):
    found = experiment.load("depth_decay")
    cell = shrunk(found.cells("quick")[0])
    cell["nets"] = cell["nets"][:1]
    profile = study.profile

    def dead(*args, **kwargs):
        df = profile(*args, **kwargs)
        at, beneath = ((df.seed == 0) & below for below in (df.layer == 1, df.layer < 1))
        df.loc[at | beneath, ["log10_derivative_factor", "log10_weight_factor"]] = np.nan
        df.loc[at, "log10_derivative_factor"] = -np.inf
        df.loc[beneath, "log10_upstream_norm"] = -np.inf
        return df

    monkeypatch.setattr(study, "profile", dead)
    made = found.measure(**cell)
    decay = made["networks"].set_index("seed").log10_decay
    assert (decay[0] == -np.inf).all()
    assert np.isfinite(decay.drop(index=0)).all()
    networks = made["networks"].assign(sigma_w=1.0)
    dead_too = networks.assign(activation="sigmoid", log10_decay=-np.inf)
    plt.close(found.figure({**made, "networks": pd.concat([networks, dead_too])}))


@pytest.mark.parametrize("name", ["relu", "linear"])
def test_the_exact_median_is_that_of_networks_and_a_scale_off_by_5_percent_is_not(name):
    net = study.Network(name, depth=20, width=8, sigma_w=1.2)
    df = study.profile(net, range(600), engine="matrix_free")
    both = df[["log10_derivative_factor", "log10_weight_factor"]]
    df["down"] = both.fillna(0.0).sum(axis=1)  # 0 / 0 beneath a true zero, itself -inf
    kept = df[df.layer >= 10]
    for down, own in ((20, df), (10, kept)):
        found = median_interval(own.groupby("seed").down.sum(), level=1 - 1e-6)
        (theory,) = gradient_decades(name, 1.2, 20, 8, [down])
        assert found.low < theory < found.high
    assert not found.low < gradient_decades(name, 1.2 * 1.05**2, 20, 8, [10])[0] < found.high


def test_the_decades_of_an_infinitely_wide_network_are_those_of_its_own_layers():
    chi = study.theory.trajectory("tanh", 1.5, 0.0, 30).chi
    found = gradient_decades("tanh", 1.5, 30, 64, [1, 7, 30])
    expected = [0.5 * np.log10(chi[30 - d :]).sum() for d in (1, 7, 30)]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
