package main

import (
	"syscall"
	"time"
)

// sleepUntil waits for a moment to some 60 µs, at the price of a blocked thread. time.Sleep wakes
// up to a millisecond late when nothing else runs, which would pass for latency of the server.
func sleepUntil(t time.Time) {
	if d := time.Until(t); d > 0 {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // a signal ends it early: the next one is due all the same
	}
}

// cpuTime is the CPU that this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
