// @ts-check
"use strict";
// The recordings on this page: names and facts as JSON, columns as compressed bytes that are
// unpacked when a picture first needs them.

/**
 * @typedef {{kind: string, length: number}} BlockFacts
 * @typedef {{name: string, symbol: string, unit: string, meaning: string, block: number,
 *   rounded: boolean, error: string | null, given_g: boolean, quantile: number | null}} ColumnFacts
 * @typedef {{name: string, symbol: string, unit: string, meaning: string, ranks: number | null,
 *   ordered: number | null, absent: number, like: [string, string] | null,
 *   flat: number[]}} MeasureFacts
 * @typedef {{unit: string, meaning: string, values: (number | null)[]}} Curve
 * @typedef {{name: string, id: string, noun: string, sampled: boolean, facts: [string, string][], sentences: string[],
 *   epochs: number[], layers: string[], count: number, layerOf: number, filter: number,
 *   weight: number | null, kept: number, columns: ColumnFacts[], measures: MeasureFacts[],
 *   curves: Record<string, Curve>, blocks: BlockFacts[],
 *   finished: boolean}} RunFacts
 * @typedef {{runs: RunFacts[], version: string | null, trouble: string, title: string,
 *   notes: string[]}} Facts
 * @typedef {(run: number, block: number) => string} TextOf text of a block of a run, by places
 * @typedef {Float32Array | Float64Array | Uint8Array | Uint16Array | Uint32Array} Numbers
 */

/** Bytes of a base64 text. @param {string} text @returns {Uint8Array} */
function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** Uncompressed bytes of a base64 text. @param {string} text @returns {Promise<Uint8Array>} */
async function inflated(text) {
  const source = new Blob([/** @type {BlobPart} */ (bytesOf(text))]).stream();
  const stream = source.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Array types by kind of block, and the number of upper bytes that it holds. @type {Record<string, [any, number]>} */
const KINDS = {
  f4: [Float32Array, 4], b3: [Float32Array, 3], f8: [Float64Array, 8], d4: [Float64Array, 4],
  u1: [Uint8Array, 1], u2: [Uint16Array, 2], u4: [Uint32Array, 4],
};

/**
 * The numbers of a block: bytes lie sorted by their place in a number.
 * @param {string} text @param {BlockFacts} facts @returns {Promise<Numbers>}
 */
async function numbersOf(text, facts) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack the recordings; use one of 2023 or later");
  }
  const planes = await inflated(text).catch(() => new Uint8Array(0));
  const [type, held] = KINDS[facts.kind];
  const size = type.BYTES_PER_ELEMENT;
  if (planes.length !== held * facts.length) {
    throw new Error("a column of this page is damaged; copy the file again, or write it again with pruneviz report");
  }
  const bytes = new Uint8Array(size * facts.length);
  for (let place = 0; place < held; place++) {
    const from = place * facts.length;
    const to = size - held + place;
    for (let i = 0; i < facts.length; i++) bytes[i * size + to] = planes[from + i];
  }
  return new type(bytes.buffer);
}

/** What measures do with a column. @type {Record<string, (value: number) => number>} */
const FORMS = { value: (value) => value, size: Math.abs, root: Math.sqrt };

/** Everything that the page holds. */
class Store {
  /** @param {Facts} facts @param {TextOf} textOf */
  constructor(facts, textOf) {
    this.facts = facts;
    this.runs = facts.runs.map((run, place) => new Recording(run, (block) => textOf(place, block)));
  }

  /** The run of this name, else the first. @param {string} name @returns {Recording} */
  run(name) {
    return this.runs.find((run) => run.facts.name === name) || this.runs[0];
  }

  /** The same run as one of other contents, whose name may have changed. @param {Recording} other */
  same(other) {
    return this.runs.find((run) => run.facts.id === other.facts.id);
  }
}

/** One run: its quantities as [epoch, position], flat. */
class Recording {
  /** @param {RunFacts} facts @param {(block: number) => string} textOf */
  constructor(facts, textOf) {
    this.facts = facts;
    this.textOf = textOf;
    /** Blocks that are unpacked, or are being so. @type {Map<number, Promise<Numbers>>} */
    this.blocks = new Map();
    /** Quantities that are unpacked. @type {Map<string, Numbers>} */
    this.held = new Map();
    /** Layer, filter, weight and kept of every row. @type {Map<string, Numbers>} */
    this.keys = new Map();
    /** Computed numbers, such as ranges. @type {Map<string, any>} */
    this.memory = new Map();
  }

  get count() { return this.facts.count; }
  get epochs() { return this.facts.epochs; }

  /** @param {number} block @returns {Promise<Numbers>} */
  unpacked(block) {
    let found = this.blocks.get(block);
    if (!found) {
      found = numbersOf(this.textOf(block), this.facts.blocks[block]);
      this.blocks.set(block, found);
    }
    return found;
  }

  /** Unpack what a picture needs. @param {string[]} names quantities, or "ranks:MEASURE" */
  async need(names) {
    const keys = /** @type {const} */ (["layerOf", "filter", "kept"]);
    for (const key of keys) {
      if (!this.keys.has(key)) this.keys.set(key, await this.unpacked(this.facts[key]));
    }
    if (this.facts.weight !== null && !this.keys.has("weight")) {
      this.keys.set("weight", await this.unpacked(this.facts.weight));
    }
    for (const name of names) {
      if (name && !this.held.has(name)) await this.unpack(name);
    }
  }

  /** @param {string} name */
  async unpack(name) {
    const column = this.column(name);
    if (column) {
      const values = await this.unpacked(column.block);
      if (column.error) await this.need([column.error]);
      this.held.set(name, values); // only now: what is held has its errors beside it
      return;
    }
    const measure = this.measure(name.replace(/^ranks:/, ""));
    if (!measure) return;
    const ranks = await this.ranksOf(measure);
    this.held.set("ranks:" + measure.name, ranks);
    if (!this.column(measure.name)) this.held.set(measure.name, await this.valuesOf(measure, ranks));
  }

  /** Importances; NaN where a row has none, also as it is pruned. @param {MeasureFacts} measure @param {Numbers} ranks */
  async valuesOf(measure, ranks) {
    const values = new Float64Array(ranks.length).fill(NaN);
    const kept = this.key("kept");
    const ordered = measure.ordered === null ? null : await this.unpacked(measure.ordered);
    const like = measure.like && { values: this.values(measure.like[0]), form: FORMS[measure.like[1]] };
    for (let at = 0; at < ranks.length; at++) {
      if (ranks[at] === measure.absent || kept[at] === 0) continue;
      if (like) values[at] = like.form(like.values[at]);
      else if (ordered) values[at] = ordered[at - (at % this.count) + ranks[at]];
    }
    return values;
  }

  /** @param {MeasureFacts} measure @returns {Promise<Numbers>} */
  async ranksOf(measure) {
    if (measure.ranks !== null) return this.unpacked(measure.ranks);
    const [name, form] = /** @type {[string, string]} */ (measure.like);
    await this.need([name]);
    const values = this.values(name);
    const kept = this.key("kept");
    const ranks = new Uint32Array(values.length).fill(measure.absent);
    for (let start = 0; start < values.length; start += this.count) {
      const scores = new Float64Array(this.count);
      const places = [];
      for (let at = 0; at < this.count; at++) {
        const value = values[start + at];
        if (Number.isNaN(value)) continue;
        scores[at] = kept[start + at] === 0 ? -Infinity : FORMS[form](value);
        places.push(at);
      }
      stablyOrdered(places, scores).forEach((at, rank) => { ranks[start + at] = rank; });
    }
    return ranks;
  }

  /** @param {string} name @returns {Numbers} */
  values(name) {
    const found = this.held.get(name);
    if (!found) throw new Error(`${name} of ${this.facts.name} is not unpacked`);
    return found;
  }

  /** @param {"layerOf" | "filter" | "weight" | "kept"} name @returns {Numbers} */
  key(name) {
    const found = this.keys.get(name);
    if (!found) throw new Error(`${name} of ${this.facts.name} is not unpacked`);
    return found;
  }

  /** @param {string} name */
  has(name) { return Boolean(this.column(name) || this.measure(name)); }
  /** @param {string} name */
  column(name) { return this.facts.columns.find((column) => column.name === name); }
  /** @param {string} name */
  measure(name) { return this.facts.measures.find((measure) => measure.name === name); }

  /** Names of all quantities: columns, then measures that are no columns. */
  quantities() {
    const columns = this.facts.columns.map((column) => column.name);
    const measures = this.facts.measures.map((measure) => measure.name);
    return [...columns, ...measures.filter((name) => !columns.includes(name))];
  }

  /** Symbol, unit and meaning. @param {string} name */
  described(name) {
    const found = this.column(name) || this.measure(name);
    return found || { symbol: name, unit: "", meaning: "" };
  }

  /** Place of the shown epoch that is nearest to an epoch. @param {number} epoch */
  stepOf(epoch) {
    let best = 0;
    this.epochs.forEach((shown, step) => {
      if (Math.abs(shown - epoch) < Math.abs(this.epochs[best] - epoch)) best = step;
    });
    return best;
  }

  /** Name of a layer in words: a network that is one layer calls it "". @param {number} depth */
  layerName(depth) { return this.facts.layers[depth] || "(the network itself)"; }

  /** Whether another run has the same rows in the same order. @param {Recording} other */
  hasRowsOf(other) {
    const names = (/** @type {Recording} */ run) => [
      run.facts.noun, run.facts.layers, run.textOf(run.facts.layerOf), run.textOf(run.facts.filter),
      run.facts.weight === null ? null : run.textOf(run.facts.weight),
    ];
    return this === other || JSON.stringify(names(this)) === JSON.stringify(names(other));
  }

  /** A row's name: layer, filter, weight. @param {number} at position */
  rowName(at) {
    const layer = this.layerName(this.key("layerOf")[at]);
    const weight = this.keys.has("weight") ? `, weight ${this.key("weight")[at]}` : "";
    const noun = this.facts.noun === "weight" ? "filter" : this.facts.noun;
    return `${layer}, ${noun} ${this.key("filter")[at]}${weight}`;
  }

  /** @template T @param {string} key @param {() => T} make @returns {T} */
  remembered(key, make) {
    if (!this.memory.has(key)) this.memory.set(key, make());
    return this.memory.get(key);
  }
}

/**
 * Positions by ascending score; equal scores keep their order.
 * @param {number[]} places @param {Float64Array} scores
 */
function stablyOrdered(places, scores) {
  return places.sort((a, b) => (scores[a] < scores[b] ? -1 : scores[a] > scores[b] ? 1 : a - b));
}
