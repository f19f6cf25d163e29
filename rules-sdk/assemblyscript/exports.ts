// What the server calls. A rule's file has the line
//
//     export * from "wasmeval-rule/exports";
export * from "./assembly/exports";
