// Package sink carries verdicts out: routes choose by rule and code, and each sink (standard
// output, a file, a webhook) delivers what it gets from a queue of its own. The tail shows verdicts
// to whoever listens over HTTP.
//
//	r, err := sink.New(sink.Config{
//		Routes: []sink.Route{{Rules: []string{"payment.*"}, Sinks: []string{"audit"}}},
//		Sinks:  []sink.SinkConfig{{Name: "audit", Type: sink.TypeFile, Path: "verdicts.ndjson"}},
//	}, os.Stdout)
//	if r.Wants("payment.limit", 1, false) {
//		r.Route("payment.limit", 1, false, verdict) // a copy is queued, or counted as dropped
//	}
//	mux.Handle("GET /v1/tail", r.Tail())
//	err = r.Close(ctx) // drains until ctx ends, then says how many verdicts were left
//
// Wants and Route may be called by any number of goroutines; they allocate nothing, take no lock
// and never wait. Each sink has one goroutine, so a sink that hangs fills only its own queue; what
// no longer fits is dropped and counted. For every sink, at every moment,
//
//	routed = delivered + dropped + dead-lettered + left + pending
//
// in verdicts, and pending is 0 after Close. Delivery is at least once: a webhook that takes a
// batch and then fails to say so gets it again. Order is kept within a sink.
//
// Limits: 64 sinks; a verdict has at most an eighth of its sink's queue; a file is rotated before
// it passes its size, 1 MiB or more, unless a single verdict is larger.
package sink
