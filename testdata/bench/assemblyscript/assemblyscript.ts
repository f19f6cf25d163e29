// build: asc assemblyscript.ts -O3 --runtime incremental --exportStart _initialize --use abort= -o assemblyscript.wasm
// The bodies that ../README.md describes, in AssemblyScript with its strings and its collector.
const IN: usize = memory.data(16384, 16);
const AMOUNTS: usize = IN + 4096;
const COUNTS: usize = IN + 4608;
const OFFSETS: usize = IN + 5120;
const NAMES: usize = IN + 5632;
const VALUES: usize = IN + 7680;
const VERDICTS: usize = IN + 11776;

export function input(): usize {
  return IN;
}

export function find(n: i32): i32 {
  const key = '"amount":';
  const text = String.UTF8.decodeUnsafe(IN, n);
  let from = text.indexOf(key);
  if (from < 0) return -1;
  from += key.length;
  let to = from;
  while (to < text.length) {
    const c = text.charCodeAt(to);
    if (c != 46 && (c < 48 || c > 57)) break;
    to++;
  }
  return <i32>Math.round(parseFloat(text.substring(from, to)) * 100);
}

export function rows(n: i32): i32 {
  let matched = 0;
  for (let i = 0; i < n; i++) {
    const amount = load<f64>(AMOUNTS + (<usize>i << 3));
    const count = load<i64>(COUNTS + (<usize>i << 3));
    const v = amount > 1000 && count != 3 ? 1 : amount < 0 ? 2 : 0;
    store<i32>(VERDICTS + (<usize>i << 2), v);
    if (v) matched++;
  }
  return matched;
}

const want: StaticArray<u8> = [112, 114, 101, 109, 105, 117, 109];

export function compare(n: i32): i32 {
  let matched = 0;
  for (let i = 0; i < n; i++) {
    const from = load<i32>(OFFSETS + (<usize>i << 2));
    const size = load<i32>(OFFSETS + (<usize>i << 2), 4) - from;
    if (size != want.length) continue;
    let same = true;
    for (let j = 0; j < size && same; j++) {
      same = load<u8>(NAMES + <usize>(from + j)) == want[j];
    }
    if (same) matched++;
  }
  return matched;
}

const seen = new StaticArray<u8>(256);

export function hash(n: i32): i32 {
  seen.fill(0);
  let repeated = 0;
  let h: u32 = 2166136261;
  for (let i = 0; i < n; i++) {
    const c = load<u8>(IN + <usize>i);
    if (c == 34 || c == 44 || c == 58) {
      const slot = h & 255;
      if (seen[slot]) repeated++;
      seen[slot]++;
      h = 2166136261;
    } else {
      h = (h ^ c) * 16777619;
    }
  }
  return repeated;
}

export function sort(n: i32): i32 {
  const v = new Array<i32>(n);
  for (let i = 0; i < n; i++) v[i] = load<i32>(VALUES + (<usize>i << 2));
  v.sort((a, b) => a - b);
  return v[n / 2];
}

function byValue(a: i32, b: i32): i32 {
  return load<i32>(VALUES + (<usize>a << 2)) - load<i32>(VALUES + (<usize>b << 2));
}

function byLastDigit(a: i32, b: i32): i32 {
  const x = load<i32>(VALUES + (<usize>a << 2)) % 10;
  const y = load<i32>(VALUES + (<usize>b << 2)) % 10;
  return x != y ? x - y : byValue(a, b);
}

export function order(n: i32): i32 {
  const heap = new Array<i32>(n);
  for (let i = 0; i < n; i++) heap[i] = i;
  heap.sort(n & 1 ? byValue : byLastDigit);
  return load<i32>(VALUES + (<usize>heap[n / 2] << 2));
}
