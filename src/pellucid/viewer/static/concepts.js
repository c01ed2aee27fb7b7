// Concepts in words: for a class, what was found over many images with its uncertainty, what was dropped and why, and what that says of this image.
import { fileOf, get, post } from "./api.js";
import { byId, fill, h, icon, options } from "./dom.js";
import { follow, problem } from "./going.js";
import { cannot } from "./similar.js";

const percents = (v) => (v === null ? "unknown" : `${Math.round(100 * v)} %`);
const placed = (name, low, high) => {
  const one = h("span", { class: name });
  one.style.left = `${100 * low}%`;
  one.style.width = `${100 * (high - low)}%`;
  return one;
};

// Score with its interval over the band of the random sets, from 0 to 100 %.
function scale(r) {
  if (r.score === null) return null;
  const said = `Score rises in ${percents(r.score)}${r.low === null ? "" : `, 95 % interval ${percents(r.low)} to ${percents(r.high)}`}; random concepts ${percents(r.random)}, middle 95 % from ${percents(r.random_low)} to ${percents(r.random_high)}`;
  const band = r.random_low === null ? null : [placed("band", r.random_low, r.random_high), placed("mean", r.random, r.random)];
  return h("div", { class: "ranked", role: "img", "aria-label": said }, band, r.low === null ? null : placed("interval", r.low, r.high), placed("score", r.score, r.score));
}

const WORDS = { raises: "raises the score", lowers: "lowers the score" };
const alone = (r) => (r.status === "inconclusive" && WORDS[r.verdict] ? ", taken alone" : "");
const chip = (r) => h("span", { class: `chip ${{ pass: "pass", fail: "open" }[r.status] || "inconclusive"}` }, icon(r.status === "fail" ? "open" : r.status), `${WORDS[r.verdict] || r.verdict}${alone(r)}`);
const same = (a, b) => a.concept === b.concept && a.site === b.site && a.target === b.target;

export function concepts(desk) {
  const { app } = desk;
  const [card, place] = [byId("concepts-card"), byId("concepts")];
  card.hidden = !app.about.beside.concepts;
  if (card.hidden) return;
  let [files, turn, picked] = [[], 0, null];
  const here = new Map(); // by the name of a result: what was found in this image
  const chosen = h("select", { id: "of-class", onchange: () => {
    picked = chosen.value;
    draw();
  } });

  const [head, body] = [h("div", { class: "asking" }, h("label", { class: "ask" }, h("span", {}, "Class"), chosen)), h("div", {})];

  async function load() {
    const mine = ++turn;
    here.clear();
    picked = null;
    head.hidden = true;
    fill(place, head, fill(body, h("p", { class: "hint" }, "Reading what was found …")));
    const rows = await get("concepts", { model: desk.model });
    if (mine !== turn) return;
    files = rows;
    await draw();
  }

  // The class that the map in view explains, or else the one that the network predicts.
  async function natural(classes) {
    const [id] = desk.shown;
    const target = id ? (await desk.facts(id)).target : desk.look ? desk.look.predicted : "";
    const at = (c) => target.indexOf(`'${c}'`);
    return classes.filter((c) => at(c) >= 0).sort((a, b) => at(a) - at(b))[0];
  }

  async function draw() {
    const mine = turn;
    const rows = files.flatMap((f) => f.rows);
    const tested = [...new Set(rows.map((r) => r.of))];
    const known = desk.look && desk.look.classes.length ? desk.look.classes : tested.filter(Boolean);
    const wanted = picked ?? (await natural(known)) ?? known.find((c) => tested.includes(c)) ?? known[0] ?? "";
    if (mine !== turn) return;
    const others = tested.includes("") ? [["another target", ""]] : [];
    fill(chosen, options([...known.map((c) => [tested.includes(c) ? c : `${c} (none tested)`, c]), ...others], wanted));
    chosen.value = wanted;
    head.hidden = !rows.length;
    fill(body, files.map((f) => file(f, wanted)));
  }

  function file(f, wanted) {
    const name = files.length > 1 ? h("h3", { class: "spaced" }, f.id) : null;
    if (f.problem) return h("article", { class: "worded" }, name, problem(f.problem));
    const rows = f.rows.filter((r) => r.of === wanted);
    if (!rows.length) {
      const has = [...new Set(f.rows.map((r) => r.target))];
      return h("article", { class: "worded" }, name, h("p", { class: "none" }, `No concept was tested for ${wanted || "such a target"}.`), h("p", { class: "hint" }, has.length ? `Tested: ${has.join(", ")}.` : "This result is empty."));
    }
    const [kept, dropped] = [rows.filter((r) => !r.dropped), rows.filter((r) => r.dropped)];
    const order = { pass: 0, inconclusive: 1, fail: 2 };
    kept.sort((a, b) => order[a.status] - order[b.status] || a.p - b.p);
    const went = h("div", { class: "went" });
    const known = here.get(f.id);
    const look = h("button", { type: "button", class: "main less", onclick: () => app.attempt(() => ask(f, went, look)) }, "What of this image?");
    const said = [...new Set(dropped.map((r) => r.sentence))]; // whatever the target
    return h("article", { class: "worded", "data-result": f.id }, name,
      kept.length ? (known ? h("p", { class: "hint" }, "What is said of this image stands below each finding.") : h("div", { class: "asking" }, look, went)) : null,
      kept.length ? h("p", { class: "keys ranked-keys" }, h("span", { class: "k-score" }, "concept, with its 95 % interval"), h("span", { class: "k-band" }, "middle 95 % of random concepts")) : null,
      kept.length ? h("ul", { class: "concept-rows" }, kept.map((r) => row(f, r, known))) : h("p", { class: "none" }, `Of no concept anything can be said for ${wanted}.`),
      dropped.length ? h("div", { class: "dropped" }, h("h3", {}, "Dropped, and why"), h("ul", { class: "reasons" }, said.map((s) => h("li", {}, s)))) : null,
      f.notes.length ? h("ul", { class: "remarks" }, f.notes.map((n) => h("li", {}, n))) : null,
      h("p", { class: "hint" }, h("strong", {}, "What the numbers mean. "), f.means), cannot("What they cannot tell you.", f.cannot));
  }

  function row(f, r, known) {
    const one = known && known.find((s) => same(s, r));
    const pictures = Array.from({ length: r.examples }, (_, n) => h("img", { src: fileOf("concepts/picture", { id: f.id, concept: r.concept, n }), alt: `Example ${n + 1} of ${r.concept}`, loading: "lazy", onerror: (e) => e.target.remove() }));
    return h("li", { class: `concept ${r.status}` }, h("p", { class: "concept-head" }, h("strong", {}, r.concept), chip(r), h("small", {}, `${r.target} · at ${r.site}`)),
      h("div", { class: "ranked-row" }, h("span", { "aria-hidden": "true" }, "0 %"), scale(r), h("span", { "aria-hidden": "true" }, "100 %")),
      h("p", { class: "said" }, r.sentence, r.holm ? h("small", {}, ` ${r.holm}`) : null), one ? h("p", { class: "said here", tabindex: "-1" }, one.sentence) : null,
      h("details", {}, h("summary", {}, "More numbers, and what the concept looks like"), h("p", { class: "hint" }, r.beside), pictures.length ? h("div", { class: "examples" }, pictures) : null));
  }

  async function ask(f, went, look) {
    app.calm();
    const mine = turn;
    look.disabled = true;
    try {
      const { id } = await post("concepts/here", { scan: desk.scan.id, model: desk.model, id: f.id });
      const job = await follow(desk, went, `concepts/here/${id}`, () => mine === turn && went.isConnected);
      if (!job || !job.found) return;
      here.set(f.id, job.found);
      await draw();
      place.querySelector(".here")?.focus({ preventScroll: true });
    } finally {
      look.disabled = here.has(f.id);
    }
  }

  desk.on("model", () => app.attempt(load));
  for (const what of ["look", "shown"]) desk.on(what, () => app.attempt(async () => {
    if (what === "shown") picked = null;
    if (files.length && !place.querySelector(".going")) await draw();
  }));
}
