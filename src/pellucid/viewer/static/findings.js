// The model as a whole: what effects and prototypes found over many cases; nothing here is about the scan.
import { fileOf, get } from "./api.js";
import { byId, dot, fill, h, icon } from "./dom.js";
import { problem } from "./going.js";

const list = (kind, rows, given = {}) => (rows.length ? h(kind, given, rows.map((r) => h("li", {}, r))) : null);
const chip = (f) => h("span", { class: `chip ${f.mood}` }, icon(f.mood), f.verdict);
const folded = (title, inside, open = false) => h("details", { open }, h("summary", {}, title), inside);

function picture(f, model) {
  if (!f.picture) return h("p", { class: "hint" }, "Its picture is not shown: text in its pixels may name a patient. Start the viewer with --names.");
  const said = `${f.title}. ${f.sentences[0]}`;
  const drawn = ["light", "dark"].map((ground) => h("img", { class: `on-${ground}`, loading: "lazy", alt: said, src: fileOf("findings/picture", { model, id: f.id, ground }) }));
  const around = f.tree ? { class: "two wide", tabindex: "0", role: "region", "aria-label": `${f.title}: the picture, to be scrolled; its rules stand below` } : { class: "two" };
  return h("figure", around, drawn);
}

function table(f) {
  const row = ([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), others.map((v) => h("td", {}, v)));
  return [h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": `The numbers of: ${f.title}` },
    h("table", {}, h("thead", {}, h("tr", {}, f.columns.map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, f.rows.map(row)))),
  f.more ? h("p", { class: "hint" }, f.more) : null];
}

const check = (c) => h("li", {}, h("span", { class: c.status }, icon(c.status)), h("span", {}, c.text), h("small", {}, `${c.name}: ${c.value}${c.against ? `; ${c.against}` : ""}`));

function article(f, model) {
  return h("article", { class: "finding", "data-finding": f.id, "aria-label": f.title }, h("h3", {}, f.title, chip(f)),
    list("ul", f.sentences, { class: "said" }), list("ul", f.reasons, { class: "reasons", "aria-label": `Why it is ${f.verdict}` }),
    f.limit ? h("p", { class: "limit" }, h("strong", {}, "What it cannot tell. "), f.limit) : null, picture(f, model),
    f.rules.length ? folded("In words", list("ol", f.rules), f.tree) : null, list("ul", f.remarks, { class: "remarks" }),
    f.checks.length ? folded("What was checked", h("ul", { class: "checks" }, f.checks.map(check))) : null, folded("The numbers", table(f)),
    folded("The record", h("dl", { class: "record" }, f.record.map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]))));
}

export function findings(desk) {
  const { app } = desk;
  const [card, place] = [byId("findings-card"), byId("findings")];
  card.hidden = !app.about.beside.findings;
  if (card.hidden) return;
  const [tabs, body] = [h("div", { class: "tabs", role: "group", "aria-label": "Findings" }), h("div", { "aria-live": "polite" })];
  let [turn, chosen] = [0, null];

  async function load() {
    const mine = ++turn;
    fill(place, h("p", { class: "hint" }, "Reading what was found …"));
    const rows = await get("findings", { model: desk.model });
    if (mine !== turn) return;
    const [good, bad] = [rows.filter((r) => !r.problem), rows.filter((r) => r.problem)];
    fill(tabs, good.map((r) => h("button", { type: "button", "data-id": r.id, "aria-pressed": "false", onclick: () => app.attempt(() => show(r.id)) }, dot(r.verdict), h("span", {}, r.title), h("small", {}, `${r.verdict} · ${r.id}`))));
    fill(body);
    fill(place, h("p", { class: "hint" }, "Of the network over many cases, not of this scan."), good.length ? tabs : h("p", { class: "none" }, "Nothing was found of this network."), body,
      bad.map((r) => h("div", { class: "refused" }, h("h4", {}, r.id), problem(r.problem))));
    const first = good.find((r) => r.id === chosen) || good[0];
    if (first) await show(first.id);
  }

  async function show(id) {
    const mine = ++turn;
    const found = await get("findings/one", { model: desk.model, id });
    if (mine !== turn) return;
    chosen = id;
    for (const b of tabs.children) b.setAttribute("aria-pressed", String(b.dataset.id === id));
    fill(body, article(found, desk.model));
  }

  desk.on("model", () => app.attempt(load));
}
