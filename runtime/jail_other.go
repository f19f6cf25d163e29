//go:build !linux

package runtime

import (
	"io/fs"
	goruntime "runtime"
	"syscall"
	"time"
)

func childAttributes() *syscall.SysProcAttr { return nil }

// confine does nothing: elsewhere than on Linux the wall time is the limit, and the collector's.
func confine(*childOrder) error { return nil }

// usedCPU is at most what it returns: elsewhere than on Linux the time since the start.
func usedCPU() time.Duration { return clock() }

func ours(fs.FileInfo) bool { return true }

// private reports whether only its owner may use a folder of this mode. Windows has no such modes.
func private(mode fs.FileMode) bool { return goruntime.GOOS == "windows" || mode&0o077 == 0 }
