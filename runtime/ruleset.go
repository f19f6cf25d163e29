package runtime

import (
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

	instances []*instance    // nil where the last one failed and no fresh one could be made
	spare     chan *instance // at most one, ready to replace any worker's

	closing sync.Mutex // guards gone, and that no spare is made after it
	gone    bool
}

// ruleSet is an immutable snapshot of what is active.
type ruleSet struct {
	generation Generation
	rules      []*activeRule
	columns    []*column  // of all rules, without doubles
	which      [][]uint16 // for each rule, its columns in the manifest's order

	byName   map[string]uint16
	exact    map[string][]uint16
	prefixes []prefixMatch
	always   []uint16 // rules that match every event
}

type prefixMatch struct {
	prefix string
	rule   uint16
}

// match is the answer for one event type: which rules want it and which columns they read.
type match struct {
	rules, columns []uint16
	parse          bool // some of the columns are in the event's object
}

func newRuleSet(g Generation, rules []*activeRule) *ruleSet {
	s := &ruleSet{
		generation: g, rules: rules,
		byName: map[string]uint16{}, exact: map[string][]uint16{},
	}
	type colKey struct {
		path string
		typ  colType
	}
	seen := map[colKey]uint16{}
	for i, r := range rules {
		s.byName[string(r.name)] = uint16(i)
		which := make([]uint16, len(r.prog.columns))
		for j, c := range r.prog.columns {
			k := colKey{c.path, c.typ}
			at, ok := seen[k]
			if !ok {
				at = uint16(len(s.columns))
				seen[k] = at
				s.columns = append(s.columns, c)
			}
			which[j] = at
		}
		s.which = append(s.which, which)
		s.addMatch(uint16(i), r.prog.manifest.Match)
	}
	return s
}

func (s *ruleSet) addMatch(rule uint16, patterns []string) {
	for _, p := range patterns {
		prefix, wild := strings.CutSuffix(p, "*")
		switch {
		case p == "*":
			s.always = append(s.always, rule)
		case wild && strings.HasSuffix(prefix, "."):
			s.prefixes = append(s.prefixes, prefixMatch{prefix, rule})
		default:
			s.exact[p] = append(s.exact[p], rule)
		}
	}
}

// matching works out the rules for an event type, each once, in the order of the set.
func (s *ruleSet) matching(typ string) *match {
	wanted := make([]bool, len(s.rules))
	for _, r := range s.always {
		wanted[r] = true
	}
	for _, r := range s.exact[typ] {
		wanted[r] = true
	}
	for _, p := range s.prefixes {
		if strings.HasPrefix(typ, p.prefix) {
			wanted[p.rule] = true
		}
	}
	m := &match{}
	for i, w := range wanted {
		if w {
			m.rules = append(m.rules, uint16(i))
		}
	}
	s.addColumns(m)
	return m
}

// only is the match of an event that is for one rule alone.
func (s *ruleSet) only(rule uint16) *match {
	m := &match{rules: []uint16{rule}}
	s.addColumns(m)
	return m
}

func (s *ruleSet) addColumns(m *match) {
	seen := make([]bool, len(s.columns))
	for _, r := range m.rules {
		for _, c := range s.which[r] {
			if !seen[c] {
				seen[c] = true
				m.columns = append(m.columns, c)
				m.parse = m.parse || s.columns[c].place == inObject
			}
		}
	}
}
