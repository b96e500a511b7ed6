// @ts-check
"use strict";
// Two runs side by side on the same axes, and the overlap of what two measures would prune.

/**
 * How many rows two measures prune alike at an epoch of both runs. A measure ranks what it scores:
 * batch-norm scales, say, rank no filter of a layer without batch norm.
 * @typedef {{both: number, one: number, other: number, rankedOne: number, rankedOther: number,
 *   chance: number}} Overlap counts; `chance` of both if the other measure pruned at random
 * @param {Recording} a @param {string} measureA @param {number} stepA
 * @param {Recording} b @param {string} measureB @param {number} stepB @param {number} ratio
 * @returns {Overlap | null} null where a measure ranks nothing
 */
function overlapOf(a, measureA, stepA, b, measureB, stepB, ratio) {
  const facts = [a.measure(measureA), b.measure(measureB)];
  if (!facts[0] || !facts[1] || facts[0].flat.includes(stepA) || facts[1].flat.includes(stepB)) return null;
  const one = prunedBy(a, measureA, stepA, ratio), other = prunedBy(b, measureB, stepB, ratio);
  const found = { both: 0, one: 0, other: 0, rankedOne: 0, rankedOther: 0, chance: 0 };
  let open = 0; // pruned by the one, and ranked by the other
  for (let at = 0; at < one.length; at++) {
    found.rankedOne += one[at] === 2 ? 0 : 1;
    found.rankedOther += other[at] === 2 ? 0 : 1;
    found.one += one[at] === 1 ? 1 : 0;
    found.other += other[at] === 1 ? 1 : 0;
    found.both += one[at] === 1 && other[at] === 1 ? 1 : 0;
    open += one[at] === 1 && other[at] !== 2 ? 1 : 0;
  }
  if (!found.rankedOne || !found.rankedOther) return null;
  return { ...found, chance: (open * found.other) / found.rankedOther };
}

/** Overlap over the epochs that both runs show. @param {Recording} a @param {Recording} b @param {View} view @returns {Curves} */
function overlapCurves(a, b, view) {
  const [nameA, nameB] = [a.measure(view.measureA)?.symbol, b.measure(view.measureB)?.symbol];
  const label = "share pruned by both";
  if (!nameA || !nameB) return { lines: [], label, told: "one of these runs has no columns of any measure" };
  if (!a.hasRowsOf(b)) return { lines: [], label, told: `these runs do not name the same ${a.facts.noun}s, so their masks cannot be compared` };
  const ratio = view.ratio / 100;
  const epochs = a.epochs.filter((epoch) => b.epochs.includes(epoch));
  const found = epochs.map((epoch) => overlapOf(a, view.measureA, a.epochs.indexOf(epoch), b, view.measureB, b.epochs.indexOf(epoch), ratio));
  const told = `of what ${nameA} would prune at ${view.ratio} % of the kept ${a.facts.noun}s, the share that ${nameB} would prune too`;
  if (!found.some(Boolean)) return { lines: [], label, told: `${told}: there is no epoch at which both rank the ${a.facts.noun}s` };
  const shares = found.map((each) => each && each.one ? each.both / each.one : NaN);
  const chance = found.map((each) => each && each.one ? each.chance / each.one : NaN);
  return { lines: [lineOf("pruned by both", epochs, shares), lineOf("by chance", epochs, chance, 1)], label, told, fixed: [0, 1.03] };
}

/** Counts of the overlap at the current epoch, in words. @param {Recording} a @param {Recording} b @param {View} view */
function overlapInWords(a, b, view) {
  const stepA = a.epochs.indexOf(view.epoch), stepB = b.epochs.indexOf(view.epoch);
  if (stepA < 0 || stepB < 0 || !a.hasRowsOf(b)) return "";
  const found = overlapOf(a, view.measureA, stepA, b, view.measureB, stepB, view.ratio / 100);
  if (!found) return "";
  const [nameA, nameB] = [a.measure(view.measureA)?.symbol, b.measure(view.measureB)?.symbol];
  const noun = `${a.facts.noun}s`;
  const among = found.rankedOne === found.rankedOther ? "" : ` of the ${counted(found.rankedOther)} that it ranks`;
  return `At epoch ${view.epoch}, ${nameA} would prune ${counted(found.one)} of ${counted(found.rankedOne)} kept ${noun}${among ? " that it ranks" : ""}, ${nameB} ${counted(found.other)}${among}; `
    + `${counted(found.both)} (${percent(found.one ? found.both / found.one : NaN)}) are pruned by both; by chance alone it would be ${short(found.chance, 2)}. `;
}
