// build: asc pii-mask.ts --config ../../asconfig.json -o pii-mask.wasm
// Events that name a person: code 1, and a copy of the event in which that is masked. Code 2 if the
// copy cannot be attached, because it is too large.
import { describe, each, Field, Json, log, Param, quote, Row, unquote } from "../../assembly";

export * from "../../assembly/exports";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const AT = 0x40;
const DOT = 0x2e;
const COLON = 0x3a;
const MASKED: string = '"***"';
const LEAST_DIGITS = 13; // of a card's number
const MOST_DIGITS = 19;
const SHOWN_DIGITS = 4;

describe("a copy of events in which mail addresses, card numbers and named fields are masked");

const whole = new Field<Json>("$");
const named = new Param<string>("fields", "password,ssn,iban", "fields to mask, by comma");

let names: string[] = []; // of the fields to mask, once the first event has come

// The copy that is being made, and how many bytes of the event are in it.
let copied = 0;
let copy = "";

// What endOfString found in the string.
let escaped = false;
let addressed = false;
let numbered = false;

each((row: Row): i32 => {
  if (!names.length) names = named.value.split(",").map<string>((name) => name.trim());
  const text = whole.get(row);
  copied = 0;
  copy = "";
  let from = 0;
  while (from < text.length) from = token(text, from);
  if (copied == 0) return 0;
  if (row.emit(copy + part(text, copied, text.length)) == 0) return 1;
  log.warn("a masked event is too large: " + text.length.toString() + " bytes");
  return 2;
});

// The byte at a place, 0 behind the end.
function byteAt(text: Json, i: i32): i32 {
  return i < text.length ? text[i] : 0;
}

function part(text: Json, from: i32, to: i32): string {
  return String.UTF8.decodeUnsafe(text.ptr + from, to - from);
}

// Puts something in place of a part of the text, all before which stays.
function replace(text: Json, from: i32, to: i32, by: string): void {
  copy += part(text, copied, from) + by;
  copied = to;
}

// Masks what begins here, if need be, and returns where it ends.
function token(text: Json, from: i32): i32 {
  const c = byteAt(text, from);
  if (c == QUOTE) {
    const to = endOfString(text, from);
    const isName = byteAt(text, to) == COLON;
    if (!isName && !escaped && !addressed && !numbered) return to;
    const value = meaning(text, from, to);
    if (isName) return member(text, value, to + 1);
    const masked = maskText(value);
    if (masked != value) replace(text, from, to, quote(masked));
    return to;
  }
  if (c != 0x2d && !isDigit(c)) return from + 1;
  const to = endOfWord(text, from);
  if (to - from < LEAST_DIGITS) return to;
  const number = part(text, from, to);
  const masked = maskCards(number);
  if (masked != number) replace(text, from, to, quote(masked));
  return to;
}

// What a string means. Most have no escape, and need no more than a copy.
function meaning(text: Json, from: i32, to: i32): string {
  if (!escaped) return part(text, from + 1, to - 1);
  const value = unquote(part(text, from, to));
  assert(value !== null, "the event is not JSON");
  return value!;
}

// Masks the value at a place if its name is one of those to mask.
function member(text: Json, name: string, from: i32): i32 {
  if (!names.includes(name)) return from;
  const to = endOfValue(text, from);
  if (part(text, from, to) != "null") replace(text, from, to, MASKED);
  return to;
}

// Finds the end of a string, and what it may hide on the way: every byte of an event passes here.
function endOfString(text: Json, from: i32): i32 {
  const end = text.ptr + text.length;
  let at = text.ptr + from + 1;
  let digits = 0;
  escaped = false;
  addressed = false;
  for (; at < end; at++) {
    const c = load<u8>(at);
    if (c == QUOTE) break;
    if (c == BACKSLASH) {
      escaped = true;
      at++;
    } else if (c == AT) {
      addressed = true;
    } else if (isDigit(c)) {
      digits++;
    }
  }
  numbered = digits >= LEAST_DIGITS;
  return <i32>(at + 1 - text.ptr);
}

// The end of a number, true, false or null.
function endOfWord(text: Json, from: i32): i32 {
  let i = from;
  while (i < text.length && !isOneOf(byteAt(text, i), ",]}")) i++;
  return i;
}

function endOfValue(text: Json, from: i32): i32 {
  let depth = 0;
  let i = from;
  do {
    const c = byteAt(text, i);
    if (c == QUOTE) i = endOfString(text, i);
    else if (isOneOf(c, "[{")) { depth++; i++; }
    else if (isOneOf(c, "]}")) { depth--; i++; }
    else if (isOneOf(c, ",:")) i++;
    else i = endOfWord(text, i);
  } while (depth > 0 && i < text.length);
  return i;
}

function maskText(value: string): string {
  const cards = maskCards(value);
  return cards.includes("@") ? maskAddresses(cards) : cards;
}

// ada.l@mail.example becomes ***@mail.example.
function maskAddresses(value: string): string {
  let masked = "";
  let done = 0;
  for (let i = value.indexOf("@"); i >= 0; i = value.indexOf("@", i + 1)) {
    let from = i;
    while (from > done && isOfAddress(value.charCodeAt(from - 1))) from--;
    let to = i + 1;
    let dots = 0;
    while (to < value.length && isOfHost(value.charCodeAt(to))) {
      if (value.charCodeAt(to) == DOT) dots++;
      to++;
    }
    if (from == i || dots == 0) continue;
    masked += value.substring(done, from) + "***";
    done = i;
  }
  return masked + value.substring(done);
}

// Cards have 13 to 19 digits, a space or a hyphen between some of them, and begin with 2 to 6. That
// and their check digit tell them from times and most other numbers.
function maskCards(value: string): string {
  let masked = "";
  let done = 0;
  let i = 0;
  while (i < value.length) {
    if (!isDigit(value.charCodeAt(i))) {
      i++;
      continue;
    }
    const from = i;
    let digits = 0;
    for (; i < value.length; i++) {
      if (isDigit(value.charCodeAt(i))) digits++;
      else if (!isBetweenDigits(value, i)) break;
    }
    if (!isCard(value, from, i, digits)) continue;
    masked += value.substring(done, from) + maskDigits(value.substring(from, i), digits);
    done = i;
  }
  return masked + value.substring(done);
}

function isBetweenDigits(value: string, i: i32): bool {
  return isOneOf(value.charCodeAt(i), " -") && i + 1 < value.length &&
    isDigit(value.charCodeAt(i + 1));
}

function isCard(value: string, from: i32, to: i32, digits: i32): bool {
  const first = value.charCodeAt(from);
  if (digits < LEAST_DIGITS || digits > MOST_DIGITS || first < 0x32 || first > 0x36) return false;
  let sum = 0;
  let second = false;
  for (let i = to - 1; i >= from; i--) {
    const c = value.charCodeAt(i);
    if (!isDigit(c)) continue;
    const digit = second ? 2 * (c - 0x30) : c - 0x30;
    sum += digit > 9 ? digit - 9 : digit;
    second = !second;
  }
  return sum % 10 == 0;
}

// Leaves the last four digits.
function maskDigits(card: string, digits: i32): string {
  let masked = "";
  for (let i = 0; i < card.length; i++) {
    const hide = isDigit(card.charCodeAt(i)) && digits > SHOWN_DIGITS;
    if (isDigit(card.charCodeAt(i))) digits--;
    masked += hide ? "*" : card.charAt(i);
  }
  return masked;
}

function isDigit(c: i32): bool {
  return c >= 0x30 && c <= 0x39;
}

function isOneOf(c: i32, these: string): bool {
  for (let i = 0; i < these.length; i++) if (these.charCodeAt(i) == c) return true;
  return false;
}

function isLetterOrDigit(c: i32): bool {
  const letter = c | 0x20;
  return isDigit(c) || (letter >= 0x61 && letter <= 0x7a) || c >= 0x80;
}

function isOfAddress(c: i32): bool {
  return isLetterOrDigit(c) || isOneOf(c, ".!#$%&'*+/=?^_`{|}~-");
}

function isOfHost(c: i32): bool {
  return isLetterOrDigit(c) || c == DOT || c == 0x2d;
}
