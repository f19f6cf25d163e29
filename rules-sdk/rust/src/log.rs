use std::fmt;

use crate::host;

/// How grave a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For whoever writes the rule.
    Debug,
    /// Worth knowing.
    Info,
    /// Not as it should be.
    Warn,
    /// A failure.
    Error,
}

/// Writes one line to the rule's log. The macros [`debug!`](crate::debug), [`info!`](crate::info),
/// [`warn!`](crate::warn) and [`error!`](crate::error) do so with a format.
pub fn log(level: Level, line: &str) {
    host::log(level as i32, line);
}

#[doc(hidden)]
pub fn log_format(level: Level, line: fmt::Arguments<'_>) {
    match line.as_str() {
        Some(text) => log(level, text),
        None => log(level, &line.to_string()),
    }
}

/// Writes a line to the rule's log at [`Level::Debug`], as `format!` does.
#[macro_export]
macro_rules! debug {
    ($($part:tt)+) => { $crate::guest::log_format($crate::Level::Debug, format_args!($($part)+)) };
}

/// Writes a line to the rule's log at [`Level::Info`], as `format!` does.
#[macro_export]
macro_rules! info {
    ($($part:tt)+) => { $crate::guest::log_format($crate::Level::Info, format_args!($($part)+)) };
}

/// Writes a line to the rule's log at [`Level::Warn`], as `format!` does.
#[macro_export]
macro_rules! warn {
    ($($part:tt)+) => { $crate::guest::log_format($crate::Level::Warn, format_args!($($part)+)) };
}

/// Writes a line to the rule's log at [`Level::Error`], as `format!` does.
#[macro_export]
macro_rules! error {
    ($($part:tt)+) => { $crate::guest::log_format($crate::Level::Error, format_args!($($part)+)) };
}
