package sink

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// faults keeps what a file reports.
type faults struct {
	mu  sync.Mutex
	all []error
}

func (f *faults) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, err)
}

func (f *faults) list() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

// testFile opens a file that is rotated at maxBytes.
func testFile(t *testing.T, path string, maxBytes int64, c SinkConfig) (*file, *faults) {
	t.Helper()
	var told faults
	f, err := openFile(path, &c, told.add)
	if err != nil {
		t.Fatal(err)
	}
	f.maxBytes = maxBytes
	return f, &told
}

func closeFile(t *testing.T, f *file) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, f *file, text string) {
	t.Helper()
	if n, err := f.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("%d bytes of %d written: %v", n, len(text), err)
	}
}

// backupsOf returns the rotated files of a path, the oldest first, then the path itself.
func backupsOf(t *testing.T, path string) []string {
	t.Helper()
	ext := filepath.Ext(path)
	names, err := filepath.Glob(strings.TrimSuffix(path, ext) + "-*" + ext)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names) // the time in the name has all its digits
	return append(names, path)
}

// A file sink rotates as fast as it can write: nothing is lost, doubled, torn or out of order, and
// no file passes the limit.
func TestRotation(t *testing.T) {
	const n = 30_000
	path := filepath.Join(t.TempDir(), "folder", "v.ndjson")
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"f"}}},
		Sinks: []SinkConfig{{Name: "f", Type: TypeFile, Path: path, MaxSizeMB: 1,
			QueueBytes: 64 << 20}},
	}, io.Discard)
	want := make([]string, n)
	filler := strings.Repeat("x", 1000)
	for i := range want {
		want[i] = fmt.Sprintf(`{"n":%d,"filler":%q}`, i, filler[:i%len(filler)])
		r.Route("pay", 1, false, []byte(want[i]))
	}
	mustClose(t, r)
	files := backupsOf(t, path)
	sameLines(t, "all files", linesOf(t, files...), want)
	for i, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		// All but the last are full: a batch of up to writeBytes did not fit any more.
		if size := info.Size(); size > 1<<20 || i < len(files)-1 && size < 1<<20-writeBytes {
			t.Errorf("file %d of %d has %d bytes", i+1, len(files), size)
		}
	}
	if len(files) < 10 {
		t.Errorf("%d files: it was not rotated", len(files))
	}
	account(t, r.Stats()[0], ledger{routed: n, delivered: n})
}

// Many rotations within a millisecond, and a clock that is set back, write nothing over.
func TestBackupNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.ndjson")
	f, told := testFile(t, path, 10, SinkConfig{})
	want := make([]string, 200)
	ahead := time.Now().Add(time.Hour)
	for i := range want {
		want[i] = fmt.Sprintf("line %05d", i)
		if i == 100 {
			f.last = ahead // as if the clock was an hour ahead until now
		}
		write(t, f, want[i]+"\n")
	}
	closeFile(t, f)
	files := backupsOf(t, path)
	if len(files) != len(want) {
		t.Errorf("%d files, expected %d", len(files), len(want))
	}
	sameLines(t, "all files", linesOf(t, files...), want)

	// Another process, whose clock is behind, finds names taken.
	f, _ = testFile(t, path, 10, SinkConfig{})
	f.last = ahead.Add(-50 * time.Millisecond)
	for i := range 200 {
		write(t, f, fmt.Sprintf("more %05d\n", i))
	}
	closeFile(t, f)
	lines := linesOf(t, backupsOf(t, path)...)
	slices.Sort(lines)
	if n := len(slices.Compact(lines)); n != 400 {
		t.Errorf("%d different lines, expected 400", n)
	}
	if all := told.list(); all != nil {
		t.Errorf("faults were reported: %v", all)
	}
}

// What is larger than a file may be stands in one of its own.
func TestLargeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	f, _ := testFile(t, path, 10, SinkConfig{})
	large := strings.Repeat("x", 100)
	for _, s := range []string{large, "a", "b", large, "c"} {
		write(t, f, s+"\n")
	}
	closeFile(t, f)
	files := backupsOf(t, path)
	sameLines(t, "all files", linesOf(t, files...), []string{large, "a", "b", large, "c"})
	if len(files) != 4 {
		t.Errorf("%d files, expected 4", len(files))
	}
}

// A file goes on where an earlier process ended, also if that was within a line.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.ndjson")
	for i, c := range []struct {
		before string
		want   []string
	}{
		{"", []string{"new"}},
		{"old\n", []string{"old", "new"}},
		{"old\nto", []string{"old", "to", "new"}},
		{"123456789\n", []string{"123456789", "new"}}, // it is full: a backup is made
	} {
		for _, name := range backupsOf(t, path) {
			os.Remove(name)
		}
		if err := os.WriteFile(path, []byte(c.before), 0o640); err != nil {
			t.Fatal(err)
		}
		f, _ := testFile(t, path, 12, SinkConfig{})
		write(t, f, "new\n")
		closeFile(t, f)
		files := backupsOf(t, path)
		sameLines(t, c.before, linesOf(t, files...), c.want)
		if (i == 3) != (len(files) == 2) {
			t.Errorf("%q: %d files", c.before, len(files))
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o640 { // also of the file after a backup
			t.Errorf("%q: the mode became %v", c.before, info.Mode())
		}
	}
}

// Backups that are too many or too old are removed, and nothing else in the folder is.
func TestBackupLimits(t *testing.T) {
	now := time.Now().UTC()
	ago := func(days int) string {
		return "v-" + now.Add(-time.Duration(days)*24*time.Hour-time.Minute).Format(backupTime) +
			".ndjson"
	}
	all := []string{ago(1), ago(2), ago(2) + ".gz", ago(3), ago(9) + ".gz"}
	others := []string{"v-notatime.ndjson", "other-2020-01-02T03-04-05.006.ndjson", "v.txt",
		"v-2020-01-02T03-04-05.006.txt", "v-2020-01-02T03-04-05.006.ndjson.bak"}
	folder := "v-2020-01-02T03-04-05.006.ndjson"
	for name, c := range map[string]struct {
		config SinkConfig
		want   []string
	}{
		"all stay": {SinkConfig{}, all},
		"number":   {SinkConfig{MaxBackups: 2}, []string{ago(1), ago(2), ago(2) + ".gz"}},
		"age":      {SinkConfig{MaxAgeDays: 3}, []string{ago(1), ago(2), ago(2) + ".gz"}},
		"both":     {SinkConfig{MaxBackups: 1, MaxAgeDays: 3}, []string{ago(1)}},
		"longest":  {SinkConfig{MaxAgeDays: maxAgeDays}, all},
	} {
		dir := t.TempDir()
		for _, n := range slices.Concat(others, all) {
			if err := os.WriteFile(filepath.Join(dir, n), []byte("{}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		f, told := testFile(t, filepath.Join(dir, "v.ndjson"), 1<<20, c.config)
		closeFile(t, f) // after which everything is done
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		want := slices.Concat(others, c.want, []string{folder, "v.ndjson"})
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the folder has %q, expected %q", name, got, want)
		}
		if all := told.list(); all != nil {
			t.Errorf("%s: faults were reported: %v", name, all)
		}
	}
	// Also while it runs: of many rotations the last backups stay.
	path := filepath.Join(t.TempDir(), "v.ndjson")
	f, _ := testFile(t, path, 2, SinkConfig{MaxBackups: 3})
	for i := range 50 {
		write(t, f, string(rune('A'+i))+"\n")
	}
	closeFile(t, f)
	sameLines(t, "what stays", linesOf(t, backupsOf(t, path)...), []string{"o", "p", "q", "r"})
}

func unpack(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if text, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCompress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.ndjson")
	packed := func() []string {
		names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.gz"))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	f, told := testFile(t, path, 10, SinkConfig{Compress: true})
	for i := range 5 {
		write(t, f, fmt.Sprintf("line %d\n", i))
	}
	waitFor(t, "the backups are compressed", func() bool { return len(backupsOf(t, path)) == 1 })
	closeFile(t, f)
	var text []byte
	for _, name := range packed() {
		text = append(text, unpack(t, name)...)
	}
	if want := "line 0\nline 1\nline 2\nline 3\n"; string(text) != want {
		t.Errorf("the backups have %q, expected %q", text, want)
	}
	if all := told.list(); all != nil {
		t.Errorf("faults were reported: %v", all)
	}

	// A fault is reported, and the backup stays.
	blocked := filepath.Join(filepath.Dir(path), "v-2020-01-02T03-04-05.006.ndjson")
	if err := os.WriteFile(blocked, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(blocked+".gz/full", 0o700); err != nil {
		t.Fatal(err)
	}
	f, told = testFile(t, path, 10, SinkConfig{Compress: true})
	waitFor(t, "a fault is reported", func() bool { return len(told.list()) > 0 })
	closeFile(t, f)
	sameLines(t, "the backup", linesOf(t, blocked), []string{"old"})
	if _, err := os.Stat(blocked + ".gz.part"); err == nil {
		t.Error("a part of a compressed file was left")
	}
}

// Close does not wait until something large is compressed; the backup stays as it was.
func TestCloseWhileCompressing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.ndjson")
	f, told := testFile(t, path, 10, SinkConfig{Compress: true})
	closeFile(t, f)
	name := filepath.Join(filepath.Dir(path), "v-2020-01-02T03-04-05.006.ndjson")
	if err := os.WriteFile(name, bytes.Repeat([]byte("line\n"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.pack(name); err != nil { // f is closing, as it would be in the midst of it
		t.Error(err)
	}
	if n := len(linesOf(t, name)); n != 100_000 {
		t.Errorf("%d lines stay", n)
	}
	for _, end := range []string{".gz", ".gz.part"} {
		if _, err := os.Stat(name + end); err == nil {
			t.Errorf("there is a file with %s", end)
		}
	}
	if all := told.list(); all != nil {
		t.Errorf("faults were reported: %v", all)
	}
}

// When a rotation fails, the lines are refused, and the file is neither lost nor beyond its limit;
// it goes on when the cause is gone.
func TestRotationFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	path := filepath.Join(dir, "v.ndjson")
	f, _ := testFile(t, path, 10, SinkConfig{})
	write(t, f, "line 1\n")
	aside := dir + ".aside"
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder was
		t.Fatal(err)
	}
	for range 3 {
		if n, err := f.Write([]byte("line 2\n")); n != 0 || err == nil {
			t.Errorf("%d bytes written: %v", n, err)
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, dir); err != nil {
		t.Fatal(err)
	}
	write(t, f, "line 3\n")
	closeFile(t, f)
	sameLines(t, "all files", linesOf(t, backupsOf(t, path)...), []string{"line 1", "line 3"})
}

// A file that somebody removes, renames or replaces is opened anew by the next write; what was written
// stays where it is, and one that cannot be opened refuses its lines.
func TestFileTakenAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	path := filepath.Join(dir, "v.ndjson")
	long := strings.Repeat("x", 30)
	f, told := testFile(t, path, 40, SinkConfig{})
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, f, "removed\n")
	do(os.Remove(path))
	write(t, f, "line 1\n")
	sameLines(t, "a new file", linesOf(t, path), []string{"line 1"})

	do(os.Rename(path, path+".1")) // as logrotate does with nocreate
	write(t, f, "line 2\n")
	do(os.Rename(path, path+".2"))
	do(os.WriteFile(path, []byte("created\nto"), 0o640)) // and with create
	write(t, f, "line 3\n")
	sameLines(t, "the first", linesOf(t, path+".1"), []string{"line 1"})
	sameLines(t, "the second", linesOf(t, path+".2"), []string{"line 2"})
	sameLines(t, "the other's", linesOf(t, path), []string{"created", "to", "line 3"})
	write(t, f, long+"\n") // with what was there before it passes the limit
	sameLines(t, "after a rotation", linesOf(t, path), []string{long})

	aside := dir + ".aside"
	do(os.Rename(dir, aside))
	for range 2 {
		if n, err := f.Write([]byte("lost\n")); n != 0 || err == nil ||
			!strings.Contains(err.Error(), "cannot open file") {
			t.Errorf("%d bytes are written to a folder that is gone: %v", n, err)
		}
	}
	do(os.Rename(aside, dir))
	write(t, f, "line 4\n")
	closeFile(t, f)
	sameLines(t, "at the end", linesOf(t, path), []string{long, "line 4"})
	if all := told.list(); all != nil {
		t.Errorf("faults were reported: %v", all)
	}
}

// Lines that count as delivered are on the disk, however often the file is renamed meanwhile.
func TestFileRenamedOften(t *testing.T) {
	const n = 20_000
	path := filepath.Join(t.TempDir(), "v.ndjson")
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"f"}}},
		Sinks:  []SinkConfig{{Name: "f", Type: TypeFile, Path: path, QueueBytes: 16 << 20}},
	}, io.Discard)
	files := []string{path}
	for i := range 100 {
		send(r, i*n/100, n/100)
		name := fmt.Sprintf("%s.%d", path, i)
		if err := os.Rename(path, name); err == nil {
			files = slices.Insert(files, len(files)-1, name)
		}
	}
	mustClose(t, r)
	if _, err := os.Stat(path); err != nil {
		files = files[:len(files)-1] // nothing came after the last was renamed
	}
	sameLines(t, "all files", linesOf(t, files...), numbered(0, n))
	account(t, r.Stats()[0], ledger{routed: n, delivered: n})
	if len(files) < 3 {
		t.Errorf("%d files: it was not renamed", len(files))
	}
}

func TestOpenFileFaults(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                                "expected a regular file",
		os.DevNull:                         "expected a regular file",
		filepath.Join(plain, "v.ndjson"):   "cannot make folder",
		filepath.Join(dir, "nul\x00.json"): "cannot open file",
	} {
		f, err := openFile(path, &SinkConfig{}, nil)
		if err == nil {
			t.Errorf("%q is opened", path)
			closeFile(t, f)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "file \"") {
			t.Errorf("%q: %v, expected %q", path, err, want)
		}
	}
}
