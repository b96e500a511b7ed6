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
  // without an exponent a large number would be read as text
  if (typeof value === "number") return Number.isNaN(value) ? "" : Math.abs(value) >= 1e15 ? value.toExponential() : String(value);
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
