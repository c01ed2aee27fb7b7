// The question: network, target, "why not the other class", site, method with its form, evidence; and its price before it is asked.
import { get, post } from "./api.js";
import { byId, fill, h, options } from "./dom.js";
import { MethodFields, misleads, says } from "./form.js";

const LEVELS = [["no checks", "none"], ["quick checks", "quick"], ["standard checks", "standard"], ["full checks", "full"]];
const FIRST = { fundus: "phantom:fundus_dme", brain: "phantom:brain_atrophy", chest: "phantom:chest" };
const quoted = (text) => (text.includes("'") ? JSON.stringify(text) : `'${text}'`);

export function question(desk) {
  const { app } = desk;
  const form = byId("question");
  let [models, methods, fields, asked] = [[], [], null, 0];

  const label = (text, input, hint) => h("label", { class: "ask" }, h("span", {}, text), input, hint || null);
  const model = h("select", { id: "model", onchange: () => look() });
  const told = h("div", { id: "model-told" });
  const target = h("select", { id: "target", onchange: () => words() });
  const against = h("select", { id: "against", onchange: () => words() });
  const scale = h("select", { id: "measured-as" });
  const own = h("input", { id: "target-text", type: "text", spellcheck: "false", placeholder: "logit('a') - 0.5 * logit('b')" });
  const method = h("select", { id: "method", onchange: () => choose() });
  const about = h("div", { id: "method-told" });
  const site = h("input", { id: "site", type: "text", list: "sites", spellcheck: "false", placeholder: "where the method looks by default" });
  const sites = h("datalist", { id: "sites" });
  const level = h("select", { id: "level" }, options(LEVELS, "quick"));
  const seed = h("input", { id: "seed", type: "number", min: 0, step: 1, value: 0 });
  const price = h("p", { class: "hint", id: "price" });
  const run = h("button", { type: "submit", class: "main", id: "run", disabled: true }, "Explain");

  desk.on("start", async () => {
    [models, methods] = await Promise.all([get("models"), get("methods")]);
    fill(model, options(models.map((m) => [m.id, m.id])));
    fill(form, label("Network", model), told,
      h("div", { class: "pair" }, label("Why", target), label("and not", against)),
      h("details", {}, h("summary", {}, "Target in detail"), label("Measured as", scale), label("Or in words", own, h("small", {}, "Replaces the choice above."))),
      label("Method", method), about, label("Seen at", site), sites,
      h("div", { class: "pair" }, label("Then", level), label("Seed", seed)), price, run);
    form.hidden = true;
    byId("question").parentElement.append(h("p", { class: "hint", id: "first-a-scan" }, "First open a scan."));
  });

  desk.on("scan", async () => {
    form.hidden = false;
    byId("first-a-scan").hidden = true;
    const flat = desk.scan.display.shape.length === 2;
    const able = methods.filter((m) => m.space.includes(flat ? 2 : 3));
    const kept = method.value;
    fill(method, options(able.map((m) => [m.title, m.name, says(m)])));
    method.value = able.some((m) => m.name === kept) ? kept : "integrated_gradients";
    choose();
    const guess = Object.keys(FIRST).find((k) => desk.scan.name.includes(k) || (app.place.path || "").includes(k));
    if (models.some((m) => m.given)) model.value = models.find((m) => m.given).id;
    else if (!desk.model && guess) model.value = FIRST[guess];
    await look();
  });

  // Waits in the queue like a run; another choice meanwhile makes it void.
  async function look() {
    const mine = ++asked;
    desk.look = null;
    desk.model = model.value;
    run.disabled = true;
    desk.tell("model");
    fill(told, h("p", { class: "hint" }, "Looking at the network …"));
    await app.attempt(async () => {
      const facts = await get("model", { id: model.value });
      let found;
      do {
        found = await post("look", null, { scan: desk.scan.id, model: model.value });
        if (mine !== asked || !desk.open) return;
        if (found.state === "waiting" && found.ahead) fill(told, h("p", { class: "hint" }, `Waiting: ${found.ahead} before it.`));
        if (found.state !== "done" && !found.error) await new Promise((done) => setTimeout(done, 250));
      } while (!found.error && found.state !== "done" && found.state !== "cancelled");
      fill(told, h("p", { class: "hint" }, `${facts.kind}, trust: ${facts.trust}. ${facts.notes.join(" ")}`));
      if (found.error) {
        told.append(problem(found.error));
        return;
      }
      desk.look = found;
      targets();
      run.disabled = false;
      await desk.tell("look");
    });
  }

  const problem = (e) => h("p", { class: "warning", role: "alert" }, `${e.asked}; got ${e.got}. ${e.fix}`);

  function targets() {
    const { classes, output, predicted, probabilities, remarks } = desk.look;
    const names = classes.map((c, k) => [probabilities.length ? `${c} (${percent(probabilities[k])})` : c, c]);
    const kept = target.value;
    fill(target, options([["the predicted class", "", predicted], ...names]));
    if (classes.includes(kept)) target.value = kept;
    fill(against, options([["(nothing)", ""], ...classes.map((c) => [c, c])]));
    const dense = output === "segmentation";
    const scales = dense ? [["logit over the predicted region", "logit"], ["logit over the drawn region", "mark"], ["probability over the predicted region", "probability"]]
      : output === "regression" ? [["value", "logit"]] : [["logit", "logit"], ["probability", "probability"]];
    fill(scale, options(scales, "logit"));
    fill(sites, desk.look.sites.map((s) => h("option", { value: s.name }, s.shape.join(" × "))));
    for (const r of remarks) told.append(h("p", { class: "hint" }, r));
    words();
  }

  // The target as the command line would take it.
  function words() {
    const { classes, output } = desk.look;
    against.disabled = !target.value;
    if (own.value.trim()) return own.value.trim();
    if (!target.value) return null;
    const name = (c) => (output === "regression" ? `logit(${classes.indexOf(c)})` : output === "segmentation"
      ? `region(${quoted(c)}${scale.value === "probability" ? ", of='probability'" : ""})` : `${scale.value}(${quoted(c)})`);
    return against.value && against.value !== target.value ? `${name(target.value)} - ${name(against.value)}` : name(target.value);
  }

  function choose() {
    const m = methods.find((one) => one.name === method.value);
    const flat = desk.scan.display.shape.length === 2;
    fields = new MethodFields(m, flat, () => cost());
    const notes = [[m.hears_weights, "Depends little on the network's weights."], [m.hears_target, "Shows the same for every target."]];
    fill(about, h("p", { class: "hint" }, says(m)), notes.filter((n) => !n[0]).map((n) => h("p", { class: "hint fair" }, n[1])),
      h("details", {}, h("summary", {}, `Parameters (${fields.fields.length})`), fields.element),
      h("details", {}, h("summary", {}, "Its traps and its source"), h("p", { class: "hint" }, misleads(m)), h("p", { class: "hint" }, m.source)));
    site.disabled = m.where === "input";
    cost();
  }

  let soon = 0;
  function cost() {
    clearTimeout(soon);
    soon = setTimeout(async () => {
      try {
        const found = await post("methods/price", { name: method.value, params: fields.params }, { scan: desk.scan.id });
        const passes = found.forward === null ? "" : `${found.at_most ? "At most " : ""}${found.forward} passes forward, ${found.backward} backward, before checks. `;
        fill(price, passes, h("code", {}, found.method));
        price.classList.remove("warning");
      } catch (error) {
        fill(price, error.message);
        price.classList.add("warning");
      }
    }, 200);
  }

  form.addEventListener("submit", (e) => {
    e.preventDefault();
    app.attempt(async () => {
      app.calm();
      const text = words();
      const mark = desk.mark && text && text.includes("region(") && (scale.value === "mark" || own.value.trim()) ? desk.mark : null;
      await post("runs", {
        scan: desk.scan.id, model: model.value, target: text, mark, sites: site.value.trim() && !site.disabled ? [site.value.trim()] : [],
        methods: [{ name: method.value, params: fields.params }], evidence: level.value, seed: Number(seed.value) || 0,
      });
      await desk.tell("asked");
    });
  });
}
