//! Write rules for wasmeval in Rust.
//!
//! A rule is a function that declares what it reads, and gives a closure that says of each event
//! what the verdict is:
//!
//! ```
//! use wasmeval_rule::{rule, Declare, Rule};
//!
//! rule!(payment_limit);
//!
//! fn payment_limit(d: &mut Declare) -> Rule {
//!     d.describe("payments above a limit").matches("payment.*");
//!     let amount = d.f64("amount");
//!     let user = d.utf8("user.id");
//!     let limit = d.param("limit", 1000.0, "largest amount that passes");
//!
//!     Rule::each(move |row| {
//!         let amount = amount.get(row)?; // no amount: the rule does not match
//!         if amount <= limit.get() {
//!             return None;
//!         }
//!         row.payload().set("amount", amount).set("user", user.get(row)).emit();
//!         Some(1)
//!     })
//! }
//! # fn main() {}
//! ```
//!
//! [`Declare`] has all that can be declared: fields with their types, patterns of event types,
//! parameters and keyed state. What it gives are small handles, which are `Copy` and which the
//! closure takes along. [`IntoCode`] says what a closure may return. [`testing`] runs a rule over
//! events natively, without a server and without WebAssembly.
//!
//! A module has one thread, and the server may replace an instance at any time: a rule must not
//! count on what its closure remembers. What has to last belongs into keyed state
//! ([`Declare::state`]). A panic is logged with its place, and fails the event that causes it.
//!
//! Nothing here allocates per event once its buffers have grown. Texts are read in place. A rule
//! needs no `unsafe`. The crate has no dependencies, and compiles with Rust 1.63.

#![deny(missing_docs)]
#![warn(rust_2018_idioms)]

mod batch;
mod declare;
#[doc(hidden)]
pub mod guest;
mod host;
mod json;
mod log;
mod param;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod verdict;

pub use batch::{Batch, Bool, Json, JsonField, Row, Utf8, F64, I64};
pub use declare::Declare;
pub use json::{Array, Object, Payload, ToJson};
pub use log::{log, Level};
pub use param::{Param, ParamType};
pub use state::{Bytes, Counter, DeclareState, Distinct, Seen, Value, Window};
pub use verdict::{Error, IntoCode, Rule};

/// Makes a module of the function that declares a rule: exports all that the server calls.
///
/// ```
/// use wasmeval_rule::{rule, Declare, Rule};
///
/// rule!(everything);
///
/// fn everything(_: &mut Declare) -> Rule {
///     Rule::each(|_| 1)
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! rule {
    ($declare:path) => {
        const _: fn(&mut $crate::Declare) -> $crate::Rule = $declare;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[no_mangle]
            extern "C" fn wasmeval_abi() -> i32 {
                $crate::guest::ABI
            }
            #[no_mangle]
            extern "C" fn wasmeval_manifest() -> u64 {
                $crate::guest::manifest($declare)
            }
            #[no_mangle]
            extern "C" fn wasmeval_input(size: u32) -> u32 {
                $crate::guest::input(size)
            }
            #[no_mangle]
            extern "C" fn wasmeval_configure(at: u32, size: u32) -> i32 {
                $crate::guest::configure($declare, at, size)
            }
            #[no_mangle]
            extern "C" fn wasmeval_evaluate(batch: u32) -> i32 {
                $crate::guest::evaluate($declare, batch)
            }
        };
    };
}

/// The rule of README.md, which `cargo test` compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
