// @ts-check
"use strict";
// The scatter of two quantities at one epoch.

/**
 * What a scatter shows.
 * @typedef {{run: Recording, step: number, x: string, y: string, colour: string, layer: number,
 *   chosen: Set<number>, xAxis: Axis | null, yAxis: Axis | null, method: string, log: boolean}} ScatterView
 */

class Scatter {
  /**
   * @param {HTMLElement} host @param {string} id @param {string} title
   * @param {{choose: (places: number[]) => void, toggle: (at: number) => void} | null} act
   *   what choosing rows does; null where none can be chosen
   */
  constructor(host, id, title, act) {
    this.act = act;
    /** @type {ScatterView | null} */
    this.view = null;
    /** Positions that are drawn, and where. @type {number[]} */
    this.places = [];
    this.left = new Float32Array(0);
    this.top = new Float32Array(0);
    /** @type {number | null} */
    this.at = null; // the position that keys point at
    this.frame = new Frame(host, id, title, {
      draw: (axes, context) => this.draw(axes, context),
      hover: (left, top) => this.hover(left, top),
      click: act ? (left, top) => this.click(left, top) : undefined,
      brush: act ? (left, top, width, height) => this.brush(left, top, width, height) : undefined,
      key: (key) => this.key(key),
      pointed: () => this.pointed(),
    }, "Arrow keys go from row to row along the horizontal axis"
      + (act ? ", Enter chooses one, Escape chooses none." : "."));
  }

  /** @param {ScatterView} view */
  show(view) {
    const { run, x, y } = view;
    this.view = view;
    this.places = positionsWith(run, view.step, [x, y], { layer: view.layer, pruned: true });
    if (this.at !== null && !this.places.includes(this.at)) this.at = null;
    const none = !this.places.length
      ? `no ${run.facts.noun} has both ${x} and ${y} at epoch ${run.epochs[view.step]}` : "";
    this.frame.axes.show(
      sideOf(view.xAxis, axisLabel(run, x)), sideOf(view.yAxis, axisLabel(run, y)), none,
    );
    this.showLegend();
    this.frame.tell(this.caption(), () => this.table());
  }

  caption() {
    const { run, step, x, y, method, layer, chosen } = /** @type {ScatterView} */ (this.view);
    const start = step * run.count;
    const kept = run.key("kept");
    const counting = this.places.filter((at) => kept[start + at] !== 0);
    const found = correlation(valuesAt(run.values(x), start, counting), valuesAt(run.values(y), start, counting), method);
    const symbol = method === "spearman" ? "Spearman ρ" : "Pearson r";
    const noun = run.facts.noun;
    const where = layer >= 0 ? ` of layer ${run.layerName(layer)}` : "";
    const here = this.places.filter((at) => chosen.has(at)).length;
    const gone = this.places.length - counting.length;
    const infinite = infiniteAmong(run, step, [x, y], layer);
    return `${run.described(y).symbol} against ${run.described(x).symbol} of ${counted(counting.length)} ${noun}s${where} at epoch `
      + `${run.epochs[step]}, ${symbol} = ${decimal(found.r)}`
      + this.noiseInWords(counting)
      + (gone ? `; ${counted(gone)} pruned ${noun}s are crosses and do not count` : "")
      + (infinite ? `; ${counted(infinite)} infinite values are not drawn and do not count` : "")
      + (here ? `; ${counted(here)} chosen, ringed` : "") + ".";
  }

  /** How many of some rows are noise along the horizontal axis. @param {number[]} places */
  noiseInWords(places) {
    const { run, step, x } = /** @type {ScatterView} */ (this.view);
    const within = noiseOf(run, x, step);
    if (!within || !places.length) return "";
    const share = places.filter(within).length / places.length;
    return `; ${percent(share)} are within the noise of the sample along the horizontal axis, hollow`;
  }

  /** @returns {Table} */
  table() {
    const { run, step, x, y, colour } = /** @type {ScatterView} */ (this.view);
    const start = step * run.count;
    const names = [...new Set([x, y, ...(run.has(colour) ? [colour] : [])])];
    const held = names.flatMap((name) => {
      const error = run.column(name)?.error;
      return error && !names.includes(error) ? [name, error] : [name];
    });
    const kept = run.key("kept");
    return {
      columns: ["layer", "filter", ...(run.keys.has("weight") ? ["weight"] : []), "epoch", ...held, "kept"],
      rows: this.places.map((at) => [
        run.facts.layers[run.key("layerOf")[at]], run.key("filter")[at],
        ...(run.keys.has("weight") ? [run.key("weight")[at]] : []), run.epochs[step],
        ...held.map((name) => run.values(name)[start + at]), kept[start + at] === 0 ? "pruned" : "kept",
      ]),
    };
  }

  /** Shares of the colour ramp by position, from 0 to 1; NaN without a value. */
  shares() {
    const { run, step, colour, log } = /** @type {ScatterView} */ (this.view);
    const layerOf = run.key("layerOf");
    const most = Math.max(1, run.facts.layers.length - 1);
    if (colour === BY_DEPTH) return (/** @type {number} */ at) => layerOf[at] / most;
    const values = run.values(colour);
    const axis = axisOf(run, colour, log);
    const start = step * run.count;
    if (!axis) return () => NaN;
    return (/** @type {number} */ at) => (placed(axis, values[start + at]) - axis.low) / (axis.high - axis.low);
  }

  /** @param {Axes} axes @param {CanvasRenderingContext2D} context */
  draw(axes, context) {
    if (!this.view) return;
    const { run, step, x, y, xAxis, yAxis, colour, chosen } = this.view;
    if (!xAxis || !yAxis) return;
    const start = step * run.count;
    const xs = run.values(x), ys = run.values(y), kept = run.key("kept");
    const places = this.places;
    const { left: boxLeft, top: boxTop } = axes.plot.bbox;
    const ratio = devicePixelRatio;
    const scale = linesOf(axes);
    this.left = new Float32Array(places.length);
    this.top = new Float32Array(places.length);
    drawZero(axes, context);
    const size = ratio * (places.length > 5000 ? 3 : places.length > 800 ? 4 : 5.5);
    /** @type {number[][]} */
    const bins = Array.from({ length: BINS + 1 }, () => []);
    const gone = [];
    const share = colour === BY_KEPT ? () => 0.3 : this.shares();
    for (let i = 0; i < places.length; i++) {
      const at = places[i];
      const left = scale.x(placed(xAxis, xs[start + at]));
      const top = scale.y(placed(yAxis, ys[start + at]));
      this.left[i] = (left - boxLeft) / ratio;
      this.top[i] = (top - boxTop) / ratio;
      if (kept[start + at] === 0) { gone.push(i); continue; }
      const of = share(at);
      bins[Number.isNaN(of) ? BINS : Math.min(BINS - 1, Math.floor(of * BINS))].push(i);
    }
    context.globalAlpha = 0.85;
    const within = noiseOf(run, x, step);
    context.lineWidth = ratio;
    bins.forEach((held, bin) => {
      context.beginPath();
      context.fillStyle = context.strokeStyle = bin === BINS ? themed("line") : colour === BY_KEPT ? themed("accent") : rampColour((bin + 0.5) / BINS);
      for (const i of held) {
        const left = this.left[i] * ratio + boxLeft - size / 2, top = this.top[i] * ratio + boxTop - size / 2;
        if (within && within(places[i])) context.rect(left, top, size, size);
        else context.fillRect(left, top, size, size);
      }
      context.stroke();
    });
    context.globalAlpha = 1;
    this.drawCrosses(context, gone, size * 1.2, ratio, boxLeft, boxTop);
    this.drawRings(context, chosen, size, ratio, boxLeft, boxTop);
  }

  /** @param {CanvasRenderingContext2D} context @param {number[]} gone @param {number} size @param {number} ratio @param {number} boxLeft @param {number} boxTop */
  drawCrosses(context, gone, size, ratio, boxLeft, boxTop) {
    context.strokeStyle = themed("pruned");
    context.lineWidth = ratio;
    context.beginPath();
    for (const i of gone) {
      const left = this.left[i] * ratio + boxLeft, top = this.top[i] * ratio + boxTop, half = size / 2;
      context.moveTo(left - half, top - half);
      context.lineTo(left + half, top + half);
      context.moveTo(left - half, top + half);
      context.lineTo(left + half, top - half);
    }
    context.stroke();
  }

  /** @param {CanvasRenderingContext2D} context @param {Set<number>} chosen @param {number} size @param {number} ratio @param {number} boxLeft @param {number} boxTop */
  drawRings(context, chosen, size, ratio, boxLeft, boxTop) {
    if (!chosen.size && this.at === null) return;
    for (let i = 0; i < this.places.length; i++) {
      const pointed = this.places[i] === this.at;
      if (!pointed && !chosen.has(this.places[i])) continue;
      context.strokeStyle = pointed ? themed("text") : themed("chosen");
      context.lineWidth = ratio * (pointed ? 2.5 : 1.2);
      context.beginPath();
      context.arc(this.left[i] * ratio + boxLeft, this.top[i] * ratio + boxTop, size * (pointed ? 1.5 : 0.95), 0, 7);
      context.stroke();
    }
  }

  showLegend() {
    const { run, colour, log } = /** @type {ScatterView} */ (this.view);
    const legend = this.frame.legend;
    legend.replaceChildren();
    if (colour === BY_KEPT) {
      legend.append("■ kept, ✕ pruned");
      return;
    }
    const strip = element("canvas", { class: "strip", width: "160", height: "10", "aria-hidden": "true" });
    const context = /** @type {CanvasRenderingContext2D} */ (strip.getContext("2d"));
    for (let bin = 0; bin < BINS; bin++) {
      context.fillStyle = rampColour((bin + 0.5) / BINS);
      context.fillRect((bin * 160) / BINS, 0, 160 / BINS + 1, 10);
    }
    if (colour === BY_DEPTH) {
      legend.append("first layer", strip, "last layer");
      return;
    }
    const axis = axisOf(run, colour, log);
    if (axis) legend.append(`${axisLabel(run, colour)}: ${short(valueAt(axis, axis.low))}`, strip, short(valueAt(axis, axis.high)));
  }

  /** Index of the nearest point within some pixels. @param {number} left @param {number} top */
  nearest(left, top) {
    let best = -1, least = 14 * 14;
    for (let i = 0; i < this.places.length; i++) {
      const dx = this.left[i] - left, dy = this.top[i] - top;
      const distance = dx * dx + dy * dy;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  }

  /** A row's name and values in words. @param {number} at */
  told(at) {
    const { run, step, x, y, colour } = /** @type {ScatterView} */ (this.view);
    const start = step * run.count;
    const names = [...new Set([y, x, ...(run.has(colour) ? [colour] : [])])];
    const lines = names.map((name) => valueInWords(run, name, start + at));
    const gone = run.key("kept")[start + at] === 0 ? ["pruned"] : [];
    return [run.rowName(at), ...lines, ...gone].join("\n");
  }

  /** @param {number} left @param {number} top */
  hover(left, top) {
    const i = this.nearest(left, top);
    return i < 0 ? null : this.told(this.places[i]);
  }

  /** @param {number} left @param {number} top */
  click(left, top) {
    const i = this.nearest(left, top);
    if (i >= 0) this.act?.toggle(this.places[i]);
    else this.act?.choose([]);
  }

  /** @param {number} left @param {number} top @param {number} width @param {number} height */
  brush(left, top, width, height) {
    const inside = this.places.filter((_, i) => this.left[i] >= left && this.left[i] <= left + width
      && this.top[i] >= top && this.top[i] <= top + height);
    this.act?.choose(inside);
  }

  /** What keys point at. */
  pointed() {
    const i = this.at === null ? -1 : this.places.indexOf(this.at);
    return i < 0 ? null : { text: this.told(this.places[i]), left: this.left[i], top: this.top[i] };
  }

  /** @param {string} key */
  key(key) {
    const { run, step, x } = /** @type {ScatterView} */ (this.view);
    const moves = { ArrowRight: 1, ArrowUp: 10, ArrowLeft: -1, ArrowDown: -10, Home: -Infinity, End: Infinity };
    if (key === "Escape") {
      this.at = null;
      showTooltip(null);
      this.act?.choose([]);
      return "no rows chosen";
    }
    if (key === "Enter" || key === " ") {
      if (this.at === null || !this.act) return null;
      const before = /** @type {ScatterView} */ (this.view).chosen.has(this.at);
      this.act.toggle(this.at);
      return `${run.rowName(this.at)} ${before ? "no longer chosen" : "chosen"}`;
    }
    if (!(key in moves) || !this.places.length) return null;
    const values = run.values(x), start = step * run.count;
    const order = [...this.places].sort((a, b) => values[start + a] - values[start + b]);
    const now = this.at === null ? -1 : order.indexOf(this.at);
    const by = moves[/** @type {keyof typeof moves} */ (key)];
    const next = now < 0 && Number.isFinite(by) ? 0 : Math.max(0, Math.min(order.length - 1, now + by));
    this.at = order[next];
    this.frame.axes.redraw();
    const i = this.places.indexOf(this.at);
    this.frame.axes.point(this.told(this.at), this.left[i], this.top[i]);
    return this.told(this.at).replace(/\n/g, "; ");
  }
}

/** Number of infinite values at an epoch. @param {Recording} run @param {number} step @param {string[]} names @param {number} layer */
function infiniteAmong(run, step, names, layer) {
  const layerOf = run.key("layerOf"), start = step * run.count;
  const infinite = (/** @type {number} */ value) => value === Infinity || value === -Infinity;
  return [...new Set(names)].map((name) => run.values(name).subarray(start, start + run.count).filter(
    (/** @type {number} */ value, /** @type {number} */ at) => infinite(value) && (layer < 0 || layerOf[at] === layer),
  ).length).reduce((sum, count) => sum + count, 0);
}

/**
 * Whether the sample cannot tell a value from 0, as pruneviz.clear_of_noise; null where errors are
 * not known. @param {Recording} run @param {string} name @param {number} step
 * @returns {((at: number) => boolean) | null}
 */
function noiseOf(run, name, step) {
  const column = run.column(name);
  if (!column || !column.error || column.quantile === null) return null;
  const values = run.values(name), errors = run.values(column.error);
  const quantile = column.quantile, start = step * run.count;
  return (at) => Math.abs(values[start + at]) <= quantile * errors[start + at];
}

/** Label of an axis: symbol, name and unit. @param {Recording} run @param {string} name */
function axisLabel(run, name) {
  const { symbol, unit } = run.described(name);
  return unit ? `${symbol} (${unit})` : symbol;
}

/** A quantity at a place, with its standard error. @param {Recording} run @param {string} name @param {number} place */
function valueInWords(run, name, place) {
  const { symbol, unit } = run.described(name);
  const column = run.column(name);
  const error = column?.error ? run.values(column.error)[place] : NaN;
  const spread = Number.isFinite(error) ? ` ± ${short(error, 2)} (standard error${column?.given_g ? ", g held fixed" : ""})` : "";
  return `${symbol} = ${short(run.values(name)[place], 4)}${spread}${unit ? ` ${unit}` : ""}`;
}

/**
 * The axis of a quantity, of all epochs or of one. @param {Recording} run @param {string} name
 * @param {boolean} log @param {number} [step] place of the epoch; none for all
 */
function axisOf(run, name, log, step = -1) {
  return run.remembered(`axis ${name} ${log} ${step}`, () => axisFor([valuesOf(run, name, step)], log));
}

/** Values of a quantity at one epoch, or at all. @param {Recording} run @param {string} name @param {number} step -1 for all @returns {Numbers} */
function valuesOf(run, name, step) {
  return step < 0 ? run.values(name) : run.values(name).subarray(step * run.count, (step + 1) * run.count);
}

/** Pixels on the canvas from places, faster than asking uPlot for each. @param {Axes} axes */
function linesOf(axes) {
  const line = (/** @type {"x" | "y"} */ name) => {
    const { low, high } = axes.sides[name];
    const from = axes.canvas(low, name), to = axes.canvas(high, name);
    return (/** @type {number} */ place) => from + ((place - low) / (high - low)) * (to - from);
  };
  return { x: line("x"), y: line("y") };
}

/**
 * Lines at 0 of both axes. @param {Axes} axes @param {CanvasRenderingContext2D} context
 * @param {{upright: boolean}} which
 */
function drawZero(axes, context, which = { upright: true }) {
  const { left, top, width, height } = axes.plot.bbox;
  context.strokeStyle = themed("line");
  context.lineWidth = devicePixelRatio;
  context.beginPath();
  if (which.upright && axes.sides.x.low < 0 && axes.sides.x.high > 0) {
    const at = axes.canvas(0, "x");
    context.moveTo(at, top);
    context.lineTo(at, top + height);
  }
  if (axes.sides.y.low < 0 && axes.sides.y.high > 0) {
    const at = axes.canvas(0, "y");
    context.moveTo(left, at);
    context.lineTo(left + width, at);
  }
  context.stroke();
}
