package state

import (
	"fmt"
	"testing"
)

var sliding60 = Spec{Name: "n", Kind: Counter, WindowMS: 60_000, Buckets: 60}

// bench does an operation for one key after another of a table that knows them all, in batches of
// 64 as a worker does. With 1,000 keys all of it is in the processor's own cache; with 10,000 it is
// but for the large entries (5 MB of sliding60, 11 MB of Distinct/64); with 1,000,000 it is not.
func bench(b *testing.B, s Spec, op func(t *Table, k Key, at int64)) {
	for _, size := range []struct {
		name string
		keys int
	}{{"hot", 1000}, {"warm", 10_000}, {"cold", 1_000_000}} {
		b.Run(size.name, func(b *testing.B) {
			keys := keysOf(size.keys)
			table := newTable(b, s, size.keys)
			for i, k := range keys {
				op(table, k, 0)
				if i%64 == 0 {
					table.Commit()
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				op(table, keys[i%len(keys)], int64(i)*1000)
				if i++; i%64 == 0 {
					table.Commit()
				}
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	add := func(t *Table, k Key, at int64) { t.Add(k, at, 1) }
	b.Run("sliding60", func(b *testing.B) { bench(b, sliding60, add) })
	b.Run("tumbling", func(b *testing.B) {
		bench(b, Spec{Name: "n", Kind: Counter, WindowMS: 60_000}, add)
	})
}

// BenchmarkDistinct is full, and each value is a new one: the oldest goes.
func BenchmarkDistinct(b *testing.B) {
	texts := make([][]byte, 128)
	for i := range texts {
		texts[i] = fmt.Append(nil, "203.0.113.", i)
	}
	for _, limit := range []int{16, 64} {
		b.Run(fmt.Sprint(limit), func(b *testing.B) {
			n := 0
			s := Spec{Name: "n", Kind: Distinct, WindowMS: maxMS, Limit: limit}
			bench(b, s, func(t *Table, k Key, at int64) {
				n++
				t.Distinct(k, at, texts[n/1000%len(texts)])
			})
		})
	}
}

func BenchmarkSeen(b *testing.B) {
	bench(b, Spec{Name: "n", Kind: Seen}, func(t *Table, k Key, at int64) { t.Seen(k, at) })
}

// BenchmarkEvict has many more keys than places, so that each comes new and another must go.
func BenchmarkEvict(b *testing.B) {
	table, keys := newTable(b, Spec{Name: "n", Kind: Seen}, 10_000), keysOf(100_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		table.Seen(keys[i%len(keys)], int64(i))
		if i++; i%64 == 0 {
			table.Commit()
		}
	}
}

func BenchmarkSet(b *testing.B) {
	value := make([]byte, 64)
	bench(b, Spec{Name: "n", Kind: Value}, func(t *Table, k Key, at int64) { t.Set(k, at, value) })
}

func BenchmarkGet(b *testing.B) {
	value := make([]byte, 64)
	bench(b, Spec{Name: "n", Kind: Value}, func(t *Table, k Key, at int64) {
		if at == 0 {
			t.Set(k, at, value)
		}
		t.Get(k, at)
	})
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher(Secret{1})
	for _, n := range []int{8, 16, 36, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			key := make([]byte, n)
			b.ReportAllocs()
			for b.Loop() {
				h.Key(key, 1)
			}
		})
	}
}
