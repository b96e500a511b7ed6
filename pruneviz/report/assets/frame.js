// @ts-check
"use strict";
// What every picture has: a title, choices, axes, a caption, a table of its numbers and a CSV.

/**
 * Rows of a picture's table, built when somebody looks.
 * @typedef {{columns: string[], rows: (string | number)[][]}} Table
 */

const PAGE_ROWS = 100; // rows of a table that are shown at once

/**
 * An element. Texts are set as text: names of layers and runs may hold anything.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
function element(tag, attributes = {}, children = []) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

/** An element of the page by its id. @param {string} id */
function placeOf(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * A choice in a list. @param {string} label @param {string} id @param {(value: string) => void} chosen
 */
function choice(label, id, chosen) {
  const select = element("select", { id });
  select.addEventListener("change", () => chosen(select.value));
  return { select, label: element("label", {}, [`${label} `, select]) };
}

/**
 * Fill a list, if it differs. @param {HTMLSelectElement} select
 * @param {[string, string][]} options values and texts @param {string} value
 */
function fill(select, options, value) {
  const key = JSON.stringify(options);
  if (select.dataset.key !== key) {
    select.replaceChildren(...options.map(([name, text]) => {
      const option = element("option", { value: name });
      option.textContent = text;
      return option;
    }));
    select.dataset.key = key;
  }
  // setting the same value again would end what somebody is typing to find an option
  if (select.value !== value) select.value = value;
}

/** One value of a CSV file. @param {string | number} value */
function csvCell(value) {
  if (typeof value === "number") return Number.isNaN(value) ? "" : String(value);
  // A spreadsheet would take a name that begins so for a formula.
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

/** @param {Table} table */
function csvOf(table) {
  return [table.columns, ...table.rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

/** Save a text as a file. @param {string} name @param {string} text */
function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** Say something to readers of screens. @param {string} text */
function announce(text) {
  placeOf("live").textContent = text;
}

/** Show a text beside the pointer; null hides it. @param {string | null} text @param {number} [left] @param {number} [top] */
function showTooltip(text, left = 0, top = 0) {
  const tip = placeOf("tooltip");
  tip.hidden = text === null;
  if (text === null) return;
  tip.textContent = text;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const beside = left + 16 + width > innerWidth ? left - 16 - width : left + 16;
  tip.style.left = `${Math.max(4, beside)}px`;
  tip.style.top = `${Math.max(4, Math.min(top + 12, innerHeight - height - 4))}px`;
}

/**
 * What a picture does with the pointer and keys, in pixels of its plot.
 * @typedef {{
 *   draw: (plot: Axes, context: CanvasRenderingContext2D) => void,
 *   hover?: (left: number, top: number) => string | null,
 *   click?: (left: number, top: number) => void,
 *   brush?: (left: number, top: number, width: number, height: number) => void,
 *   key?: (key: string) => string | null,
 * }} Behaviour
 */

/**
 * Ticks of an axis: places and labels; none leaves them to uPlot.
 * @typedef {{label: string, low: number, high: number, ticks?: (most: number) => number[],
 *   text?: (place: number) => string}} Side
 */

/** The axes of one picture, drawn by uPlot; its contents are drawn by the picture. */
class Axes {
  /** @param {HTMLElement} host @param {Behaviour} behaviour */
  constructor(host, behaviour) {
    this.host = host;
    this.behaviour = behaviour;
    /** @type {{x: Side, y: Side}} */
    this.sides = { x: { label: "", low: 0, high: 1 }, y: { label: "", low: 0, high: 1 } };
    this.empty = element("div", { class: "empty" });
    /** @type {{left: number, top: number} | null} */
    this.focused = null;
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
  }

  /** @param {number} left @param {number} top @param {MouseEvent | null} event */
  moved(left, top, event) {
    if (!this.behaviour.hover) return;
    // the page moved below a pointer that rests
    if (this.keyed && !event?.movementX && !event?.movementY) return;
    this.keyed = false;
    const text = left < 0 ? null : this.behaviour.hover(left, top);
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

/**
 * A table that scrolls. @param {string[]} columns @param {(string | number)[][]} rows
 * @param {string} label what it is, for readers of screens
 */
function tableOf(columns, rows, label) {
  const cell = (/** @type {string | number} */ value) => {
    if (typeof value !== "number") return value;
    return Number.isInteger(value) && Math.abs(value) < 1e15 ? printed(String(value)) : short(value, 5);
  };
  const table = element("table", {}, [
    element("thead", {}, [element("tr", {}, columns.map((name) => element("th", { scope: "col" }, [name])))]),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((value) => element("td", {}, [cell(value)]))))),
  ]);
  return element("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": label }, [table]);
}

/** The frame of one picture. */
class Frame {
  /**
   * @param {HTMLElement} host @param {string} id @param {string} title
   * @param {Behaviour} behaviour @param {string} keys what keys do in it
   */
  constructor(host, id, title, behaviour, keys) {
    this.id = id;
    /** @type {() => Table} */
    this.table = () => ({ columns: [], rows: [] });
    this.page = 0;
    this.title = element("h3", { id: `${id}-title` }, [title]);
    this.choices = element("div", { class: "choices" });
    const hint = element("span", { class: "unseen", id: `${id}-keys` }, [keys]);
    this.plotHost = element("div", {
      class: "plot", id: `${id}-plot`, tabindex: "0", role: "application",
      "aria-roledescription": "interactive picture", "aria-describedby": `${id}-keys`,
    });
    this.legend = element("div", { class: "legend" });
    this.caption = element("p", { class: "caption", id: `${id}-caption` });
    this.details = element("details", {}, [element("summary", {}, ["Numbers as a table"])]);
    this.details.addEventListener("toggle", () => { this.page = 0; this.fillTable(); });
    const save = element("button", { type: "button", class: "csv" }, ["Download CSV"]);
    save.setAttribute("aria-label", `Download CSV: numbers of ${title}`);
    save.addEventListener("click", () => download(`${id}.csv`, csvOf(this.table())));
    this.section = element("section", { class: "picture", id, "aria-labelledby": `${id}-title` }, [
      this.title, this.choices, this.plotHost, hint, this.legend, this.caption,
      element("div", { class: "tools" }, [this.details, save]),
    ]);
    host.append(this.section);
    this.axes = new Axes(this.plotHost, behaviour);
  }

  /** Tell what is seen, and which numbers are behind it. @param {string} caption @param {() => Table} table */
  tell(caption, table) {
    this.caption.textContent = sentence(caption);
    this.plotHost.setAttribute("aria-label", `${this.title.textContent}: ${sentence(caption)}`);
    this.table = table;
    if (this.details.open) this.fillTable();
  }

  fillTable() {
    const body = this.details.querySelector(".held");
    const scrolled = this.details.querySelector(".scrolled");
    const [left, top] = [scrolled?.scrollLeft || 0, scrolled?.scrollTop || 0];
    const focused = scrolled !== null && document.activeElement === scrolled;
    if (body) body.remove();
    if (!this.details.open) return;
    const { columns, rows } = this.table();
    const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
    this.page = Math.max(0, Math.min(this.page, pages - 1));
    const shown = rows.slice(this.page * PAGE_ROWS, (this.page + 1) * PAGE_ROWS);
    const held = element("div", { class: "held" }, [tableOf(columns, shown, `${this.title.textContent}, numbers`)]);
    if (pages > 1) held.append(this.pager(pages, rows.length));
    this.details.append(held);
    const now = /** @type {HTMLElement} */ (held.querySelector(".scrolled"));
    now.scrollTo(left, top);
    if (focused) now.focus();
  }

  /** @param {number} pages @param {number} count */
  pager(pages, count) {
    const turn = (/** @type {number} */ by) => () => {
      this.page += by;
      this.fillTable();
      /** @type {HTMLElement | null} */ (this.details.querySelector(".pages button:not(:disabled)"))?.focus();
    };
    const [back, on] = ["Previous", "Next"].map((text) => element("button", { type: "button" }, [text]));
    back.disabled = this.page === 0;
    on.disabled = this.page === pages - 1;
    back.addEventListener("click", turn(-1));
    on.addEventListener("click", turn(1));
    const first = this.page * PAGE_ROWS;
    const told = `rows ${first + 1} to ${Math.min(first + PAGE_ROWS, count)} of ${counted(count)}`;
    return element("div", { class: "pages" }, [back, on, told]);
  }
}
