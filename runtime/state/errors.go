package state

import "errors"

var (
	// ErrDamaged is returned by Load when the file is not as Save wrote it: it ends early, goes on
	// after its end, its checksum is another, or it has an entry that no table can have. No
	// configuration makes it good.
	ErrDamaged = errors.New("the file is damaged")
	// ErrTooLarge is returned by Load when the tables would take more than they may. The file is
	// sound: with another limit, or another number of shards, it may be loaded.
	ErrTooLarge = errors.New("the states are too large")
)
