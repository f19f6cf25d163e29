// The names that rules use. ../README.md begins with a whole rule.
export { EMIT_NOT_JSON, EMIT_TOO_LARGE, Field, Row } from "./field";
export { quote } from "./json";
export { log } from "./log";
export { Param, unquote } from "./param";
export { Payload } from "./payload";
export { describe, each, match } from "./rule";
export {
  Counter, CounterOptions, DAY, Distinct, DistinctOptions, HOUR, MINUTE, NONE, NO_KEY, SECOND, Seen,
  SeenOptions, TOO_LARGE, Value, ValueOptions,
} from "./state";
export { Json, Text } from "./text";
