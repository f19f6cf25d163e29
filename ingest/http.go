package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"wasmeval/bus"
	"wasmeval/internal/problem"
)

// Events takes the events of a request: one object or an array of objects (application/json), one
// object a line (application/x-ndjson), or CloudEvents 1.0 in all three modes, each also with gzip.
// It answers 202 with
//
//	{"received":3,"accepted":2,"rejected":1,"errors":[{"index":1,"reason":"malformed","detail":"…"}]}
//
// with "errors_omitted" if more were bad than errors names, and "rest_not_read" if the last error
// broke the grammar of an array. If no event was good it is a 400, and if a ring was full a 429
// with "not_taken", the ranges [[from,to],…] of indexes to send again, both ends included.
func (in *Ingest) Events(w http.ResponseWriter, r *http.Request) {
	b := in.batch(maxItemErrors)
	defer b.release()
	turn := in.requests.Add(1)
	p := in.events[turn%httpLanes]
	if !b.take(w, r, p, turn, in.config.MaxEvents) {
		return
	}
	b.lose(p)
	b.submit(p)
	switch {
	case errors.Is(b.why, bus.ErrClosed):
		b.problem(w, r, http.StatusServiceUnavailable, "closed", "the server is stopping")
	case b.why != nil:
		b.problem(w, r, http.StatusTooManyRequests, "ring_full",
			"there is no room for all of these events now: send those in not_taken again")
	case b.taken == 0 && b.events > 0:
		b.problem(w, r, http.StatusBadRequest, "no_good_event", "none of the events is good")
	default:
		b.accept(w)
	}
}

// take reads and scans a request's body. If the request is refused as a whole, it answers,
// counts and returns false.
func (b *batch) take(w http.ResponseWriter, r *http.Request, p *bus.Producer, turn uint64,
	most int,
) bool {
	f := formatOf(r)
	if f == formatNotSupported {
		w.Header().Set("Accept", acceptedTypes)
		problem.Write(w, r, http.StatusUnsupportedMediaType, "content_type",
			fmt.Sprintf("cannot read Content-Type %.100q here: expected one of %s, in UTF-8",
				r.Header.Get("Content-Type"), acceptedTypes), nil)
		return false
	}
	compressed := false
	switch encoding := r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip", "x-gzip":
		compressed = true
	default:
		w.Header().Set("Accept-Encoding", "gzip")
		problem.Write(w, r, http.StatusUnsupportedMediaType, "content_encoding",
			fmt.Sprintf("cannot read Content-Encoding %.100q: expected gzip or none", encoding), nil)
		return false
	}
	if err := b.read(r, compressed); err != nil {
		b.refuseBody(w, r, p, f, err)
		return false
	}
	shards := uint64(b.in.config.Bus.Shards())
	b.reset(b.in.config.Now(), int(turn%shards))
	b.scan(f, r.Header, most)
	if b.events > most {
		b.refuseAll(w, r, p, bus.TooLarge, http.StatusRequestEntityTooLarge, "too_many_events",
			fmt.Sprintf("the body has %d events: expected at most %d", b.events, most))
		return false
	}
	return true
}

// refuseBody answers a request whose body could not be read to its end.
func (b *batch) refuseBody(w http.ResponseWriter, r *http.Request, p *bus.Producer, f format,
	err error,
) {
	tooLong := new(http.MaxBytesError)
	switch {
	case errors.Is(err, errNoBody):
		problem.Write(w, r, http.StatusBadRequest, "no_body", "expected events in the body", nil)
	case errors.Is(err, errBodyTooLarge), errors.As(err, &tooLong):
		b.countSeen(f)
		b.refuseAll(w, r, p, bus.TooLarge, http.StatusRequestEntityTooLarge, "body_too_large",
			fmt.Sprintf("the body has more than %d bytes after decompression: nothing of it was taken",
				b.in.config.BodyBytes))
	case errors.Is(err, errBodiesFull):
		b.countSeen(f)
		w.Header().Set("Retry-After", "1")
		b.refuseAll(w, r, p, bus.RingFull, http.StatusTooManyRequests, "bodies_full",
			fmt.Sprintf("the bodies that are read now take all of %d bytes: nothing of this one was taken",
				b.in.config.BodiesBytes))
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.countSeen(f)
		b.refuseAll(w, r, p, bus.Malformed, http.StatusRequestTimeout, "body_timeout",
			"the body did not come in time: nothing of it was taken")
	default:
		b.countSeen(f)
		b.refuseAll(w, r, p, bus.Malformed, http.StatusBadRequest, "body_incomplete",
			"nothing of the body was taken: "+err.Error())
	}
}

// refuseAll answers with a problem for the request as a whole, and counts all its events.
func (b *batch) refuseAll(w http.ResponseWriter, r *http.Request, p *bus.Producer, why bus.Reason,
	status int, code, detail string,
) {
	p.Lose(why, b.events)
	problem.Write(w, r, status, code, detail, map[string]any{
		"received": b.events, "accepted": 0, "rejected": b.events,
	})
}

// problem answers with a problem that has the counts, and what to send again.
func (b *batch) problem(w http.ResponseWriter, r *http.Request, status int, code, detail string) {
	bad := b.bad()
	extra := map[string]any{
		"received": b.events, "accepted": b.taken, "rejected": bad, "errors": b.errors,
	}
	if omitted := bad - len(b.errors); omitted > 0 {
		extra["errors_omitted"] = omitted
	}
	if b.cut {
		extra["rest_not_read"] = true
	}
	if b.why != nil {
		extra["not_taken"] = ranges(b.notTaken)
		w.Header().Set("Retry-After", "1")
	}
	problem.Write(w, r, status, code, detail, extra)
}

// ranges sorts indexes and joins those that follow each other, both ends included.
func ranges(indexes []uint32) [][2]uint32 {
	slices.Sort(indexes)
	var all [][2]uint32
	for _, i := range indexes {
		if n := len(all); n > 0 && all[n-1][1]+1 == i {
			all[n-1][1] = i
			continue
		}
		all = append(all, [2]uint32{i, i})
	}
	return all
}

var jsonType = []string{"application/json"}

// accept answers 202 with the counts.
func (b *batch) accept(w http.ResponseWriter) {
	bad := b.bad()
	out := append(b.out[:0], `{"received":`...)
	out = strconv.AppendInt(out, int64(b.events), 10)
	out = append(out, `,"accepted":`...)
	out = strconv.AppendInt(out, int64(b.taken), 10)
	out = append(out, `,"rejected":`...)
	out = strconv.AppendInt(out, int64(bad), 10)
	out = append(out, `,"errors":`...)
	out = appendJSON(out, b.errors)
	if omitted := bad - len(b.errors); omitted > 0 {
		out = append(out, `,"errors_omitted":`...)
		out = strconv.AppendInt(out, int64(omitted), 10)
	}
	if b.cut {
		out = append(out, `,"rest_not_read":true`...)
	}
	b.out = append(out, "}\n"...)
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(http.StatusAccepted)
	w.Write(b.out) // an error means that the client has gone
}

func appendJSON(dst []byte, errors []itemError) []byte {
	if len(errors) == 0 {
		return append(dst, "[]"...)
	}
	text, err := json.Marshal(errors)
	if err != nil {
		panic("BUG: cannot encode item errors: " + err.Error())
	}
	return append(dst, text...)
}
