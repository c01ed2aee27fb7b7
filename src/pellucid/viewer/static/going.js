// A question that waits in the queue like a run: how far it is, Cancel, and its answer. The same element throughout: who stands on Cancel stays there.
import { get, post } from "./api.js";
import { ACTIVE } from "./desk.js";
import { fill, h } from "./dom.js";

export const problem = (e) => h("p", { class: "warning", role: "alert" }, `${e.asked}; got ${e.got}. ${e.fix}`);

const far = (j) => (j.total ? `${j.done} of ${j.total}` : j.done ? `${j.done}` : "");
const words = (j) => (j.state === "waiting" ? (j.ahead ? `waiting, ${j.ahead} before it` : "waiting") : j.stopping ? `stopping: ${j.phase}` : `${j.phase} ${far(j)}`);

// The job once it is over; null where nobody waits for it any more: it is cancelled, unless the page went to another mode.
export async function follow(desk, place, path, wanted) {
  const { app } = desk;
  const [phase, bar] = [h("span", { class: "phase", role: "status" }), h("progress", { "aria-label": "progress" })];
  const cancel = h("button", { type: "button", class: "quiet", onclick: () => app.attempt(async () => {
    cancel.disabled = true;
    await post(`${path}/cancel`);
  }) }, "Cancel");
  fill(place, h("div", { class: "going" }, phase, bar, cancel));
  for (;;) {
    const job = await get(path);
    if (!desk.open) return null;
    if (!wanted()) {
      if (ACTIVE.has(job.state)) await post(`${path}/cancel`);
      return null;
    }
    if (!ACTIVE.has(job.state)) {
      fill(place, job.error ? problem(job.error) : job.state === "cancelled" ? h("p", { class: "hint" }, "Cancelled; the network is as it was.") : null);
      return job;
    }
    if (phase.textContent !== words(job)) phase.textContent = words(job);
    if (job.total) Object.assign(bar, { max: job.total, value: Math.min(job.done, job.total) });
    else bar.removeAttribute("value");
    await new Promise((done) => setTimeout(done, 300));
  }
}
