// Events are plain objects. A bigint is a number, for integers beyond 2^53.

// The value at a path, undefined if there is none.
export function at(event, path) {
  if (path === "$") return event;
  let value = event;
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    if (value === null || typeof value !== "object") return undefined;
    if (index !== undefined) value = Array.isArray(value) ? value[Number(index)] : undefined;
    else value = !Array.isArray(value) && Object.hasOwn(value, name) ? value[name] : undefined;
  }
  return value;
}

// JSON without white space.
export function stringify(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map((v) => stringify(v ?? null)).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).filter(([, v]) => v !== undefined);
  return `{${members.map(([k, v]) => `${JSON.stringify(k)}:${stringify(v)}`).join(",")}}`;
}
