import { emit } from "./host";
import { begin, close, element, open, set } from "./json";
import { log } from "./log";
import { Payload } from "./payload";
import { Bytes, putUtf8, sizeOf } from "./text";

/** What `emit` returns if the payload has more bytes than the server takes. */
export const EMIT_TOO_LARGE: i32 = 3;
/** What `emit` returns if the payload is not JSON, has a key twice in one object, or is nested too
 * deep. */
export const EMIT_NOT_JSON: i32 = 4;

let times: usize = 0; // where the arrival of each row of the batch stands

/** One event of the batch that is evaluated. It is not an object but a number in the guise of one,
 * so nothing is allocated for it; do not keep it after the function given to `each` returned. */
@unmanaged @final
export class Row {
  /** The event's place in its batch. */
  @inline
  get index(): i32 {
    return <i32>changetype<usize>(this);
  }

  /** When the event arrived, in nanoseconds since 1970-01-01 UTC. */
  get time(): i64 {
    return load<i64>(times + (changetype<usize>(this) << 3));
  }

  /** An empty JSON object to fill and emit for this event. There is one, which is emptied each
   * time. */
  payload(): Payload {
    begin();
    return changetype<Payload>(this);
  }

  /** Attaches a JSON value, a `string` or `Json`, to the event's verdict; a second one replaces the
   * first. With code 0 it is thrown away. Returns 0, `EMIT_TOO_LARGE` or `EMIT_NOT_JSON`. */
  emit<T>(json: T): i32 {
    if (isString<T>()) {
      const size = sizeOf(changetype<usize>(json));
      const room = size + (size >> 1); // three bytes at most for the two of a character
      const place = heap.alloc(room);
      const used = putUtf8(changetype<usize>(json), place, room);
      const code = emit(this.index, place, <i32>used);
      heap.free(place);
      return code;
    } else {
      const bytes = <Bytes>json;
      return emit(this.index, bytes.ptr, bytes.length);
    }
  }
}

// The types of columns, as the ABI numbers them.
const F64 = 1;
const I64 = 2;
const BOOL = 3;
const UTF8 = 4;
const JSON = 5;

/** The name of a type of column, or of parameter, in the manifest. */
export function kindName(kind: u32): string {
  switch (kind) {
    case F64: return "f64";
    case I64: return "i64";
    case BOOL: return "bool";
    case UTF8: return "utf8";
    default: return "json";
  }
}

/** The type of column, or of parameter, that holds a T. */
// @ts-ignore: decorator
@inline
export function kindOf<T>(): u32 {
  if (isBoolean<T>()) return BOOL;
  else if (isFloat<T>() && sizeof<T>() == 8) return F64;
  else if (isInteger<T>() && isSigned<T>() && sizeof<T>() == 8) return I64;
  else if (isString<T>()) return UTF8;
  else if (isReference<T>() && !isManaged<T>()) return changetype<T>(0).isJson ? JSON : UTF8;
  else ERROR("expected f64, i64, bool, string, Text or Json");
}

// @ts-ignore: decorator
@inline
function missing<T>(): T {
  if (isFloat<T>()) return <T>NaN;
  else if (isString<T>()) return changetype<T>("");
  else if (isReference<T>()) return changetype<T>(0);
  else return <T>0;
}

// @ts-ignore: decorator
@inline
function bit(bitmap: usize, i: usize): bool {
  return <bool>((<u32>load<u8>(bitmap + (i >> 3)) >> (<u32>i & 7)) & 1);
}

/** What fields of all types have. */
@unmanaged
export class Column {
  protected nulls: u32 = 0;
  protected validity: usize = 0;
  protected values: usize = 0;
  protected data: usize = 0;

  /** @internal */
  constructor(readonly kind: u32, protected view: Bytes) {}

  /** Whether the event has a value of the field's type. One that is missing, null or of another
   * type is not there. */
  @inline
  has(row: Row): bool {
    return !this.nulls || bit(this.validity, changetype<usize>(row));
  }

  /** The row's text, in place. @internal */
  show(row: Row): Bytes {
    const ends = this.values + (changetype<usize>(row) << 2);
    const from = load<i32>(ends);
    const view = this.view;
    view.ptr = this.data + <usize>from;
    view.length = load<i32>(ends, 4) - from;
    return view;
  }

  /** Takes the column of a batch, and tells whether it is of the field's type. @internal */
  bind(batch: usize, column: usize): bool {
    this.nulls = load<u32>(column, 4);
    this.validity = batch + load<u32>(column, 8);
    this.values = batch + load<u32>(column, 12);
    this.data = batch + load<u32>(column, 16);
    return load<u32>(column) == this.kind;
  }
}

const columns = new Array<Column>();
const paths = new Array<string>();

/** A field of the events that the rule reads. T says what it is read as: `f64`, `i64` (exact),
 * `bool`, `string`, `Text` (a string in place, which is cheaper), or `Json` (any value). Fields are
 * declared once, as global constants:
 *
 *     const amount = new Field<f64>("amount");
 */
@unmanaged
export class Field<T> extends Column {
  /** Declares the field. For paths see the ABI: `amount`, `user.id`, `items[0].price`; `@type`,
   * `@id`, `@source`, `@time` and `@key` of the envelope; or `$` for the whole event. `@time` as
   * i64 is in nanoseconds since 1970-01-01 UTC, as string RFC 3339. */
  constructor(path: string) {
    super(kindOf<T>(), new Bytes());
    paths.push(path);
    columns.push(this);
  }

  /** The event's value, or the fallback if it has none. Without a fallback that is NaN, 0, false or
   * an empty text. A `Text` or `Json` is valid until `get` is called again for this field. */
  @inline
  get(row: Row, fallback: T = missing<T>()): T {
    const i = changetype<usize>(row);
    if (isBoolean<T>()) {
      return this.has(row) ? bit(this.values, i) : fallback;
    } else if (isReference<T>()) {
      if (changetype<usize>(fallback) && !this.has(row)) return fallback;
      if (isString<T>()) return changetype<T>(this.show(row).toString());
      return changetype<T>(this.show(row));
    } else {
      return this.has(row) ? load<T>(this.values + (i << 3)) : fallback;
    }
  }

  /** Whether the event has this text there: `get(row) == text` without a copy. */
  @inline
  is(row: Row, text: string): bool {
    return this.has(row) && this.show(row).is(text);
  }
}


/** Writes the declared fields. @internal */
export function describeFields(): void {
  for (let i = 0; i < columns.length; i++) {
    element();
    open(false);
    set("path", paths[i]);
    set("type", kindName(columns[i].kind));
    close();
  }
}

/** Takes the columns and times of a batch; false if they are not those of the manifest.
 * @internal */
export function bindFields(batch: usize): bool {
  if (load<u32>(batch) != 1 || load<u32>(batch, 8) != columns.length) return refuse();
  times = batch + load<u32>(batch, 24);
  for (let i = 0, count = columns.length; i < count; i++) {
    if (!unchecked(columns[i]).bind(batch, batch + 40 + (<usize>i << 5))) return refuse();
  }
  return true;
}

function refuse(): bool {
  log.error("the batch is not one of version 1 with the columns of the manifest");
  return false;
}
