;; build: wat2wasm -o startsection.wasm startsection.wat
;; Has a start section. Must be refused.
(module
  (memory (export "memory") 2)
  (data (i32.const 1024) "{\"match\":[\"*\"]}")
  (func (export "wasmeval_abi") (result i32) i32.const 1)
  (func (export "wasmeval_manifest") (result i64)
    i64.const 4398046511119) ;; 1024 << 32 | 15
  (func (export "wasmeval_input") (param $size i32) (result i32)
    i32.const 4096)
  (func (export "wasmeval_evaluate") (param $batch i32) (result i32)
    i32.const 0)
  (func $start)
  (start $start))
