// A decision threshold, and what it does on each sample. No library, no server: the scores are in the page.
// Intervals are those of helpers/metrics/by_patient.py; tests/test_pages.py compares the two.
"use strict";
const FEW = 5, ALPHA = 0.05, TINY = 1e-12;
const logit = p => Math.log(p / (1 - p)), expit = x => 1 / (1 + Math.exp(-x));

// The share of `rows` ([score, patient]) that `right` holds for, with its 95 % interval by patient.
function share(rows, right, quantile) {
  const patients = new Map();
  for (const [score, who] of rows) {
    const one = patients.get(who) || { value: 0, size: 0 };
    one.size += 1; one.value += right(score) ? 1 : 0;
    patients.set(who, one);
  }
  const all = [...patients.values()], n = rows.length, m = all.length;
  const value = all.reduce((sum, one) => sum + one.value, 0) / n;
  const means = all.map(one => one.value / one.size);
  const q = (ALPHA / 2) ** (1 / m), unanimous = [q * value, q * value + 1 - q];
  if (m < 2) return { value, low: 0, high: 1, n, m };
  if (Math.max(...means) - Math.min(...means) < TINY) return { value, low: Math.min(unanimous[0], value), high: Math.max(unanimous[1], value), n, m };
  const error = Math.sqrt(m / (m - 1) * all.reduce((sum, one) => sum + ((one.value - value * one.size) / n) ** 2, 0));
  const half = quantile * error / (value * (1 - value));
  let low = expit(logit(value) - half), high = expit(logit(value) + half);
  const apart = Math.min(means.filter(mean => mean > TINY).length, means.filter(mean => mean < 1 - TINY).length);
  if (apart < FEW) { low = Math.min(low, unanimous[0]); high = Math.max(high, unanimous[1]); }
  return { value, low, high, n, m };
}

function ratesAt(sample, threshold) {
  return {
    sensitivity: share(sample.positive, score => score >= threshold, sample.quantiles.positive),
    specificity: share(sample.negative, score => score < threshold, sample.quantiles.negative),
  };
}

// The predictive value p a / (p a + (1 - p) b), a and b being rates with intervals: square-and-add on the log scale.
function predictive(prevalence, a, b) {
  const odds = (x, y) => (prevalence * x) / ((1 - prevalence) * y), asShare = o => (o === Infinity ? 1 : o / (1 + o));
  if (a.value === 0 && b.value === 0) return null;
  const gap = (x, y) => (x === y ? 0 : Math.abs(Math.log(x) - Math.log(y)));
  const down = Math.hypot(gap(a.value, a.low), gap(b.high, b.value)), up = Math.hypot(gap(a.high, a.value), gap(b.value, b.low));
  const middle = odds(a.value, b.value);
  return { value: asShare(middle), low: middle === Infinity ? asShare(odds(a.low, b.high)) : asShare(middle * Math.exp(-down)),
    high: middle === 0 ? asShare(odds(a.high, b.low)) : asShare(middle * Math.exp(up)) };
}
const complement = rate => ({ value: 1 - rate.value, low: 1 - rate.high, high: 1 - rate.low });

function measures(sample, threshold, prevalence, costs) {
  const { sensitivity, specificity } = ratesAt(sample, threshold), miss = complement(sensitivity), alarm = complement(specificity);
  const weights = [prevalence * costs.miss, (1 - prevalence) * costs.alarm], value = weights[0] * miss.value + weights[1] * alarm.value;
  const cost = { value,
    low: value - Math.hypot(weights[0] * (miss.value - miss.low), weights[1] * (alarm.value - alarm.low)),
    high: value + Math.hypot(weights[0] * (miss.high - miss.value), weights[1] * (alarm.high - alarm.value)) };
  return { sensitivity, specificity, "positive predictive value": predictive(prevalence, sensitivity, alarm),
    "negative predictive value": predictive(1 - prevalence, specificity, miss), cost };
}

// Thresholds worth trying on a sample, and the ways to choose one there.
function candidates(sample) {
  const scores = [...new Set([...sample.positive, ...sample.negative].map(row => row[0]))].sort((a, b) => a - b);
  return [...scores, Math.min(1, scores[scores.length - 1] + 1e-5)];
}
function best(sample, goodness) {
  let found = 0.5, most = -Infinity;
  for (const threshold of candidates(sample)) {
    const hits = sample.positive.filter(row => row[0] >= threshold).length / sample.positive.length;
    const passes = sample.negative.filter(row => row[0] < threshold).length / sample.negative.length;
    const value = goodness(hits, passes);
    if (value > most) { most = value; found = threshold; }
  }
  return found;
}
const WAYS = {
  "best Youden index": () => (hits, passes) => hits + passes,
  "sensitivity of 95 %": () => (hits, passes) => (hits >= 0.95 ? 1 + passes : hits),
  "specificity of 95 %": () => (hits, passes) => (passes >= 0.95 ? 1 + hits : passes),
  "lowest expected cost": state => (hits, passes) => -(state.prevalence * state.costs.miss * (1 - hits) + (1 - state.prevalence) * state.costs.alarm * (1 - passes)),
};

// --- the page ---
if (typeof document !== "undefined" && document.getElementById("scores")) {
  const questions = JSON.parse(document.getElementById("scores").textContent), at = id => document.getElementById(id);
  const state = { question: questions[0], threshold: 0.5, prevalence: 0.1, costs: { miss: 10, alarm: 1 }, way: "" };
  const percent = one => (one ? `${(100 * one.value).toFixed(1)} % (${(100 * one.low).toFixed(1)} to ${(100 * one.high).toFixed(1)})` : "nothing is called so");
  const number = one => `${one.value.toFixed(3)} (${one.low.toFixed(3)} to ${one.high.toFixed(3)})`;
  // The slider moves evenly on the logit scale, where scores near 0 and 1 lie apart.
  const toSlider = p => Math.max(-9, Math.min(9, logit(Math.min(1 - 1e-9, Math.max(1e-9, p))))), ofSlider = x => expit(Number(x));

  function histogram(sample) {
    const bins = 36, width = 320, height = 90, counts = { positive: Array(bins).fill(0), negative: Array(bins).fill(0) };
    for (const kind of ["positive", "negative"]) for (const [score] of sample[kind])
      counts[kind][Math.min(bins - 1, Math.floor((toSlider(score) + 9) / 18 * bins))] += 1 / sample[kind].length;
    const most = Math.max(...counts.positive, ...counts.negative), x = (toSlider(state.threshold) + 9) / 18 * width;
    const bars = (kind, colour) => counts[kind].map((count, place) => `<rect x="${place * width / bins}" y="${height - count / most * height}" width="${width / bins - 1}" height="${count / most * height}" fill="${colour}" fill-opacity="0.6"/>`).join("");
    return `<svg viewBox="0 0 ${width} ${height + 16}" role="img" aria-label="Scores of ${sample.name}: negative images blue, positive images gold, the threshold as a line">${bars("negative", "#0072B2")}${bars("positive", "#E69F00")}<line x1="${x}" x2="${x}" y1="0" y2="${height}" stroke="#1c2430" stroke-width="2"/><text x="0" y="${height + 13}" font-size="11">0</text><text x="${width}" y="${height + 13}" font-size="11" text-anchor="end">1</text></svg>`;
  }

  // What a reader must not overlook: the goal that the threshold was chosen for, missed on another sample.
  function warning(found, first, sample) {
    const apart = (a, b) => a.value - b.value > Math.hypot(a.value - a.low, b.high - b.value); // square-and-add
    const worse = ["sensitivity", "specificity"].filter(name => apart(first[name], found[name]));
    if (sample === state.question.samples[0] || !worse.length) return "";
    return `<p class="bad"><b>The threshold fails here.</b> ${worse.map(name => `Its ${name} was ${percent(first[name])} where it was chosen, and is ${percent(found[name])} here`).join("; ")}.</p>`;
  }

  function show() {
    const { question, threshold, prevalence, costs } = state, first = measures(question.samples[0], threshold, prevalence, costs);
    at("threshold-now").textContent = threshold.toPrecision(3);
    at("prevalence-now").textContent = `${(100 * prevalence).toFixed(1)} %`;
    at("samples").innerHTML = question.samples.map(sample => {
      const found = measures(sample, threshold, prevalence, costs);
      const rows = Object.entries(found).map(([name, one]) => `<tr><th scope="row">${name}</th><td>${name === "cost" ? number(one) : percent(one)}</td></tr>`).join("");
      return `<article><h3>${sample.name}</h3>${histogram(sample)}<table>${rows}</table>${warning(found, first, sample)}<p class="soft">${found.sensitivity.n} positive images of ${found.sensitivity.m} patients, ${found.specificity.n} negative of ${found.specificity.m}; AUROC ${sample.auroc}</p></article>`;
    }).join("");
    for (const button of document.querySelectorAll("#ways button")) button.setAttribute("aria-pressed", button.textContent === state.way);
  }
  function set(threshold, way = "") { state.threshold = threshold; state.way = way; at("threshold").value = toSlider(threshold); show(); }
  function choose(question) {
    state.question = question;
    at("about").innerHTML = `At or above the threshold an image is ${question.call}. ${question.page ? `<a href="notebooks/${question.notebook}.html">Notebook ${question.notebook.slice(0, 2)}</a>` : `Notebook ${question.notebook.slice(0, 2)}`}. ${question.data}`;
    at("where").textContent = question.samples[0].name;
    set(best(question.samples[0], WAYS["best Youden index"](state)), "best Youden index");
  }
  at("question").innerHTML = questions.map((question, place) => `<option value="${place}">${question.title}</option>`).join("");
  at("question").addEventListener("change", event => choose(questions[event.target.value]));
  at("threshold").addEventListener("input", event => set(ofSlider(event.target.value)));
  at("prevalence").addEventListener("input", event => { state.prevalence = ofSlider(event.target.value); show(); });
  for (const name of ["miss", "alarm"]) at(name).addEventListener("input", event => { state.costs[name] = Math.max(0, Number(event.target.value)); show(); });
  for (const [name, way] of Object.entries(WAYS)) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = name;
    button.addEventListener("click", () => set(best(state.question.samples[0], way(state)), name));
    at("ways").append(button);
  }
  at("prevalence").value = logit(state.prevalence);
  choose(questions[0]);
}
