"use strict";
// Panel: one plane of the scan, with or without a map over it, true to proportion, with marks of orientation, a ruler and the crosshair.
class Panel {
  constructor(scene, plane, { map = null, name = plane.name, note = null } = {}) {
    Object.assign(this, { scene, plane, map, name, note });
    this.wide = scene.shape[plane.x];
    this.tall = scene.shape[plane.y];
    this.#build();
    for (const part of ["scan", "over"]) {
      const canvas = Object.assign(document.createElement("canvas"), { width: this.wide, height: this.tall });
      this[part] = { canvas, pen: canvas.getContext("2d"), pixels: new ImageData(this.wide, this.tall) };
    }
    gestures(this);
  }

  #build() {
    const { plane, scene } = this;
    const make = (tag, name, inside = []) => {
      const one = document.createElement(tag);
      if (name) one.className = name;
      one.append(...inside);
      return one;
    };
    this.canvas = make("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.where = make("span", "where");
    this.word = make("span", "word");
    this.length = make("span");
    this.ruler = make("span", "ruler", [this.length]);
    this.down = make("div", "hair down");
    this.across = make("div", "hair across");
    const marks = ["left", "right", "top", "bottom"].map((side, k) => {
      const mark = make("span", `edge ${side}`, [plane.edges[k]]);
      mark.setAttribute("aria-hidden", "true");
      return mark;
    });
    this.frame = make("div", "frame", [this.canvas, this.down, this.across, ...marks.filter((m) => m.textContent), this.ruler]);
    this.figure = make("figure", "panel", [make("figcaption", "", [make("span", "what", [this.name]), this.word, this.where]), this.frame]);
    this.figure.style.setProperty("--wide", plane.wide);
    this.figure.style.setProperty("--tall", plane.tall);
    this.figure.dataset.plane = scene.planes.indexOf(plane);
    if (this.map !== null) this.figure.dataset.map = this.map;
    if (plane.through === null) return;
    this.slider = Object.assign(make("input"), { type: "range", min: 0, max: scene.shape[plane.through] - 1 });
    this.slider.setAttribute("aria-label", `${this.name}: slice`);
    this.slider.addEventListener("input", () => scene.move(plane.through, Number(this.slider.value)));
    this.figure.append(this.slider);
  }

  // The part of the plane that is seen, in its samples: left, top, width, height.
  get seen() {
    const { zoom, middle } = this.scene.view;
    const { x, y, flipY } = this.plane;
    const [w, h] = [this.wide / zoom, this.tall / zoom];
    const row = flipY ? 1 - middle[y] : middle[y];
    return [middle[x] * this.wide - w / 2, row * this.tall - h / 2, w, h];
  }

  // The sample under a place on the screen.
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const [left, top, w, h] = this.seen;
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v)));
    const at = [...this.scene.view.at];
    at[this.plane.x] = clamp(left + ((event.clientX - box.left) / box.width) * w, this.wide);
    const row = clamp(top + ((event.clientY - box.top) / box.height) * h, this.tall);
    at[this.plane.y] = this.plane.flipY ? this.tall - 1 - row : row;
    return at;
  }

  // Where a (fractional) sample of the scene is seen, as shares of width and height.
  spot(at) {
    const [left, top, w, h] = this.seen;
    const row = this.plane.flipY ? this.tall - 1 - at[this.plane.y] : at[this.plane.y];
    return [(at[this.plane.x] + 0.5 - left) / w, (row + 0.5 - top) / h];
  }

  #each(draw) {
    const { plane, scene } = this;
    const start = plane.through === null ? 0 : scene.view.at[plane.through] * scene.strides[plane.through];
    for (let row = 0; row < this.tall; row++) {
      const y = plane.flipY ? this.tall - 1 - row : row;
      const line = start + y * scene.strides[plane.y];
      for (let x = 0; x < this.wide; x++) draw(4 * (row * this.wide + x), line + x * scene.strides[plane.x]);
    }
  }

  #paintScan(colored, under) {
    const { scene } = this;
    const out = this.scan.pixels.data;
    const dim = under ? scene.colors.dim : 1; // so that color stands out from white tissue
    if (scene.color) {
      const [r, g, b] = scene.channels.map((c) => c.samples);
      this.#each((o, i) => {
        const luminance = 0.2126 * r[i] + 0.7152 * g[i] + 0.0722 * b[i];
        out[o] = dim * (colored ? r[i] : luminance);
        out[o + 1] = dim * (colored ? g[i] : luminance);
        out[o + 2] = dim * (colored ? b[i] : luminance);
        out[o + 3] = 255;
      });
    } else {
      const { low, step, samples } = scene.channels[scene.view.channel];
      const [black, white] = scene.view.windows[scene.view.channel];
      const scale = (255 * step) / (white - black || 1);
      const shift = (255 * (low - black)) / (white - black || 1);
      this.#each((o, i) => {
        const shade = Math.max(0, Math.min(255, shift + scale * samples[i]));
        out[o] = out[o + 1] = out[o + 2] = dim * (scene.inverted ? 255 - shade : shade);
        out[o + 3] = 255;
      });
    }
    this.scan.pen.putImageData(this.scan.pixels, 0, 0);
  }

  #paintMap(table) {
    const out = this.over.pixels.data;
    const full = this.scene.maps[this.map].full;
    this.#each((o, i) => {
      const share = Math.max(-1, Math.min(1, this.scene.relevance(this.map, i) / full));
      const t = 4 * (Math.round(share * 512) + 512);
      for (let c = 0; c < 4; c++) out[o + c] = table[t + c];
    });
    this.over.pen.putImageData(this.over.pixels, 0, 0);
  }

  draw(table) {
    const { canvas, scene, plane } = this;
    const { view } = scene;
    const ratio = window.devicePixelRatio || 1;
    const [wide, tall] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (canvas.width !== wide) canvas.width = wide;
    if (canvas.height !== tall) canvas.height = tall;
    const mapped = this.map !== null && view.overlay;
    this.#paintScan(!mapped || view.tint, mapped);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = view.smooth;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.scan.canvas, ...this.seen, 0, 0, wide, tall);
    if (mapped) {
      this.#paintMap(table);
      pen.drawImage(this.over.canvas, ...this.seen, 0, 0, wide, tall);
    }
    const [x, y] = this.spot(view.at);
    this.down.style.left = `calc(${100 * x}% - 0.5px)`;
    this.across.style.top = `calc(${100 * y}% - 0.5px)`;
    this.down.hidden = this.across.hidden = !view.cross;
    const length = roundLength(plane.length / view.zoom);
    this.ruler.style.width = `${(100 * length * view.zoom) / plane.length}%`;
    this.length.textContent = `${Number(length.toPrecision(3))} ${plane.unit}`;
    this.#tell();
  }

  #tell() {
    const { plane, scene } = this;
    const slice = plane.through === null ? "" : `slice ${scene.view.at[plane.through] + 1} of ${scene.shape[plane.through]}`;
    const here = this.map === null ? "" : number(scene.relevance(this.map, scene.offset(scene.view.at)), true);
    this.where.textContent = this.note === null ? slice : this.note;
    if (this.slider) this.slider.value = scene.view.at[plane.through];
    const label = this.map === null ? null : scene.maps[this.map].label;
    const verdict = (label && label.verdict) || "";
    this.word.textContent = verdict; // no map without what its checks said
    this.word.className = `word ${verdict.replace(" ", "-")}`;
    const map = label === null ? "" : `, ${label.name} for ${label.target}${verdict && `, ${verdict}`}: ${here} at the crosshair`;
    const sides = plane.edges[0] ? `, ${plane.edges[0]} on the left, ${plane.edges[2]} on top` : "";
    this.canvas.setAttribute("aria-label", `${this.name}${slice && `, ${slice}`}${sides}${map}`);
  }
}
