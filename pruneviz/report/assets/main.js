// @ts-check
"use strict";
// The page: unpacks the recordings, builds the pictures, and keeps them at one view.

class Page {
  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.first = firstView(store);
    this.view = fromHash(location.hash, this.first, store);
    this.waiting = false;
    this.address = new Address();
    this.chosenBy = { how: "", chosen: "", from: "" }; // how rows were chosen from the list, which, and from what
    this.stepped = false; // whether the view is another step of the history
    /** @type {ReturnType<typeof setInterval> | null} */
    this.playing = null;
    const main = placeOf("main-pictures"), beside = placeOf("compare-pictures");
    const act = this.actions();
    this.scatter = new Scatter(main, "scatter", "Scatter", act);
    this.layers = new Layers(main, act);
    this.over = new Lines(main, "over-epochs", "Over epochs", act);
    this.paths = new Lines(main, "trajectories", "Chosen rows over epochs", act);
    this.sideA = new Scatter(beside, "side-a", "A", null);
    this.sideB = new Scatter(beside, "side-b", "B", null);
    this.overlap = new Lines(beside, "overlap", "Overlap of two masks", act);
    this.overlap.frame.section.classList.add("wide");
    this.lists = this.madeLists();
    this.choosing = choice("Choose", "choose", (value) => this.chooseBy(value));
    this.scatter.frame.choices.append(this.choosing.label);
    this.ratios = [this.layers.frame, this.overlap.frame].map((frame, place) => this.ratioIn(frame, place));
    this.run = /** @type {HTMLSelectElement} */ (placeOf("run"));
    this.run.addEventListener("change", () => this.set({ run: this.run.value, a: this.run.value }));
    this.layer = /** @type {HTMLSelectElement} */ (placeOf("layer"));
    this.layer.addEventListener("change", () => this.set({ layer: Number(this.layer.value) }));
    this.slider = /** @type {HTMLInputElement} */ (placeOf("epoch"));
    this.slider.addEventListener("input", () => {
      this.set({ epoch: this.store.run(this.view.run).epochs[Number(this.slider.value)] });
    });
    this.play = /** @type {HTMLButtonElement} */ (placeOf("play"));
    this.play.addEventListener("click", () => this.playOrStop());
    this.followTheme();
    showRuns(store);
    window.addEventListener("hashchange", () => {
      if (this.address.is(asHash(this.view, this.first))) return;
      this.view = fromHash(location.hash, this.first, this.store);
      this.update();
    });
  }

  /** Change the view and show it. @param {Partial<View>} changes */
  set(changes) {
    const before = this.store.run(this.view.run);
    this.view = this.moved({ ...this.view, ...changes }, before);
    this.stepped ||= Object.keys(changes).some((key) => !["epoch", "ratio"].includes(key));
    this.update();
  }

  /**
   * A view in which layers and chosen rows are those of its run. @param {View} view
   * @param {Recording} before the run that they were of
   */
  moved(view, before) {
    const run = this.store.run(view.run);
    if (run === before) return fitted(view, this.store);
    const chosen = run.hasRowsOf(before) ? view.chosen : [];
    const layer = run.facts.layers.indexOf(before.facts.layers[view.layer]);
    return fitted({ ...view, chosen, layer }, this.store);
  }

  /** Other recordings, such as those of a run that goes on. @param {Store} store */
  refresh(store) {
    const before = this.store.run(this.view.run);
    const atEnd = this.view.epoch === before.epochs[before.epochs.length - 1];
    const now = store.same(before);
    const named = (/** @type {View} */ view) => {
      const [run, a, b] = [view.run, view.a, view.b].map((name) => (store.same(this.store.run(name)) || store.runs[0]).facts.name);
      return { ...view, run, a, b };
    };
    const [view, first] = [named(this.view), named(this.first)];
    this.store = store;
    this.first = fitted({ ...firstView(store), run: first.run, a: first.a, b: first.b }, store);
    const kept = now && now.hasRowsOf(before) ? view : { ...view, chosen: [], layer: -1 };
    const run = store.run(view.run);
    this.view = fitted(atEnd && now ? { ...kept, epoch: run.epochs[run.epochs.length - 1] } : kept, store);
    showRuns(store);
    this.update();
  }

  /** What pictures do to the view. */
  actions() {
    return {
      choose: (/** @type {number[]} */ chosen) => this.set({ chosen }),
      toggle: (/** @type {number} */ at) => this.toggle(at),
      pick: (/** @type {number} */ layer) => this.set({ layer }),
      epoch: (/** @type {number} */ epoch) => {
        const run = this.store.run(this.view.run);
        this.set({ epoch: run.epochs[run.stepOf(epoch)] });
      },
    };
  }

  /** Lists, each of which sets one part of the view. */
  madeLists() {
    const list = (/** @type {Frame} */ frame, /** @type {string} */ label, /** @type {keyof View} */ key, /** @type {string} */ id) => {
      const made = choice(label, id, (value) => this.set({ [key]: value }));
      frame.choices.append(made.label);
      return made.select;
    };
    const [scatter, layers, over] = [this.scatter.frame, this.layers.frame, this.over.frame];
    const [a, b, overlap] = [this.sideA.frame, this.sideB.frame, this.overlap.frame];
    return {
      x: list(scatter, "x", "x", "x"), y: list(scatter, "y", "y", "y"),
      colour: list(scatter, "Colour", "colour", "colour"), scale: list(scatter, "Axes", "scale", "scale"), span: list(scatter, "Range of", "span", "span"),
      bars: list(layers, "Show", "bars", "bars"), measure: list(layers, "Measure", "measure", "measure"),
      quantity: list(layers, "of", "quantity", "quantity"),
      curve: list(over, "Show", "curve", "curve"), method: list(over, "Correlation", "method", "method"),
      a: list(a, "Run", "a", "run-a"), b: list(b, "Run", "b", "run-b"),
      bx: list(b, "x", "bx", "x-b"), by: list(b, "y", "by", "y-b"),
      measureA: list(overlap, "Measure in A", "measureA", "measure-a"),
      measureB: list(overlap, "Measure in B", "measureB", "measure-b"),
    };
  }

  /** A slider of the pruned share. @param {Frame} frame @param {number} place */
  ratioIn(frame, place) {
    const slider = element("input", { type: "range", min: "1", max: "99", step: "1", id: place ? "ratio-overlap" : "ratio" });
    const shown = element("output", { for: slider.id });
    slider.addEventListener("input", () => this.set({ ratio: Number(slider.value) }));
    const label = element("label", {}, ["Prune ", slider, " ", shown]);
    frame.choices.append(label);
    return { slider, shown, label };
  }

  /** Dark or light, as chosen or as the system has it. */
  followTheme() {
    const theme = /** @type {HTMLSelectElement} */ (placeOf("theme"));
    const system = matchMedia("(prefers-color-scheme: dark)");
    const shown = () => theme.value || (system.matches ? "dark" : "light");
    const paint = () => {
      document.documentElement.dataset.theme = shown();
      this.update();
    };
    theme.addEventListener("change", paint);
    system.addEventListener("change", paint);
    document.documentElement.dataset.theme = shown();
  }

  /** @param {number} at */
  toggle(at) {
    const chosen = new Set(this.view.chosen);
    if (!chosen.delete(at)) chosen.add(at);
    this.set({ chosen: [...chosen] });
  }

  /** What the list of rows chooses from. */
  chosenFrom() {
    const { run, epoch, x, y, layer } = this.view;
    return JSON.stringify([run, epoch, x, y, layer]);
  }

  /** Choose rows by their values, without a pointer. @param {string} how */
  chooseBy(how) {
    if (!how) return;
    const run = this.store.run(this.view.run);
    const [name, end] = how.split(" ");
    let places = [...this.scatter.places];
    if (how === "none") places = [];
    else if (how !== "all") {
      const quantity = name === "x" ? this.view.x : this.view.y;
      if (!run.held.has(quantity)) return; // another run is about to be shown
      const values = run.values(quantity);
      const start = run.stepOf(this.view.epoch) * run.count;
      const sign = end === "lowest" ? 1 : -1;
      places = places.filter((at) => run.key("kept")[start + at] !== 0)
        .sort((a, b) => sign * (values[start + a] - values[start + b])).slice(0, 10);
    }
    announce(`${places.length} rows chosen`);
    // the list keeps what it chose: else arrow keys would never get beyond its second entry
    this.chosenBy = { how, chosen: asRanges(places), from: this.chosenFrom() };
    this.set({ chosen: places });
  }

  playOrStop() {
    const run = () => this.store.run(this.view.run);
    const stop = () => {
      if (this.playing !== null) clearInterval(this.playing);
      this.playing = null;
      this.play.setAttribute("aria-pressed", "false");
      this.play.textContent = "Play";
    };
    if (this.playing !== null) { stop(); return; }
    this.play.setAttribute("aria-pressed", "true");
    this.play.textContent = "Stop";
    if (run().stepOf(this.view.epoch) === run().epochs.length - 1) this.set({ epoch: run().epochs[0] });
    this.playing = setInterval(() => {
      const next = run().stepOf(this.view.epoch) + 1;
      if (next >= run().epochs.length) stop();
      else this.set({ epoch: run().epochs[next] });
    }, 700);
  }

  /** Show the view, once for all changes of a moment. */
  update() {
    if (this.waiting) return;
    this.waiting = true;
    queueMicrotask(async () => {
      this.waiting = false;
      const view = this.view;
      try {
        await this.unpack(view);
        if (view === this.view) this.show();
      } catch (error) {
        tell(error instanceof Error ? error.message : String(error), true);
      }
    });
  }

  /** Unpack what the view shows. @param {View} view */
  async unpack(view) {
    const run = this.store.run(view.run), a = this.store.run(view.a), b = this.store.run(view.b);
    const ranked = view.bars === "share" || view.curve === "masks" ? [view.measure && `ranks:${view.measure}`] : [];
    const coloured = run.has(view.colour) ? [view.colour] : [];
    const mean = view.bars === "mean" ? [view.quantity] : [];
    await run.need([view.x, view.y, ...coloured, ...ranked, ...mean]);
    await a.need([a.has(view.x) ? view.x : firstOf(a, []), a.has(view.y) ? view.y : firstOf(a, []), `ranks:${view.measureA}`]);
    const [bx, by] = this.namesOfB(view);
    await b.need([bx, by, `ranks:${view.measureB}`]);
    for (const side of [a, b]) if (side.has(view.colour)) await side.need([view.colour]);
  }

  /** Quantities of side B: those of A unless others are chosen. @param {View} view */
  namesOfB(view) {
    const b = this.store.run(view.b);
    const own = (/** @type {string} */ name, /** @type {string} */ other) => name && b.has(name) ? name : b.has(other) ? other : firstOf(b, []);
    return [own(view.bx, view.x), own(view.by, view.y)];
  }

  show() {
    const started = performance.now();
    const view = this.view;
    const run = this.store.run(view.run);
    const step = run.stepOf(view.epoch);
    const log = view.scale === "log";
    const chosen = new Set(view.chosen);
    this.showControls(run, step);
    const spanned = view.span === "all" ? -1 : step;
    const [xAxis, yAxis] = [axisOf(run, view.x, log, spanned), axisOf(run, view.y, log, spanned)];
    this.scatter.show({ run, step, x: view.x, y: view.y, colour: view.colour, layer: view.layer, chosen, xAxis, yAxis, method: view.method, log });
    this.layers.show({ run, step, bars: view.bars, measure: view.measure, quantity: view.quantity, ratio: view.ratio, x: view.x, y: view.y, method: view.method, layer: view.layer, chosen, log });
    const key = ["curve", view.curve, view.x, view.y, view.method, view.measure, view.ratio].join(" ");
    this.over.show(run.remembered(key, () => curvesOf(run, view)), view.epoch, run.epochs);
    this.paths.show(trajectoriesOf(run, view.y, view.chosen), view.epoch, run.epochs, axisOf(run, view.y, log));
    this.showCompared(log);
    this.address.hold(asHash(view, this.first), this.stepped);
    this.stepped = false;
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn || 0) + 1);
    document.documentElement.dataset.milliseconds = (performance.now() - started).toFixed(1);
  }

  /** @param {boolean} log */
  showCompared(log) {
    const { sideA, sideB, overlap } = this;
    const a = this.store.run(this.view.a), b = this.store.run(this.view.b);
    const view = this.view;
    const ax = a.has(view.x) ? view.x : firstOf(a, []), ay = a.has(view.y) ? view.y : firstOf(a, []);
    const [bx, by] = this.namesOfB(view);
    const [stepA, stepB] = [a, b].map((run) => view.span === "all" ? -1 : run.stepOf(view.epoch));
    const key = [a.facts.name, ax, ay, stepA, b.facts.name, bx, by, stepB, log].join("\n");
    const both = this.store.runs[0].remembered(`axes ${key}`, () => ({
      x: axisFor([valuesOf(a, ax, stepA), valuesOf(b, bx, stepB)], log),
      y: axisFor([valuesOf(a, ay, stepA), valuesOf(b, by, stepB)], log),
    }));
    for (const [side, run, x, y] of /** @type {[Scatter, Recording, string, string][]} */ ([[sideA, a, ax, ay], [sideB, b, bx, by]])) {
      const colour = view.colour === BY_KEPT || run.has(view.colour) ? view.colour : BY_DEPTH;
      side.show({ run, step: run.stepOf(view.epoch), x, y, colour, layer: -1, chosen: new Set(), xAxis: both.x, yAxis: both.y, method: view.method, log });
      side.frame.tell(`${run.facts.name}: ${side.caption()}`, () => side.table());
    }
    const shared = ["overlap", b.facts.name, view.measureA, view.measureB, view.ratio].join("\n");
    overlap.show(a.remembered(shared, () => overlapCurves(a, b, view)), view.epoch, a.epochs);
    overlap.frame.tell(overlapInWords(a, b, view) + sentence(overlap.caption()), () => overlap.table());
  }

  /** @param {Recording} run @param {number} step */
  showControls(run, step) {
    const view = this.view;
    const lists = this.lists;
    const named = (/** @type {Recording} */ of) => of.quantities().map((name) => /** @type {[string, string]} */ ([name, inList(of, name)]));
    const ranked = (/** @type {Recording} */ of) => of.facts.measures.map((measure) => /** @type {[string, string]} */ ([measure.name, measure.symbol]));
    const runs = this.store.runs.map((each) => /** @type {[string, string]} */ ([each.facts.name, each.facts.name]));
    const quantities = named(run);
    fill(lists.x, quantities, view.x);
    fill(lists.y, quantities, view.y);
    fill(lists.quantity, quantities, view.quantity);
    fill(lists.colour, [[BY_DEPTH, "layer depth"], [BY_KEPT, "kept or pruned"], ...quantities], view.colour);
    fill(lists.scale, [["log", "signed log"], ["linear", "linear"]], view.scale);
    fill(lists.span, [["epoch", "this epoch"], ["all", "all epochs"]], view.span);
    const kinds = /** @type {[string, string][]} */ ([["share", "pruned share by a measure"], ["correlation", "correlation within the layer"], ["mean", "mean of a quantity"], ["kept", "pruned in this run"]]);
    fill(lists.bars, kinds, view.bars);
    fill(lists.measure, ranked(run), view.measure);
    const others = Object.keys(run.facts.curves).filter((name) => name !== "epoch" && !isAccuracy(name));
    fill(lists.curve, [["correlation", "correlation of x and y"], ["masks", "mask distance by the measure"], ["accuracy", "accuracy"], ...others.map((name) => /** @type {[string, string]} */ ([LOGGED + name, name]))], view.curve);
    fill(lists.method, [["pearson", "Pearson"], ["spearman", "Spearman"]], view.method);
    const a = this.store.run(view.a), b = this.store.run(view.b);
    fill(lists.a, runs, view.a);
    fill(lists.b, runs, view.b);
    const [bx, by] = this.namesOfB(view);
    fill(lists.bx, named(b), bx);
    fill(lists.by, named(b), by);
    fill(lists.measureA, ranked(a), view.measureA);
    fill(lists.measureB, ranked(b), view.measureB);
    fill(this.choosing.select, [["", "rows ..."], ["none", "none"], ["all", "all shown"], ["x lowest", "10 lowest in x"], ["x highest", "10 highest in x"], ["y lowest", "10 lowest in y"], ["y highest", "10 highest in y"]], asRanges(view.chosen) === this.chosenBy.chosen && this.chosenFrom() === this.chosenBy.from ? this.chosenBy.how : "");
    lists.measure.parentElement?.toggleAttribute("hidden", view.bars !== "share" && view.curve !== "masks");
    lists.quantity.parentElement?.toggleAttribute("hidden", view.bars !== "mean");
    for (const { slider, shown } of this.ratios) {
      slider.value = String(view.ratio);
      shown.textContent = `${view.ratio} %`;
    }
    this.ratios[0].label.toggleAttribute("hidden", view.bars !== "share" && view.curve !== "masks");
    fill(this.run, runs, view.run);
    fill(this.layer, [["-1", "all"], ...run.facts.layers.map((_, depth) => /** @type {[string, string]} */ ([String(depth), run.layerName(depth)]))], String(view.layer));
    this.slider.max = String(run.epochs.length - 1);
    this.slider.value = String(step);
    this.slider.setAttribute("aria-valuetext", `epoch ${run.epochs[step]}`);
    placeOf("epoch-shown").textContent = `${run.epochs[step]} of ${run.epochs[run.epochs.length - 1]}`;
    this.showHead(run);
  }

  /** @param {Recording} run */
  showHead(run) {
    placeOf("facts").replaceChildren(...[["run", run.facts.name], ...run.facts.facts].flatMap(([name, value]) => [element("dt", {}, [name]), element("dd", {}, [value])]));
    placeOf("sentences").replaceChildren(...run.facts.sentences.map((text) => element("li", {}, [text])));
    const unfinished = run.facts.finished ? "" : "; this run is not finished";
    tell(`${several(this.store.runs.length, "run")}; this one: ${several(run.count, run.facts.noun)} in ${several(run.facts.layers.length, "layer")} at ${several(run.epochs.length, "epoch")}${unfinished}`);
  }
}

/** A quantity in a list: its name and symbol. @param {Recording} run @param {string} name */
function inList(run, name) {
  const { symbol } = run.described(name);
  return symbol === name ? name : `${name}: ${symbol}`;
}

/** Text of an element that holds data. @param {string} id */
function heldText(id) {
  return document.getElementById(id)?.textContent || "";
}

const INTERVAL = 1000; // milliseconds between two questions whether recordings have changed

/** Follow a folder that is being recorded. @param {Page} page @param {string} version what the page shows */
function follow(page, version) {
  let shown = version, reached = true;
  const ask = async () => {
    try {
      const state = await (await fetch("/version")).json();
      if (state.version !== shown || !reached) {
        const { facts, blocks } = await (await fetch("/contents")).json();
        shown = facts.version;
        showTitle(facts.title);
        if (facts.runs.length) page.refresh(new Store(facts, (run, block) => blocks[run][block]));
      }
      reached = true;
      showTrouble(state.trouble);
    } catch {
      reached = false;
      showTrouble("the server has stopped; the page shows the last recordings that it sent");
    }
    setTimeout(ask, INTERVAL);
  };
  setTimeout(ask, INTERVAL);
}

function start() {
  /** @type {Facts} */
  const facts = JSON.parse(heldText("facts-held"));
  showNotes(facts);
  const page = new Page(new Store(facts, (run, block) => heldText(`block-${run}-${block}`)));
  page.update();
  showTrouble(facts.trouble);
  if (facts.version !== null) follow(page, facts.version);
}

try {
  start();
} catch (error) {
  tell(`this page cannot be shown: ${error instanceof Error ? error.message : error}`, true);
}
