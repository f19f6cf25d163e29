package sink

import (
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// limitFiles lets no file of this process grow beyond a size, until the function that it returns is
// called: as a disk that becomes full in the midst of a write.
func limitFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: bytes, Max: old.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	lifted := false
	lift = func() {
		if lifted {
			return
		}
		lifted = true
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
	t.Cleanup(lift)
	return lift
}

// When the disk is full, what stands in the file stays whole lines, exactly those that count as
// delivered; and it goes on when there is room again.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.ndjson")
	// The limit is of the log too that `go test` has of the files that are looked at, so it is far.
	before := strings.Repeat("x", 16<<20)
	if err := os.WriteFile(path, []byte(before+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"f"}}},
		Sinks:  []SinkConfig{{Name: "f", Type: TypeFile, Path: path}},
	}, io.Discard)
	lift := limitFiles(t, uint64(len(before)+1+1003)) // which is within a line
	send(r, 0, 500)
	settled := func() bool { return r.Stats()[0].Pending == 0 }
	waitFor(t, "the verdicts are written or dropped", settled)
	s := r.Stats()[0]
	lines := linesOf(t, path)[1:]
	if len(lines) == 0 || len(lines) != int(s.Delivered) || s.DroppedFailed != 500-s.Delivered ||
		s.FailedAttempts == 0 || !strings.Contains(s.LastError, "cannot write verdicts") {
		t.Errorf("%d lines in the file, %+v", len(lines), s)
	}
	// The file has the lines that fitted, then nothing: what failed later is not torn into it.
	for _, l := range lines {
		if !strings.HasPrefix(l, `{"n":`) || !strings.HasSuffix(l, "}") {
			t.Errorf("line %q is torn", l)
		}
	}
	lift()
	send(r, 500, 10)
	mustClose(t, r)
	sameLines(t, "the file", linesOf(t, path)[1:], append(lines, numbered(500, 10)...))
	account(t, r.Stats()[0],
		ledger{routed: 510, delivered: len(lines) + 10, dropped: 500 - len(lines)})
}

// A named pipe without a reader does not hold up the start.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	returns(t, "openFile", func() {
		if _, err := openFile(path, &SinkConfig{}, nil); err == nil {
			t.Error("a named pipe is opened")
		}
	})
}

// A backup that cannot be removed is told about.
func TestTidyFault(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "v.ndjson")
	f, told := testFile(t, path, 10, SinkConfig{MaxBackups: 1})
	aside := dir + ".aside"
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	f.tidy <- struct{}{}
	waitFor(t, "the fault is reported", func() bool { return len(told.list()) > 0 })
	if err := os.Rename(aside, dir); err != nil {
		t.Fatal(err)
	}
	closeFile(t, f)
}
