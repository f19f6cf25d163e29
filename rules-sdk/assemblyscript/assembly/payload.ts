import { Field, Row } from "./field";
import { emit } from "./host";
import { close, element, finish, member, open, put, putText, written, writtenSize } from "./json";

/** Builds a JSON object member by member; `Row.payload` gives it. Nothing is allocated once its
 * buffer has grown.
 *
 *     row.payload().set("amount", amount.get(row)).copy("user", user).emit();
 */
@unmanaged @final
export class Payload {
  /** Adds a member. A number, bool or string becomes the same in JSON, `Text` a string, `Json` what
   * it is; NaN, Infinity and null become null. */
  @inline
  set<T>(key: string, value: T): Payload {
    member(changetype<usize>(key));
    put<T>(value);
    return this;
  }

  /** Adds an element to the array that `array` began. */
  @inline
  add<T>(value: T): Payload {
    element();
    put<T>(value);
    return this;
  }

  /** Adds a member with the event's value of a field, as long as it has one. */
  copy<T>(key: string, field: Field<T>): Payload {
    const row = changetype<Row>(this);
    if (!field.has(row)) return this;
    member(changetype<usize>(key));
    if (isString<T>()) {
      const text = field.show(row);
      putText(text.ptr, <usize>text.length);
    } else {
      put<T>(field.get(row));
    }
    return this;
  }

  /** Begins an object that `end` ends. As an element of an array it has no key. */
  object(key: string = ""): Payload {
    member(changetype<usize>(key));
    open(false);
    return this;
  }

  /** Begins an array that `end` ends. */
  array(key: string = ""): Payload {
    member(changetype<usize>(key));
    open(true);
    return this;
  }

  /** Ends the innermost object or array that is open. */
  end(): Payload {
    close();
    return this;
  }

  /** Ends everything that is open, and attaches the object to its event's verdict. A second one
   * replaces the first; with code 0 it is thrown away. Returns 0, `EMIT_TOO_LARGE` or
   * `EMIT_NOT_JSON`. */
  emit(): i32 {
    finish();
    return emit(<i32>changetype<usize>(this), written(), <i32>writtenSize());
  }
}
