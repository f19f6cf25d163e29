package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestNormal(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string // error
	}{
		{Spec{Kind: Seen}, `state "": a name has 1 to 64 bytes`},
		{Spec{Name: strings.Repeat("n", 65), Kind: Seen}, "a name has 1 to 64 bytes"},
		{Spec{Name: "n", Kind: "set"},
			`state "n": kind is "set": expected counter, distinct, seen or value`},
		{Spec{Name: "n", Kind: Counter}, `state "n": window_ms is 0: expected 1 to 31622400000`},
		{Spec{Name: "n", Kind: Counter, WindowMS: -1}, "window_ms is -1"},
		{Spec{Name: "n", Kind: Counter, WindowMS: maxMS + 1}, "window_ms is 31622400001"},
		{Spec{Name: "n", Kind: Counter, WindowMS: 100, Buckets: 65}, "buckets is 65: expected 1 to 64"},
		{Spec{Name: "n", Kind: Counter, WindowMS: 100, Buckets: 3},
			"window_ms is 100: expected a multiple of its 3 buckets"},
		{Spec{Name: "n", Kind: Counter, WindowMS: 1, TTLMS: 1}, "a counter has no ttl_ms"},
		{Spec{Name: "n", Kind: Counter, WindowMS: 1, Limit: 1}, "a counter has no limit"},
		{Spec{Name: "n", Kind: Distinct, WindowMS: 1, Limit: 65}, "limit is 65: expected 1 to 64"},
		{Spec{Name: "n", Kind: Distinct, WindowMS: 1, Buckets: 1}, "a distinct has no buckets"},
		{Spec{Name: "n", Kind: Seen, WindowMS: 1}, "a seen has no window_ms"},
		{Spec{Name: "n", Kind: Seen, Bytes: 1}, "a seen has no bytes"},
		{Spec{Name: "n", Kind: Seen, TTLMS: -1}, "ttl_ms is -1: expected 0 to 31622400000"},
		{Spec{Name: "n", Kind: Value, Bytes: 257}, "bytes is 257: expected 1 to 256"},
		{Spec{Name: "n", Kind: Value, Keys: -1}, "keys is -1: expected 1 to 16777216"},
		{Spec{Name: "n", Kind: Value, Time: "now"}, `time is "now": expected event or arrival`},
	} {
		_, err := c.spec.Normal()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error is %v: want %s", c.spec, err, c.want)
		}
	}
	for _, c := range []struct{ spec, want Spec }{
		{Spec{Name: "n", Kind: Counter, WindowMS: 10, Keys: 5},
			Spec{Name: "n", Kind: Counter, WindowMS: 10, Buckets: 1, Time: "event", Keys: 5}},
		{Spec{Name: "n", Kind: Distinct, WindowMS: 10},
			Spec{Name: "n", Kind: Distinct, WindowMS: 10, Limit: 16, Time: "event", Keys: 10_000}},
		{Spec{Name: "n", Kind: Value, Time: "arrival"},
			Spec{Name: "n", Kind: Value, Bytes: 64, Time: "arrival", Keys: 10_000}},
	} {
		if got := normal(t, c.spec); got != c.want || normal(t, got) != got {
			t.Errorf("%+v: normal is %+v: want %+v, twice", c.spec, got, c.want)
		}
	}
}

func TestSame(t *testing.T) {
	a := normal(t, Spec{Name: "n", Kind: Counter, WindowMS: 10})
	b := a
	b.Keys = 7
	if !a.Same(b) {
		t.Error("other keys make another state")
	}
	b.WindowMS = 20
	if a.Same(b) {
		t.Error("another window makes the same state")
	}
}

// The hash is the published one: the first vectors of SipHash-2-4 with 128 bits.
func TestSipHash(t *testing.T) {
	text := make([]byte, 64)
	for i := range text {
		text[i] = byte(i)
	}
	a, b := binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[8:])
	for n, want := range []string{
		"a3817f04ba25a8e66df67214c7550293",
		"da87c1d86b99af44347659119b22fc45",
	} {
		x, y := sipHash(a, b, text[:n])
		got := binary.LittleEndian.AppendUint64(nil, x)
		got = binary.LittleEndian.AppendUint64(got, y)
		if fmt.Sprintf("%x", got) != want {
			t.Errorf("hash of %d bytes is %x: want %s", n, got, want)
		}
	}
}

// Keys differ by all of their bytes, their length, what divides them, and the secret.
func TestKeys(t *testing.T) {
	h := NewHasher(Secret{1})
	seen := map[[2]uint64]string{}
	note := func(k Key, what string) {
		if other, ok := seen[k.ID]; ok {
			t.Errorf("%s and %s have one identity", what, other)
		}
		if k.Spread != 9 || k.ID[0] == 0 {
			t.Errorf("%s: key is %v", what, k)
		}
		seen[k.ID] = what
	}
	text := make([]byte, 256)
	for n := range text {
		note(h.Key(text[:n], 9), fmt.Sprint("zeros ", n))
		text[n] = 1
		note(h.Key(text[:n+1], 9), fmt.Sprint("one at ", n))
		text[n] = 0
	}
	k := h.Key(nil, 9)
	if h.Sub(k, nil) != k {
		t.Error("Sub without bytes is another key")
	}
	note(h.Sub(k, []byte("ab")), "ab")
	note(h.Sub(h.Sub(k, []byte("a")), []byte("b")), "a, b")
	note(h.Sub(h.Key([]byte("a"), 9), []byte("b")), "key a, b")
	note(NewHasher(Secret{2}).Key(nil, 9), "another secret")
}

// A table that gets ten times the keys that it is for holds what it has places for, counts who had
// to go, and keeps those that are in use.
func TestEvictions(t *testing.T) {
	const keys, hot = 1000, 100
	table := newTable(t, Spec{Name: "n", Kind: Seen}, keys)
	all := keysOf(10 * keys)
	inserts := 0
	for i, k := range all {
		if _, seen := table.Seen(k, 5); seen {
			t.Fatalf("key %d was seen before", i)
		}
		inserts++
		if i%200 == 199 {
			for _, k := range all[:hot] {
				if _, seen := table.Seen(k, 6); !seen {
					t.Fatalf("a key in use was evicted, %d keys later", i)
				}
			}
			table.Commit()
		}
	}
	s := table.Stats()
	held := 0
	for _, k := range all {
		if table.Delete(k, 7) {
			held++
		}
	}
	places := sets(keys) * ways
	if s.Keys != held || s.Evicted != uint64(inserts-held) || held < keys || held > places {
		t.Errorf("stats are %+v: want %d keys of %d inserted, %d places", s, held, inserts, places)
	}
	if want := table.spec.TableBytes(keys); s.Bytes < want || s.Bytes > 2*want {
		t.Errorf("the table has %d bytes: want %d, and at most as much for the journal", s.Bytes, want)
	}
}

// What the comment of the package says: a table keeps as many keys as it is for, and the keys of a
// shard with 12 % more than its share but for a few.
func TestSlack(t *testing.T) {
	for _, c := range []struct {
		keys, come int
		most       uint64 // evicted
	}{{10, 10, 0}, {1000, 1000, 0}, {1000, 1120, 2}, {10_000, 10_000, 0}, {200_000, 200_000, 0}} {
		table := newTable(t, Spec{Name: "n", Kind: Seen}, c.keys)
		for _, k := range keysOf(c.come) {
			table.Seen(k, 1)
		}
		table.Commit()
		if s := table.Stats(); s.Evicted > c.most {
			t.Errorf("%d of %d keys were evicted from a table for %d: expected at most %d",
				s.Evicted, c.come, c.keys, c.most)
		}
	}
}

// Those past their time make room first, and are not evictions.
func TestExpiredFirst(t *testing.T) {
	table := newTable(t, Spec{Name: "n", Kind: Value, TTLMS: 1}, 1000)
	all := keysOf(10_000)
	for i, k := range all[:1500] {
		at := int64(0)
		if i%4 == 0 {
			at = 5e6 // lives, though it is used before most of the others
		}
		table.Set(k, at, []byte("v"))
	}
	table.Commit()
	before := table.Stats().Evicted
	for _, k := range all[1500:1800] {
		table.Set(k, 5e6, []byte("v"))
	}
	table.Commit()
	if after := table.Stats().Evicted; after != before {
		t.Errorf("%d keys were evicted: want %d", after, before)
	}
	gone := 0
	for i := 0; i < 1500; i += 4 {
		if _, ok := table.Get(all[i], 5e6); !ok {
			gone++
		}
	}
	if uint64(gone) > before {
		t.Errorf("%d living keys are gone: want at most the %d that were evicted", gone, before)
	}
}

// After Rollback each byte of a table is as it was at the last Commit, in one that is too small for
// its keys too, and it answers as a twin does that never had what was undone.
func TestRollback(t *testing.T) {
	for i, s := range specs {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		table, twin := newTable(t, s, 20), newTable(t, s, 20)
		keys := keysOf(100)
		some := func(tables ...*Table) {
			for range r.IntN(60) {
				k, at, n := keys[r.IntN(len(keys))], r.Int64N(100)*1e8, r.IntN(9)
				answer := anyOp(tables[0], k, at, n)
				for _, other := range tables[1:] {
					if got := anyOp(other, k, at, n); got != answer {
						t.Fatalf("%s: the answer is %s, and %s of the twin", s.Name, answer, got)
					}
				}
			}
		}
		for range 200 {
			before := slices.Clone(table.mem)
			some(table)
			table.Rollback()
			if !slices.Equal(table.mem, before) {
				t.Fatalf("%s: Rollback leaves other bytes than there were", s.Name)
			}
			some(table, twin)
			table.Commit()
			twin.Commit()
		}
		a, b := table.Stats(), twin.Stats()
		if a.Bytes, b.Bytes = 0, 0; a != b || a.Evicted == 0 {
			t.Errorf("%s: stats are %+v, and %+v of the twin: want the same, and evictions", s.Name, a, b)
		}
	}
}

// anyOp does what fits the table's kind, or deletes if n is 0.
func anyOp(t *Table, k Key, at int64, n int) string {
	text := []byte{byte(n)}
	switch {
	case n == 0:
		return fmt.Sprint(t.Delete(k, at))
	case t.spec.Kind == Counter:
		return fmt.Sprint(t.Add(k, at, float64(n)))
	case t.spec.Kind == Distinct:
		return fmt.Sprint(t.Distinct(k, at, text))
	case t.spec.Kind == Seen:
		return fmt.Sprint(t.Seen(k, at))
	case n < 4:
		return fmt.Sprint(t.Get(k, at))
	}
	t.Set(k, at, text)
	return fmt.Sprint(t.SetAt(k, at))
}

// Sums that leave the range come back when their bucket goes.
func TestInfiniteSum(t *testing.T) {
	table := newTable(t, Spec{Name: "n", Kind: Counter, WindowMS: 2, Buckets: 2}, 1)
	k := keysOf(1)[0]
	table.Add(k, 0, math.MaxFloat64)
	if got := table.Add(k, 0, math.MaxFloat64); !math.IsInf(got, 1) {
		t.Errorf("sum is %v: want +Inf", got)
	}
	if got := table.Add(k, 1e6, 2); !math.IsInf(got, 1) {
		t.Errorf("sum is %v: want +Inf", got)
	}
	if got := table.Add(k, 2e6, 3); got != 5 {
		t.Errorf("sum is %v: want 5", got)
	}
}

func TestClose(t *testing.T) {
	table := newTable(t, Spec{Name: "n", Kind: Seen}, 1)
	table.Seen(keysOf(1)[0], 1)
	table.Commit()
	for range 2 {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
	if table.Stats().Keys != 1 {
		t.Error("the stats went with the table")
	}
}

// Stats may be read while the table is at work; the race detector watches.
func TestStatsMeanwhile(t *testing.T) {
	table := newTable(t, Spec{Name: "n", Kind: Seen}, 10_000)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		last := 0
		for {
			select {
			case <-stop:
				done <- last
				return
			default:
			}
			keys := table.Stats().Keys
			if keys < last {
				t.Errorf("there were %d keys, and now %d", last, keys)
			}
			last = keys
		}
	}()
	for _, k := range keysOf(10_000) {
		table.Seen(k, 1)
		table.Commit()
	}
	close(stop)
	<-done
	if keys := table.Stats().Keys; keys != 10_000 {
		t.Errorf("there are %d keys: want 10000", keys)
	}
}

// After warm-up nothing allocates, whether batches are committed or undone.
func TestNoAllocation(t *testing.T) {
	keys, text := keysOf(100), []byte("some text of twenty")
	h := NewHasher(Secret{})
	for _, s := range specs {
		table := newTable(t, s, 50)
		n := 0
		batch := func() {
			for range 200 {
				n++
				at := int64(n) * 1e6
				k := keys[n%len(keys)]
				switch s.Kind {
				case Counter:
					table.Add(k, at, 1)
				case Distinct:
					table.Distinct(k, at, text)
				case Seen:
					table.Seen(k, at)
				case Value:
					table.Set(k, at, text[:5])
					table.Get(k, at)
					table.SetAt(k, at)
				}
				if n%7 == 0 {
					table.Delete(k, at)
				}
			}
			if n%3 == 0 {
				table.Rollback()
			} else {
				table.Commit()
			}
		}
		for range 5 {
			batch()
		}
		if got := testing.AllocsPerRun(50, batch); got != 0 {
			t.Errorf("%s: a batch allocates %v times", s.Name, got)
		}
	}
	if got := testing.AllocsPerRun(50, func() { h.Sub(h.Key(text, 1), text) }); got != 0 {
		t.Errorf("hashing allocates %v times", got)
	}
}

// One event far in the future ends the windows of its key there, and what it has begun lasts until
// then: rules-sdk/ABI.md says so, and names "time":"arrival" as the remedy.
func TestFarFuture(t *testing.T) {
	const now, far = int64(1_800_000_000e9), int64(8_800_000_000e9)
	k := keysOf(1)[0]
	counter := newTable(t, normal(t, Spec{Name: "c", Kind: Counter, WindowMS: 60_000}), 10)
	distinct := newTable(t, normal(t, Spec{Name: "d", Kind: Distinct, WindowMS: 60_000}), 10)
	seen := newTable(t, normal(t, Spec{Name: "s", Kind: Seen, TTLMS: 60_000}), 10)
	value := newTable(t, normal(t, Spec{Name: "v", Kind: Value, TTLMS: 60_000}), 10)
	value.Set(k, far, []byte("x"))
	for i, c := range []struct {
		at      int64
		sum     float64
		values  int
		first   int64
		wasSeen bool
	}{
		{now, 1, 1, now, false}, {now, 2, 2, now, true},
		{far, 1, 1, far, false},
		{now, 1, 1, far, true}, {now + 3600e9, 1, 1, far, true}, {far - 60e9, 1, 1, far, true},
		{far, 2, 2, far, true},
	} {
		sum, values := counter.Add(k, c.at, 1), distinct.Distinct(k, c.at, []byte{byte(i)})
		first, was := seen.Seen(k, c.at)
		if sum != c.sum || values != c.values || first != c.first || was != c.wasSeen {
			t.Errorf("event %d: %v, %d, %d, %v: want %+v", i, sum, values, first, was, c)
		}
		if _, ok := value.Get(k, c.at); !ok {
			t.Errorf("event %d: the value is gone", i)
		}
	}
	for _, table := range []*Table{counter, distinct} {
		if table.Commit(); table.Stats().Late != 3 {
			t.Errorf("%s: %d events are late: want 3", table.spec.Name, table.Stats().Late)
		}
	}
	seen.Delete(k, now)
	if _, was := seen.Seen(k, now); was {
		t.Error("the key is seen after it was deleted")
	}
	value.Set(k, now, []byte("y"))
	if _, ok := value.Get(k, now+60e9); ok {
		t.Error("a value that was set anew outlives its time")
	}
}
