package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// benchAttributes: a server ends with this process, and a Ctrl-C at the terminal is not for it, so that
// no load fails before this process knows why.
func benchAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

const (
	clockMonotonic = 1
	cpuClock       = 2 // CPUCLOCK_SCHED: the scheduler's own count, of all threads of a process

	udpGRO = 104 // UDP_GRO

	// spinFor is how long before its time a pacer no longer sleeps, since to wake up takes as long.
	spinFor = 15 * time.Microsecond

	longSleep = 100 * time.Millisecond // after which a pacer looks whether it should go on
)

// pacer waits for times after a beginning, to some microseconds: time.Sleep waits a millisecond
// longer than it is told, and a loop that looks at the clock takes the server's core.
type pacer struct {
	fd    uintptr  // a timerfd
	timer *os.File // the same, for which the runtime waits as it does for a socket
	begun time.Time
	spec  struct{ interval, value syscall.Timespec }
}

func newPacer(begun time.Time) (*pacer, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic,
		syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, fmt.Errorf("cannot make a timer: %w", errno)
	}
	return &pacer{fd: fd, timer: os.NewFile(fd, "timer"), begun: begun}, nil
}

// until returns at a time after the beginning, or at once if that has passed, or soon after ctx ended.
func (p *pacer) until(ctx context.Context, t time.Duration) {
	left := t - time.Since(p.begun)
	for ; left > longSleep; left = t - time.Since(p.begun) {
		if ctx.Err() != nil {
			return
		}
		p.sleep(longSleep)
	}
	if left > spinFor {
		p.sleep(left - spinFor/2)
	}
	for time.Since(p.begun) < t {
		goruntime.Gosched()
	}
}

func (p *pacer) sleep(d time.Duration) {
	p.spec.value = syscall.NsecToTimespec(int64(d))
	if _, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, p.fd, 0,
		uintptr(unsafe.Pointer(&p.spec)), 0, 0, 0); errno != 0 {
		panic("BUG: cannot set a timer: " + errno.Error())
	}
	var expired [8]byte
	_, _ = p.timer.Read(expired[:]) // until looks at the clock again
}

func (p *pacer) close() { _ = p.timer.Close() }

// cpuOf is the CPU time that a process has used, in user code and the kernel.
func cpuOf(pid int) (time.Duration, error) {
	var t syscall.Timespec
	clock := uintptr(^pid<<3 | cpuClock)
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)),
		0); errno != 0 {
		return 0, fmt.Errorf("cannot read the CPU time of process %d: %w", pid, errno)
	}
	return time.Duration(t.Nano()), nil
}

// residentOf is how much memory a process has resident, in bytes.
func residentOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "\nVmRSS:")
	line, _, _ := strings.Cut(after, "kB")
	kb, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read the memory of process %d: %w", pid, err)
	}
	return kb << 10, nil
}

// machineName is the processor's name and the kernel's.
func machineName() (cpu, kernel string) {
	text, _ := os.ReadFile("/proc/cpuinfo") // without it the report says less
	_, after, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(after, "\n")
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.Trim(line, " \t:"), strings.TrimSpace(string(release))
}

// setUDP asks for a receive buffer, past the system's limit if the process may, and, with join, for
// UDP_GRO.
func setUDP(conn *net.UDPConn, bufferBytes int, join bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) {
		s := int(fd)
		if syscall.SetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, bufferBytes) != nil {
			err = syscall.SetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_RCVBUF, bufferBytes)
		}
		if join {
			err = errors.Join(err, syscall.SetsockoptInt(s, syscall.IPPROTO_UDP, udpGRO, 1))
		}
	}); e != nil {
		return e
	}
	return err
}

// segmentOf is the size of the datagrams that were joined, or 0 if there is only one.
func segmentOf(oob []byte) int {
	list, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range list {
		if m.Header.Level == syscall.IPPROTO_UDP && m.Header.Type == udpGRO && len(m.Data) >= 4 {
			return int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return 0
}
