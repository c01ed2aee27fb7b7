// Read: cases in a balanced random order, each at one level of explanation; answer, confidence and time go to the server's sheet.
import { fileOf, get, post, samples } from "../api.js";
import { byId, fill, h } from "../dom.js";
import { gradient, sceneOf } from "../screen.js";
import { link } from "../take.js";
import { badge } from "../words.js";

const SURE = [50, 60, 70, 80, 90, 95, 99];
let now = null; // what is mounted: { app, element, open, away, hidden }

export async function mount(element, app) {
  if (!byId("read-css")) document.head.append(h("link", { id: "read-css", rel: "stylesheet", href: "static/viewer/read/read.css" }));
  now = { app, element, open: true, away: 0, hidden: null, keys, sight };
  document.addEventListener("keydown", keys);
  document.addEventListener("visibilitychange", sight);
  const { study, reader } = app.place;
  if (study && reader) await app.attempt(() => turn(study, reader));
  if (!element.firstChild) await app.attempt(start);
}

export function unmount() {
  now.open = false;
  document.removeEventListener("keydown", keys);
  document.removeEventListener("visibilitychange", sight);
  now.app.go({ study: null, reader: null });
  now = null;
}

// Time with the page out of sight is told apart.
function sight() {
  if (document.hidden) now.hidden = performance.now();
  else if (now.hidden !== null) {
    now.away += (performance.now() - now.hidden) / 1000;
    now.hidden = null;
  }
}

const button = (text, onclick, more = {}) => h("button", { type: "button", class: "quiet", onclick, ...more }, text);
const act = (work) => now.app.attempt(async () => {
  now.app.calm();
  await work();
});

// ---------------------------------------------------------------------------------------------------- choosing a study
async function start() {
  const { app, element } = now;
  app.go({ study: null, reader: null });
  const found = await get("readings");
  const none = h("section", { class: "card wide" }, h("h2", {}, "Reader studies"), h("p", {}, "There is no study in the served folder."),
    h("p", { class: "hint" }, "A study is a folder with ", h("code", {}, "reader_study.json"), "; docs/reading.md says what stands in it, and ", h("code", {}, "pellucid.reader_study.prepare_reader_study"), " writes one."));
  fill(element, h("div", { class: "reading" }, found.length ? found.map(card) : none));
}

function card(s) {
  if (s.problem) return h("section", { class: "card wide" }, h("h2", {}, s.folder || "This folder"), h("p", { class: "warning" }, `The study cannot be read: ${s.problem}`));
  const reader = h("input", { type: "text", value: "R1", pattern: "R[0-9]{1,3}", maxlength: 4, "aria-label": "Your code", required: true, spellcheck: "false" });
  const left = Object.entries(s.left_out).filter(([, why]) => why !== "not asked for");
  const form = h("form", { class: "start-study", autocomplete: "off" }, h("label", { class: "ask" }, h("span", {}, "Your code (R and a number)"), reader), h("button", { type: "submit", class: "main" }, "Read"));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    act(async () => turn((await post("readings", { folder: s.folder })).id, reader.value.trim()));
  });
  const read = Object.entries(s.readers);
  const results = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Results" });
  return h("section", { class: "card wide", "data-study": s.name }, h("h2", {}, s.name), h("p", {}, s.question),
    h("p", { class: "hint" }, `${s.cases} cases, ${s.turns} turns for each reader, at ${s.levels.length} levels, in an order of your own:`),
    h("ol", { class: "levels" }, s.levels.map((l) => h("li", {}, l))),
    left.length ? h("p", { class: "hint fair" }, "Left out, for want of material: ", left.map(([l, why]) => `${l} (${why})`).join("; "), ".") : null,
    form, read.length ? h("p", { class: "hint" }, `Answers so far: ${read.map(([r, n]) => `${r} ${n}`).join(", ")}.`) : null,
    read.length ? h("details", {}, h("summary", {}, "Results so far (not before you are through)"), h("div", { class: "buttons" },
      button("Show", () => act(() => told(s, results)), { class: "quiet show-results" }), link(now.app, "Answers (CSV)", fileOf(`readings/${s.id}/answers.csv`), "A line for each answer")), results) : null);
}

async function told(s, place) {
  const { columns, rows, numbers } = await get(`readings/${s.id}/results`);
  fill(place, h("table", { class: "results" }, h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)))),
    h("tbody", {}, rows.map((r) => h("tr", {}, h("th", { scope: "row", title: numbers.measures[r[0]] }, r[0]), r.slice(1).map((v) => h("td", {}, v)))))),
  h("p", { class: "hint" }, "In brackets: 95 % intervals over readers and cases. ", Object.entries(numbers.measures).map(([m, says]) => `${m}: ${says}`).join("; "), "."),
  h("ul", { class: "reasons" }, numbers.notes.map((n) => h("li", {}, n))));
}

// ---------------------------------------------------------------------------------------------------- a turn
async function turn(study, reader, known = null) {
  const found = known || (await get(`readings/${study}/turn`, { reader }));
  now.app.go({ study, reader });
  if (!found.case) return over(study, found);
  return show(study, found);
}

function over(study, found) {
  fill(now.element, h("div", { class: "reading" }, h("section", { class: "card wide" }, h("h2", {}, "All read"),
    h("p", {}, `${found.reader}: all ${found.of} answers are kept. Thank you.`),
    h("div", { class: "buttons" }, button("To the studies", () => act(start), { id: "to-studies" })))));
}

async function show(study, found) {
  const { case: c, done, of, reader } = found;
  const { app, element } = now;
  const stage = h("div", { class: "stage read-stage", id: "stage", tabindex: "-1" });
  const beside = h("section", { class: "card", "aria-labelledby": "h-level" }, h("h2", { id: "h-level" }, "What the network says"), h("p", { class: "hint" }, `Shown: ${c.words}.`),
    probabilities(c), h("div", { id: "map-says" }), similar(study, c), concepts(c));
  fill(element, h("div", { class: "reading", "data-position": c.position, "data-level": c.level }, h("section", { class: "card wide" },
    h("p", { class: "turn" }, h("strong", {}, found.study.question), h("span", {}, `${reader}, case ${done + 1} of ${of}`), h("progress", { value: done, max: of, "aria-label": "how far" }), button("Pause", () => act(start)))),
  h("div", { class: "seen" }, h("section", { class: "card", "aria-labelledby": "h-case" }, h("h2", { id: "h-case" }, "The case"), stage, h("div", { id: "maps-shown", class: "buttons" }), h("ul", { class: "remarks", id: "remarks" })),
    answerCard(study, found)), beside));
  await picture(study, c, stage);
  await post(`readings/${study}/shown`, { reader, position: c.position });
  now.away = 0;
  byId("answer").querySelector("button[type=submit]").dataset.ready = "yes";
  ready();
}

// The clock runs from here on: scan and maps are drawn.
async function picture(study, c, stage) {
  const scan = await get(`scans/${c.scan}`);
  const scene = await sceneOf(scan, { ...now.app.about.colors });
  const board = new Board(scene, stage);
  fill(byId("remarks"), scan.display.sided ? null : scan.remarks.map((r) => h("li", {}, r)));
  const maps = [];
  for (const [n, name] of c.maps.entries()) {
    const facts = await get(`readings/${study}/cases/${c.case}/maps/${n}`);
    const label = { ...facts.label, name };
    const at = scene.addMap({ id: `${c.case}.${n}`, ...facts, label, samples: await samples(`readings/${study}/cases/${c.case}/maps/${n}/samples`, facts.bits) });
    maps.push({ ...facts, label, at });
  }
  await board.show(maps.length ? maps[0].at : null);
  if (!maps.length) return;
  const choose = (n) => act(async () => {
    await board.show(maps[n].at);
    says(n);
  });
  // Beside the picture: what its values are, and what the checks said of it.
  function says(n) {
    const { label, full, negative, sentence, cannot } = maps[n];
    const bar = h("div", { class: "gradient" });
    bar.style.background = gradient(scene.colors);
    const single = negative === 0;
    fill(byId("maps-shown"), maps.length > 1 ? maps.map((m, k) => button(m.label.name, () => choose(k), { "aria-pressed": String(k === n) })) : null);
    fill(byId("map-says"), h("div", { class: "added" }, h("h3", {}, `Map: ${label.name}, ${label.target}`), h("p", {}, badge(label.verdict, "small")), h("p", { class: "hint" }, sentence),
      h("div", { class: `scale${single ? " single" : ""}` }, bar, h("div", { class: "ticks" }, h("span", {}, single ? "" : `−${number(full)}`), h("span", {}, "0"), h("span", {}, `+${number(full)}`)),
        h("div", { class: "ends" }, h("span", {}, single ? "" : label.bar.low), h("span", {}, label.bar.what), h("span", {}, label.bar.high))),
      h("p", { class: "hint cannot" }, h("strong", {}, "What this map cannot tell you. "), cannot)));
  }
  says(0);
}

function probabilities(c) {
  const rows = Object.entries(c.probabilities).sort((a, b) => b[1] - a[1]);
  return h("div", { class: "added" }, h("h3", {}, "Probabilities"), rows.map(([name, p]) => {
    const fillIn = h("span", {});
    fillIn.style.width = `${100 * p}%`;
    return h("div", { class: "read-bar" }, h("span", {}, name), h("span", { class: "track", "aria-hidden": "true" }, fillIn), h("span", { class: "p" }, percent(p)));
  }));
}

const similar = (study, c) => (c.similar.length ? h("div", { class: "added" }, h("h3", {}, "Similar real cases"), h("div", { class: "read-similar" },
  c.similar.map((s, n) => h("figure", {}, h("img", { src: `api/readings/${study}/cases/${c.case}/similar/${n}`, alt: `Similar case, ${s.truth}` }), h("figcaption", {}, h("strong", {}, s.truth), s.says ? ` ${s.says}` : ""))))) : null);

const concepts = (c) => (c.concepts.length ? h("div", { class: "added" }, h("h3", {}, "Concepts"), h("ul", { class: "reasons" }, c.concepts.map((s) => h("li", {}, s)))) : null);

function answerCard(study, found) {
  const { case: c, reader } = found;
  const choice = (name, value, text, key) => h("label", {}, h("input", { type: "radio", name, value, onchange: ready }), h("span", {}, text), key ? h("kbd", { "aria-hidden": "true" }, key) : null);
  const form = h("form", { id: "answer", autocomplete: "off" },
    h("fieldset", { class: "choices" }, h("legend", {}, "Your answer"), c.answers.map((a, n) => choice("said", a, a, n < 9 ? String(n + 1) : ""))),
    h("fieldset", { class: "choices sure" }, h("legend", {}, "How sure are you that it is right? (%)"), SURE.map((p) => choice("sure", p / 100, `${p}`))),
    h("button", { type: "submit", class: "main", disabled: true }, "Answer, and on"), h("p", { class: "hint" }, "An answer stands once given. Keys: 1 to 9 choose, Enter goes on."));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const given = new FormData(form);
    sight();
    form.querySelector("button[type=submit]").disabled = true;
    act(async () => {
      const next = await post(`readings/${study}/answers`, { reader, position: c.position, answer: given.get("said"), confidence: Number(given.get("sure")), away: now.away });
      await turn(study, reader, next);
    }).then(() => now && byId("answer") && ready());
  });
  return h("section", { class: "card answering", "aria-labelledby": "h-answer" }, h("h2", { id: "h-answer" }, found.study.question), form);
}

function ready() {
  const form = byId("answer");
  if (!form) return;
  const given = new FormData(form);
  const go = form.querySelector("button[type=submit]");
  go.disabled = !(given.get("said") && given.get("sure") && go.dataset.ready);
}

function keys(e) {
  const form = byId("answer");
  if (!form || e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input[type=text], select, textarea")) return;
  const at = Number(e.key);
  if (at >= 1 && at <= 9) {
    const one = form.querySelectorAll('input[name="said"]')[at - 1];
    if (!one) return;
    one.checked = true;
    one.focus();
    ready();
  } else if (e.key === "Enter" && !e.target.matches("button, a, summary")) form.requestSubmit();
  else return;
  e.preventDefault();
}
