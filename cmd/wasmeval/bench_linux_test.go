package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// benchProcess is bench as a process of its own, with a folder for whatever it leaves.
type benchProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string
	errs bytes.Buffer
}

func startBench(t *testing.T, args string) *benchProcess {
	t.Helper()
	p := &benchProcess{t: t, temp: t.TempDir()}
	p.cmd = exec.Command(os.Args[0], append([]string{"bench"}, strings.Fields(args)...)...)
	p.cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+p.temp)
	p.cmd.Stderr = &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for pid := range p.family() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return p
}

// family is the processes that have the folder in their environment, with their command lines: bench
// and its servers. What has ended, but has not been waited for, has neither.
func (p *benchProcess) family() map[int]string {
	p.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		p.t.Fatal(err)
	}
	list := make(map[int]string)
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil || !slices.Contains(strings.Split(string(text), "\x00"), "TMPDIR="+p.temp) {
			continue // it has ended, or is someone else's
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			p.t.Fatal(err)
		}
		list[pid] = strings.ReplaceAll(string(command), "\x00", " ")
	}
	return list
}

// until waits for so many processes.
func (p *benchProcess) until(n int) {
	p.t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		list := p.family()
		if len(list) == n {
			return
		}
		if time.Since(begun) > 10*time.Second {
			p.t.Fatalf("processes %v, expected %d", list, n)
		}
	}
}

// Whoever interrupts bench, at any part, soon has no server of it and no folder.
func TestBenchInterrupted(t *testing.T) {
	for _, c := range []struct {
		args  string
		procs int
	}{
		{"http --rate 100", 2},
		{"http --rate 0.01 --warm-up 0s", 2}, // the second request is due in 100 s
		{"http", 3},
		{"udp --rate 0", 2},
		{"udp", 3},
		{"rules", 2},
		{"swap", 2},
		{"start --rules-dir ../../rules-sdk", 2},
		{"bus", 1},
		{"all --rules-dir ../../rules-sdk", 1},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			p := startBench(t, c.args+" --for 60s")
			p.until(c.procs)
			time.Sleep(300 * time.Millisecond)
			begun := time.Now()
			_ = p.cmd.Process.Signal(sig)
			_ = p.cmd.Wait()
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("bench %s went on for %v after %v", c.args, took, sig)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != 1 || p.errs.String() != "wasmeval: interrupted\n" {
				t.Errorf("bench %s, %v: exit code %d, %q", c.args, sig, code, &p.errs)
			}
			if left := p.family(); len(left) > 0 {
				t.Errorf("bench %s, %v: it left %v", c.args, sig, left)
			}
			if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
				t.Errorf("bench %s, %v: it left %v, %v", c.args, sig, left, err)
			}
		}
	}
}

// No server outlives bench, however that ends.
func TestBenchKilled(t *testing.T) {
	p := startBench(t, "http --rate 100 --for 60s")
	p.until(2)
	time.Sleep(time.Second) // a server that still starts would end by itself, as nobody reads what it prints
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.until(0)
}
