// Elements without a library: h("button", { class: "quiet", onclick: fn }, "text", child). Text is always text, never markup.
const SVG = new Set(["svg", "path", "circle", "line", "rect", "polyline", "text", "g"]);

export function h(tag, given = {}, ...inside) {
  const one = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") one[name] = value;
    else one.setAttribute(name, value === true ? "" : String(value));
  }
  one.append(...inside.flat(3).filter((i) => i !== null && i !== undefined && i !== false));
  return one;
}

export const byId = (id) => document.getElementById(id);

export function fill(element, ...inside) {
  element.replaceChildren(...inside.flat(3).filter((i) => i !== null && i !== undefined && i !== false));
  return element;
}

export const options = (rows, chosen) => rows.map(([text, value, title]) => h("option", { value, title, selected: value === chosen }, text));

export const dot = (verdict) => h("span", { class: `dot ${(verdict || "not examined").replace(" ", "-")}`, "aria-hidden": "true" });

// Signs that say the same as the colors; drawn as in the report.
const SHAPES = {
  good: [["circle", { cx: 8, cy: 8, r: 7 }], ["path", { d: "M4.6 8.3l2.3 2.3 4.5-4.9" }]],
  bad: [["path", { class: "solid", d: "M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z" }], ["path", { d: "M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2" }]],
  fair: [["path", { class: "solid", d: "M8 1.2L15.4 14.4H.6z" }], ["path", { d: "M8 5.6v4M8 11.6v.9" }]],
  none: [["circle", { cx: 8, cy: 8, r: 7 }], ["path", { d: "M3.6 12.4l8.8-8.8" }]],
  open: [["circle", { cx: 8, cy: 8, r: 6.2, class: "open" }], ["path", { d: "M5 8h6" }]],
};
const KIND = {
  supported: "good", pass: "good", "not supported": "bad", fail: "bad", questionable: "fair", inconclusive: "fair", void: "none",
};

export function icon(word) {
  const parts = SHAPES[KIND[word] || "open"].map(([tag, given]) => h(tag, given));
  return h("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, parts);
}
