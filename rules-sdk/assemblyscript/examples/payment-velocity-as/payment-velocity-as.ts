// build: asc payment-velocity-as.ts --config ../../asconfig.json -o payment-velocity-as.wasm
// Code 1 for more than a number of declined payments of one user in a minute, code 2 if they were
// also made with one card. The user is the event's key.
import { Counter, describe, each, Field, match, MINUTE, Param, Row, Text } from "../../assembly";

export * from "../../assembly/exports";

describe("many declined payments of one user in a minute (1), of one card (2)");
match("payment.declined");

const card = new Field<Text>("card.last4");
const limit = new Param<i64>("limit", 5, "declined payments in a minute that pass");
const declined = new Counter("declined", MINUTE, { buckets: 60 });

each((row: Row): i32 => {
  const count = declined.add(row);
  // Without a key the count is NaN: there is nobody to count for.
  const ofUser = count > <f64>limit.value;
  let ofCard = false;
  if (card.has(row)) ofCard = declined.by(card.get(row)).add(row) > <f64>limit.value;
  if (!ofUser) return 0;
  row.payload().set("count", count).copy("card", card).emit();
  return ofCard ? 2 : 1;
});
