import { kindName, kindOf } from "./field";
import { close, element, open, set } from "./json";
import { log } from "./log";
import { decimal } from "./number";
import { putCodePoint, putUtf8, sizeOf } from "./text";

/** What parameters of all types have. */
export abstract class AnyParam {
  protected needed: bool = false;
  /** Whether the configuration that is read has named it. @internal */
  given: bool = false;

  /** @internal */
  constructor(readonly name: string, protected description: string) {}

  /** @internal */
  abstract get kind(): string;

  /** Writes it for the manifest. @internal */
  abstract describe(): void;

  /** Reads a value, and tells whether there is one of its type. @internal */
  abstract read(): bool;
}

const params = new Array<AnyParam>();

/** A parameter of the rule, which whoever activates it sets. T is `f64`, `i64`, `bool` or `string`.
 * Parameters are declared once, as global constants:
 *
 *     const limit = new Param<f64>("limit", 1000, "largest amount that passes");
 */
export class Param<T> extends AnyParam {
  /** The value; before the server has set it, the default. */
  value: T;
  private byDefault: T;

  /** Declares the parameter. */
  constructor(name: string, byDefault: T, description: string = "") {
    super(name, description);
    this.value = byDefault;
    this.byDefault = byDefault;
    params.push(this);
  }

  /** Takes the default away: whoever activates the rule must give a value. */
  required(): Param<T> {
    this.needed = true;
    return this;
  }

  /** @internal */
  get kind(): string {
    return kindName(kindOf<T>());
  }

  /** @internal */
  describe(): void {
    set("name", this.name);
    set("type", this.kind);
    if (!this.needed) set<T>("default", this.byDefault);
    if (this.description.length) set("description", this.description);
  }

  /** @internal */
  read(): bool {
    if (isBoolean<T>()) {
      this.value = <T>takeWord("true");
      return <bool>this.value || takeWord("false");
    } else if (isFloat<T>()) {
      this.value = <T>takeF64();
      return isFinite(this.value);
    } else if (isInteger<T>()) {
      this.value = <T>takeI64();
      return !wrong;
    } else {
      const text = takeString();
      if (text === null) return false;
      this.value = changetype<T>(text);
      return true;
    }
  }
}

/** Writes the declared parameters. @internal */
export function describeParams(): void {
  for (let i = 0; i < params.length; i++) {
    element();
    open(false);
    params[i].describe();
    close();
  }
}

let at: usize = 0; // the reader's place in the parameters
let end: usize = 0;
let wrong = false; // takeI64 found no number

/** Sets the parameters from a JSON object without white space that has each of them once. What is
 * wrong with it goes to the log. @internal */
export function configure(from: usize, size: usize): bool {
  at = from;
  end = from + size;
  for (let i = 0; i < params.length; i++) params[i].given = false;
  const fault = readParams();
  if (fault.length) log.error("cannot take the parameters: " + fault);
  return !fault.length;
}

function readParams(): string {
  const malformed = "expected a JSON object without white space";
  if (!take(0x7b)) return malformed;
  if (!take(0x7d)) {
    do {
      const name = takeString();
      if (name === null || !take(0x3a)) return malformed;
      const param = find(name);
      if (param === null) return about(name, "is not declared");
      if (param.given) return about(name, "is given twice");
      param.given = true;
      const value = at;
      if (!param.read() || (peek() != 0x2c && peek() != 0x7d)) {
        return about(name, "is " + rest(value) + ": expected " + param.kind);
      }
    } while (take(0x2c));
    if (!take(0x7d)) return malformed;
  }
  if (at != end) return malformed;
  for (let i = 0; i < params.length; i++) {
    if (!params[i].given) return about(params[i].name, "is missing");
  }
  return "";
}

function about(name: string, fault: string): string {
  return 'param "' + name + '" ' + fault;
}

function find(name: string): AnyParam | null {
  for (let i = 0; i < params.length; i++) if (params[i].name == name) return params[i];
  return null;
}

/** The value that begins at `from`, as it stands. */
function rest(from: usize): string {
  let to = from;
  while (to < end && load<u8>(to) != 0x2c && load<u8>(to) != 0x7d) to++;
  return String.UTF8.decodeUnsafe(from, to - from);
}

/** The byte at the reader's place, 0 at the end. */
function peek(): u8 {
  return at < end ? load<u8>(at) : 0;
}

function take(c: u8): bool {
  const found = at < end && load<u8>(at) == c;
  if (found) at++;
  return found;
}

function takeWord(word: string): bool {
  const from = at;
  for (let i = 0; i < word.length; i++) {
    if (take(<u8>word.charCodeAt(i))) continue;
    at = from;
    return false;
  }
  return true;
}

function isDigit(c: u8): bool {
  return c - 0x30 < 10;
}

/** Reads a number of any size; NaN is none. */
function takeF64(): f64 {
  const minus = take(0x2d);
  let digits: u64 = 0;
  let exponent = 0;
  if (!isDigit(peek()) || (take(0x30) && isDigit(peek()))) return NaN;
  for (let point = false; ; at++) {
    const c = peek();
    if (c == 0x2e && !point && at + 1 < end && isDigit(load<u8>(at, 1))) {
      point = true;
    } else if (!isDigit(c)) {
      break;
    } else if (digits < 1000000000000000000) {
      digits = digits * 10 + (c - 0x30);
      exponent -= <i32>point;
    } else { // beyond 19 digits
      exponent += <i32>!point;
    }
  }
  if (take(0x65) || take(0x45)) {
    const below = take(0x2d);
    if (!below) take(0x2b);
    if (!isDigit(peek())) return NaN;
    let e = 0;
    for (; isDigit(peek()); at++) e = min(e * 10 + (peek() - 0x30), 100000);
    exponent += below ? -e : e;
  }
  const n = decimal(digits, exponent);
  return minus ? -n : n;
}

/** Reads an integer that 64 bits hold, or sets `wrong`. */
function takeI64(): i64 {
  const minus = take(0x2d);
  const most: u64 = minus ? 1 << 63 : (1 << 63) - 1;
  let n: u64 = 0;
  wrong = !isDigit(peek()) || (take(0x30) && isDigit(peek()));
  for (; isDigit(peek()); at++) {
    const digit = <u64>(peek() - 0x30);
    if (n > (most - digit) / 10) wrong = true;
    n = n * 10 + digit;
  }
  return minus ? -n : n;
}

/** Reads a string; null if there is none. */
function takeString(): string | null {
  if (!take(0x22)) return null;
  const text = heap.alloc(end - at);
  let to = text;
  while (at < end && peek() >= 0x20 && peek() != 0x22) {
    const c = load<u8>(at++);
    if (c != 0x5c) {
      store<u8>(to++, c);
      continue;
    }
    const escaped = takeEscape();
    if (escaped < 0) {
      at = end; // where no quote is
      break;
    }
    to = putCodePoint(escaped, to);
  }
  const found = take(0x22) ? String.UTF8.decodeUnsafe(text, to - text) : null;
  heap.free(text);
  return found;
}

/** What a JSON string means, or null if the text is none. */
export function unquote(json: string): string | null {
  const size = sizeOf(changetype<usize>(json));
  const room = size + (size >> 1);
  const from = heap.alloc(room);
  at = from;
  end = from + putUtf8(changetype<usize>(json), from, room);
  const text = takeString();
  const all = at == end;
  heap.free(from);
  return all ? text : null;
}

/** Reads what stands behind a backslash; -1 if that is no escape. Half of a surrogate pair is
 * U+FFFD. */
function takeEscape(): i32 {
  const c = peek();
  at++;
  switch (c) {
    case 0x22: case 0x5c: case 0x2f: return c;
    case 0x62: return 8;
    case 0x66: return 12;
    case 0x6e: return 10;
    case 0x72: return 13;
    case 0x74: return 9;
    case 0x75: break;
    default: return -1;
  }
  const high = takeHex();
  if (high >> 11 != 0x1b) return high;
  const back = at;
  if (high < 0xdc00 && takeWord("\\u")) {
    const low = takeHex();
    if (low >> 10 == 0x37) return 0x10000 + (((high & 0x3ff) << 10) | (low & 0x3ff));
  }
  at = back;
  return 0xfffd;
}

/** Reads four hexadecimal digits; -1 if there are none. */
function takeHex(): i32 {
  let n = 0;
  for (let i = 0; i < 4; i++) {
    const c = peek();
    const digit = isDigit(c) ? c - 0x30 : (c | 0x20) - 0x57;
    if (!isDigit(c) && (digit < 10 || digit > 15)) return -1;
    n = (n << 4) | digit;
    at++;
  }
  return n;
}
