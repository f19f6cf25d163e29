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
// with more room. With one set a key, 3.2 % of the declared keys would find theirs full although
// there are 50 % more places than keys, and 0.85 % with twice as many places. With two sets it is
// 0.02 % with 25 % more places. A table has 50 % more: none of 1,000,000 keys was evicted, and
// 0.002 % where a shard had 12 % more than its share of them. So a table holds the keys that it is
// for, and up to half as many more.
//
// An entry never moves, so that undoing a change is to copy the entry's old bytes back. The journal
// holds those of each entry that was touched since the last Commit, once; it is bounded by what a
// caller does between two Commits, and by the size of the table.
//
// The keyed hash is SipHash-2-4 with 128 bits. AES as a CBC-MAC takes as long for keys of up to 8
// bytes and longer for others (16 bytes: 32 ns against 18; 256 bytes: 250 ns against 106), needs a
// scratch buffer for each goroutine, and cannot be keyed anew at each call, as for a value of a
// distinct: its key is the identity of the key that it belongs to.
package state
