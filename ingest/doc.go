// Package ingest takes events from outside, by HTTP and by UDP, checks them, and submits them to
// the bus. Every event is counted exactly once in the bus's ledger, whatever becomes of it.
//
//	in, err := ingest.New(ingest.Config{Bus: b, Fields: event.Fields{Type: "type", Key: "user.id"}})
//	mux.HandleFunc("POST /v1/events", in.Events)
//	mux.HandleFunc("POST /v1/evaluate", in.Evaluate)
//	udp, err := in.ListenUDP("127.0.0.1:9999", 2, 8<<20)
//	...
//	udp.Close() // before the bus
//
// An event's shard is that of its key. Without a key, the events of one request go to one shard
// together, and those of one UDP socket always to the same.
//
// A body is scanned to its end before its first event is submitted, so that a body that breaks off
// or is too large leaves nothing behind. Requests that are refused for what they are, not for
// their events (content type, encoding, no body, no such rule), count no event; a body that is too
// large or breaks off counts those of its events that were seen, and at least one.
//
// All methods may be called from any goroutine. Limits: BodyBytes, MaxEvents and MaxEvaluate of
// Config, event.Limits, and what a ring takes. Nothing is ever sent back over UDP.
package ingest
