use std::cell::Cell;
use std::mem;

use crate::batch::{Json, Row};
use crate::host;
use crate::log::{log, Level};
use crate::verdict::Error;

/// What a payload can hold: numbers, `bool`, strings, [`Json`] text, and `Option`s and slices of
/// them. A number that is not finite is null.
pub trait ToJson {
    /// Appends the value as JSON text.
    fn write(&self, out: &mut Vec<u8>);

    /// Tells whether an object leaves the member out: `None` does so. In an array it is null.
    fn is_missing(&self) -> bool {
        false
    }
}

/// Appends bytes. It is not inlined, since fuel counts the instructions of a whole function or
/// loop, and most of these make the text grow.
#[inline(never)]
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

macro_rules! integer {
    ($($type:ident)+) => {$(
        impl ToJson for $type {
            fn write(&self, out: &mut Vec<u8>) {
                #[allow(unused_comparisons)]
                if *self < 0 {
                    out.push(b'-');
                }
                let size = (*self as i64).unsigned_abs();
                write_digits(out, if *self > 0 { *self as u64 } else { size }, 1);
            }
        }
    )+};
}

integer!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

/// Writes a number with at least so many digits.
fn write_digits(out: &mut Vec<u8>, mut n: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while n > 0 || digits.len() - at < least {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    put(out, &digits[at..]);
}

impl ToJson for f64 {
    fn write(&self, out: &mut Vec<u8>) {
        let size = self.abs();
        if !self.is_finite() {
            put(out, b"null");
        } else if size < (1u64 << 53) as f64 && (size as i64) as f64 == size && size != 0.0 {
            // Most numbers of rules are whole, and those are several times faster to write.
            (*self as i64).write(out);
        } else if !write_decimal(out, *self) {
            let plain = size == 0.0 || (1e-6..1e21).contains(&size);
            let text = if plain { self.to_string() } else { format!("{:e}", self) };
            put(out, text.as_bytes());
        }
    }
}

/// Writes a number that has 1 to 6 decimals and at most 15 digits, which are most of those that are
/// not whole. The general way takes some thousand instructions.
fn write_decimal(out: &mut Vec<u8>, v: f64) -> bool {
    let size = v.abs();
    let digits = |scale: u64| (size * scale as f64 + 0.5) as u64;
    // Both are exact, so the quotient is what a reader makes of these digits.
    let exact = |scale: u64| digits(scale) as f64 / scale as f64 == size;
    let scales = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
    let (places, scale) = match scales.iter().position(|s| exact(*s)) {
        Some(i) if (1..1_000_000_000_000_000).contains(&digits(scales[i])) => (i + 1, scales[i]),
        _ => return false,
    };
    if v < 0.0 {
        out.push(b'-');
    }
    write_digits(out, digits(scale) / scale, 1);
    out.push(b'.');
    write_digits(out, digits(scale) % scale, places);
    true
}

impl ToJson for bool {
    fn write(&self, out: &mut Vec<u8>) {
        put(out, if *self { b"true" } else { b"false" });
    }
}

impl ToJson for str {
    fn write(&self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut rest = self.as_bytes();
        out.push(b'"');
        loop {
            let plain = |c: &u8| *c >= 0x20 && *c != b'"' && *c != b'\\';
            let size = rest.iter().position(|c| !plain(c)).unwrap_or(rest.len());
            put(out, &rest[..size]);
            match rest.get(size) {
                None => break,
                Some(c @ 0..=0x1f) => {
                    let (high, low) = (HEX[usize::from(c >> 4)], HEX[usize::from(c & 15)]);
                    put(out, &[b'\\', b'u', b'0', b'0', high, low]);
                }
                Some(c) => put(out, &[b'\\', *c]),
            }
            rest = &rest[size + 1..];
        }
        out.push(b'"');
    }
}

impl ToJson for String {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl ToJson for Json<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.0.as_bytes());
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (*self).write(out);
    }

    fn is_missing(&self) -> bool {
        (*self).is_missing()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => put(out, b"null"),
        }
    }

    fn is_missing(&self) -> bool {
        self.is_none()
    }
}

impl<T: ToJson> ToJson for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        let mut array = Array::begin(mem::take(out));
        for value in self {
            array = array.push(value);
        }
        *out = array.end();
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn write(&self, out: &mut Vec<u8>) {
        self[..].write(out);
    }
}

/// An object of a payload, member by member.
#[derive(Debug)]
#[must_use]
pub struct Object(Open);

/// An array of a payload, value by value.
#[derive(Debug)]
#[must_use]
pub struct Array(Open);

/// Text that a value may be appended to.
#[derive(Debug)]
struct Open {
    text: Vec<u8>,
    comma: bool,
}

impl Open {
    fn begin(mut text: Vec<u8>, bracket: u8) -> Open {
        text.push(bracket);
        Open { text, comma: false }
    }

    fn next(mut self) -> Vec<u8> {
        if self.comma {
            self.text.push(b',');
        }
        self.text
    }

    fn key(self, key: &str) -> Vec<u8> {
        let mut text = self.next();
        key.write(&mut text);
        text.push(b':');
        text
    }

    fn filled(text: Vec<u8>) -> Open {
        Open { text, comma: true }
    }

    fn end(mut self, bracket: u8) -> Vec<u8> {
        self.text.push(bracket);
        self.text
    }
}

impl Object {
    pub(crate) fn begin(text: Vec<u8>) -> Object {
        Object(Open::begin(text, b'{'))
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.end(b'}')
    }

    /// Adds a member; an `Option` that is `None` is left out.
    pub fn set(self, key: &str, value: impl ToJson) -> Object {
        if value.is_missing() {
            return self;
        }
        let mut text = self.0.key(key);
        value.write(&mut text);
        Object(Open::filled(text))
    }

    /// Adds a member that is an object.
    pub fn object(self, key: &str, fill: impl FnOnce(Object) -> Object) -> Object {
        Object(Open::filled(fill(Object::begin(self.0.key(key))).end()))
    }

    /// Adds a member that is an array.
    pub fn array(self, key: &str, fill: impl FnOnce(Array) -> Array) -> Object {
        Object(Open::filled(fill(Array::begin(self.0.key(key))).end()))
    }
}

impl Array {
    pub(crate) fn begin(text: Vec<u8>) -> Array {
        Array(Open::begin(text, b'['))
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.end(b']')
    }

    /// Adds a value.
    pub fn push(self, value: impl ToJson) -> Array {
        let mut text = self.0.next();
        value.write(&mut text);
        Array(Open::filled(text))
    }

    /// Adds a value that is an object.
    pub fn object(self, fill: impl FnOnce(Object) -> Object) -> Array {
        Array(Open::filled(fill(Object::begin(self.0.next())).end()))
    }

    /// Adds a value that is an array.
    pub fn array(self, fill: impl FnOnce(Array) -> Array) -> Array {
        Array(Open::filled(fill(Array::begin(self.0.next())).end()))
    }
}

thread_local! {
    /// The text of the payload before, whose place the next one takes.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Makes room for payloads, so that no event has to pay for it.
pub(crate) fn reserve() {
    BUFFER.with(|b| b.set(Vec::with_capacity(1024)));
}

/// A JSON object that is to be attached to an event's verdict; see [`Row::payload`].
#[derive(Debug)]
#[must_use = "a payload does nothing until it is emitted"]
pub struct Payload {
    row: usize,
    object: Object,
}

impl Payload {
    /// Adds a member; an `Option` that is `None` is left out.
    pub fn set(self, key: &str, value: impl ToJson) -> Payload {
        Payload { object: self.object.set(key, value), ..self }
    }

    /// Adds a member that is an object.
    pub fn object(self, key: &str, fill: impl FnOnce(Object) -> Object) -> Payload {
        Payload { object: self.object.object(key, fill), ..self }
    }

    /// Adds a member that is an array.
    pub fn array(self, key: &str, fill: impl FnOnce(Array) -> Array) -> Payload {
        Payload { object: self.object.array(key, fill), ..self }
    }

    /// Attaches the object to the event's verdict, as [`Row::emit`] does.
    pub fn try_emit(self) -> Result<(), Error> {
        let mut text = self.object.end();
        let result = emit(self.row, &text);
        text.clear();
        BUFFER.with(|b| b.set(text));
        result
    }

    /// Attaches the object to the event's verdict. If the server does not take it, the log says so,
    /// and the verdict has no payload.
    pub fn emit(self) {
        if let Err(e) = self.try_emit() {
            log(Level::Warn, &["cannot emit payload: ", e.text()].concat());
        }
    }
}

impl<'b> Row<'b> {
    /// Begins a JSON object that [`Payload::emit`] attaches to the event's verdict.
    pub fn payload(self) -> Payload {
        let text = BUFFER.with(Cell::take);
        Payload { row: self.index(), object: Object::begin(text) }
    }

    /// Attaches one JSON value to the event's verdict: the text of a [`Json`], or one of the rule's
    /// own. A second one replaces the first, and where the code is 0 it is thrown away.
    pub fn emit(self, json: &str) -> Result<(), Error> {
        emit(self.index(), json.as_bytes())
    }
}

fn emit(row: usize, json: &[u8]) -> Result<(), Error> {
    match host::emit(row, json) {
        0 => Ok(()),
        3 => Err(Error::TooLarge),
        4 => Err(Error::NotJson),
        _ => Err(Error::Refused),
    }
}

/// Reads JSON token by token. Each method that does not find what it is asked for gives None.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes a literal such as `true` or `{`.
    pub fn take(&mut self, literal: &str) -> Option<()> {
        self.text[self.at..].starts_with(literal).then(|| self.at += literal.len())
    }

    fn take_any(&mut self, accept: impl Fn(u8) -> bool) -> usize {
        let from = self.at;
        while self.peek().map_or(false, &accept) {
            self.at += 1;
        }
        self.at - from
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn skip_space(&mut self) {
        self.take_any(|c| matches!(c, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Takes a number and gives its text.
    pub fn number(&mut self) -> Option<&'a str> {
        let from = self.at;
        let _ = self.take("-");
        let zero = self.peek() == Some(b'0');
        let digits = self.take_any(|c| c.is_ascii_digit());
        if digits == 0 || zero && digits > 1 {
            return None;
        }
        if self.take(".").is_some() && self.take_any(|c| c.is_ascii_digit()) == 0 {
            return None;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let _ = self.take("+").or_else(|| self.take("-"));
            if self.take_any(|c| c.is_ascii_digit()) == 0 {
                return None;
            }
        }
        Some(&self.text[from..self.at])
    }

    /// Takes a string and gives what it stands for.
    pub fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut out = String::new();
        loop {
            let from = self.at;
            self.take_any(|c| c >= 0x20 && c != b'"' && c != b'\\');
            out.push_str(&self.text[from..self.at]);
            if self.take("\"").is_some() {
                return Some(out);
            }
            self.take("\\")?;
            out.push(self.escape()?);
        }
    }

    /// Takes what follows a backslash. Half of a surrogate pair is U+FFFD.
    fn escape(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => char::from(c),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let after = self.at;
                if (0xd800..0xdc00).contains(&high) && self.take("\\u").is_some() {
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    }
                    self.at = after;
                }
                char::from_u32(high).unwrap_or('\u{fffd}')
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut n = 0;
        for _ in 0..4 {
            n = n << 4 | char::from(self.peek()?).to_digit(16)?;
            self.at += 1;
        }
        Some(n)
    }

    pub fn at_end(&self) -> bool {
        self.at == self.text.len()
    }
}
