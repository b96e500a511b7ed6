// @ts-check
"use strict";
// Correlations, masks and summaries, by the definitions of pruneviz.correlate and keep_mask.

/**
 * Pearson's r of the pairs in which both values are finite; NaN below 3 pairs or without spread.
 * @param {ArrayLike<number>} xs @param {ArrayLike<number>} ys
 */
function pearson(xs, ys) {
  let n = 0, mx = 0, my = 0;
  for (let i = 0; i < xs.length; i++) {
    n += 1;
    mx += (xs[i] - mx) / n;
    my += (ys[i] - my) / n;
  }
  if (n < 3) return NaN;
  let xx = 0, yy = 0, xy = 0;
  for (let i = 0; i < xs.length; i++) {
    const dx = xs[i] - mx, dy = ys[i] - my;
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  // The squares of values such as 1e-170 are no numbers any more; so near to zero is no spread.
  const scale = Math.sqrt(xx) * Math.sqrt(yy);
  return scale > 0 ? Math.max(-1, Math.min(1, xy / scale)) : NaN;
}

/** Ranks from 0, ties get their mean rank. @param {ArrayLike<number>} values */
function meanRanks(values) {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && values[order[end]] === values[order[start]]) end += 1;
    for (let i = start; i < end; i++) ranks[order[i]] = (start + end - 1) / 2;
    start = end;
  }
  return ranks;
}

/**
 * A correlation of pairs. @param {number[]} xs @param {number[]} ys @param {string} method
 * @returns {{r: number, n: number}}
 */
function correlation(xs, ys, method) {
  const r = method === "spearman" ? pearson(meanRanks(xs), meanRanks(ys)) : pearson(xs, ys);
  return { r: xs.length < 3 ? NaN : r, n: xs.length };
}

/** Half of the way rounds to the even number, as Python does. @param {number} value */
function rounded(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1;
  return rest < 0.5 ? below : below + 1;
}

/**
 * How many of some rows a ratio is, by its decimals: 0.29 of 150 is 43.5, which no product of
 * floats is. @param {number} ratio @param {number} count
 */
function shareOf(ratio, count) {
  return rounded((Math.round(ratio * 1e7) * count) / 1e7);
}

/**
 * Which of the kept rows a measure would prune at one epoch, the lowest share of them:
 * 1 pruned, 0 kept, 2 without a score or pruned already.
 * @param {Recording} run @param {string} measure @param {number} step @param {number} ratio
 */
function prunedBy(run, measure, step, ratio) {
  const facts = /** @type {MeasureFacts} */ (run.measure(measure));
  const ranks = run.values("ranks:" + measure), kept = run.key("kept");
  const start = step * run.count;
  let scored = 0, gone = 0; // what is pruned already has the lowest ranks
  for (let at = 0; at < run.count; at++) {
    if (ranks[start + at] === facts.absent) continue;
    if (kept[start + at] === 0) gone += 1;
    else scored += 1;
  }
  const end = gone + shareOf(ratio, scored);
  const found = new Uint8Array(run.count).fill(2);
  for (let at = 0; at < run.count; at++) {
    const rank = ranks[start + at];
    if (rank !== facts.absent && kept[start + at] !== 0) found[at] = rank < end ? 1 : 0;
  }
  return found;
}

/**
 * Positions that a picture shows: both values there, kept unless asked otherwise, of one layer.
 * @param {Recording} run @param {number} step @param {string[]} names
 * @param {{layer?: number, pruned?: boolean}} [only] layer -1: all
 */
function positionsWith(run, step, names, { layer = -1, pruned = false } = {}) {
  const layerOf = run.key("layerOf"), kept = run.key("kept");
  const columns = names.map((name) => run.values(name));
  const start = step * run.count;
  const found = [];
  for (let at = 0; at < run.count; at++) {
    if (layer >= 0 && layerOf[at] !== layer) continue;
    if (!pruned && kept[start + at] === 0) continue;
    if (columns.every((values) => Number.isFinite(values[start + at]))) found.push(at);
  }
  return found;
}

/** Values of some positions. @param {Numbers} values @param {number} start @param {number[]} places */
function valuesAt(values, start, places) {
  return places.map((at) => values[start + at]);
}

/**
 * The power of ten up to which a symmetric-log axis is linear, as
 * pruneviz.analysis.symmetric_log.linear_threshold finds it. @param {Numbers} values
 */
function linearThreshold(values) {
  const sizes = Float64Array.from(values, Math.abs).filter((v) => Number.isFinite(v) && v > 0).sort();
  if (!sizes.length) return 1;
  const at = 0.1 * (sizes.length - 1), low = Math.floor(at);
  const high = Math.min(low + 1, sizes.length - 1);
  const tenth = sizes[low] + (at - low) * (sizes[high] - sizes[low]);
  const least = Math.min(Math.max(tenth, sizes[sizes.length - 1] / 1e10, 1e-280), 1e300);
  return 10 ** Math.floor(Math.log10(least));
}

/** Smallest and largest finite value; null without one. @param {Numbers} values */
function extent(values) {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (Number.isFinite(value)) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? { low, high } : null;
}
