// What the server calls.
export {
  wasmeval_abi, wasmeval_configure, wasmeval_evaluate, wasmeval_input, wasmeval_manifest,
} from "./rule";
