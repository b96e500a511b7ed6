// @ts-check
"use strict";
// The axes of a picture: ticks, pointer, box and keys; uPlot draws them.

/**
 * What a picture does with the pointer and keys, in pixels of its plot.
 * @typedef {{
 *   draw: (plot: Axes, context: CanvasRenderingContext2D) => void,
 *   hover?: (left: number, top: number) => string | null,
 *   click?: (left: number, top: number) => void,
 *   brush?: (left: number, top: number, width: number, height: number) => void,
 *   key?: (key: string) => string | null,
 *   pointed?: () => {text: string, left: number, top: number} | null,
 * }} Behaviour
 */

/**
 * Ticks of an axis: places and labels; none leaves them to uPlot.
 * @typedef {{label: string, low: number, high: number, ticks?: (most: number) => number[],
 *   text?: (place: number) => string}} Side
 */

/** The axes of one picture, drawn by uPlot; its contents are drawn by the picture. */
class Axes {
  /** Whose text the tooltip shows. @type {Axes | null} */
  static teller = null;

  /** @param {HTMLElement} host @param {Behaviour} behaviour */
  constructor(host, behaviour) {
    this.host = host;
    this.behaviour = behaviour;
    /** @type {{x: Side, y: Side}} */
    this.sides = { x: { label: "", low: 0, high: 1 }, y: { label: "", low: 0, high: 1 } };
    this.empty = element("div", { class: "empty" });
    this.plot = this.made();
    this.plot.over.append(this.empty);
    new ResizeObserver(() => this.resize()).observe(host);
    host.addEventListener("keydown", (event) => this.pressed(event));
    this.keyed = false; // whether keys put the tooltip where it is
    host.addEventListener("blur", () => { this.keyed = false; showTooltip(null); });
  }

  /** @returns {any} */
  made() {
    const drag = Boolean(this.behaviour.brush);
    const side = (/** @type {"x" | "y"} */ name) => ({
      scale: name,
      stroke: () => themed("text"),
      grid: { stroke: () => themed("grid"), width: 1 },
      ticks: { stroke: () => themed("line"), width: 1, size: 5 },
      font: "12px system-ui, sans-serif",
      labelFont: "13px system-ui, sans-serif",
      label: " ",
      labelSize: 22,
      size: name === "y" ? 58 : 30,
      splits: (/** @type {any} */ u, /** @type {number} */ axis, /** @type {number} */ low,
        /** @type {number} */ high, /** @type {number} */ step) => this.splits(name, low, high, step),
      values: (/** @type {any} */ u, /** @type {number[]} */ places) => this.labels(name, places),
    });
    // @ts-ignore uPlot is embedded before this script
    return new uPlot({
      width: Math.max(200, this.host.clientWidth),
      height: Math.max(150, this.host.clientHeight),
      legend: { show: false },
      scales: {
        x: { time: false, auto: false, range: () => this.range("x") },
        y: { auto: false, range: () => this.range("y") },
      },
      axes: [side("x"), side("y")],
      series: [{}, { show: false }],
      cursor: {
        points: { show: false },
        x: false, y: false,
        drag: { x: drag, y: drag, setScale: false, dist: 6 },
      },
      hooks: {
        draw: [(/** @type {any} */ u) => this.drawn(u)],
        setCursor: [(/** @type {any} */ u) => this.moved(u.cursor.left, u.cursor.top, u.cursor.event)],
        setSelect: [(/** @type {any} */ u) => this.selected(u)],
        ready: [(/** @type {any} */ u) => {
          u.over.addEventListener("click", (/** @type {MouseEvent} */ event) => this.clicked(event));
          u.over.addEventListener("mouseleave", () => { if (!this.keyed) showTooltip(null); });
        }],
      },
    }, [[0, 1], [null, null]], this.host);
  }

  /** @param {"x" | "y"} name @returns {[number, number]} */
  range(name) {
    const { low, high } = this.sides[name];
    return [low, high];
  }

  /** @param {"x" | "y"} name @param {number} low @param {number} high @param {number} step */
  splits(name, low, high, step) {
    const side = this.sides[name];
    const space = name === "x" ? this.plot?.bbox?.width : this.plot?.bbox?.height;
    const most = Math.max(2, Math.floor((space || 400) / devicePixelRatio / (name === "x" ? 48 : 36)));
    if (side.ticks) return side.ticks(most);
    return linearTicks(low, high, most);
  }

  /** @param {"x" | "y"} name @param {number[]} places */
  labels(name, places) {
    const text = this.sides[name].text;
    return places.map((place) => (text ? text(place) : short(place, 4)));
  }

  /** Show other sides, and draw again. @param {Side} x @param {Side} y @param {string} [empty] */
  show(x, y, empty = "") {
    this.sides = { x, y };
    this.empty.textContent = empty;
    this.plot.axes[0].label = x.label;
    this.plot.axes[1].label = y.label;
    this.redraw();
  }

  redraw() {
    this.plot.batch(() => {
      this.plot.setScale("x", { min: this.sides.x.low, max: this.sides.x.high });
      this.plot.setScale("y", { min: this.sides.y.low, max: this.sides.y.high });
    });
    this.plot.redraw(false, true);
  }

  resize() {
    const width = this.host.clientWidth, height = this.host.clientHeight;
    if (width && (width !== this.plot.width || height !== this.plot.height)) {
      this.plot.setSize({ width, height });
    }
  }

  /** Pixel of a place, in the plot. @param {number} place @param {"x" | "y"} name */
  pixel(place, name) { return this.plot.valToPos(place, name); }
  /** Pixel of a place, on the canvas. @param {number} place @param {"x" | "y"} name */
  canvas(place, name) { return this.plot.valToPos(place, name, true); }
  /** Place of a pixel. @param {number} pixel @param {"x" | "y"} name */
  place(pixel, name) { return this.plot.posToVal(pixel, name); }

  /** @param {any} u */
  drawn(u) {
    const context = u.ctx;
    context.save();
    context.beginPath();
    context.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    context.clip();
    this.behaviour.draw(this, context);
    context.restore();
    this.tellAgain();
  }

  /** What is told of a place follows what is drawn there. */
  tellAgain() {
    if (Axes.teller !== this || placeOf("tooltip").hidden) return;
    if (this.keyed) {
      const pointed = this.behaviour.pointed?.();
      if (pointed) this.point(pointed.text, pointed.left, pointed.top);
    } else if (this.plot?.over.matches(":hover")) {
      this.moved(this.plot.cursor.left, this.plot.cursor.top, null);
    }
  }

  /** @param {number} left @param {number} top @param {MouseEvent | null} event */
  moved(left, top, event) {
    if (!this.behaviour.hover) return;
    // the page moved below a pointer that rests
    if (this.keyed && !event?.movementX && !event?.movementY) return;
    this.keyed = false;
    const text = left < 0 ? null : this.behaviour.hover(left, top);
    if (text !== null) Axes.teller = this;
    const box = this.plot.over.getBoundingClientRect();
    showTooltip(text, box.left + left, box.top + top);
    this.plot.over.style.cursor = text !== null && this.behaviour.click ? "pointer" : "crosshair";
  }

  /** @param {any} u */
  selected(u) {
    const { left, top, width, height } = u.select;
    if (width < 4 && height < 4) return;
    this.brushed = performance.now();
    this.behaviour.brush?.(left, top, width, height);
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    // the end of a brush is no click
    if (this.brushed && performance.now() - this.brushed < 250) return;
    const box = this.plot.over.getBoundingClientRect();
    this.behaviour.click?.(event.clientX - box.left, event.clientY - box.top);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.target !== this.host || event.ctrlKey || event.metaKey || event.altKey) return;
    const told = this.behaviour.key?.(event.key) ?? null;
    if (told === null) return;
    event.preventDefault();
    announce(told);
  }

  /** Show a tooltip at a place that keys chose. @param {string} text @param {number} left @param {number} top */
  point(text, left, top) {
    const box = this.plot.over.getBoundingClientRect();
    this.keyed = true;
    Axes.teller = this;
    showTooltip(text, box.left + left, box.top + top);
  }
}

/** Round places on a linear axis. @param {number} low @param {number} high @param {number} most */
function linearTicks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= rough) || rough;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

/** A side of a plot from an axis. @param {Axis | null} axis @param {string} label @returns {Side} */
function sideOf(axis, label) {
  if (!axis) return { label, low: 0, high: 1 };
  if (!axis.log) return { label, low: axis.low, high: axis.high };
  return {
    label,
    low: axis.low,
    high: axis.high,
    ticks: (most) => logTicks(axis, most),
    text: (place) => logLabel(axis, place),
  };
}

/** A side that counts whole things, such as epochs. @param {string} label @param {number} low @param {number} high @returns {Side} */
function wholeSide(label, low, high) {
  return {
    label, low, high,
    ticks: (most) => linearTicks(low, high, most).filter((tick) => Number.isInteger(tick)),
  };
}
