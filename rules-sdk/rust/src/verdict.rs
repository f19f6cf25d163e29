use std::fmt;

use crate::batch::{Batch, Row};

/// A rule: what it does with a batch of events.
pub struct Rule {
    pub(crate) run: Run,
}

type Run = Box<dyn FnMut(Batch<'_>, &mut [i32])>;

impl Rule {
    /// Makes a rule of a function that says of one event what the verdict is.
    pub fn each<F, V>(mut verdict: F) -> Rule
    where
        F: FnMut(Row<'_>) -> V + 'static,
        V: IntoCode,
    {
        Rule::batch(move |batch, codes| {
            for (row, code) in batch.rows().zip(codes) {
                *code = verdict(row).into_code();
            }
        })
    }

    /// Makes a rule of a function that evaluates a whole batch by loops over columns. It writes the
    /// code of each row, all 0 at first; [`IntoCode`] says what codes mean.
    pub fn batch<F>(evaluate: F) -> Rule
    where
        F: FnMut(Batch<'_>, &mut [i32]) + 'static,
    {
        Rule { run: Box::new(evaluate) }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rule")
    }
}

/// What the closure of a rule may return: a code, or something that may have one.
///
/// A code of 0 does not match, above 0 is the rule's own, and below 0 is an error of that event.
/// `None` is 0, and an [`Error`] has the code [`Error::code`]; so `?` does what one means in a
/// closure that returns `Option<i32>` or `Result<i32, Error>`.
pub trait IntoCode {
    /// Gives the code.
    fn into_code(self) -> i32;
}

impl IntoCode for i32 {
    #[inline]
    fn into_code(self) -> i32 {
        self
    }
}

impl<V: IntoCode> IntoCode for Option<V> {
    #[inline]
    fn into_code(self) -> i32 {
        self.map_or(0, V::into_code)
    }
}

impl<V: IntoCode> IntoCode for Result<V, Error> {
    #[inline]
    fn into_code(self) -> i32 {
        self.map_or_else(Error::code, V::into_code)
    }
}

/// Why the server did not take a payload or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The event has no key, and so no state.
    NoKey,
    /// The server refuses it for another reason, such as a key of more than 256 bytes.
    Refused,
    /// The payload is not JSON, has a key twice in an object, or is nested deeper than 64.
    NotJson,
    /// The payload is above the server's limit, or the value above what the state declares.
    TooLarge,
}

impl Error {
    /// Gives the code of an event that fails with this error: -2 to -5, in the order above.
    pub fn code(self) -> i32 {
        match self {
            Error::NoKey => -2,
            Error::Refused => -3,
            Error::NotJson => -4,
            Error::TooLarge => -5,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Error::NoKey => "the event has no key",
            Error::Refused => "the server refuses it",
            Error::NotJson => "it is not JSON as the server takes it",
            Error::TooLarge => "it is too large",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}
