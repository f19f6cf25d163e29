package runtime

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"wasmeval/runtime/state"
)

// versionRecord is one version as the registry keeps it.
type versionRecord struct {
	Number   VersionNumber `json:"number"`
	SHA256   string        `json:"sha256"`
	Bytes    int           `json:"bytes"`
	Uploaded time.Time     `json:"uploaded"`
	By       string        `json:"by"`
	Manifest Manifest      `json:"manifest"`
	Config   *RuleConfig   `json:"config,omitempty"` // see ruleRecord.Config
}

// ruleRecord is one rule as the registry keeps it. Records are not changed once they are stored in
// Engine.rules: a change makes a copy.
type ruleRecord struct {
	Active   VersionNumber `json:"active"`
	Previous VersionNumber `json:"previous"`
	Enabled  bool          `json:"enabled"`
	Updated  time.Time     `json:"updated"`
	// Config is that of the active version. Another version has the one that it was active with last, or
	// came with; nil if it was neither, and then it takes over what the rule has when it is activated.
	Config   RuleConfig      `json:"config"`
	Versions []versionRecord `json:"versions"`
}

func (r *ruleRecord) version(n VersionNumber) *versionRecord {
	for i := range r.Versions {
		if r.Versions[i].Number == n {
			return &r.Versions[i]
		}
	}
	return nil
}

func (r *ruleRecord) bySHA(sha string) *versionRecord {
	for i := range r.Versions {
		if r.Versions[i].SHA256 == sha {
			return &r.Versions[i]
		}
	}
	return nil
}

// The registry's buckets.
var (
	bucketRules   = []byte("rules")   // name -> ruleRecord, JSON
	bucketModules = []byte("modules") // SHA-256 in hex -> module
	bucketAudit   = []byte("audit")   // sequence, 8 bytes big-endian -> Audit, JSON
	bucketMeta    = []byte("meta")    // see below
	// Of rules that are quarantined: name -> quarantineRecord, JSON.
	bucketQuarantine = []byte("quarantine")

	buckets = [][]byte{bucketRules, bucketModules, bucketAudit, bucketMeta, bucketQuarantine}
)

// The keys of bucketMeta.
var (
	keyFormat     = []byte("format")     // registryFormat
	keyGeneration = []byte("generation") // 8 bytes big-endian
	keySum        = []byte("sum")        // see sum
	keySecret     = []byte("secret")     // of what keys of states are hashed with
)

const registryFormat = "2"

// firstWrite is the number of the first transaction that writes to a new file.
const firstWrite = 2

// registry keeps rules, modules and the audit trail in one bbolt file. We carry bbolt because a
// commit of it is on the disk when it returns, also through kill -9.
type registry struct {
	path string
	db   *bbolt.DB

	// stuck says that bbolt panicked while it wrote, and may have kept its lock for good.
	stuck atomic.Bool
}

// openRegistry opens or makes the file. A file that cannot be read is named in a Damaged error and
// left as it is.
func openRegistry(path string) (*registry, error) {
	r := &registry{path: path}
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		if err := r.open(bbolt.Options{ReadOnly: true}); err != nil {
			return nil, err
		}
		err := errors.Join(r.check(), r.close())
		if err != nil {
			return nil, err
		}
	}
	if err := r.open(bbolt.Options{}); err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		_ = r.close()
		return nil, err
	}
	return r, nil
}

func (r *registry) open(o bbolt.Options) error {
	o.Timeout = 2 * time.Second
	_, err := r.guard(func() (err error) {
		r.db, err = bbolt.Open(r.path, 0o600, &o)
		return err
	})
	var damaged *Error
	var system syscall.Errno
	switch {
	case err == nil, errors.As(err, &damaged):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("cannot open registry %q (is another server using it?): %w", r.path, err)
	case errors.As(err, &system):
		return fmt.Errorf("cannot open registry %q: %w", r.path, err)
	}
	return &Error{Kind: Damaged, Msg: fmt.Sprintf("cannot open registry %q", r.path), Err: err}
}

// check reads the file as bbolt would, while that keeps others from writing to it.
func (r *registry) check() error {
	f, err := os.Open(r.path)
	if err != nil {
		return fmt.Errorf("cannot open registry %q: %w", r.path, err)
	}
	defer f.Close()
	if err := checkPages(f, r.db.Info().PageSize); err != nil {
		return &Error{Kind: Damaged, Msg: fmt.Sprintf("registry %q", r.path), Err: err}
	}
	return nil
}

// begin sees that the file is a registry, or makes one of a new file. A file that was written to
// before is not new, whatever it lacks.
func (r *registry) begin() error {
	written := false
	err := r.view(func(tx *bbolt.Tx) error {
		if written = tx.ID() >= firstWrite; !written {
			return nil
		}
		for _, b := range buckets {
			if tx.Bucket(b) == nil {
				return errorf(Damaged, "registry %q has no bucket %q", r.path, b)
			}
		}
		if f := tx.Bucket(bucketMeta).Get(keyFormat); string(f) != registryFormat {
			return errorf(Damaged, "registry %q has format %q: expected %q", r.path, f, registryFormat)
		}
		return nil
	})
	if err != nil || written {
		return err
	}
	return r.update(func(tx *bbolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		secret := newSecret()
		return errors.Join(meta.Put(keyFormat, []byte(registryFormat)), meta.Put(keySecret, secret[:]),
			putState(meta, 0, sum{}.with(nil, generationBytes(0))))
	})
}

// sum stands for all rules and the generation: bbolt does not notice when one of its pages is
// damaged or is an older one. It is the exclusive or of the digests of all, so that a change costs
// the same however many rules there are.
type sum [sha256.Size]byte

// with adds a record to the sum, or takes it out; nil is none. The generation has no name.
func (s sum) with(name, record []byte) sum {
	if record == nil {
		return s
	}
	d := sha256.Sum256(slices.Concat(name, []byte{0}, record))
	subtle.XORBytes(s[:], s[:], d[:])
	return s
}

func generationBytes(g Generation) []byte { return binary.BigEndian.AppendUint64(nil, uint64(g)) }

func putState(meta *bbolt.Bucket, g Generation, s sum) error {
	return errors.Join(meta.Put(keyGeneration, generationBytes(g)), meta.Put(keySum, s[:]))
}

// guard calls f and makes a Damaged error of what a damaged file leads to: bbolt panics on pages that
// make no sense, and memory that is mapped from a file that is too short cannot be read.
func (r *registry) guard(f func() error) (panicked bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			panicked, err = true, errorf(Damaged, "cannot read registry %q: %v", r.path, p)
		}
	}()
	return false, f()
}

func (r *registry) view(f func(*bbolt.Tx) error) error {
	_, err := r.guard(func() error { return r.db.View(f) })
	return err
}

func (r *registry) update(f func(*bbolt.Tx) error) error {
	if r.stuck.Load() {
		return errorf(Damaged, "cannot write registry %q: it was found damaged before", r.path)
	}
	panicked, err := r.guard(func() error { return r.db.Update(f) })
	if panicked {
		r.stuck.Store(true)
	}
	var known *Error
	if err != nil && !errors.As(err, &known) {
		return fmt.Errorf("cannot write registry %q: %w", r.path, err)
	}
	return err
}

// close closes the file, unless it is stuck: that would wait for ever, and the file is closed with
// the process.
func (r *registry) close() error {
	if r.stuck.Load() {
		return nil
	}
	_, err := r.guard(r.db.Close)
	return err
}

// secret gives the secret of this registry. Those of earlier versions have none yet.
func (r *registry) secret() (s state.Secret, err error) {
	n := 0
	err = r.view(func(tx *bbolt.Tx) error {
		n = copy(s[:], tx.Bucket(bucketMeta).Get(keySecret))
		return nil
	})
	if err != nil || n == len(s) {
		return s, err
	}
	s = newSecret()
	return s, r.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keySecret, s[:]) })
}

func newSecret() (s state.Secret) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// load reads all rules and the generation.
func (r *registry) load() (rules map[RuleName]*ruleRecord, g Generation, err error) {
	rules = map[RuleName]*ruleRecord{}
	err = r.view(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		generation := meta.Get(keyGeneration)
		if len(generation) == 8 {
			g = Generation(binary.BigEndian.Uint64(generation))
		}
		found := sum{}.with(nil, generation)
		err := tx.Bucket(bucketRules).ForEach(func(k, v []byte) error {
			rec := &ruleRecord{}
			err := json.Unmarshal(v, rec)
			if err == nil {
				err = rec.check(RuleName(k))
			}
			if err != nil {
				return errorf(Damaged, "registry %q: cannot read rule %q: %v", r.path, k, err)
			}
			found = found.with(k, v)
			rules[RuleName(k)] = rec
			return nil
		})
		if err == nil && !bytes.Equal(meta.Get(keySum), found[:]) {
			return errorf(Damaged, "registry %q has other rules than were written", r.path)
		}
		return err
	})
	return rules, g, err
}

// check looks for what no server has written.
func (r *ruleRecord) check(name RuleName) error {
	if err := checkName(name); err != nil {
		return err
	}
	for _, n := range []VersionNumber{r.Active, r.Previous} {
		if n != 0 && r.version(n) == nil {
			return fmt.Errorf("version %d is named and not there", n)
		}
	}
	return nil
}

// change is what one operation writes, all or nothing.
type change struct {
	name       RuleName
	record     *ruleRecord // nil deletes the rule
	sha        string      // of code
	code       []byte      // a module to add, or nil
	generation Generation
	audit      Audit
	unused     []string // modules that no rule has any more
	lift       bool     // the rule's quarantine, for what runs now is another thing
}

// commit writes a change and returns once it is on the disk.
func (r *registry) commit(c *change) error {
	return r.update(func(tx *bbolt.Tx) error {
		if err := putRecord(tx, c); err != nil {
			return err
		}
		if c.lift {
			if err := tx.Bucket(bucketQuarantine).Delete([]byte(c.name)); err != nil {
				return err
			}
		}
		modules := tx.Bucket(bucketModules)
		if c.code != nil {
			if err := modules.Put([]byte(c.sha), c.code); err != nil {
				return err
			}
		}
		for _, sha := range c.unused {
			if err := modules.Delete([]byte(sha)); err != nil {
				return err
			}
		}
		return putAudit(tx, c.audit)
	})
}

// quarantineRecord is a quarantine as the registry keeps it.
type quarantineRecord struct {
	Version VersionNumber `json:"version"`
	Quarantine
}

// saveQuarantines writes which of these rules are quarantined; nil means that one is not.
func (r *registry) saveQuarantines(list map[RuleName]*quarantineRecord) error {
	return r.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketQuarantine)
		for name, q := range list {
			if q == nil {
				if err := b.Delete([]byte(name)); err != nil {
					return err
				}
				continue
			}
			text, err := json.Marshal(q)
			if err != nil {
				return err
			}
			if err := b.Put([]byte(name), text); err != nil {
				return err
			}
		}
		return nil
	})
}

// quarantine reads that of a rule's version, or nil.
func (r *registry) quarantine(name RuleName, v VersionNumber) (q *Quarantine, err error) {
	err = r.view(func(tx *bbolt.Tx) error {
		text := tx.Bucket(bucketQuarantine).Get([]byte(name))
		if text == nil {
			return nil
		}
		var rec quarantineRecord
		if err := json.Unmarshal(text, &rec); err != nil {
			return errorf(Damaged, "registry %q: cannot read the quarantine of rule %q: %v", r.path,
				name, err)
		}
		if rec.Version == v {
			q = &rec.Quarantine
		}
		return nil
	})
	return q, err
}

// putRecord writes a rule's record and the generation, and makes the sum that of the result.
func putRecord(tx *bbolt.Tx, c *change) error {
	rules, meta := tx.Bucket(bucketRules), tx.Bucket(bucketMeta)
	name := []byte(c.name)
	var s sum
	copy(s[:], meta.Get(keySum))
	s = s.with(nil, meta.Get(keyGeneration)).with(name, rules.Get(name))
	err := rules.Delete(name)
	if c.record != nil {
		text, jsonErr := json.Marshal(c.record)
		s = s.with(name, text)
		err = errors.Join(err, jsonErr, rules.Put(name, text))
	}
	return errors.Join(err, putState(meta, c.generation, s.with(nil, generationBytes(c.generation))))
}

func putAudit(tx *bbolt.Tx, a Audit) error {
	b := tx.Bucket(bucketAudit)
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	a.Seq = seq
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return b.Put(binary.BigEndian.AppendUint64(nil, seq), text)
}

// module reads a module's bytes.
func (r *registry) module(sha string) (code []byte, err error) {
	err = r.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketModules).Get([]byte(sha))
		if b == nil {
			return errorf(Damaged, "registry %q has no module %s", r.path, sha)
		}
		code = append([]byte{}, b...) // b is valid only in this transaction
		return nil
	})
	if err == nil && digest(sha256.Sum256(code)).String() != sha {
		return nil, errorf(Damaged, "registry %q: module %s has other bytes than were uploaded", r.path, sha)
	}
	return code, err
}

// audit reads the last entries, the newest first, of one rule or, if name is empty, of all.
func (r *registry) audit(name RuleName, limit int) ([]Audit, error) {
	list := []Audit{}
	err := r.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketAudit).Cursor()
		for k, v := c.Last(); k != nil && len(list) < limit; k, v = c.Prev() {
			var a Audit
			if err := json.Unmarshal(v, &a); err != nil {
				return errorf(Damaged, "registry %q: cannot read its audit trail: %v", r.path, err)
			}
			if name == "" || a.Rule == name {
				list = append(list, a)
			}
		}
		return nil
	})
	return list, err
}
