package rule

import (
	"strconv"
	"unsafe"
)

const (
	maxStates     = 16
	maxStateBytes = 256 // of a value
)

// What the server answers instead of a result; see rules-sdk/ABI.md.
const (
	stateNone     = -1
	stateNoKey    = -2
	stateNoState  = -3
	stateTooLarge = -5
)

// keyed is a declared state. A number that is 0 is left out of the manifest.
type keyed struct {
	index                 int32
	name, kind            string
	window, ttl           Duration
	buckets, limit, bytes int
	keys                  int
	arrival               bool
}

func (k *keyed) describe(p *Payload) {
	p.Object("").UTF8("name", k.name).UTF8("kind", k.kind)
	number := func(name string, n int64) {
		if n != 0 {
			p.I64(name, n)
		}
	}
	number("window_ms", int64(k.window/Millisecond))
	number("buckets", int64(k.buckets))
	number("limit", int64(k.limit))
	number("bytes", int64(k.bytes))
	number("ttl_ms", int64(k.ttl/Millisecond))
	number("keys", int64(k.keys))
	if k.arrival {
		p.UTF8("time", "arrival")
	}
	p.End()
}

// Duration is a time.Duration without the package time, which adds 250 KB to a module.
type Duration int64

// The units of durations. The server counts in whole milliseconds.
const (
	Millisecond Duration = 1_000_000
	Second               = 1000 * Millisecond
	Minute               = 60 * Second
	Hour                 = 60 * Minute
)

// Window is the time over which a [Counter] adds up; see [Tumbling] and [Sliding].
type Window struct {
	length  Duration
	buckets int
}

// Tumbling is a window that begins anew each time its length has passed since 1970.
func Tumbling(length Duration) Window { return Window{length, 1} }

// Sliding is a window that moves on by a bucket of length/buckets at a time: 1 to 64 of them, which
// divide the length into whole milliseconds. More are more exact and take more memory.
func Sliding(length Duration, buckets int) Window { return Window{length, buckets} }

// StateOption changes what [Counter], [Distinct], [Seen] or [Value] declares.
type StateOption func(*keyed)

// TTL makes a [Seen] or [Value] state forget what is older. Without it they remember for good.
func TTL(d Duration) StateOption {
	return func(k *keyed) {
		if k.kind != "seen" && k.kind != "value" {
			k.fault("is a " + k.kind + ", which has no TTL")
		}
		k.duration("TTL", d)
		k.ttl = d
	}
}

// Keys sets how many keys the state keeps at most instead of 10,000. With more, the one that was
// used longest ago makes room.
func Keys(n int) StateOption {
	return func(k *keyed) {
		if n < 1 {
			k.fault("has " + strconv.Itoa(n) + " keys: expected 1 or more")
		}
		k.keys = n
	}
}

// ByArrival makes the state go by when events arrive, instead of by their own time.
func ByArrival() StateOption { return func(k *keyed) { k.arrival = true } }

func (k *keyed) fault(text string) { fault("state " + strconv.Quote(k.name) + " " + text) }

func (k *keyed) duration(what string, d Duration) {
	if d < Millisecond || d%Millisecond != 0 {
		k.fault("has the " + what + " of " + strconv.FormatInt(int64(d), 10) + " ns: expected whole " +
			"milliseconds, 1 or more")
	}
}

func (k *keyed) count(what string, n, most int) {
	if n < 1 || n > most {
		k.fault("has " + strconv.Itoa(n) + " " + what + ": expected 1 to " + strconv.Itoa(most))
	}
}

func declareState(k *keyed, options []StateOption) State {
	k.index = int32(len(declared.states))
	if k.name == "" {
		fault("a state has an empty name")
	}
	if k.index == maxStates {
		fault("more than 16 states are declared")
	}
	for _, other := range declared.states {
		if other.name == k.name {
			k.fault("is declared twice")
		}
	}
	for _, set := range options {
		set(k)
	}
	declared.states = append(declared.states, k)
	return State{k: k}
}

// State is what all keyed states have. The server keeps them for each event key (its option key
// says which field that is) from event to event, also when it replaces the instance or restarts. By
// divides a key further. States are used while [Each] or [EachBatch] runs; what a batch that fails
// has changed is undone.
//
// What a state gives says by its last value whether it is there: that is false if the event has no
// key, and also if the text given to By is longer than 256 bytes.
type State struct {
	k   *keyed
	sub string
}

func (s State) by(sub string) State { return State{s.k, sub} }

// place gives what the server's functions take first.
func (s State) place(r Row) (state, row int32, key unsafe.Pointer, size int32) {
	return s.k.index, int32(r.i), unsafe.Pointer(unsafe.StringData(s.sub)), int32(len(s.sub))
}

// Delete forgets what the state has for the row's key, and reports whether there was anything.
func (s State) Delete(r Row) bool { return stateDelete(s.place(r)) == 0 }

// CounterState is a sum over a window, declared by [Counter].
type CounterState struct{ State }

// Counter declares a sum over a window. Names of states are unique in a rule.
func Counter(name string, w Window, options ...StateOption) CounterState {
	k := &keyed{name: name, kind: "counter", window: w.length, buckets: w.buckets}
	k.duration("window", w.length)
	k.count("buckets", w.buckets, 64)
	if w.buckets > 0 && w.length/Millisecond%Duration(w.buckets) != 0 {
		k.fault("has " + strconv.Itoa(w.buckets) + " buckets, which do not divide its window into " +
			"whole milliseconds")
	}
	return CounterState{declareState(k, options)}
}

// By gives the counter of sub within the row's key.
func (s CounterState) By(sub string) CounterState { return CounterState{s.by(sub)} }

// Add adds an amount at the row's time, and returns the sum over the window. It adds nothing if the
// amount is not finite (the last result is false), or the row is older than the window.
func (s CounterState) Add(r Row, amount float64) (sum float64, ok bool) {
	state, row, key, size := s.place(r)
	if sum = stateAdd(state, row, key, size, amount); sum != sum {
		return 0, false
	}
	return sum, true
}

// Sum returns the sum over the window that ends with the row's time.
func (s CounterState) Sum(r Row) (sum float64, ok bool) { return s.Add(r, 0) }

// DistinctState is how many different values came, declared by [Distinct].
type DistinctState struct{ State }

// Distinct declares a set of at most limit values, 1 to 64, that came within the window. A value is
// forgotten when it has not come for that long; when full, the oldest makes room.
func Distinct(name string, window Duration, limit int, options ...StateOption) DistinctState {
	k := &keyed{name: name, kind: "distinct", window: window, limit: limit}
	k.duration("window", window)
	k.count("values as limit", limit, 64)
	return DistinctState{declareState(k, options)}
}

// By gives the set of sub within the row's key.
func (s DistinctState) By(sub string) DistinctState { return DistinctState{s.by(sub)} }

// Add adds a value of at most 256 bytes at the row's time, and returns how many different ones the
// window has.
func (s DistinctState) Add(r Row, value string) (n int, ok bool) {
	state, row, key, size := s.place(r)
	got := stateDistinct(state, row, key, size, unsafe.Pointer(unsafe.StringData(value)),
		int32(len(value)))
	return int(max(got, 0)), got >= 0
}

// SeenState is when a key came first, declared by [Seen].
type SeenState struct{ State }

// Seen declares a memory of the keys that have come.
func Seen(name string, options ...StateOption) SeenState {
	return SeenState{declareState(&keyed{name: name, kind: "seen"}, options)}
}

// By gives the memory of sub within the row's key.
func (s SeenState) By(sub string) SeenState { return SeenState{s.by(sub)} }

// Mark notes that the row's key has come. If it had come before, seen is true and first is when, in
// nanoseconds since 1970-01-01 UTC.
func (s SeenState) Mark(r Row) (first int64, seen, ok bool) {
	first = stateSeen(s.place(r))
	switch {
	case first >= 0:
		return first, true, true
	case first == stateNone:
		return 0, false, true
	}
	return 0, false, false
}

// ValueState is some bytes of the rule's own, declared by [Value].
type ValueState struct{ State }

// Value declares a place for at most size bytes, 1 to 256, for each key.
func Value(name string, size int, options ...StateOption) ValueState {
	k := &keyed{name: name, kind: "value", bytes: size}
	k.count("bytes", size, maxStateBytes)
	return ValueState{declareState(k, options)}
}

// By gives the value of sub within the row's key.
func (s ValueState) By(sub string) ValueState { return ValueState{s.by(sub)} }

// Set keeps a copy of the bytes. It returns ErrTooLarge or ErrNoKey.
func (s ValueState) Set(r Row, value []byte) error {
	state, row, key, size := s.place(r)
	switch stateSet(state, row, key, size, unsafe.Pointer(unsafe.SliceData(value)),
		int32(len(value))) {
	case 0:
		return nil
	case stateNoKey:
		return ErrNoKey
	case stateTooLarge:
		return ErrTooLarge
	}
	return ErrRefused
}

// gotten is where Get has the server write.
var gotten [maxStateBytes]byte

// Get returns the bytes that were set last, valid until Get is called again, or nil and false if
// there are none or the event has no key.
func (s ValueState) Get(r Row) ([]byte, bool) {
	state, row, key, size := s.place(r)
	n := stateGet(state, row, key, size, unsafe.Pointer(&gotten), int32(len(gotten)))
	if n < 0 {
		return nil, false
	}
	return gotten[:n:n], true
}

// Time returns when the bytes were set, in nanoseconds since 1970-01-01 UTC, or 0 and false.
func (s ValueState) Time(r Row) (int64, bool) {
	at := stateTime(s.place(r))
	return max(at, 0), at >= 0
}
