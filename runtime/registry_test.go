package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"wasmeval/bus"
)

// openError opens an engine in a data folder, and returns why it cannot.
func openError(t *testing.T, dir string) error {
	t.Helper()
	b, err := bus.New(bus.Config{Shards: 1, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(context.Background(), Config{DataDir: dir, Bus: b, Router: nobody{},
		Limits: DefaultLimits(), Batch: 1})
	if err == nil {
		shut(t, e)
	}
	return err
}

func isDamaged(err error, path string) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Damaged && strings.Contains(err.Error(), path)
}

// edit changes a registry by hand.
func edit(t *testing.T, dir string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "registry.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A module with one byte changed is another, which nobody has uploaded: it is not run, the rule says
// why, and its neighbour runs.
func TestChangedModule(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, DefaultLimits())
	f.put("good", "always")
	sha := f.put("r", "v1").SHA256
	f.stop()
	edit(t, dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketModules)
		code := bytes.Clone(b.Get([]byte(sha)))
		at := bytes.Index(code, []byte{0x41, 1, 0x36}) // i32.const 1; i32.store: the verdict
		if at < 0 {
			return errors.New("the module has no verdict to change")
		}
		code[at+1] = 2
		return b.Put([]byte(sha), code)
	})
	f = open(t, dir, DefaultLimits())
	rule, err := f.Rule("r")
	if err != nil || !strings.Contains(rule.Error, "has other bytes than were uploaded") {
		t.Errorf("the rule says %q, %v", rule.Error, err)
	}
	f.send("x", `{}`)
	if l := f.out.all(t); len(l) != 1 || l[0].Rule != "good" || l[0].Code != 1 {
		t.Errorf("verdicts %+v: expected one, of the neighbour", l)
	}
	path := filepath.Join(dir, "registry.db")
	_, moduleErr := f.Module("r", 1)
	_, enableErr := f.Enable(context.Background(), "r", "test")
	if !isDamaged(moduleErr, path) || !isDamaged(enableErr, path) {
		t.Errorf("errors %v and %v: expected Damaged ones", moduleErr, enableErr)
	}
	f.put("r", "v2") // the way out
	if got := f.codes("x", "r", `{}`); fmt.Sprint(got) != "[2]" {
		t.Errorf("codes %v of the next version", got)
	}
}

// Records that are JSON and say other things than were written are found, and the file stays as it
// is.
func TestChangedRecords(t *testing.T) {
	rule := func(change func(*ruleRecord)) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketRules)
			rec := &ruleRecord{}
			if err := json.Unmarshal(b.Get([]byte("r")), rec); err != nil {
				return err
			}
			change(rec)
			text, err := json.Marshal(rec)
			return errors.Join(err, b.Put([]byte("r"), text))
		}
	}
	for what, change := range map[string]func(*bbolt.Tx) error{
		"version 9 is named and not there":  rule(func(r *ruleRecord) { r.Active = 9 }),
		"version 7 is named and not there":  rule(func(r *ruleRecord) { r.Previous = 7 }),
		"has other rules than were written": rule(func(r *ruleRecord) { r.Active, r.Previous = 1, 2 }),
		"other rules than were written":     rule(func(r *ruleRecord) { r.Config.Fuel = 5 }),
		"other rules than were": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketRules).Delete([]byte("r"))
		},
		"other rules than": func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketRules)
			return b.Put([]byte("s"), b.Get([]byte("r")))
		},
		"other rules": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(keyGeneration, generationBytes(1))
		},
		`no bucket "rules"`: func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketRules) },
		`has format "1"`: func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(keyFormat, []byte("1"))
		},
		"its audit trail": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketAudit).Put([]byte("zzzzzzzz"), []byte("{"))
		},
		"the quarantine of rule": func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketQuarantine).Put([]byte("r"), []byte("{"))
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "registry.db")
		f := open(t, dir, DefaultLimits())
		f.put("r", "v1")
		f.put("r", "v2")
		f.stop()
		edit(t, dir, change)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		err = openError(t, dir)
		if err == nil && what == "its audit trail" { // which no start reads
			f = open(t, dir, DefaultLimits())
			_, err = f.Audit("", 10)
			f.stop()
		}
		if !isDamaged(err, path) || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v: expected Damaged, with %q", err, what)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
			t.Errorf("%s: the file was changed", what)
		}
	}
}

// damage changes a file of pages of 4 KiB in one of the ways that disks and people do.
func damage(r *rand.Rand, good []byte) (what string, file []byte) {
	const size = 4096
	file = bytes.Clone(good)
	page := func() []byte { at := r.IntN(len(file)/size) * size; return file[at : at+size] }
	flip := func(b []byte, n int) {
		for range n {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
	}
	switch r.IntN(8) {
	case 0:
		return "cut off", file[:1+r.IntN(len(file)-1)]
	case 1:
		for p, i := page(), 0; i < size; i++ {
			p[i] = byte(r.Uint32())
		}
		return "a page of anything", file
	case 2:
		clear(page())
		return "a page of zeros", file
	case 3:
		copy(page(), page())
		return "a page in two places", file
	case 4:
		flip(page()[:16], 1)
		return "a bit in a page's head", file
	case 5:
		flip(page()[16:256], 2)
		return "bits in a page's table", file
	case 6:
		flip(file, 20)
		return "bits anywhere", file
	}
	copy(file[r.IntN(len(file)-16):], "\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00")
	return "a few bytes overwritten", file
}

// fullRegistry writes a registry of many rules, with pages of all kinds, and returns it with what
// is in it.
func fullRegistry(t *testing.T, r *rand.Rand) (file []byte, rules map[RuleName]string,
	modules map[string][]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registry.db")
	reg, err := openRegistry(path)
	if err != nil {
		t.Fatal(err)
	}
	reg.db.NoSync = true
	rules, modules = map[RuleName]string{}, map[string][]byte{}
	now := time.Unix(1e9, 0).UTC()
	for i := range 80 {
		name := RuleName(fmt.Sprint("rule-", i%40))
		code := make([]byte, 100+r.IntN(4_000))
		for j := range code {
			code[j] = byte(r.Uint32())
		}
		rec := &ruleRecord{Enabled: true, Active: 1 + VersionNumber(i/40), Updated: now}
		if i >= 40 {
			rec.Previous = 1
			if err := json.Unmarshal([]byte(rules[name]), rec); err != nil {
				t.Fatal(err)
			}
		}
		sha := digest(sha256.Sum256(code)).String()
		rec.Active = VersionNumber(len(rec.Versions) + 1)
		rec.Versions = append(rec.Versions, versionRecord{Number: rec.Active, SHA256: sha,
			Bytes: len(code), Uploaded: now, Manifest: Manifest{Match: []string{"*"},
				Description: strings.Repeat("text ", r.IntN(100))}})
		if err := reg.commit(&change{name: name, record: rec, sha: sha, code: code,
			generation: Generation(i), audit: Audit{Time: now, Rule: name}}); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		rules[name], modules[sha] = string(text), code
	}
	if err := reg.close(); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return file, rules, modules
}

// However the file is damaged, the process lives, everything that is read is what was written, and
// what cannot be read is Damaged.
func TestRandomDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	good, rules, modules := fullRegistry(t, r)
	path := filepath.Join(t.TempDir(), "registry.db")
	found, missed := 0, 0
	for range 200 {
		what, file := damage(r, good)
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		err := useDamaged(t, path, what, rules, modules)
		switch {
		case err == nil:
			missed++ // it was where nothing is
		case isDamaged(err, path):
			found++
		default:
			t.Errorf("%s: error %v: expected Damaged", what, err)
		}
	}
	if found < 50 || missed < 5 {
		t.Errorf("%d files were damaged and %d were not: expected more of both", found, missed)
	}
}

// useDamaged reads all of a registry, and writes to it.
func useDamaged(t *testing.T, path, what string, rules map[RuleName]string,
	modules map[string][]byte) error {
	t.Helper()
	reg, err := openRegistry(path)
	if err != nil {
		return err
	}
	reg.db.NoSync = true
	defer func() { _ = reg.close() }()
	found, _, err := reg.load()
	if err != nil {
		return err
	}
	if len(found) != len(rules) {
		t.Errorf("%s: %d rules are read, %d were written", what, len(found), len(rules))
	}
	for name, rec := range found {
		if text, err := json.Marshal(rec); err != nil || string(text) != rules[name] {
			t.Errorf("%s: rule %s is %.80s…: expected %.80s…", what, name, text, rules[name])
		}
	}
	var errs []error
	for sha, want := range modules {
		code, err := reg.module(sha)
		if err == nil && !bytes.Equal(code, want) {
			t.Errorf("%s: a module has other bytes than were written", what)
		}
		errs = append(errs, err)
	}
	_, err = reg.audit("", 1000)
	return errors.Join(append(errs, err, commitRule(reg, "new"), commitRule(reg, "newer"))...)
}

// commitRule writes a rule that has a module of some pages.
func commitRule(reg *registry, name string) error {
	return reg.commit(&change{name: RuleName(name), sha: name, code: make([]byte, 20_000),
		record: &ruleRecord{Versions: []versionRecord{{Number: 1, SHA256: name}}}})
}

// A file that is damaged while it is open is Damaged at the next change, and can be closed.
func TestDamageWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	reg, err := openRegistry(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := commitRule(reg, "a"); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	junk := bytes.Repeat([]byte{0xee}, 1<<16)
	if _, err := file.WriteAt(junk, 2*int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := commitRule(reg, "b"); !isDamaged(err, path) {
			t.Errorf("error %v: expected Damaged", err)
		}
	}
	if _, _, err := reg.load(); !isDamaged(err, path) {
		t.Errorf("error %v of reading: expected Damaged", err)
	}
	if err := reg.close(); err != nil {
		t.Error(err)
	}
}

// Pages that bbolt would follow in circles, or write over while they are in use, are found.
func TestPages(t *testing.T) {
	good, _, _ := fullRegistry(t, rand.New(rand.NewPCG(1, 2)))
	size := os.Getpagesize() // of a file that was made here
	check := func(file []byte) error { return checkPages(bytes.NewReader(file), size) }
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	u64 := binary.NativeEndian.Uint64
	meta := good[:size]
	if other := good[size:]; u64(other[64:]) > u64(meta[64:]) {
		meta = other
	}
	list := u64(meta[48:]) // number of the free list
	freed := good[list*uint64(size):]
	unused := map[uint64]bool{}
	for i := range int(binary.NativeEndian.Uint16(freed[10:])) {
		unused[u64(freed[pageHead+8*i:])] = true
	}
	var branch, leaf uint64 // any that is in use
	for n := uint64(2); n < u64(meta[56:]); n++ {
		switch page := good[n*uint64(size):]; {
		case u64(page) != n || unused[n]:
		case page[8] == branchPage:
			branch = n
		case page[8] == leafPage:
			leaf = n
		}
	}
	if branch == 0 || leaf == 0 || len(unused) == 0 {
		t.Fatalf("branch %d, leaf %d, %d free pages: expected some of each", branch, leaf, len(unused))
	}
	sibling := u64(good[int(branch)*size+pageHead+elementBytes+8:])
	for what, set := range map[string]struct{ page, at, to uint64 }{
		"a branch leads to itself":       {branch, pageHead + 8, branch},
		"a branch leads to the first":    {branch, pageHead + 8, 0},
		"a branch leads out of the file": {branch, pageHead + 8, 1 << 40},
		"a branch leads to two at once":  {branch, pageHead + 8, sibling},
		"a page has another number":      {branch, 0, branch + 1},
		"the newest meta page is old":    {0, 64, 2},
		"the other meta page is damaged": {1, 64, 3},
		"a free page is in use":          {list, pageHead, leaf},
		"a free page is not there":       {list, pageHead, 1 << 40},
	} {
		file := bytes.Clone(good)
		binary.NativeEndian.PutUint64(file[set.page*uint64(size)+set.at:], set.to)
		if check(file) == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
