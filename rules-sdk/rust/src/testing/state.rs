//! Keyed state as rules-sdk/ABI.md describes it, as plainly as can be.

use std::collections::HashMap;

use super::batch::EventRow;
use crate::host::{Place, NONE, NO_KEY, TOO_LARGE};
use crate::state::Spec;

const NO_STATE: i32 = -3;
const MS: i64 = 1_000_000;
const DEFAULT_KEYS: usize = 10_000;

/// The event's key, and what divides it.
type Key = (String, String);

/// What a state of any kind keeps for one key. Times are in nanoseconds since 1970.
#[derive(Default)]
struct Kept {
    newest: i64,                   // counter: its newest bucket; distinct: the newest time
    sums: HashMap<i64, f64>,       // counter: by bucket
    values: HashMap<Vec<u8>, i64>, // distinct: when each came last
    bytes: Vec<u8>,                // value
    at: i64,                       // value, seen: when that was
    used: u64,                     // the use of the table that was the key's last
}

struct Table {
    spec: Spec,
    kept: HashMap<Key, Kept>,
    uses: u64,
}

impl Table {
    /// Gives what is kept for a key, unless its time is over.
    fn get(&mut self, key: &Key, at: i64) -> Option<&mut Kept> {
        let ttl = self.spec.ttl_ms as i64 * MS;
        if ttl > 0 && self.kept.get(key).map_or(false, |k| at - k.at >= ttl) {
            self.kept.remove(key);
        }
        self.uses += 1;
        let kept = self.kept.get_mut(key)?;
        kept.used = self.uses;
        Some(kept)
    }

    /// Gives what is kept for a key, or begins it. With too many keys, the one that was used
    /// longest ago makes room.
    fn get_or_begin(&mut self, key: Key, at: i64) -> &mut Kept {
        let most = if self.spec.keys > 0 { self.spec.keys as usize } else { DEFAULT_KEYS };
        if self.get(&key, at).is_none() && self.kept.len() >= most {
            let oldest = self.kept.iter().min_by_key(|(_, k)| k.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.kept.remove(&key));
        }
        let used = self.uses;
        let begin = || Kept { newest: i64::MIN, at, used, ..Kept::default() };
        self.kept.entry(key).or_insert_with(begin)
    }
}

/// The states of a rule. Err is what the server answers instead of a result.
#[derive(Default)]
pub struct States(Vec<Table>);

impl States {
    pub fn new(specs: Vec<Spec>) -> States {
        let table = |spec| Table { spec, kept: HashMap::new(), uses: 0 };
        States(specs.into_iter().map(table).collect())
    }

    /// Gives the table of a state, a row's key in it, and its time.
    fn find(
        &mut self,
        kind: &str,
        p: Place<'_>,
        row: Option<&EventRow>,
    ) -> Result<(&mut Table, Key, i64), i32> {
        let row = row.ok_or(NO_STATE)?;
        let table = self.0.get_mut(p.state as usize).ok_or(NO_STATE)?;
        if !kind.is_empty() && table.spec.kind != kind {
            return Err(NO_STATE);
        }
        if p.sub.len() > 256 {
            return Err(TOO_LARGE);
        }
        if row.key.is_empty() {
            return Err(NO_KEY);
        }
        let at = if table.spec.by_arrival { row.arrival } else { row.time };
        Ok((table, (row.key.clone(), p.sub.to_string()), at))
    }

    pub fn add(&mut self, p: Place<'_>, row: Option<&EventRow>, amount: f64) -> Result<f64, i32> {
        let (table, key, at) = self.find("counter", p, row)?;
        let buckets = table.spec.buckets as i64;
        let bucket = at.div_euclid(table.spec.window_ms as i64 * MS / buckets);
        if amount == 0.0 && table.get(&key, at).is_none() {
            return Ok(0.0);
        }
        let kept = table.get_or_begin(key, at);
        let newest = kept.newest.max(bucket);
        kept.newest = newest;
        if bucket > newest - buckets {
            *kept.sums.entry(bucket).or_insert(0.0) += amount;
        }
        kept.sums.retain(|b, _| *b > newest - buckets);
        Ok((newest - buckets + 1..=newest).filter_map(|b| kept.sums.get(&b)).sum())
    }

    pub fn distinct(
        &mut self,
        p: Place<'_>,
        row: Option<&EventRow>,
        value: &[u8],
    ) -> Result<usize, i32> {
        let (table, key, at) = self.find("distinct", p, row)?;
        let (window, limit) = (table.spec.window_ms as i64 * MS, table.spec.limit as usize);
        let kept = table.get_or_begin(key, at);
        let newest = kept.newest.max(at);
        kept.newest = newest;
        let last = kept.values.entry(value.to_vec()).or_insert(at);
        *last = at.max(*last);
        kept.values.retain(|_, last| newest - *last < window);
        if kept.values.len() > limit {
            let oldest = kept.values.iter().min_by_key(|(_, at)| **at).map(|(v, _)| v.clone());
            oldest.and_then(|v| kept.values.remove(&v));
        }
        Ok(kept.values.len())
    }

    /// Gives when the key came first, or -1 if that is now.
    pub fn seen(&mut self, p: Place<'_>, row: Option<&EventRow>) -> Result<i64, i32> {
        let (table, key, at) = self.find("seen", p, row)?;
        match table.get(&key, at) {
            Some(kept) => Ok(kept.at),
            None => {
                table.get_or_begin(key, at);
                Ok(NONE.into())
            }
        }
    }

    pub fn set(&mut self, p: Place<'_>, row: Option<&EventRow>, value: &[u8]) -> Result<(), i32> {
        let (table, key, at) = self.find("value", p, row)?;
        if value.len() > table.spec.bytes as usize {
            return Err(TOO_LARGE);
        }
        let kept = table.get_or_begin(key, at);
        kept.bytes = value.to_vec();
        kept.at = at;
        Ok(())
    }

    /// Gives the bytes of a value, and when they were set.
    pub fn get(&mut self, p: Place<'_>, row: Option<&EventRow>) -> Result<(&[u8], i64), i32> {
        let (table, key, at) = self.find("value", p, row)?;
        table.get(&key, at).map(|kept| (&*kept.bytes, kept.at)).ok_or(NONE)
    }

    pub fn delete(&mut self, p: Place<'_>, row: Option<&EventRow>) -> Result<(), i32> {
        let (table, key, at) = self.find("", p, row)?;
        table.get(&key, at).ok_or(NONE)?;
        table.kept.remove(&key);
        Ok(())
    }
}
