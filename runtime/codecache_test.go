package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// logged gathers what is logged until the test ends.
func logged(t *testing.T) func() string {
	var mu sync.Mutex
	var text bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(lockedWriter{&mu, &text}, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type lockedWriter struct {
	mu  *sync.Mutex
	out *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

// entries are the files of wazero in a data folder's cache.
func entries(t *testing.T, dataDir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dataDir, "cache", "wazero-*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f, recordSuffix) {
			names = append(names, f)
		}
	}
	return names
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A damaged or foreign entry is removed and compiled again, whether it is found at the start or
// while the server runs; the rules work on.
func TestDamagedEntries(t *testing.T) {
	flip := func(at func(text []byte) int) func(*testing.T, string, string) {
		return func(t *testing.T, entry, _ string) {
			text := read(t, entry)
			text[at(text)] ^= 0x40
			write(t, entry, text)
		}
	}
	for name, damage := range map[string]func(t *testing.T, entry, record string){
		"emptied":    func(t *testing.T, entry, _ string) { write(t, entry, nil) },
		"truncated":  func(t *testing.T, entry, _ string) { write(t, entry, read(t, entry)[:500]) },
		"longer":     func(t *testing.T, entry, _ string) { write(t, entry, append(read(t, entry), 0)) },
		"header":     flip(func([]byte) int { return 3 }),
		"offsets":    flip(func([]byte) int { return 30 }),
		"code":       flip(func(text []byte) int { return len(text) / 2 }),
		"last table": flip(func(text []byte) int { return len(text) - 1 }),
		"record":     func(t *testing.T, _, record string) { write(t, record, []byte(`{"key":`)) },
		"record of another": func(t *testing.T, _, record string) {
			text := bytes.Replace(read(t, record), []byte(`{"key":"`), []byte(`{"key":"0`), 1)
			write(t, record, text)
		},
		"record that leads away": func(t *testing.T, _, record string) {
			text := bytes.Replace(read(t, record), []byte(`"entry":"`), []byte(`"entry":"../../`), 1)
			write(t, record, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := openJailed(t, dir, roomy(), CompileVerb)
			f.put("r", "v2")
			f.stop()
			list := entries(t, dir)
			records, err := filepath.Glob(filepath.Join(dir, "cache", "wazero-*", "*"+recordSuffix))
			if err != nil || len(list) != 1 || len(records) != 1 {
				t.Fatalf("entries %v, records %v, %v", list, records, err)
			}
			good := read(t, list[0])
			damage(t, list[0], records[0])
			text := logged(t)
			f = openJailed(t, dir, roomy(), CompileVerb)
			f.compiles(map[CompileResult]uint64{CompileDone: 1})
			f.send("x", `{}`)
			if v := f.out.all(t); len(v) != 1 || v[0].Code != 2 {
				t.Errorf("verdicts %+v, expected code 2", v)
			}
			list = entries(t, dir)
			if len(list) != 1 || !bytes.Equal(read(t, list[0]), good) {
				t.Errorf("entries %v, expected the sound one alone", list)
			}
			if n := strings.Count(text(), "removed a damaged or foreign entry"); n > 1 ||
				n == 0 && !strings.HasPrefix(name, "record") {
				t.Errorf("the log tells it %d times: %s", n, text())
			}
		})
	}
}

// Two modules' entries, sound each, under each other's name: whoever runs the one would get the
// other.
func TestSwappedEntries(t *testing.T) {
	dir := t.TempDir()
	f := openJailed(t, dir, roomy(), CompileVerb)
	f.put("one", "v1")
	f.put("two", "v2")
	f.stop()
	list := entries(t, dir)
	if len(list) != 2 {
		t.Fatalf("entries %v", list)
	}
	one, two := read(t, list[0]), read(t, list[1])
	write(t, list[0], two)
	write(t, list[1], one)
	f = openJailed(t, dir, roomy(), CompileVerb)
	f.compiles(map[CompileResult]uint64{CompileDone: 2})
	f.send("x", `{}`)
	for _, v := range f.out.all(t) {
		if want := map[string]int32{"one": 1, "two": 2}[v.Rule]; v.Code != want {
			t.Errorf("rule %s said %d, expected %d", v.Rule, v.Code, want)
		}
	}
	if n := len(f.out.all(t)); n != 2 {
		t.Errorf("%d verdicts", n)
	}
}

// Rules come back from the cache: nothing is compiled, and nothing could be.
func TestRestartFromCache(t *testing.T) {
	dir := t.TempDir()
	f := openJailed(t, dir, roomy(), CompileVerb)
	const rules = 30
	for i := range rules {
		_, err := f.Put(context.Background(), RuleName(fmt.Sprintf("r-%02d", i)),
			madeModule(fmt.Sprint(i)), PutOptions{Activate: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.compiles(map[CompileResult]uint64{CompileDone: rules})
	f.stop()
	f = openWith(t, Config{DataDir: dir, Limits: jailed(roomy()),
		CompileCommand: []string{"/nowhere"}})
	f.compiles(map[CompileResult]uint64{CompileCached: rules})
	for _, r := range f.Rules() {
		if r.Error != "" {
			t.Errorf("rule %s: %s", r.Name, r.Error)
		}
	}
	f.stop()

	if err := os.RemoveAll(filepath.Join(dir, "cache")); err != nil {
		t.Fatal(err)
	}
	text := logged(t)
	f = openJailed(t, dir, roomy(), CompileVerb)
	f.compiles(map[CompileResult]uint64{CompileDone: rules})
	want := fmt.Sprintf("not in the compilation cache\" modules=%d", rules)
	if !strings.Contains(text(), want) {
		t.Errorf("the log does not say %q: %s", want, text())
	}
}

// At the start, what cannot be an entry is removed.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	f := openJailed(t, dir, roomy(), CompileVerb)
	f.put("r", "v1")
	cache := f.compiler.cache
	f.stop()
	half := filepath.Join(cache.dir, strings.Repeat("ab", 32))
	other := filepath.Join(cache.root, "wazero-v0.0.1-amd64-linux")
	killed := filepath.Join(cache.root, "compile-123")
	for _, d := range []string{other, killed} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(d, "x"), []byte("x"))
	}
	write(t, half, []byte("x"))
	write(t, half+".123.tmp", []byte("x"))
	f = openJailed(t, dir, roomy(), CompileVerb)
	f.compiles(map[CompileResult]uint64{CompileCached: 1})
	for _, name := range []string{half, half + ".123.tmp", other, killed} {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

// The cache belongs to its owner alone. What others could have written is not run.
func TestCacheFolderIsPrivate(t *testing.T) {
	for _, c := range []struct {
		mode fs.FileMode
		want map[CompileResult]uint64
	}{
		{0o700, map[CompileResult]uint64{CompileCached: 1}},
		{0o755, map[CompileResult]uint64{CompileCached: 1}},
		{0o770, map[CompileResult]uint64{CompileDone: 1}},
		{0o702, map[CompileResult]uint64{CompileDone: 1}},
	} {
		for _, which := range []string{"root", "version"} {
			t.Run(fmt.Sprintf("%o/%s", c.mode, which), func(t *testing.T) {
				dir := t.TempDir()
				f := openJailed(t, dir, roomy(), CompileVerb)
				f.put("r", "v1")
				cache := f.compiler.cache
				f.stop()
				opened := map[string]string{"root": cache.root, "version": cache.dir}[which]
				if err := os.Chmod(opened, c.mode); err != nil {
					t.Fatal(err)
				}
				f = openJailed(t, dir, roomy(), CompileVerb)
				f.compiles(c.want)
				for _, d := range []string{cache.root, cache.dir} {
					if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
						t.Errorf("%s: %v, %v", d, info.Mode(), err)
					}
				}
			})
		}
	}
}

func TestCacheFolderOfOthers(t *testing.T) {
	info, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !ours(info) {
		t.Error("a folder that was just made is not ours")
	}
	if other := (foreignInfo{info}); ours(other) {
		t.Error("a folder of another user is ours")
	}
	file := filepath.Join(t.TempDir(), "cache")
	write(t, file, nil)
	if _, err := openCodeCache(file, 1); err == nil {
		t.Error("a file is a cache folder")
	}
}

// foreignInfo is that of a file which belongs to another user.
type foreignInfo struct{ fs.FileInfo }

func (f foreignInfo) Sys() any {
	s := *f.FileInfo.Sys().(*syscall.Stat_t)
	s.Uid++
	return &s
}

// The cache keeps what fits, of the rest what was used last, and always what is loaded.
func TestEviction(t *testing.T) {
	dir := t.TempDir()
	f := openJailed(t, dir, roomy(), CompileVerb)
	try := func(name string) {
		if _, err := f.Validate(context.Background(), madeModule(name)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.Put(context.Background(), "loaded", madeModule("0"), PutOptions{Activate: true})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(entries(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	f.compiler.cache.most = 3 * info.Size() // the modules differ in one byte of their data
	old := time.Now().Add(-time.Hour)
	age := func(back time.Duration) {
		for key, used := range f.compiler.cache.records() {
			if used.After(old) {
				used = old.Add(-back)
				if err := os.Chtimes(f.compiler.cache.recordFile(key), used, used); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	age(4 * time.Hour) // the loaded one is the oldest
	try("1")
	age(3 * time.Hour)
	try("2")
	age(2 * time.Hour)
	try("1") // and so 2 is used before 1
	age(time.Hour)
	try("3")
	if n := len(entries(t, dir)); n != 3 {
		t.Errorf("%d entries, expected 3", n)
	}
	if s := f.Stats(); s.CacheEvicted != 1 {
		t.Errorf("%d evicted, expected 1", s.CacheEvicted)
	}
	try("1")
	f.compiles(map[CompileResult]uint64{CompileDone: 4, CompileCached: 2})
	try("2")
	f.compiles(map[CompileResult]uint64{CompileDone: 5, CompileCached: 2})
	f.stop()
	f = openWith(t, Config{DataDir: dir, Limits: jailed(roomy()),
		CompileCommand: []string{"/nowhere"}})
	f.compiles(map[CompileResult]uint64{CompileCached: 1})
}
