"use strict";
// Samples: deflated base64 (all low bytes before all high bytes, as report/pictures.py packs them) to a typed array.

async function unpack(text, bits) {
  const packed = atob(text);
  const raw = new Uint8Array(packed.length);
  for (let i = 0; i < raw.length; i++) raw[i] = packed.charCodeAt(i);
  const bytes = new Uint8Array(await inflated(raw));
  if (bits === 8) return bytes;
  const half = bytes.length / 2;
  const found = new Uint16Array(half);
  for (let i = 0; i < half; i++) found[i] = bytes[i] | (bytes[half + i] << 8);
  return found;
}

function inflated(raw) {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack the samples");
  return new Response(new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}
