// @ts-check
"use strict";
// Axes, numbers in words, and colours.

/** The minus sign and superscripts of print. @param {string} text */
const printed = (text) => text.replace(/-/g, "−");
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A number in few characters. @param {number} value @param {number} [digits] */
function short(value, digits = 3) {
  if (Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return printed(value > 0 ? "∞" : "-∞");
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 0.001 && size < 1e5) return printed(String(Number(value.toPrecision(digits))));
  return printed(value.toExponential(digits - 1).replace("e+", "e"));
}

/** A correlation or share with two decimals. @param {number} value */
function decimal(value) {
  return Number.isNaN(value) ? "undefined" : printed((Math.round(value * 100) / 100 + 0).toFixed(2));
}

/** @param {number} fraction */
function percent(fraction) {
  return Number.isNaN(fraction) ? "none" : printed(`${(100 * fraction).toFixed(1)} %`);
}

/** Thousands apart. @param {number} count */
const counted = (count) => count.toLocaleString("en-GB");

/** A count with its noun: 1 epoch, 17 epochs. @param {number} count @param {string} noun */
const several = (count, noun) => `${counted(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Words with a capital at their start; a symbol or a name stays as it is. @param {string} text */
const sentence = (text) => text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase());

/** A power of ten, such as 10⁻³. @param {number} exponent */
function powerOfTen(exponent) {
  if (exponent === 0) return "1";
  if (exponent === 1) return "10";
  const digits = String(Math.abs(exponent)).replace(/\d/g, (digit) => SUPERSCRIPTS[Number(digit)]);
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}

/**
 * An axis: places on it are linear or signed-logarithmic in the value.
 * @typedef {{log: boolean, threshold: number, low: number, high: number}} Axis
 */

/** Place of a value on an axis. @param {Axis} axis @param {number} value */
function placed(axis, value) {
  return axis.log ? Math.sign(value) * Math.log10(1 + Math.abs(value) / axis.threshold) : value;
}

/** Value at a place of an axis. @param {Axis} axis @param {number} place */
function valueAt(axis, place) {
  return axis.log ? Math.sign(place) * (10 ** Math.abs(place) - 1) * axis.threshold : place;
}

/**
 * An axis that holds all values of some columns. @param {Numbers[]} columns @param {boolean} log
 * @returns {Axis | null}
 */
function axisFor(columns, log) {
  const ranges = columns.map(extent).filter((range) => range !== null);
  if (!ranges.length) return null;
  const threshold = log ? Math.min(...columns.map(linearThreshold)) : 1;
  const axis = { log, threshold, low: 0, high: 0 };
  const low = placed(axis, Math.min(...ranges.map((range) => range.low)));
  const high = placed(axis, Math.max(...ranges.map((range) => range.high)));
  // Values that differ in their last digits only are drawn as equal ones: no tick lies between.
  const spread = high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high));
  const room = spread ? 0.04 * (high - low) : 0.05 * Math.abs(high) || 1;
  return { ...axis, low: low - room, high: high + room };
}

/** Places of ticks on a signed-log axis. @param {Axis} axis @param {number} most */
function logTicks(axis, most) {
  const exponent = Math.round(Math.log10(axis.threshold));
  const found = axis.low <= 0 && axis.high >= 0 ? [0] : [];
  const largest = Math.max(Math.abs(axis.low), Math.abs(axis.high));
  const decades = Math.ceil(largest);
  const every = Math.max(1, Math.ceil((decades * (axis.low < 0 && axis.high > 0 ? 2 : 1)) / most));
  for (let step = 0; step <= decades; step += every) {
    const place = placed(axis, 10 ** (exponent + step));
    // beside 0, the first powers would overlap it
    if (found.length && place < (axis.high - axis.low) / (1.6 * most)) continue;
    for (const sign of [-1, 1]) {
      if (sign * place >= axis.low && sign * place <= axis.high) found.push(sign * place);
    }
  }
  return found.sort((a, b) => a - b);
}

/** Label of a tick on a signed-log axis. @param {Axis} axis @param {number} place */
function logLabel(axis, place) {
  if (place === 0) return "0";
  const exponent = Math.round(Math.log10(Math.abs(valueAt(axis, place))));
  return (place < 0 ? "−" : "") + powerOfTen(exponent);
}

// Colours from dark blue to yellow, evenly spaced in lightness, so that they are told apart in grey.
const RAMP = ["#30123b", "#3b2f80", "#34599c", "#267f9c", "#1fa188", "#4fbf66", "#9bd63b", "#efe350"];
const DARK_RAMP = ["#5b4a9e", "#4a6fc2", "#3793c6", "#2fb0b0", "#45c98a", "#86dc60", "#c6e84a", "#fbf3a0"];
const BINS = 24;

/** Whether the dark theme is shown. */
const isDark = () => document.documentElement.dataset.theme === "dark";

/** @param {string} hex */
const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Colour at a share of the ramp. @param {number} share from 0 to 1 */
function rampColour(share) {
  const ramp = isDark() ? DARK_RAMP : RAMP;
  const at = Math.max(0, Math.min(1, share)) * (ramp.length - 1);
  const low = Math.floor(at), high = Math.min(low + 1, ramp.length - 1);
  const [a, b] = [channels(ramp[low]), channels(ramp[high])];
  return `rgb(${a.map((v, i) => Math.round(v + (at - low) * (b[i] - v))).join(",")})`;
}

/** Colour of the theme. @param {string} name of a CSS variable, without dashes */
function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
