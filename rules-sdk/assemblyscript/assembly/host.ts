// What the server offers; ../../ABI.md is the contract. The public names stand in other files.

// @ts-ignore: decorator
@external("wasmeval", "emit")
export declare function emit(row: i32, at: usize, size: i32): i32;

// @ts-ignore: decorator
@external("wasmeval", "log")
export declare function log(level: i32, at: usize, size: i32): void;

// @ts-ignore: decorator
@external("wasmeval", "state_add")
export declare function stateAdd(state: i32, row: i32, key: usize, keySize: i32, amount: f64): f64;

// @ts-ignore: decorator
@external("wasmeval", "state_distinct")
export declare function stateDistinct(
  state: i32, row: i32, key: usize, keySize: i32, value: usize, size: i32): i32;

// @ts-ignore: decorator
@external("wasmeval", "state_seen")
export declare function stateSeen(state: i32, row: i32, key: usize, keySize: i32): i64;

// @ts-ignore: decorator
@external("wasmeval", "state_set")
export declare function stateSet(
  state: i32, row: i32, key: usize, keySize: i32, value: usize, size: i32): i32;

// @ts-ignore: decorator
@external("wasmeval", "state_get")
export declare function stateGet(
  state: i32, row: i32, key: usize, keySize: i32, place: usize, size: i32): i32;

// @ts-ignore: decorator
@external("wasmeval", "state_time")
export declare function stateTime(state: i32, row: i32, key: usize, keySize: i32): i64;

// @ts-ignore: decorator
@external("wasmeval", "state_delete")
export declare function stateDelete(state: i32, row: i32, key: usize, keySize: i32): i32;
