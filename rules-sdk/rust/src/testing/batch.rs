//! Lays events out as rules-sdk/ABI.md says.

use super::time;
use super::tree::Tree;
use crate::batch::Kind;
use crate::json::ToJson;

/// What the host knows of a row. Times are in nanoseconds since 1970.
pub struct EventRow {
    pub event: Tree,
    pub key: String, // empty if it has none
    pub time: i64,
    pub arrival: i64,
}

/// The value of a row in a column.
enum Cell {
    Word(u64), // of f64, i64 and bool
    Text(String),
}

const HEADER: usize = 40;
const DESCRIPTOR: usize = 32;

struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    fn put(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Appends a buffer and notes its offset at a place.
    fn append(&mut self, at: usize, part: &[u8]) {
        self.put(at, self.bytes.len() as u32);
        self.bytes.extend_from_slice(part);
        self.bytes.resize((self.bytes.len() + 7) / 8 * 8, 0);
    }

    fn column(&mut self, at: usize, kind: Kind, cells: &[Option<Cell>]) {
        let mut validity = vec![0; (cells.len() + 7) / 8];
        let mut bits = validity.clone();
        let (mut words, mut ends, mut data) = (Vec::new(), vec![0; 4], Vec::new());
        for (row, cell) in cells.iter().enumerate() {
            let mut word = 0;
            match cell {
                Some(Cell::Word(w)) => word = *w,
                Some(Cell::Text(text)) => data.extend_from_slice(text.as_bytes()),
                None => {}
            }
            validity[row / 8] |= u8::from(cell.is_some()) << (row % 8);
            bits[row / 8] |= u8::from(word == 1) << (row % 8);
            words.extend_from_slice(&word.to_le_bytes());
            ends.extend_from_slice(&(data.len() as i32).to_le_bytes());
        }
        self.put(at, kind as u32);
        self.put(at + 4, cells.iter().filter(|c| c.is_none()).count() as u32);
        self.append(at + 8, &validity);
        match kind {
            Kind::F64 | Kind::I64 => self.append(at + 12, &words),
            Kind::Bool => self.append(at + 12, &bits),
            Kind::Utf8 | Kind::Json => {
                self.append(at + 12, &ends);
                self.append(at + 16, &data);
                self.put(at + 20, data.len() as u32);
            }
        }
    }
}

pub fn build(rows: &[EventRow], paths: &[String], kinds: &[Kind]) -> Vec<u64> {
    let mut b = Builder { bytes: vec![0; HEADER + DESCRIPTOR * kinds.len()] };
    b.put(0, 1);
    b.put(4, rows.len() as u32);
    b.put(8, kinds.len() as u32);
    b.append(12, &vec![0; 4 * rows.len()]);
    b.bytes[16..24].copy_from_slice(&rows[0].arrival.to_le_bytes());
    let times: Vec<u8> = rows.iter().flat_map(|r| r.arrival.to_le_bytes()).collect();
    b.append(24, &times);
    for (i, (path, kind)) in paths.iter().zip(kinds).enumerate() {
        let cells: Vec<_> = rows.iter().map(|r| cell(r, path, *kind)).collect();
        b.column(HEADER + DESCRIPTOR * i, *kind, &cells);
    }
    b.put(28, b.bytes.len() as u32);
    let word = |c: &[u8]| u64::from_le_bytes(c.try_into().expect("buffers are 8-aligned"));
    b.bytes.chunks(8).map(word).collect()
}

/// Reads the verdicts of a batch.
pub fn codes(memory: &[u64]) -> Vec<i32> {
    let (rows, at) = (memory[0] >> 32, memory[1] >> 32);
    let bytes: Vec<u8> = memory.iter().flat_map(|w| w.to_le_bytes()).collect();
    let code = |c: &[u8]| i32::from_le_bytes(c.try_into().expect("4 bytes"));
    bytes[at as usize..].chunks(4).take(rows as usize).map(code).collect()
}

fn cell(row: &EventRow, path: &str, kind: Kind) -> Option<Cell> {
    let envelope = |text: Option<&str>| text.map(|t| Tree::String(t.to_string()));
    let member = |name| envelope(row.event.member(name).and_then(Tree::string));
    let value = match path {
        "$" => Some(row.event.clone()),
        "@type" => member("type"),
        "@id" => member("id"),
        "@source" => member("source"),
        "@key" => envelope(Some(&*row.key).filter(|k| !k.is_empty())),
        "@time" if matches!(kind, Kind::F64 | Kind::I64) => {
            Some(Tree::Number(row.time.to_string()))
        }
        "@time" => Some(Tree::String(time::format(row.time))),
        _ => row.event.at(path).cloned(),
    }?;
    let word = |w: Option<u64>| w.map(Cell::Word);
    match (kind, value) {
        (_, Tree::Null) => None,
        (Kind::F64, Tree::Number(n)) => word(finite(&n).map(f64::to_bits)),
        (Kind::I64, Tree::Number(n)) => word(integer(&n).map(|n| n as u64)),
        (Kind::Bool, Tree::Bool(yes)) => word(Some(yes.into())),
        (Kind::Utf8, Tree::String(text)) => Some(Cell::Text(text)),
        (Kind::Json, value) => {
            let mut text = Vec::new();
            value.write(&mut text);
            Some(Cell::Text(String::from_utf8(text).expect("JSON is UTF-8")))
        }
        _ => None,
    }
}

fn finite(number: &str) -> Option<f64> {
    number.parse().ok().filter(|f: &f64| f.is_finite())
}

/// Reads an integer. 1.0 and 1e3 are one, as long as an f64 holds them exactly.
fn integer(number: &str) -> Option<i64> {
    let exact = |f: &f64| f.trunc() == *f && f.abs() < (1u64 << 53) as f64;
    let with_point = |n: &str| n.contains(['.', 'e', 'E']);
    let whole = || finite(number).filter(|f| with_point(number) && exact(f)).map(|f| f as i64);
    number.parse().ok().or_else(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::open;

    const KINDS: [Kind; 2] = [Kind::F64, Kind::Utf8];

    fn batch() -> Vec<u64> {
        let row = |f: i32| EventRow {
            event: Tree::parse(&format!("{{\"f\":{},\"s\":\"abc\"}}", f)).unwrap(),
            key: String::new(),
            time: 0,
            arrival: 0,
        };
        build(&[row(1), row(2), row(3)], &["f".to_string(), "s".to_string()], &KINDS)
    }

    fn opens(memory: &mut [u64]) -> bool {
        open(memory, &KINDS, &mut Vec::new(), 0).is_some()
    }

    /// A batch with another number at a place of its header.
    fn changed(at: usize, value: u32) -> Vec<u64> {
        let mut b = batch();
        let mut bytes = b[at / 8].to_le_bytes();
        bytes[at % 8..][..4].copy_from_slice(&value.to_le_bytes());
        b[at / 8] = u64::from_le_bytes(bytes);
        b
    }

    #[test]
    fn opens_a_batch() {
        assert!(opens(&mut batch()));
        assert!(opens(&mut [batch(), vec![0; 9]].concat()));
        assert_eq!(codes(&batch()), [0, 0, 0]);
    }

    #[test]
    fn refuses_what_is_no_batch_of_the_rule() {
        let size = batch().len() as u32 * 8;
        for (at, value) in [
            (0, 2),             // another version
            (4, 65536),         // too many rows
            (4, 4000),          // more rows than there is room for
            (8, 1),             // another number of columns
            (12, size - 8),     // verdicts outside
            (12, 32),           // verdicts over the header
            (12, 108),          // not aligned
            (24, size - 16),    // times outside
            (24, 104),          // times over the verdicts
            (28, size + 8),     // larger than memory
            (28, size - 8),     // smaller than its buffers
            (40, 2),            // another type
            (48, size),         // a bitmap outside
            (52, u32::MAX - 7), // values outside
            (52, 104),          // values over the verdicts
            (84, size - 8),     // ends of texts outside
            (92, size),         // more text than there is
        ] {
            assert!(!opens(&mut changed(at, value)), "{} at {}", value, at);
        }
        for words in 0..batch().len() {
            assert!(!opens(&mut batch()[..words]), "{} words", words);
        }
        assert!(open(&mut batch(), &KINDS[..1], &mut Vec::new(), 0).is_none());
    }
}
