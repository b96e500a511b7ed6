// @ts-check
"use strict";
// Bars per layer, and where the chosen rows sit.

/**
 * @typedef {{run: Recording, step: number, bars: string, measure: string, quantity: string,
 *   ratio: number, x: string, y: string, method: string, layer: number, chosen: Set<number>,
 *   log: boolean}} LayersView
 * @typedef {{values: number[], rows: number[][], label: string, told: string}} Bars the rows of each layer that count
 */

class Layers {
  /** @param {HTMLElement} host @param {{pick: (layer: number) => void}} act */
  constructor(host, act) {
    this.act = act;
    /** @type {LayersView | null} */
    this.view = null;
    /** @type {Bars} */
    this.bars = { values: [], rows: [], label: "", told: "" };
    /** @type {number[]} */
    this.chosen = [];
    /** @type {number | null} */
    this.at = null;
    this.frame = new Frame(host, "layers", "Layers", {
      draw: (axes, context) => this.draw(axes, context),
      hover: (left) => this.hover(left),
      click: (left) => this.pick(this.layerAt(left)),
      key: (key) => this.key(key),
      pointed: () => this.pointed(),
    }, "Arrow keys go from layer to layer, Enter shows that layer alone in the scatter, Escape shows all.");
  }

  /** @param {LayersView} view */
  show(view) {
    this.view = view;
    const { run } = view;
    const layers = run.facts.layers;
    this.bars = barsOf(view);
    this.chosen = this.bars.rows.map((mine) => mine.filter((at) => view.chosen.has(at)).length);
    const known = Float64Array.from(this.bars.values.filter(Number.isFinite));
    const log = view.bars === "mean" && view.log;
    this.axis = known.length ? axisFor([Float64Array.from([...known, 0])], log) : null;
    if (this.axis && view.bars !== "mean") {
      this.axis = { ...this.axis, low: view.bars === "correlation" ? -1.05 : 0, high: view.bars === "correlation" ? 1.05 : 1.02 };
    }
    const sideX = wholeSide("layer, in order of depth", -0.6, layers.length - 0.4);
    this.frame.axes.show(sideX, sideOf(this.axis, this.bars.label), known.length ? "" : this.bars.told);
    this.frame.legend.replaceChildren(view.chosen.size
      ? "narrow bars: share of the layer's rows that are chosen (full height: 100 %)" : "");
    this.frame.tell(this.caption(), () => this.table());
  }

  caption() {
    const { run, layer } = /** @type {LayersView} */ (this.view);
    const known = this.bars.values.map((value, at) => [value, at]).filter(([value]) => Number.isFinite(value));
    if (!known.length) return `${this.bars.told}.`;
    const [most, least] = [Math.max, Math.min].map((pick) => pick(...known.map(([value]) => value)));
    const name = (/** @type {number} */ value) => run.layerName(/** @type {any} */ (known.find(([each]) => each === value))[1]);
    const only = layer >= 0 ? ` The scatter shows ${run.layerName(layer)} alone.` : "";
    return `${this.bars.told}: from ${short(least)} (${name(least)}) to ${short(most)} (${name(most)}) in ${counted(known.length)} layers.${only}`;
  }

  /** @returns {Table} */
  table() {
    const { run } = /** @type {LayersView} */ (this.view);
    return {
      columns: ["layer", "depth", "rows", this.bars.label, "chosen"],
      rows: run.facts.layers.map((layer, at) => [layer, at, this.bars.rows[at].length, this.bars.values[at], this.chosen[at]]),
    };
  }

  /** @param {Axes} axes @param {CanvasRenderingContext2D} context */
  draw(axes, context) {
    if (!this.view || !this.axis) return;
    const { run, layer: only, chosen } = this.view;
    const scale = linesOf(axes);
    const width = Math.max(1, (scale.x(1) - scale.x(0)) * 0.8);
    const base = scale.y(placed(this.axis, 0));
    const most = Math.max(1, run.facts.layers.length - 1);
    drawZero(axes, context, { upright: false });
    this.bars.values.forEach((value, at) => {
      const left = scale.x(at) - width / 2;
      if (Number.isFinite(value)) {
        const top = scale.y(placed(/** @type {Axis} */ (this.axis), value));
        context.globalAlpha = only < 0 || only === at ? 1 : 0.3;
        context.fillStyle = rampColour(at / most);
        context.fillRect(left, Math.min(top, base), width, Math.max(devicePixelRatio, Math.abs(base - top)));
        context.globalAlpha = 1;
      }
      if (only === at || this.at === at) {
        context.strokeStyle = this.at === at ? themed("text") : themed("accent");
        context.lineWidth = 2 * devicePixelRatio;
        context.strokeRect(left, axes.plot.bbox.top + 1, width, axes.plot.bbox.height - 2);
      }
      if (chosen.size && this.bars.rows[at].length) {
        const height = (this.chosen[at] / this.bars.rows[at].length) * axes.plot.bbox.height;
        context.fillStyle = themed("chosen");
        context.fillRect(scale.x(at) - width / 8, axes.plot.bbox.top + axes.plot.bbox.height - height, Math.max(2, width / 4), height);
      }
    });
  }

  /** @param {number} left */
  layerAt(left) {
    const at = Math.round(this.frame.axes.place(left, "x"));
    return at >= 0 && at < this.bars.values.length ? at : -1;
  }

  /** @param {number} at */
  told(at) {
    const { run, chosen } = /** @type {LayersView} */ (this.view);
    const there = chosen.size ? `\n${counted(this.chosen[at])} of ${counted(this.bars.rows[at].length)} rows chosen` : "";
    const value = Number.isFinite(this.bars.values[at]) ? short(this.bars.values[at], 4) : "none";
    return `${run.layerName(at)}\n${this.bars.label}: ${value}\n${counted(this.bars.rows[at].length)} ${run.facts.noun}s${there}`;
  }

  /** @param {number} left */
  hover(left) {
    const at = this.layerAt(left);
    return at < 0 ? null : this.told(at);
  }

  /** @param {number} at */
  pick(at) {
    const view = /** @type {LayersView} */ (this.view);
    this.act.pick(at === view.layer ? -1 : at);
  }

  /** What keys point at. @returns {{text: string, left: number, top: number} | null} */
  pointed() {
    if (this.at === null || this.at >= this.bars.values.length) return null;
    return { text: this.told(this.at), left: this.frame.axes.pixel(this.at, "x"), top: 20 };
  }

  /** @param {string} key */
  key(key) {
    const layers = /** @type {LayersView} */ (this.view).run.facts.layers;
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };
    if (key === "Escape") {
      this.at = null;
      showTooltip(null);
      this.act.pick(-1);
      return "all layers";
    }
    if ((key === "Enter" || key === " ") && this.at !== null) {
      this.pick(this.at);
      return /** @type {LayersView} */ (this.view).run.layerName(this.at);
    }
    if (!(key in moves)) return null;
    const by = moves[/** @type {keyof typeof moves} */ (key)];
    const from = this.at === null ? (by > 0 ? -1 : layers.length) : this.at;
    this.at = Math.max(0, Math.min(layers.length - 1, from + by));
    this.frame.axes.redraw();
    this.frame.axes.point(this.told(this.at), this.frame.axes.pixel(this.at, "x"), 20);
    return this.told(this.at).replace(/\n/g, "; ");
  }
}

/** Rows of every layer at an epoch that have a value. @param {Recording} run @param {number[]} places @returns {number[][]} */
function byLayer(run, places) {
  const layerOf = run.key("layerOf");
  /** @type {number[][]} */
  const found = run.facts.layers.map(() => []);
  for (const at of places) found[layerOf[at]].push(at);
  return found;
}

/** @param {LayersView} view @returns {Bars} */
function barsOf(view) {
  if (view.bars === "share") return sharesOf(view);
  const { run, step, bars, quantity, x, y, method } = view;
  const start = step * run.count, epoch = run.epochs[step], noun = run.facts.noun;
  if (bars === "kept") {
    const kept = run.key("kept");
    const rows = byLayer(run, [...Array(run.count).keys()].filter((at) => kept[start + at] !== 2));
    const values = rows.map((mine) => mine.length ? mine.filter((at) => kept[start + at] === 0).length / mine.length : NaN);
    return { values, rows, label: "share pruned in this run", told: `share of each layer that is pruned at epoch ${epoch}` };
  }
  const rows = byLayer(run, positionsWith(run, step, bars === "mean" ? [quantity] : [x, y]));
  if (bars === "mean") {
    const values = rows.map((mine) => mine.length ? mine.reduce((sum, at) => sum + run.values(quantity)[start + at], 0) / mine.length : NaN);
    return { values, rows, label: `mean ${axisLabel(run, quantity)}`, told: `mean of ${run.described(quantity).symbol} over the kept ${noun}s of each layer, at epoch ${epoch}` };
  }
  const symbol = method === "spearman" ? "Spearman ρ" : "Pearson r";
  const values = rows.map((mine) => correlation(valuesAt(run.values(x), start, mine), valuesAt(run.values(y), start, mine), method).r);
  return { values, rows, label: symbol, told: `${symbol} of ${run.described(y).symbol} and ${run.described(x).symbol} within each layer, at epoch ${epoch}` };
}

/** The share of each layer that a measure would prune. @param {LayersView} view @returns {Bars} */
function sharesOf({ run, step, measure, ratio }) {
  const facts = run.measure(measure), epoch = run.epochs[step], noun = run.facts.noun;
  const label = "pruned share", there = byLayer(run, positionsWith(run, step, []));
  const none = { values: there.map(() => NaN), rows: there, label };
  if (!facts) return { ...none, told: "this run has no columns of any measure" };
  if (facts.flat.includes(step)) {
    return { ...none, told: `all ${noun}s score alike by ${facts.symbol} at epoch ${epoch}, so no mask is drawn` };
  }
  const kept = run.key("kept").subarray(step * run.count, (step + 1) * run.count);
  const mask = prunedBy(run, measure, step, ratio / 100);
  const ranked = [...mask.keys()].filter((at) => mask[at] !== 2);
  const rows = byLayer(run, ranked);
  const standing = there.reduce((sum, mine) => sum + mine.length, 0);
  const which = ranked.length < standing ? `the ${counted(ranked.length)} ranked`
    : run.facts.sampled ? "the sampled" : kept.includes(0) ? "the kept" : "all";
  const values = rows.map((mine) => mine.length ? mine.filter((at) => mask[at] === 1).length / mine.length : NaN);
  return { values, rows, label, told: `share of each layer that ${facts.symbol} prunes at ${ratio} % of ${which} ${noun}s, at epoch ${epoch}` };
}
