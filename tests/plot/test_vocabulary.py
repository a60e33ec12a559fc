"""The vocabulary of plots: any frame with the columns, seaborn's mapping, and what it refuses."""

import functools
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.colors import same_color

import study
from study.plot import frames
from study.plot.style import COLOURS, MARKS

mpl.use("agg")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def df():
    nets = [
        study.Network(name, depth, 32, sigma_w=scale)
        for name in ("sigmoid", "relu")
        for scale in (1.0, 2.0)
        for depth in (10, 70)
    ]
    return study.profile(nets, seeds=range(8))


def one_scale(df):
    return df[(df.depth == 70) & (df.sigma_w == 1)]


def heights(line):
    return np.asarray(line.get_ydata(), float)


def test_profile_draws_medians_bands_and_theory(df):
    ax = study.plot.profile(one_scale(df), hue="activation", theory=True)
    medians = one_scale(df).groupby(["activation", "layer"]).log10_grad_norm.median()
    for name in ("relu", "sigmoid"):
        lines = [line for line in ax.lines if same_color(line.get_color(), COLOURS[name])]
        data, theory = lines
        assert (data.get_marker(), data.get_linestyle()) == (MARKS[name], "None")
        np.testing.assert_allclose(heights(data), medians[name])
        inner = np.interp(theory.get_xdata(), data.get_xdata(), heights(data))
        assert np.abs(inner - heights(theory)).max() < 1  # theory is about these networks
    assert len(ax.collections) >= 2
    assert {text.get_text() for text in ax.texts} == {"ReLU", "sigmoid", "below float32"}


def test_columns_are_mapped_as_seaborn_maps_them(df):
    grid = study.plot.profile(
        df[df.depth == 70], hue="sigma_w", style="sigma_b", col="activation", row="dtype"
    )
    assert isinstance(grid, sns.FacetGrid)
    titles = [ax.get_title() or ax.get_title(loc="left") for ax in grid.axes.flat]
    assert titles == ["float64, ReLU", "float64, sigmoid"]  # ReLU first, wherever it stands
    assert len(grid.axes[0][0].lines) >= 2


def test_depth_factors_and_phase_take_the_frame(df):
    grid = study.plot.depth(df, hue="activation", col="sigma_w", theory=True)
    gained = frames.decades(df).query("activation == 'sigmoid' and sigma_w == 1 and depth == 70")
    ends = [line.get_ydata()[-1] for line in grid.axes.flat[0].lines if len(line.get_ydata())]
    assert np.isclose(ends, gained.decades.median()).any()
    dots = study.plot.factors(df[df.depth == 70], per="network", col="sigma_w", theory=True)
    assert [t.get_text() for t in dots.axes.flat[0].get_yticklabels()] == ["ReLU", "sigmoid"]
    lines = study.plot.factors(one_scale(df), col="activation", theory=True)
    assert {t.get_text() for t in lines.axes.flat[0].texts} == {"derivative", "weights", "both"}
    drawn = study.plot.phase(df, col="activation", theory=True)
    (mesh,) = (c for c in drawn.axes.flat[1].collections if isinstance(c, mpl.collections.QuadMesh))
    assert mesh.get_array().size == 4
    assert mesh.get_array().min() >= -38  # the colours end where float32 does


def test_spectrum_and_training_take_tables_of_their_own():
    rng = np.random.default_rng(1)
    wide = pd.DataFrame({f"log10_s_{k}": -k + rng.normal(size=9) for k in (1, 2, 4)})
    ax = study.plot.spectrum(wide.assign(seed=range(9)))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, 2, 4])
    steps = pd.DataFrame({"step": [0, 1, 2] * 4, "loss": rng.normal(size=12), "seed": 0})
    plt.figure()
    assert study.plot.training(steps).get_xlabel() == "step of training"


def test_users_weights_and_a_csv_are_drawn(tmp_path, df):
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, (9, 9)) for _ in range(5)]
    ax = study.plot.profile(study.backpropagate(weights, rng.normal(size=(2, 9))))
    assert len(ax.lines[0].get_xdata()) == 5
    path = tmp_path / "norms.csv"
    one_scale(df).to_csv(path)
    plt.figure()
    assert len(study.plot.profile(path, hue="activation").lines) == 2


def test_a_module_of_torch_and_its_watch_are_drawn():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(*[torch.nn.Linear(4, 4), torch.nn.Tanh()] * 3)
    profile = study.torch.profile(net, torch.ones(2, 4), loss=lambda out: out.square().mean())
    ax = study.plot.profile(profile)
    assert {"weight", "bias"} <= {text.get_text() for text in ax.texts}
    watched = pd.DataFrame({"step": [0, 1] * 2, "name": ["a"] * 2 + ["b"] * 2, "loss": 1.0})
    plt.figure()
    assert len(study.plot.training(watched, hue="name").lines) == 2


def test_seaborn_draws_the_frame_unaided(df):
    grid = sns.relplot(data=df, x="layer", y="log10_grad_norm", hue="activation", kind="scatter")
    assert len(grid.ax.collections[0].get_offsets()) == len(df)


def test_dead_networks_stand_at_the_edge(df):
    frame = one_scale(df)
    frame = frame.assign(
        log10_grad_norm=frame.log10_grad_norm.where(frame.activation == "relu", -np.inf)
    )
    ax = study.plot.profile(frame, hue="activation")
    edge = [c for c in ax.collections if len(c.get_offsets()) == 70]
    assert np.all(edge[0].get_offsets()[:, 1] < 0.1)


@functools.cache
def two_widths():
    net = study.Network("relu", 3, 8)
    return study.profile([net, study.Network("relu", 3, 16)], seeds=range(2))


BAD = {
    "column 'layer' is missing; there are: .*": (lambda one: one.drop(columns="layer"), {}),
    "column 'log10_norm' is missing; .* did you mean": (lambda one: one, {"y": "log10_norm"}),
    "column 'width' mixes 2 values .8, 16. in one curve": (lambda _: two_widths(), {}),
    "the frame has 0 rows": (lambda one: one[:0], {}),
    "6 are -inf.*dead networks": (lambda one: one.assign(log10_grad_norm=-np.inf), {}),
    "hue = 'activaton'; allowed: .*did you mean 'act": (lambda one: one, {"hue": "activaton"}),
    "column 'engine' holds .*; allowed: numbers": (lambda one: one, {"y": "engine"}),
    "column 'sigma_w' is missing, of theory": (
        lambda one: one.drop(columns="sigma_w"), {"theory": True}
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_drawn_is_refused_in_words(message):
    change, look = BAD[message]
    with pytest.raises(ValueError, match=message):
        study.plot.profile(change(two_widths().query("width == 8")), **look)


def test_one_seed_has_no_band_but_a_picture(df):
    ax = study.plot.profile(one_scale(df).query("seed == 0"), hue="activation")
    assert all(len(line.get_xdata()) == 70 for line in ax.lines)


def test_a_million_rows_are_drawn_in_seconds(df):
    big = pd.concat([df[df.depth == 70].assign(seed=seed) for seed in range(450)])
    assert len(big) > 1e6
    start = time.process_time()
    grid = study.plot.profile(big, hue="sigma_w", col="activation")
    grid.figure.canvas.draw()
    assert time.process_time() - start < 15  # 1.5 s on an idle machine


def test_the_command_draws_a_csv(typed, tmp_path, df):
    path, picture = tmp_path / "norms.csv", tmp_path / "x.png"
    df.to_csv(path, index=False)
    code, said, _ = typed("plot", path, "--hue", "activation", "--theory", "--save", picture)
    assert code == 0
    assert "sigma_w" not in said  # two scales: two panels
    assert "depth = 70 alone" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, complaint = typed("plot", path, "--hue", "activaton", "--save", picture)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "did you mean 'activation'" in complaint


@pytest.mark.parametrize(
    ("table", "words", "complaint"),
    [
        ("nowhere.csv", ["--save", "x.png"], "nowhere.csv' is missing"),
        ("pyproject.toml", ["--save", "x.jpg"], "'x.jpg' is not allowed; allowed: .png"),
        ("results/claims.csv", ["--where", "a b", "--save", "x.png"], "is no condition"),
        (
            "results/claims.csv",
            ["--kind", "phase", "--hue", "claim", "--save", "x.png"],
            "--hue is",
        ),
    ],
)
def test_the_command_refuses_in_one_line(typed, table, words, complaint):
    assert complaint in typed.fails("plot", ROOT / table, *words)
