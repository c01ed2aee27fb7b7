// A form for a method, made from what the server tells of its signature.
import { h, options } from "./dom.js";

const NUMBERS = new Set(["count", "fraction", "positive", "weight", "real"]);
const KEEPERS = new Set(["blur_ig", "integrated_gradients"]); // their paths can be leafed through, if they are kept

const plain = (text) => text.replaceAll("``", "");

export class MethodFields {
  constructor(form, flat, changed) {
    this.form = form;
    this.fields = form.fields.map((f) => {
      const start = f.name === "keep" && flat && KEEPERS.has(form.name) ? "True" : f.default;
      return { ...f, start, input: this.#input(f, start) };
    });
    this.element = h("div", { class: "fields" }, this.fields.map((f) => this.#row(f)));
    this.element.addEventListener("input", changed);
  }

  #input(f, start) {
    const id = `p-${f.name}`;
    if (f.kind === "flag") return h("input", { type: "checkbox", id, checked: start === "True" });
    if (f.kind === "choice") {
      const rows = [...(f.optional ? [["as the method chooses", ""]] : []), ...f.choices.map((c) => [c, c])];
      return h("select", { id }, options(rows, start ?? ""));
    }
    const rest = { id, value: start ?? "", placeholder: f.optional ? "as the method chooses" : "", autocomplete: "off" };
    if (NUMBERS.has(f.kind)) return h("input", { ...rest, type: "number", min: f.low, max: f.high, step: f.step ?? "any" });
    return h("input", { ...rest, type: "text", spellcheck: "false", list: f.ideas.length ? `ideas-${f.name}` : undefined });
  }

  #row(f) {
    const ideas = f.ideas.length ? h("datalist", { id: `ideas-${f.name}` }, f.ideas.map((i) => h("option", { value: i }))) : null;
    const says = h("small", { id: `says-${f.name}` }, plain(f.says));
    f.input.setAttribute("aria-describedby", `says-${f.name}`);
    f.input.title = `${f.wants}${f.optional ? ", or empty" : ""}`;
    const name = f.name.replaceAll("_", " ");
    if (f.kind === "flag") return h("div", { class: "field" }, h("label", { class: "check", for: f.input.id }, f.input, name), says);
    return h("div", { class: "field" }, h("label", { for: f.input.id }, name), f.input, ideas, says);
  }

  // What differs from the method's defaults.
  get params() {
    const found = {};
    for (const f of this.fields) {
      const text = f.kind === "flag" ? (f.input.checked ? "True" : "False") : f.input.value.trim();
      if (text === (f.default ?? "")) continue;
      if (f.kind === "flag") found[f.name] = f.input.checked;
      else if (text === "") found[f.name] = null;
      else found[f.name] = NUMBERS.has(f.kind) ? Number(text) : text;
    }
    return found;
  }
}

export const misleads = (form) => (form.misleads ? `Misleads when ${plain(form.misleads)}` : "");
export const says = (form) => plain(form.says);
