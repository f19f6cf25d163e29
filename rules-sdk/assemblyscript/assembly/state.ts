import { Row } from "./field";
import {
  stateAdd, stateDelete, stateDistinct, stateGet, stateSeen, stateSet, stateTime,
} from "./host";
import { close, element, open, set } from "./json";
import { Bytes, putUtf8 } from "./text";

/** A second, in the milliseconds that windows and lives are given in. */
export const SECOND: i64 = 1000;
/** A minute in milliseconds. */
export const MINUTE: i64 = 60 * SECOND;
/** An hour in milliseconds. */
export const HOUR: i64 = 60 * MINUTE;
/** A day in milliseconds. */
export const DAY: i64 = 24 * HOUR;

/** Instead of an answer: there is nothing yet. */
export const NONE: i32 = -1;
/** Instead of an answer: the event has no key, and so no state. */
export const NO_KEY: i32 = -2;
/** Instead of an answer: the text given to `by` has more than 256 bytes, or the value more than the
 * state keeps. */
export const TOO_LARGE: i32 = -5;

/** What may be said of a state beside what it needs; 0 is the server's default. */
export class StateOptions {
  /** How many keys it keeps at most, 10,000 by default; with more, the one that was used longest
   * ago makes room. */
  keys: i32 = 0;
  /** Go by when events arrive, instead of by their own time. */
  byArrival: bool = false;
}

/** What may be said of a `Counter`. */
export class CounterOptions extends StateOptions {
  /** Into how many steps, 1 to 64, the window is divided, by which it slides. With 1, the default,
   * it tumbles: it begins anew each time its length has passed since 1970. */
  buckets: i32 = 0;
}

/** What may be said of a `Distinct`. */
export class DistinctOptions extends StateOptions {
  /** How many values it keeps at most, 1 to 64; 16 by default. */
  limit: i32 = 0;
}

/** What may be said of a `Seen`. */
export class SeenOptions extends StateOptions {
  /** After how many milliseconds a key is forgotten; 0 is never. */
  ttl: i64 = 0;
}

/** What may be said of a `Value`. */
export class ValueOptions extends StateOptions {
  /** After how many milliseconds it is forgotten; 0 is never. */
  ttl: i64 = 0;
  /** How many bytes it keeps at most, 1 to 256: for a string 64 by default, else what T needs. */
  bytes: i32 = 0;
}

const MOST: usize = 256; // bytes of a key or value
const names = new Array<string>();
const states = new Array<State>();

/** What all keyed states have. The server keeps them for each event key (its option `key` says
 * which field that is) from event to event, also when it replaces the instance or restarts. What a
 * batch that fails has changed is undone. */
@unmanaged
export class State {
  protected index: i32 = 0;
  protected key: usize = 0;
  protected keySize: i32 = 0;
  private divided: usize = 0; // the state that `by` gives
  private arrival: bool = false;
  private keys: i32 = 0;
  protected window: i64 = 0;
  protected ttl: i64 = 0;
  protected buckets: i32 = 0;
  protected limit: i32 = 0;
  protected bytes: i32 = 0;

  /** @internal */
  constructor(name: string, protected kind: usize, options: StateOptions) {
    this.index = states.length;
    this.keys = options.keys;
    this.arrival = options.byArrival;
    names.push(name);
    states.push(this);
  }

  /** Forgets what the state has for the event's key, and tells whether there was anything. */
  delete(row: Row): bool {
    return stateDelete(this.index, row.index, this.key, this.keySize) == 0;
  }

  /** The same state for a part of the event's key. @internal */
  protected part<K>(key: K): usize {
    if (!this.divided) {
      this.divided = heap.alloc(offsetof<State>() + MOST + 4);
      memory.copy(this.divided, changetype<usize>(this), offsetof<State>());
    }
    const part = changetype<State>(this.divided);
    part.key = this.divided + offsetof<State>();
    part.keySize = encode<K>(key, part.key);
    return this.divided;
  }

  /** Writes it for the manifest. @internal */
  describe(): void {
    set("kind", changetype<string>(this.kind));
    if (this.window) set("window_ms", this.window);
    if (this.buckets) set("buckets", this.buckets);
    if (this.limit) set("limit", this.limit);
    if (this.bytes) set("bytes", this.bytes);
    if (this.ttl) set("ttl_ms", this.ttl);
    if (this.keys) set("keys", this.keys);
    if (this.arrival) set("time", "arrival");
  }
}

/** Writes the declared states. @internal */
export function describeStates(): void {
  for (let i = 0; i < states.length; i++) {
    element();
    open(false);
    set("name", names[i]);
    states[i].describe();
    close();
  }
}

/** Copies a string or `Text` to a place of MOST + 4 bytes, and gives its size. Of one that is too
 * large there is just enough for the server to see that. */
function encode<T>(text: T, place: usize): i32 {
  if (isString<T>()) {
    return <i32>putUtf8(changetype<usize>(text), place, MOST + 4);
  } else {
    const bytes = <Bytes>text;
    const size = min(<usize>bytes.length, MOST + 1);
    memory.copy(place, bytes.ptr, size);
    return <i32>size;
  }
}

const scratch = memory.data(264, 8); // a value on its way

/** A sum over a window for each key:
 *
 *     const declined = new Counter("declined", MINUTE, { buckets: 60 });
 */
@unmanaged
export class Counter extends State {
  /** Declares a counter with a window of milliseconds. Names of states are unique in a rule. */
  constructor(name: string, window: i64, options: CounterOptions = {}) {
    super(name, changetype<usize>("counter"), options);
    this.window = window;
    this.buckets = options.buckets;
  }

  /** The counter of a part of the event's key, a string or `Text`; valid until the next `by`. */
  by<K>(key: K): Counter {
    return changetype<Counter>(this.part<K>(key));
  }

  /** Adds an amount at the event's time and returns the sum over the window, or NaN if the event
   * has no key or the amount is not finite. Nothing is added if the event is older than the
   * window. */
  @inline
  add(row: Row, amount: f64 = 1): f64 {
    return stateAdd(this.index, row.index, this.key, this.keySize, amount);
  }

  /** The sum over the window that ends with the event's time; NaN if the event has no key. */
  @inline
  sum(row: Row): f64 {
    return this.add(row, 0);
  }
}

/** How many different values came within a window, for each key. */
@unmanaged
export class Distinct extends State {
  /** Declares it with a window of milliseconds: a value that has not come for so long is
   * forgotten. */
  constructor(name: string, window: i64, options: DistinctOptions = {}) {
    super(name, changetype<usize>("distinct"), options);
    this.window = window;
    this.limit = options.limit;
  }

  /** The values of a part of the event's key, a string or `Text`; valid until the next `by`. */
  by<K>(key: K): Distinct {
    return changetype<Distinct>(this.part<K>(key));
  }

  /** Adds a value, a string or `Text` of at most 256 bytes, and returns how many different ones the
   * window has; `NO_KEY` or `TOO_LARGE`. */
  add<V>(row: Row, value: V): i32 {
    const size = encode<V>(value, scratch);
    return stateDistinct(this.index, row.index, this.key, this.keySize, scratch, size);
  }
}

/** When a key came first. */
@unmanaged
export class Seen extends State {
  /** Declares it. */
  constructor(name: string, options: SeenOptions = {}) {
    super(name, changetype<usize>("seen"), options);
    this.ttl = options.ttl;
  }

  /** The memory of a part of the event's key, a string or `Text`; valid until the next `by`. */
  by<K>(key: K): Seen {
    return changetype<Seen>(this.part<K>(key));
  }

  /** Notes that the event's key came. `NONE` the first time; else when that was, in nanoseconds
   * since 1970-01-01 UTC; or `NO_KEY`. */
  @inline
  mark(row: Row): i64 {
    return stateSeen(this.index, row.index, this.key, this.keySize);
  }
}

/** A value of the rule's own for each key. T is a number, `bool`, `string`, or a class of numbers
 * that is `@unmanaged`, which the server keeps as it stands in memory:
 *
 *     @unmanaged class Position { lat: f64; lon: f64 }
 *     const last = new Value<Position>("last", { ttl: HOUR });
 */
@unmanaged
export class Value<T> extends State {
  /** Declares it. */
  constructor(name: string, options: ValueOptions = {}) {
    super(name, changetype<usize>("value"), options);
    this.ttl = options.ttl;
    this.bytes = options.bytes || sizeOfValue<T>();
  }

  /** The value of a part of the event's key, a string or `Text`; valid until the next `by`. */
  by<K>(key: K): Value<T> {
    return changetype<Value<T>>(this.part<K>(key));
  }

  /** Whether there is a value; not if the event has no key. */
  has(row: Row): bool {
    return stateGet(this.index, row.index, this.key, this.keySize, scratch, 0) >= 0;
  }

  /** The value that was set last, or the fallback if there is none or the event has no key. An
   * object is valid until a state is used again; as its fallback take a global constant, since what
   * is `@unmanaged` is never collected. */
  get(row: Row, fallback: T): T {
    const size = stateGet(this.index, row.index, this.key, this.keySize, scratch, <i32>MOST);
    if (size < 0) return fallback;
    if (isString<T>()) return changetype<T>(String.UTF8.decodeUnsafe(scratch, <usize>size));
    else if (isReference<T>()) return changetype<T>(scratch);
    else return load<T>(scratch);
  }

  /** Keeps a value. Returns 0, `NO_KEY` or `TOO_LARGE`. */
  set(row: Row, value: T): i32 {
    let from = scratch;
    let size = sizeOfValue<T>();
    if (isString<T>()) size = encode<T>(value, scratch);
    else if (isReference<T>()) from = changetype<usize>(value);
    else store<T>(scratch, value);
    return stateSet(this.index, row.index, this.key, this.keySize, from, size);
  }

  /** When the value was set, in nanoseconds since 1970-01-01 UTC; `NONE` or `NO_KEY`. */
  @inline
  time(row: Row): i64 {
    return stateTime(this.index, row.index, this.key, this.keySize);
  }
}

// @ts-ignore: decorator
@inline
function sizeOfValue<T>(): i32 {
  if (isString<T>()) return 64;
  else if (!isReference<T>()) return <i32>sizeof<T>();
  else if (!isManaged<T>()) return <i32>offsetof<T>();
  else ERROR("expected a number, bool, string or @unmanaged class");
}
