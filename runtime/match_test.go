package runtime

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"wasmeval/internal/event"
)

// rulesThatMatch is a set of rules that have these patterns, each with a column of its own.
func rulesThatMatch(patterns [][]string) *ruleSet {
	rules := make([]*activeRule, len(patterns))
	for i, match := range patterns {
		name := fmt.Sprint("r", i)
		rules[i] = &activeRule{name: RuleName(name), prog: &program{manifest: Manifest{Match: match},
			columns: []*column{{path: name, typ: typeF64, steps: []step{{key: name, index: -1}}}}}}
	}
	return newRuleSet(1, rules)
}

// More rules and columns than 16 bits can number are still told apart.
func TestManyRules(t *testing.T) {
	patterns := make([][]string, 70_000)
	for i := range patterns {
		patterns[i] = []string{fmt.Sprint("type-", i/2)}
	}
	s := rulesThatMatch(patterns)
	for i, r := range s.rules {
		name := string(r.name)
		if at := s.byName[name]; at != uint32(i) {
			t.Fatalf("rule %s is found at %d", name, at)
		}
		if path := s.columns[s.which[i][0]].path; path != name {
			t.Fatalf("rule %s reads column %q", name, path)
		}
	}
	w := &worker{}
	w.adopt(s)
	m := w.newMatch(s, "type-34999")
	if fmt.Sprint(m.rules, m.columns) != "[69998 69999] [69998 69999]" {
		t.Errorf("the last type is matched by rules %v, which read columns %v", m.rules, m.columns)
	}
}

// wants says by the words of the ABI whether a pattern matches a type.
func wants(pattern, typ string) bool {
	if prefix, ok := strings.CutSuffix(pattern, ".*"); ok {
		return strings.HasPrefix(typ, prefix+".")
	}
	return pattern == "*" || pattern == typ
}

// However many types come, also such as nobody has thought of, each is matched by the right rules,
// and the cache stays within its bounds.
func TestRandomTypes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	random := func() string {
		parts := make([]string, 1+r.IntN(4))
		for i := range parts {
			parts[i] = []string{"", "a", "b", "card", "*", "é"}[r.IntN(6)]
		}
		return strings.Join(parts, ".")
	}
	patterns := make([][]string, 200)
	for i := range patterns {
		for range 1 + r.IntN(3) {
			p := random()
			if r.IntN(2) == 0 {
				p += ".*"
			}
			patterns[i] = append(patterns[i], p)
		}
	}
	patterns[17] = []string{"*"}
	s := rulesThatMatch(patterns)
	w := &worker{}
	w.adopt(s)
	var most int
	for i := range 4 * maxMatches {
		typ := random()
		if i%2 == 0 {
			typ += fmt.Sprint(".", i) // one that was never seen
		}
		m := w.match(s, &event.View{Envelope: event.Envelope{Type: []byte(typ)}}, 0)
		var want []uint32
		for rule, list := range patterns {
			if slices.ContainsFunc(list, func(p string) bool { return wants(p, typ) }) {
				want = append(want, uint32(rule))
			}
		}
		if !slices.Equal(m.rules, want) || !slices.Equal(m.columns, want) || !(m.picks != nil) {
			t.Fatalf("type %q: rules %v, columns %v, expected %v", typ, m.rules, m.columns, want)
		}
		most = max(most, len(w.matches), len(w.shared))
	}
	if most != maxMatches {
		t.Errorf("the cache had %d types at most, expected %d", most, maxMatches)
	}
}

// What a new type costs depends on the rules that match it, not on how many there are.
func TestMatchCost(t *testing.T) {
	cost := func(rules int) uint64 {
		patterns := make([][]string, rules)
		for i := range patterns {
			patterns[i] = []string{fmt.Sprint("other.", i), fmt.Sprint("other.", i, ".*")}
		}
		patterns[0], patterns[rules-1] = []string{"payment.*"}, []string{"*"}
		s := rulesThatMatch(patterns)
		w := &worker{}
		w.adopt(s)
		types := make([]string, 1000)
		for i := range types {
			types[i] = fmt.Sprint("payment.", i)
		}
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		for _, typ := range types {
			if m := w.newMatch(s, typ); len(m.rules) != 2 {
				t.Fatalf("type %s is matched by %v", typ, m.rules)
			}
		}
		goruntime.ReadMemStats(&after)
		if len(w.shared) != 1 {
			t.Errorf("%d matches are kept for types that have the same rules", len(w.shared))
		}
		return (after.TotalAlloc - before.TotalAlloc) / uint64(len(types))
	}
	few, many := cost(2), cost(10_000)
	if many > 2*few+100 {
		t.Errorf("a new type takes %d bytes with 2 rules and %d with 10,000", few, many)
	}
}

// A tally is what a count of each code says, whatever is among them.
func TestTally(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		kinds := [][]int32{{0}, {1}, {0, 1}, {0, 7}, {0, 1, 3}, {0, -1}, {0, 1, math.MinInt32}, {2, 4, 6}}
		kind := kinds[random.IntN(len(kinds))]
		var codes []byte
		var want tally
		seen := map[int32]bool{}
		for range 1 + random.IntN(40) {
			c := kind[random.IntN(len(kind))]
			codes = binary.LittleEndian.AppendUint32(codes, uint32(c))
			if c != 0 {
				want.matched++
				seen[c] = true
				want.mixed = want.mixed || c < 0 || len(seen) > 1
				want.code = c
			}
		}
		got := tallyOf(codes)
		if want.mixed {
			want.code, got.code = 0, 0
		}
		if got != want {
			t.Fatalf("%+v of codes %v, expected %+v", got, codes, want)
		}
	}
}
