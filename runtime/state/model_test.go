package state

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// model is what a table of one kind should hold, kept in the plainest way: what was added to a key,
// with its time, is looked through for each answer.
type model struct {
	spec Spec
	keys map[int]entryModel
	late uint64

	order int
}

type entryModel struct {
	newest int64             // step of the newest bucket, or time of the newest value
	sums   map[int64]float64 // of a counter: by bucket
	times  map[string]came   // of a distinct
	first  int64             // of a seen, and when a value was set
	value  string
}

// came is when a value came last; order goes up with each that does.
type came struct {
	at    int64
	order int
}

func (m *model) clone() model {
	c := model{spec: m.spec, keys: make(map[int]entryModel), late: m.late, order: m.order}
	for k, e := range m.keys {
		e.sums, e.times = maps.Clone(e.sums), maps.Clone(e.times)
		c.keys[k] = e
	}
	return c
}

// since is how far one time is after another, without an overflow.
func since(now, then int64) *big.Int {
	return new(big.Int).Sub(big.NewInt(now), big.NewInt(then))
}

func within(now, then, life int64) bool { return since(now, then).Cmp(big.NewInt(life)) < 0 }

func (m *model) bucket(at int64) int64 {
	n, rest := new(big.Int), new(big.Int)
	n.DivMod(big.NewInt(at), big.NewInt(m.spec.WindowMS*1e6/int64(m.spec.Buckets)), rest)
	return n.Int64() // DivMod rounds down for a divisor above 0
}

func (m *model) add(key int, at int64, amount float64) float64 {
	n := m.bucket(at)
	e, ok := m.keys[key]
	if !ok && amount == 0 {
		return 0
	}
	if !ok {
		e = entryModel{newest: n, sums: make(map[int64]float64)}
	}
	e.newest = max(e.newest, n)
	if within(e.newest, n, int64(m.spec.Buckets)) {
		e.sums[n] += amount
	} else if amount != 0 {
		m.late++
	}
	m.keys[key] = e
	sum := 0.0
	for b, s := range e.sums {
		if within(e.newest, b, int64(m.spec.Buckets)) {
			sum += s
		}
	}
	return sum
}

func (m *model) distinct(key int, at int64, value string) int {
	life := m.spec.WindowMS * 1e6
	e, ok := m.keys[key]
	if !ok {
		e = entryModel{newest: at, times: make(map[string]came)}
	}
	e.newest = max(e.newest, at)
	maps.DeleteFunc(e.times, func(_ string, c came) bool { return !within(e.newest, c.at, life) })
	then, known := e.times[value]
	m.order++
	switch {
	case !within(e.newest, at, life):
		m.late++
	case !known || at > then.at:
		e.times[value] = came{at, m.order}
	}
	if len(e.times) > m.spec.Limit {
		oldest := value
		for v, c := range e.times {
			if o := e.times[oldest]; c.at < o.at || c.at == o.at && c.order < o.order {
				oldest = v
			}
		}
		delete(e.times, oldest)
	}
	m.keys[key] = e
	return len(e.times)
}

// live gives what a key has whose time is not over.
func (m *model) live(key int, at int64) (e entryModel, ok bool) {
	e, ok = m.keys[key]
	switch {
	case !ok:
		return e, false
	case m.spec.Kind == Counter:
		return e, within(m.bucket(at), e.newest, int64(m.spec.Buckets))
	case m.spec.Kind == Distinct:
		return e, within(at, e.newest, m.spec.WindowMS*1e6)
	}
	return e, m.spec.TTLMS == 0 || within(at, e.first, m.spec.TTLMS*1e6)
}

// pair is a table with its model, and does the same to both.
type pair struct {
	t     *testing.T
	rand  *rand.Rand
	table *Table
	model
	committed model
	keyOf     []Key
}

func (p *pair) step(at int64) {
	key := p.rand.IntN(len(p.keyOf))
	k := p.keyOf[key]
	var got, want any
	op := p.rand.IntN(100)
	switch {
	case op == 0:
		_, there := p.live(key, at)
		delete(p.keys, key)
		got, want = p.table.Delete(k, at), there
	case p.spec.Kind == Counter:
		amount := float64(p.rand.IntN(7) - 2)
		got, want = p.table.Add(k, at, amount), p.add(key, at, amount)
	case p.spec.Kind == Distinct:
		value := fmt.Sprint("value ", p.rand.IntN(3*p.spec.Limit))
		got, want = p.table.Distinct(k, at, []byte(value)), p.distinct(key, at, value)
	case p.spec.Kind == Seen:
		e, seen := p.live(key, at)
		if !seen {
			e = entryModel{first: at}
		}
		p.keys[key] = e
		first, ok := p.table.Seen(k, at)
		got, want = fmt.Sprint(first, ok), fmt.Sprint(e.first, seen)
	case op < 50:
		value := fmt.Sprintf("%0*d", p.rand.IntN(p.spec.Bytes+1), op)[:1]
		p.keys[key] = entryModel{first: at, value: value}
		p.table.Set(k, at, []byte(value))
	default:
		e, there := p.live(key, at)
		if !there {
			e = entryModel{}
		}
		value, ok := p.table.Get(k, at)
		set, _ := p.table.SetAt(k, at)
		got, want = fmt.Sprint(string(value), set, ok), fmt.Sprint(e.value, e.first, there)
	}
	if got != want {
		p.t.Fatalf("%s, op %d, key %d, at %d: got %v, want %v", p.spec.Name, op, key, at, got, want)
	}
}

// end commits or rolls back, and compares the counts.
func (p *pair) end() {
	if p.rand.IntN(3) == 0 {
		p.table.Rollback()
		p.model = p.committed.clone()
	} else {
		p.table.Commit()
		p.committed = p.clone()
	}
	s := p.table.Stats()
	if s.Keys != len(p.keys) || s.Late != p.late || s.Evicted != 0 {
		p.t.Fatalf("%s: stats are %+v: want %d keys, %d late", p.spec.Name, s, len(p.keys), p.late)
	}
}

// specs are of all kinds, with odd sizes.
var specs = []Spec{
	{Name: "tumbling", Kind: Counter, WindowMS: 1000},
	{Name: "sliding 7", Kind: Counter, WindowMS: 700, Buckets: 7},
	{Name: "sliding 64", Kind: Counter, WindowMS: maxMS, Buckets: 64},
	{Name: "distinct 3", Kind: Distinct, WindowMS: 50, Limit: 3},
	{Name: "distinct 64", Kind: Distinct, WindowMS: maxMS, Limit: 64},
	{Name: "seen", Kind: Seen},
	{Name: "seen for a second", Kind: Seen, TTLMS: 1000},
	{Name: "value", Kind: Value, Bytes: 11},
	{Name: "value for a year", Kind: Value, Bytes: 256, TTLMS: maxMS},
}

func normal(t testing.TB, s Spec) Spec {
	t.Helper()
	n, err := s.Normal()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newTable(t testing.TB, s Spec, keys int) *Table {
	t.Helper()
	table, err := NewTable(normal(t, s), keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	return table
}

func keysOf(n int) []Key {
	h := NewHasher(Secret{1, 2, 3})
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = h.Key(fmt.Append(nil, "user-", i), uint32(i)*2654435761)
	}
	return keys
}

// Each operation does what the model does, at ordinary times that go forth and back, and at times
// as far apart as there are.
func TestModel(t *testing.T) {
	ends := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}
	for i, s := range specs {
		for round := range 20 {
			// Few keys and little time between two calls fill them, much time empties them.
			keys, pace := []int{30, 2}[round%2], []int64{20, 200, 2000}[round%3]
			p := pair{t: t, rand: rand.New(rand.NewPCG(uint64(i), uint64(round))), keyOf: keysOf(keys)}
			p.model = model{spec: normal(t, s), keys: make(map[int]entryModel)}
			p.committed = p.clone()
			p.table = newTable(t, s, 100)
			now, spread := int64(-500e6), max(s.WindowMS, s.TTLMS, 1000)*1e6
			for n := range 1500 {
				now += p.rand.Int64N(spread / pace)
				at := now - p.rand.Int64N(spread*3/2)
				if round%5 == 1 {
					at -= at % (spread / 50) // so that several come at one time
				}
				if round%4 == 3 && p.rand.IntN(4) == 0 {
					at = ends[p.rand.IntN(len(ends))]
				}
				p.step(at)
				if n%12 == 11 {
					p.end()
				}
			}
		}
	}
}
