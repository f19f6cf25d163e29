package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/problem"
)

// Evaluate takes the events of a request like Events, waits for the verdicts of all rules that
// want them, and answers 200 with
//
//	{"results":[{"index":0,"verdicts":[…]},{"index":1,"error":{"reason":"malformed","detail":"…"}}]}
//
// in the order of the events. The query parameter or header timeout, such as 200ms, limits the
// wait; past it the answer is 504, and the events are evaluated all the same. If the verdicts take more
// memory than they may have it is 413 or 503, likewise. If no event could be taken for want of room the
// answer is 429.
func (in *Ingest) Evaluate(w http.ResponseWriter, r *http.Request) { in.EvaluateRule(w, r, "") }

// EvaluateRule is Evaluate for the verdicts of one rule.
func (in *Ingest) EvaluateRule(w http.ResponseWriter, r *http.Request, rule string) {
	timeout, err := in.timeout(r)
	if err != nil {
		problem.Write(w, r, http.StatusBadRequest, "timeout", err.Error(), nil)
		return
	}
	b := in.batch(in.config.MaxEvaluate)
	defer b.release()
	turn := in.requests.Add(1)
	p := in.evaluate[turn%evaluateLanes]
	if !b.take(w, r, p, turn, in.config.MaxEvaluate) {
		return
	}
	if bad := b.bad(); bad == b.events && bad > 0 {
		b.lose(p)
		b.problem(w, r, http.StatusBadRequest, "no_good_event", "none of the events is good")
		return
	}
	if b.events == 0 { // an empty array, or blank lines
		b.results(w, nil)
		return
	}
	reply, err := in.config.Open(b.events, rule)
	if err != nil {
		b.refuseReply(w, r, p, rule, err)
		return
	}
	defer reply.Close()
	b.lose(p)
	b.setReply(reply.ID())
	b.submit(p)
	b.skip(reply)
	switch {
	case b.taken > 0 || b.why == nil:
		b.answer(w, r, reply, timeout)
	case errors.Is(b.why, bus.ErrClosed):
		b.problem(w, r, http.StatusServiceUnavailable, "closed", "the server is stopping")
	default:
		b.problem(w, r, http.StatusTooManyRequests, "ring_full", "there is no room for these events now")
	}
}

// timeout is how long the request may wait for verdicts.
func (in *Ingest) timeout(r *http.Request) (time.Duration, error) {
	text := ""
	if r.URL.RawQuery != "" {
		text = r.URL.Query().Get("timeout")
	}
	if text == "" {
		text = r.Header.Get("Timeout")
	}
	if text == "" {
		return in.config.EvaluateTimeout, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxEvaluateTimeout {
		return 0, fmt.Errorf("cannot use timeout %.100q: expected a time such as 200ms, at most %v",
			text, maxEvaluateTimeout)
	}
	return d, nil
}

// refuseReply answers a request for which there is no Reply.
func (b *batch) refuseReply(w http.ResponseWriter, r *http.Request, p *bus.Producer, rule string,
	err error,
) {
	switch {
	case errors.Is(err, ErrNoRule):
		problem.Write(w, r, http.StatusNotFound, "no_rule",
			fmt.Sprintf("there is no rule %.100q", rule), nil)
	case errors.Is(err, ErrBusy):
		b.lose(p)
		p.Lose(bus.RingFull, b.events-b.bad())
		w.Header().Set("Retry-After", "1")
		problem.Write(w, r, http.StatusTooManyRequests, "busy", err.Error(), nil)
	default:
		b.fail(w, r, err)
	}
}

func (b *batch) fail(w http.ResponseWriter, r *http.Request, err error) {
	b.in.config.Log.Error("cannot evaluate events", "path", r.URL.Path, "error", err)
	problem.Write(w, r, http.StatusInternalServerError, "internal", "the server failed", nil)
}

// skip says which events get no verdicts, since they were not taken.
func (b *batch) skip(reply Reply) {
	for _, index := range b.notTaken {
		reply.Skip(int(index))
	}
	for _, e := range b.errors {
		reply.Skip(e.Index)
	}
}

// answer waits for the verdicts of what was taken and writes the results.
func (b *batch) answer(w http.ResponseWriter, r *http.Request, reply Reply, timeout time.Duration) {
	for _, index := range b.notTaken {
		why := bus.RingFull
		if errors.Is(b.why, bus.ErrClosed) {
			why = bus.Closed
		}
		b.addError(int(index), why, b.why)
	}
	verdicts, err := reply.Wait(r.Context(), timeout)
	switch {
	case err == nil:
		b.results(w, verdicts)
	case r.Context().Err() != nil: // nobody is there to read an answer
	case errors.Is(err, context.DeadlineExceeded):
		b.problem(w, r, http.StatusGatewayTimeout, "timeout",
			fmt.Sprintf("there were not all verdicts within %v: the events are evaluated all the same",
				timeout))
	case errors.Is(err, ErrAnswerTooLarge):
		b.problem(w, r, http.StatusRequestEntityTooLarge, "answer_too_large", "the verdicts take more bytes "+
			"than an answer may have: expected fewer events in a request; the events are evaluated all the same")
	case errors.Is(err, ErrAnswersFull):
		b.problem(w, r, http.StatusServiceUnavailable, "answers_full", "the verdicts that wait to be sent take "+
			"all the memory that they may have; the events are evaluated all the same")
	case errors.Is(err, ErrNoRule):
		b.problem(w, r, http.StatusNotFound, "no_rule", "the rule was deleted or disabled meanwhile")
	default:
		b.fail(w, r, err)
	}
}

func (b *batch) results(w http.ResponseWriter, verdicts []json.RawMessage) {
	slices.SortFunc(b.errors, func(x, y itemError) int { return cmp.Compare(x.Index, y.Index) })
	left := b.errors
	w.Header()["Content-Type"] = jsonType
	out := append(b.out[:0], `{"results":[`...)
	for i := range b.events {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"index":`...)
		out = strconv.AppendInt(out, int64(i), 10)
		switch {
		case len(left) > 0 && left[0].Index == i:
			out = append(out, `,"error":`...)
			out = appendItemError(out, left[0])
			left = left[1:]
		case i < len(verdicts) && verdicts[i] != nil:
			out = append(out, `,"verdicts":`...)
			out = append(out, verdicts[i]...)
		default:
			out = append(out, `,"verdicts":[]`...)
		}
		if out = append(out, '}'); len(out) > keepOut { // a large answer is not held twice
			w.Write(out)
			out = out[:0]
		}
	}
	out = append(out, ']')
	if b.cut {
		out = append(out, `,"rest_not_read":true`...)
	}
	b.out = append(out, "}\n"...)
	w.Write(b.out) // an error means that the client has gone
}

func appendItemError(dst []byte, e itemError) []byte {
	text, err := json.Marshal(struct {
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}{e.Reason, e.Detail})
	if err != nil {
		panic("BUG: cannot encode an item error: " + err.Error())
	}
	return append(dst, text...)
}
