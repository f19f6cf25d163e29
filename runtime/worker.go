package runtime

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/valyala/fastjson"

	"wasmeval/internal/event"
)

// worker evaluates the batches of one shard. It is the Handler of the shard's ring; everything but
// the atomics belongs to the goroutine that consumes the ring.
type worker struct {
	e  *Engine
	id int

	// using is the rule set of the batch that is being evaluated, nil between batches. Stored by the
	// worker; loaded by a swap, which waits until no worker uses the old set. See enter.
	using atomic.Pointer[ruleSet]
	rows  atomic.Int64 // events of that batch

	events, unwanted, batches atomic.Uint64
	queued                    Histogram
	slices                    Histogram
	sliceMax                  atomic.Int64 // ns; only this worker stores it

	set     *ruleSet // that matches, lists and table are for
	matches map[string]*match
	onlyOne []*match // by rule

	views   []event.View
	parser  fastjson.Parser
	table   table
	lists   [][]uint16 // for each rule, the rows that it wants
	replies []pending  // of the events that a request waits for
	codes   []int32
	line    []byte
	decided uint64
}

// pending is the reply of one event while its verdicts come in.
type pending struct {
	row   uint16
	index uint32
	to    *Reply
	list  []byte
}

// maxMatches bounds the cache of matches, since event types come from outside.
const maxMatches = 4096

func newWorker(e *Engine, id int) *worker { return &worker{e: e, id: id} }

// enter loads the rule set and announces it. A swap stores the new set before it looks at what
// workers announce; a worker announces before it looks at the set again. So either the worker sees
// the new set, or the swap sees the worker: no set is closed while it is used.
func (w *worker) enter(rows int) *ruleSet {
	w.rows.Store(int64(rows))
	for {
		s := w.e.set.Load()
		w.using.Store(s)
		if w.e.set.Load() == s {
			return s
		}
	}
}

// Handle evaluates one batch with one rule set.
func (w *worker) Handle(recs [][]byte) {
	s := w.enter(len(recs))
	if s != w.set {
		w.adopt(s)
	}
	now := time.Now().UnixNano()
	w.gather(s, recs, now)
	for i, rows := range w.lists {
		if len(rows) > 0 {
			w.evaluate(s, i, rows, now)
			w.lists[i] = rows[:0]
		}
	}
	w.answer()
	w.events.Add(uint64(len(recs)))
	w.batches.Add(1)
	w.using.Store(nil)
}

// adopt makes ready for a rule set that this worker has not used before.
func (w *worker) adopt(s *ruleSet) {
	w.set = s
	w.matches = map[string]*match{}
	w.onlyOne = make([]*match, len(s.rules))
	w.lists = make([][]uint16, len(s.rules))
}

// gather decodes the records, sorts the rows by rule, and reads the columns that their rules want.
func (w *worker) gather(s *ruleSet, recs [][]byte, now int64) {
	if cap(w.views) < len(recs) {
		w.views = make([]event.View, len(recs))
		w.codes = make([]int32, len(recs))
	}
	w.views = w.views[:len(recs)]
	w.table.reset(len(s.columns), len(recs))
	unwanted := 0
	for row, rec := range recs {
		v := &w.views[row]
		v.Decode(rec)
		w.queued.add(now-v.Arrival, 1)
		m := w.match(s, v, uint16(row))
		if m == nil || len(m.rules) == 0 {
			unwanted++
			continue
		}
		var obj *fastjson.Value
		if m.parse {
			obj = w.parse(v)
		}
		w.table.gather(row, v, obj, s.columns, m.columns)
		for _, r := range m.rules {
			w.lists[r] = append(w.lists[r], uint16(row))
		}
	}
	w.unwanted.Add(uint64(unwanted))
}

// parse parses one event's object. Its bytes were checked before they came into the ring, so this
// cannot fail unless the check and the parser disagree, which is our bug: the event then has no
// fields, and the log says so.
func (w *worker) parse(v *event.View) *fastjson.Value {
	obj, err := w.parser.ParseBytes(v.JSON)
	if err != nil {
		slog.Error("BUG: cannot parse an event that was checked", "id", string(v.ID), "error", err)
		return fastjson.MustParse("{}")
	}
	return obj
}

// match finds the rules for an event, and its reply if a request waits for it.
func (w *worker) match(s *ruleSet, v *event.View, row uint16) *match {
	if v.Reply != 0 {
		to := w.e.replies.find(v.Reply)
		if to == nil {
			w.e.replies.stale.Add(1)
		} else {
			w.replies = append(w.replies, pending{row: row, index: v.Index, to: to})
			if to.rule != "" {
				return w.matchOne(s, to.rule)
			}
		}
	}
	if m := w.matches[string(v.Type)]; m != nil {
		return m
	}
	m := s.matching(string(v.Type))
	if len(w.matches) < maxMatches {
		w.matches[string(v.Type)] = m
	}
	return m
}

func (w *worker) matchOne(s *ruleSet, rule string) *match {
	i, ok := s.byName[rule]
	if !ok {
		return nil // deleted or disabled since the request came
	}
	if w.onlyOne[i] == nil {
		w.onlyOne[i] = s.only(i)
	}
	return w.onlyOne[i]
}

// evaluate runs one rule over its rows, in calls that fit into a slice of fuel.
func (w *worker) evaluate(s *ruleSet, i int, rows []uint16, now int64) {
	r := s.rules[i]
	fuel := r.fuel
	perCall := max(1, int(w.e.limits.SliceFuel/fuel))
	// Rules mostly use a small part of their budget, so a call takes as many rows as fit into a slice
	// by what was used so far; if that was too hopeful, the rows are evaluated one by one.
	if used := r.average(); used > 0 {
		perCall = max(perCall, int(w.e.limits.SliceFuel/2/used))
	}
	w.calls(s, i, rows, perCall, now)
}

// calls runs one rule over rows, at most perCall in each call, unless the rule is quarantined.
func (w *worker) calls(s *ruleSet, i int, rows []uint16, perCall int, now int64) {
	r := s.rules[i]
	for len(rows) > 0 {
		admitted, try := r.breaker.admit(now)
		if !admitted {
			w.hold(s, r, rows, now)
			return
		}
		n := min(len(rows), perCall)
		if try {
			n = 1
		}
		w.call(s, i, rows[:n], now)
		rows = rows[n:]
	}
}

// hold hands out the verdicts of a rule that is quarantined.
func (w *worker) hold(s *ruleSet, r *activeRule, rows []uint16, now int64) {
	fault := &VerdictError{Kind: FaultQuarantine, Message: "the rule failed too often; it is tried " +
		"again at " + time.Unix(0, r.breaker.until.Load()).UTC().Format(time.RFC3339Nano)}
	r.stats.outcomes[Quarantined].Add(uint64(len(rows)))
	for _, row := range rows {
		w.send(s, &verdict{rule: r, code: r.failed, payload: r.instead, fault: fault}, row, now)
	}
}

// average is what the rule used for an event so far, rounded up; 0 if it was never called.
func (r *activeRule) average() uint64 {
	done := uint64(0)
	for _, o := range []Outcome{Matched, Unmatched, Failed} {
		done += r.stats.outcomes[o].Load()
	}
	if done == 0 {
		return 0
	}
	return r.stats.fuel.Load()/done + 1
}

// call evaluates rows in one call, and one by one if that fails.
func (w *worker) call(s *ruleSet, i int, rows []uint16, now int64) {
	r := s.rules[i]
	in := w.instance(r)
	if in == nil {
		for _, row := range rows {
			w.fail(s, r, row, now, &VerdictError{Kind: FaultInstantiate,
				Message: "no fresh instance could be made"}, 0, 0)
		}
		return
	}
	budget := min(r.fuel*uint64(len(rows)), w.e.limits.SliceFuel)
	start := time.Now()
	wrong, fault := in.run(&w.table, w.views, rows, s.columns, s.which[i], budget, w.codes)
	took := time.Since(start).Nanoseconds()
	w.slices.add(took, 1)
	if took > w.sliceMax.Load() {
		w.sliceMax.Store(took)
	}
	r.stats.calls.Add(1)
	used := in.used(budget)
	if fault != nil {
		if fault.Kind != FaultRule {
			w.renew(r)
		}
		if len(rows) > 1 {
			w.calls(s, i, rows, 1, now)
			return
		}
		r.stats.fuel.Add(used)
		w.fail(s, r, rows[0], now, fault, used, took)
		return
	}
	r.stats.fuel.Add(used)
	r.stats.wrongType.Add(uint64(wrong))
	r.stats.oversize.Add(uint64(in.refused))
	n := int64(len(rows))
	r.stats.took.add(took/n, len(rows))
	w.deliver(s, r, in, rows, now, used/uint64(n), took/n)
}

// deliver hands out the verdicts of a call that succeeded.
func (w *worker) deliver(s *ruleSet, r *activeRule, in *instance, rows []uint16, now int64,
	fuel uint64, took int64) {
	var outcomes [Outcomes]uint64
	for k, row := range rows {
		code := w.codes[k]
		if code < 0 {
			w.fail(s, r, row, now, badVerdict(code), fuel, took)
			continue
		}
		v := verdict{rule: r, code: code, fuel: fuel, tookNS: took}
		if code == 0 {
			outcomes[Unmatched]++
		} else {
			outcomes[Matched]++
			v.payload = in.out[in.emits[k].off:in.emits[k].end]
		}
		w.send(s, &v, row, now)
	}
	good := 0
	for o, n := range outcomes {
		if n > 0 {
			r.stats.outcomes[o].Add(n)
			good += int(n)
		}
	}
	if good > 0 {
		r.breaker.success(good)
	}
}

// fail counts a failed evaluation and hands out its verdict, with the code of the rule's policy.
func (w *worker) fail(s *ruleSet, r *activeRule, row uint16, now int64, fault *VerdictError,
	fuel uint64, took int64) {
	r.stats.outcomes[Failed].Add(1)
	r.stats.fault(fault.Kind)
	r.stats.took.add(took, 1)
	if r.breaker.failure(now, fault) {
		r.stats.begun.Add(1)
	}
	w.send(s, &verdict{rule: r, code: r.failed, payload: r.instead, fault: fault, fuel: fuel,
		tookNS: took}, row, now)
}

// send routes one verdict, and adds it to the reply if a request waits for the event.
func (w *worker) send(s *ruleSet, v *verdict, row uint16, now int64) {
	to := w.reply(row)
	failed := v.fault != nil
	wanted := w.e.router.Wants(string(v.rule.name), v.code, failed)
	if to == nil && !wanted {
		return
	}
	v.gen, v.event = s.generation, &w.views[row]
	v.queuedNS = now - v.event.Arrival
	w.decided++
	v.decision = w.decided
	w.line = v.append(w.line[:0], w.e.boot, w.id, now)
	if wanted {
		w.e.router.Route(string(v.rule.name), v.code, failed, w.line)
	}
	if to != nil {
		if len(to.list) > 0 {
			to.list = append(to.list, ',')
		}
		to.list = append(to.list, w.line...)
	}
}

// reply finds the reply of a row, or nil. They are in the order of the rows.
func (w *worker) reply(row uint16) *pending {
	i, ok := slices.BinarySearchFunc(w.replies, row, func(p pending, row uint16) int {
		return int(p.row) - int(row)
	})
	if !ok {
		return nil
	}
	return &w.replies[i]
}

// answer completes the replies of this batch.
func (w *worker) answer() {
	for i := range w.replies {
		p := &w.replies[i]
		p.to.set(p.index, json.RawMessage(bytes.Join([][]byte{{'['}, p.list, {']'}}, nil)))
	}
	clear(w.replies)
	w.replies = w.replies[:0]
}

// instance returns this worker's instance of a rule, a fresh one if the last was lost.
func (w *worker) instance(r *activeRule) *instance {
	if in := r.instances[w.id]; in != nil {
		return in
	}
	var in *instance
	select {
	case in = <-r.spare:
	default:
		in = w.e.fresh(r)
	}
	r.instances[w.id] = in
	return in
}

// renew makes the worker's instance as good as new after a failure: by going back to its snapshot,
// else by another instance, and then orders a spare for the next time.
func (w *worker) renew(r *activeRule) {
	r.stats.replaced.Add(1)
	if r.instances[w.id].restore(r.snapshot) {
		return
	}
	r.instances[w.id].close()
	r.instances[w.id] = nil
	w.e.order(r)
}
