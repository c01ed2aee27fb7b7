"use strict";
/* Processes: what a method did to the image, step by step, drawn from what it recorded; and the score meanwhile. Nothing moves until asked for;
 * where the system asks for less motion there is no play button, only the slider. */
const HIDDEN = "rgba(70, 80, 92, 0.94)";

class Process {
  constructor(element, facts) {
    Object.assign(this, { element, facts, at: 0, timer: null });
    this.canvas = element.querySelector("canvas");
    this.pen = this.canvas.getContext("2d");
    this.slider = element.querySelector("input[type=range]");
    this.button = element.querySelector("button");
    this.cursor = element.querySelector(".cursor");
    this.said = element.querySelector("output");
  }

  async start() {
    const { facts } = this;
    this.pictures = await Promise.all(facts.pictures.map(async (uri) => {
      const picture = new Image();
      picture.src = uri;
      await picture.decode();
      return picture;
    }));
    this.canvas.width = this.pictures[0].naturalWidth;
    this.canvas.height = this.pictures[0].naturalHeight;
    if (facts.kind === "segments") await this.#segments();
    this.slider.addEventListener("input", () => { this.stop(); this.fresh = false; this.show(Number(this.slider.value)); });
    this.button.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    this.fresh = true;
    this.show(Math.floor(0.55 * facts.frames)); // where there is something to see
  }

  play() {
    this.button.textContent = "Pause";
    if (this.fresh || this.at >= this.facts.frames - 1) this.show(0);
    this.fresh = false;
    this.timer = setInterval(() => {
      if (this.at >= this.facts.frames - 1) this.stop();
      else this.show(this.at + 1);
    }, Math.max(40, Math.min(250, 12000 / this.facts.frames)));
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "Play";
  }

  show(frame) {
    this.at = frame;
    this.slider.value = frame;
    const { facts, pen, canvas } = this;
    pen.globalAlpha = 1;
    this[facts.kind](frame, canvas.width, canvas.height);
    const [x, ...ys] = facts.marks[frame];
    this.cursor.querySelector("path").setAttribute("d", `M${x} 8V132`);
    [...this.cursor.querySelectorAll("circle")].forEach((c, k) => { c.setAttribute("cx", x); c.setAttribute("cy", ys[k]); });
    this.said.textContent = facts.says[frame];
    this.slider.setAttribute("aria-valuetext", facts.says[frame]);
  }

  windows(frame, wide, tall) {
    const { pen, facts } = this;
    pen.drawImage(this.pictures[0], 0, 0);
    for (let k = 0; k < frame; k++) { // the trail: how far the score fell with each window
      const [x, y, w, h] = facts.windows[k];
      const share = facts.drops[k];
      pen.fillStyle = `rgba(${share > 0 ? "255, 170, 60" : "90, 170, 255"}, ${0.35 * Math.min(1, Math.abs(share))})`;
      pen.fillRect(x * wide + (w * wide) / 4, y * tall + (h * tall) / 4, (w * wide) / 2, (h * tall) / 2);
    }
    const [x, y, w, h] = facts.windows[frame];
    pen.fillStyle = facts.fill || HIDDEN;
    pen.fillRect(x * wide, y * tall, w * wide, h * tall);
    pen.strokeStyle = "#fff";
    pen.lineWidth = Math.max(1, wide / 160);
    pen.strokeRect(x * wide, y * tall, w * wide, h * tall);
  }

  async #segments() {
    const { facts, canvas, pen } = this;
    this.labels = await unpack(facts.labels, 16);
    pen.drawImage(this.pictures[0], 0, 0);
    this.whole = pen.getImageData(0, 0, canvas.width, canvas.height);
    const sums = new Map();
    this.labels.forEach((s, i) => {
      const sum = sums.get(s) || sums.set(s, [0, 0, 0, 0]).get(s);
      for (let c = 0; c < 3; c++) sum[c] += this.whole.data[4 * i + c];
      sum[3]++;
    });
    this.means = new Map([...sums].map(([s, v]) => [s, v.slice(0, 3).map((c) => c / v[3])]));
  }

  segments(frame) {
    const { facts, pen, labels } = this;
    const shown = facts.rows[frame];
    const out = new ImageData(new Uint8ClampedArray(this.whole.data), this.whole.width, this.whole.height);
    labels.forEach((s, i) => {
      if (shown[s] === "1") return;
      const mean = this.means.get(s);
      for (let c = 0; c < 3; c++) out.data[4 * i + c] = mean[c];
    });
    pen.putImageData(out, 0, 0);
  }

  path(frame) {
    const { pen } = this;
    pen.drawImage(this.pictures[1], 0, 0);
    pen.globalAlpha = this.facts.alphas[frame];
    pen.drawImage(this.pictures[0], 0, 0);
  }

  blur(frame) {
    this.pen.drawImage(this.pictures[this.facts.keys[frame]], 0, 0);
  }
}

async function processes() {
  if (!byId("processes")) return;
  const facts = JSON.parse(byId("processes").textContent);
  await Promise.all([...document.querySelectorAll(".process")].map((element) => new Process(element, facts[Number(element.dataset.process)]).start()));
}
