// A rule that makes strings of every row, for what becomes of memory.
import { Counter, each, Field, MINUTE } from "../../assembly";

export * from "../../assembly/exports";

const a = new Field<f64>("a");
const s = new Field<string>("s");
const sum = new Counter("sum", MINUTE, { buckets: 60 });

each((row) => {
  const text = s.get(row) + "/" + a.get(row).toString();
  sum.by(text).add(row, a.get(row));
  row.payload().set("text", text).set("a", a.get(row)).copy("s", s).emit();
  return text.length;
});
