// A rule whose field `do` says what of the SDK to try.
import {
  Counter, DAY, describe, Distinct, each, Field, Json, log, match, MINUTE, NO_KEY, Param, quote,
  Row, Seen, Text, unquote, Value,
} from "../../assembly";

export * from "../../assembly/exports";

describe('a "rule" of tests');
match("test.*");

const what = new Field<Text>("do");
const f = new Field<f64>("f");
const i = new Field<i64>("i");
const b = new Field<bool>("b");
const s = new Field<Text>("s");
const j = new Field<Json>("j");
const whole = new Field<Json>("$");
const deep = new Field<f64>("items[1].price");

const words = new Field<string>("s");
const least = new Param<f64>("least", 0, "smallest f").required();
const count = new Param<i64>("count", -3);
const strict = new Param<bool>("strict", false);
const word = new Param<string>("word", 'a\\"b"\n');

const sum = new Counter("sum", MINUTE, { buckets: 6, keys: 2 });
const day = new Counter("day", DAY, { byArrival: true });
const cards = new Distinct("cards", MINUTE, { limit: 2 });
const first = new Seen("first", { ttl: 1000 });
const last = new Value<string>("last", { bytes: 8, ttl: MINUTE });
const number = new Value<f64>("number");
@unmanaged
class Position { lat: f64 = 0; lon: f32 = 0; }
const position = new Value<Position>("position");

each((row: Row): i32 => {
  const name = what.has(row) ? what.get(row).toString() : "nothing";
  if (name == "nothing") return 99;
  if (name == "fallbacks") return fallbacks(row);
  if (name == "nested") return nested(row);
  if (name == "numbers") return numbers(row);
  if (name == "texts") return texts(row);
  if (name == "raw") return row.emit(whole.get(row)) == 0 ? 1 : 2;
  if (name == "index") return <i32>s.get(row)[<i32>i.get(row)];
  if (name == "throw") throw new Error("no good: " + words.get(row));
  if (name == "negative") return -5;
  if (name == "log") log.warn("ü" + words.get(row));
  if (name == "params") {
    row.payload().set("least", least.value).set("count", count.value).set("strict", strict.value)
      .set("word", word.value).emit();
  }
  return states(row, name);
});

function fallbacks(row: Row): i32 {
  row.payload().set("f", f.get(row, 1.5)).set("i", i.get(row, -7)).set("b", b.get(row, true))
    .set("s", words.get(row, "x")).set("f0", f.get(row)).set("i0", i.get(row)).set("b0", b.get(row))
    .set("s0", words.get(row)).set("t0", s.get(row)).set("deep", deep.get(row)).emit();
  return 1;
}

function nested(row: Row): i32 {
  row.payload().array("a").add(1).add("x").object().set('k"', true).end().array().end().end()
    .object("o").copy("s", s).copy("w", words).copy("missing", deep).copy("j", j)
    .set("k", j.get(row)).emit();
  return 1;
}

function numbers(row: Row): i32 {
  row.payload().set("f", f.get(row)).copy("g", f).set("nan", NaN).set("inf", -Infinity)
    .set("i", i64.MIN_VALUE).set("u", u32.MAX_VALUE).set("n", <string | null>null).copy("b", b)
    .emit();
  return 1;
}

function texts(row: Row): i32 {
  const back = unquote(quote(words.get(row)));
  row.payload().set("s", words.get(row)).copy("t", s).set("same", back !== null && s.is(row, back))
    .set("half", "x\ud800y").set("is", s.is(row, "é😀") || s.is(row, "abc"))
    .set("begins", s.get(row).startsWith("ab")).set("size", s.get(row).length)
    .set("bad", unquote('"a') === null && unquote('"\\x"') === null && unquote('""x') === null)
    .set("units", unquote('"\\ud83d\\ude00\\u00e9\\ud800\\/"')).emit();
  return 1;
}

function states(row: Row, name: string): i32 {
  const by = s.get(row);
  if (name == "sum") return total(sum.by(by).add(row, f.get(row, 1)));
  if (name == "asked") return total(sum.sum(row));
  if (name == "day") return total(day.add(row));
  if (name == "cards") return 10 + cards.add(row, by);
  if (name == "first") {
    const at = first.by(words.get(row)).mark(row);
    return at == NO_KEY ? 9 : at < 0 ? 1 : 2;
  }
  if (name == "set") return 10 + last.set(row, words.get(row));
  if (name == "get") {
    if (!last.has(row)) return last.time(row) == NO_KEY ? 9 : 2;
    row.payload().set("value", last.get(row, "")).set("at", last.time(row)).emit();
    return 1;
  }
  if (name == "number") {
    const before = number.by(by).get(row, 7);
    number.by(by).set(row, f.get(row));
    return <i32>before;
  }
  if (name == "position") {
    const before = position.get(row, new Position());
    const code = 1 + <i32>(before.lat + before.lon);
    before.lat += 10;
    before.lon += 0.5;
    position.set(row, before);
    return code;
  }
  if (name == "delete") return last.delete(row) ? 1 : 2;
  if (name == "fail") {
    sum.add(row, 100);
    assert(false, "after a change");
  }
  return 1;
}

function total(value: f64): i32 {
  return isNaN(value) ? 9 : <i32>value;
}
