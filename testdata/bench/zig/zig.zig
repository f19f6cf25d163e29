// build: zig build-exe zig.zig -target wasm32-freestanding -fno-entry -rdynamic -OReleaseFast -fstrip --stack 16384 -femit-bin=zig.wasm
// The bodies that ../README.md describes, in Zig with its standard library.
const std = @import("std");

const Input = extern struct {
    text: [4096]u8,
    amounts: [64]f64,
    counts: [64]i64,
    offsets: [128]i32,
    names: [2048]u8,
    values: [1024]i32,
    verdicts: [64]i32,
};

var in: Input = undefined;

export fn input() *Input {
    return &in;
}

export fn find(n: usize) i32 {
    const key = "\"amount\":";
    const text = in.text[0..n];
    const at = (std.mem.indexOf(u8, text, key) orelse return -1) + key.len;
    var to = at;
    while (to < n and (text[to] == '.' or std.ascii.isDigit(text[to]))) to += 1;
    const v = std.fmt.parseFloat(f64, text[at..to]) catch return -1;
    return @intFromFloat(@round(v * 100));
}

export fn rows(n: usize) i32 {
    var matched: i32 = 0;
    for (in.amounts[0..n], in.counts[0..n], in.verdicts[0..n]) |amount, count, *verdict| {
        verdict.* = if (amount > 1000 and count != 3) 1 else if (amount < 0) 2 else 0;
        matched += @intFromBool(verdict.* != 0);
    }
    return matched;
}

export fn compare(n: usize) i32 {
    var matched: i32 = 0;
    for (in.offsets[0..n], in.offsets[1 .. n + 1]) |from, to| {
        const name = in.names[@intCast(from)..@intCast(to)];
        matched += @intFromBool(std.mem.eql(u8, name, "premium"));
    }
    return matched;
}

export fn hash(n: usize) i32 {
    var seen = [_]u8{0} ** 256;
    var repeated: i32 = 0;
    var words = std.mem.splitAny(u8, in.text[0..n], "\",:");
    while (words.next()) |word| {
        const slot = &seen[std.hash.Fnv1a_32.hash(word) & 255];
        repeated += @intFromBool(slot.* != 0);
        slot.* +%= 1;
    }
    return repeated;
}

export fn sort(n: usize) i32 {
    var v: [1024]i32 = undefined;
    @memcpy(v[0..n], in.values[0..n]);
    std.mem.sortUnstable(i32, v[0..n], {}, std.sort.asc(i32));
    return v[n / 2];
}

fn byValue(_: void, a: i32, b: i32) bool {
    return in.values[@intCast(a)] < in.values[@intCast(b)];
}

fn byLastDigit(_: void, a: i32, b: i32) bool {
    const x = @rem(in.values[@intCast(a)], 10);
    const y = @rem(in.values[@intCast(b)], 10);
    return if (x != y) x < y else byValue({}, a, b);
}

export fn order(n: usize) i32 {
    var heap: [1024]i32 = undefined;
    for (heap[0..n], 0..) |*h, i| h.* = @intCast(i);
    if (n & 1 == 1) {
        std.sort.heap(i32, heap[0..n], {}, byValue);
    } else {
        std.sort.heap(i32, heap[0..n], {}, byLastDigit);
    }
    return in.values[@intCast(heap[n / 2])];
}
