// Networks simulated in the page: one example through Gaussian weights, without a weight matrix. The
// law is that of study/engines/walk.py; docs/matrix_free.md proves it. Norms are natural logarithms,
// so that no depth leaves the range, and vectors are kept apart from their size.

function erfSeries(x) {
  let [term, sum] = [x, x];
  for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
    term *= -x * x / k;
    sum += term / (2 * k + 1);
  }
  return 2 / Math.sqrt(Math.PI) * sum;
}
function erfcx(x) {  // e^(x^2) erfc(x), x >= 0; beyond 2 by its continued fraction
  if (x < 2) return Math.exp(x * x) * (1 - erfSeries(x));
  let below = x;
  for (let k = 80; k > 0; k--) below = x + k / 2 / below;
  return 1 / (below * Math.sqrt(Math.PI));
}
const erfc = (x) => (x < 0 ? 2 - erfc(-x) : Math.exp(-x * x) * erfcx(x));
const erf = (x) => (Math.abs(x) < 2 ? erfSeries(x) : Math.sign(x) * (1 - erfc(Math.abs(x))));

const rows = { {%- for name, row in activations.items() %}
  {{ name }}: { phi: {{ row.phi }},
    slope: {{ row.slope }}, ...{{ row.traits }} },
{%- endfor %}
};

// Standard normals by Box and Muller, from the generator sfc32 (Doty-Humphrey); a stream a seed.
function normals(seed) {
  let [a, b, c, d] = [0x9e3779b9, seed | 0, ~seed, 1];
  const uniform = () => {
    const t = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return ((t >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 20; i++) uniform();
  return (size) => {
    const drawn = new Float64Array(size);
    for (let i = 0; i < size; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(uniform()));
      const angle = 2 * Math.PI * uniform();
      drawn[i] = radius * Math.cos(angle);
      if (i + 1 < size) drawn[i + 1] = radius * Math.sin(angle);
    }
    return drawn;
  };
}

function dot(x, y) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
  return sum;
}

// Of a layer with z = e^scale G + sigma_b b: what is computed, z e^-apart, and how phi is taken there.
// Far from 1 phi is linear on either side of 0, and e^apart is taken out.
const FAR = 60 * Math.LN2;
function layerOf(row, scale, sigma_b, G, b) {
  const biased = sigma_b > 0;
  const grows = row.infinity.some((slope) => slope !== 0);
  let slopes = null;
  let apart = 0;
  if (scale > -Infinity && !(biased && scale < 0)) {
    if (row.scaleFree) apart = scale;
    else if (scale > FAR && grows) [apart, slopes] = [scale, row.infinity];
    else if (scale < -FAR && row.throughZero) [apart, slopes] = [scale, row.zero];
  }
  const [own, shift] = [Math.exp(scale - apart), biased ? sigma_b * Math.exp(-apart) : 0];
  const z = G.map((g, i) => own * g + (biased ? shift * b[i] : 0));
  const side = (x) => slopes[x > 0 ? 1 : 0];
  return {
    apart,
    r: slopes ? z.map((x) => side(x) * x) : z.map(row.phi),
    slopes: () => (slopes ? z.map(side) : z.map(row.slope)),
  };
}

// Natural logarithms of the norms of every layer: those of r^(k), of dC/dr^(k+1), of dC/dz^(k+1).
function walk({ activation, sigma_w, sigma_b, depth, width }, seed) {
  const row = rows[activation];
  const draw = normals(seed);
  const lnC = Math.log(sigma_w / Math.sqrt(width));
  const input = draw(width);
  const [G, b, made] = [[], [], []];
  const signal = [Math.log(dot(input, input)) / 2];
  const layer = (k) => layerOf(row, lnC + signal[k], sigma_b, G[k], b[k]);
  for (let k = 0; k < depth; k++) {
    G.push(draw(width));
    b.push(sigma_b > 0 ? draw(width) : null);
    const { r, apart } = layer(k);
    signal.push(apart + Math.log(dot(r, r)) / 2);
  }
  let dr = draw(width);  // a random unit vector
  let size = -Math.log(dot(dr, dr)) / 2;
  const upstream = Array(depth + 1);
  const delta = Array(depth);
  let at = layer(depth - 1);
  for (let k = depth - 1; k >= 0; k--) {
    upstream[k + 1] = size + Math.log(dot(dr, dr)) / 2;
    const slopes = at.slopes();
    for (let i = 0; i < width; i++) dr[i] *= slopes[i];
    const norm = Math.sqrt(dot(dr, dr));
    delta[k] = size + Math.log(norm);
    // dC/dr^(k) = c |delta| [H - (H q) q + (delta G / |delta|) q], q = r^(k) / |r^(k)|
    const u = norm > 0 ? dot(dr, G[k]) / norm : 0;
    at = k > 0 ? layer(k - 1) : { r: input };
    const { r } = at;
    const length = Math.sqrt(dot(r, r));
    dr = draw(width);
    if (length > 0) {
      const along = (u - dot(dr, r) / length) / length;
      for (let i = 0; i < width; i++) dr[i] += along * r[i];
    } else {
      dr[0] = u;
    }
    size = lnC + delta[k];
  }
  upstream[0] = norm0(size, dr);
  return { signal, upstream, delta };
}
const norm0 = (size, dr) => (size === -Infinity ? size : size + Math.log(dot(dr, dr)) / 2);

// The columns of the frame, log10, of one seed; factors summed from the output down, as the atlas's.
function simulated(net, seed) {
  const { signal, upstream, delta } = walk(net, seed);
  const columns = { norm: [], derivative: [], weight: [] };
  let [derivative, weight] = [0, 0];
  for (let k = net.depth - 1; k >= 0; k--) {
    const nothing = delta[k] === -Infinity;
    derivative += nothing ? -Infinity : delta[k] - upstream[k + 1];
    weight += nothing ? -Infinity : upstream[k] - delta[k];
    columns.norm[k] = nothing ? -Infinity : (signal[k] + delta[k]) / Math.LN10;
    columns.derivative[k] = derivative / Math.LN10;
    columns.weight[k] = weight / Math.LN10;
  }
  return { ...columns, gain: (upstream[0] - upstream[net.depth]) / Math.LN10 };
}

// What mean field expects of log10 ‖dC/dW^(k)‖ at infinite width, from an input of unit mean square.
function meanField({ activation, sigma_w, sigma_b, depth, width }) {
  const row = rows[activation];
  const points = Float64Array.from({ length: 4800 }, (_, i) => (i - 2399.5) / 300);
  const chance = points.map((z) => Math.exp(-z * z / 2));
  const mean = (values) => dot(values, chance) / chance.reduce((sum, one) => sum + one, 0);
  const squares = [0];  // ln of the mean of r^2, layer by layer
  const slopes = [];
  let last = NaN;
  for (let k = 0; k < depth; k++) {
    const lnQ = sigma_b > 0 && 2 * Math.log(sigma_w) + squares[k] < 80
      ? Math.log(sigma_w ** 2 * Math.exp(squares[k]) + sigma_b ** 2)
      : 2 * Math.log(sigma_w) + squares[k];
    const same = k > 0 && Math.abs(lnQ - last) < 1e-13;  // at its fixed point
    const at = same ? null : layerOf(row, lnQ / 2, 0, points, null);
    squares.push(same ? squares[k] : 2 * at.apart + Math.log(mean(at.r.map((r) => r * r))));
    slopes.push(same ? slopes[k - 1] : Math.log(mean(at.slopes().map((slope) => slope * slope))));
    last = lnQ;
  }
  const theory = Array(depth);
  let above = 0;
  for (let k = depth - 1; k >= 0; k--) {
    above += slopes[k];
    theory[k] = (Math.log(width) + squares[k] + above) / 2 / Math.LN10;
    above += 2 * Math.log(sigma_w);
  }
  return theory;
}

const ascending = (values) => Float64Array.from(values).sort();
function quantile(sorted, share) {  // linear between the two that are next to it, as NumPy's
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low === high ? low : low + (place - Math.floor(place)) * (high - low);
}
function middle(values) {
  const sorted = ascending(values);
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.1), high: quantile(sorted, 0.9) };
}

// Rows as those of the atlas, of about thirty layers, from columns seed by seed.
function summary(net, seeds, theory) {
  const step = Math.max(1, Math.ceil(net.depth / 30));
  const layers = Array.from({ length: net.depth }, (_, k) => k);
  return layers.filter((k) => k % step === 0 || k === net.depth - 1).map((layer) => ({
    layer,
    ...middle(seeds.map((columns) => columns.norm[layer])),
    derivative: middle(seeds.map((columns) => columns.derivative[layer])).median,
    weight: middle(seeds.map((columns) => columns.weight[layer])).median,
    theory: theory[layer],
  }));
}
