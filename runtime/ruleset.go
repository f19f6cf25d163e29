package runtime

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// activeRule is one rule as workers run it: a program with its configuration. It is made once for
// each change of the rule, and shared by all rule sets until the next change. Field instances is
// the workers': element i belongs to worker i. The rest is not
// changed, but for the spare.
type activeRule struct {
	name    RuleName
	version VersionNumber
	prog    *program
	params  []byte // for wasmeval_configure
	fuel    uint64 // for one event
	failed  int32  // the code of a failed evaluation, by the rule's policy
	instead []byte // its payload, or nil
	stats   *ruleStats
	breaker *breaker
	unsaved atomic.Bool // the breaker has changed since it was saved

	snapshot *snapshot // what instances begin with, or nil
	resumed  bool      // it was on standby before

	states  []*keyedState // as the manifest declares them
	keepers []*keeper     // element i is worker i's; empty if it declares no state

	instances []*instance    // nil where the last one failed and no fresh one could be made
	spare     chan *instance // ready to replace any worker's

	closing sync.Mutex // guards gone, and that no spare is made after it
	gone    bool
}

// ruleSet is an immutable snapshot of what is active.
type ruleSet struct {
	generation Generation
	rules      []*activeRule
	columns    []*column  // of all rules, without doubles
	which      [][]uint32 // for each rule, its columns in the manifest's order

	byName   map[string]uint32
	exact    map[string][]uint32 // by event type
	prefixes map[string][]uint32 // by what an event type begins with, up to one of its dots
	always   []uint32            // rules that match every event
}

// match is the answer for one event type: which rules want it and which columns they read.
type match struct {
	rules, columns []uint32
	picks          *picks // for the columns that are in the event's object; nil: none is

	rows []uint16 // of the batch that is being evaluated; a match belongs to one worker
}

func newRuleSet(g Generation, rules []*activeRule) *ruleSet {
	s := &ruleSet{
		generation: g, rules: rules,
		byName: map[string]uint32{}, exact: map[string][]uint32{}, prefixes: map[string][]uint32{},
	}
	type colKey struct {
		path string
		typ  colType
	}
	seen := map[colKey]uint32{}
	for i, r := range rules {
		s.byName[string(r.name)] = uint32(i)
		which := make([]uint32, len(r.prog.columns))
		for j, c := range r.prog.columns {
			k := colKey{c.path, c.typ}
			at, ok := seen[k]
			if !ok {
				at = uint32(len(s.columns))
				seen[k] = at
				s.columns = append(s.columns, c)
			}
			which[j] = at
		}
		s.which = append(s.which, which)
		s.addMatch(uint32(i), r.prog.manifest.Match)
	}
	return s
}

func (s *ruleSet) addMatch(rule uint32, patterns []string) {
	for _, p := range patterns {
		prefix, wild := strings.CutSuffix(p, "*")
		switch {
		case p == "*":
			s.always = append(s.always, rule)
		case wild && strings.HasSuffix(prefix, "."):
			s.prefixes[prefix] = append(s.prefixes[prefix], rule)
		default:
			s.exact[p] = append(s.exact[p], rule)
		}
	}
}

// matching works out the rules for an event type, each once, in the order of the set. Its cost
// depends on the rules that match, not on how many there are. It appends to dst.
func (s *ruleSet) matching(dst []uint32, typ string) []uint32 {
	dst = append(dst, s.always...)
	dst = append(dst, s.exact[typ]...)
	if len(s.prefixes) > 0 {
		for i := range len(typ) {
			if typ[i] == '.' {
				dst = append(dst, s.prefixes[typ[:i+1]]...)
			}
		}
	}
	slices.Sort(dst)
	return slices.Compact(dst)
}

// match is the match of an event that is for these rules.
func (s *ruleSet) match(rules ...uint32) *match {
	m := &match{rules: slices.Clone(rules)}
	for _, r := range rules {
		m.columns = append(m.columns, s.which[r]...)
	}
	slices.Sort(m.columns)
	m.columns = slices.Compact(m.columns)
	m.picks = newPicks(s.columns, m.columns)
	return m
}
