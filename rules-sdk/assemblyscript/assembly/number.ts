// Reading of numbers: the language's own parseFloat is wrong for some exponents.

const limbs = memory.data(160); // a natural number of 1,280 bits, the lowest 32 first
let count: usize = 0; // limbs that it has

function times(by: u32): void {
  let carry: u64 = 0;
  for (let i: usize = 0; i < count; i++) {
    carry += <u64>load<u32>(limbs + (i << 2)) * by;
    store<u32>(limbs + (i << 2), <u32>carry);
    carry >>= 32;
  }
  if (carry) store<u32>(limbs + (count++ << 2), <u32>carry);
}

/** Divides, and tells whether anything is left over. */
function over(by: u32): bool {
  let rest: u64 = 0;
  for (let i = count; i-- > 0;) {
    rest = (rest << 32) | load<u32>(limbs + (i << 2));
    store<u32>(limbs + (i << 2), <u32>(rest / by));
    rest %= by;
  }
  while (!load<u32>(limbs + ((count - 1) << 2))) count--;
  return rest != 0;
}

/** Gives digits * 10^exponent, rounded to the nearest, and of two to the even one. */
export function decimal(digits: u64, exponent: i32): f64 {
  if (!digits || exponent < -345) return 0;
  if (exponent > 310) return Infinity;
  const zeros = clz(digits);
  // Below the digits stand as many zeros as a division takes away, so that 64 bits are left.
  const below: i32 = exponent < 0 ? 36 : 1;
  memory.fill(limbs, 0, <usize>below << 2);
  store<u64>(limbs + (<usize>below << 2), digits << zeros);
  count = below + 2;
  let inexact = false;
  for (; exponent >= 9; exponent -= 9) times(1000000000);
  for (; exponent > 0; exponent--) times(10);
  for (; exponent <= -9; exponent += 9) inexact = over(1000000000) || inexact;
  for (; exponent < 0; exponent++) inexact = over(10) || inexact;
  return rounded(-32 * below - <i32>zeros, inexact);
}

/** Gives the limbs times 2^scale; inexact means that the true number is a bit above. */
function rounded(scale: i32, inexact: bool): f64 {
  const top = limbs + ((count - 2) << 2); // the highest 64 bits, and below them 32 more
  const shift = clz(load<u64>(top));
  const lower = <u64>load<u32>(top - 4) << shift;
  const bits = (load<u64>(top) << shift) | (lower >> 32);
  inexact = inexact || <u32>lower != 0;
  for (let p = limbs; p < top - 4 && !inexact; p += 4) inexact = load<u32>(p) != 0;
  const e = 32 * (<i32>count - 2) - <i32>shift + scale + 63; // of the highest bit
  if (e > 1023) return Infinity;
  const drop = e < -1022 ? 11 - 1022 - e : 11; // bits that an f64 of this size has no room for
  if (drop > 64) return 0;
  let kept = drop == 64 ? 0 : bits >> drop;
  const rest = drop == 64 ? bits : bits << (64 - drop);
  const half: u64 = 1 << 63;
  if (rest > half || (rest == half && (inexact || kept & 1))) kept++;
  // The highest bit that is kept adds 1 to the exponent, and so does the carry of rounding up.
  return reinterpret<f64>((e < -1022 ? 0 : <u64>(e + 1022) << 52) + kept);
}
