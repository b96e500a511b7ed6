// @ts-check
"use strict";
// What stands above and below the pictures: the state of the page, its runs, notes on its numbers.

/** Show the state of the page under its title. @param {string} text @param {boolean} [wrong] */
function tell(text, wrong = false) {
  const state = placeOf("state");
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle("wrong", wrong);
}

const TOLD_OF_RUNS = ["network", "data set", "seed", "final accuracy", "batch norm", "pruning"];

/** All runs with their facts, where there are several. @param {Store} store */
function showRuns(store) {
  const details = placeOf("all-runs");
  details.hidden = store.runs.length < 2;
  const row = (/** @type {Recording} */ run) => {
    const facts = new Map(run.facts.facts);
    const cells = TOLD_OF_RUNS.map((name) => (facts.get(name) || "").split(":")[0]);
    return [run.facts.name, ...cells, run.facts.finished ? "" : "not finished"];
  };
  const frame = tableOf(["run", ...TOLD_OF_RUNS, "state"], store.runs.map(row), "All runs");
  details.replaceChildren(element("summary", {}, [`All ${several(store.runs.length, "run")}`]), frame);
}

/** What the quantities are and how values are held, at the foot of the page. @param {Facts} facts */
function showNotes(facts) {
  /** @type {Map<string, string>} */
  const meanings = new Map();
  for (const { name, symbol, unit, meaning } of facts.runs.flatMap((run) => [...run.columns, ...run.measures])) {
    const known = [symbol === name ? "" : symbol, unit].filter(Boolean).join(", ");
    if (!meanings.has(name)) meanings.set(name, `${name}${known ? ` (${known})` : ""}: ${meaning}`);
  }
  const items = (/** @type {string[]} */ texts) => element("ul", {}, texts.map((text) => element("li", {}, [text])));
  placeOf("footer").replaceChildren(
    element("h2", {}, ["The quantities"]), items([...meanings.values()]),
    element("h2", {}, ["About the numbers"]), items(facts.notes),
  );
}

/** Show what the server could not read; "" for nothing. @param {string} text */
function showTrouble(text) {
  const trouble = placeOf("trouble");
  if (trouble.textContent !== text) trouble.textContent = text;
}

/** @param {string} title */
function showTitle(title) {
  document.title = title;
  placeOf("title").textContent = title;
}
