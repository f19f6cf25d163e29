// Lays events out in columns, as ABI.md says.
import { at, stringify } from "./event.js";

const kinds = { f64: 1, i64: 2, bool: 3, utf8: 4, json: 5 };
const mostI64 = 2n ** 63n;

// Grows as buffers are placed in it, each at a multiple of 8.
class Bytes {
  data = new Uint8Array(4096);
  size = 0;

  place(size) {
    const from = this.size;
    this.size += (size + 7) & ~7;
    if (this.size > this.data.length) {
      const larger = new Uint8Array(this.size * 2);
      larger.set(this.data);
      this.data = larger;
    }
    return from;
  }

  get view() {
    return new DataView(this.data.buffer);
  }

  u32(offset, value) {
    this.view.setUint32(offset, value, true);
  }

  i64(offset, value) {
    this.view.setBigInt64(offset, value, true);
  }
}

// Gives the batch, and where the verdicts stand in it.
export function layOut(fields, rows) {
  const out = new Bytes();
  out.place(40 + 32 * fields.length);
  const verdicts = out.place(4 * rows.length);
  const times = out.place(8 * rows.length);
  rows.forEach((row, i) => out.i64(times + 8 * i, row.arrival));
  [1, rows.length, fields.length, verdicts].forEach((v, i) => out.u32(4 * i, v));
  out.i64(16, rows[0].arrival);
  out.u32(24, times);
  fields.forEach((field, i) => column(out, 40 + 32 * i, field, rows));
  out.u32(28, out.size);
  return { bytes: out.data.subarray(0, out.size), verdicts };
}

function column(out, descriptor, { path, type }, rows) {
  const cells = rows.map((row) => cell(row, path, type));
  const bitmap = (set) => {
    const from = out.place((rows.length + 7) >> 3);
    cells.forEach((v, i) => {
      if (set(v)) out.data[from + (i >> 3)] |= 1 << (i & 7);
    });
    return from;
  };
  out.u32(descriptor, kinds[type]);
  out.u32(descriptor + 4, cells.filter((v) => v === undefined).length);
  out.u32(descriptor + 8, bitmap((v) => v !== undefined));
  if (type === "bool") {
    out.u32(descriptor + 12, bitmap((v) => v === true));
  } else if (type === "f64" || type === "i64") {
    const values = out.place(8 * rows.length);
    out.u32(descriptor + 12, values);
    cells.forEach((v, i) => {
      if (type === "i64") out.i64(values + 8 * i, v ?? 0n);
      else out.view.setFloat64(values + 8 * i, v ?? 0, true);
    });
  } else {
    texts(out, descriptor, cells);
  }
}

function texts(out, descriptor, cells) {
  const parts = cells.map((v) => new TextEncoder().encode(v ?? ""));
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const ends = out.place(4 * (parts.length + 1));
  const data = out.place(size);
  let end = 0;
  parts.forEach((part, i) => {
    out.data.set(part, data + end);
    end += part.length;
    out.u32(ends + 4 * (i + 1), end);
  });
  [ends, data, size].forEach((v, i) => out.u32(descriptor + 12 + 4 * i, v));
}

// The value of a field of the declared type, or undefined.
function cell(row, path, type) {
  const value = path === "@time" && type === "i64" ? row.time : valueAt(row, path);
  if (value === undefined || value === null) return undefined;
  const number = typeof value === "bigint" || Number.isFinite(value);
  switch (type) {
    case "f64":
      return number ? Number(value) : undefined;
    case "i64":
      return number ? integer(value) : undefined;
    case "bool":
      return typeof value === "boolean" ? value : undefined;
    case "utf8":
      return typeof value === "string" ? value : undefined;
    case "json":
      return stringify(value);
    default:
      throw new Error(`field "${path}" has the type "${type}", which there is not`);
  }
}

function valueAt(row, path) {
  if (!path.startsWith("@")) return at(row.event, path);
  return path === "@time" ? row.timeText : row[path.slice(1)];
}

function integer(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return undefined;
  const n = BigInt(value);
  return n >= -mostI64 && n < mostI64 ? n : undefined;
}
