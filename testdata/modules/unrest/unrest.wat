;; build: wat2wasm -o unrest.wasm unrest.wat
;; Executes unreachable if the integer bad is 1. Every other event has code 1. Since it can change
;; its table, no snapshot can bring an instance of it back.
(module
  (memory (export "memory") 2)
  (table 1 funcref)
  (data (i32.const 1024) "{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")
  (func (export "wasmeval_abi") (result i32) i32.const 1)
  (func (export "wasmeval_manifest") (result i64)
    i64.const 4398046511144) ;; 1024 << 32 | 40
  (func (export "wasmeval_input") (param $size i32) (result i32)
    i32.const 65536)
  (func (export "wasmeval_evaluate") (param $batch i32) (result i32)
    (local $row i32)
    (loop $rows
      ;; the column's values stand at the offset that its descriptor has at 12, the verdicts at that
      ;; which the batch has at 12
      (i32.add (local.get $batch) (i32.load (i32.add (local.get $batch) (i32.const 52))))
      (i32.add (i32.shl (local.get $row) (i32.const 3)))
      (if (i64.eq (i64.load) (i64.const 1)) (then unreachable))
      (i32.add (local.get $batch) (i32.load (i32.add (local.get $batch) (i32.const 12))))
      (i32.add (i32.shl (local.get $row) (i32.const 2)))
      (i32.store (i32.const 1))
      (local.set $row (i32.add (local.get $row) (i32.const 1)))
      (br_if $rows (i32.lt_u (local.get $row)
        (i32.load (i32.add (local.get $batch) (i32.const 4))))))
    i32.const 0)
  (func $change
    (table.set 0 (i32.const 0) (ref.null func))))
