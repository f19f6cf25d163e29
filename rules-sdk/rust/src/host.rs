//! What the server gives: imports in a module, the fake host of `testing` elsewhere. Lengths and
//! rows are i32 there, so larger ones cannot occur.

#[cfg(target_arch = "wasm32")]
mod imports {
    #[link(wasm_import_module = "wasmeval")]
    extern "C" {
        pub fn emit(row: usize, at: *const u8, size: usize) -> i32;
        pub fn log(level: i32, at: *const u8, size: usize);
        pub fn state_add(
            state: u32,
            row: usize,
            key: *const u8,
            key_size: usize,
            amount: f64,
        ) -> f64;
        pub fn state_distinct(
            state: u32,
            row: usize,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            size: usize,
        ) -> i32;
        pub fn state_seen(state: u32, row: usize, key: *const u8, key_size: usize) -> i64;
        pub fn state_set(
            state: u32,
            row: usize,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            size: usize,
        ) -> i32;
        pub fn state_get(
            state: u32,
            row: usize,
            key: *const u8,
            key_size: usize,
            place: *mut u8,
            size: usize,
        ) -> i32;
        pub fn state_time(state: u32, row: usize, key: *const u8, key_size: usize) -> i64;
        pub fn state_delete(state: u32, row: usize, key: *const u8, key_size: usize) -> i32;
    }
}

/// Who asks: a state, the row, and what divides the row's key.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub state: u32,
    pub row: usize,
    pub sub: &'a str,
}

// What the server answers instead of a result; see rules-sdk/ABI.md.
pub(crate) const NONE: i32 = -1;
pub(crate) const NO_KEY: i32 = -2;
pub(crate) const TOO_LARGE: i32 = -5;

// SAFETY of every call: the server reads, or at `place` writes, no more than the bytes of slices
// that are borrowed for the whole call.
#[cfg(target_arch = "wasm32")]
mod calls {
    use super::{imports, Place};

    pub fn emit(row: usize, json: &[u8]) -> i32 {
        unsafe { imports::emit(row, json.as_ptr(), json.len()) }
    }

    pub fn log(level: i32, line: &str) {
        unsafe { imports::log(level, line.as_ptr(), line.len()) }
    }

    pub fn add(p: Place<'_>, amount: f64) -> f64 {
        unsafe { imports::state_add(p.state, p.row, p.sub.as_ptr(), p.sub.len(), amount) }
    }

    pub fn distinct(p: Place<'_>, v: &[u8]) -> i32 {
        let (key, size) = (p.sub.as_ptr(), p.sub.len());
        unsafe { imports::state_distinct(p.state, p.row, key, size, v.as_ptr(), v.len()) }
    }

    pub fn seen(p: Place<'_>) -> i64 {
        unsafe { imports::state_seen(p.state, p.row, p.sub.as_ptr(), p.sub.len()) }
    }

    pub fn set(p: Place<'_>, v: &[u8]) -> i32 {
        let (key, size) = (p.sub.as_ptr(), p.sub.len());
        unsafe { imports::state_set(p.state, p.row, key, size, v.as_ptr(), v.len()) }
    }

    pub fn get(p: Place<'_>, place: &mut [u8]) -> i32 {
        let (key, size) = (p.sub.as_ptr(), p.sub.len());
        unsafe { imports::state_get(p.state, p.row, key, size, place.as_mut_ptr(), place.len()) }
    }

    pub fn time(p: Place<'_>) -> i64 {
        unsafe { imports::state_time(p.state, p.row, p.sub.as_ptr(), p.sub.len()) }
    }

    pub fn delete(p: Place<'_>) -> i32 {
        unsafe { imports::state_delete(p.state, p.row, p.sub.as_ptr(), p.sub.len()) }
    }
}

#[cfg(target_arch = "wasm32")]
pub use calls::*;

#[cfg(not(target_arch = "wasm32"))]
pub use crate::testing::calls::*;
