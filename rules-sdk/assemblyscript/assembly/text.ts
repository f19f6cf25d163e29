// Strings of the language are UTF-16, those of events UTF-8. Functions here take the address of a
// string rather than the string, so that their callers need no frame for the collector.

/** The size in bytes of the string at an address, which stands before it. */
// @ts-ignore: decorator
@inline
export function sizeOf(text: usize): usize {
  return <usize>load<u32>(text - 4);
}

/** The code point at `text`, UTF-16 that ends at `stop`. Half of a surrogate pair is U+FFFD. */
export function codePoint(text: usize, stop: usize): u32 {
  const c = <u32>load<u16>(text);
  if ((c & 0xf800) != 0xd800) return c;
  if (c < 0xdc00 && stop - text >= 4) {
    const d = <u32>load<u16>(text, 2);
    if ((d & 0xfc00) == 0xdc00) return 0x10000 + (((c & 0x3ff) << 10) | (d & 0x3ff));
  }
  return 0xfffd;
}

/** Writes a code point as UTF-8 and gives the address behind it. */
export function putCodePoint(c: u32, at: usize): usize {
  if (c < 0x80) {
    store<u8>(at, c);
    return at + 1;
  }
  const more: usize = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  for (let i = more; i > 0; i--) {
    store<u8>(at + i, 0x80 | (c & 0x3f));
    c >>= 6;
  }
  store<u8>(at, (0xff00 >> (<u32>more + 1)) | c);
  return at + more + 1;
}

/** Writes the string at `text` as UTF-8, at most `room` bytes, and gives how many it wrote. */
export function putUtf8(text: usize, at: usize, room: usize): usize {
  const stop = text + sizeOf(text);
  const from = at;
  while (text < stop) {
    if (stop - text >= 8 && room - (at - from) >= 4) { // four characters of ASCII at once
      const units = load<u64>(text);
      if (!(units & 0xff80ff80ff80ff80)) {
        const pairs = units | (units >> 8);
        store<u32>(at, <u32>(pairs & 0xffff) | <u32>((pairs >> 16) & 0xffff0000));
        at += 4;
        text += 8;
        continue;
      }
    }
    const c = codePoint(text, stop);
    const size: usize = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (at - from + size > room) break;
    at = putCodePoint(c, at);
    text += c < 0x10000 ? 2 : 4;
  }
  return at - from;
}

const encoded = memory.data(4);

/** Whether UTF-8 from `at` to `end` begins with the string at `text`; gives the place behind it,
 * or 0. */
function behind(at: usize, end: usize, text: usize): usize {
  const stop = text + sizeOf(text);
  while (text < stop) {
    const c = codePoint(text, stop);
    if (c < 0x80) {
      if (at == end || load<u8>(at) != c) return 0;
      at++;
      text += 2;
      continue;
    }
    const size = putCodePoint(c, encoded) - encoded;
    if (end - at < size || memory.compare(at, encoded, size) != 0) return 0;
    at += size;
    text += c < 0x10000 ? 2 : 4;
  }
  return at;
}

/** Bytes of UTF-8 where the server put them: nothing is copied. They are valid until the function
 * given to `each` returns; use `toString` to keep them for longer. */
@unmanaged
export class Bytes {
  /** The address of the first byte. */
  ptr: usize = 0;
  /** How many bytes there are. */
  length: i32 = 0;

  /** The byte at an index; it traps outside of the text. */
  @operator("[]")
  at(index: i32): u8 {
    if (<u32>index >= <u32>this.length) throw new RangeError("index outside of a text");
    return load<u8>(this.ptr + <usize>index);
  }

  /** Whether the text is this string. */
  @inline
  is(text: string): bool {
    const end = this.ptr + <usize>this.length;
    return behind(this.ptr, end, changetype<usize>(text)) == end;
  }

  /** Whether the text begins with this string. */
  @inline
  startsWith(text: string): bool {
    return behind(this.ptr, this.ptr + <usize>this.length, changetype<usize>(text)) != 0;
  }

  /** Whether both are the same bytes. */
  equals(other: Bytes): bool {
    return this.length == other.length &&
      memory.compare(this.ptr, other.ptr, <usize>this.length) == 0;
  }

  /** A copy as a string of the language. */
  toString(): string {
    return String.UTF8.decodeUnsafe(this.ptr, <usize>this.length);
  }
}

/** The text of a string in an event, without its quotes and escapes. */
@unmanaged
export class Text extends Bytes {
  /** @internal */
  @inline
  get isJson(): bool {
    return false;
  }
}

/** A value of an event as its JSON text, without insignificant white space. */
@unmanaged
export class Json extends Bytes {
  /** @internal */
  @inline
  get isJson(): bool {
    return true;
  }
}
