import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { load } from "wasmeval-rule/testing";
import { layOut } from "../testing/batch.js";
import { asc, compile, inFolder, root } from "./compile.js";

const everything = compile("everything.ts");
const loop = compile("loop.ts");
const open = (options) => load(everything, { params: { least: 0 }, key: "key", ...options });
const event = (what, more) => ({ type: "test.x", do: what, ...more });

test("the manifest has what the rule declares", () => {
  const { manifest } = open();
  assert.equal(manifest.description, 'a "rule" of tests');
  assert.deepEqual(manifest.match, ["test.*"]);
  assert.deepEqual(manifest.fields.map((f) => `${f.path} ${f.type}`), ["do utf8", "f f64", "i i64",
    "b bool", "s utf8", "j json", "$ json", "items[1].price f64", "s utf8"]);
  assert.deepEqual(manifest.params, [
    { name: "least", type: "f64", description: "smallest f" },
    { name: "count", type: "i64", default: -3 },
    { name: "strict", type: "bool", default: false },
    { name: "word", type: "utf8", default: 'a\\"b"\n' },
  ]);
  assert.deepEqual(manifest.state, [
    { name: "sum", kind: "counter", window_ms: 60000, buckets: 6, keys: 2 },
    { name: "day", kind: "counter", window_ms: 86400000, time: "arrival" },
    { name: "cards", kind: "distinct", window_ms: 60000, limit: 2 },
    { name: "first", kind: "seen", ttl_ms: 1000 },
    { name: "last", kind: "value", bytes: 8, ttl_ms: 60000 },
    { name: "number", kind: "value", bytes: 8 },
    { name: "position", kind: "value", bytes: 12 },
  ]);
});

test("a module has the names of the ABI and no others", () => {
  for (const code of [everything, loop]) {
    const module = new WebAssembly.Module(code);
    const imports = WebAssembly.Module.imports(module);
    assert.deepEqual(imports.filter((i) => i.module !== "wasmeval"), []);
    assert.deepEqual(WebAssembly.Module.exports(module).map((e) => e.name).sort(), ["_initialize",
      "memory", "wasmeval_abi", "wasmeval_configure", "wasmeval_evaluate", "wasmeval_input",
      "wasmeval_manifest"]);
  }
});

test("a missing field has the fallback", () => {
  const rule = open();
  const missing = { f: 1.5, i: -7, b: true, s: "x", f0: null, i0: 0, b0: false, s0: "", t0: "",
    deep: null };
  for (const fields of [{}, { f: "1", i: 1.5, b: 1, s: 1, items: [1, 2] }, { f: null, s: null }]) {
    assert.deepEqual(rule.event(event("fallbacks", fields)).payload, missing);
  }
  const all = { f: 0, i: 5, b: false, s: "", items: [0, { price: 2.5 }] };
  assert.deepEqual(rule.event(event("fallbacks", all)).payload,
    { f: 0, i: 5, b: false, s: "", f0: 0, i0: 5, b0: false, s0: "", t0: "", deep: 2.5 });
  assert.equal(rule.event({ type: "test." }).code, 99);
  assert.equal(rule.event({ type: "tester", do: "index" }).matched, false);
});

test("each row of a batch is its own", () => {
  const fields = (n) => (n % 3 ? { f: n, b: n % 2 > 0, s: "é".repeat(n) } : {});
  const rows = Array.from({ length: 100 }, (_, n) => event("fallbacks", fields(n)));
  open().batch(rows).forEach(({ payload }, n) => {
    const want = n % 3 ? [n, n % 2 > 0, "é".repeat(n)] : [1.5, true, "x"];
    assert.deepEqual([payload.f, payload.b, payload.s], want);
  });
});

test("payloads nest and escape", () => {
  const rule = open();
  const text = '"\\/\b\f\n\r\t\0\x1f\x7f é😀\u2028';
  const j = [1, { a: null }];
  assert.deepEqual(rule.event(event("nested", { s: text, j })).payload,
    { a: [1, "x", { 'k"': true }, []], o: { s: text, w: text, j, k: j } });
  const say = (s) => rule.event(event("texts", { s })).payload;
  assert.deepEqual(say(text), { s: text, t: text, same: true, half: "x\ufffdy", is: false,
    begins: false, size: Buffer.byteLength(text), bad: true, units: "😀é\ufffd/" });
  assert.deepEqual(["é😀", "abc", "ab", "abcd", "é", ""].map((s) => say(s).is),
    [true, true, false, false, false, false]);
  assert.deepEqual(["abc", "ab", "a", "", "éab"].map((s) => say(s).begins),
    [true, true, false, false, false]);
  const whole = event("raw", { j: { a: [null, { b: "c\n" }] } });
  assert.deepEqual(rule.event(whole).payload, whole);
  assert.equal(rule.event(event("raw", { s: "x".repeat(20_000) })).code, 2);
});

// Numbers of all sizes: the bits of a sequence that looks random.
function* numbers(count) {
  yield* [0, 0.1, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 2 ** 53, -(2 ** 53) - 2, 123.456];
  const bits = new DataView(new ArrayBuffer(8));
  for (let n = 1n; n < count; n++) {
    bits.setBigUint64(0, BigInt.asUintN(64, n * 0x9e3779b97f4a7c15n));
    if (Number.isFinite(bits.getFloat64(0))) yield bits.getFloat64(0);
  }
}

test("numbers of fields come back as they were", () => {
  const values = [...numbers(3000n)];
  const verdicts = open().batch(values.map((f) => event("numbers", { f, b: true })));
  verdicts.forEach(({ payload }, n) => {
    assert.deepEqual([payload.f, payload.g], [values[n], values[n]]);
    assert.deepEqual([payload.nan, payload.inf, payload.n, payload.u, payload.b],
      [null, null, null, 4294967295, true]);
  });
  assert.match(verdicts[0].text, /"i":-9223372036854775808,/);
});

test("numbers of params come back as they were", () => {
  const values = [...numbers(150n)];
  for (let e = 20; e < 60; e++) values.push(Number(`1.2345678901234567e${e}`), Number(`7e-${e}`));
  for (const least of values) {
    assert.equal(open({ params: { least } }).event(event("params")).payload.least, least);
  }
});

test("params are read strictly", () => {
  const word = '"\\/\b\f\n\r\t\u0000\u001fé😀';
  const given = { least: 1e-3, count: -(2n ** 63n), strict: true, word };
  const { text, payload } = open({ params: given }).event(event("params"));
  assert.match(text, /"count":-9223372036854775808,/);
  assert.deepEqual({ ...payload, count: given.count }, given);
  assert.deepEqual(open().event(event("params")).payload,
    { least: 0, count: -3, strict: false, word: 'a\\"b"\n' });
  for (const [params, want] of [
    [{}, /param "least"/],
    [{ least: "1" }, /param "least" .*expected f64/],
    [{ least: true }, /param "least" .*expected f64/],
    [{ least: 0, count: 1.5 }, /param "count" .*expected i64/],
    [{ least: 0, count: 2n ** 63n }, /param "count" .*expected i64/],
    [{ least: 0, strict: 1 }, /param "strict" .*expected bool/],
    [{ least: 0, word: 5 }, /param "word" .*expected utf8/],
    [{ least: 0, other: 1 }, /param "other" is not declared/],
  ]) {
    assert.throws(() => open({ params }), want);
  }
});

test("a failure says where, and leaves nothing", () => {
  const rule = open();
  const add = event("sum", { key: "u1" });
  const failing = [add, event("fail", { key: "u1" }), add, event("index", { s: "é", i: 2 })];
  assert.equal(rule.event(add).code, 1);
  const got = rule.batch(failing);
  assert.deepEqual(got.map((v) => v.code), [2, 0, 3, 0]);
  assert.deepEqual(got.map((v) => v.error), [undefined, "trap", undefined, "trap"]);
  assert.match(got[1].logs[0], /^error after a change \(.*everything\.ts:\d+:\d+\)$/);
  assert.match(got[3].logs[0], /^error index outside of a text \(.*text\.ts:\d+:\d+\)$/);
  assert.equal(rule.event(event("index", { s: "é", i: 1 })).code, 0xa9);
  const thrown = rule.event(event("throw", { s: "ö" }));
  assert.match(thrown.logs[0], /^error no good: ö \(.*everything\.ts:\d+:\d+\)$/);
  assert.equal(rule.event(event("negative")).error, "bad_verdict");
  assert.deepEqual(rule.event(event("log", { s: "😀" })).logs, ["warn ü😀"]);
});

test("counters slide, by key and what divides it", () => {
  const rule = open();
  const add = (key, f, s) => rule.event(event("sum", { key, f, s })).code;
  const later = (ms, ...args) => rule.after(ms) && add(...args);
  assert.deepEqual([add("u1", 5), add("u1", 2, "x"), add("u1", 2, "x")], [5, 2, 4]);
  assert.deepEqual([later(30_000, "u1", 3, ""), later(30_000, "u1", 1)], [8, 4]);
  assert.equal(rule.event(event("asked", { key: "u1" })).code, 4);
  const ahead = event("asked", { key: "u3", time: "2026-01-01T01:00:00Z" });
  assert.deepEqual([add("u3", 1), rule.event(ahead).code, add("u3", 1)], [1, 0, 0]); // it moved on
  assert.deepEqual([add(undefined, 1), add("u1", 1, "x".repeat(257)), add("u2", 1)], [9, 9, 1]);
  const late = event("sum", { key: "u2", time: "2025-12-31T00:00:00Z" });
  assert.equal(rule.event(late).code, 1);
  const day = event("day", { key: "u1", time: "2025-01-01T00:00:00Z" });
  assert.equal(rule.event(day).code, 1);
  assert.equal(rule.event({ ...day, time: "2026-01-01T00:00:00.5+01:00" }).code, 2);
  assert.equal(rule.after(86_400_000).event(day).code, 1);
});

test("other states", () => {
  const rule = open();
  const say = (what, s, f) => rule.event(event(what, { key: "k", s, f })).code;
  const cards = ["a", "a", "b", "c", "x".repeat(257)].map((s) => say("cards", s));
  assert.deepEqual(cards, [11, 11, 12, 12, 5]); // 10 and TOO_LARGE
  assert.equal(rule.after(60_000) && say("cards", "c"), 11);
  assert.equal(rule.event(event("cards", { s: "a" })).code, 8); // 10 and NO_KEY
  assert.deepEqual([say("first"), say("first"), say("first", "x")], [1, 2, 1]);
  assert.equal(rule.after(1000) && say("first"), 1);
  assert.equal(rule.event(event("first")).code, 9);
  assert.deepEqual([say("get"), say("delete"), say("set", "é-=-=-="), say("set", "too large")],
    [2, 2, 10, 5]);
  const at = Date.UTC(2026, 0, 1, 0, 1, 1) * 1e6;
  assert.deepEqual(rule.event(event("get", { key: "k" })).payload, { value: "é-=-=-=", at });
  assert.deepEqual([rule.event(event("get")).code, say("delete"), say("get")], [9, 1, 2]);
  const kept = [say("number", "x", 42.5), say("number", "x", 1), say("number", "y")];
  assert.deepEqual(kept, [7, 42, 7]);
  assert.deepEqual([say("position"), say("position"), say("position")], [1, 11, 22]);
});

// Evaluates one batch again and again, with a host that answers 0.
function repeat(code, rows, batches) {
  const module = new WebAssembly.Module(code);
  const zero = { emit: () => 0, log: () => {}, state_add: () => 1 };
  const { exports: rule } = new WebAssembly.Instance(module, { wasmeval: zero });
  rule._initialize();
  const { manifest } = load(code);
  const all = rows.map((event) => ({ event, arrival: 0n, time: 0n }));
  const { bytes } = layOut(manifest.fields, all);
  const sizes = [];
  for (let n = 0; n < batches; n++) {
    if (n % (batches / 10) === 0) sizes.push(rule.memory.buffer.byteLength);
    const place = rule.wasmeval_input(bytes.length);
    if (n < 2) new Uint8Array(rule.memory.buffer, place, bytes.length).set(bytes);
    assert.equal(rule.wasmeval_evaluate(place), 0);
  }
  return [...sizes.slice(1), rule.memory.buffer.byteLength];
}

test("millions of batches do not grow memory", () => {
  const rows = Array.from({ length: 64 }, (_, n) => ({ a: n * 7.1, b: n, s: `text ${n}` }));
  const runs = [[loop, 2, 2_000_000], [compile("strings.ts"), 64, 2000]];
  for (const [code, some, batches] of runs) {
    const sizes = repeat(code, rows.slice(0, some), batches);
    assert.deepEqual([...new Set(sizes)], [sizes[0]]);
    assert.ok(sizes[0] <= 4 * 65536, `there are ${sizes[0]} bytes`);
  }
});

test("larger batches grow it once", () => {
  const rule = load(loop);
  const rows = Array.from({ length: 10_000 }, (_, n) => ({ a: 200, b: n }));
  assert.equal(rule.batch(rows).filter((v) => v.code === 1).length, 50);
  const before = rule.memoryBytes;
  for (let n = 1; n < 5; n++) rule.batch(rows.slice(n * 1900));
  assert.equal(rule.memoryBytes, before);
});

test("the rule and the test of README.md work", () => {
  inFolder((dir) => {
    mkdirSync(join(dir, "node_modules"));
    symlinkSync(root, join(dir, "node_modules", "wasmeval-rule"), "junction");
    writeFileSync(join(dir, "package.json"), '{"type":"module"}');
    const readme = readFileSync(join(root, "README.md"), "utf8");
    const blocks = [...readme.matchAll(/```\w+\n\/\/ (rule\S+)\n([^]*?)```/g)];
    assert.deepEqual(blocks.map((b) => b[1]), ["rule.ts", "rule.test.js"]);
    for (const [, name, text] of blocks) writeFileSync(join(dir, name), text);
    const [, options] = /npx asc rule.ts (.*) -o rule.wasm\n/.exec(readme);
    asc(dir, "rule.ts", ...options.split(" "), "-o", "rule.wasm");
    execFileSync(process.execPath, ["rule.test.js"], { cwd: dir, stdio: "pipe" });
  });
});
