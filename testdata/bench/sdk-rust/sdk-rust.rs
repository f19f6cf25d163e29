// build: rustc @../../../rules-sdk/rust/flags --crate-type rlib --crate-name wasmeval_rule -o libwasmeval_rule.rlib ../../../rules-sdk/rust/src/lib.rs && rustc @../../../rules-sdk/rust/flags --crate-type cdylib --extern wasmeval_rule=libwasmeval_rule.rlib -o sdk-rust.wasm sdk-rust.rs; rm -f libwasmeval_rule.rlib
//! The loop over two columns that BenchmarkSDKLoop measures, as one writes it in Rust.

use wasmeval_rule::{rule, Declare, Rule};

rule!(sdk_loop);

fn sdk_loop(d: &mut Declare) -> Rule {
    let a = d.f64("a");
    let b = d.f64("b");
    Rule::each(move |row| Some(i32::from(a.get(row)? > 100.0 && b.get(row)? < 50.0)))
}
