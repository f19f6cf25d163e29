// The writer of JSON: one buffer, which grows and stays.
import { dtoa_buffered } from "util/number";
import { codePoint, putCodePoint, sizeOf } from "./text";

const DEEPEST = 63; // open arrays and objects within the outermost object
const digits = memory.data(64); // of dtoa_buffered, UTF-16

let buffer: usize = heap.alloc(1024);
let capacity: usize = 1024;
let used: usize = 0;
let comma = false;
let arrays: u64 = 0; // bit 0 is the innermost open array (1) or object (0)
let depth = 0;

/** Makes room for `size` bytes more and gives their address. */
function place(size: usize): usize {
  if (used + size > capacity) {
    capacity = max(capacity * 2, used + size);
    buffer = heap.realloc(buffer, capacity);
  }
  return buffer + used;
}

function putByte(c: u8): void {
  store<u8>(place(1), c);
  used++;
}

function putBytes(at: usize, size: usize): void {
  memory.copy(place(size), at, size);
  used += size;
}

function putEscaped(c: u32, at: usize): usize {
  if (c >= 0x20) {
    store<u8>(at, 0x5c); // a backslash
    store<u8>(at, c, 1);
    return at + 2;
  }
  store<u32>(at, 0x3030755c); // \u00
  store<u8>(at, 0x30 + (c >> 4), 4);
  store<u8>(at, (c & 15) + ((c & 15) < 10 ? 0x30 : 0x57), 5);
  return at + 6;
}

// @ts-ignore: decorator
@inline
function plain(c: u32): bool {
  return c >= 0x20 && c != 0x22 && c != 0x5c;
}

/** Begins an object; what was written before is gone. */
export function begin(): void {
  used = 0;
  comma = false;
  arrays = 0;
  depth = 0;
  putByte(0x7b);
}

/** Writes the comma before an element, where one is due. */
export function element(): void {
  if (comma) putByte(0x2c);
  comma = true;
}

/** Writes a member, for the manifest. */
// @ts-ignore: decorator
@inline
export function set<T>(key: string, value: T): void {
  member(changetype<usize>(key));
  put<T>(value);
}

/** Writes what stands before a member's value: in an array, no key. */
export function member(key: usize): void {
  element();
  if (arrays & 1) return;
  putString(key);
  putByte(0x3a);
}

/** Writes the string at an address as a JSON string, or null if there is none. */
export function putString(text: usize): void {
  if (!text) return putNull();
  const from = place(sizeOf(text) * 3 + 2); // six bytes at most for the two of a character
  used += putQuoted(text, from) - from;
}

/** Writes the string at `text` as a JSON string, and gives the address behind it. */
function putQuoted(text: usize, at: usize): usize {
  const stop = text + sizeOf(text);
  store<u8>(at++, 0x22);
  while (text < stop) {
    const unit = load<u16>(text);
    if (unit < 0x80 && plain(unit)) {
      store<u8>(at++, unit);
      text += 2;
      continue;
    }
    const c = codePoint(text, stop);
    text += c < 0x10000 ? 2 : 4;
    at = plain(c) ? putCodePoint(c, at) : putEscaped(c, at);
  }
  store<u8>(at, 0x22);
  return at + 1;
}

/** The text as a JSON string, with its quotes and escapes. */
export function quote(text: string): string {
  const from = heap.alloc(sizeOf(changetype<usize>(text)) * 3 + 2);
  const json = String.UTF8.decodeUnsafe(from, putQuoted(changetype<usize>(text), from) - from);
  heap.free(from);
  return json;
}

/** Writes UTF-8 as a JSON string. */
export function putText(text: usize, size: usize): void {
  const stop = text + size;
  const from = place(size * 6 + 2);
  let at = from;
  store<u8>(at++, 0x22);
  while (text < stop) {
    const c = <u32>load<u8>(text++);
    if (plain(c)) store<u8>(at++, c);
    else at = putEscaped(c, at);
  }
  store<u8>(at, 0x22);
  used += at + 1 - from;
}

/** Writes JSON as it stands; nothing is null. */
export function putRaw(at: usize, size: usize): void {
  if (size) putBytes(at, size);
  else putNull();
}

export function putNull(): void {
  store<u32>(place(4), 0x6c6c756e);
  used += 4;
}

export function putBool(v: bool): void {
  if (v) {
    store<u32>(place(4), 0x65757274);
    used += 4;
    return;
  }
  store<u32>(place(5), 0x736c6166);
  store<u8>(buffer + used, 0x65, 4);
  used += 5;
}

export function putU64(v: u64): void {
  const end = place(20) + 20;
  let at = end;
  do {
    store<u8>(--at, 0x30 + <u8>(v % 10));
    v /= 10;
  } while (v);
  memory.copy(buffer + used, at, end - at);
  used += end - at;
}

export function putI64(v: i64): void {
  if (v < 0) {
    putByte(0x2d);
    v = -v; // the least one is its own negative, and right as u64
  }
  putU64(v);
}

/** Writes a number that is read as v again, or null if v is not finite. */
export function putF64(v: f64): void {
  if (!isFinite(v)) return putNull();
  if (Math.abs(v) < 9007199254740992 && Math.trunc(v) == v) return putI64(<i64>v);
  if (putDecimals(v)) return;
  const size = dtoa_buffered(digits, v);
  const to = place(size);
  for (let i: usize = 0; i < size; i++) store<u8>(to + i, load<u8>(digits + (i << 1)));
  used += size;
}

/** Writes a number that has at most six decimals, as most do. n and p are exact, so n / p is what n
 * and a point at that place are read as. dtoa takes longer, and not always the nearest digits. */
function putDecimals(v: f64): bool {
  let p: f64 = 1;
  for (let places = 1; places <= 6; places++) {
    p *= 10;
    const n = Math.floor(Math.abs(v) * p + 0.5);
    if (n >= 1e15) return false;
    if (n / p != Math.abs(v)) continue;
    if (v < 0) putByte(0x2d);
    const unit = <u64>p;
    putU64(<u64>n / unit);
    const point = used;
    putU64(<u64>n % unit + unit); // a 1 before the decimals keeps their zeros
    store<u8>(buffer + point, 0x2e);
    return true;
  }
  return false;
}

/** Writes a value of any type that a member can have. */
// @ts-ignore: decorator
@inline
export function put<T>(value: T): void {
  if (isBoolean<T>()) putBool(value);
  else if (isFloat<T>()) putF64(value);
  else if (isInteger<T>()) {
    if (isSigned<T>()) putI64(value);
    else putU64(value);
  } else if (isString<T>()) putString(changetype<usize>(value));
  else if (isReference<T>() && !isManaged<T>()) {
    if (value.isJson) putRaw(value.ptr, <usize>value.length);
    else putText(value.ptr, <usize>value.length);
  } else ERROR("expected a number, bool, string, Text or Json");
}

/** Begins an array or object. */
export function open(array: bool): void {
  if (depth == DEEPEST) throw new Error("a payload is nested deeper than 63");
  putByte(array ? 0x5b : 0x7b);
  arrays = (arrays << 1) | <u64>array;
  depth++;
  comma = false;
}

/** Ends the innermost array or object that is open, but not the outermost. */
export function close(): void {
  if (depth == 0) return;
  putByte(arrays & 1 ? 0x5d : 0x7d);
  arrays >>= 1;
  depth--;
  comma = true;
}

/** Ends everything that is open. */
export function finish(): void {
  while (depth) close();
  putByte(0x7d);
}

/** Where the JSON stands, until something is written again. */
export function written(): usize {
  return buffer;
}

/** How many bytes it has. */
export function writtenSize(): usize {
  return used;
}
