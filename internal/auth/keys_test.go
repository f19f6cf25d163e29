package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const (
	readToken   = "wev_read_00000000000000000"
	ingestToken = "wev_ingest_000000000000000"
	bothToken   = "wev_both_00000000000000000"
)

// newKeys makes keys with a token of each kind, and returns the admin's token.
func newKeys(t *testing.T) (k *Keys, admin string) {
	t.Helper()
	dir := t.TempDir()
	hash := sha256.Sum256([]byte(readToken))
	file := writeFile(t, dir, "tokens", 0o600, "# comment\n\n reader read sha256:"+
		hex.EncodeToString(hash[:])+" # of readToken\nsender\tingest\t"+ingestToken+
		"\nboth ingest,read "+bothToken+"\n")
	k, _, err := Load(dir, []string{file})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, AdminFile))
	if err != nil {
		t.Fatal(err)
	}
	return k, strings.TrimSpace(string(text))
}

func writeFile(t *testing.T, dir, name string, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // WriteFile's mode is subject to the umask
		t.Fatal(err)
	}
	return path
}

func TestLoadMakesTheAdminToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	_, created, err := Load(dir, nil)
	if err != nil || !created {
		t.Fatalf("created %v, error %v", created, err)
	}
	path := filepath.Join(dir, AdminFile)
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^wev_[0-9a-f]{64}\n$`).Match(first) {
		t.Errorf("the file has %q", first)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v: expected 0600", info.Mode(), err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("the folder has %v, error %v: expected the token alone", list, err)
	}
	k, created, err := Load(dir, nil)
	if err != nil || created {
		t.Fatalf("at the second start: created %v, error %v", created, err)
	}
	if again, _ := os.ReadFile(path); !bytes.Equal(first, again) {
		t.Error("the second start changed the token")
	}
	if found := k.find(strings.TrimSpace(string(first))); found == nil || found.roles != Admin {
		t.Errorf("the token is for %v: expected the admin", found)
	}
}

// Several processes that start at once must agree on one token.
func TestLoadAtOnce(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	var made atomic.Int32
	all := make([]*Keys, 20)
	for i := range all {
		group.Go(func() {
			k, created, err := Load(dir, nil)
			if err != nil {
				t.Error(err)
			}
			if created {
				made.Add(1)
			}
			all[i] = k
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	if made.Load() != 1 {
		t.Errorf("%d of them made a token: expected 1", made.Load())
	}
	for i, k := range all {
		if k.keys[0].sum != all[0].keys[0].sum {
			t.Errorf("start %d has another token than start 0", i)
		}
	}
}

func TestLoadRefusesAdminFile(t *testing.T) {
	good := tokenPrefix + strings.Repeat("a", 64)
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"group reads", good, 0o640, "mode is 0640"},
		{"others read", good, 0o604, "mode is 0604"},
		{"group writes", good, 0o620, "mode is 0620"},
		{"empty", "\n", 0o600, "remove the file to get a new one"},
		{"short", "wev_short", 0o600, "at least 20 characters"},
		{"two tokens", good + "\n" + good, 0o600, "without spaces"},
		{"huge", strings.Repeat("a", maxFileBytes+1), 0o600, "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := writeFile(t, dir, AdminFile, c.mode, c.text)
			_, _, err := Load(dir, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), path) {
				t.Errorf("error is %v: expected %q and the file's name", err, c.want)
			}
			if after, _ := os.ReadFile(path); string(after) != c.text {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("folder", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, AdminFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(dir, nil); err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("error is %v: expected one of no regular file", err)
		}
	})
}

func TestLoadRefusesTokenFile(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"two words", "a read", "line 1: it has 2 words"},
		{"four words", "\na read " + readToken + " x", "line 2: it has 4 words"},
		{"role", "a reader " + readToken, `roles "reader"`},
		{"no role", "a none " + readToken, `roles "none"`},
		{"one role of two", "a read, " + readToken, `roles "read,"`},
		{"short", "a read wev_", "at least 20"},
		{"hash", "a read sha256:00ff", "64 hex digits"},
		{"name twice", "a read " + readToken + "\na read " + ingestToken, `the name "a"`},
		{"name admin", "admin read " + readToken, `the name "admin"`},
		{"token twice", "a read " + readToken + "\nb read " + readToken, "the same as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := writeFile(t, dir, "tokens", 0o600, c.text)
			_, _, err := Load(dir, []string{path})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v: expected %q", err, c.want)
			}
			if strings.Contains(err.Error(), readToken) {
				t.Error("the error shows the token")
			}
		})
	}
	dir := t.TempDir()
	path := writeFile(t, dir, "tokens", 0o644, "")
	if _, _, err := Load(dir, []string{path}); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("a file for all to read: error is %v", err)
	}
	if _, _, err := Load(dir, []string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a file that is not there was taken")
	}
}

// The example in docs/SECURITY.md is one that the server takes, once it has whole tokens.
func TestLoadTakesTheExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "listen.token_files, which a test reads -->\n```text\n")
	example, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("docs/SECURITY.md has no example of a token file")
	}
	example = strings.ReplaceAll(example, "…", strings.Repeat("0", 60))
	dir := t.TempDir()
	k, _, err := Load(dir, []string{writeFile(t, dir, "tokens", 0o600, example)})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.keys) != 4 || k.keys[3].roles != Ingest|Read {
		t.Errorf("the keys are %+v", k.keys)
	}
}

func TestFind(t *testing.T) {
	k, admin := newKeys(t)
	for token, want := range map[string]string{
		admin: "admin", readToken: "reader", ingestToken: "sender", bothToken: "both",
		"": "", admin + "x": "", admin[:len(admin)-1]: "", strings.ToUpper(admin): "",
	} {
		got := ""
		if found := k.find(token); found != nil {
			got = found.name
		}
		if got != want {
			t.Errorf("token %q is that of %q: expected %q", token, got, want)
		}
	}
}

// Whatever the token, each key is compared once, over the whole hash.
func TestFindComparesAll(t *testing.T) {
	k, admin := newKeys(t)
	for _, token := range []string{admin, readToken, bothToken, "unknown", ""} {
		compared := map[string]int{}
		k.findBy(token, func(x, y []byte) int {
			if len(x) != sha256.Size || len(y) != sha256.Size {
				t.Errorf("%d bytes were compared with %d", len(x), len(y))
			}
			compared[string(y)]++
			return subtle.ConstantTimeCompare(x, y)
		})
		for i := range k.keys {
			if n := compared[string(k.keys[i].sum[:])]; n != 1 {
				t.Errorf("token %q: key %q was compared %d times", token, k.keys[i].name, n)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	for _, c := range []struct {
		have, want Role
		ok         bool
	}{
		{None, None, true}, {None, Read, false}, {None, Ingest, false}, {None, Admin, false},
		{Ingest, None, true}, {Ingest, Ingest, true}, {Ingest, Read, false}, {Ingest, Admin, false},
		{Read, None, true}, {Read, Ingest, false}, {Read, Read, true}, {Read, Admin, false},
		{Ingest | Read, Ingest, true}, {Ingest | Read, Read, true}, {Ingest | Read, Admin, false},
		{Admin, None, true}, {Admin, Ingest, true}, {Admin, Read, true}, {Admin, Admin, true},
	} {
		if got := c.have.allows(c.want); got != c.ok {
			t.Errorf("a token of role %s on a route of role %s: %v", c.have, c.want, got)
		}
		roles, ok := parseRoles(c.have.String())
		if ok != (c.have != None) || roles != c.have {
			t.Errorf("roles %q are read as %v, %v", c.have, roles, ok)
		}
	}
	if s := fmt.Sprint(None, Ingest|Read); s != "none ingest,read" {
		t.Error(s)
	}
}
