package runtime

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/valyala/fastjson"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/runtime/state"
)

// worker evaluates the batches of one shard. It is the consumer of the shard's ring; everything but
// the atomics belongs to the goroutine of run.
type worker struct {
	e  *Engine
	id int

	// using is the rule set of the batch that is being evaluated, nil between batches. Stored by the
	// worker; loaded by a swap, which waits until no worker uses the old set. See enter.
	using atomic.Pointer[ruleSet]
	rows  atomic.Int64 // events of that batch

	events, unwanted, batches atomic.Uint64
	made                      atomic.Uint64 // instances, while events waited
	queued                    Histogram
	slicer                    slicer

	set     *ruleSet          // that matches, lists and table are for
	matches map[string]*match // by event type
	shared  map[string]*match // by the rules, which many types have in common
	onlyOne map[uint32]*match // by the one rule
	rules   []uint32          // that match a type
	key     []byte            // of shared

	views   []event.View
	picker  picker
	parser  fastjson.Parser
	table   table
	found   []*match   // of the events of this batch
	lists   [][]uint16 // for each rule, the rows that it wants, where there are several matches
	wanted  []uint32   // the rules that want any of these
	replies []pending  // of the events that a request waits for
	cut     bool       // the batch was left before its end; see Engine.Halt
	line    []byte
	decided uint64
	hasher  *state.Hasher
}

// pending is the reply of one event while its verdicts come in.
type pending struct {
	row   uint16
	index uint32
	to    *Reply
	list  []byte // a JSON array that lacks its end, or nil
	over  bool   // nobody wants more of it
}

const (
	// maxMatches bounds the cache of matches, since event types come from outside.
	maxMatches = 4096

	// batchBytes bounds the records that are evaluated together, and batchText the text of their
	// columns, by which a record may exceed it; so that they fit in memory, a guest's too.
	batchBytes = 1 << 20
	batchText  = 4 << 20

	// A worker's window has room for the times and some 14 columns of numbers of a full batch.
	windowRow  = 128
	windowMost = 64 << 10
)

func newWorker(e *Engine, id int) *worker {
	w := &worker{e: e, id: id, hasher: state.NewHasher(e.secret)}
	w.table.mostRows = e.batch
	if e.batch >= windowRows {
		w.table.window, _ = newWindow(min(windowRow*e.batch, windowMost)) // without it columns are copied
	}
	return w
}

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

// run drains a ring until it is closed and drained, or the engine is halted. A batch that was cut is
// not released, so the ledger does not count its events as evaluated.
func (w *worker) run(r *bus.Ring, batch int) {
	recs := make([][]byte, batch)
	for r.Wait() && w.e.halt.Load() == haltNever {
		n := r.Next(recs)
		if n == 0 {
			continue // only a pad was published so far
		}
		if w.Handle(recs[:n]); w.cut {
			return
		}
		r.Release()
	}
}

// Handle evaluates records in batches of at most batchBytes, or of one record.
func (w *worker) Handle(recs [][]byte) {
	for len(recs) > 0 && !w.cut {
		n, size := 0, 0
		for n < len(recs) && (n == 0 || size+len(recs[n]) <= batchBytes) {
			size += len(recs[n])
			n++
		}
		recs = recs[w.handle(recs[:n]):]
	}
}

// handle evaluates one batch with one rule set, and returns how many records that were.
func (w *worker) handle(recs [][]byte) (n int) {
	s := w.enter(len(recs))
	if s != w.set {
		w.adopt(s)
	}
	now := time.Now().UnixNano()
	n = w.gather(s, recs, now)
	w.evaluateAll(s, now)
	if !w.cut { // else requests that wait would take some of the verdicts for all of them
		w.answer()
		w.events.Add(uint64(n))
		w.batches.Add(1)
	}
	w.using.Store(nil)
	return n
}

// adopt makes ready for a rule set that this worker has not used before.
func (w *worker) adopt(s *ruleSet) {
	w.set = s
	w.matches, w.shared = map[string]*match{}, map[string]*match{}
	w.onlyOne = map[uint32]*match{}
	w.lists = make([][]uint16, len(s.rules))
}

// gather decodes the records, sorts the rows by rule, and reads the columns that their rules want. It
// ends with the record that brings the columns to batchText, and returns how many it read.
func (w *worker) gather(s *ruleSet, recs [][]byte, now int64) (n int) {
	if cap(w.views) < len(recs) {
		w.views = make([]event.View, len(recs))
	}
	w.views = w.views[:len(recs)]
	w.table.reset(len(s.columns), len(recs))
	unwanted := 0
	for row, rec := range recs {
		n++
		v := &w.views[row]
		v.Decode(rec)
		w.queued.add(now-v.Arrival, 1)
		m := w.match(s, v, uint16(row))
		if m == nil || len(m.rules) == 0 {
			unwanted++
			continue
		}
		w.gatherEvent(s, m, row, v)
		if len(m.rows) == 0 {
			w.found = append(w.found, m)
		}
		m.rows = append(m.rows, uint16(row))
		if len(w.table.text) >= batchText {
			break
		}
	}
	w.unwanted.Add(uint64(unwanted))
	return n
}

// evaluateAll runs each rule that is wanted over its rows, in the order of the rules. Mostly all
// events have one match, and then all rules have the same rows.
func (w *worker) evaluateAll(s *ruleSet, now int64) {
	if len(w.found) == 1 {
		m := w.found[0]
		for _, i := range m.rules {
			w.evaluate(s, i, m.rows, now)
		}
	} else {
		w.sortRows()
		for _, i := range w.wanted {
			w.evaluate(s, i, w.lists[i], now)
			w.lists[i] = w.lists[i][:0]
		}
		w.wanted = w.wanted[:0]
	}
	for _, m := range w.found {
		m.rows = m.rows[:0]
	}
	w.found = w.found[:0]
}

// sortRows gives each rule the rows of all matches that it is in.
func (w *worker) sortRows() {
	for _, m := range w.found {
		for _, r := range m.rules {
			if len(w.lists[r]) == 0 {
				w.wanted = append(w.wanted, r)
			}
			w.lists[r] = append(w.lists[r], m.rows...)
		}
	}
	slices.Sort(w.wanted)
	for _, r := range w.wanted {
		slices.Sort(w.lists[r])
	}
}

// gatherEvent reads the columns of one event.
func (w *worker) gatherEvent(s *ruleSet, m *match, row int, v *event.View) {
	switch {
	case m.picks == nil:
		w.table.gather(row, v, nil, s.columns, m.columns)
	case w.picker.pick(m.picks, m.columns, v.JSON):
		w.table.gatherPicked(row, v, &w.picker, s.columns, m.columns)
	default:
		w.table.gather(row, v, w.parse(v), s.columns, m.columns)
	}
}

// parse parses one event's object. Its bytes were checked before they came into the ring, so this
// cannot fail unless the check and the parser disagree, which is our bug: the event then has no
// fields, and the log says so.
func (w *worker) parse(v *event.View) *fastjson.Value {
	obj, err := w.parser.ParseBytes(v.JSON)
	if err != nil {
		w.e.say(slog.LevelError, "BUG: cannot parse an event that was checked", "id", string(v.ID),
			"error", firstLine(err))
		return fastjson.MustParse("{}")
	}
	return obj
}

// match finds the rules for an event, and its reply if a request waits for it.
func (w *worker) match(s *ruleSet, v *event.View, row uint16) *match {
	if v.Reply != 0 {
		if to := w.pend(v, row); to != nil && to.rule != "" {
			return w.matchOne(s, to)
		}
	}
	if m := w.matches[string(v.Type)]; m != nil {
		return m
	}
	return w.newMatch(s, string(v.Type))
}

// pend notes that an event is for a request, and returns that.
func (w *worker) pend(v *event.View, row uint16) *Reply {
	to := w.e.replies.find(v.Reply)
	if to == nil {
		w.e.say(slog.LevelError, "BUG: an event is for a request that is not there", "id", string(v.ID))
		return nil
	}
	late := !to.wanted()
	if late {
		w.e.replies.stale.Add(1)
	}
	w.replies = append(w.replies, pending{row: row, index: v.Index, to: to, over: late})
	return to
}

// newMatch finds the match of a type that was not seen before, or not since there were too many.
func (w *worker) newMatch(s *ruleSet, typ string) *match {
	w.rules = s.matching(w.rules[:0], typ)
	w.key = w.key[:0]
	for _, r := range w.rules {
		w.key = binary.LittleEndian.AppendUint32(w.key, r)
	}
	m := w.shared[string(w.key)]
	if m == nil {
		if len(w.shared) >= maxMatches {
			clear(w.shared)
		}
		m = s.match(w.rules...)
		w.shared[string(w.key)] = m
	}
	if len(w.matches) >= maxMatches {
		clear(w.matches)
	}
	w.matches[typ] = m
	return m
}

func (w *worker) matchOne(s *ruleSet, to *Reply) *match {
	i, ok := s.byName[to.rule]
	if !ok { // it was deleted or disabled since the request came
		to.refuse(ErrNoRule)
		return nil
	}
	if w.onlyOne[i] == nil {
		w.onlyOne[i] = s.match(i)
	}
	return w.onlyOne[i]
}

// evaluate runs one rule over its rows, in calls that fit into their fuel.
func (w *worker) evaluate(s *ruleSet, i uint32, rows []uint16, now int64) {
	r := s.rules[i]
	perCall := max(1, int(w.e.limits.CallFuel/r.fuel))
	// Rules mostly use a small part of their budget, so a call takes as many rows as fit into its fuel
	// by what was used so far; if that was too hopeful, the rows are evaluated one by one.
	if used := w.lane(r).average(); used > 0 && perCall < len(rows) {
		perCall = max(perCall, int(w.e.limits.CallFuel/2/used))
	}
	w.calls(s, i, rows, perCall, now)
}

// calls runs one rule over rows, at most perCall in each call, unless the rule is quarantined or the
// batch is to be cut.
func (w *worker) calls(s *ruleSet, i uint32, rows []uint16, perCall int, now int64) {
	r := s.rules[i]
	for len(rows) > 0 {
		if w.e.halt.Load() == haltAfterCall {
			w.cut = true
			return
		}
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
	fault := r.breaker.instead.Load()
	w.lane(r).outcomes[Quarantined].Add(uint64(len(rows)))
	for _, row := range rows {
		w.send(s, &verdict{rule: r, code: r.failed, payload: r.instead, fault: fault}, row, now)
	}
}

// lane is this worker's counters of a rule.
func (w *worker) lane(r *activeRule) *lane { return &r.stats.lanes[w.id] }

// call evaluates rows in one call, and one by one if that fails.
func (w *worker) call(s *ruleSet, i uint32, rows []uint16, now int64) {
	r := s.rules[i]
	in := w.instance(r)
	if in != nil && r.keepers != nil {
		in.keeper = r.keepers[w.id]
	}
	if in == nil {
		for _, row := range rows {
			w.fail(s, r, row, now, &VerdictError{Kind: FaultInstantiate,
				Message: "no fresh instance could be made"}, 0, 0)
		}
		return
	}
	budget := min(r.fuel*uint64(len(rows)), w.e.limits.CallFuel)
	in.slicer = &w.slicer
	w.slicer.ran = 0
	wrong, fault := in.run(&w.table, w.views, rows, s.columns, s.which[i], budget)
	took := w.slicer.ran
	l := w.lane(r)
	l.calls.Add(1)
	bump(&l.oversize, in.refused)
	bump(&l.cut, in.cut)
	bump(&l.ungrown, in.memory.refused)
	used := in.used()
	// Also that of a batch whose events are now evaluated one by one.
	l.fuel.Add(used + in.placing)
	if fault != nil {
		if fault.Kind != FaultRule {
			w.renew(r)
		}
		if len(rows) > 1 {
			w.calls(s, i, rows, 1, now)
			return
		}
		l.took.add(took, 1)
		w.fail(s, r, rows[0], now, fault, used, took)
		return
	}
	bump(&l.wrongType, wrong)
	n := int64(len(rows))
	l.took.add(took/n, len(rows))
	w.deliver(s, r, in, rows, now, used/uint64(n), took/n)
}

// bump adds to a counter that mostly stays as it is.
func bump(c *atomic.Uint64, n int) {
	if n > 0 {
		c.Add(uint64(n))
	}
}

// deliver hands out the verdicts of a call that succeeded.
func (w *worker) deliver(s *ruleSet, r *activeRule, in *instance, rows []uint16, now int64,
	fuel uint64, took int64) {
	// Rules mostly do not match, and mostly nobody wants to know that.
	silent := len(w.replies) == 0 && !w.e.router.Wants(string(r.name), 0, false)
	if t := &in.tally; silent && !t.mixed &&
		(t.matched == 0 || !w.e.router.Wants(string(r.name), t.code, false)) {
		w.succeed(r, t.matched, len(rows)-t.matched)
		return
	}
	matched, unmatched := 0, 0
	for k, row := range rows {
		code := in.code(k)
		switch {
		case code < 0:
			w.fail(s, r, row, now, badVerdict(code), fuel, took)
			continue
		case code == 0:
			if unmatched++; silent {
				continue
			}
		default:
			matched++
		}
		v := verdict{rule: r, code: code, fuel: fuel, tookNS: took}
		if code > 0 {
			v.payload = in.payload(k)
		}
		w.send(s, &v, row, now)
	}
	w.succeed(r, matched, unmatched)
}

// succeed counts evaluations that did not fail.
func (w *worker) succeed(r *activeRule, matched, unmatched int) {
	l := w.lane(r)
	bump(&l.outcomes[Matched], matched)
	bump(&l.outcomes[Unmatched], unmatched)
	if matched+unmatched > 0 {
		r.breaker.success(matched + unmatched)
	}
}

// fail counts a failed evaluation and hands out its verdict, with the code of the rule's policy.
func (w *worker) fail(s *ruleSet, r *activeRule, row uint16, now int64, fault *VerdictError,
	fuel uint64, took int64) {
	l := w.lane(r)
	l.outcomes[Failed].Add(1)
	l.fault(fault.Kind)
	if r.breaker.failure(now, fault) {
		r.stats.begun.Add(1)
	}
	w.send(s, &verdict{rule: r, code: r.failed, payload: r.instead, fault: fault, fuel: fuel,
		tookNS: took}, row, now)
}

// send routes one verdict, and adds it to the reply if a request waits for the event.
func (w *worker) send(s *ruleSet, v *verdict, row uint16, now int64) {
	to := w.reply(row)
	if to != nil && to.over {
		to = nil
	}
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
		to.add(w.line)
	}
}

// add adds a verdict, if the reply has room for it.
func (p *pending) add(line []byte) {
	if !p.to.hold(len(line) + 1) {
		p.over, p.list = true, nil
		return
	}
	if p.list == nil {
		p.list = append(make([]byte, 0, len(line)+2), '[')
	} else {
		p.list = append(p.list, ',')
	}
	p.list = append(p.list, line...)
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
		if p.list == nil {
			p.list = []byte{'['}
		}
		p.to.set(p.index, append(p.list, ']')) // the list is the reply's from here on
	}
	clear(w.replies)
	w.replies = w.replies[:0]
}

// instance returns this worker's instance of a rule. If the last one was lost it is a spare; with
// none it is made here and now.
func (w *worker) instance(r *activeRule) *instance {
	if in := r.instances[w.id]; in != nil {
		return in
	}
	var in *instance
	select {
	case in = <-r.spare:
		w.e.order(r) // there is room for another one only now
	default:
		w.made.Add(1)
		in = w.e.fresh(r)
	}
	r.instances[w.id] = in
	return in
}

// renew makes the worker's instance as good as new after a failure: by going back to its snapshot,
// else by another instance, and then orders a spare for the next time.
func (w *worker) renew(r *activeRule) {
	w.lane(r).replaced.Add(1)
	if r.instances[w.id].restore(r.snapshot) {
		return
	}
	r.instances[w.id].close()
	r.instances[w.id] = nil
	w.e.order(r)
}
