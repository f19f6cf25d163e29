// build: rustc --edition 2021 --target wasm32-unknown-unknown -C opt-level=2 -C panic=abort -C lto=fat -C debuginfo=1 --remap-path-prefix "$PWD=." --crate-type cdylib -C linker=wasm-ld -C link-arg=-zstack-size=16384 -o trap-rust.wasm trap-rust.rs
// As ../trap-c, in Rust, whose panics end in a trap of its library.
#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

static MANIFEST: &str = r#"{"fields":[{"path":"bad","type":"i64"},{"path":"n","type":"i64"}]}"#;
static mut INPUT: [u64; 8192] = [0; 8192];

#[no_mangle]
pub extern "C" fn wasmeval_abi() -> i32 {
    1
}

#[no_mangle]
pub extern "C" fn wasmeval_manifest() -> i64 {
    (MANIFEST.as_ptr() as i64) << 32 | MANIFEST.len() as i64
}

#[no_mangle]
pub extern "C" fn wasmeval_input(size: u32) -> u32 {
    if size > 65536 {
        return 0;
    }
    unsafe { core::ptr::addr_of!(INPUT) as u32 }
}

mod rule {
    #[inline(never)]
    pub fn nth(list: &[i64], n: i64) -> i64 {
        list[n as usize] // index
    }

    #[inline(never)]
    pub fn divide(a: i64, b: i64) -> i64 {
        a / b // divide
    }

    pub struct Rule(pub i64);

    pub trait Verdict {
        fn verdict(&self, n: i64) -> i64;
    }

    impl Verdict for Rule {
        #[inline(never)]
        fn verdict(&self, n: i64) -> i64 {
            match self.0 {
                1 => divide(n, n - n),
                2 => nth(&[1, 2, 3], n + 3), // verdict
                _ => 1,
            }
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn wasmeval_evaluate(batch: *const u8) -> i32 {
    use rule::Verdict;
    let word = |at: u32| *(batch.add(at as usize) as *const u32);
    let (rows, verdicts) = (word(4), word(12));
    let column = |i: u32| batch.add(word(40 + 32 * i + 12) as usize) as *const i64;
    for row in 0..rows as usize {
        let verdict = rule::Rule(*column(0).add(row)).verdict(*column(1).add(row));
        *(batch.add(verdicts as usize) as *mut i32).add(row) = verdict as i32;
    }
    0
}
