// Package bus carries events from many producers to one worker for each shard, and keeps the
// ledger: what was received, refused, dropped and is still in flight, exact to the event.
//
//	b, err := bus.New(bus.Config{Shards: 2, RingBytes: 8 << 20})
//	go b.Ring(0).Consume(worker0, 1024) // one goroutine a ring
//	go b.Ring(1).Consume(worker1, 1024)
//
//	p := b.NewProducer(bus.SourceHTTP)
//	taken, err := p.Submit(b.ShardOf(key), records) // ErrFull: records[taken:] were not taken
//	p.Reject(bus.Malformed, 1)                      // an event that never became a record
//
//	b.Ledger().Difference() // 0, at every moment
//	b.Close()               // producers get ErrClosed; Consume returns after the last record
//
// A [Ring] is a multi-producer, single-consumer queue of byte records in one block of memory that
// is allocated once. Publishing and draining allocate nothing and take no lock on the ring. A
// [Producer] adds the accounting and holds a mutex of its own while it submits, so that a ledger
// snapshot can stop all producers for an instant; nobody else wants that mutex.
//
// Any number of goroutines may publish to a Ring or submit through a Producer. Only one goroutine
// may consume a Ring. Limits: a record has at most [Ring.MaxRecord] bytes, a ring between 64 KiB
// and 1 GiB.
package bus
