// @ts-check
"use strict";
// What is looked at: one object, held in the address after #, so that a view can be sent.

/**
 * Layers are named by their depth, -1 for all: a network that is one layer has a layer named "".
 * @typedef {{run: string, epoch: number, x: string, y: string, colour: string, scale: string,
 *   span: string, layer: number, bars: string, measure: string, quantity: string, ratio: number, method: string,
 *   curve: string, chosen: number[], a: string, b: string, bx: string, by: string,
 *   measureA: string, measureB: string}} View
 */

const BY_DEPTH = "by depth", BY_KEPT = "by kept"; // colours that are no quantity
const LOGGED = "log:"; // before the name of a logged curve, which may have any name

/** Positions as text: 3-7,12. @param {number[]} places */
function asRanges(places) {
  const sorted = [...new Set(places)].sort((a, b) => a - b);
  const parts = [];
  for (let start = 0; start < sorted.length;) {
    let end = start;
    while (end + 1 < sorted.length && sorted[end + 1] === sorted[end] + 1) end += 1;
    parts.push(end === start ? `${sorted[start]}` : `${sorted[start]}-${sorted[end]}`);
    start = end + 1;
  }
  return parts.join(",");
}

/** Positions from text; what is no position is left out. @param {string} text @param {number} count */
function fromRanges(text, count) {
  /** @type {Set<number>} */
  const found = new Set();
  for (const part of text.split(",")) {
    const ends = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (!ends) continue;
    const last = Math.min(Number(ends[2] ?? ends[1]), count - 1);
    for (let at = Number(ends[1]); at <= last; at++) found.add(at);
  }
  return [...found];
}

/** The first of some names that a run has, else its first quantity. @param {Recording} run @param {string[]} names */
function firstOf(run, names) {
  return names.find((name) => run.has(name)) || run.quantities()[0] || "";
}

/** Curves of a run: those of its rows, and what its epochs logged. @param {Recording} run */
function curvesIn(run) {
  return ["correlation", "masks", "accuracy", ...Object.keys(run.facts.curves).map((name) => LOGGED + name)];
}

/** The measure of this name, else the first one; "" without measures. @param {Recording} run @param {string} name */
function measureOf(run, name) {
  return (run.measure(name) || run.facts.measures[0])?.name || "";
}

/** What is shown first. @param {Store} store @returns {View} */
function firstView(store) {
  const run = store.runs[0];
  const other = store.runs.find((each) => each !== run) || run;
  const measures = run.facts.measures.map((measure) => measure.name);
  return fitted({
    run: run.facts.name,
    epoch: run.epochs[run.epochs.length - 1],
    x: "theta_g",
    y: "theta_hg",
    colour: BY_DEPTH,
    scale: "log",
    span: "epoch",
    layer: -1,
    bars: measures.length ? "share" : "mean",
    measure: "magnitude",
    quantity: "theta_norm2",
    ratio: 20,
    method: "pearson",
    curve: "correlation",
    chosen: [],
    a: run.facts.name,
    b: other.facts.name,
    bx: "",
    by: "",
    measureA: "magnitude",
    measureB: measures.includes("loss_preservation") ? "loss_preservation" : measures[measures.length - 1] || "",
  }, store);
}

/** A view of which these recordings have everything. @param {View} view @param {Store} store @returns {View} */
function fitted(view, store) {
  const run = store.run(view.run), a = store.run(view.a), b = store.run(view.b);
  const has = (/** @type {string} */ name, /** @type {string[]} */ better) => run.has(name) ? name : firstOf(run, better);
  return {
    ...view,
    run: run.facts.name,
    a: a.facts.name,
    b: b.facts.name,
    epoch: run.epochs[run.stepOf(view.epoch)],
    x: has(view.x, ["theta_g", "abs_theta_g", "sigma"]),
    y: has(view.y, ["theta_hg", "theta_norm2"]),
    colour: [BY_DEPTH, BY_KEPT].includes(view.colour) || run.has(view.colour) ? view.colour : BY_DEPTH,
    layer: view.layer < run.facts.layers.length ? view.layer : -1,
    measure: measureOf(run, view.measure),
    quantity: has(view.quantity, ["theta_norm2", "theta_g"]),
    curve: curvesIn(run).includes(view.curve) ? view.curve : "correlation",
    chosen: view.chosen.every((at) => at < run.count) ? view.chosen : view.chosen.filter((at) => at < run.count),
    bx: b.has(view.bx) ? view.bx : "",
    by: b.has(view.by) ? view.by : "",
    measureA: measureOf(a, view.measureA),
    measureB: measureOf(b, view.measureB),
  };
}

/** The view as text for the address: what differs from the first one. @param {View} view @param {View} first */
function asHash(view, first) {
  const found = new URLSearchParams();
  for (const key of /** @type {(keyof View)[]} */ (Object.keys(first))) {
    const value = key === "chosen" ? asRanges(view.chosen) : String(view[key]);
    const usual = key === "chosen" ? asRanges(first.chosen) : String(first[key]);
    if (value !== usual) found.set(key, value);
  }
  // rows and layers are numbers of the run: other runs may come to stand first
  if (found.toString()) found.set("run", view.run);
  return found.toString();
}

/**
 * The view that an address names; what this page does not have stays as it was first.
 * @param {string} hash @param {View} first @param {Store} store @returns {View}
 */
function fromHash(hash, first, store) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const view = { ...first, chosen: [...first.chosen] };
  const names = store.runs.map((run) => run.facts.name);
  for (const key of /** @type {const} */ (["run", "a", "b"])) {
    const name = given.get(key);
    if (name !== null && names.includes(name)) view[key] = name;
  }
  const run = store.run(view.run);
  for (const key of /** @type {const} */ (["x", "y", "quantity", "colour", "measure", "curve", "bx", "by", "measureA", "measureB"])) {
    view[key] = given.get(key) ?? view[key];
  }
  const one = (/** @type {"scale" | "span" | "bars" | "method"} */ key, /** @type {string[]} */ known) => {
    const value = given.get(key);
    if (value !== null && known.includes(value)) view[key] = value;
  };
  one("scale", ["log", "linear"]);
  one("span", ["epoch", "all"]);
  one("bars", ["share", "correlation", "mean", "kept"]);
  one("method", ["pearson", "spearman"]);
  const epoch = Number(given.get("epoch"));
  if (given.has("epoch") && Number.isFinite(epoch)) view.epoch = epoch;
  const ratio = Math.round(Number(given.get("ratio")));
  if (given.has("ratio") && ratio >= 1 && ratio <= 99) view.ratio = ratio;
  const wanted = given.get("run");
  if (wanted === null || wanted === view.run) {
    const layer = given.get("layer") || "-1";
    if (Number(layer) in run.facts.layers) view.layer = Number(layer);
    view.chosen = fromRanges(given.get("chosen") || "", run.count);
  }
  return fitted(view, store);
}

const PAUSE = 300; // milliseconds between two changes of the address; browsers refuse many at once

/** The view in the address: every choice is a step of the history, moves of a slider are not. */
class Address {
  constructor() {
    this.text = this.shown();
    this.known = this.shown(); // what was written or read last
    this.written = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.later = undefined;
  }

  shown() { return location.hash.slice(1); }

  /** Whether the address shows this view. @param {string} text */
  is(text) {
    clearTimeout(this.later);
    this.known = this.shown();
    return text === this.shown();
  }

  /** @param {string} text a view @param {boolean} step */
  hold(text, step) {
    clearTimeout(this.later);
    if (step && this.shown() !== this.text) this.write(false); // where a slider was left
    this.text = text;
    if (step || performance.now() - this.written >= PAUSE) this.write(step);
    else this.later = setTimeout(() => this.write(false), PAUSE);
  }

  /** @param {boolean} step */
  write(step) {
    // an address that somebody has just set is read first
    if (this.shown() !== this.known) return;
    this.written = performance.now();
    if (this.text === this.shown()) return;
    history[step ? "pushState" : "replaceState"](null, "", `#${this.text}`);
    this.known = this.shown();
  }
}
