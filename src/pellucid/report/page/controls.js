"use strict";
// Controls: tabs, sliders, boxes and the line of numbers around a Board. Elements are found by id; those that a page has not are left out.
const PRESETS = { Brain: [40, 80], "Soft tissue": [40, 400], Lung: [-600, 1500], Bone: [400, 1800] };
const byId = (id) => document.getElementById(id);

class Controls {
  constructor(scene, board) {
    Object.assign(this, { scene, board });
    this.#sliders();
    this.#lists();
    this.#buttons();
    this.windows();
    scene.listen(() => this.tell());
  }

  #on(id, type, fn) {
    if (byId(id)) byId(id).addEventListener(type, fn);
  }

  #sliders() {
    const { scene } = this;
    this.#on("opacity", "input", (e) => scene.change({ opacity: e.target.value / 100 }));
    this.#on("threshold", "input", (e) => scene.change({ threshold: e.target.value / 100 }));
    this.#on("zoom", "input", (e) => scene.zoomAt(2 ** Number(e.target.value) / scene.view.zoom));
    for (const name of ["overlay", "smooth", "cross", "tint"]) this.#on(name, "change", (e) => scene.change({ [name]: e.target.checked }));
    for (const name of ["center", "width"]) {
      this.#on(name, "input", () => {
        const [center, width] = [Number(byId("center").value), Number(byId("width").value)];
        this.#window([center - width / 2, center + width / 2]);
      });
    }
  }

  #window(window) {
    const windows = [...this.scene.view.windows];
    windows[this.scene.view.channel] = window;
    this.scene.change({ windows });
  }

  #lists() {
    const { scene, board } = this;
    const fill = (id, names) => byId(id) && byId(id).replaceChildren(...names.map((n) => new Option(...[n].flat())));
    fill("channel", scene.channels.map((c, n) => [c.name, n]));
    this.#on("channel", "change", async (e) => {
      await scene.load("channels", Number(e.target.value));
      scene.change({ channel: Number(e.target.value) });
      this.windows();
    });
    if (scene.quantity === "HU" && !scene.color && byId("preset")) {
      byId("preset-label").hidden = false;
      fill("preset", ["as given", ...Object.keys(PRESETS)].map((name, n) => [name, n]));
      this.#on("preset", "change", (e) => {
        const [center, width] = Object.values(PRESETS)[Number(e.target.value) - 1] || [];
        this.#window(width ? [center - width / 2, center + width / 2] : [...scene.channels[scene.view.channel].window]);
        this.windows();
      });
    }
    fill("plane", [...scene.planes.map((p, n) => [p.name, n]), ...(scene.volume ? [["Three planes", "three"]] : [])]);
    this.#on("plane", "change", (e) => this.show(board.shown, e.target.value === "three" ? "three" : Number(e.target.value)));
  }

  #buttons() {
    const { scene, board } = this;
    this.#on("to-peak", "click", () => scene.maps.length && scene.toPeak(board.maps[0] || 0));
    this.#on("defaults", "click", () => {
      byId("controls").reset();
      scene.reset();
      this.windows();
      if (scene.maps.length) scene.toPeak(board.maps[0] || 0);
    });
    for (const b of document.querySelectorAll("[data-show]")) {
      b.addEventListener("click", () => this.show(b.dataset.show === "all" ? "all" : Number(b.dataset.show)));
    }
  }

  // Another map, or all side by side; what the page says about other maps is put away.
  async show(which, plane) {
    await this.board.show(which, plane);
    if (byId("plane-label")) byId("plane-label").hidden = !(this.scene.volume && which === "all");
    for (const b of document.querySelectorAll("[data-show]")) b.setAttribute("aria-pressed", String(b.dataset.show === String(which)));
    for (const a of document.querySelectorAll("article[data-map]")) a.hidden = which !== "all" && a.dataset.map !== String(which);
    for (const a of document.querySelectorAll("[data-answers]")) a.hidden = a.dataset.answers !== String(which); // the verdict told is that of the map seen
    for (const lead of document.querySelectorAll(".lead")) lead.classList.toggle("all", which === "all");
    const moving = byId("moving");
    if (moving) moving.hidden = [...moving.querySelectorAll("article")].every((a) => a.hidden);
  }

  // The sliders of the window, over all that the channel holds.
  windows() {
    const { scene } = this;
    if (scene.color || !byId("center")) return;
    const c = scene.channels[scene.view.channel];
    const [black, white] = scene.view.windows[scene.view.channel];
    const low = Math.min(c.low, c.window[0], black);
    const high = Math.max(c.low + c.step * (c.bits === 8 ? 255 : 65535), c.window[1], white);
    Object.assign(byId("center"), { min: low, max: high });
    Object.assign(byId("width"), { min: (high - low) / 500, max: high - low });
    byId("center").value = (black + white) / 2;
    byId("width").value = white - black;
  }

  tell() {
    const { scene } = this;
    const { view } = scene;
    const set = (id, text) => byId(id) && (byId(id).textContent = text);
    const one = this.board.maps.length === 1 ? scene.maps[this.board.maps[0]] : null;
    set("o-opacity", `${Math.round(100 * view.opacity)} %`);
    set("o-threshold", `${Math.round(100 * view.threshold)} %${one && view.threshold ? ` (${number(view.threshold * one.full)})` : ""}`);
    set("o-zoom", `${Number(view.zoom.toPrecision(2))} ×`);
    if (byId("zoom")) byId("zoom").value = Math.log2(view.zoom);
    for (const cut of document.querySelectorAll(".cut")) cut.style.width = `${100 * view.threshold}%`;
    const bar = (one && one.label.bar) || { what: "", low: "", high: "" };
    const single = one !== null && one.negative === 0; // nothing below zero: half a bar
    if (byId("scale")) byId("scale").classList.toggle("single", single);
    const beyond = (value) => (value > (one ? one.full : 0) * 1.001 ? true : false);
    set("tick-low", single ? "" : one ? `${beyond(-one.negative) ? "≤ " : ""}−${number(one.full)}` : "−full");
    set("tick-high", one ? `${beyond(one.positive) ? "≥ " : ""}+${number(one.full)}` : "+full");
    set("tick-unit", one ? bar.what : this.board.maps.length ? "each map on its own scale, in its own unit" : "");
    set("end-low", one && !single ? bar.low : "");
    set("end-high", one ? bar.high : "");
    if (!scene.color && byId("o-center")) {
      const [black, white] = view.windows[view.channel];
      set("o-center", number((black + white) / 2));
      set("o-width", number(white - black));
    }
    this.#readout();
  }

  // A map chosen anew is not read where it is strongest: the line says where that would be.
  #largest(n, i) {
    const { scene } = this;
    const { peak } = scene.maps[n];
    const largest = scene.relevance(n, scene.offset(peak));
    if (largest === 0) return "none: zero everywhere";
    return scene.offset(peak) === i ? "here" : `${number(largest, true)} at ${scene.place(peak) || scene.inScan(peak)}`;
  }

  #readout() {
    if (!byId("readout")) return;
    const { scene } = this;
    const { view } = scene;
    const at = view.hover || view.at;
    const i = scene.offset(at);
    const many = scene.channels.length > 1 && !scene.color;
    const unit = ["intensity", ""].includes(scene.quantity) ? "" : ` ${scene.quantity}`;
    const values = scene.color
      ? ["red, green, blue", scene.channels.map((_, k) => number(scene.value(k, i))).join(", ")]
      : [many ? `image, ${scene.channels[view.channel].name}` : "image", `${number(scene.value(view.channel, i))}${unit}`];
    const items = [[scene.volume ? "voxel" : "row, column", scene.inScan(at)], ["position", scene.place(at)], values];
    const { maps } = this.board;
    for (const n of maps) {
      const { name, target } = scene.maps[n].label;
      items.push([maps.length > 1 ? `${name}, ${target}` : "map", number(scene.relevance(n, i), true)]);
    }
    if (maps.length === 1) items.push(["largest value", this.#largest(maps[0], i)]);
    const line = document.createElement("div");
    for (const [key, value] of items.filter((one) => one[1])) {
      const cell = document.createElement("span");
      const strong = document.createElement("b");
      strong.textContent = value;
      cell.append(`${key} `, strong);
      line.append(cell);
    }
    byId("readout").replaceChildren(line);
  }
}
