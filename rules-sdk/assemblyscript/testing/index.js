// Runs a rule's module without a server: events in, verdicts out. index.d.ts documents it.
import { readFileSync } from "node:fs";
import { layOut } from "./batch.js";
import { at, stringify } from "./event.js";
import { Host } from "./host.js";
import { formatTime, parseTime } from "./time.js";

const needed = {
  memory: WebAssembly.Memory,
  wasmeval_abi: Function,
  wasmeval_manifest: Function,
  wasmeval_input: Function,
  wasmeval_evaluate: Function,
};

export function load(source, options = {}) {
  return new Rule(source, options);
}

export class Rule {
  #module;
  #host;
  #fields;
  #params;
  #exports;
  #clock = parseTime("2026-01-01T00:00:00Z");

  constructor(source, { params = {}, ...fields } = {}) {
    const code = source instanceof Uint8Array ? source : readFileSync(source);
    this.#module = new WebAssembly.Module(code);
    this.#fields = { id: "id", type: "type", source: "source", time: "time", key: "", ...fields };
    this.#host = new Host();
    this.#checkShape();
    this.#start();
    this.manifest = this.#readManifest();
    this.#host.states = this.manifest.state ?? [];
    this.#params = this.#allParams(params);
    this.#configure();
  }

  get memoryBytes() {
    return this.#exports.memory.buffer.byteLength;
  }

  after(milliseconds) {
    this.#clock += BigInt(Math.round(milliseconds * 1e6));
    return this;
  }

  event(event) {
    return this.batch([event])[0];
  }

  batch(events) {
    const rows = events.map((event) => this.#envelope(event));
    const wanted = rows.map((row) => this.#matches(row.type));
    const verdicts = this.#evaluate(rows.filter((_, i) => wanted[i])).values();
    return wanted.map((is) => (is ? verdicts.next().value : { code: 0, matched: false, logs: [] }));
  }

  #checkShape() {
    const known = new Host().imports();
    for (const { module, name } of WebAssembly.Module.imports(this.#module)) {
      if (module !== "wasmeval" || !known[name]) {
        throw new Error(`the module imports "${module}" "${name}", which there is not`);
      }
    }
    const exported = WebAssembly.Module.exports(this.#module).map((e) => e.name);
    for (const name of Object.keys(needed)) {
      if (!exported.includes(name)) throw new Error(`the module does not export "${name}"`);
    }
  }

  #start() {
    const { exports } = new WebAssembly.Instance(this.#module, { wasmeval: this.#host.imports() });
    this.#exports = exports;
    this.#host.memory = exports.memory;
    this.#ready("make the module ready", () => {
      exports._initialize?.();
      if (exports.wasmeval_abi() !== 1) throw new Error("wasmeval_abi does not return 1");
    });
  }

  // Says of a failure also what the rule logged, which is the reason mostly.
  #ready(verb, f) {
    this.#host.logs = [];
    try {
      return f();
    } catch (error) {
      const text = [error.message, ...this.#host.logs].join("\n");
      throw new Error(`cannot ${verb}: ${text}`, { cause: error });
    }
  }

  #readManifest() {
    return this.#ready("read the manifest", () => {
      const place = BigInt.asUintN(64, this.#exports.wasmeval_manifest());
      return JSON.parse(this.#host.text(Number(place >> 32n), Number(place & 0xffffffffn)));
    });
  }

  #allParams(given) {
    const declared = this.manifest.params ?? [];
    for (const name of Object.keys(given)) {
      if (declared.some((p) => p.name === name)) continue;
      throw new Error(`param "${name}" is not declared`);
    }
    const all = {};
    for (const p of declared) {
      const value = given[p.name] ?? p.default;
      if (value === undefined) throw new Error(`param "${p.name}" has no default: give a value`);
      all[p.name] = value;
    }
    return new TextEncoder().encode(stringify(all));
  }

  #configure() {
    if (!this.#exports.wasmeval_configure) return;
    this.#ready("take the parameters", () => {
      const place = this.#put(this.#params);
      if (this.#exports.wasmeval_configure(place, this.#params.length) !== 0) {
        throw new Error("the rule refuses them");
      }
    });
  }

  // Writes bytes where the rule wants its input.
  #put(bytes) {
    const place = this.#exports.wasmeval_input(bytes.length) >>> 0;
    if (place === 0) throw new Error("the rule has no room for its input");
    new Uint8Array(this.#exports.memory.buffer, place, bytes.length).set(bytes);
    return place;
  }

  #envelope(event) {
    const text = (path) => {
      const v = path && at(event, path);
      return typeof v === "string" && v !== "" ? v : undefined;
    };
    const key = this.#fields.key && at(event, this.#fields.key);
    const isNumber = typeof key === "number" || typeof key === "bigint";
    const time = text(this.#fields.time);
    return {
      event,
      id: text(this.#fields.id),
      type: text(this.#fields.type),
      source: text(this.#fields.source),
      key: isNumber ? String(key) : text(this.#fields.key),
      time: time === undefined ? this.#clock : parseTime(time),
      timeText: time ?? formatTime(this.#clock),
      arrival: this.#clock,
    };
  }

  #matches(type) {
    const patterns = this.manifest.match ?? [];
    if (patterns.length === 0) return true;
    return patterns.some((p) => {
      if (p === "*" || p === type) return true;
      return p.endsWith("*") && (type ?? "").startsWith(p.slice(0, -1)) && type !== undefined;
    });
  }

  // Evaluates rows as one batch; if that fails, one by one, so that only what causes it has an
  // error.
  #evaluate(rows) {
    if (rows.length === 0) return [];
    try {
      return this.#call(rows);
    } catch (error) {
      this.#host.undo();
      const logs = this.#host.logs;
      this.#start(); // a fresh instance
      this.#configure();
      if (rows.length > 1) return rows.flatMap((row) => this.#evaluate([row]));
      return [{ code: 0, matched: true, logs, error: kindOf(error), cause: error }];
    }
  }

  #call(rows) {
    const host = this.#host;
    host.begin(rows);
    const { bytes, verdicts } = layOut(this.manifest.fields ?? [], rows);
    const place = this.#put(bytes);
    const result = this.#exports.wasmeval_evaluate(place);
    if (result !== 0) throw new Error(`wasmeval_evaluate returns ${result}`);
    const codes = new DataView(this.#exports.memory.buffer, place + verdicts);
    return rows.map((_, row) => {
      const code = codes.getInt32(4 * row, true);
      const verdict = { code: Math.max(code, 0), matched: true, logs: host.logs };
      if (code < 0) verdict.error = "bad_verdict";
      if (code > 0 && host.payloads.has(row)) {
        verdict.text = host.payloads.get(row);
        verdict.payload = JSON.parse(verdict.text);
      }
      return verdict;
    });
  }
}

function kindOf(error) {
  if (error instanceof RangeError) return "stack_overflow";
  return error instanceof WebAssembly.RuntimeError ? "trap" : "failed";
}
