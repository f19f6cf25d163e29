// What the server does for a rule: payloads, log and keyed state. It has no limits but those of the
// ABI and the server's default size of a payload.
const NONE = -1;
const NO_KEY = -2;
const NO_STATE = -3;
const OUTSIDE = -4;
const TOO_LARGE = -5;

const payloadBytes = 16384;
const stateBytes = 256; // of a key or value
const levels = ["debug", "info", "warn", "error"];
const utf8 = new TextDecoder("utf-8", { fatal: true });

export class Host {
  memory;
  states = []; // of the manifest
  logs = [];
  payloads = new Map(); // row to JSON
  #rows = [];
  #kept = new Map(); // what a state keeps for a key
  #before = new Map(); // of the same, before this call changed it

  begin(rows) {
    this.#rows = rows;
    this.logs = [];
    this.payloads = new Map();
    this.#before = new Map();
  }

  undo() {
    for (const [id, kept] of this.#before) {
      if (kept) this.#kept.set(id, kept);
      else this.#kept.delete(id);
    }
    this.#before = new Map();
  }

  imports() {
    const bind = (f) => f.bind(this);
    return {
      emit: bind(this.#emit),
      log: bind(this.#log),
      state_add: bind(this.#add),
      state_distinct: bind(this.#distinct),
      state_seen: bind(this.#seen),
      state_set: bind(this.#set),
      state_get: bind(this.#get),
      state_time: bind(this.#time),
      state_delete: bind(this.#delete),
    };
  }

  // Bytes of the rule's memory, undefined if they are not all inside.
  #bytes(place, size) {
    const buffer = this.memory.buffer;
    if ((place >>> 0) + (size >>> 0) > buffer.byteLength) return undefined;
    return new Uint8Array(buffer, place >>> 0, size >>> 0);
  }

  text(place, size) {
    const bytes = this.#bytes(place, size);
    if (!bytes) throw new Error("a text is outside of the memory");
    return utf8.decode(bytes);
  }

  #emit(row, place, size) {
    if (row < 0 || row >= this.#rows.length) return 1;
    const bytes = this.#bytes(place, size);
    if (!bytes) return 2;
    if (bytes.length > payloadBytes) return 3;
    const text = strictJSON(bytes);
    if (text === undefined) return 4;
    this.payloads.set(row, text);
    return 0;
  }

  #log(level, place, size) {
    const bytes = this.#bytes(place, size);
    if (bytes) this.logs.push(`${levels[level] ?? "error"} ${new TextDecoder().decode(bytes)}`);
  }

  // Finds what a state keeps for the row's key. `code` is below 0 if that cannot be asked; `kept`
  // is undefined if nothing is kept; `now` is the row's time in steps of the state.
  #find(kind, index, row, key, keySize) {
    const state = this.states[index];
    const event = this.#rows[row];
    if (!state || !event || (kind && state.kind !== kind)) return { code: NO_STATE };
    const bytes = this.#bytes(key, keySize);
    if (!bytes) return { code: OUTSIDE };
    if (bytes.length > stateBytes) return { code: TOO_LARGE };
    if (event.key === undefined) return { code: NO_KEY };
    const { step, life } = stepsOf(state);
    const id = `${index} ${event.key} ${Buffer.from(bytes).toString("hex")}`;
    const time = state.time === "arrival" ? event.arrival : event.time;
    const now = time / step;
    const kept = this.#kept.get(id);
    // The window of a counter moves on by itself, also when it is only asked.
    const gone = !kept || (kind !== "counter" && life > 0n && now - kept.at >= life);
    return { code: 0, state, id, now, time, life, kept: gone ? undefined : kept };
  }

  // Notes what is kept before it changes, and keeps something else.
  #keep(id, kept) {
    if (!this.#before.has(id)) this.#before.set(id, this.#kept.get(id));
    if (kept) this.#kept.set(id, kept);
    else this.#kept.delete(id);
  }

  #add(index, row, key, keySize, amount) {
    const { code, id, now, life, kept } = this.#find("counter", index, row, key, keySize);
    if (code < 0 || !Number.isFinite(amount)) return NaN;
    if (!kept && amount === 0) return 0;
    const newest = kept && kept.at > now ? kept.at : now;
    const buckets = new Map(kept?.buckets);
    for (const bucket of buckets.keys()) if (newest - bucket >= life) buckets.delete(bucket);
    if (newest - now < life) buckets.set(now, (buckets.get(now) ?? 0) + amount);
    this.#keep(id, { at: newest, buckets });
    return [...buckets.values()].reduce((sum, v) => sum + v, 0);
  }

  #distinct(index, row, key, keySize, place, size) {
    const { code, state, id, now, life, kept } = this.#find("distinct", index, row, key, keySize);
    if (code < 0) return code;
    const bytes = this.#bytes(place, size);
    if (!bytes) return OUTSIDE;
    if (bytes.length > stateBytes) return TOO_LARGE;
    const newest = kept && kept.at > now ? kept.at : now;
    const value = Buffer.from(bytes).toString("hex");
    const values = new Map(kept?.values);
    if (!values.has(value) || values.get(value) < now) values.set(value, now);
    for (const [v, last] of values) if (newest - last >= life) values.delete(v);
    if (values.size > (state.limit ?? 16)) {
      const oldest = [...values].reduce((a, b) => (b[1] < a[1] ? b : a));
      values.delete(oldest[0]);
    }
    this.#keep(id, { at: newest, values });
    return values.size;
  }

  #seen(index, row, key, keySize) {
    const { code, id, now, kept } = this.#find("seen", index, row, key, keySize);
    if (code < 0) return BigInt(code);
    if (kept) return kept.at;
    this.#keep(id, { at: now });
    return BigInt(NONE);
  }

  #set(index, row, key, keySize, place, size) {
    const { code, state, id, now } = this.#find("value", index, row, key, keySize);
    if (code < 0) return code;
    const bytes = this.#bytes(place, size);
    if (!bytes) return OUTSIDE;
    if (bytes.length > (state.bytes ?? 64)) return TOO_LARGE;
    this.#keep(id, { at: now, bytes: bytes.slice() });
    return 0;
  }

  #get(index, row, key, keySize, place, size) {
    const { code, kept } = this.#find("value", index, row, key, keySize);
    if (code < 0) return code;
    if (!kept) return NONE;
    const room = this.#bytes(place, size);
    if (!room) return OUTSIDE;
    room.set(kept.bytes.subarray(0, room.length));
    return kept.bytes.length;
  }

  #time(index, row, key, keySize) {
    const { code, kept } = this.#find("value", index, row, key, keySize);
    if (code < 0) return BigInt(code);
    return kept ? kept.at : BigInt(NONE);
  }

  #delete(index, row, key, keySize) {
    const { code, id, kept } = this.#find("", index, row, key, keySize);
    if (code < 0) return code;
    this.#keep(id, undefined);
    return kept ? 0 : NONE;
  }
}

// The length of a step of the state's time in nanoseconds, and how many of them an entry lives, 0
// for good.
function stepsOf(state) {
  const window = BigInt(state.window_ms ?? 0) * 1_000_000n;
  switch (state.kind) {
    case "counter": {
      const buckets = BigInt(state.buckets ?? 1);
      return { step: window / buckets, life: buckets };
    }
    case "distinct":
      return { step: 1n, life: window };
    default:
      return { step: 1n, life: BigInt(state.ttl_ms ?? 0) * 1_000_000n };
  }
}

// The text of JSON that the server would take, else undefined.
function strictJSON(bytes) {
  try {
    const text = utf8.decode(bytes);
    const { members, depth } = measure(JSON.parse(text));
    // Of a key that is in one object twice, only one is left after parsing.
    const colons = text.replace(/"(?:[^"\\]|\\.)*"/g, "").split(":").length - 1;
    return members === colons && depth <= 64 ? text : undefined;
  } catch {
    return undefined;
  }
}

function measure(value) {
  if (value === null || typeof value !== "object") return { members: 0, depth: 0 };
  const parts = Object.values(value).map(measure);
  return {
    members: parts.reduce((n, p) => n + p.members, Array.isArray(value) ? 0 : parts.length),
    depth: 1 + Math.max(0, ...parts.map((p) => p.depth)),
  };
}
