//go:build !linux

package main

import (
	"errors"
	"net"
	goruntime "runtime"
	"syscall"
	"time"
)

var errNotHere = errors.New("bench measures servers on Linux only, not on " + goruntime.GOOS)

// pacer waits for times after a beginning.
type pacer struct{ begun time.Time }

func newPacer(begun time.Time) (*pacer, error) { return &pacer{begun}, nil }

func (p *pacer) until(t time.Duration) { time.Sleep(t - time.Since(p.begun)) }
func (p *pacer) close()                {}

func cpuOf(int) (time.Duration, error)  { return 0, errNotHere }
func residentOf(int) (uint64, error)    { return 0, errNotHere }
func machineName() (cpu, kernel string) { return goruntime.GOARCH, goruntime.GOOS }

func setUDP(*net.UDPConn, int, bool) error { return errNotHere }
func segmentOf([]byte) int                 { return 0 }

func dieWithUs() *syscall.SysProcAttr { return nil }
