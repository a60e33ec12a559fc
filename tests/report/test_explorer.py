"""The explorer, opened in a real browser: what it plots is what the tables hold."""

import json
import os
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from toyhouse import ROOT, wait_until

import study
from study.cli import main
from study.core.activations import TABLE
from study.records import tables as records

if os.environ.get("STUDY_WITNESSES") != "all":  # where nothing may be skipped, nothing is
    pytest.importorskip("vl_convert")
    pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from study.report import explorer

RESULTS = ROOT / "results"
FAR = "far" * 30  # where the results lie: the page shows the way there, which breaks nowhere
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
KEYS = ["activation", "sigma_w", "depth", "width", "weights"]
FLAGS = (
    "headless=new no-sandbox disable-gpu disable-background-networking disable-component-update "
    "disable-sync no-first-run disable-dev-shm-usage window-size=1280,900"
)


@pytest.fixture(scope="module")
def tables():
    return [records.read_table(RESULTS / f"atlas/{name}.csv") for name in explorer.NEEDED]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    (folder / FAR).symlink_to(RESULTS)
    path = folder / "explorer.html"
    path.write_text(explorer.build(folder / FAR, folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        strict = os.environ.get("STUDY_WITNESSES") == "all"
        (pytest.fail if strict else pytest.skip)("chromium or chromedriver is missing")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(chromium, built):
    """Opens the page at a hash; afterwards: no word on the console, no request to a network.

    The browser's own first page asks for ``chrome:`` resources, which are no network.
    """

    def open_at(fragment=""):
        chromium.get("about:blank")
        chromium.get(f"{built.as_uri()}{fragment}")
        wait_until(lambda: chromium.execute_script("return !!window.explorer"))
        return chromium

    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    yield open_at
    assert chromium.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith("file:") for url in asked)  # the log does record requests
    assert [url for url in asked if not re.match("file:|data:|blob:|about:|chrome:", url)] == []


def plotted(browser, chart, data):
    return pd.DataFrame(browser.execute_script(f"return explorer.views.{chart}.data({data!r})"))


# The marks of a chart, from their places on the screen back to numbers.
DRAWN = """
const [chart, mark] = arguments, view = explorer.views[chart], found = [];
(function walk(node) {
  if (node.name === `${mark}_marks`) found.push(...node.items);
  else for (const one of node.items ?? []) walk(one);
})(view.scenegraph().root);
const [x, y] = [view.scale("x"), view.scale("y")];
return found.map((one) => [x.invert(one.x), y.invert(one.y), y.invert(one.y2 ?? one.y)]);
"""


def choose(browser, name, value):
    Select(browser.find_element(By.NAME, name)).select_by_value(str(value))


def network(tables, **wanted):
    """The row of the table networks that a choice names."""
    (place,) = np.flatnonzero((tables[0][list(wanted)] == pd.Series(wanted)).all(axis=1))
    return tables[0].iloc[place]


def fragment(net):
    return "#" + "&".join(f"{key}={net[key]}" for key in KEYS)


def shown_number(browser):
    return browser.execute_script("return explorer.state().network")


def assert_shows(browser, tables, net):
    """Profile, factors, map, table and words are those of that network."""
    wait_until(lambda: shown_number(browser) == net.network)
    browser.execute_async_script("explorer.views.phase.runAfter(() => arguments[0]())")
    networks, layers = tables
    rows = layers[layers.network == net.network]
    for chart, mark, column, end in (
        ("profile", "median", "median", "median"),
        ("profile", "theory", "theory", "theory"),
        ("profile", "band", "low", "high"),
        ("factors", "derivative", "derivative", "derivative"),
        ("factors", "weight", "weight", "weight"),
    ):
        names = ["layer", column, end]
        expected = rows[names].to_numpy(float)
        data = plotted(browser, chart, "rows")
        np.testing.assert_array_equal(data[names].to_numpy(float), expected)
        drawn = sorted(browser.execute_script(DRAWN, chart, mark))
        np.testing.assert_allclose(drawn, expected, rtol=1e-9, atol=1e-9)
    same = networks[["activation", "width", "weights"]] == net[["activation", "width", "weights"]]
    wide = networks[same.all(axis=1)]
    found = plotted(browser, "phase", "networks")
    found = found.set_index("network").gain.sort_index()
    pd.testing.assert_series_equal(found, wide.set_index("network").gain, check_dtype=False)
    assert plotted(browser, "phase", "chosen").network.tolist() == [net.network]
    cells = browser.execute_script(
        "return [...document.querySelectorAll('#rows tbody tr')].map("
        "(row) => [...row.children].map((cell) => cell.textContent))"
    )
    names = ["layer", "median", "low", "high", "derivative", "weight", "theory"]
    assert [[float(cell) for cell in row[:7]] for row in cells] == rows[names].values.tolist()
    for place, name in ((7, "float32"), (8, "float64")):
        decades, (smallest, largest) = rows["median"], explorer.decades(name)
        seen = np.select([decades < smallest, decades > largest], ["0", "inf"], "ok")
        assert [row[place] for row in cells] == seen.tolist()
    words = browser.find_element(By.ID, "words").text
    assert f"{net.depth:,} layers of {net.width:,} units, {net.weights} weights" in words


# --- The file ------------------------------------------------------------------------------------


def test_the_page_is_one_small_file_and_the_same_twice(built):
    text = built.read_text(encoding="utf-8")
    assert len(text.encode()) < 5e6
    assert explorer.build(built.parent / FAR, built.parent) == text
    own = re.sub(r"(?s)<script.*?</script>", "", text)
    assert not re.search(r"(?i)<(script|link|img|iframe)[^>]*(src|href)=.(?!data:)", own)
    committed = (ROOT / "figures" / "explorer.html").read_text(encoding="utf-8")
    for table in explorer.NEEDED:
        csv = (RESULTS / f"atlas/{table}.csv").read_text()
        assert csv in text
        assert csv in committed
        assert f'href="../results/atlas/{table}.csv"' in committed


def test_a_request_that_cannot_be_met_says_what_mends_it(tmp_path, monkeypatch, capsys):
    def complaint(*more):
        assert main.main(["explorer", "--results", str(tmp_path), *more]) == 2
        return capsys.readouterr().err

    assert "missing; it is made by: python -m study run atlas" in complaint()
    shutil.copytree(RESULTS / "atlas", tmp_path / "atlas", ignore=shutil.ignore_patterns(".*"))
    path = tmp_path / "atlas" / "layers.csv"
    frame = records.read_table(path)
    records.write_table(path, frame.drop(columns="theory"), {})
    assert "lacks theory" in complaint()
    records.write_table(path, frame, {})
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert 'pip install vl-convert-python, in a checkout: pip install ".[explorer]"' in complaint()
    assert not (tmp_path / "figures").exists()
    path.write_bytes(path.read_bytes()[:-20])
    assert "damaged (checksum)" in complaint()


# --- The page ------------------------------------------------------------------------------------


def test_it_opens_by_itself_and_every_control_has_a_name(opened, tables):
    browser = opened()
    assert_shows(browser, tables, network(tables, **explorer.FIRST))
    for control in browser.find_elements(By.CSS_SELECTOR, "select, input, button, [tabindex]"):
        assert control.accessible_name or not control.is_displayed()
    for chart in ("profile", "formats", "factors"):
        assert browser.find_element(By.ID, chart).accessible_name


def test_choices_change_the_plotted_numbers(opened, tables):
    browser = opened()
    networks, _ = tables
    choice = dict(explorer.FIRST)
    changes = (("depth", 1000), ("width", 64), ("weights", "orthogonal"), ("weights", "uniform"))
    for key, value in changes:
        options = Select(browser.find_element(By.NAME, key)).options
        offered = {option.get_attribute("value") for option in options}
        assert offered == set(networks[key].astype(str))
        choose(browser, key, value)
        choice[key] = value
        assert_shows(browser, tables, network(tables, **choice))
    for activation in networks.activation.unique():
        choose(browser, "activation", activation)
        wait_until(
            lambda name=activation: plotted(browser, "phase", "chosen").activation[0] == name
        )
        net = networks[networks.network == shown_number(browser)].iloc[0]
        assert_shows(browser, tables, net)
        assert (net.depth, net.width, net.weights) == (1000, 64, "uniform")


def test_what_is_critical_stays_critical_when_the_activation_changes(opened, tables):
    browser = opened(fragment(network(tables, **explorer.FIRST | {"sigma_w": 10.149264})))
    for activation, critical in (("relu", 2**0.5), ("gelu", 1.468011), ("tanh", 1.0)):
        choose(browser, "activation", activation)
        net = network(tables, **explorer.FIRST | {"activation": activation, "sigma_w": critical})
        assert_shows(browser, tables, net)
        assert "(critical)" in browser.find_element(By.ID, "scale").text


def test_the_address_holds_the_view(opened, tables):
    net = network(tables, activation="relu", sigma_w=2.0, depth=300, width=64, weights="orthogonal")
    browser = opened(fragment(net))
    assert_shows(browser, tables, net)
    other = network(tables, activation="tanh", sigma_w=0.5, depth=30, width=256, weights="gaussian")
    browser.execute_script(f"location.hash = {fragment(other)!r}")
    assert_shows(browser, tables, other)
    choose(browser, "depth", "1000")
    wait_until(lambda: "depth=1000" in browser.current_url)
    assert_shows(opened("#activation=nonsense&depth=7"), tables, network(tables, **explorer.FIRST))


def test_the_theory_is_named_for_the_law_of_the_weights(opened, tables):
    browser = opened()
    exact = "exact median at width 256"
    for activation, weights, expected in (
        ("relu", "gaussian", exact),
        ("relu", "orthogonal", exact),
        ("relu", "uniform", "exact Gaussian median at width 256, moved by kurtosis"),
        ("sigmoid", "uniform", "mean field, infinite width, any law of weights"),
        ("sigmoid", "gaussian", "mean field, infinite width, any law of weights"),
    ):
        for name, value in (("activation", activation), ("weights", weights)):
            choose(browser, name, value)
        assert browser.find_element(By.ID, "theory-name").text == f"theory: {expected}"


def test_a_click_on_the_map_opens_that_network(opened, tables):
    browser = opened()
    target = network(tables, **explorer.FIRST | {"sigma_w": 15.0, "depth": 30})
    squares = browser.find_elements(By.CSS_SELECTOR, "#phase .squares_marks path")
    same = plotted(browser, "phase", "networks")
    assert len(squares) == len(same)
    at = squares[same.network.tolist().index(target.network)]
    ActionChains(browser).move_to_element(at).click().perform()
    assert_shows(browser, tables, target)


def test_the_keyboard_is_enough(opened, tables):
    browser = opened()
    active, seen = browser.find_element(By.TAG_NAME, "body"), []

    def tab_to(name):
        nonlocal active
        while name not in seen:
            active.send_keys(Keys.TAB)
            active = browser.switch_to.active_element
            seen.append(active.get_attribute("name") or active.get_attribute("id"))
            assert len(seen) < 15
        return active

    tab_to("sigma_w").send_keys(Keys.ARROW_RIGHT)
    at_slider = network(tables, **explorer.FIRST | {"sigma_w": 2.0})
    assert_shows(browser, tables, at_slider)
    assert active.get_attribute("aria-valuetext") == "2"
    tab_to("phase").send_keys(Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    target = network(tables, **explorer.FIRST | {"sigma_w": 6.0, "depth": 300})
    wait_until(lambda: plotted(browser, "phase", "cursor").network.tolist() == [target.network])
    assert "σ_w 6, 300 layers" in browser.find_element(By.ID, "words").text
    assert shown_number(browser) == at_slider.network  # nothing is chosen yet
    active.send_keys(Keys.ENTER)
    assert_shows(browser, tables, target)
    tab_to("download")
    order = "tab-atlas activation sigma_w depth width weights phase source"
    assert seen[:8] == order.split()


def test_the_download_has_the_rows_shown(opened, tables, tmp_path):
    net = network(tables, activation="selu", sigma_w=1.0, depth=100, width=256, weights="uniform")
    browser = opened(fragment(net))
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.find_element(By.ID, "download").click()
    (path,) = wait_until(lambda: [*tmp_path.glob("*.csv")])
    assert path.name == "atlas_selu_1_100_256_uniform.csv"
    text = path.read_text()
    header, *lines = (RESULTS / "atlas/layers.csv").read_text().splitlines()
    kept = [line for line in lines if line.startswith(f"{net.network},")]
    expected = [",".join([*KEYS, header]), *(f"selu,1.0,100,256,uniform,{row}" for row in kept)]
    assert text.splitlines() == expected
    first = browser.find_element(By.ID, "lines").text
    assert first.startswith(f"lines {lines.index(kept[0]) + 2:,} to")


# --- Networks simulated in the page ---------------------------------------------------------------


def test_every_activation_of_the_table_is_the_same_function_in_the_page(opened):
    browser = opened()
    z = np.concatenate([np.linspace(-40, 40, 801), [-1e-9, 0.0, 1e-9]])
    script = "const [name, z] = arguments, row = explorer.rows[name];"
    script += "return [z.map(row.phi), z.map(row.slope)]"
    for name, row in TABLE.items():
        found = browser.execute_script(script, name, z.tolist())
        with np.errstate(under="ignore"):
            for values, expected in zip(found, (row.phi(z), row.derivative(z)), strict=True):
                # gelu' and its like have zeros, next to which nothing keeps relative digits
                np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-14, err_msg=name)


SIMULATED = """
const [net, seeds] = arguments;
return Array.from({ length: seeds }, (_, seed) => {
  const { norm, derivative, weight } = explorer.simulated(net, seed);
  return [norm[0], norm.at(-1), derivative[0], weight[0]];
});
"""


@pytest.mark.parametrize(
    ("activation", "sigma_w", "sigma_b"),
    [("relu", 1.5, 0.0), ("sigmoid", 8.0, 0.5), ("gelu", 90.0, 1.0), ("tanh", 0.01, 0.0)],
)
def test_a_simulated_network_has_the_law_of_the_engine(opened, activation, sigma_w, sigma_b):
    """So far from 1 that gelu and tanh are taken by their slopes; 5 % of sigma_w would be seen."""
    browser = opened()
    net = {"activation": activation, "sigma_w": sigma_w, "sigma_b": sigma_b}
    shape = {"depth": 16, "width": 24}
    df = study.profile(study.Network(**net, **shape), seeds=range(600))
    layers = [df[df.layer == k].log10_grad_norm for k in (0, 15)]
    sums = df.groupby("seed")[["log10_derivative_factor", "log10_weight_factor"]].sum()
    expected = [*layers, *(sums[name] for name in sums)]
    found = np.array(browser.execute_script(SIMULATED, net | shape, 600)).T
    for ours, theirs in zip(found, expected, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    wrong = browser.execute_script(SIMULATED, net | shape | {"sigma_w": 1.05 * sigma_w}, 600)
    if activation != "sigmoid":  # near its critical scale its gain hardly knows its scale
        assert stats.ks_2samp(np.array(wrong)[:, 0], expected[0]).pvalue < 1e-8


def test_the_mean_field_of_the_page_is_that_of_the_theory(opened):
    browser = opened()
    for name, sigma_w, sigma_b in (("relu", 2.0, 0.0), ("sigmoid", 1.0, 0.3), ("mish", 1.5, 0.1)):
        net = {"activation": name, "sigma_w": sigma_w, "sigma_b": sigma_b}
        net |= {"depth": 200, "width": 100}
        found = browser.execute_script("return explorer.meanField(arguments[0])", net)
        layers = np.array([0, 100, 199])
        expected = study.theory.gradient_norms.log10_norms(name, sigma_w, sigma_b, 200, 100, layers)
        np.testing.assert_allclose(np.array(found)[layers], expected, atol=0.02)


def test_a_choice_is_simulated_and_drawn_beside_the_atlas(opened, tables):
    browser = opened()
    browser.find_element(By.ID, "tab-simulate").click()
    done = "return document.getElementById('simulated').dataset.done"
    wait_until(lambda: browser.execute_script(done))
    words = browser.find_element(By.ID, "simulated").text
    assert "300 layers of 64 units" in words
    assert "20 of 20 seeds" in words
    read = "return explorer.shownViews['simulated-profile'].data(arguments[0])"
    net = network(
        tables, activation="relu", sigma_w=2**0.5, depth=300, width=64, weights="gaussian"
    )
    low, rows = (pd.DataFrame(browser.execute_script(read, name)) for name in ("beside", "rows"))
    atlas = tables[1][tables[1].network == net.network]
    assert low["low"].tolist() == atlas["low"].tolist()
    inside = np.interp(rows["layer"], atlas.layer, atlas["median"])
    assert np.abs(rows["median"] - inside).max() < 1.5
    box = browser.find_element(By.CSS_SELECTOR, "#simulation [name=depth]")
    box.clear()
    box.send_keys("5000")
    complaint = "depth = 5000; allowed: an integer from 1 to 1000"
    wait_until(lambda: browser.find_element(By.ID, "simulated").text == complaint)


# --- A table of one's own -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "sigma_w", "diagnosis"),
    [
        ("sigmoid", 1.0, r"^The profile is off.*falls by 0\.6. decades a layer.*is the first bad"),
        ("relu", 0.5, r"^The level is off, not the profile.*derivative changes it by −0\.1[45]"),
        ("tanh", 1.0, r"^The gradient is healthy"),
    ],
)
def test_a_frame_of_ones_own_is_drawn_and_diagnosed(
    opened, tmp_path, activation, sigma_w, diagnosis
):
    path = tmp_path / "mine.csv"
    df = study.profile(study.Network(activation, 30, 256, sigma_w), seeds=range(3))
    df.to_csv(path)
    browser = opened()
    browser.find_element(By.ID, "tab-yours").click()
    browser.find_element(By.ID, "file").send_keys(str(path))
    words = wait_until(lambda: browser.find_element(By.ID, "diagnosis").text)
    assert re.search(diagnosis, words)
    drawn = "return explorer.shownViews['own-profile']?.data('rows').map((row) => row.median)"
    medians = df.groupby("layer").log10_grad_norm.median()
    np.testing.assert_allclose(
        wait_until(lambda: browser.execute_script(drawn)), medians, rtol=1e-9
    )


def test_a_table_of_something_else_is_refused_by_name(opened, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("depth,loss\n1,2\n")
    browser = opened()
    browser.find_element(By.ID, "tab-yours").click()
    browser.find_element(By.ID, "file").send_keys(str(path))
    words = wait_until(lambda: browser.find_element(By.ID, "diagnosis").text)
    assert words.startswith("The file has the columns depth, loss; needed are layer and log10")


def test_it_fits_a_phone(opened, tables):
    browser = opened()
    phone = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        opened()
        assert browser.execute_script("return innerWidth") == 360
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        for fonts in ("130% monospace", "110% serif"):  # whatever fonts the phone has
            browser.execute_script("document.body.style.font = arguments[0]", fonts)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        browser.execute_script("document.body.style.font = ''")
        for chart in ("profile", "formats", "factors", "phase"):
            svg = browser.find_element(By.CSS_SELECTOR, f"#{chart} svg")
            assert 250 < svg.size["width"] <= 340
        choose(browser, "depth", "1000")
        assert_shows(browser, tables, network(tables, **explorer.FIRST | {"depth": 1000}))
        for tab in ("simulate", "yours"):
            browser.find_element(By.ID, f"tab-{tab}").click()
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
