// @ts-check
"use strict";
// What is looked at: one object, held in the address after #, so that a view can be sent.

/**
 * Layers are named by their depth, -1 for all: a network that is one layer has a layer named "".
 * @typedef {{run: string, epoch: number, x: string, y: string, colour: string, scale: string,
 *   layer: number, bars: string, measure: string, quantity: string, ratio: number, method: string,
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
  const measures = run.facts.measures.map((measure) => measure.name);
  const other = store.runs.find((each) => each !== run) || run;
  return {
    run: run.facts.name,
    epoch: run.epochs[run.epochs.length - 1],
    x: firstOf(run, ["theta_g", "theta_g_t1", "abs_theta_g", "sigma"]),
    y: firstOf(run, ["theta_hg", "theta_norm2"]),
    colour: BY_DEPTH,
    scale: "log",
    layer: -1,
    bars: measures.length ? "share" : "mean",
    measure: measures.includes("magnitude") ? "magnitude" : measures[0] || "",
    quantity: firstOf(run, ["theta_norm2", "theta_g"]),
    ratio: 20,
    method: "pearson",
    curve: "correlation",
    chosen: [],
    a: run.facts.name,
    b: other.facts.name,
    bx: "",
    by: "",
    measureA: measures.includes("magnitude") ? "magnitude" : measures[0] || "",
    measureB: measures.includes("loss_preservation") ? "loss_preservation" : measures[measures.length - 1] || "",
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
  const quantities = run.quantities();
  const measures = run.facts.measures.map((measure) => measure.name);
  const one = (/** @type {string} */ key, /** @type {string[]} */ known) => {
    const value = given.get(key);
    if (value !== null && known.includes(value)) /** @type {any} */ (view)[key] = value;
  };
  one("x", quantities);
  one("y", quantities);
  one("quantity", quantities);
  one("colour", [BY_DEPTH, BY_KEPT, ...quantities]);
  one("scale", ["log", "linear"]);
  one("bars", ["share", "correlation", "mean", "kept"]);
  one("measure", measures);
  one("method", ["pearson", "spearman"]);
  one("curve", curvesIn(run));
  one("bx", store.run(view.b).quantities());
  one("by", store.run(view.b).quantities());
  one("measureA", store.run(view.a).facts.measures.map((measure) => measure.name));
  one("measureB", store.run(view.b).facts.measures.map((measure) => measure.name));
  const epoch = Number(given.get("epoch"));
  if (given.has("epoch") && Number.isFinite(epoch)) view.epoch = run.epochs[run.stepOf(epoch)];
  const ratio = Number(given.get("ratio"));
  if (given.has("ratio") && ratio >= 0 && ratio <= 100) view.ratio = Math.round(ratio);
  const layer = Number(given.get("layer"));
  if (given.has("layer") && layer in run.facts.layers) view.layer = layer;
  view.chosen = fromRanges(given.get("chosen") || "", run.count);
  return view;
}

const PAUSE = 300; // milliseconds between two changes of the address; browsers refuse many at once

/** The view in the address: every choice is a step of the history, moves of a slider are not. */
class Address {
  constructor() {
    this.text = this.shown();
    this.written = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.later = undefined;
  }

  shown() { return location.hash.slice(1); }

  /** Whether the address shows this view. @param {string} text */
  is(text) {
    clearTimeout(this.later);
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
    this.written = performance.now();
    if (this.text === this.shown()) return;
    history[step ? "pushState" : "replaceState"](null, "", `#${this.text}`);
  }
}
