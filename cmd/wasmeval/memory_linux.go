package main

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// memoryBytes is how much memory this process can have, at most: that of the machine, or of its control
// group if that is less. 0: it is not known.
func memoryBytes() uint64 {
	var s syscall.Sysinfo_t
	if syscall.Sysinfo(&s) != nil {
		return 0
	}
	most := s.Totalram * uint64(s.Unit)
	// A container sees its own group there; one that has no limit says "max".
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64); err == nil {
			most = min(most, n)
		}
	}
	return most
}
