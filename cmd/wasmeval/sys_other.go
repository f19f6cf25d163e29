//go:build !linux

package main

import "time"

// sleepUntil waits for a moment as well as the runtime's timers do.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
