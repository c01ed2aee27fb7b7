// The way to a map: leaf through the blur of Blur IG or the path of integrated gradients, with score and probabilities along it.
import { get } from "./api.js";
import { byId, fill, h } from "./dom.js";

const [WIDE, TALL] = [330, 140];
const NAMES = { blur_ig: ["Blur", "from sharp (left) to blurred"], integrated_gradients: ["Share of the image", "from the baseline (left) to the image"] };

// Lines over a common horizontal axis, with a cursor; each { name, values, kind }.
function plot(title, at, lines, low, high) {
  const span = at.at(-1) - at[0] || 1;
  const x = (v) => 40 + ((v - at[0]) / span) * (WIDE - 56);
  const y = (v) => 12 + (1 - (v - low) / (high - low || 1)) * (TALL - 36);
  const drawn = lines.map((l, k) => h("polyline", { class: `line k${k % 4}`, points: l.values.map((v, n) => `${x(at[n]).toFixed(1)},${y(v).toFixed(1)}`).join(" ") }));
  const zero = low < 0 && high > 0 ? h("line", { class: "zero", x1: 40, x2: WIDE - 16, y1: y(0), y2: y(0) }) : null;
  const ticks = [[low, TALL - 24], [high, 16]].map(([v, at_]) => h("text", { x: 34, y: at_, "text-anchor": "end" }, number(v)));
  const cursor = h("line", { class: "cursor", y1: 8, y2: TALL - 22 });
  const said = `${title}: ${lines.map((l) => `${l.name} from ${number(l.values[0])} to ${number(l.values.at(-1))}`).join("; ")}`;
  const names = lines.length > 1 ? h("p", { class: "keys" }, lines.map((l, k) => h("span", { class: `key k${k % 4}` }, l.name))) : null;
  const picture = h("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": said, class: "plot-way" }, zero, drawn, ticks, cursor);
  return { element: h("figure", { class: "plotted" }, h("figcaption", {}, title), picture, names), move: (v) => ["x1", "x2"].forEach((a) => cursor.setAttribute(a, x(v))) };
}

const range = (values, zero) => [Math.min(...values, ...(zero ? [0] : [])), Math.max(...values, ...(zero ? [0] : []))];

export function way(desk) {
  const { app } = desk;
  const card = byId("way-card");
  let [shown, playing] = [null, 0];

  async function draw() {
    const [id] = desk.shown;
    const facts = desk.shown.length === 1 ? await desk.facts(id) : null;
    clearInterval(playing);
    card.hidden = !facts || !facts.way;
    shown = card.hidden ? null : id;
    if (card.hidden) return;
    const found = await get(`maps/${id}/way`);
    if (shown === id) lay(id, found, facts);
  }

  function lay(id, found, facts) {
    const [name, says] = NAMES[found.kind];
    const last = found.at.length - 1;
    const plots = [];
    if (found.probabilities.length) {
      const lines = found.probabilities[0].map((_, k) => ({ name: found.classes[k] || `class ${k}`, values: found.probabilities.map((p) => p[k]) }));
      plots.push(plot("Probability", found.at, lines, 0, 1));
    }
    if (found.scores.length) plots.push(plot("Score", found.at, [{ name: "score", values: found.scores }], ...range(found.scores, false)));
    if (found.contributions.length) plots.push(plot("Contribution of each step to the map", found.at, [{ name: "contribution", values: found.contributions }], ...range(found.contributions, true)));
    const slider = h("input", { type: "range", id: "step", min: 0, max: last, value: found.kind === "blur_ig" ? 0 : last, "aria-label": name, oninput: () => go() });
    const told = h("output", { id: "way-told" });
    const play = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => run() }, "Play");
    const seen = found.kept || found.kind === "blur_ig"; // else nothing was kept that could be drawn
    const stage = h("div", { class: "stage", hidden: !seen });
    const none = found.kept ? null : h("p", { class: "hint" }, found.kind === "blur_ig"
      ? "The map of each step was not kept: ask again with the parameter keep." : "The path was not kept: ask again with the parameter keep to see image and map along it.");
    fill(byId("way"), h("p", { class: "hint" }, `${says}.${found.kept ? " Each step shows what the network saw, and the map gathered so far." : ""}`), h("div", { class: "along" }, play, slider, told),
      h("div", { class: "way" }, stage, h("div", { class: "plots" }, plots.map((p) => p.element))), none);
    let [scene, board, asked, waits] = [null, null, 0, false];

    async function frame(step) {
      const f = await get(`maps/${id}/way/${step}`);
      const [channels, map] = [await Promise.all(f.channels.map((c, k) => unpack(c, f.display.channels[k].bits))), f.map && (await unpack(f.map, f.layer.bits))];
      if (shown !== id) return;
      if (!scene) {
        const label = { name: "Map so far", target: facts.label.target, unit: "", bar: facts.label.bar };
        const full = f.layer && { ...f.layer, full: facts.layer.full }; // the whole map's scale: what is gathered grows
        scene = new Scene({ ...f.display, channels: f.display.channels.map((c, k) => ({ ...c, samples: channels[k] })), maps: map ? [{ ...full, label, samples: map }] : [], colors: desk.scene.colors });
        scene.change({ cross: false });
        board = new Board(scene, stage);
        await board.show(map ? 0 : null, 0);
        if (scene.volume) scene.change({ at: [...desk.scene.view.at] });
        return;
      }
      scene.channels.forEach((c, k) => Object.assign(c, f.display.channels[k], { samples: channels[k] }));
      if (map) Object.assign(scene.maps[0], { ...f.layer, full: facts.layer.full, samples: map });
      scene.redraw();
    }

    // One frame at a time; what was passed over meanwhile is left out.
    async function go() {
      const step = Number(slider.value);
      const at = found.at[step];
      told.textContent = `${found.kind === "blur_ig" ? `blur ${number(at)} ${found.unit}` : `${number(100 * at)} % of the way`}, step ${step + 1} of ${last + 1}, score ${number(found.scores[step])}`;
      for (const p of plots) p.move(at);
      asked = step;
      if (waits || !seen) return;
      waits = true;
      await app.attempt(() => frame(step));
      waits = false;
      if (asked !== step && shown === id) await go();
    }

    function run() {
      const on = play.getAttribute("aria-pressed") !== "true";
      play.setAttribute("aria-pressed", String(on));
      clearInterval(playing);
      if (!on) return;
      const way_ = found.kind === "blur_ig" ? -1 : 1;
      if (Number(slider.value) === (way_ < 0 ? 0 : last)) slider.value = way_ < 0 ? last : 0;
      playing = setInterval(() => {
        if (waits) return;
        slider.value = Number(slider.value) + way_;
        go();
        if (Number(slider.value) === (way_ < 0 ? 0 : last)) run();
      }, 140);
    }
    go();
  }

  for (const what of ["scan", "shown"]) desk.on(what, () => app.attempt(draw));
}
