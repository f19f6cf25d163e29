use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::slice;
use std::str;

/// The types of columns, as the ABI numbers them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    F64 = 1,
    I64,
    Bool,
    Utf8,
    Json,
}

impl Kind {
    pub fn name(self) -> &'static str {
        ["", "f64", "i64", "bool", "utf8", "json"][self as usize]
    }
}

/// Where the values of a column stand. Each pointer is good for as many rows as its batch has:
/// `open` has checked that.
pub(crate) struct Column {
    validity: *const u8,
    values: *const u8, // f64, i64, a bitmap, or i32 offsets into data
    data: *const u8,
    data_size: usize,
    nulls: usize,
}

/// A batch as it lies in memory.
pub(crate) struct Frame<'b> {
    columns: &'b [Column],
    times: &'b [i64], // one for each row
    rule: u32,
}

/// Reads the parts of a batch, and refuses what lies outside of it or over the verdicts.
struct Layout<'b> {
    base: *mut u8,
    size: usize,
    taken: Range<usize>,
    memory: PhantomData<&'b mut [u64]>,
}

impl<'b> Layout<'b> {
    fn u32(&self, at: usize) -> Option<usize> {
        // SAFETY: 4 aligned bytes within the batch, since base is 8-aligned.
        (at % 4 == 0 && at + 4 <= self.size)
            .then(|| unsafe { *(self.base.add(at) as *const u32) } as usize)
    }

    /// Gives the buffer of so many bytes whose offset stands at a place.
    fn buffer(&self, at: usize, bytes: usize) -> Option<*mut u8> {
        let from = self.u32(at)?;
        let to = from.checked_add(bytes)?;
        let apart = to <= self.taken.start || self.taken.end <= from;
        // SAFETY: from is within the batch.
        (from % 8 == 0 && to <= self.size && apart).then(|| unsafe { self.base.add(from) })
    }

    fn column(&self, at: usize, kind: Kind, rows: usize) -> Option<Column> {
        if self.u32(at)? != kind as usize {
            return None;
        }
        let bits = (rows + 7) / 8;
        let values = match kind {
            Kind::F64 | Kind::I64 => rows * 8,
            Kind::Bool => bits,
            Kind::Utf8 | Kind::Json => rows * 4 + 4,
        };
        let mut column = Column {
            validity: self.buffer(at + 8, bits)?,
            values: self.buffer(at + 12, values)?,
            data: self.base,
            data_size: 0,
            nulls: self.u32(at + 4)?,
        };
        if let Kind::Utf8 | Kind::Json = kind {
            column.data_size = self.u32(at + 20)?;
            column.data = self.buffer(at + 16, column.data_size)?;
        }
        Some(column)
    }
}

/// Reads the batch that memory begins with, for a rule that has declared these kinds of columns,
/// into columns. None means that it is not a batch of this rule.
pub(crate) fn open<'b>(
    memory: &'b mut [u64],
    kinds: &[Kind],
    columns: &'b mut Vec<Column>,
    rule: u32,
) -> Option<(Frame<'b>, &'b mut [i32])> {
    let mut layout = Layout {
        base: memory.as_mut_ptr() as *mut u8,
        size: memory.len() * 8,
        taken: 0..40 + 32 * kinds.len(),
        memory: PhantomData,
    };
    let size = layout.u32(28)?;
    let rows = layout.u32(4)?;
    let ours = layout.u32(0)? == 1 && layout.u32(8)? == kinds.len() && rows <= 65535;
    if !ours || size > layout.size {
        return None;
    }
    layout.size = size;
    let verdicts = layout.buffer(12, rows * 4)?;
    let from = verdicts as usize - layout.base as usize;
    layout.taken = from..from + rows * 4;
    let times = layout.buffer(24, rows * 8)? as *const i64;
    columns.clear();
    for (i, kind) in kinds.iter().enumerate() {
        columns.push(layout.column(40 + 32 * i, *kind, rows)?);
    }
    // SAFETY: both are within memory, aligned, apart, and borrowed for 'b.
    let (times, verdicts) = unsafe {
        (slice::from_raw_parts(times, rows), slice::from_raw_parts_mut(verdicts as *mut i32, rows))
    };
    Some((Frame { columns, times, rule }, verdicts))
}

/// A batch of events.
#[derive(Clone, Copy)]
pub struct Batch<'b> {
    pub(crate) frame: &'b Frame<'b>,
}

impl<'b> Batch<'b> {
    /// Returns how many events there are: 1 to 65,535.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(self) -> usize {
        self.frame.times.len()
    }

    /// Returns the events one after the other.
    #[inline]
    pub fn rows(self) -> impl ExactSizeIterator<Item = Row<'b>> {
        (0..self.len()).map(move |index| Row { batch: self, index })
    }

    /// Returns when each event arrived, in nanoseconds since 1970-01-01 UTC.
    pub fn arrivals(self) -> &'b [i64] {
        self.frame.times
    }

    /// Gives the column of a handle.
    #[inline]
    fn column(self, slot: Slot) -> &'b Column {
        // A module has but one rule, so that only a test can mix up the handles of two.
        if cfg!(not(target_arch = "wasm32")) {
            assert_eq!(slot.rule, self.frame.rule, "a field is read in another rule");
        }
        // SAFETY: only Declare makes slots, and every batch has a column for each.
        unsafe { self.frame.columns.get_unchecked(slot.index as usize) }
    }
}

/// One event of a batch.
#[derive(Clone, Copy)]
pub struct Row<'b> {
    batch: Batch<'b>,
    index: usize, // below batch.len()
}

impl<'b> Row<'b> {
    /// Returns the row's place in its batch.
    #[inline]
    pub fn index(self) -> usize {
        self.index
    }

    /// Returns when the event arrived, in nanoseconds since 1970-01-01 UTC. Its own time is the
    /// field `@time`.
    #[inline]
    pub fn arrival(self) -> i64 {
        self.batch.frame.times[self.index]
    }
}

/// A declared field's place among the columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub index: u32,
    pub rule: u32,
}

impl Column {
    /// SAFETY: the caller gives a row of the column's batch, here and below.
    #[inline]
    unsafe fn valid(&self, row: usize) -> bool {
        bit(self.validity, row)
    }

    #[inline]
    unsafe fn value<T: Copy>(&self, row: usize) -> T {
        *(self.values as *const T).add(row)
    }

    #[inline]
    unsafe fn text<'b>(&self, row: usize) -> &'b str {
        let data = slice::from_raw_parts(self.data, self.data_size);
        let from = self.value::<i32>(row) as usize;
        let to = *(self.values as *const i32).add(row + 1) as usize;
        // The server has checked that events are UTF-8, and cuts them only at quotes.
        str::from_utf8_unchecked(data.get(from..to).unwrap_or_default())
    }
}

#[inline]
unsafe fn bit(bitmap: *const u8, row: usize) -> bool {
    *bitmap.add(row >> 3) >> (row & 7) & 1 != 0
}

/// What all fields have.
macro_rules! field {
    ($field:ident) => {
        impl $field {
            /// Returns a bitmap: bit `i & 7` of byte `i >> 3` is 1 if row `i` has a value.
            pub fn validity(self, batch: Batch<'_>) -> &[u8] {
                let column = batch.column(self.0);
                // SAFETY: the column has a bit for each row.
                unsafe { slice::from_raw_parts(column.validity, (batch.len() + 7) / 8) }
            }

            /// Returns how many events of the batch have no value of the field's type.
            pub fn nulls(self, batch: Batch<'_>) -> usize {
                batch.column(self.0).nulls
            }
        }
    };
}

/// A field that is read as `f64`; see [`Declare::f64`](crate::Declare::f64).
#[derive(Clone, Copy, Debug)]
pub struct F64(pub(crate) Slot);

/// A field that is read as `i64`; see [`Declare::i64`](crate::Declare::i64).
#[derive(Clone, Copy, Debug)]
pub struct I64(pub(crate) Slot);

/// A field that is read as `bool`; see [`Declare::bool`](crate::Declare::bool).
#[derive(Clone, Copy, Debug)]
pub struct Bool(pub(crate) Slot);

/// A field that is read as string; see [`Declare::utf8`](crate::Declare::utf8).
#[derive(Clone, Copy, Debug)]
pub struct Utf8(pub(crate) Slot);

/// A field that is read as JSON text; see [`Declare::json`](crate::Declare::json).
#[derive(Clone, Copy, Debug)]
pub struct JsonField(pub(crate) Slot);

field!(F64);
field!(I64);
field!(Bool);
field!(Utf8);
field!(JsonField);

macro_rules! number {
    ($field:ident, $type:ty) => {
        impl $field {
            /// Returns the event's value, or None if it has none of this type.
            #[inline]
            pub fn get(self, row: Row<'_>) -> Option<$type> {
                let column = row.batch.column(self.0);
                // SAFETY: the column is of this type, and the row of its batch.
                unsafe { column.valid(row.index).then(|| column.value(row.index)) }
            }

            /// Returns the value of each event, 0 where there is none.
            #[inline]
            pub fn values(self, batch: Batch<'_>) -> &[$type] {
                let column = batch.column(self.0);
                // SAFETY: the column is of this type, and has a value for each row.
                unsafe { slice::from_raw_parts(column.values as *const $type, batch.len()) }
            }
        }
    };
}

number!(F64, f64);
number!(I64, i64);

impl Bool {
    /// Returns the event's value, or None if it has none of this type.
    #[inline]
    pub fn get(self, row: Row<'_>) -> Option<bool> {
        let column = row.batch.column(self.0);
        // SAFETY: the column is of this type, and the row of its batch.
        unsafe { column.valid(row.index).then(|| bit(column.values, row.index)) }
    }

    /// Returns a bitmap: bit `i & 7` of byte `i >> 3` is row `i`, 0 where it has no value.
    pub fn values(self, batch: Batch<'_>) -> &[u8] {
        let column = batch.column(self.0);
        // SAFETY: the column is of this type, and has a bit for each row.
        unsafe { slice::from_raw_parts(column.values, (batch.len() + 7) / 8) }
    }
}

impl Utf8 {
    /// Returns the event's text in place, or None if it has none.
    #[inline]
    pub fn get<'b>(self, row: Row<'b>) -> Option<&'b str> {
        let column = row.batch.column(self.0);
        // SAFETY: the column is of this type, and the row of its batch, which lives for 'b.
        unsafe { column.valid(row.index).then(|| column.text(row.index)) }
    }
}

impl JsonField {
    /// Returns the event's value in place as JSON text, or None if it has none.
    #[inline]
    pub fn get<'b>(self, row: Row<'b>) -> Option<Json<'b>> {
        let column = row.batch.column(self.0);
        // SAFETY: the column is of this type, and the row of its batch, which lives for 'b.
        unsafe { column.valid(row.index).then(|| Json(column.text(row.index))) }
    }
}

/// A text that is JSON already: a payload takes it as it is, where it would quote a `&str`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'b>(pub &'b str);

impl Deref for Json<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}
