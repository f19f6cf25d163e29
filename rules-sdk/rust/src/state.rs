use std::ops::Deref;
use std::time::Duration;

use crate::batch::Row;
use crate::declare::Declare;
use crate::host::{self, Place};
use crate::json::Object;
use crate::verdict::Error;

/// The longest value of a state, in bytes.
const MAX_BYTES: usize = 256;

/// A state as it is declared. A number that is 0 is left out of the manifest.
#[derive(Clone, Default)]
pub struct Spec {
    pub name: String,
    pub kind: &'static str,
    pub window_ms: u64,
    pub buckets: u64,
    pub limit: u64,
    pub bytes: u64,
    pub ttl_ms: u64,
    pub keys: u64,
    pub by_arrival: bool,
}

impl Spec {
    pub fn describe(&self, object: Object) -> Object {
        let number = |n| Some(n).filter(|n: &u64| *n != 0);
        object
            .set("name", self.name.as_str())
            .set("kind", self.kind)
            .set("window_ms", number(self.window_ms))
            .set("buckets", number(self.buckets))
            .set("limit", number(self.limit))
            .set("bytes", number(self.bytes))
            .set("ttl_ms", number(self.ttl_ms))
            .set("keys", number(self.keys))
            .set("time", Some("arrival").filter(|_| self.by_arrival))
    }

    /// Panics unless a number is 1 to most.
    fn check(&self, what: &str, n: u64, most: u64) -> u64 {
        if n < 1 || n > most {
            panic!("state \"{}\" has {} {}: expected 1 to {}", self.name, n, what, most);
        }
        n
    }

    /// Panics unless a duration is in whole milliseconds.
    fn ms(&self, what: &str, d: Duration) -> u64 {
        let ms = d.as_millis() as u64;
        if ms == 0 || Duration::from_millis(ms) != d {
            panic!("state \"{}\" has a {} that is not 1 or more whole ms", self.name, what);
        }
        ms
    }
}

/// The time over which a [`Counter`] adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    length: Duration,
    buckets: u32,
}

impl Window {
    /// Makes a window that begins anew each time its length has passed since 1970. The length is in
    /// whole milliseconds.
    pub fn tumbling(length: Duration) -> Window {
        Window { length, buckets: 1 }
    }

    /// Makes a window that moves on by a bucket of `length / buckets` at a time: 1 to 64 buckets,
    /// which divide the length into whole milliseconds. More are more exact and take more memory.
    pub fn sliding(length: Duration, buckets: u32) -> Window {
        Window { length, buckets }
    }
}

/// Declares a keyed state; [`Declare::state`] begins it, and one of [`counter`](Self::counter),
/// [`distinct`](Self::distinct), [`seen`](Self::seen) and [`value`](Self::value) ends it. They
/// panic if what is declared cannot be.
#[must_use = "say what kind of state it is"]
pub struct DeclareState<'d> {
    declare: &'d mut Declare,
    spec: Spec,
}

impl<'d> DeclareState<'d> {
    pub(crate) fn new(declare: &'d mut Declare, name: &str) -> DeclareState<'d> {
        DeclareState { declare, spec: Spec { name: name.to_string(), ..Spec::default() } }
    }

    /// Sets how many keys the state keeps at most, instead of 10,000. With more, the one that was
    /// used longest ago makes room.
    pub fn keys(mut self, most: u32) -> DeclareState<'d> {
        self.spec.keys = self.spec.check("keys", most.into(), u32::MAX.into());
        self
    }

    /// Makes the state go by when events arrive, instead of by their own time.
    pub fn by_arrival(mut self) -> DeclareState<'d> {
        self.spec.by_arrival = true;
        self
    }

    /// Makes a `seen` or `value` forget what is older. Without it they remember for good.
    pub fn ttl(mut self, ttl: Duration) -> DeclareState<'d> {
        self.spec.ttl_ms = self.spec.ms("ttl", ttl);
        self
    }

    /// Declares a sum over a window.
    pub fn counter(mut self, window: Window) -> Counter<'static> {
        let s = &mut self.spec;
        s.window_ms = s.ms("window", window.length);
        s.buckets = s.check("buckets", window.buckets.into(), 64);
        if s.window_ms % s.buckets != 0 {
            panic!("state \"{}\" has buckets of no whole milliseconds", s.name);
        }
        Counter(self.end("counter"))
    }

    /// Declares a set of at most `limit` values, 1 to 64, that came within the window. A value is
    /// forgotten when it has not come for that long; when the set is full, the oldest makes room.
    pub fn distinct(mut self, window: Duration, limit: u32) -> Distinct<'static> {
        self.spec.window_ms = self.spec.ms("window", window);
        self.spec.limit = self.spec.check("values as limit", limit.into(), 64);
        Distinct(self.end("distinct"))
    }

    /// Declares a memory of the keys that have come.
    pub fn seen(self) -> Seen<'static> {
        Seen(self.end("seen"))
    }

    /// Declares a place for at most so many bytes, 1 to 256.
    pub fn value(mut self, bytes: u32) -> Value<'static> {
        self.spec.bytes = self.spec.check("bytes", bytes.into(), MAX_BYTES as u64);
        Value(self.end("value"))
    }

    fn end(mut self, kind: &'static str) -> Handle<'static> {
        self.spec.kind = kind;
        if self.spec.ttl_ms > 0 && self.spec.window_ms > 0 {
            panic!("state \"{}\" is a {}, which has no ttl", self.spec.name, kind);
        }
        Handle { state: self.declare.add_state(self.spec), sub: "" }
    }
}

#[derive(Clone, Copy, Debug)]
struct Handle<'s> {
    state: u32,
    sub: &'s str,
}

impl<'s> Handle<'s> {
    fn place(self, row: Row<'_>) -> Place<'s> {
        Place { state: self.state, row: row.index(), sub: self.sub }
    }
}

/// What all states have.
macro_rules! state {
    ($state:ident) => {
        impl $state<'_> {
            /// Divides the event's key further: gives the state of this text within it. The text
            /// has at most 256 bytes.
            pub fn by<'s>(self, sub: &'s str) -> $state<'s> {
                $state(Handle { sub, ..self.0 })
            }

            /// Forgets what the state has for the event's key, and tells whether there was
            /// something.
            pub fn delete(self, row: Row<'_>) -> bool {
                host::delete(self.0.place(row)) == 0
            }
        }
    };
}

state!(Counter);
state!(Distinct);
state!(Seen);
state!(Value);

/// A sum over a window, for each key.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'s>(Handle<'s>);

impl Counter<'_> {
    /// Adds an amount at the event's time, and returns the sum over the window. An event that is
    /// older than the window adds nothing. None means that the event has no key, or that the amount
    /// is not finite.
    pub fn add(self, row: Row<'_>, amount: f64) -> Option<f64> {
        Some(host::add(self.0.place(row), amount)).filter(|sum| !sum.is_nan())
    }

    /// Returns the sum over the window, or None if the event has no key.
    pub fn sum(self, row: Row<'_>) -> Option<f64> {
        self.add(row, 0.0)
    }
}

/// The different values that came within a window, for each key.
#[derive(Clone, Copy, Debug)]
pub struct Distinct<'s>(Handle<'s>);

impl Distinct<'_> {
    /// Adds a value of at most 256 bytes at the event's time, and returns how many different ones
    /// the window has. None means that the event has no key, or that the value is too long.
    pub fn add(self, row: Row<'_>, value: impl AsRef<[u8]>) -> Option<u32> {
        let n = host::distinct(self.0.place(row), value.as_ref());
        (n >= 0).then_some(n as u32)
    }
}

/// When a key came first.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'s>(Handle<'s>);

impl Seen<'_> {
    /// Notes that the event's key has come. `Some(None)` says that it is the first time, and
    /// `Some(Some(time))` when that was, in nanoseconds since 1970-01-01 UTC. None means that the
    /// event has no key.
    pub fn mark(self, row: Row<'_>) -> Option<Option<i64>> {
        const NONE: i64 = host::NONE as i64;
        match host::seen(self.0.place(row)) {
            NONE => Some(None),
            first => (first >= 0).then_some(Some(first)),
        }
    }
}

/// Some bytes of the rule's own, for each key.
#[derive(Clone, Copy, Debug)]
pub struct Value<'s>(Handle<'s>);

impl Value<'_> {
    /// Keeps a copy of the bytes. A number goes in by its `to_le_bytes`.
    pub fn set(self, row: Row<'_>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        match host::set(self.0.place(row), value.as_ref()) {
            0 => Ok(()),
            host::NO_KEY => Err(Error::NoKey),
            host::TOO_LARGE if self.0.sub.len() <= MAX_BYTES => Err(Error::TooLarge),
            _ => Err(Error::Refused),
        }
    }

    /// Returns the bytes that were set last, or None if there are none or the event has no key.
    pub fn get(self, row: Row<'_>) -> Option<Bytes> {
        let mut bytes = [0; MAX_BYTES];
        let size = host::get(self.0.place(row), &mut bytes);
        (size >= 0).then_some(Bytes { bytes, size: size as usize })
    }

    /// Returns when the bytes were set, in nanoseconds since 1970-01-01 UTC, or None as `get` does.
    pub fn time(self, row: Row<'_>) -> Option<i64> {
        Some(host::time(self.0.place(row))).filter(|at| *at >= 0)
    }
}

/// What a [`Value`] holds. It is a `[u8]` by [`Deref`].
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    bytes: [u8; MAX_BYTES],
    size: usize,
}

impl Bytes {
    /// Returns the bytes if there are exactly so many, for a number's `from_le_bytes`.
    pub fn array<const N: usize>(&self) -> Option<[u8; N]> {
        (**self).try_into().ok()
    }

    /// Returns the bytes as text if they are UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self).ok()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.size).unwrap_or_default()
    }
}
