"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("samples").textContent);
  const stage = byId("stage");
  const rank = data.shape.length;
  const strides = data.shape.map((_, a) => data.shape.slice(a + 1).reduce((p, n) => p * n, 1));
  const volume = rank === 3;
  const state = {
    at: [...data.maps[0].peak], show: 0, plane: 0, channel: 0, hover: null,
    opacity: 1, threshold: 0, overlay: true, smooth: true, cross: true, tint: false,
    windows: data.channels.map((c) => [...c.window]),
  };
  const arrays = { channels: [], maps: [] };
  let panels = [];

  // ------------------------------------------------------------------ samples
  async function unpack(text, bits) {
    const packed = atob(text);
    const raw = new Uint8Array(packed.length);
    for (let i = 0; i < raw.length; i++) raw[i] = packed.charCodeAt(i);
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    if (bits === 8) return bytes;
    const half = bytes.length / 2;
    const out = new Uint16Array(half);
    for (let i = 0; i < half; i++) out[i] = bytes[i] | (bytes[half + i] << 8);
    return out;
  }

  async function load(kind, n) {
    const one = data[kind][n];
    if (!arrays[kind][n]) {
      arrays[kind][n] = await unpack(one.data, one.bits);
      one.data = null;
    }
  }

  function relevance(n, i) {
    const m = data.maps[n];
    const levels = m.bits === 8 ? 127 : 32767;
    const share = (arrays.maps[n][i] - levels) / levels;
    return m.bits === 8 ? Math.sign(share) * share * share * m.most : share * m.most;
  }

  const gray = (c, i) => data.channels[c].low + data.channels[c].step * arrays.channels[c][i];
  const offset = (at) => at.reduce((sum, p, a) => sum + p * strides[a], 0);

  // ------------------------------------------------------------------ numbers as words
  function number(v, sign) {
    if (v === 0) return "0";
    let text = Number(v.toPrecision(3)).toString();
    const size = Math.abs(v);
    if (size < 1e-4 || size >= 1e6) {
      const [head, power] = v.toExponential(2).split("e");
      const raised = String(Number(power)).replace(/[-0-9]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
      text = `${Number(head)} × 10${raised}`;
    }
    return (sign && v > 0 ? "+" : "") + text.replace("-", "−");
  }

  function world(at) {
    const full = [...at, ...Array(3 - rank).fill(0)];
    return data.affine.slice(0, 3).map((r) => r[0] * full[0] + r[1] * full[1] + r[2] * full[2] + r[3]);
  }

  function quantity(axis, at) {
    const value = axis.first + axis.step * at;
    return `${Number((axis.scale === "mel" ? 700 * (10 ** (value / 2595) - 1) : value).toPrecision(3))} ${axis.unit}`;
  }

  function place(at) {
    const w = world(at);
    if (data.unit === "px") return data.axes.map((axis, a) => quantity(axis, w[a])).join(", ");
    if (!data.sided) return `${w.slice(0, rank).map((v) => v.toFixed(1).replace("-", "−")).join(", ")} mm`;
    return `${["LR", "PA", "IS"].map((pair, a) => `${pair[w[a] >= 0 ? 1 : 0]} ${Math.abs(w[a]).toFixed(1)}`).join("  ")} mm`;
  }

  function inScan(at) {
    const found = Array(rank);
    data.scan.order.forEach((axis, n) => {
      const step = data.scan.factors[axis];
      const k = data.scan.flip[n] ? data.shape[n] - 1 - at[n] : at[n];
      const first = k * step;
      const last = Math.min(first + step, data.scan.shape[axis]) - 1;
      found[axis] = last > first ? `${first}–${last}` : `${first}`;
    });
    return found.join(", ");
  }

  // ------------------------------------------------------------------ drawing
  function palette() {
    const { against, for: toward, strength, bend } = data.colors;
    const table = new Uint8ClampedArray(4 * 1025);
    for (let k = -512; k <= 512; k++) {
      const share = Math.abs(k) / 512;
      const [a, b] = k > 0 ? toward : against;
      const o = 4 * (k + 512);
      for (let c = 0; c < 3; c++) table[o + c] = a[c] + (b[c] - a[c]) * share;
      table[o + 3] = share > 0 && share >= state.threshold ? 255 * strength * share ** bend * state.opacity : 0;
    }
    return table;
  }

  function eachSample(plane, draw) {
    const wide = data.shape[plane.x];
    const tall = data.shape[plane.y];
    const start = plane.through === null ? 0 : state.at[plane.through] * strides[plane.through];
    for (let row = 0; row < tall; row++) {
      const y = plane.flipY ? tall - 1 - row : row;
      const line = start + y * strides[plane.y];
      for (let x = 0; x < wide; x++) draw(4 * (row * wide + x), line + x * strides[plane.x]);
    }
  }

  function paintScan(panel, colored, under) {
    const out = panel.scanPixels.data;
    const dim = under ? data.colors.dim : 1; // so that color stands out from white tissue
    if (data.color) {
      const [r, g, b] = arrays.channels;
      eachSample(panel.plane, (o, i) => {
        const luminance = 0.2126 * r[i] + 0.7152 * g[i] + 0.0722 * b[i];
        out[o] = dim * (colored ? r[i] : luminance);
        out[o + 1] = dim * (colored ? g[i] : luminance);
        out[o + 2] = dim * (colored ? b[i] : luminance);
        out[o + 3] = 255;
      });
    } else {
      const { low, step } = data.channels[state.channel];
      const samples = arrays.channels[state.channel];
      const [black, white] = state.windows[state.channel];
      const scale = (255 * step) / (white - black || 1);
      const shift = (255 * (low - black)) / (white - black || 1);
      eachSample(panel.plane, (o, i) => {
        const shade = Math.max(0, Math.min(255, shift + scale * samples[i]));
        out[o] = out[o + 1] = out[o + 2] = dim * (data.inverted ? 255 - shade : shade);
        out[o + 3] = 255;
      });
    }
    panel.scan.getContext("2d").putImageData(panel.scanPixels, 0, 0);
  }

  function paintMap(panel, table) {
    const out = panel.mapPixels.data;
    const full = data.maps[panel.map].full;
    eachSample(panel.plane, (o, i) => {
      const share = Math.max(-1, Math.min(1, relevance(panel.map, i) / full));
      const t = 4 * (Math.round(share * 512) + 512);
      out[o] = table[t];
      out[o + 1] = table[t + 1];
      out[o + 2] = table[t + 2];
      out[o + 3] = table[t + 3];
    });
    panel.over.getContext("2d").putImageData(panel.mapPixels, 0, 0);
  }

  function drawPanel(panel, table) {
    const { canvas, plane } = panel;
    const ratio = window.devicePixelRatio || 1;
    const wide = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const tall = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== wide) canvas.width = wide;
    if (canvas.height !== tall) canvas.height = tall;
    const mapped = panel.map !== null && state.overlay;
    paintScan(panel, !mapped || state.tint, mapped);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = state.smooth;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(panel.scan, 0, 0, wide, tall);
    if (mapped) {
      paintMap(panel, table);
      pen.drawImage(panel.over, 0, 0, wide, tall);
    }
    const x = (state.at[plane.x] + 0.5) / data.shape[plane.x];
    const y = (state.at[plane.y] + 0.5) / data.shape[plane.y];
    panel.down.style.left = `calc(${100 * x}% - 0.5px)`;
    panel.across.style.top = `calc(${100 * (plane.flipY ? 1 - y : y)}% - 0.5px)`;
    panel.down.hidden = panel.across.hidden = !state.cross;
    tell(panel);
  }

  function tell(panel) {
    const { plane } = panel;
    const slice = plane.through === null ? "" : `slice ${state.at[plane.through] + 1} of ${data.shape[plane.through]}`;
    const here = panel.map === null ? "" : number(relevance(panel.map, offset(state.at)), true);
    panel.where.textContent = state.show !== "all" ? slice : here && `full ± ${number(data.maps[panel.map].full)}`;
    if (panel.slider) panel.slider.value = state.at[plane.through];
    const map = panel.map === null ? "" : `, ${data.labels[panel.map].name} for ${data.labels[panel.map].target}: ${here} at the crosshair`;
    panel.canvas.setAttribute("aria-label", `${panel.name}${slice && ", " + slice}${map}`);
  }

  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const table = palette();
      for (const p of panels) drawPanel(p, table);
      readout();
      outputs();
    });
  }

  function readout() {
    const at = state.hover || state.at;
    const i = offset(at);
    const shown = state.show === "all" ? data.maps.map((_, n) => n) : [state.show];
    const many = data.channels.length > 1 && !data.color;
    const name = many ? `image, ${data.channels[state.channel].name}` : "image";
    const unit = ["intensity", ""].includes(data.quantity) ? "" : ` ${data.quantity}`;
    const values = data.color ? data.channels.map((c, k) => number(gray(k, i))).join(", ") : `${number(gray(state.channel, i))}${unit}`;
    const what = data.color ? "red, green, blue" : name;
    const items = [["voxel", inScan(at)], ["position", place(at)], [what, values]];
    if (!volume) items[0][0] = "row, column";
    for (const n of shown) {
      const label = data.labels[n];
      items.push([shown.length > 1 ? `${label.name}, ${label.target}` : "relevance", number(relevance(n, i), true)]);
    }
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

  function outputs() {
    const one = state.show === "all" ? null : data.maps[state.show];
    byId("o-opacity").textContent = `${Math.round(100 * state.opacity)} %`;
    const cut = one && state.threshold ? ` (${number(state.threshold * one.full)})` : "";
    byId("o-threshold").textContent = `${Math.round(100 * state.threshold)} %${cut}`;
    document.querySelector(".cut").style.width = `${100 * state.threshold}%`;
    const low = one && lowest(state.show) < -one.full * 1.001 ? "≤ " : "";
    const high = one && highest(state.show) > one.full * 1.001 ? "≥ " : "";
    byId("tick-low").textContent = one ? `${low}−${number(one.full)}` : "−full";
    byId("tick-high").textContent = one ? `${high}+${number(one.full)}` : "+full";
    byId("tick-unit").textContent = one ? `relevance (${data.labels[state.show].unit})` : "each map on its own scale";
    if (!data.color) {
      const [black, white] = state.windows[state.channel];
      byId("o-center").textContent = number((black + white) / 2);
      byId("o-width").textContent = number(white - black);
    }
  }

  const lowest = (n) => data.maps[n].negative;
  const highest = (n) => data.maps[n].positive;

  // ------------------------------------------------------------------ panels
  const stills = [...stage.querySelectorAll(".panel")].map((f) => f.cloneNode(true));

  function makePanel(still, map, name) {
    const figure = still.cloneNode(true);
    const plane = data.planes[Number(figure.dataset.plane)];
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    figure.querySelector("img").replaceWith(canvas);
    figure.querySelector(".what").textContent = name;
    const panel = { figure, plane, canvas, map, name, where: figure.querySelector(".where") };
    const wide = data.shape[plane.x];
    const tall = data.shape[plane.y];
    for (const part of ["scan", "over"]) {
      panel[part] = document.createElement("canvas");
      panel[part].width = wide;
      panel[part].height = tall;
    }
    panel.scanPixels = new ImageData(wide, tall);
    panel.mapPixels = new ImageData(wide, tall);
    for (const hair of ["down", "across"]) {
      panel[hair] = document.createElement("div");
      panel[hair].className = `hair ${hair}`;
      canvas.after(panel[hair]);
    }
    if (plane.through !== null) {
      panel.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: data.shape[plane.through] - 1 });
      panel.slider.setAttribute("aria-label", `${name}: slice`);
      panel.slider.addEventListener("input", () => move(plane.through, Number(panel.slider.value)));
      figure.append(panel.slider);
    }
    listen(panel);
    return panel;
  }

  function sampleUnder(panel, event) {
    const box = panel.canvas.getBoundingClientRect();
    const { plane } = panel;
    const at = [...state.at];
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v * n)));
    at[plane.x] = clamp((event.clientX - box.left) / box.width, data.shape[plane.x]);
    const row = clamp((event.clientY - box.top) / box.height, data.shape[plane.y]);
    at[plane.y] = plane.flipY ? data.shape[plane.y] - 1 - row : row;
    return at;
  }

  function move(axis, to) {
    state.at[axis] = Math.max(0, Math.min(data.shape[axis] - 1, to));
    state.hover = null;
    draw();
  }

  function listen(panel) {
    const { canvas, plane } = panel;
    canvas.addEventListener("pointerdown", (e) => {
      if (e.button) return;
      if (e.pointerType !== "touch") canvas.setPointerCapture(e.pointerId);
      state.at = sampleUnder(panel, e);
      draw();
    });
    canvas.addEventListener("pointermove", (e) => {
      const at = sampleUnder(panel, e);
      if (e.buttons & 1 && e.pointerType !== "touch") {
        state.at = at;
        state.hover = null;
        draw();
      } else {
        state.hover = at;
        readout();
      }
    });
    canvas.addEventListener("pointerleave", () => {
      state.hover = null;
      readout();
    });
    let turned = 0;
    if (plane.through !== null) {
      canvas.addEventListener("wheel", (e) => {
        if (e.ctrlKey) return;
        e.preventDefault();
        turned += e.deltaMode ? 40 * e.deltaY : e.deltaY;
        const steps = Math.trunc(turned / 40);
        turned -= 40 * steps;
        if (steps) move(plane.through, state.at[plane.through] + Math.max(-3, Math.min(3, steps)));
      }, { passive: false });
    }
    canvas.addEventListener("keydown", (e) => {
      const up = plane.flipY ? 1 : -1;
      const keys = {
        ArrowLeft: [plane.x, -1], ArrowRight: [plane.x, 1], ArrowUp: [plane.y, up], ArrowDown: [plane.y, -up],
        PageUp: [plane.through, 1], PageDown: [plane.through, -1],
      };
      if (e.key === "Home") toPeak();
      else if (keys[e.key] && keys[e.key][0] !== null) move(keys[e.key][0], state.at[keys[e.key][0]] + keys[e.key][1] * (e.shiftKey ? 5 : 1));
      else return;
      e.preventDefault();
    });
  }

  function toPeak() {
    state.at = [...data.maps[state.show === "all" ? 0 : state.show].peak];
    state.hover = null;
    draw();
  }

  async function show(which) {
    const wanted = which === "all" ? data.maps.map((_, n) => n) : [which];
    await Promise.all(wanted.map((n) => load("maps", n)));
    state.show = which;
    const mapped = stills.filter((f) => f.dataset.overlay === "1");
    if (which === "all") {
      const still = mapped[volume ? state.plane : 0];
      panels = wanted.map((n) => makePanel(still, n, `${data.labels[n].name} · ${data.labels[n].target}`));
      if (!volume) panels.unshift(makePanel(still, null, "Image"));
    } else {
      panels = stills.map((f) => {
        const over = f.dataset.overlay === "1";
        return makePanel(f, over ? which : null, volume ? data.planes[Number(f.dataset.plane)].name : over ? data.labels[which].name : "Image");
      });
    }
    stage.classList.toggle("all", which === "all");
    stage.replaceChildren(...panels.map((p) => p.figure));
    byId("plane-label").hidden = !(volume && which === "all");
    for (const b of document.querySelectorAll("[data-show]")) b.setAttribute("aria-pressed", String(b.dataset.show === String(which)));
    for (const a of document.querySelectorAll("[data-map]")) a.hidden = which !== "all" && a.dataset.map !== String(which);
    draw();
  }

  // ------------------------------------------------------------------ controls
  const PRESETS = { Brain: [40, 80], "Soft tissue": [40, 400], Lung: [-600, 1500], Bone: [400, 1800] };

  function windowSliders() {
    if (data.color) return;
    const c = data.channels[state.channel];
    const levels = c.bits === 8 ? 255 : 65535;
    const [black, white] = state.windows[state.channel];
    const low = Math.min(c.low, c.window[0], black);
    const high = Math.max(c.low + c.step * levels, c.window[1], white);
    Object.assign(byId("center"), { min: low, max: high, value: (black + white) / 2 });
    Object.assign(byId("width"), { min: (high - low) / 500, max: high - low, value: white - black });
    byId("center").value = (black + white) / 2;
    byId("width").value = white - black;
  }

  function fromSliders() {
    const center = Number(byId("center").value);
    const width = Number(byId("width").value);
    state.windows[state.channel] = [center - width / 2, center + width / 2];
    draw();
  }

  function fill(select, names) {
    select.replaceChildren(...names.map((name, n) => Object.assign(document.createElement("option"), { value: n, textContent: name })));
  }

  function wire() {
    byId("opacity").addEventListener("input", (e) => { state.opacity = e.target.value / 100; draw(); });
    byId("threshold").addEventListener("input", (e) => { state.threshold = e.target.value / 100; draw(); });
    for (const name of ["overlay", "smooth", "cross", "tint"]) {
      if (byId(name)) byId(name).addEventListener("change", (e) => { state[name] = e.target.checked; draw(); });
    }
    if (!data.color) for (const name of ["center", "width"]) byId(name).addEventListener("input", fromSliders);
    if (byId("channel")) {
      fill(byId("channel"), data.channels.map((c) => c.name));
      byId("channel").addEventListener("change", async (e) => {
        await load("channels", Number(e.target.value));
        state.channel = Number(e.target.value);
        windowSliders();
        draw();
      });
    }
    if (data.quantity === "HU" && !data.color) {
      byId("preset-label").hidden = false;
      fill(byId("preset"), ["as given", ...Object.keys(PRESETS)]);
      byId("preset").addEventListener("change", (e) => {
        const chosen = Object.values(PRESETS)[Number(e.target.value) - 1];
        state.windows[state.channel] = chosen ? [chosen[0] - chosen[1] / 2, chosen[0] + chosen[1] / 2] : [...data.channels[state.channel].window];
        windowSliders();
        draw();
      });
    }
    fill(byId("plane"), data.planes.map((p) => p.name));
    byId("plane").addEventListener("change", (e) => { state.plane = Number(e.target.value); show("all"); });
    byId("to-peak").addEventListener("click", toPeak);
    byId("defaults").addEventListener("click", reset);
    for (const b of document.querySelectorAll("[data-show]")) {
      b.addEventListener("click", () => show(b.dataset.show === "all" ? "all" : Number(b.dataset.show)));
    }
    byId("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
    });
  }

  function reset() {
    byId("controls").reset();
    Object.assign(state, { opacity: 1, threshold: 0, overlay: true, smooth: true, cross: true, tint: false });
    state.windows = data.channels.map((c) => [...c.window]);
    state.channel = 0;
    windowSliders();
    toPeak();
  }

  try {
    if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old to unpack the samples; a still picture is shown.");
    await Promise.all(data.color ? data.channels.map((_, n) => load("channels", n)) : [load("channels", 0)]);
    wire();
    windowSliders();
    await show(0);
    document.documentElement.classList.remove("still");
    new ResizeObserver(draw).observe(stage); // and draws once now
    window.addEventListener("beforeprint", draw);
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    byId("trouble").hidden = false;
    byId("trouble").textContent = `Only the still picture can be shown: ${error.message}`;
    throw error;
  }
})();
