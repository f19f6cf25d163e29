package state

import "fmt"

// Kind is what a state keeps for each key.
type Kind string

// The kinds of states.
const (
	Counter  Kind = "counter"  // a sum over a window
	Distinct Kind = "distinct" // the different values of a window
	Seen     Kind = "seen"     // when the key came first
	Value    Kind = "value"    // the bytes that were set last
)

// Limits of a Spec.
const (
	maxName   = 64
	maxMS     = 366 * 24 * 3600 * 1000 // in ns this is a 290th of what an int64 holds
	maxParts  = 64                     // buckets of a counter, values of a distinct
	maxBytes  = 256
	maxKeys   = 1 << 24
	nsOfMS    = 1_000_000
	wordBytes = 8
)

// Spec is one state as a rule's manifest declares it. Normal says what fits together.
type Spec struct {
	Name     string `json:"name"`
	Kind     Kind   `json:"kind"`
	WindowMS int64  `json:"window_ms,omitempty"`
	Buckets  int    `json:"buckets,omitempty"`
	Limit    int    `json:"limit,omitempty"`
	Bytes    int    `json:"bytes,omitempty"`
	TTLMS    int64  `json:"ttl_ms,omitempty"`
	Time     string `json:"time,omitempty"` // event or arrival; which one it is, is up to the caller
	Keys     int    `json:"keys,omitempty"`
}

// field is one number of a Spec, and what it may be.
type field struct {
	name        string
	value       int64
	fits        bool // whether the kind has it
	least, most int64
	put         func(int64) // nil if there is no default
	standard    int64
}

// Normal fills in the defaults, and refuses what does not fit the kind of the state.
func (s Spec) Normal() (Spec, error) {
	if s.Name == "" || len(s.Name) > maxName {
		return s, fmt.Errorf("state %q: a name has 1 to %d bytes", s.Name, maxName)
	}
	switch s.Kind {
	case Counter, Distinct, Seen, Value:
	default:
		return s, fmt.Errorf("state %q: kind is %q: expected counter, distinct, seen or value",
			s.Name, s.Kind)
	}
	windowed := s.Kind == Counter || s.Kind == Distinct
	integer := func(p *int) func(int64) { return func(v int64) { *p = int(v) } }
	for _, f := range []field{
		{"window_ms", s.WindowMS, windowed, 1, maxMS, nil, 0},
		{"ttl_ms", s.TTLMS, !windowed, 0, maxMS, nil, 0},
		{"buckets", int64(s.Buckets), s.Kind == Counter, 1, maxParts, integer(&s.Buckets), 1},
		{"limit", int64(s.Limit), s.Kind == Distinct, 1, maxParts, integer(&s.Limit), 16},
		{"bytes", int64(s.Bytes), s.Kind == Value, 1, maxBytes, integer(&s.Bytes), 64},
		{"keys", int64(s.Keys), true, 1, maxKeys, integer(&s.Keys), 10_000},
	} {
		switch {
		case !f.fits && f.value != 0:
			return s, fmt.Errorf("state %q: a %s has no %s", s.Name, s.Kind, f.name)
		case f.fits && f.value == 0 && f.put != nil:
			f.put(f.standard)
		case f.fits && (f.value < f.least || f.value > f.most):
			return s, fmt.Errorf("state %q: %s is %d: expected %d to %d",
				s.Name, f.name, f.value, f.least, f.most)
		}
	}
	if s.Kind == Counter && s.WindowMS%int64(s.Buckets) != 0 {
		return s, fmt.Errorf("state %q: window_ms is %d: expected a multiple of its %d buckets",
			s.Name, s.WindowMS, s.Buckets)
	}
	switch s.Time {
	case "":
		s.Time = "event"
	case "event", "arrival":
	default:
		return s, fmt.Errorf("state %q: time is %q: expected event or arrival", s.Name, s.Time)
	}
	return s, nil
}

// Same tells whether one state can go on as the other: all but Keys is equal. Both must be normal.
func (s Spec) Same(t Spec) bool {
	s.Keys = t.Keys
	return s == t
}

// TableBytes is the memory that a table for so many keys takes; its journal of undo comes on top,
// which a caller bounds by what it does between two Commits. The Spec must be normal.
func (s Spec) TableBytes(keys int) int {
	return sets(keys) * ways * (1 + s.entryWords()) * wordBytes
}

// sets is how many sets a table for so many keys has: places for half as many keys again. See the
// comment of the package for why.
func sets(keys int) int { return max(2, (keys+keys/2+ways-1)/ways) }

// entryWords is the size of an entry.
func (s Spec) entryWords() int {
	switch s.Kind {
	case Counter:
		return headWords + s.Buckets
	case Distinct:
		return headWords + 2*s.Limit
	case Value:
		return headWords + (s.Bytes+wordBytes-1)/wordBytes
	default:
		return headWords
	}
}

// times gives the length of a step of the state's time in ns, and after how many steps a key that
// was not refreshed means nothing any more; 0 is never.
func (s Spec) times() (step int64, life uint64) {
	switch s.Kind {
	case Counter:
		return s.WindowMS / int64(s.Buckets) * nsOfMS, uint64(s.Buckets)
	case Distinct:
		return 1, uint64(s.WindowMS) * nsOfMS
	default:
		return 1, uint64(s.TTLMS) * nsOfMS
	}
}
