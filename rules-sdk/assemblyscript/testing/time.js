// Times are BigInt, nanoseconds since 1970-01-01 UTC, which a number cannot hold.
const rfc3339 = /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)$/;

export function parseTime(text) {
  const [, seconds, fraction = "", zone] = rfc3339.exec(text) ?? [];
  const ms = seconds ? Date.parse(seconds.toUpperCase() + zone.toUpperCase()) : NaN;
  if (Number.isNaN(ms)) throw new Error(`cannot read the time "${text}": expected RFC 3339`);
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}

export function formatTime(ns) {
  const second = 1_000_000_000n;
  const fraction = ((ns % second) + second) % second;
  const whole = new Date(Number((ns - fraction) / 1_000_000n)).toISOString().slice(0, 19);
  const digits = fraction === 0n ? "" : "." + String(fraction).padStart(9, "0").replace(/0+$/, "");
  return `${whole}${digits}Z`;
}
