//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
	goruntime "runtime"
	"syscall"
	"time"
)

func benchAttributes() *syscall.SysProcAttr { return nil }

var errNotHere = errors.New("bench measures servers on Linux only, not on " + goruntime.GOOS)

// pacer waits for times after a beginning.
type pacer struct{ begun time.Time }

func newPacer(begun time.Time) (*pacer, error) { return &pacer{begun}, nil }

// until returns at a time after the beginning, or when ctx ends.
func (p *pacer) until(ctx context.Context, t time.Duration) { pause(ctx, t-time.Since(p.begun)) }
func (p *pacer) close()                                     {}

func cpuOf(int) (time.Duration, error)  { return 0, errNotHere }
func residentOf(int) (uint64, error)    { return 0, errNotHere }
func machineName() (cpu, kernel string) { return goruntime.GOARCH, goruntime.GOOS }

func setUDP(*net.UDPConn, int, bool) error { return errNotHere }
func segmentOf([]byte) int                 { return 0 }
