// build: rustc --edition 2021 --target wasm32-unknown-unknown -C opt-level=3 -C panic=abort -C lto=fat -C strip=symbols --crate-type cdylib -C linker=wasm-ld -C link-arg=-zstack-size=16384 -o rust.wasm rust.rs
// The bodies that ../README.md describes, in Rust with its standard library.
use std::cmp::Ordering;
use std::ptr::addr_of_mut;

#[repr(C)]
pub struct Input {
    text: [u8; 4096],
    amounts: [f64; 64],
    counts: [i64; 64],
    offsets: [i32; 128],
    names: [u8; 2048],
    values: [i32; 1024],
    verdicts: [i32; 64],
}

static mut INPUT: Input = Input {
    text: [0; 4096],
    amounts: [0.0; 64],
    counts: [0; 64],
    offsets: [0; 128],
    names: [0; 2048],
    values: [0; 1024],
    verdicts: [0; 64],
};

fn given() -> &'static mut Input {
    unsafe { &mut *addr_of_mut!(INPUT) }
}

#[no_mangle]
pub extern "C" fn input() -> *mut Input {
    given()
}

#[no_mangle]
pub extern "C" fn find(n: usize) -> i32 {
    let key = b"\"amount\":";
    let text = &given().text[..n];
    let at = match text.windows(key.len()).position(|w| w == key) {
        Some(i) => i + key.len(),
        None => return -1,
    };
    let number = &text[at..];
    let size = number.iter().position(|c| !matches!(c, b'0'..=b'9' | b'.')).unwrap_or(number.len());
    match std::str::from_utf8(&number[..size]).ok().and_then(|s| s.parse::<f64>().ok()) {
        Some(v) => (v * 100.0).round() as i32,
        None => -1,
    }
}

#[no_mangle]
pub extern "C" fn rows(n: usize) -> i32 {
    let g = given();
    let mut matched = 0;
    for ((amount, count), verdict) in g.amounts[..n].iter().zip(&g.counts).zip(&mut g.verdicts) {
        *verdict = if *amount > 1000.0 && *count != 3 {
            1
        } else if *amount < 0.0 {
            2
        } else {
            0
        };
        matched += (*verdict != 0) as i32;
    }
    matched
}

#[no_mangle]
pub extern "C" fn compare(n: usize) -> i32 {
    let g = given();
    let matches = |w: &&[i32]| &g.names[w[0] as usize..w[1] as usize] == b"premium";
    g.offsets[..=n].windows(2).filter(matches).count() as i32
}

#[no_mangle]
pub extern "C" fn hash(n: usize) -> i32 {
    let mut seen = [0u8; 256];
    let mut repeated = 0;
    for word in given().text[..n].split(|c| matches!(c, b'"' | b',' | b':')) {
        let h = word.iter().fold(2166136261u32, |h, c| (h ^ *c as u32).wrapping_mul(16777619));
        let slot = &mut seen[h as usize & 255];
        repeated += (*slot != 0) as i32;
        *slot = slot.wrapping_add(1);
    }
    repeated
}

#[no_mangle]
pub extern "C" fn sort(n: usize) -> i32 {
    let mut v = [0i32; 1024];
    v[..n].copy_from_slice(&given().values[..n]);
    v[..n].sort_unstable();
    v[n / 2]
}

#[no_mangle]
pub extern "C" fn order(n: usize) -> i32 {
    let values = &given().values;
    let mut heap: Vec<usize> = (0..n).collect();
    let by_value = |a: &usize, b: &usize| values[*a].cmp(&values[*b]);
    let by_last_digit =
        |a: &usize, b: &usize| (values[*a] % 10).cmp(&(values[*b] % 10)).then_with(|| by_value(a, b));
    let before: &dyn Fn(&usize, &usize) -> Ordering =
        if n & 1 == 1 { &by_value } else { &by_last_digit };
    heap.sort_by(before);
    values[heap[n / 2]]
}
