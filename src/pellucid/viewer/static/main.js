// The frame of the page: modes, the address, trouble. What the page shows is in the address, so that a refresh loses nothing.
import { get } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { MODES } from "./modes.js";

export const app = {
  about: null,
  mode: null,

  // What the address says after #: { mode, scan, show, ... }.
  get place() {
    return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  },

  go(changes) {
    const next = { ...this.place, ...changes };
    for (const key of Object.keys(next)) if (next[key] === null || next[key] === "") delete next[key];
    history.replaceState(null, "", `#${new URLSearchParams(next)}`);
  },

  trouble(error) {
    const close = h("button", { type: "button", class: "quiet", onclick: () => (byId("trouble").hidden = true) }, "Close");
    const text = error.asked
      ? [h("p", {}, h("strong", {}, `${error.asked}; got ${error.got}.`)), h("p", {}, error.fix)]
      : [h("p", {}, h("strong", {}, error.message || String(error)))];
    fill(byId("trouble"), h("div", {}, text), close);
    byId("trouble").hidden = false;
    if (!error.asked) console.error(error);
  },

  calm() {
    byId("trouble").hidden = true;
  },

  // Run something that may fail; what goes wrong is told on the page.
  async attempt(work) {
    try {
      return await work();
    } catch (error) {
      this.trouble(error);
      return undefined;
    }
  },
};

async function enter(id) {
  const mode = MODES.find((m) => m.id === id) || MODES[0];
  if (app.mode && app.mode.unmount) app.mode.unmount();
  app.go({ mode: mode.id === MODES[0].id ? null : mode.id });
  for (const b of byId("modes").children) b.setAttribute("aria-current", b.dataset.mode === mode.id ? "page" : "false");
  byId("mode").replaceChildren();
  app.mode = await mode.load();
  await app.mode.mount(byId("mode"), app);
}

function begin() {
  theme(byId("theme")); // of the report
  const tabs = MODES.map((m) => h("button", { type: "button", "data-mode": m.id, onclick: () => app.attempt(() => enter(m.id)) }, m.title));
  fill(byId("modes"), tabs);
  byId("modes").hidden = MODES.length < 2;
  return app.attempt(async () => {
    app.about = await get("about");
    byId("version").textContent = app.about.version;
    document.title = `${app.about.folder} · Pellucid viewer`;
    await enter(app.place.mode);
    document.documentElement.dataset.ready = "yes";
  });
}

begin();
