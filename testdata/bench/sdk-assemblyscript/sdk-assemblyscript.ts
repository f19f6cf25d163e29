// build: asc sdk-assemblyscript.ts --config ../../../rules-sdk/assemblyscript/asconfig.json -o sdk-assemblyscript.wasm
// The loop over two columns that BenchmarkSDKLoop measures, as one writes it in AssemblyScript.
import { Field, each } from "../../../rules-sdk/assemblyscript/assembly";
export * from "../../../rules-sdk/assemblyscript/assembly/exports";

const a = new Field<f64>("a");
const b = new Field<f64>("b");

each((row) => i32(a.get(row) > 100 && b.get(row) < 50)); // a missing one is NaN
