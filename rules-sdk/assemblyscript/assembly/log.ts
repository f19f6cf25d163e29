import { log as write } from "./host";
import { putUtf8 } from "./text";

const ROOM = 1024; // the server cuts what is longer
const line = memory.data(ROOM);

function put(level: i32, text: usize): void {
  write(level, line, <i32>putUtf8(text, line, ROOM));
}

/** Lines for the rule's log. Each is cut behind 1,024 bytes. */
export namespace log {
  /** Writes a line that helps to find faults. */
  // @ts-ignore: decorator
  @inline
  export function debug(text: string): void {
    put(0, changetype<usize>(text));
  }

  /** Writes a line of what happens. */
  // @ts-ignore: decorator
  @inline
  export function info(text: string): void {
    put(1, changetype<usize>(text));
  }

  /** Writes a line of what may be wrong. */
  // @ts-ignore: decorator
  @inline
  export function warn(text: string): void {
    put(2, changetype<usize>(text));
  }

  /** Writes a line of what is wrong. */
  // @ts-ignore: decorator
  @inline
  export function error(text: string): void {
    put(3, changetype<usize>(text));
  }
}

/** Takes the place of the language's `abort`, which `throw` and `assert` call: it writes the
 * message and where it comes from to the log, and traps. It allocates nothing, since memory may be
 * used up. */
// @ts-ignore: decorator
@global
export function wasmeval_abort(
  message: string | null, file: string | null, row: u32, column: u32): void {
  let at = line;
  if (changetype<usize>(message)) at += putUtf8(changetype<usize>(message), at, ROOM - 128);
  else at += putUtf8(changetype<usize>("abort"), at, ROOM);
  at += putUtf8(changetype<usize>(" ("), at, 2);
  if (changetype<usize>(file)) at += putUtf8(changetype<usize>(file), at, 96);
  store<u8>(at++, 0x3a);
  at = putDigits(row, at);
  store<u8>(at++, 0x3a);
  at = putDigits(column, at);
  store<u8>(at++, 0x29);
  write(3, line, <i32>(at - line));
  unreachable();
}

function putDigits(n: u32, at: usize): usize {
  if (n >= 10) at = putDigits(n / 10, at);
  store<u8>(at, 0x30 + (n % 10));
  return at + 1;
}
