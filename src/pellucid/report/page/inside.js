"use strict";
// NiiVue travels deflated in reports of volumes and runs only when it is asked for; the policy of the page knows its hash.
async function opened(id) {
  const packed = atob(document.getElementById(id).textContent.trim());
  const text = new TextDecoder().decode(await inflated(Uint8Array.from(packed, (c) => c.charCodeAt(0))));
  const script = document.createElement("script");
  script.textContent = text;
  document.head.append(script);
}

function inside(scene, board) {
  const button = byId("in-3d");
  if (!button || !Solid.works()) {
    if (byId("no-3d") && button) byId("no-3d").hidden = false;
    return;
  }
  button.hidden = false;
  let solid = null;
  const shown = () => (board.maps.length ? board.maps[0] : null);
  button.addEventListener("click", async () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(open));
    byId("solid").hidden = !open;
    if (!open) return;
    byId("solid-state").textContent = "Loading the whole volume …";
    try {
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      if (!solid) {
        if (!window.niivue) await opened("packed-niivue");
        solid = new Solid(scene, byId("solid-canvas"), window.niivue);
      }
      await solid.show(shown());
      byId("solid-state").textContent = "";
      byId("solid").dataset.ready = "yes";
    } catch (error) {
      byId("solid-state").textContent = `The 3D view does not work here (${error.message}). The three planes above show the same.`;
    }
  });
  scene.listen(() => {
    if (solid && !byId("solid").hidden && solid.nv && shown() !== solid.map && shown() !== null) solid.show(shown());
  });
}
