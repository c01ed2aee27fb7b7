// Real cases like this one: those of an index that the network finds nearest, beside the scan, with what the numbers mean and do not mean.
import { fileOf, get, post } from "./api.js";
import { byId, fill, h, options } from "./dom.js";
import { follow, problem } from "./going.js";

export const cannot = (title, rows) => h("div", { class: "hint cannot" }, h("strong", {}, title), h("ul", {}, rows.map((r) => h("li", {}, r))));

// A picture that the server made, or why there is none; never a path.
export function tile(src, said, lines, why = "") {
  const seen = src ? h("img", { src, alt: said, loading: "lazy" }) : h("div", { class: "no-picture", role: "img", "aria-label": `${said}: no picture` }, h("span", {}, why || "No picture."));
  return h("figure", {}, seen, h("figcaption", {}, lines));
}

export function similar(desk) {
  const { app } = desk;
  const [card, place] = [byId("similar-card"), byId("similar")];
  card.hidden = !app.about.beside.similar;
  if (card.hidden) return;
  let [indexes, turn] = [[], 0];
  const which = h("select", { id: "index", onchange: () => about() });
  const count = h("input", { id: "how-many", type: "number", min: 1, max: 24, step: 1, value: 5, required: true });
  const patient = h("input", { id: "patient", type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": "patient-says" });
  const whose = h("label", { class: "ask" }, h("span", {}, "Patient, as in the index"), patient);
  const find = h("button", { type: "submit", class: "main less", id: "find" }, "Find similar cases");
  const told = h("div", { id: "index-told" });
  const found = h("div", { id: "similar-found" });
  const form = h("form", { id: "similar-form", class: "asking", autocomplete: "off", "aria-label": "Similar cases" },
    h("label", { class: "ask" }, h("span", {}, "Index"), which), h("label", { class: "ask few" }, h("span", {}, "How many"), count), whose, find);
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    app.attempt(ask);
  });

  const chosen = () => indexes.find((i) => i.id === which.value);

  function about() {
    turn++;
    const index = chosen();
    fill(found);
    whose.hidden = !index || !index.patients;
    find.disabled = !index || Boolean(index.problem);
    if (!index) return;
    const labels = index.labels.slice(0, 6).map((l) => `${l.among} ${l.label}`).join(", ");
    const says = index.cases ? h("p", { class: "hint" }, `${index.cases} cases: ${labels}${index.labels.length > 6 ? ", …" : ""}. Compared: ${index.measure}.`) : null;
    fill(told, index.problem ? problem(index.problem) : null, says,
      index.patients ? h("p", { class: "hint", id: "patient-says" }, "Cases of the scan’s own patient are left out where the scan is in the index; else name the patient. The name is kept nowhere.") : null);
  }

  async function load() {
    const mine = ++turn;
    fill(place, form, told, found);
    fill(found);
    find.disabled = true;
    const rows = await get("similar", { model: desk.model });
    if (mine !== turn) return;
    const kept = which.value;
    indexes = rows;
    fill(which, options(rows.map((i) => [i.id, i.id])));
    which.value = rows.some((i) => i.id === kept) ? kept : (rows.find((i) => !i.problem) || rows[0]).id;
    about();
    const { like } = app.place; // a refresh loses nothing while the viewer remembers it
    if (!like) return;
    const known = await get(`similar/${like}`).catch(() => null);
    if (!known || known.scan !== desk.scan.id || known.model !== desk.model) return app.go({ like: null });
    if (mine + 1 !== turn) return;
    which.value = known.index;
    about();
    await watch(like, turn);
  }

  async function ask() {
    app.calm();
    const mine = ++turn;
    find.disabled = true;
    try {
      const { id } = await post("similar", { scan: desk.scan.id, model: desk.model, index: which.value, k: Number(count.value), patient: whose.hidden ? "" : patient.value });
      app.go({ like: id });
      await watch(id, mine);
    } finally {
      if (mine === turn) find.disabled = false;
    }
  }

  async function watch(id, mine) {
    const job = await follow(desk, found, `similar/${id}`, () => mine === turn);
    if (job && job.found) draw(id, job.found);
  }

  const share = (l, f) => h("tr", {}, h("th", { scope: "row" }, l.label), h("td", { class: "num" }, `${l.here} of ${f.matches.length}`), h("td", { class: "num" }, `${l.among} of ${f.searched}`), h("td", { class: "num" }, l.chance));

  function lines(m) {
    const alike = m.likeness === null ? null : h("span", {}, `likeness ${m.likeness_shown}`);
    return [h("strong", {}, m.label), alike, h("span", {}, `distance ${m.distance}`), h("small", {}, m.same ? `place ${m.place}, the same image` : `place ${m.place}`), m.name ? h("small", { class: "named" }, m.name) : null];
  }

  function draw(id, f) {
    const own = tile(fileOf(`scans/${desk.scan.id}/picture`), "This scan", [h("strong", {}, "This scan")]);
    own.className = "own";
    const cases = f.matches.map((m) => tile(m.picture ? fileOf(`similar/${id}/${m.n}/picture`) : "", `Similar case ${m.n + 1}: ${m.label}`, lines(m), m.why));
    fill(found, h("p", { class: "sentence" }, f.sentence), h("div", { class: "tiles" }, own, cases),
      f.labels.length ? h("div", { class: "scroller", role: "region", tabindex: "0", "aria-label": "Labels of the cases" }, h("table", { class: "shares" },
        h("thead", {}, h("tr", {}, ["Label", "Among these", "Among all compared", "Expected by chance"].map((c) => h("th", { scope: "col" }, c)))), h("tbody", {}, f.labels.map((l) => share(l, f))))) : null,
      h("ul", { class: "remarks" }, f.notes.map((n) => h("li", {}, n))),
      h("p", { class: "hint" }, h("strong", {}, "What the numbers mean. "), `${f.means} Compared: ${f.compared}.`),
      cannot("What they cannot tell you.", f.cannot));
  }

  desk.on("model", () => app.attempt(load));
}
