//go:build !wasip1

package rule

import (
	"encoding/json"
	"math"
	"time"
)

// fakeHost does for one call of Try what the server does: payloads, log and keyed state. It has no
// limits but those of the ABI.
type fakeHost struct {
	events []fakeEvent // of the batch
	log    func(Level, string)
	emit   func(row int, json []byte) int32
	kept   map[fakeKey]*fakeState
}

// fakeEvent is what the host knows of a row. Times are in nanoseconds since 1970.
type fakeEvent struct {
	key           string
	time, arrival int64
}

type fakeKey struct {
	state    int32
	key, sub string
}

// fakeState is what a state of any kind keeps for one key.
type fakeState struct {
	at      int64             // counter: newest bucket; distinct: newest time; else when it was set
	buckets map[int64]float64 // counter: sums
	values  map[string]int64  // distinct: when each came last
	bytes   string            // value
}

// steps gives the length of a step of the state's time, and how many of them an entry lives, 0 for
// good.
func (k *keyed) steps() (step, life int64) {
	switch k.kind {
	case "counter":
		return int64(k.window) / int64(k.buckets), int64(k.buckets)
	case "distinct":
		return 1, int64(k.window)
	}
	return 1, int64(k.ttl)
}

// find gives what is kept for a row's key, nil if nothing is, and the row's time in steps.
func (h *fakeHost) find(kind string, state, row int32, sub string) (kept *fakeState, at int64,
	code int32) {
	if h == nil || state < 0 || int(state) >= len(declared.states) ||
		row < 0 || int(row) >= len(h.events) {
		return nil, 0, stateNoState
	}
	k, ev := declared.states[state], &h.events[row]
	switch {
	case kind != "" && k.kind != kind:
		return nil, 0, stateNoState
	case len(sub) > maxStateBytes:
		return nil, 0, stateTooLarge
	case ev.key == "":
		return nil, 0, stateNoKey
	}
	if at = ev.time; k.arrival {
		at = ev.arrival
	}
	step, life := k.steps()
	at /= step
	kept = h.kept[fakeKey{state, ev.key, sub}]
	// The window of a counter moves on by itself, also when it is only asked.
	if kept != nil && kind != "counter" && life > 0 && at-kept.at >= life {
		kept = nil
	}
	return kept, at, 0
}

// fresh begins anew for a row's key.
func (h *fakeHost) fresh(state, row int32, sub string, at int64) *fakeState {
	s := &fakeState{at: at, buckets: map[int64]float64{}, values: map[string]int64{}}
	h.kept[fakeKey{state, h.events[row].key, sub}] = s
	return s
}

func (h *fakeHost) add(state, row int32, sub string, amount float64) float64 {
	s, at, code := h.find("counter", state, row, sub)
	if code < 0 || math.IsNaN(amount) || math.IsInf(amount, 0) {
		return math.NaN()
	}
	if s == nil {
		if amount == 0 {
			return 0
		}
		s = h.fresh(state, row, sub, at)
	}
	s.at = max(s.at, at)
	_, life := declared.states[state].steps()
	if s.at-at < life {
		s.buckets[at] += amount
	}
	sum := 0.0
	for i := range life {
		sum += s.buckets[s.at-i]
	}
	return sum
}

func (h *fakeHost) distinct(state, row int32, sub, value string) int32 {
	s, at, code := h.find("distinct", state, row, sub)
	if code < 0 {
		return code
	}
	if len(value) > maxStateBytes {
		return stateTooLarge
	}
	if s == nil {
		s = h.fresh(state, row, sub, at)
	}
	s.at = max(s.at, at)
	k := declared.states[state]
	if last, is := s.values[value]; !is || last < at {
		s.values[value] = at
	}
	oldest := value
	for v, last := range s.values {
		if s.at-last >= int64(k.window) {
			delete(s.values, v)
		} else if last < s.values[oldest] {
			oldest = v
		}
	}
	if len(s.values) > k.limit {
		delete(s.values, oldest)
	}
	return int32(len(s.values))
}

func (h *fakeHost) seen(state, row int32, sub string) int64 {
	s, at, code := h.find("seen", state, row, sub)
	if code < 0 {
		return int64(code)
	}
	if s != nil {
		return s.at
	}
	h.fresh(state, row, sub, at)
	return stateNone
}

func (h *fakeHost) set(state, row int32, sub, value string) int32 {
	_, at, code := h.find("value", state, row, sub)
	if code < 0 {
		return code
	}
	if len(value) > declared.states[state].bytes {
		return stateTooLarge
	}
	h.fresh(state, row, sub, at).bytes = value
	return 0
}

func (h *fakeHost) get(state, row int32, sub string) (*fakeState, int32) {
	s, _, code := h.find("value", state, row, sub)
	if code == 0 && s == nil {
		code = stateNone
	}
	return s, code
}

func (h *fakeHost) forget(state, row int32, sub string) int32 {
	s, _, code := h.find("", state, row, sub)
	if code < 0 {
		return code
	}
	delete(h.kept, fakeKey{state, h.events[row].key, sub})
	if s == nil {
		return stateNone
	}
	return 0
}

// fakeEvents gives rows their times: the virtual clock follows the member ts, and goes on by a
// nanosecond a row where that is missing or older.
func fakeEvents(rows []any) ([]fakeEvent, error) {
	events, now := make([]fakeEvent, len(rows)), int64(-1)
	for i, ev := range rows {
		now++
		events[i] = fakeEvent{time: now}
		switch key := at(ev, "@key").(type) {
		case string:
			events[i].key = key
		case json.Number:
			events[i].key = string(key)
		}
		if text, is := at(ev, "@time").(string); is {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return nil, err
			}
			events[i].time = t.UnixNano()
			now = max(now, t.UnixNano())
		}
		events[i].arrival = now
	}
	return events, nil
}
