// build: rustc @../flags --crate-type rlib --crate-name wasmeval_rule -o libwasmeval_rule.rlib ../src/lib.rs && rustc @../flags --crate-type cdylib --extern wasmeval_rule=libwasmeval_rule.rlib -o conformance.wasm conformance.rs; rm -f libwasmeval_rule.rlib
//! The rule of rules-sdk/conformance, which touches every feature of the ABI.

use std::time::Duration;

use wasmeval_rule::{debug, error, info, rule, warn};
use wasmeval_rule::{
    Bool, Counter, Declare, Distinct, Error, JsonField, Param, Row, Rule, Seen, Utf8, Value,
    Window, F64, I64,
};

rule!(conformance);

// Rows that are not there cannot be had from the SDK.
#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "wasmeval")]
extern "C" {
    fn emit(row: usize, at: *const u8, size: usize) -> i32;
}

#[cfg(not(target_arch = "wasm32"))]
unsafe fn emit(_: usize, _: *const u8, _: usize) -> i32 {
    1
}

const MINUTE: Duration = Duration::from_secs(60);

struct Fields {
    op: Utf8,
    f: F64,
    i: I64,
    b: Bool,
    s: Utf8,
    j: JsonField,
    raw: JsonField,
    key: Utf8,
    kind: Utf8,
    time: I64,
    price: F64,
}

struct Params {
    limit: Param<f64>,
    count: Param<i64>,
    strict: Param<bool>,
    label: Param<&'static str>,
}

struct States {
    tumbling: Counter<'static>,
    sliding: Counter<'static>,
    cards: Distinct<'static>,
    last: Value<'static>,
    known: Seen<'static>,
}

fn conformance(d: &mut Declare) -> Rule {
    d.describe("conformance of an SDK").matches("conf.*").matches("exact");
    let fields = Fields {
        op: d.utf8("op"),
        f: d.f64("f"),
        i: d.i64("i"),
        b: d.bool("b"),
        s: d.utf8("s"),
        j: d.json("j"),
        raw: d.json("$"),
        key: d.utf8("@key"),
        kind: d.utf8("@type"),
        time: d.i64("@time"),
        price: d.f64("items[0].price"),
    };
    let params = Params {
        limit: d.param("limit", 10.0, ""),
        count: d.param("count", 3, ""),
        strict: d.param("strict", false, ""),
        label: d.param("label", "a \"b\"\né", ""),
    };
    let states = States {
        tumbling: d.state("tumbling").counter(Window::tumbling(MINUTE)),
        sliding: d.state("sliding").counter(Window::sliding(MINUTE, 60)),
        cards: d.state("cards").distinct(10 * MINUTE, 4),
        last: d.state("last").ttl(MINUTE).value(32),
        known: d.state("known").seen(),
    };
    Rule::each(move |row| {
        let op = fields.op.get(row)?;
        let code = fields.say(row, op);
        code.or_else(|| params.say(row, op, &fields)).or_else(|| states.say(row, op, &fields))
    })
}

impl Fields {
    fn say(&self, row: Row<'_>, op: &str) -> Option<i32> {
        Some(match op {
            "code" => self.i.get(row).map_or(1, |i| i as i32),
            "valid" => self.valid(row),
            "text" => self.s.get(row).map_or(0, str::len) as i32 + 1,
            "echo" => self.echo(row),
            "raw" => {
                let _ = row.emit(&self.raw.get(row)?);
                1
            }
            "twice" => {
                row.payload().set("n", 1).emit();
                row.payload().set("n", 2).emit();
                1
            }
            "unmatched" => {
                row.payload().set("n", 1).emit();
                0
            }
            // SAFETY: the server reads the bytes of an array that is constant.
            "emit-row" => 100 + unsafe { emit(65535, b"{}".as_ptr(), 2) },
            "emit-bad" => emitted(row.emit("{")),
            "emit-large" => emitted(row.emit(&["\"", &"x".repeat(20_000), "\""].concat())),
            "log" => {
                debug!("d");
                info!("i");
                warn!("w");
                error!("e");
                1
            }
            "trap" => panic!("trap"),
            #[allow(clippy::empty_loop)]
            "spin" => loop {},
            "deep" => deep(row.arrival()) as i32,
            _ => return None,
        })
    }

    fn valid(&self, row: Row<'_>) -> i32 {
        let valid = [
            self.f.get(row).is_some(),
            self.i.get(row).is_some(),
            self.b.get(row).is_some(),
            self.s.get(row).is_some(),
            self.j.get(row).is_some(),
            self.price.get(row).is_some(),
            self.key.get(row).is_some(),
            self.kind.get(row).is_some(),
            self.time.get(row).is_some(),
        ];
        valid.iter().enumerate().map(|(bit, yes)| i32::from(*yes) << bit).sum::<i32>() + 1024
    }

    fn echo(&self, row: Row<'_>) -> i32 {
        row.payload()
            .set("f", self.f.get(row))
            .set("i", self.i.get(row))
            .set("b", self.b.get(row))
            .set("s", self.s.get(row))
            .set("j", self.j.get(row))
            .set("key", self.key.get(row))
            .set("type", self.kind.get(row))
            .emit();
        1
    }
}

/// What `emit` returned, after rules-sdk/ABI.md.
fn emitted(result: Result<(), Error>) -> i32 {
    100 + match result {
        Ok(()) => 0,
        Err(Error::TooLarge) => 3,
        Err(Error::NotJson) => 4,
        Err(_) => 1,
    }
}

/// Ends in theory, so that the compiler cannot say what it gives.
#[inline(never)]
fn deep(n: i64) -> i64 {
    if n == i64::MAX {
        return 1;
    }
    n / (deep(n + 1) | 1)
}

impl Params {
    fn say(&self, row: Row<'_>, op: &str, fields: &Fields) -> Option<i32> {
        match op {
            "limit" => Some(i32::from(fields.f.get(row)? > self.limit.get())),
            "params" => {
                row.payload()
                    .set("limit", self.limit.get())
                    .set("count", self.count.get())
                    .set("strict", self.strict.get())
                    .set("label", self.label.get())
                    .emit();
                Some(1)
            }
            _ => None,
        }
    }
}

impl States {
    fn say(&self, row: Row<'_>, op: &str, fields: &Fields) -> Option<i32> {
        let s = fields.s.get(row).unwrap_or_default();
        let or_9 = |sum: Option<f64>| sum.map_or(9, |sum| sum as i32);
        Some(match op {
            "count" => or_9(self.tumbling.add(row, 1.0)),
            "sub" => or_9(self.tumbling.by(s).add(row, 1.0)),
            "slide" => or_9(self.sliding.add(row, fields.f.get(row).unwrap_or(0.0))),
            "distinct" => self.cards.add(row, s).map_or(9, |n| n as i32),
            "set" => match self.last.set(row, s) {
                Ok(()) => 1,
                Err(Error::TooLarge) => 5,
                Err(_) => 9,
            },
            "get" => match self.last.get(row) {
                Some(value) => {
                    row.payload().set("v", value.text()).emit();
                    1
                }
                None => 2,
            },
            "age" => match (self.last.time(row), fields.time.get(row)) {
                (Some(set), Some(now)) => ((now - set) / 1_000_000_000) as i32 + 1,
                _ => 0,
            },
            "delete" => 2 - i32::from(self.last.delete(row)),
            "seen" => match self.known.mark(row) {
                None => 9,
                Some(None) => 1,
                Some(Some(first)) => {
                    row.payload().set("first", first).emit();
                    2
                }
            },
            "trap-after-count" => {
                self.tumbling.add(row, 1.0);
                panic!("trap")
            }
            _ => return None,
        })
    }
}
