"use strict";
/* Scene and Panel: one scan with its maps, drawn on canvases from typed arrays, in 2D or in three planes. The report inlines these
 * files; the viewer serves them. They need no other file and no network. Load them in the order of pellucid.report.scripts.SEAM, as plain
 * scripts: `Scene`, `Panel`, `Board`, `number`, `percent` are then known to every script of the page.
 *
 *   const scene = new Scene(facts);            // facts: report/pictures.py for_script(); samples packed, or typed arrays already
 *   const board = new Board(scene, element);   // panels inside an element; CSS: scene.css
 *   await board.show(0);                       // a map, or "all": side by side; null: the scan alone
 *   scene.change({ at: [3, 4, 5], zoom: 2 });  // all panels follow: zoom, pan, slices, crosshair, threshold, opacity are one state
 *   scene.listen((view) => ...);               // after every drawing, once a frame
 *   scene.addMap({ ...map, label });           // another map of the same scan: { bits, most, full, peak, positive, negative, data | samples };
 *                                              // label: report/words.py label(); what is drawn follows it, should the verdict change
 *
 * Axes are in viewing order: index `i` of the scene is a voxel of the scan by `scan.order`, `scan.flip`, `scan.start`, `scan.factors`
 * (inScan() says which), and `affine` maps it to RAS millimeters. A plane says which axis runs along the screen (x), which down it (y; from
 * the bottom up where flipY), which is scrolled (through; null for a flat image), and the letters at its four edges (left, right, top,
 * bottom; empty where the scan does not say). A sample's value is low + step * number; relevance is most * s, where s = (number - middle) /
 * middle with its sign, squared in 8 bits; middle is 127 or 32767.
 */
class Scene {
  constructor(facts) {
    Object.assign(this, facts);
    this.rank = this.shape.length;
    this.volume = this.rank === 3;
    this.strides = this.shape.map((_, a) => this.shape.slice(a + 1).reduce((p, n) => p * n, 1));
    this.spacing = this.shape.map((_, a) => Math.hypot(...[0, 1, 2].map((w) => this.affine[w][a])));
    this.planes = this.planes.map((p) => this.#plane(p));
    this.ends = this.shape.map((_, a) => this.#ends(a));
    this.whole = this.scan.order.map((a, n) => ({ shape: this.scan.shape[a], spacing: this.spacing[n] / this.scan.factors[a] }));
    this.first = this.maps.length ? this.maps[0].peak : this.shape.map((n) => Math.floor(n / 2));
    this.listeners = [];
    this.panels = [];
    this.waiting = false;
    this.view = { ...this.defaults(), channel: 0, hover: null };
  }

  defaults() {
    return {
      at: [...this.first], zoom: 1, middle: this.shape.map(() => 0.5), opacity: 1, threshold: 0,
      overlay: true, smooth: true, cross: true, tint: false, windows: this.channels.map((c) => [...c.window]),
    };
  }

  #plane(plane) {
    const [wide, tall] = [plane.x, plane.y].map((a) => this.shape[a] * this.spacing[a]);
    const axis = this.axes && this.axes[plane.x]; // a raster whose axes are no lengths: seconds, hertz
    const [per, unit] = axis && axis.scale === "linear" ? [Math.abs(axis.step), axis.unit] : [1, this.unit];
    return { ...plane, wide, tall, length: wide * per, unit };
  }

  // The letters at the beginning and the end of an axis, as the planes show them.
  #ends(axis) {
    const plane = this.planes.find((p) => p.x === axis || p.y === axis);
    const [left, right, top, bottom] = plane.edges;
    return plane.x === axis ? [left, right] : plane.flipY ? [bottom, top] : [top, bottom];
  }

  // ------------------------------------------------------------------ samples
  async load(kind, n) {
    const one = this[kind][n];
    if (!one.samples) {
      one.samples = await unpack(one.data, one.bits);
      one.data = null;
    }
  }

  needed() {
    return Promise.all(this.color ? this.channels.map((_, n) => this.load("channels", n)) : [this.load("channels", this.view.channel)]);
  }

  addMap(map) {
    this.maps.push(map);
    return this.maps.length - 1;
  }

  relevance(n, i) {
    const { bits, most, samples } = this.maps[n];
    const levels = bits === 8 ? 127 : 32767;
    const share = (samples[i] - levels) / levels;
    return bits === 8 ? Math.sign(share) * share * share * most : share * most;
  }

  value(channel, i) {
    const { low, step, samples } = this.channels[channel];
    return low + step * samples[i];
  }

  offset(at) {
    return at.reduce((sum, p, a) => sum + p * this.strides[a], 0);
  }

  // ------------------------------------------------------------------ places
  world(at) {
    const full = [...at, ...Array(3 - this.rank).fill(0)];
    return this.affine.slice(0, 3).map((r) => r[0] * full[0] + r[1] * full[1] + r[2] * full[2] + r[3]);
  }

  // A side is the nearer edge of the whole scan with its letter, never the sign of a coordinate: the origin lies where the scanner or the
  // file put it, not in the middle of the patient. The same words as `position` of report/words.py.
  place(at) {
    const blocks = this.#blocks(at);
    const w = this.world(blocks.map(({ middle }) => middle));
    if (this.unit === "px") return this.axes.map((axis, a) => this.#quantity(axis, w[a])).join(", ");
    const far = (a, first) => tenths(((first ? blocks[a].inWhole : this.whole[a].shape - 1 - blocks[a].inWhole) + 0.5) * this.whole[a].spacing);
    if (!this.volume) return `${far(1, true)} mm from the left edge, ${far(0, true)} mm from the top`;
    const signed = w.map((v, n) => tenths(this.coordinates === "DICOM" && n < 2 ? -v : v));
    const xyz = `coordinates x ${signed[0]}, y ${signed[1]}, z ${signed[2]} mm`;
    if (!this.sided) return `${xyz}, sides unknown`;
    const near = blocks.map(({ inWhole }, a) => {
      const first = 2 * inWhole + 1 <= this.whole[a].shape;
      return `${far(a, first)} mm from ${a ? "" : "the scan’s edge "}${this.ends[a][first ? 0 : 1]}`;
    });
    return `${near.join(", ")}; ${this.coordinates === "DICOM" ? "DICOM patient" : "RAS"} ${xyz}`;
  }

  // For each axis the voxels of the scan as stored that a sample stands for, their middle among the samples, and in the whole scan as drawn.
  #blocks(at) {
    const { order, flip, factors, shape, start } = this.scan;
    return order.map((axis, n) => {
      const begin = start ? start[axis] : 0;
      const first = begin + (flip[n] ? this.shape[n] - 1 - at[n] : at[n]) * factors[axis];
      const last = Math.min(first + factors[axis], shape[axis] - begin) - 1; // as much is cut off at both ends
      const share = (first + last - 2 * begin - factors[axis] + 1) / (2 * factors[axis]);
      const stored = (first + last) / 2;
      return {
        axis, first, last, middle: flip[n] ? this.shape[n] - 1 - share : share, inWhole: flip[n] ? shape[axis] - 1 - stored : stored,
      };
    });
  }

  #quantity(axis, at) {
    const value = axis.first + axis.step * at;
    return `${Number((axis.scale === "mel" ? 700 * (10 ** (value / 2595) - 1) : value).toPrecision(3))} ${axis.unit}`;
  }

  // The voxel of the scan as it is stored; a range where one sample stands for several.
  inScan(at) {
    const found = Array(this.rank);
    for (const { axis, first, last } of this.#blocks(at)) found[axis] = last > first ? `${first}–${last}` : `${first}`;
    return found.join(", ");
  }

  // ------------------------------------------------------------------ what is shown
  change(changes = {}) {
    const view = Object.assign(this.view, changes);
    view.at = view.at.map((p, a) => Math.max(0, Math.min(this.shape[a] - 1, Math.round(p))));
    view.zoom = Math.max(1, Math.min(16, view.zoom));
    if (changes.at || changes.zoom) this.#keepInSight();
    this.redraw();
  }

  move(axis, to) {
    const at = [...this.view.at];
    at[axis] = to;
    this.change({ at, hover: null });
  }

  // Zoom about a place: it stays where it is on the screen.
  zoomAt(times, at = this.view.at) {
    const zoom = Math.max(1, Math.min(16, this.view.zoom * times));
    const ratio = this.view.zoom / zoom;
    const middle = this.view.middle.map((m, a) => {
      const p = (at[a] + 0.5) / this.shape[a];
      return this.#inside(p + (m - p) * ratio, zoom);
    });
    Object.assign(this.view, { zoom, middle });
    this.redraw();
  }

  pan(axis, share) {
    this.view.middle[axis] = this.#inside(this.view.middle[axis] + share / this.view.zoom, this.view.zoom);
    this.redraw();
  }

  #inside(middle, zoom) {
    const half = 0.5 / zoom;
    return Math.max(half, Math.min(1 - half, middle));
  }

  #keepInSight() {
    const { zoom, at } = this.view;
    const half = 0.5 / zoom;
    this.view.middle = this.view.middle.map((m, a) => {
      const p = (at[a] + 0.5) / this.shape[a];
      return this.#inside(Math.abs(p - m) <= half ? m : p, zoom);
    });
  }

  toPeak(n) {
    this.change({ at: [...this.maps[n].peak], hover: null });
  }

  reset() {
    this.change({ ...this.defaults(), at: this.view.at, channel: 0, hover: null });
  }

  // ------------------------------------------------------------------ drawing
  listen(fn) {
    this.listeners.push(fn);
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.waiting = false;
    if (!this.panels.length) return; // nothing is opened yet
    const table = palette(this.colors, this.view);
    for (const panel of this.panels) panel.draw(table);
    for (const fn of this.listeners) fn(this.view);
  }
}

// Millimeters to a tenth, halves up, as _tenths of report/words.py writes them.
function tenths(value) {
  return (value + 1e-9).toFixed(1).replace("-0.0", "0.0").replace("-", "−");
}

// 1025 colors from full color against to full color for, zero clear; what is weaker than the threshold is clear too.
function palette(colors, { threshold, opacity }) {
  const { against, for: toward, strength, bend } = colors;
  const table = new Uint8ClampedArray(4 * 1025);
  for (let k = -512; k <= 512; k++) {
    const share = Math.abs(k) / 512;
    const [a, b] = k > 0 ? toward : against;
    const o = 4 * (k + 512);
    for (let c = 0; c < 3; c++) table[o + c] = a[c] + (b[c] - a[c]) * share;
    table[o + 3] = share > 0 && share >= threshold ? 255 * strength * share ** bend * opacity : 0;
  }
  return table;
}
