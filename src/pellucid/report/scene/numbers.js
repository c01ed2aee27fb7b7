"use strict";
// Numbers as a person reads them: three digits, a true minus sign, powers of ten written out. The same rules as report/words.py.

function number(value, sign = false) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "not available";
  let text = Number(value.toPrecision(3)).toString();
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) {
    const [head, power] = value.toExponential(2).split("e");
    const raised = String(Number(power)).replace(/[-0-9]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
    text = `${Number(head)} × 10${raised}`;
  }
  return (sign && value > 0 ? "+" : "") + text.replace("-", "−");
}

function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return share > 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

// The largest round length (1, 2 or 5 times a power of ten) of at most a third of what is seen.
function roundLength(seen) {
  const power = 10 ** Math.floor(Math.log10(seen / 3));
  return [5, 2, 1].map((m) => m * power).find((m) => m <= seen / 3) || power;
}
