/**
 * Runs a rule's module without a server, for tests of rules with node:
 *
 * ```js
 * import assert from "node:assert";
 * import { load } from "wasmeval-rule/testing";
 *
 * const rule = load("bursts.wasm", { params: { limit: 1 }, key: "user" });
 * assert.equal(rule.event({ type: "payment.declined", user: "u1" }).code, 0);
 * rule.after(30_000);
 * assert.deepEqual(rule.event({ type: "payment.declined", user: "u1" }).payload, { count: 2 });
 * ```
 *
 * The clock begins at 2026-01-01T00:00:00Z and stands still but for `after`. An event arrives at
 * that time, and has it for its own if it names none; keyed state goes by the events' own time.
 * There are no limits but those of the ABI: no fuel, so a rule that never returns does not return
 * here either.
 *
 * @module
 */

/** A value of JSON. A bigint is a number, for integers beyond 2^53. */
export type Value =
  | null | boolean | number | bigint | string | Value[] | { [key: string]: Value | undefined };

/** An event: a JSON object. A member that is undefined is left out. */
export type Event = { [key: string]: Value | undefined };

/** The paths of the envelope's fields; "" is none. */
export interface Fields {
  /** Where an event's id is; `id` by default. */
  id?: string;
  /** Where its type is; `type` by default. */
  type?: string;
  /** Where its source is; `source` by default. */
  source?: string;
  /** Where its time is, in RFC 3339; `time` by default. */
  time?: string;
  /** Where its key is; by default there is none, and so no keyed state. */
  key?: string;
}

/** How a rule is loaded. */
export interface Options extends Fields {
  /** The parameters that differ from their defaults. */
  params?: { [name: string]: boolean | number | bigint | string };
}

/** What the rule said of an event. */
export interface Verdict {
  /** 0 does not match, above 0 is the rule's own code. */
  code: number;
  /** Whether the rule's `match` names the event; if not, the rule has not seen it. */
  matched: boolean;
  /** The payload, parsed; undefined if there is none. */
  payload?: any;
  /** The payload as the rule wrote it. */
  text?: string;
  /**
   * Why there is no verdict: `trap` (the rule threw an error), `stack_overflow`, `bad_verdict` (a
   * code below 0) or `failed`. What the event had changed in keyed state is undone.
   */
  error?: "trap" | "stack_overflow" | "bad_verdict" | "failed";
  /** The error of the call that failed. */
  cause?: Error;
  /** The lines logged by the call that evaluated the event, each with its level before it. */
  logs: string[];
}

/** A rule that is loaded. */
export class Rule {
  /** See `load`. */
  constructor(source: string | URL | Uint8Array, options?: Options);
  /** The manifest that the rule declares. */
  readonly manifest: any;
  /** How much memory the instance has. */
  readonly memoryBytes: number;
  /** Moves the clock on. */
  after(milliseconds: number): this;
  /** Evaluates an event. */
  event(event: Event): Verdict;
  /**
   * Evaluates events in one call, as the server does with what came together. If that fails, each
   * is evaluated alone.
   */
  batch(events: Event[]): Verdict[];
}

/**
 * Loads a rule from a file or its bytes. It throws where the server would refuse the module or the
 * parameters; the message has what the rule logged.
 */
export function load(source: string | URL | Uint8Array, options?: Options): Rule;
