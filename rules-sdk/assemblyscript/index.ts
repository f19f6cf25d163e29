// What a rule imports from "wasmeval-rule".
export * from "./assembly/index";
