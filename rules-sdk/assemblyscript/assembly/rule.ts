import { Row, bindFields, describeFields } from "./field";
import {
  begin, close, element, finish, member, open, putString, set, written, writtenSize,
} from "./json";
import { configure, describeParams } from "./param";
import { describeStates } from "./state";

let description = "";
const patterns = new Array<string>();
let rule: ((row: Row) => i32) | null = null;
let input: usize = 0; // where the server writes
let room: usize = 0; // bytes of it

/** Says in one line what the rule does. */
export function describe(text: string): void {
  description = text;
}

/** Adds a type of events that the rule wants: `*` for all events, `payment.*` for types that begin
 * with `payment.`, or a whole type. Without it the rule gets all events. */
export function match(pattern: string): void {
  patterns.push(pattern);
}

/** Sets the function that gives the code of an event: 0 does not match, above 0 is the rule's own
 * code, below 0 is an error of that event. The function can use no variables but global ones. */
export function each(evaluate: (row: Row) => i32): void {
  if (rule !== null) throw new Error("each is called twice");
  rule = evaluate;
}

/** @internal */
export function wasmeval_abi(): i32 {
  return 1;
}

/** @internal */
export function wasmeval_manifest(): u64 {
  if (rule === null) throw new Error("each is not called");
  begin();
  set("description", description);
  if (patterns.length) {
    list("match");
    for (let i = 0; i < patterns.length; i++) {
      element();
      putString(changetype<usize>(patterns[i]));
    }
    close();
  }
  list("fields");
  describeFields();
  close();
  list("params");
  describeParams();
  close();
  list("state");
  describeStates();
  finish();
  return (<u64>written() << 32) | writtenSize();
}

function list(name: string): void {
  member(changetype<usize>(name));
  open(true);
}

/** The input is no part of the heap: as long as it ends the memory it grows in place, and where
 * there is no more memory it is refused, which the heap would trap on. @internal */
export function wasmeval_input(size: usize): usize {
  if (size <= room) return input;
  const end = <usize>memory.size() << 16;
  const kept: usize = input + room == end ? room : 0;
  const pages = (size - kept + 0xffff) >> 16;
  if (memory.grow(<i32>pages) < 0) return 0;
  if (!kept) input = end;
  room = kept + (pages << 16);
  return input;
}

/** @internal */
export function wasmeval_configure(from: usize, size: usize): i32 {
  return configure(from, size) ? 0 : 1;
}

/** @internal */
export function wasmeval_evaluate(batch: usize): i32 {
  if (!bindFields(batch)) return 1;
  const evaluate = load<u32>(changetype<usize>(rule)); // the function's place in the table
  const rows = load<u32>(batch, 4);
  const verdicts = batch + load<u32>(batch, 12);
  for (let i: usize = 0; i < rows; i++) {
    store<i32>(verdicts + (i << 2), call_indirect<i32>(evaluate, changetype<Row>(i)));
  }
  return 0;
}
