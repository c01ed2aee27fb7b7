// Verdict and evidence in words; predictions; what a map cannot tell. Text comes from the server, as in the report.
import { byId, fill, h, icon } from "./dom.js";

const list = (name, rows) => (rows.length ? h("ul", { class: name }, rows.map((r) => h("li", {}, r))) : null);

export const badge = (word, more = "") => h("span", { class: `badge ${word.replaceAll(" ", "-")} ${more}` }, icon(word), h("span", {}, word));

function bars(classes, target) {
  const best = Math.max(...classes.map((c) => c.p));
  return h("ul", { class: "classes" }, classes.map((c) => {
    const bar = h("span", {});
    bar.style.width = `${100 * Math.min(1, Math.max(0, c.p))}%`;
    const explained = target.includes(`('${c.name}')`);
    return h("li", { class: `class${c.p === best ? " highest" : ""}${explained ? " explained" : ""}` },
      h("span", { class: "class-name" }, c.name, explained ? h("span", { class: "tag" }, "explained") : null),
      h("span", { class: "class-bar", "aria-hidden": "true" }, bar), h("span", { class: "class-p" }, percent(c.p)));
  }));
}

export function verdict(desk) {
  async function draw() {
    const place = byId("verdict");
    if (!desk.shown.length) {
      fill(place, h("p", { class: "hint" }, "Choose a map."));
      return;
    }
    const { shown } = desk;
    const facts = await Promise.all(shown.map((id) => desk.facts(id)));
    if (desk.shown !== shown) return;
    fill(place, facts.map((f) => h("article", { class: "verdict", "data-map": f.id },
      facts.length > 1 ? h("h3", {}, f.name, " ", h("small", {}, f.label.target)) : null,
      badge(f.verdict),
      h("p", { class: "sentence" }, f.sentence), list("reasons", f.reasons.slice(0, facts.length > 1 ? 2 : 12)),
      f.caveats.length ? h("div", { class: "caveats" }, h("h4", {}, "Keep in mind"), list("", f.caveats)) : null,
      h("p", { class: "hint" }, h("strong", {}, f.said), f.beside ? ` ${f.beside}` : ""),
      h("p", { class: "hint cannot" }, h("strong", {}, "What this map cannot tell you. "), f.cannot),
      facts.length === 1 && f.classes.length ? [h("h3", { class: "spaced" }, "Prediction"), bars(f.classes, f.target)] : null)));
  }
  for (const what of ["scan", "shown", "examined"]) desk.on(what, draw);
}

export const chip = (status) => h("span", { class: `chip ${status}` }, icon(status), status);

function row(r) {
  const interval = r.low === null || r.high === null ? null : h("small", {}, `95 %: ${number(r.low)} to ${number(r.high)}`);
  return h("tr", {}, h("th", { scope: "row" }, r.title), h("td", {}, chip(r.status)), h("td", { class: "num" }, h("strong", {}, r.shown), r.unit ? ` ${r.unit}` : "", interval),
    h("td", { class: "held" }, r.held ? `${r.held} ` : "", h("small", {}, [r.against, r.better].filter(Boolean).join("; "))), h("td", { class: "text" }, r.text));
}

export function evidence(desk) {
  async function draw() {
    const place = byId("evidence");
    if (!desk.shown.length) {
      fill(place, h("p", { class: "hint" }, "The checks of a map stand here, once one is chosen."));
      return;
    }
    const { shown } = desk;
    const facts = await Promise.all(shown.map((id) => desk.facts(id)));
    if (desk.shown !== shown) return;
    fill(place, facts.map((f) => h("article", {}, facts.length > 1 ? h("h3", {}, f.name, " ", h("small", {}, f.label.target)) : null,
      f.rows.length
        ? h("div", { class: "scroller", role: "region", tabindex: "0", "aria-label": `Evidence for ${f.name}` }, h("table", { class: "evidence" },
            h("thead", {}, h("tr", {}, ["Check", "Result", "Value", "Held against", "Finding"].map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, f.rows.map(row))))
        : h("p", {}, f.checking ? "The checks are running; what they find stands here." : "Nothing was checked. Ask again with checks before you rely on this map."),
      h("details", {}, h("summary", {}, "How it came about"), h("dl", { class: "rows" }, f.provenance.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", {}, text)))))))));
  }
  for (const what of ["scan", "shown", "examined"]) desk.on(what, draw);
}
