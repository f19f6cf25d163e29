package runtime

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childAttributes: the child ends with this process, and a Ctrl-C at the terminal is not for it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// confine limits this process, which must be the leader of its process group.
func confine(o *childOrder) error {
	// Go maps more than it uses, and the race detector terabytes: the limit counts from there.
	begun, err := dataBytes()
	if err != nil {
		return err
	}
	// An instance that is tried reserves all the memory that it may have, as in the server; untouched
	// pages cost nothing, but count.
	data := uint64(o.DataBytes) + uint64(o.Guests.Module.MemoryPages)*wasmPage
	// The kernel sends a signal when the CPU time is over, and kills some seconds later.
	over := make(chan os.Signal, 1)
	signal.Notify(over, unix.SIGXCPU)
	go func() {
		<-over
		os.Exit(childTooLong)
	}()
	const more = 3 // seconds
	for _, l := range []struct {
		name       string
		resource   int
		soft, hard uint64
	}{
		{"core", unix.RLIMIT_CORE, 0, 0},
		{"file size", unix.RLIMIT_FSIZE, uint64(o.CodeBytes), uint64(o.CodeBytes)},
		{"CPU time", unix.RLIMIT_CPU, uint64(o.CPUSeconds), uint64(o.CPUSeconds) + more},
		{"data", unix.RLIMIT_DATA, begun + data, begun + data},
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.soft, Max: l.hard}); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	// For the group, since for the process it would be for this one thread.
	if err := unix.Setpriority(unix.PRIO_PGRP, 0, childNice); err != nil {
		return fmt.Errorf("priority: %w", err)
	}
	// If the machine runs out of memory, this process is the one to end. Where that cannot be said,
	// the kernel has to guess.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	return nil
}

// dataBytes is the size of this process' data, as RLIMIT_DATA counts it.
func dataBytes() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		f := bytes.Fields(line)
		if len(f) == 3 && string(f[0]) == "VmData:" && string(f[2]) == "kB" {
			kb, err := strconv.ParseUint(string(f[1]), 10, 54)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmData")
}

// usedCPU is what this process has used.
func usedCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ours reports whether a file belongs to the user of this process.
func ours(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// private reports whether only its owner may use a folder of this mode.
func private(mode fs.FileMode) bool { return mode&0o077 == 0 }
