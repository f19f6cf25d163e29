//! What `rule!` needs, and nobody else.

use crate::batch::{self, Batch, Column};
use crate::declare::Declare;
use crate::json;
use crate::verdict::Rule;

pub use crate::log::log_format;

/// The version of the ABI.
pub const ABI: i32 = 1;

/// A rule that has been declared.
pub(crate) struct Instance {
    pub declared: Declare,
    pub manifest: Vec<u8>,
    rule: Rule,
    columns: Vec<Column>,
}

impl Instance {
    pub fn new(declare: fn(&mut Declare) -> Rule) -> Instance {
        let mut declared = Declare::new();
        let rule = declare(&mut declared);
        let manifest = declared.manifest();
        json::reserve();
        Instance { columns: Vec::with_capacity(declared.kinds.len()), declared, manifest, rule }
    }

    /// Evaluates the batch that memory begins with. None means that it is not one of this rule.
    pub fn evaluate(&mut self, memory: &mut [u64]) -> Option<()> {
        let d = &self.declared;
        let (frame, codes) = batch::open(memory, &d.kinds, &mut self.columns, d.id)?;
        (self.rule.run)(Batch { frame: &frame }, codes);
        Some(())
    }
}

#[cfg(target_arch = "wasm32")]
mod exports {
    use std::cell::RefCell;
    use std::panic;
    use std::str;

    use super::Instance;
    use crate::declare::Declare;
    use crate::json::ToJson;
    use crate::log::{log, Level};
    use crate::verdict::Rule;

    thread_local! {
        static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
        static INPUT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    fn with<T>(declare: fn(&mut Declare) -> Rule, call: impl FnOnce(&mut Instance) -> T) -> T {
        INSTANCE.with(|i| {
            call(i.borrow_mut().get_or_insert_with(|| {
                panic::set_hook(Box::new(|info| log(Level::Error, &panic_line(info))));
                Instance::new(declare)
            }))
        })
    }

    fn panic_line(info: &panic::PanicInfo<'_>) -> String {
        let payload = info.payload();
        let text = match payload.downcast_ref::<String>() {
            Some(text) => text,
            None => payload.downcast_ref::<&str>().copied().unwrap_or("panic"),
        };
        match info.location() {
            Some(at) => {
                let mut line = Vec::new();
                at.line().write(&mut line);
                let line = String::from_utf8(line).unwrap_or_default();
                ["panic at ", at.file(), ":", &line, ": ", text].concat()
            }
            None => ["panic: ", text].concat(),
        }
    }

    pub fn manifest(declare: fn(&mut Declare) -> Rule) -> u64 {
        with(declare, |i| (i.manifest.as_ptr() as u64) << 32 | i.manifest.len() as u64)
    }

    pub fn input(size: u32) -> u32 {
        let words = (size as usize + 7) / 8;
        INPUT.with(|input| {
            let mut input = input.borrow_mut();
            if words > input.len() {
                // Twice what is needed, so that batches that grow slowly do not move it each time.
                let words = (2 * words).max(4096);
                *input = Vec::new();
                if input.try_reserve_exact(words).is_err() {
                    return 0;
                }
                input.resize(words, 0);
            }
            input.as_ptr() as u32
        })
    }

    /// Calls with the input from an address on, or gives None if that is outside of it.
    fn from<T>(at: u32, call: impl FnOnce(&mut [u64]) -> Option<T>) -> Option<T> {
        INPUT.with(|input| {
            let mut input = input.borrow_mut();
            let skip = at.checked_sub(input.as_ptr() as u32).filter(|n| n % 8 == 0)?;
            call(input.get_mut(skip as usize / 8..)?)
        })
    }

    pub fn configure(declare: fn(&mut Declare) -> Rule, at: u32, size: u32) -> i32 {
        let text = from(at, |words| {
            let size = size as usize;
            let bytes = words.iter().flat_map(|w| w.to_le_bytes()).take(size).collect::<Vec<u8>>();
            String::from_utf8(bytes).ok().filter(|text| text.len() == size)
        });
        let result = match text {
            Some(text) => with(declare, |i| i.declared.configure(&text)),
            None => Err("they are not text inside the input".to_string()),
        };
        result.map_or_else(
            |e| {
                log(Level::Error, &["cannot take the parameters: ", &e].concat());
                1
            },
            |()| 0,
        )
    }

    pub fn evaluate(declare: fn(&mut Declare) -> Rule, batch: u32) -> i32 {
        match from(batch, |words| with(declare, |i| i.evaluate(words))) {
            Some(()) => 0,
            None => {
                log(Level::Error, "cannot evaluate: it is not a batch of the rule's columns");
                1
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub use exports::{configure, evaluate, input, manifest};
