// Training images that spoke for a prediction and against it, where `pellucid influence` saved them for this scan.
import { fileOf, get } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { problem } from "./going.js";
import { cannot, tile } from "./similar.js";
import { badge } from "./words.js";

export function influence(desk) {
  const { app } = desk;
  const [card, place] = [byId("influence-card"), byId("influence")];
  card.hidden = !app.about.beside.influence;
  if (card.hidden) return;
  let turn = 0;

  async function load() {
    const mine = ++turn;
    const { scan, model } = desk;
    fill(place, h("p", { class: "hint" }, "Reading what was saved …"));
    const saved = await get("influence", { scan: scan.id, model });
    if (mine !== turn) return;
    const none = saved.found.length || saved.problems.length ? null : h("p", { class: "none" }, "Nothing was saved about this scan.");
    const others = saved.others ? h("p", { class: "hint" }, `${saved.others} saved ${saved.others === 1 ? "result is" : "results are"} about other scans.`) : null;
    fill(place, none, saved.problems.map((p) => h("div", {}, h("h3", {}, p.name), problem(p.problem))), saved.found.map((f) => one(f, scan.id, model)), others);
  }

  function one(f, scan, model) {
    const row = (r) => {
      const bar = h("span", { class: r.value > 0 ? "for" : "against" });
      bar.style.width = `${Math.max(2, 100 * r.share)}%`;
      const src = r.picture ? fileOf("influence/picture", { scan, model, id: f.id, place: r.place }) : "";
      const figure = tile(src, `Training image, ${r.label}, ${r.shown}`, [h("strong", {}, r.label), h("span", { class: "strength", "aria-hidden": "true" }, bar), h("span", {}, r.shown), h("small", {}, r.same ? `place ${r.place}, this image` : `place ${r.place}`)], r.why);
      const img = figure.querySelector("img");
      if (img) img.addEventListener("error", () => img.replaceWith(h("div", { class: "no-picture" }, h("span", {}, "Its file is gone or may not be shown."))), { once: true });
      return figure;
    };
    const side = (title, rows, no) => h("div", {}, h("h3", {}, title), rows.length ? h("div", { class: "tiles" }, rows.map(row)) : h("p", { class: "hint" }, no));
    const sure = f.probability === null ? "" : `: ${percent(f.probability)} by the head fitted anew`;
    return h("article", { class: "decided", "data-result": f.id }, h("p", { class: "sentence" }, `${f.target}${sure}, ${f.images} training images. ${f.weight}`),
      h("p", { class: "checked" }, badge(f.verdict, "small")), h("ul", { class: "reasons" }, f.reasons.map((r) => h("li", {}, r))),
      side(`Spoke for ${f.target}`, f.pro, "None did."), side(`Spoke against ${f.target}`, f.against, "None did."),
      h("ul", { class: "remarks" }, f.caveats.map((c) => h("li", {}, c))), h("p", { class: "hint" }, h("strong", {}, "What the numbers mean. "), f.means), cannot("What they cannot tell you.", f.cannot));
  }

  desk.on("model", () => app.attempt(load));
}
