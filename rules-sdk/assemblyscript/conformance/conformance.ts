// build: asc conformance.ts --config ../asconfig.json -o conformance.wasm
// The rule of rules-sdk/conformance, which touches every feature of the ABI.
import {
  Counter, describe, Distinct, each, EMIT_NOT_JSON, EMIT_TOO_LARGE, Field, Json, log, match, MINUTE,
  NO_KEY, NONE, Param, Row, Seen, Text, TOO_LARGE, Value,
} from "../assembly";

export * from "../assembly/exports";

// Rows that are not there cannot be had from the SDK.
// @ts-ignore: decorator
@external("wasmeval", "emit")
declare function emit(row: i32, at: usize, size: i32): i32;

describe("conformance of an SDK");
match("conf.*");
match("exact");

const op = new Field<Text>("op");
const f = new Field<f64>("f");
const i = new Field<i64>("i");
const b = new Field<bool>("b");
const s = new Field<Text>("s");
const j = new Field<Json>("j");
const whole = new Field<Json>("$");
const key = new Field<Text>("@key");
const type = new Field<Text>("@type");
const time = new Field<i64>("@time");
const price = new Field<f64>("items[0].price");

const limit = new Param<f64>("limit", 10);
const count = new Param<i64>("count", 3);
const strict = new Param<bool>("strict", false);
const label = new Param<string>("label", 'a "b"\né');

const tumble = new Counter("tumbling", MINUTE);
const slide = new Counter("sliding", MINUTE, { buckets: 60 });
const cards = new Distinct("cards", 10 * MINUTE, { limit: 4 });
const last = new Value<string>("last", { bytes: 32, ttl: MINUTE });
const known = new Seen("known");

const OTHER = i32.MIN_VALUE; // what name asks for is another's

each((row: Row): i32 => {
  if (!op.has(row)) return 0;
  const name = op.get(row).toString();
  let code = ofFields(row, name);
  if (code == OTHER) code = ofPayloads(row, name);
  if (code == OTHER) code = ofStates(row, name);
  return code == OTHER ? 0 : code;
});

function ofFields(row: Row, name: string): i32 {
  if (name == "code") return <i32>i.get(row, 1);
  if (name == "valid") return valid(row);
  if (name == "limit") return i32(f.has(row) && f.get(row) > limit.value);
  if (name == "text") return s.get(row).length + 1;
  if (name == "log") {
    log.debug("d");
    log.info("i");
    log.warn("w");
    log.error("e");
    return 1;
  }
  if (name == "trap") throw new Error("trap");
  if (name == "spin") {
    while (true) {}
  }
  if (name == "deep") return deep(row.index);
  return OTHER;
}

function valid(row: Row): i32 {
  let code = 1024;
  if (f.has(row)) code |= 1;
  if (i.has(row)) code |= 2;
  if (b.has(row)) code |= 4;
  if (s.has(row)) code |= 8;
  if (j.has(row)) code |= 16;
  if (price.has(row)) code |= 32;
  if (key.has(row)) code |= 64;
  if (type.has(row)) code |= 128;
  if (time.has(row)) code |= 256;
  return code;
}

function deep(n: i32): i32 {
  return n == i32.MAX_VALUE ? 1 : n / (deep(n + 1) | 1);
}

function ofPayloads(row: Row, name: string): i32 {
  if (name == "echo") {
    row.payload().copy("f", f).copy("i", i).copy("b", b).copy("s", s).copy("j", j).copy("key", key)
      .copy("type", type).emit();
    return 1;
  }
  if (name == "raw") {
    row.emit(whole.get(row));
    return 1;
  }
  if (name == "params") {
    row.payload().set("limit", limit.value).set("count", count.value).set("strict", strict.value)
      .set("label", label.value).emit();
    return 1;
  }
  if (name == "twice") {
    row.payload().set("n", 1).emit();
    row.payload().set("n", 2).emit();
    return 1;
  }
  if (name == "unmatched") {
    row.payload().set("n", 1).emit();
    return 0;
  }
  if (name == "emit-row") return 100 + emit(65535, changetype<usize>("11"), 1);
  if (name == "emit-bad") return emitted(row.emit("{"));
  if (name == "emit-large") return emitted(row.emit('"' + "x".repeat(20_000) + '"'));
  return OTHER;
}

// What `emit` of the ABI returned.
function emitted(code: i32): i32 {
  return code == EMIT_TOO_LARGE ? 103 : code == EMIT_NOT_JSON ? 104 : 100;
}

function ofStates(row: Row, name: string): i32 {
  if (name == "count") return sum(tumble.add(row));
  if (name == "sub") return sum(tumble.by(s.get(row)).add(row));
  if (name == "slide") return sum(slide.add(row, f.get(row, 0)));
  if (name == "distinct") return cards.add(row, s.get(row));
  if (name == "set") return last.set(row, s.get(row).toString()) == TOO_LARGE ? 5 : 1;
  if (name == "get") {
    if (!last.has(row)) return 2;
    row.payload().set("v", last.get(row, "")).emit();
    return 1;
  }
  if (name == "age") {
    const set = last.time(row);
    return set < 0 ? 0 : <i32>((time.get(row) - set) / 1_000_000_000) + 1;
  }
  if (name == "delete") return last.delete(row) ? 1 : 2;
  if (name == "seen") {
    const first = known.mark(row);
    if (first == NO_KEY) return 9;
    if (first == NONE) return 1;
    row.payload().set("first", first).emit();
    return 2;
  }
  if (name == "trap-after-count") {
    tumble.add(row);
    throw new Error("trap");
  }
  return OTHER;
}

function sum(value: f64): i32 {
  return isNaN(value) ? 9 : <i32>value;
}
