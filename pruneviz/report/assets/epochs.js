// @ts-check
"use strict";
// Curves over epochs: of the whole network, and of chosen rows.

/**
 * @typedef {{name: string, epochs: number[], values: number[], dash: number[], colour: string}} Line
 * @typedef {{lines: Line[], label: string, told: string, fixed?: [number, number]}} Curves
 */

/** Lines over epochs with the current epoch marked. */
class Lines {
  /** @param {HTMLElement} host @param {string} id @param {string} title @param {{epoch: (epoch: number) => void}} act */
  constructor(host, id, title, act) {
    this.act = act;
    /** @type {Curves} */
    this.curves = { lines: [], label: "", told: "" };
    this.epoch = 0;
    /** @type {number[]} */
    this.shown = [];
    /** @type {Axis | null} */
    this.axis = null;
    this.frame = new Frame(host, id, title, {
      draw: (axes, context) => this.draw(axes, context),
      hover: (left, top) => this.hover(left, top),
      click: (left) => this.act.epoch(Math.round(this.frame.axes.place(left, "x"))),
      key: (key) => this.key(key),
    }, "Left and right arrow keys go to the epoch before and after.");
  }

  /**
   * @param {Curves} curves @param {number} epoch the current one @param {number[]} shown epochs that the slider has
   * @param {Axis | null} axis vertical axis; null finds one
   */
  show(curves, epoch, shown, axis = null) {
    this.curves = curves;
    this.epoch = epoch;
    this.shown = shown;
    const values = curves.lines.map((line) => Float64Array.from(line.values));
    this.axis = axis || axisFor(values, false);
    if (this.axis && curves.fixed) this.axis = { ...this.axis, low: curves.fixed[0], high: curves.fixed[1] };
    const { low, high } = extent(Float64Array.from([...shown, ...curves.lines.flatMap((line) => line.epochs)])) || { low: 0, high: 1 };
    const room = Math.max(0.5, 0.03 * (high - low));
    const drawn = curves.lines.some((line) => line.values.some(Number.isFinite));
    this.frame.axes.show(wholeSide("epoch", low - room, high + room), sideOf(this.axis, curves.label), drawn ? "" : curves.told);
    this.showLegend();
    this.frame.tell(this.caption(), () => this.table());
  }

  caption() {
    const parts = this.curves.lines.slice(0, 3).map((line) => {
      const known = line.values.map((value, i) => i).filter((i) => Number.isFinite(line.values[i]));
      if (!known.length) return `${line.name} has no values`;
      const [first, last] = [known[0], known[known.length - 1]];
      const name = this.curves.lines.length > 1 ? `${line.name} ` : "";
      return `${name}${short(line.values[first])} at epoch ${line.epochs[first]}, ${short(line.values[last])} at epoch ${line.epochs[last]}`;
    });
    const more = this.curves.lines.length > 3 ? `; and ${this.curves.lines.length - 3} more` : "";
    return parts.length ? `${this.curves.told}: ${parts.join("; ")}${more}.` : `${this.curves.told}.`;
  }

  /** @returns {Table} */
  table() {
    return {
      columns: ["curve", "epoch", this.curves.label],
      rows: this.curves.lines.flatMap((line) => line.epochs.map((epoch, i) => [line.name, epoch, line.values[i]])),
    };
  }

  showLegend() {
    const several = this.curves.lines.length > 1 && this.curves.lines.length <= 8;
    this.frame.legend.replaceChildren(...(several ? this.curves.lines.map((line) => legendKey(line)) : []));
  }

  /** @param {Axes} axes @param {CanvasRenderingContext2D} context */
  draw(axes, context) {
    if (!this.axis) return;
    const scale = linesOf(axes), axis = this.axis, ratio = devicePixelRatio;
    const box = axes.plot.bbox;
    context.strokeStyle = themed("line");
    context.lineWidth = ratio;
    context.setLineDash([4 * ratio, 3 * ratio]);
    context.beginPath();
    context.moveTo(scale.x(this.epoch), box.top);
    context.lineTo(scale.x(this.epoch), box.top + box.height);
    context.stroke();
    const thin = this.curves.lines.length > 8;
    for (const line of this.curves.lines) {
      context.strokeStyle = context.fillStyle = themed(line.colour);
      context.globalAlpha = thin ? 0.5 : 1;
      context.lineWidth = (thin ? 1 : 2) * ratio;
      context.setLineDash(line.dash.map((length) => length * ratio));
      context.beginPath();
      let gap = true;
      line.values.forEach((value, i) => {
        if (!Number.isFinite(value)) { gap = true; return; }
        const left = scale.x(line.epochs[i]), top = scale.y(placed(axis, value));
        if (gap) context.moveTo(left, top); else context.lineTo(left, top);
        gap = false;
      });
      context.stroke();
      context.setLineDash([]);
      if (line.epochs.length > 60) continue;
      line.values.forEach((value, i) => {
        if (!Number.isFinite(value)) return;
        context.beginPath();
        context.arc(scale.x(line.epochs[i]), scale.y(placed(axis, value)), (thin ? 1.5 : 3) * ratio, 0, 7);
        context.fill();
      });
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** @param {number} left @param {number} top */
  hover(left, top) {
    const axes = this.frame.axes;
    let least = 40, told = null;
    for (const line of this.curves.lines) {
      line.values.forEach((value, i) => {
        if (!Number.isFinite(value) || !this.axis) return;
        const dx = axes.pixel(line.epochs[i], "x") - left, dy = axes.pixel(placed(this.axis, value), "y") - top;
        const distance = Math.hypot(dx, dy);
        if (distance < least) { least = distance; told = `${line.name}\nepoch ${line.epochs[i]}: ${short(value, 4)}`; }
      });
    }
    return told;
  }

  /** @param {string} key */
  key(key) {
    const now = this.shown.indexOf(this.epoch);
    const next = key === "ArrowRight" ? now + 1 : key === "ArrowLeft" ? now - 1
      : key === "Home" ? 0 : key === "End" ? this.shown.length - 1 : -1;
    if (!(next in this.shown)) return null;
    this.act.epoch(this.shown[next]);
    return `epoch ${this.shown[next]}`;
  }
}

/** @param {Line} line */
function legendKey(line) {
  const mark = element("canvas", { width: "26", height: "8", "aria-hidden": "true" });
  const context = /** @type {CanvasRenderingContext2D} */ (mark.getContext("2d"));
  context.strokeStyle = themed(line.colour);
  context.lineWidth = 2;
  context.setLineDash(line.dash);
  context.beginPath();
  context.moveTo(0, 4);
  context.lineTo(26, 4);
  context.stroke();
  return element("span", { class: "key" }, [mark, line.name]);
}

/** @param {string} name @param {number[]} epochs @param {number[]} values @param {number} [place] @returns {Line} */
function lineOf(name, epochs, values, place = 0) {
  return { name, epochs, values, dash: [[], [7, 4], [2, 3]][place % 3], colour: ["accent", "second", "chosen"][(place + Math.floor(place / 3)) % 3] };
}

/** Whether a fact is an accuracy, as the recorder takes it. @param {string} name */
const isAccuracy = (name) => /(?:acc|accuracy)$/.test(name);

/** A column of the epochs table as a line. @param {Recording} run @param {string} name @param {number} [place] */
function logged(run, name, place = 0) {
  const epochs = run.facts.curves.epoch.values.map(Number);
  return lineOf(name, epochs, run.facts.curves[name].values.map((value) => value === null ? NaN : value), place);
}

/** The chosen curve of a run. @param {Recording} run @param {View} view @returns {Curves} */
function curvesOf(run, view) {
  if (view.curve === "correlation") {
    const symbol = view.method === "spearman" ? "Spearman ρ" : "Pearson r";
    const values = run.epochs.map((_, step) => {
      const places = positionsWith(run, step, [view.x, view.y]);
      const start = step * run.count;
      return correlation(valuesAt(run.values(view.x), start, places), valuesAt(run.values(view.y), start, places), view.method).r;
    });
    return {
      lines: [lineOf(symbol, run.epochs, values)], label: symbol, fixed: [-1.05, 1.05],
      told: `${symbol} of ${run.described(view.y).symbol} and ${run.described(view.x).symbol} over the kept ${run.facts.noun}s`,
    };
  }
  if (view.curve === "masks") return maskCurve(run, view);
  if (view.curve === "accuracy") {
    const names = Object.keys(run.facts.curves).filter(isAccuracy);
    return { lines: names.map((name, i) => logged(run, name, i)), label: "accuracy (fraction)", told: names.length ? "accuracy" : "no accuracy was recorded" };
  }
  const name = view.curve.slice(LOGGED.length);
  const { unit, meaning } = run.facts.curves[name];
  return { lines: [logged(run, name)], label: unit && unit !== "1" ? `${name} (${unit})` : name, told: meaning };
}

/** @param {Recording} run @param {View} view @returns {Curves} */
function maskCurve(run, view) {
  const facts = run.measure(view.measure);
  if (!facts) return { lines: [], label: "mask distance", told: "this run has no columns of any measure" };
  const scored = rankedSteps(run, view.measure);
  const values = run.epochs.map((_, step) => {
    const place = scored.indexOf(step);
    return place > 0 ? maskDistance(run, view.measure, scored[place - 1], step, view.ratio / 100) : NaN;
  });
  return {
    lines: [lineOf("mask distance", run.epochs, values)], label: "share of places that differ",
    told: `distance between the masks of this epoch and of the shown one before, by ${facts.symbol} at ${view.ratio} %${run.facts.sampled ? ` of the sampled ${run.facts.noun}s` : ""}`,
  };
}

/**
 * Share of positions in which the masks of two epochs differ, as pruneviz.mask_distance: of the
 * positions that have a score at both; NaN where all scores of an epoch are equal.
 * @param {Recording} run @param {string} measure @param {number} before @param {number} now @param {number} ratio
 */
function maskDistance(run, measure, before, now, ratio) {
  const facts = /** @type {MeasureFacts} */ (run.measure(measure));
  if (facts.flat.includes(before) || facts.flat.includes(now)) return NaN;
  const orders = [before, now].map((step) => maskOrder(run, facts, step));
  const common = [...Array(run.count).keys()].filter((at) => orders.every((order) => !Number.isNaN(order[at])));
  if (!common.length) return NaN;
  const count = shareOf(ratio, common.length);
  const [one, other] = orders.map((order) => {
    const gone = new Uint8Array(run.count);
    stablyOrdered([...common], order).forEach((at, rank) => { gone[at] = rank < count || order[at] < 0 ? 1 : 0; });
    return gone;
  });
  return common.filter((at) => one[at] !== other[at]).length / common.length;
}

/** Shown epochs at which a measure ranks any row. @param {Recording} run @param {string} measure */
function rankedSteps(run, measure) {
  const { absent } = /** @type {MeasureFacts} */ (run.measure(measure));
  const ranks = run.values("ranks:" + measure);
  return [...run.epochs.keys()].filter((step) => {
    for (let at = step * run.count; at < (step + 1) * run.count; at++) if (ranks[at] !== absent) return true;
    return false;
  });
}

/**
 * Ranks at an epoch; -1 of what is pruned and had a score up to then, NaN of what has none.
 * @param {Recording} run @param {MeasureFacts} measure @param {number} step
 */
function maskOrder(run, measure, step) {
  const ranks = run.values("ranks:" + measure.name), kept = run.key("kept");
  return Float64Array.from({ length: run.count }, (_, at) => {
    let last = step; // the last epoch at which the row had a score
    while (last >= 0 && ranks[last * run.count + at] === measure.absent) last -= 1;
    if (kept[step * run.count + at] === 0 && last >= 0) return -1;
    return last === step ? ranks[step * run.count + at] : NaN;
  });
}

const MOST_LINES = 60; // chosen rows that are drawn at once

/** Values of chosen rows over epochs. @param {Recording} run @param {string} name @param {number[]} chosen @returns {Curves} */
function trajectoriesOf(run, name, chosen) {
  if (!chosen.length) {
    return { lines: [], label: axisLabel(run, name), told: `choose ${run.facts.noun}s in the scatter, by a click, by drawing a box, or from its list, to see them over epochs` };
  }
  const drawn = [...chosen].sort((a, b) => a - b).slice(0, MOST_LINES);
  const values = run.values(name);
  const lines = drawn.map((at, i) => {
    const mine = run.epochs.map((_, step) => values[step * run.count + at]);
    return lineOf(run.rowName(at), run.epochs, mine, drawn.length > 8 ? 0 : i);
  });
  const of = chosen.length > drawn.length ? `the first ${drawn.length} of ${counted(chosen.length)} chosen ${run.facts.noun}s` : `${counted(chosen.length)} chosen ${run.facts.noun}s`;
  return { lines, label: axisLabel(run, name), told: `${run.described(name).symbol} of ${of}` };
}
