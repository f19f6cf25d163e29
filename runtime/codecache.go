package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
)

// codeCache is the folder of compiled modules. An entry is wazero's file and a record of ours
// beside it. wazero finds its file by name and runs what is in it: it checks a CRC of the code, but
// not that the file belongs to its name, nor the tables around the code. So no entry is loaded
// whose bytes are not those that the record names, and none that others could have written.
//
//	cache/wazero-v1.12.0-amd64-linux/<wazero's key>   the code
//	cache/wazero-v1.12.0-amd64-linux/<key>.json       its record
//	cache/compile-*                                   what is being compiled
//
// The key of a record is the SHA-256 of the rewritten module, of which the rewriter's version and
// limits are a part.
//
// All methods may be called from any goroutine. Only one process may use a folder, which the lock
// on the registry beside it sees to.
type codeCache struct {
	root string
	dir  string // of the entries: wazero names it by its version, the architecture and the system
	most int64  // bytes of all entries; those of loaded programs are kept all the same

	mu      sync.Mutex // no entry comes or goes while another is checked and loaded
	evicted atomic.Uint64

	pins   sync.Mutex
	pinned map[digest]int // programs by the key of their entry
}

// entryRecord is what we know of an entry.
type entryRecord struct {
	Key    string `json:"key"`    // SHA-256 of the rewritten module, which the file's name is too
	Entry  string `json:"entry"`  // name of wazero's file
	Bytes  int64  `json:"bytes"`  // of wazero's file
	SHA256 string `json:"sha256"` // of wazero's file
}

// errNoEntry is returned when the cache has no sound entry for a module.
var errNoEntry = errors.New("the cache has no entry for this module")

const (
	recordSuffix = ".json"
	compileName  = "compile-*" // of the folders that modules are compiled in
)

var (
	entryName  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	recordName = regexp.MustCompile(`^[0-9a-f]{64}\.json$`)
)

// openCodeCache opens or makes the folder, and removes what is of no use: entries of other versions
// of wazero, halves of entries, and what a killed server was compiling.
func openCodeCache(root string, most int64) (*codeCache, error) {
	c := &codeCache{root: root, most: most, pinned: map[digest]int{}}
	if err := ownFolder(root); err != nil {
		return nil, err
	}
	for _, dir := range list(root, compileName) {
		_ = os.RemoveAll(dir) // one that stays does no harm
	}
	name, err := c.version()
	if err != nil {
		return nil, fmt.Errorf("cannot open compilation cache %q: %w", root, err)
	}
	c.dir = filepath.Join(root, name)
	for _, dir := range list(root, "wazero-*") {
		if dir != c.dir {
			slog.Info("removed compiled modules of another version", "folder", dir)
			_ = os.RemoveAll(dir)
		}
	}
	if err := ownFolder(c.dir); err != nil {
		return nil, err
	}
	c.sweep()
	return c, nil
}

// ownFolder makes a folder that is ours alone. If others could read it they no longer can; what
// they could have written is removed.
func ownFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make folder %q: %w", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cannot open folder %q: %w", dir, err)
	}
	if !ours(info) {
		return fmt.Errorf("cannot use folder %q: it belongs to another user, who could put code into it",
			dir)
	}
	mode := info.Mode().Perm()
	if !private(mode) {
		slog.Warn("others had access to the compilation cache", "folder", dir, "mode", mode.String())
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("cannot make folder %q private: %w", dir, err)
		}
	}
	if mode&0o022 == 0 || private(mode) {
		return nil
	}
	list, err := os.ReadDir(dir)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("cannot empty folder %q, which others could write to: %w", dir, err)
	}
	return nil
}

// list returns the folders of dir that match pattern.
func list(dir, pattern string) (found []string) {
	entries, _ := os.ReadDir(dir) // what cannot be read is noticed when it is used
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok && e.IsDir() {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found
}

// version is the name of the folder that this version of wazero keeps its entries in.
func (c *codeCache) version() (string, error) {
	tmp, err := c.workspace()
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // else the next start removes it
	if _, err := wazero.NewCompilationCacheWithDir(tmp); err != nil {
		return "", err
	}
	made := list(tmp, "*")
	if len(made) != 1 {
		return "", fmt.Errorf("wazero made %d folders: expected 1", len(made))
	}
	return filepath.Base(made[0]), nil
}

// workspace makes a folder to compile in, which the caller removes.
func (c *codeCache) workspace() (string, error) { return os.MkdirTemp(c.root, compileName) }

// sweep removes files that are not one half of an entry whose other half is there.
func (c *codeCache) sweep() {
	keep := map[string]bool{}
	for key := range c.records() {
		if rec, err := c.read(key); err == nil {
			if _, err := os.Stat(filepath.Join(c.dir, rec.Entry)); err == nil {
				keep[rec.Entry], keep[filepath.Base(c.recordFile(key))] = true, true
			}
		}
	}
	files, _ := os.ReadDir(c.dir)
	for _, f := range files {
		if !keep[f.Name()] {
			_ = os.RemoveAll(filepath.Join(c.dir, f.Name()))
		}
	}
}

// records lists the keys of all records, and when each was used last.
func (c *codeCache) records() map[digest]time.Time {
	found := map[digest]time.Time{}
	files, _ := os.ReadDir(c.dir)
	for _, f := range files {
		if !recordName.MatchString(f.Name()) {
			continue
		}
		var key digest
		_, _ = hex.Decode(key[:], []byte(strings.TrimSuffix(f.Name(), recordSuffix)))
		if info, err := f.Info(); err == nil {
			found[key] = info.ModTime()
		}
	}
	return found
}

func (c *codeCache) recordFile(key digest) string {
	return filepath.Join(c.dir, key.String()+recordSuffix)
}

// read reads a record. The entry that it names may be damaged or gone.
func (c *codeCache) read(key digest) (*entryRecord, error) {
	text, err := os.ReadFile(c.recordFile(key))
	if err != nil {
		return nil, err
	}
	rec := &entryRecord{}
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, fmt.Errorf("cannot read its record: %w", err)
	}
	if rec.Key != key.String() || !entryName.MatchString(rec.Entry) {
		return nil, errors.New("its record is that of another entry")
	}
	return rec, nil
}

// check reads an entry and holds it against its record.
func (c *codeCache) check(rec *entryRecord) error {
	n, sum, err := hashFile(filepath.Join(c.dir, rec.Entry))
	switch {
	case err != nil:
		return err
	case n != rec.Bytes:
		return fmt.Errorf("it has %d bytes: expected %d", n, rec.Bytes)
	case sum != rec.SHA256:
		return errors.New("its bytes are not those that were compiled")
	}
	return nil
}

func hashFile(name string) (n int64, sum string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, f)
	return n, hex.EncodeToString(h.Sum(nil)), err
}

// use calls load while a sound entry for key is in the cache. Without one it returns errNoEntry; an
// entry that is damaged, or that wazero does not find, is removed.
func (c *codeCache) use(key digest, load func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec, err := c.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return errNoEntry
	}
	if err == nil {
		err = c.check(rec)
	}
	if err == nil {
		err = load()
		if err == nil {
			now := time.Now()
			_ = os.Chtimes(c.recordFile(key), now, now) // else it is removed sooner
			return nil
		}
		if !errors.Is(err, errMissed) {
			return err
		}
	}
	slog.Warn("removed a damaged or foreign entry of the compilation cache", "entry", key,
		"error", err)
	c.remove(key)
	return errNoEntry
}

// remove removes what there is of an entry. The caller holds mu.
func (c *codeCache) remove(key digest) {
	if rec, err := c.read(key); err == nil {
		_ = os.Remove(filepath.Join(c.dir, rec.Entry))
	}
	_ = os.Remove(c.recordFile(key)) // an entry that cannot be removed is not loaded either
}

// install takes what was compiled in a workspace as the entry for key.
func (c *codeCache) install(key digest, workspace string) error {
	made := filepath.Join(workspace, filepath.Base(c.dir))
	list, err := os.ReadDir(made)
	if err != nil {
		return fmt.Errorf("cannot read what was compiled: %w", err)
	}
	if len(list) != 1 || !list[0].Type().IsRegular() || !entryName.MatchString(list[0].Name()) {
		return fmt.Errorf("compiling made %d files: expected one entry", len(list))
	}
	rec := entryRecord{Key: key.String(), Entry: list[0].Name()}
	if rec.Bytes, rec.SHA256, err = hashFile(filepath.Join(made, rec.Entry)); err != nil {
		return fmt.Errorf("cannot read what was compiled: %w", err)
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	// The record comes last, and wholly or not at all: an entry without one is swept away.
	tmp := filepath.Join(workspace, "record")
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("cannot write to the compilation cache: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err = os.Rename(filepath.Join(made, rec.Entry), filepath.Join(c.dir, rec.Entry))
	if err == nil {
		err = os.Rename(tmp, c.recordFile(key))
	}
	if err != nil {
		return fmt.Errorf("cannot write to the compilation cache: %w", err)
	}
	c.evict()
	return nil
}

// pin keeps the entry for key from being removed for its age, until unpin.
func (c *codeCache) pin(key digest) {
	c.pins.Lock()
	c.pinned[key]++
	c.pins.Unlock()
}

func (c *codeCache) unpin(key digest) {
	c.pins.Lock()
	if c.pinned[key]--; c.pinned[key] == 0 {
		delete(c.pinned, key)
	}
	c.pins.Unlock()
}

func (c *codeCache) isPinned(key digest) bool {
	c.pins.Lock()
	defer c.pins.Unlock()
	return c.pinned[key] > 0
}

// trim makes the entries fit. Programs that are loaded have pinned theirs.
func (c *codeCache) trim() {
	c.mu.Lock()
	c.evict()
	c.mu.Unlock()
}

// evict removes those entries that were not used for the longest time, until the others fit. One of
// a program that is loaded stays, or the next start would have to compile it. The caller holds mu.
func (c *codeCache) evict() {
	type entry struct {
		key   digest
		used  time.Time
		bytes int64
	}
	var list []entry
	total := int64(0)
	for key, used := range c.records() {
		rec, err := c.read(key)
		if err != nil {
			continue // use removes it
		}
		total += rec.Bytes
		if !c.isPinned(key) {
			list = append(list, entry{key, used, rec.Bytes})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range list {
		if total <= c.most {
			return
		}
		c.remove(e.key)
		c.evicted.Add(1)
		total -= e.bytes
	}
}
