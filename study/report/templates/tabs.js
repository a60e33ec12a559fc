// The two other tabs: networks simulated here, and a table of one's own.

const TABS = ["atlas", "simulate", "yours"];
const shownViews = {};  // charts of these tabs, by the element they stand in

function open(tab) {
  for (const name of TABS) {
    element(name).hidden = name !== tab;
    element(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    element(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  window.dispatchEvent(new Event("resize"));  // charts take the width that they now have
  if (tab === "atlas") return show(state);
  return tab === "simulate" ? simulate() : showOwn();
}
for (const name of TABS) element(`tab-${name}`).addEventListener("click", () => open(name));
element("tabs").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  const now = TABS.findIndex((name) => !element(name).hidden);
  const next = TABS[(now + by + TABS.length) % TABS.length];
  element(`tab-${next}`).focus();
  open(next);
});

async function chart(place, kind, signals, data) {
  if (!(place in shownViews)) {
    const spec = structuredClone(settings.charts[kind]);
    for (const one of spec.signals) if (one.name in signals) one.value = signals[one.name];
    for (const one of spec.data) if (one.name in data) one.values = data[one.name];
    const drawing = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false };
    shownViews[place] = (await vegaEmbed(element(place), spec, drawing)).view;
    element(place).querySelector("svg").setAttribute("aria-hidden", "true");
  }
  const view = shownViews[place];
  for (const [one, values] of Object.entries(signals)) view.signal(one, values);
  for (const [one, values] of Object.entries(data)) view.data(one, values);
  return view.resize().runAsync();
}

// A chart without a band, or without theory, has that of one point: a line of it shows nothing.
const nowhere = (band, rows) => (band.length ? points(band)
  : [{ layer: rows[0].layer, low: finite(rows[0].median) ?? 0, high: finite(rows[0].median) ?? 0 }]);
const points = (rows) => rows.map((row, i) => ({
  theory: i ? null : finite(row.median),
  ...Object.fromEntries(Object.entries(row).map(([name, x]) => [name, finite(x)])),
  words: `layer ${row.layer}: ${sign(row.median.toFixed(2))}`,
}));

// --- Simulate ------------------------------------------------------------------------------------

const asked = () => element("simulation").elements;
const BOUNDS = { sigma_w: [0.01, 100], sigma_b: [0, 10], depth: [1, 1000], width: [2, 512], seeds: [1, 100] };
for (const [name, about] of Object.entries(settings.activations)) {
  asked().activation.append(cell("option", about.name, { value: name }));
}
Object.assign(asked().activation, { value: "relu" });

function wanted() {
  const net = { activation: asked().activation.value, weights: "gaussian" };
  for (const [name, [least, most]] of Object.entries(BOUNDS)) {
    const text = asked()[name].value;
    const value = Number(text);
    const whole = name.startsWith("sigma") || Number.isInteger(value);
    if (text === "" || !(value >= least && value <= most) || !whole) {
      const kind = name.startsWith("sigma") ? "a number" : "an integer";
      throw new RangeError(`${name} = ${text || "nothing"}; allowed: ${kind} from ${least} to ${most}`);
    }
    net[name] = value;
  }
  return net;
}

// The atlas's network of that choice, if it has it.
const known = (net) => networks.rows.find((one) =>
  net.sigma_b === 0 && one.weights === "gaussian" && ratio(one.sigma_w, net.sigma_w) < 1e-3 &&
  ["activation", "depth", "width"].every((key) => one[key] === net[key]));

let turn = 0;  // of the latest choice: an earlier one that is still being computed stops
async function simulate() {
  const own = ++turn;
  const say = (text) => { element("simulated").textContent = text; };
  let net;
  try {
    net = wanted();
  } catch (error) {
    return say(error.message);
  }
  const theory = meanField(net);
  const atlas = known(net);
  const { colour } = about(net);
  element("simulate").style.setProperty("--own", colour);
  element("beside").hidden = !atlas;
  const found = [];
  for (let seed = 0; seed < net.seeds; seed++) {
    found.push(simulated(net, seed));
    if (performance.now() - (simulate.drawn ?? 0) > 300 || seed === net.seeds - 1) {
      const rows = summary(net, found, theory);
      const beside = atlas ? rowsOf.get(atlas.network) : [];
      const [bottom, top] = limits([...rows, ...beside]);
      await chart("simulated-profile", "profile", { colour, bottom, top },
        { zones: zones(bottom, top), rows: points(rows), beside: nowhere(beside, rows) });
      await chart("simulated-factors", "factors", { colour }, { rows: points(rows) });
      const gain = middle(found.map((one) => one.gain)).median;
      say(`${describe({ ...net, gain }, rows)} ${count(found.length)} of ${count(net.seeds)} seeds.`);
      simulate.drawn = performance.now();
      await new Promise((resume) => setTimeout(resume));
    }
    if (own !== turn) return undefined;
  }
  element("simulated").dataset.done = `${own}`;
  return undefined;
}
let pause = null;
element("simulation").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(simulate, 250);
});
element("simulation").addEventListener("submit", (event) => {
  event.preventDefault();
  simulate();
});
element("critical").addEventListener("click", () => {
  asked().sigma_w.value = Number(about({ activation: asked().activation.value }).critical.toPrecision(7));
  simulate();
});

// --- Your network --------------------------------------------------------------------------------

const VARIED = [
  "activation", "depth", "width", "sigma_w", "sigma_b", "weights", "dtype", "kink", "batch", "scale",
  "inputs", "remedy", "format", "method", "step",
];
let ownNetworks = new Map();

function parsed(text) {
  const [head, ...lines] = text.replace(/^\ufeff/, "").trim().split(/\r?\n/);
  const cellsOf = (line) => [...`${line},`.matchAll(/(?:"((?:[^"]|"")*)"|([^,]*)),/g)]
    .map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);
  const names = cellsOf(head);
  return {
    names,
    rows: lines.map((line) => {
      const cells = cellsOf(line);
      return Object.fromEntries(names.map((name, j) => [name, cells[j] === "" ? NaN : value(cells[j])]));
    }),
  };
}

// Networks of a frame, each a list of the rows of its layers, seeds reduced to their median.
function ownOf({ names, rows }) {
  const norm = ["log10_grad_norm", "grad_norm_mantissa"].find((name) => names.includes(name));
  if (!norm || !names.includes("layer")) {
    throw new RangeError(
      `The file has the columns ${names.join(", ")}; needed are layer and log10_grad_norm, ` +
      "as study.profile, study.backpropagate and study.torch.profile give them.");
  }
  const log10 = (row) => (norm === "log10_grad_norm" ? row[norm]
    : Math.log10(row.grad_norm_mantissa) + row.grad_norm_exponent * Math.LOG10E * Math.LN2);
  const isWeight = (row) => row.layer >= 0 && !/bias$/.test(row.name ?? "");
  const kept = rows.filter((row) => isWeight(row) && !Number.isNaN(log10(row)));
  const varied = VARIED.filter((name) => new Set(kept.map((row) => String(row[name]))).size > 1);
  const byNet = Map.groupBy(kept, (row) => varied.map((name) => `${name} ${row[name]}`).join(", "));
  return new Map([...byNet].map(([name, own]) => {
    const byLayer = [...Map.groupBy(own, (row) => row.layer)].sort(([a], [b]) => a - b);
    const factor = (rows, name) => middle(rows.map((row) => row[name] ?? NaN)).median;
    return [name, byLayer.map(([layer, rows]) => ({
      layer, ...middle(rows.map(log10)),
      derivative: factor(rows, "log10_derivative_factor"), weight: factor(rows, "log10_weight_factor"),
    }))];
  }));
}

// In words: whether the profile or the level is off, how fast, who did it, and from which layer on.
const TOLERANCE = 3;  // decades
function diagnosis(rows) {
  const dead = rows.filter((row) => row.median === -Infinity).length;
  if (dead === rows.length) return "Every gradient is a true zero: the network is dead.";
  const live = rows.filter((row) => Number.isFinite(row.median));
  const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
  const sorted = ascending(live.map((row) => row.median));
  const [spread, level] = [sorted.at(-1) - sorted[0], quantile(sorted, 0.5)];
  const centre = mean(live.map((row) => row.layer));
  const offsets = live.map((row) => centre - row.layer);
  const squares = dot(offsets, offsets);
  const rate = squares > 0 ? dot(offsets, live.map((row) => row.median)) / squares : 0;
  const sentences = [];
  const flat = `All layers lie within ${digits(spread)} decades of one another`;
  if (spread > TOLERANCE) {
    const does = rate < 0 ? "vanishes: it falls by" : "explodes: it grows by";
    sentences.push(
      `The profile is off. Towards the input the gradient ${does} ${digits2(Math.abs(rate))} decades ` +
      `a layer, and the layers lie ${digits(spread)} decades apart. No factor of the cost or of the ` +
      "learning rate mends that; another weight scale, residual branches or normalisation do.");
  } else if (Math.abs(level) > TOLERANCE) {
    sentences.push(
      `The level is off, not the profile. ${flat}, at ${power(level)}. One factor of the output, the ` +
      "cost or the learning rate mends that.");
  } else {
    sentences.push(`The gradient is healthy. ${flat}, at ${power(level)}.`);
  }
  const factors = rows.filter((row) => Number.isFinite(row.derivative + row.weight));
  if (factors.length) {
    const [took, gave] = ["derivative", "weight"].map((name) => mean(factors.map((row) => row[name])));
    sentences.push(
      `A layer's derivative changes it by ${sign(took.toFixed(2))} decades on average, its weights ` +
      `by ${sign(gave.toFixed(2))}.`);
  }
  const top = rows.at(-1).median;
  const isBad = (row) => row.median === -Infinity || shows(row.median, "float32") !== "ok" ||
    Math.abs(row.median - top) > TOLERANCE;
  const first = rows.findLast(isBad);
  if (first) {
    sentences.push(
      `Coming from the output, layer ${first.layer} is the first bad one: ` +
      `${first.median === -Infinity ? "its gradient is a true zero" : `its gradient is ${power(first.median)}`}, ` +
      `that of layer ${rows.at(-1).layer} is ${power(top)}.`);
  }
  return sentences.join(" ");
}
const digits2 = (x) => sign(x.toFixed(2));

async function showOwn() {
  const rows = ownNetworks.get(element("which").value);
  if (!rows) return;
  element("diagnosis").textContent = diagnosis(rows);
  element("own-charts").hidden = false;
  const [bottom, top] = limits(rows.map((row) => ({ ...row, theory: row.median })));
  const colour = settings.activations.linear.colour;
  await chart("own-profile", "profile", { colour, bottom, top },
    { zones: zones(bottom, top), rows: points(rows), beside: nowhere([], rows) });
  let [derivative, weight] = [0, 0];
  const every = rows.every((row, i) => row.layer === i && Number.isFinite(row.derivative));
  element("own-factors").parentElement.hidden = !every;
  if (!every) return;
  const running = rows.toReversed().map((row) => {
    derivative += row.derivative;
    weight += Number.isFinite(row.weight) ? row.weight : 0;
    return { ...row, derivative, weight };
  });
  await chart("own-factors", "factors", { colour }, { rows: points(running.reverse()) });
}

async function take(file) {
  if (!file) return;
  try {
    ownNetworks = ownOf(parsed(await file.text()));
  } catch (error) {
    ownNetworks = new Map();
    element("own-charts").hidden = true;
    element("diagnosis").textContent = error.message;
    return;
  }
  const names = [...ownNetworks.keys()];
  element("which").replaceChildren(...names.map((name) => cell("option", name || file.name, { value: name })));
  element("which").parentElement.hidden = names.length < 2;
  await open("yours");
}
element("file").addEventListener("change", (event) => take(event.target.files[0]));
element("which").addEventListener("change", showOwn);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
window.addEventListener("resize", () => {
  for (const [place, view] of Object.entries(shownViews)) {
    if (element(place).clientWidth) view.resize().runAsync();
  }
});

Object.assign(window.explorer, { rows, simulated, meanField, shownViews, open, diagnosis });
