// A rule that makes nothing.
import { each, Field } from "../../assembly";

export * from "../../assembly/exports";

const a = new Field<f64>("a");
const b = new Field<f64>("b");

each((row) => (a.has(row) && b.get(row, 60) < 50 && a.get(row) > 100 ? 1 : 0));
