package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// AdminFile is the name of the file in the data folder that holds the admin token.
const AdminFile = "admin.token"

const (
	tokenPrefix = "wev_"    // so that scanners for leaked secrets can know a token
	hashPrefix  = "sha256:" // before a token's hash in hex, in place of the token

	minToken     = 20      // characters; a shorter one could be guessed
	maxFileBytes = 1 << 20 // of a token file
)

type key struct {
	name  string
	roles Role
	sum   [sha256.Size]byte
}

// Keys are the tokens that the server knows, by their SHA-256.
type Keys struct {
	keys []key
}

// Load reads the admin token from dataDir, and more tokens from files; at the first start it makes
// the former, and created is true. A token file has lines of a name, roles (ingest, read, admin, or
// several with commas) and a token or sha256: and its hash in hex, with # before comments:
//
//	gateway   ingest        wev_5f0c…
//	grafana   read          sha256:9b71…
//
// Files that others than their owner may read or change are refused.
func Load(dataDir string, files []string) (keys *Keys, created bool, err error) {
	path := filepath.Join(dataDir, AdminFile)
	text, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if created, err = create(path); err == nil {
			text, err = readPrivate(path)
		}
	}
	if err != nil {
		return nil, false, err
	}
	k := &Keys{}
	if err := k.add("admin", Admin, string(bytes.TrimSpace(text))); err != nil {
		return nil, false, fmt.Errorf("cannot use admin token file %q: %w; remove the file to get a "+
			"new one", path, err)
	}
	for _, f := range files {
		if err := k.addFile(f); err != nil {
			return nil, false, err
		}
	}
	return k, created, nil
}

// Check says what Load would say of one more token file, and makes nothing.
func Check(file string) error { return new(Keys).addFile(file) }

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read token file %q: %w", path, errors.Unwrap(err))
	}
	defer f.Close()
	info, err := f.Stat() // of the file that is read, not of one that has its name by now
	if err != nil {
		return nil, fmt.Errorf("cannot read token file %q: %w", path, errors.Unwrap(err))
	}
	if mode := info.Mode(); !mode.IsRegular() {
		return nil, fmt.Errorf("cannot use token file %q: it is no regular file", path)
	} else if mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("cannot use token file %q: its mode is %04o, expected 0600 (chmod 600), "+
			"since others may read or change it", path, mode.Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read token file %q: %w", path, err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("cannot use token file %q: it has more than %d bytes", path, maxFileBytes)
	}
	return text, nil
}

// create makes the admin token: complete and on the disk in a file of its own first, so that a
// crash leaves none or all of it. The name is then given by a link, which, other than a rename,
// never takes the place of a token that another process made at the same moment; then created is
// false.
func create(path string) (created bool, err error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("cannot make admin token file %q: %w", path, err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	f, err := os.CreateTemp(dir, AdminFile+".*") // has mode 0600
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // its link stays
	var b [32]byte
	rand.Read(b[:]) // never fails
	_, err = f.WriteString(tokenPrefix + hex.EncodeToString(b[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return fail(err)
	}
	return true, nil
}

func (k *Keys) addFile(path string) error {
	text, err := readPrivate(path)
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ := strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if err := k.addLine(f); err != nil {
			return fmt.Errorf("cannot use token file %q: line %d: %w", path, n, err)
		}
	}
	return nil
}

func (k *Keys) addLine(f []string) error {
	if len(f) != 3 {
		return fmt.Errorf("it has %d words: expected a name, roles and a token", len(f))
	}
	roles, ok := parseRoles(f[1])
	if !ok {
		return fmt.Errorf("roles %q: expected ingest, read, admin, or several with commas", f[1])
	}
	return k.add(f[0], roles, f[2])
}

// add takes a token or its hash. The errors do not show it, since they go to logs.
func (k *Keys) add(name string, roles Role, token string) error {
	sum := sha256.Sum256([]byte(token))
	if text, ok := strings.CutPrefix(token, hashPrefix); ok {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(sum) {
			return fmt.Errorf("expected 64 hex digits after %s", hashPrefix)
		}
		copy(sum[:], b)
	} else if len(token) < minToken || strings.ContainsFunc(token, notInToken) {
		return fmt.Errorf("expected one token of at least %d characters, visible ASCII without spaces",
			minToken)
	}
	for i := range k.keys {
		switch {
		case k.keys[i].name == name:
			return fmt.Errorf("there is a token with the name %q already", name)
		case k.keys[i].sum == sum:
			return fmt.Errorf("token %q is the same as token %q", name, k.keys[i].name)
		}
	}
	k.keys = append(k.keys, key{name, roles, sum})
	return nil
}

func notInToken(r rune) bool { return r <= ' ' || r > '~' }

// find looks a token up; nil if it is not known.
func (k *Keys) find(token string) *key { return k.findBy(token, subtle.ConstantTimeCompare) }

// findBy compares with every key, each in constant time and also after one was found, so that the
// time tells nothing of how close a guess was. Comparing hashes makes the lengths equal, too.
func (k *Keys) findBy(token string, equal func(x, y []byte) int) (found *key) {
	sum := sha256.Sum256([]byte(token))
	for i := range k.keys {
		if equal(sum[:], k.keys[i].sum[:]) == 1 {
			found = &k.keys[i]
		}
	}
	return found
}
