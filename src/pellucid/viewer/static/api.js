// What the server is asked. Every error is a Problem: what was asked, what was got, and the way out.
export class Problem extends Error {
  constructor(facts, status) {
    super(`${facts.asked}; got ${facts.got}. ${facts.fix}`);
    Object.assign(this, facts, { status });
  }
}

async function asked(path, given) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...given });
  } catch {
    throw new Problem({ kind: "Gone", asked: "an answer of the viewer", got: "none", fix: "Is `pellucid serve` still running?" }, 0);
  }
  if (answer.ok) return answer;
  const facts = await answer.json().catch(() => ({ kind: "Unreadable", asked: path, got: `status ${answer.status}`, fix: "Reload the page." }));
  throw new Problem(facts, answer.status);
}

const query = (given) => {
  const pairs = Object.entries(given || {}).filter(([, v]) => v !== undefined && v !== null);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
};

export const get = async (path, given) => (await asked(`api/${path}${query(given)}`)).json();

export const post = async (path, body = null, given = {}) => {
  const sent = body === null ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return (await asked(`api/${path}${query(given)}`, { method: "POST", ...sent })).json();
};

export const sendBytes = async (path, bytes, given) => {
  const headers = { "content-type": "application/octet-stream" };
  return (await asked(`api/${path}${query(given)}`, { method: "POST", headers, body: bytes })).json();
};

export const drop = (path) => asked(`api/${path}`, { method: "DELETE" });

export const bytes = async (path) => new Uint8Array(await (await asked(`api/${path}`)).arrayBuffer());

// Samples as the report packs them (all low bytes before all high bytes); the browser has inflated them.
export async function samples(path, bits) {
  const raw = await bytes(path);
  if (bits === 8) return raw;
  const half = raw.length / 2;
  const found = new Uint16Array(half);
  for (let i = 0; i < half; i++) found[i] = raw[i] | (raw[half + i] << 8);
  return found;
}

// Fetched first, so that an error is told on the page and not saved as a file.
export async function save(href) {
  const answer = await asked(href);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") || "");
  const address = URL.createObjectURL(await answer.blob());
  const link = Object.assign(document.createElement("a"), { href: address, download: name ? name[1] : "pellucid" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export const fileOf = (path, given) => `api/${path}${query(given)}`;
