// Package state keeps what rules must remember from event to event: for each key a counter over a
// window, the different values of a window, when the key came first, or a few bytes.
//
//	spec, err := state.Spec{Name: "declined", Kind: state.Counter, WindowMS: 60_000}.Normal()
//	t, err := state.NewTable(spec, 10_000)
//	h := state.NewHasher(secret)
//
//	k := h.Key([]byte("user-7"), spread)
//	sum := t.Add(k, at, 1) // in the window that ends now
//	t.Commit()             // or t.Rollback(), as if nothing had been since the last Commit
//	t.Close()
//
// A [Table] is a cache of fixed size in one block of memory, which is claimed at once and of which
// only pages that were touched cost anything. Its operations allocate nothing once the undo journal
// has grown to what a batch needs. [Save] and [Load] carry tables over a restart, to another number
// of shards too.
//
// A table belongs to one goroutine, but for [Table.Stats]. A [Hasher] may be shared.
//
// # Why the table is as it is
//
// A key has two sets of eight places, chosen by the two halves of its hash, and goes into the one
// with more room. With one set for each key, 3.2 % of the declared keys would find it full at 50 %
// more places than keys, and it would take 16 places a set and twice as many places as keys to have
// less than 0.1 %. With two choices it is 0.02 % at 25 % more places; a table has 50 % more, at which
// none of 1,000,000 keys was evicted, and 0.002 % of them where a shard got 12 % more than its share.
// So a table for n keys keeps n for certain as far as measured, and never more than its places.
//
// An entry never moves, so that undoing a change is to copy the entry's old bytes back. The journal
// holds those of each entry that was touched since the last Commit, once; it is bounded by what a
// caller does between two Commits, and by the size of the table.
//
// The keyed hash is SipHash-2-4 with 128 bits. AES as a CBC-MAC takes as long for keys up to 8
// bytes, and 1.7 to 2.3 times as long beyond (16 bytes: 32 ns against 18; 256 bytes: 250 ns against
// 106), needs a scratch buffer for each goroutine, and cannot be keyed anew for each call, which the
// hash of a distinct value is: with its key's own hash.
package state
