// The page's script: choose a network, show its rows. Every number plotted is one of the tables'.

const settings = JSON.parse(document.getElementById("settings").textContent);
const KEYS = ["activation", "sigma_w", "depth", "width", "weights"];
const element = (id) => document.getElementById(id);
const named = (choice) => element("choices").elements[choice];

// --- Tables --------------------------------------------------------------------------------------

function table(id) {
  const lines = element(id).textContent.trim().split("\n");
  const names = lines[0].split(",");
  const rows = lines.slice(1).map((line, i) => {
    const row = { text: line, line: i + 2 };
    line.split(",").forEach((cell, j) => { row[names[j]] = value(cell); });
    return row;
  });
  return { names, rows };
}

function value(cell) {
  const infinite = { inf: Infinity, "-inf": -Infinity };
  return cell in infinite ? infinite[cell] : isNaN(cell) ? cell : Number(cell);
}

const networks = table("networks-csv");
const layers = table("layers-csv");
const rowsOf = new Map(networks.rows.map((net) => [net.network, []]));
for (const row of layers.rows) rowsOf.get(row.network).push(row);

const sorted = (values) => [...new Set(values)].sort((a, b) => a - b);
const choices = {
  activation: [...new Set(networks.rows.map((net) => net.activation))],
  depth: sorted(networks.rows.map((net) => net.depth)),
  width: sorted(networks.rows.map((net) => net.width)),
  weights: [...new Set(networks.rows.map((net) => net.weights))],
};
const scalesOf = (activation) =>
  sorted(networks.rows.filter((net) => net.activation === activation).map((net) => net.sigma_w));
const find = (wanted) => networks.rows.find((net) => KEYS.every((key) => net[key] === wanted[key]));

const ratio = (a, b) => Math.abs(Math.log(a / b));
const nearest = (scales, wanted) =>
  scales.reduce((best, one) => (ratio(one, wanted) < ratio(best, wanted) ? one : best));

// --- Words ---------------------------------------------------------------------------------------

const sign = (text) => text.replace("-", "−");
const digits = (x) => sign(x.toFixed(Math.abs(x) >= 9.95 ? 0 : 1)).replace("Infinity", "∞");
const signed = (x) => (x > 0 ? "+" : "") + digits(x);
const raised = (character) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(character)];
const power = (decades) =>
  Number.isFinite(decades) ? `10${[...String(Math.round(decades))].map(raised).join("")}` : "0";
const scaleText = (s) => String(Number(s.toPrecision(4)));
const count = (n) => n.toLocaleString("en-GB");
const about = (net) => settings.activations[net.activation];
const phi = (net) => about(net).name.replace(/^./, (first) => first.toUpperCase());
const isCritical = (net) => ratio(net.sigma_w, about(net).critical) < 1e-5;
function theoryName(net) {
  if (!["relu", "linear"].includes(net.activation)) {
    return "theory: mean field, infinite width, any law of weights";
  }
  const median = (of) => `theory: exact ${of}median at width ${count(net.width)}`;
  return net.weights === "uniform" ? `${median("Gaussian ")}, moved by kurtosis` : median("");
}

function shows(decades, format) {
  const [smallest, largest] = settings.formats[format];
  return decades < smallest ? "0" : decades > largest ? "inf" : "ok";
}

function moved(x, gained, lost, neither) {
  if (Math.abs(x) < 0.05) return neither;
  if (x === -Infinity) return `${lost} everything`;
  return `${x > 0 ? gained : lost} ${digits(Math.abs(x))} decades`;
}

function formatWords(rows) {
  return Object.keys(settings.formats).map((format) => {
    const seen = rows.map((row) => shows(row.median, format));
    const lost = seen.filter((one) => one !== "ok").length;
    if (!lost) return `${format} holds all ${rows.length} layers shown`;
    const kinds = ["0", "inf"].filter((kind) => seen.includes(kind)).join(" or ");
    return `${format} shows ${kinds} in ${lost} of ${rows.length} layers shown`;
  }).join("; ");
}

function who(net) {
  const scale = `σ_w = ${scaleText(net.sigma_w)}${isCritical(net) ? " (critical)" : ""}`;
  return `${phi(net)}, ${scale}, ${count(net.depth)} layers of ${count(net.width)} units, ` +
    `${net.weights} weights`;
}

function describe(net, rows) {
  return (
    `${who(net)}: on its way from output to input dC/dr ` +
    `${moved(net.gain, "gains", "loses", "keeps its size within 0.05 decades")}. ` +
    `A plain run: ${formatWords(rows)}.`
  );
}

// --- Charts --------------------------------------------------------------------------------------

const finite = (x) => (Number.isFinite(x) ? x : null);

function drawn(row) {
  const shown = { ...row };
  for (const name of layers.names) shown[name] = finite(row[name]);
  shown.words = `layer ${row.layer}: ${sign(String(row.median))}`;
  return shown;
}

function limits(rows) {
  const all = rows.flatMap((row) => [row.low, row.high, row.median, row.theory]);
  const values = all.filter(isFinite);
  const [bottom, top] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.06 * (top - bottom), (1 - (top - bottom)) / 2, 0.05);
  return [bottom - room, top + room];
}

// Beyond a format's range, below and above; what of it lies outside the chart is clipped.
function zones(bottom, top) {
  const edge = 0.045 * (top - bottom);
  const parts = Object.entries(settings.formats).flatMap(([format, [smallest, largest]]) => {
    const grey = settings.greys[format];
    const [down, up] = [Math.min(smallest, top), Math.max(largest, bottom)];
    return [
      { from: Math.min(bottom, down), to: down, at: down - edge, name: `below ${format}: 0`, grey },
      { from: up, to: Math.max(top, up), at: up + edge, name: `above ${format}: inf`, grey },
    ];
  });
  parts.slice(0, -2).forEach((part, i) => {  // where two names would meet, the wider format's
    if (Math.abs(part.at - parts[i + 2].at) < 1.5 * edge) part.name = "";
  });
  return parts;
}

function cells(rows) {
  const middle = (i) => (rows[i].layer + rows[i + 1].layer) / 2;
  return Object.keys(settings.formats).flatMap((format) =>
    rows.map((row, i) => {
      const seen = shows(row.median, format);
      return {
        layer: i ? middle(i - 1) : row.layer,
        end: i + 1 < rows.length ? middle(i) : row.layer,
        format, shows: seen,
        words: `layer ${row.layer}: ${format} shows ${seen === "ok" ? "the number" : seen}`,
      };
    }));
}

function squares(net) {
  const same = ["activation", "width", "weights"];
  const words = (one) =>
    `σ_w ${scaleText(one.sigma_w)}, depth ${count(one.depth)}: ${signed(one.gain)} decades`;
  return networks.rows
    .filter((one) => same.every((key) => one[key] === net[key]))
    .map((one) => ({
      ...one, gain: finite(one.gain), label: signed(one.gain), dark: one.gain <= -10,
      words: words(one),
    }));
}

// What each chart takes: signals and datasets, by name.
function content(net) {
  const rows = rowsOf.get(net.network);
  const [bottom, top] = limits(rows);
  const { colour } = about(net);
  const width = element("phase").clientWidth / scalesOf(net.activation).length;
  const shown = rows.map(drawn);
  const beside = [{ layer: rows[0].layer, low: bottom, high: bottom }];  // nothing is
  return {
    profile: {
      signals: { colour, bottom, top },
      data: { zones: zones(bottom, top), rows: shown, beside },
    },
    formats: { signals: {}, data: { shown: cells(rows) } },
    factors: { signals: { colour }, data: { rows: shown } },
    phase: {
      signals: { letters: width < 33 ? 0 : 10.5 },
      data: { networks: squares(net), chosen: [net], cursor: [] },
    },
  };
}

const views = {};

async function draw(net) {
  const drawing = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false };
  await Promise.all(Object.entries(content(net)).map(async ([name, { signals, data }]) => {
    if (name in views) {
      for (const [one, values] of Object.entries(signals)) views[name].signal(one, values);
      for (const [one, values] of Object.entries(data)) views[name].data(one, values);
      return views[name].resize().runAsync();
    }
    const spec = settings.charts[name];
    for (const one of spec.signals) if (one.name in signals) one.value = signals[one.name];
    for (const one of spec.data) if (one.name in data) one.values = data[one.name];
    views[name] = (await vegaEmbed(element(name), spec, drawing)).view;
    element(name).querySelector("svg").setAttribute("aria-hidden", "true");  // the words say it
  }));
}

// --- Table ---------------------------------------------------------------------------------------

function cell(kind, text, more = {}) {
  return Object.assign(document.createElement(kind), { textContent: text }, more);
}

function fill(target, caption, head, body) {
  const [top, rows] = [cell("thead", ""), cell("tbody", "")];
  const line = (cells) => {
    const row = cell("tr", "");
    row.append(...cells);
    return row;
  };
  const className = (text) => ({ 0: "zero", inf: "inf" })[text] ?? "";
  top.append(line(head.map((text) => cell("th", text, { scope: "col" }))));
  rows.append(...body.map(([first, ...rest]) => line([
    cell("th", first, { scope: "row" }),
    ...rest.map((text) => cell("td", text, { className: className(text) })),
  ])));
  target.replaceChildren(cell("caption", caption), top, rows);
}

function tabulate(net, rows, map) {
  const formats = Object.keys(settings.formats);
  const own = layers.names.filter((name) => name !== "network");
  const places = own.map((name) => layers.names.indexOf(name));
  fill(
    element("rows"), "As in the file, logarithms to base 10; and what a plain run shows",
    [...own, ...formats],
    rows.map((row) => {
      const texts = row.text.split(",");
      const seen = formats.map((format) => shows(row.median, format));
      return [...places.map((j) => texts[j]), ...seen];
    }),
  );
  const scales = scalesOf(net.activation);
  const at = (depth, scale) => map.find((one) => one.depth === depth && one.sigma_w === scale);
  fill(
    element("map"), "Decades gained (+) or lost (−) from output to input; a row a depth",
    ["depth \\ σ_w", ...scales.map(scaleText)],
    choices.depth.map((depth) => [
      count(depth),
      ...scales.map((scale) => at(depth, scale)?.label ?? ""),
    ]),
  );
}

function csv(net, rows) {
  const head = [...KEYS, ...layers.names].join(",");
  const own = net.text.split(",");
  const first = KEYS.map((key) => own[networks.names.indexOf(key)]).join(",");
  return [head, ...rows.map((row) => `${first},${row.text}`)].join("\n") + "\n";
}

// --- State ---------------------------------------------------------------------------------------

let state = null;
let cursor = null;

function adopt(wanted) {
  // What is asked for, or the nearest there is.
  const next = {};
  for (const [key, all] of Object.entries(choices)) {
    next[key] = [wanted[key], settings.first[key], all[0]].find((one) => all.includes(one));
  }
  const scale = wanted.sigma_w || settings.first.sigma_w;
  next.sigma_w = nearest(scalesOf(next.activation), scale);
  return find(next);
}

function fromHash() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  for (const key of ["sigma_w", "depth", "width"]) asked[key] = Number(asked[key]);
  return asked;
}

function show(net) {
  state = net;
  cursor = net;
  const rows = rowsOf.get(net.network);
  const { colour, critical } = about(net);
  document.documentElement.style.setProperty("--own", colour);

  const scales = scalesOf(net.activation);
  for (const key of ["activation", "depth", "width", "weights"]) named(key).value = net[key];
  named("sigma_w").max = scales.length - 1;
  named("sigma_w").value = scales.indexOf(net.sigma_w);
  element("scale").value = scaleText(net.sigma_w) + (isCritical(net) ? " (critical)" : "");
  named("sigma_w").setAttribute("aria-valuetext", element("scale").value);

  element("words").textContent = describe(net, rows);
  element("profile-title").textContent =
    `Gradient norms: ${power(rows.at(-1).median)} at the output, ` +
    `${power(rows[0].median)} at the input`;
  element("factors-title").textContent =
    `The derivative ${moved(rows[0].derivative, "gives", "takes", "takes nothing")}, ` +
    `the weights ${moved(rows[0].weight, "give", "take", "give nothing").replace(" decades", "")}`;
  const aside = squares(net).filter((one) => !isCritical(one));
  const right = aside.filter((one) => one.gain > 0 === one.sigma_w > critical);
  element("phase-title").textContent =
    `σ_w = ${scaleText(critical)} tells vanishing from exploding in ` +
    `${right.length} of ${aside.length} networks`;
  element("phase-note").textContent =
    `${phi(net)}, width ${count(net.width)}, ${net.weights} weights. At σ_w = ` +
    `${scaleText(critical)} χ is 1 by mean-field theory of infinite width. Red: the one shown.`;
  element("theory-name").textContent = theoryName(net);
  element("profile").setAttribute("aria-label",
    `Gradient norm against layer. ${describe(net, rows)} All numbers are in the table of rows.`);
  element("formats").setAttribute("aria-label", `What a plain run shows: ${formatWords(rows)}.`);
  element("factors").setAttribute("aria-label", element("factors-title").textContent);
  element("phase").setAttribute("aria-label",
    `Map of networks over weight scale and depth. ${element("phase-title").textContent}. ` +
    "Arrow keys choose a network, Enter shows it; the map is also a table below.");
  element("lines").textContent = `lines ${count(rows[0].line)} to ${count(rows.at(-1).line)}`;
  tabulate(net, rows, squares(net));

  history.replaceState(null, "", "#" + new URLSearchParams(KEYS.map((key) => [key, net[key]])));
  return draw(net);
}

// --- What a person does --------------------------------------------------------------------------

for (const key of ["activation", "depth", "width", "weights"]) {
  named(key).append(...choices[key].map((one) => {
    const text = typeof one === "number" ? count(one) : (settings.activations[one]?.name ?? one);
    return cell("option", text, { value: one });
  }));
}

function choose(event) {
  const key = event.target.name;
  const wanted = Object.fromEntries(KEYS.map((k) => [k, state[k]]));
  if (key === "sigma_w") {
    wanted.sigma_w = scalesOf(state.activation)[Number(event.target.value)];
  } else {
    const text = event.target.value;
    wanted[key] = ["depth", "width"].includes(key) ? Number(text) : text;
  }
  if (key === "activation") {  // critical stays critical
    const critical = (name) => settings.activations[name].critical;
    wanted.sigma_w *= critical(wanted.activation) / critical(state.activation);
  }
  const net = adopt(wanted);
  if (net !== state) show(net);
}
for (const kind of ["input", "change"]) element("choices").addEventListener(kind, choose);
element("choices").addEventListener("submit", (event) => event.preventDefault());

await show(adopt(fromHash()));

views.phase.addEventListener("click", (event, item) => {
  const number = item?.datum?.network;
  if (number !== undefined) show(networks.rows.find((net) => net.network === number));
});
element("phase").addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    show(cursor);
  } else if (event.key in steps) {
    event.preventDefault();
    const scales = scalesOf(state.activation);
    const move = (values, at, by) => values[values.indexOf(at) + by] ?? at;
    const [right, up] = steps[event.key];
    const sigma_w = move(scales, cursor.sigma_w, right);
    cursor = find({ ...state, sigma_w, depth: move(choices.depth, cursor.depth, up) });
    element("words").textContent =
      `On the map: σ_w ${scaleText(cursor.sigma_w)}, ${count(cursor.depth)} layers, ` +
      `${signed(cursor.gain)} decades. Enter shows it.`;
    views.phase.data("cursor", [cursor]).runAsync();
  }
});
element("phase").addEventListener("blur", () => {
  cursor = state;
  element("words").textContent = describe(state, rowsOf.get(state.network));
  views.phase.data("cursor", []).runAsync();
});

element("download").addEventListener("click", () => {
  const blob = new Blob([csv(state, rowsOf.get(state.network))], { type: "text/csv" });
  const name = KEYS.map((key) => state[key]).join("_");
  const link = cell("a", "", { href: URL.createObjectURL(blob), download: `atlas_${name}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
window.addEventListener("hashchange", () => show(adopt(fromHash())));
window.addEventListener("resize", () => element("atlas").hidden || draw(state));

element("seeds").textContent = networks.rows[0].n_seeds;
for (const [name, meaning] of settings.meanings) {
  element("meanings").append(cell("dt", name), cell("dd", meaning));
}
window.explorer = { views, state: () => state };
performance.mark("shown");
