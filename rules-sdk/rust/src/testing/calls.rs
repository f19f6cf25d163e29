//! What the server gives, natively: payloads, log and keyed state.

use std::cell::RefCell;
use std::mem;

use super::batch::EventRow;
use super::state::States;
use super::tree::Tree;
use crate::host::{Place, TOO_LARGE};
use crate::log::Level;
use crate::state::Spec;

const MAX_PAYLOAD: usize = 16 << 10;

thread_local! {
    /// The host of the rule that runs. Without one every call is refused.
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

#[derive(Default)]
pub struct Host {
    rows: Vec<EventRow>,
    payloads: Vec<Option<String>>, // of rows
    pub log: Vec<(Level, String)>,
    states: States,
}

impl Host {
    pub fn new(specs: Vec<Spec>) -> Host {
        Host { states: States::new(specs), ..Host::default() }
    }

    /// Makes this the host while f runs.
    pub fn during<T>(&mut self, f: impl FnOnce() -> T) -> T {
        HOST.with(|host| {
            host.replace(mem::take(self));
            let result = f();
            *self = host.take();
            result
        })
    }

    /// Begins a batch.
    pub fn begin(&mut self, rows: Vec<EventRow>) {
        self.payloads = rows.iter().map(|_| None).collect();
        self.rows = rows;
    }

    /// Ends the batch and gives what was attached to its rows.
    pub fn payloads(&mut self) -> Vec<Option<String>> {
        self.rows.clear();
        mem::take(&mut self.payloads)
    }
}

fn with<T>(call: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|host| call(&mut host.borrow_mut()))
}

fn states<T>(p: Place<'_>, call: impl FnOnce(&mut States, Option<&EventRow>) -> T) -> T {
    with(|host| call(&mut host.states, host.rows.get(p.row)))
}

pub fn emit(row: usize, json: &[u8]) -> i32 {
    with(|host| {
        let text = std::str::from_utf8(json).ok().filter(|t| Tree::parse(t).is_ok());
        match (host.payloads.get_mut(row), text) {
            (None, _) => 1,
            (Some(_), _) if json.len() > MAX_PAYLOAD => 3,
            (Some(_), None) => 4,
            (Some(payload), Some(text)) => {
                *payload = Some(text.to_string());
                0
            }
        }
    })
}

pub fn log(level: i32, line: &str) {
    let level = match level {
        0 => Level::Debug,
        1 => Level::Info,
        2 => Level::Warn,
        _ => Level::Error,
    };
    with(|host| host.log.push((level, line.to_string())));
}

pub fn add(p: Place<'_>, amount: f64) -> f64 {
    if !amount.is_finite() {
        return f64::NAN;
    }
    states(p, |s, row| s.add(p, row, amount).unwrap_or(f64::NAN))
}

pub fn distinct(p: Place<'_>, value: &[u8]) -> i32 {
    if value.len() > 256 {
        return TOO_LARGE;
    }
    states(p, |s, row| s.distinct(p, row, value).map_or_else(|code| code, |n| n as i32))
}

pub fn seen(p: Place<'_>) -> i64 {
    states(p, |s, row| s.seen(p, row).unwrap_or_else(i64::from))
}

pub fn set(p: Place<'_>, value: &[u8]) -> i32 {
    states(p, |s, row| s.set(p, row, value).map_or_else(|code| code, |()| 0))
}

pub fn get(p: Place<'_>, place: &mut [u8]) -> i32 {
    states(p, |s, row| match s.get(p, row) {
        Ok((value, _)) => {
            let size = value.len().min(place.len());
            place[..size].copy_from_slice(&value[..size]);
            value.len() as i32
        }
        Err(code) => code,
    })
}

pub fn time(p: Place<'_>) -> i64 {
    states(p, |s, row| s.get(p, row).map_or_else(i64::from, |(_, at)| at))
}

pub fn delete(p: Place<'_>) -> i32 {
    states(p, |s, row| s.delete(p, row).map_or_else(|code| code, |()| 0))
}
