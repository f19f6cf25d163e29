package runtime

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// versionRecord is one version as the registry keeps it.
type versionRecord struct {
	Number   VersionNumber `json:"number"`
	SHA256   string        `json:"sha256"`
	Bytes    int           `json:"bytes"`
	Uploaded time.Time     `json:"uploaded"`
	By       string        `json:"by"`
	Manifest Manifest      `json:"manifest"`
}

// ruleRecord is one rule as the registry keeps it. Records are not changed once they are stored in
// Engine.rules: a change makes a copy.
type ruleRecord struct {
	Active   VersionNumber   `json:"active"`
	Previous VersionNumber   `json:"previous"`
	Enabled  bool            `json:"enabled"`
	Updated  time.Time       `json:"updated"`
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
	bucketMeta    = []byte("meta")    // "generation" -> 8 bytes big-endian; "format" -> "1"
	// Of rules that are quarantined: name -> quarantineRecord, JSON.
	bucketQuarantine = []byte("quarantine")
)

// registry keeps rules, modules and the audit trail in one bbolt file. We carry bbolt because a
// commit of it is on the disk when it returns, also through kill -9.
type registry struct {
	db *bbolt.DB
}

// openRegistry opens or makes the file. A file that cannot be read is named in a Damaged error and
// left as it is.
func openRegistry(path string) (r *registry, err error) {
	defer func() {
		// bbolt panics on pages that make no sense.
		if p := recover(); p != nil {
			r, err = nil, errorf(Damaged, "cannot read registry %q: %v", path, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		if os.IsPermission(err) || errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("cannot open registry %q (is another server using it?): %w", path, err)
		}
		return nil, &Error{Kind: Damaged, Msg: fmt.Sprintf("cannot open registry %q", path), Err: err}
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketRules, bucketModules, bucketAudit, bucketMeta,
			bucketQuarantine} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if f := meta.Get([]byte("format")); f != nil && string(f) != "1" {
			return errorf(Damaged, "registry %q has format %q: expected \"1\"", path, f)
		}
		return meta.Put([]byte("format"), []byte("1"))
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &registry{db: db}, nil
}

// load reads all rules and the generation.
func (r *registry) load() (rules map[RuleName]*ruleRecord, g Generation, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errorf(Damaged, "cannot read registry %q: %v", r.db.Path(), p)
		}
	}()
	rules = map[RuleName]*ruleRecord{}
	err = r.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketMeta).Get([]byte("generation")); len(b) == 8 {
			g = Generation(binary.BigEndian.Uint64(b))
		}
		return tx.Bucket(bucketRules).ForEach(func(k, v []byte) error {
			rec := &ruleRecord{}
			if err := json.Unmarshal(v, rec); err != nil {
				return errorf(Damaged, "registry %q: cannot read rule %q: %v", r.db.Path(), k, err)
			}
			rules[RuleName(k)] = rec
			return nil
		})
	})
	return rules, g, err
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
	err := r.db.Update(func(tx *bbolt.Tx) error {
		var gen [8]byte
		binary.BigEndian.PutUint64(gen[:], uint64(c.generation))
		if err := tx.Bucket(bucketMeta).Put([]byte("generation"), gen[:]); err != nil {
			return err
		}
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
	if err != nil {
		return fmt.Errorf("cannot write registry %q: %w", r.db.Path(), err)
	}
	return nil
}

// quarantineRecord is a quarantine as the registry keeps it.
type quarantineRecord struct {
	Version VersionNumber `json:"version"`
	Quarantine
}

// saveQuarantines writes which of these rules are quarantined; nil means that one is not.
func (r *registry) saveQuarantines(list map[RuleName]*quarantineRecord) error {
	err := r.db.Update(func(tx *bbolt.Tx) error {
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
	if err != nil {
		return fmt.Errorf("cannot write registry %q: %w", r.db.Path(), err)
	}
	return nil
}

// quarantine reads that of a rule's version, or nil.
func (r *registry) quarantine(name RuleName, v VersionNumber) (q *Quarantine, err error) {
	err = r.db.View(func(tx *bbolt.Tx) error {
		text := tx.Bucket(bucketQuarantine).Get([]byte(name))
		if text == nil {
			return nil
		}
		var rec quarantineRecord
		if err := json.Unmarshal(text, &rec); err != nil {
			return errorf(Damaged, "registry %q: cannot read the quarantine of rule %q: %v", r.db.Path(),
				name, err)
		}
		if rec.Version == v {
			q = &rec.Quarantine
		}
		return nil
	})
	return q, err
}

func putRecord(tx *bbolt.Tx, c *change) error {
	b := tx.Bucket(bucketRules)
	if c.record == nil {
		return b.Delete([]byte(c.name))
	}
	text, err := json.Marshal(c.record)
	if err != nil {
		return err
	}
	return b.Put([]byte(c.name), text)
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
	defer func() {
		if p := recover(); p != nil {
			err = errorf(Damaged, "cannot read registry %q: %v", r.db.Path(), p)
		}
	}()
	err = r.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketModules).Get([]byte(sha))
		if b == nil {
			return errorf(Damaged, "registry %q has no module %s", r.db.Path(), sha)
		}
		code = append([]byte{}, b...) // b is valid only in this transaction
		return nil
	})
	return code, err
}

// audit reads the last entries, the newest first, of one rule or, if name is empty, of all.
func (r *registry) audit(name RuleName, limit int) ([]Audit, error) {
	list := []Audit{}
	err := r.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketAudit).Cursor()
		for k, v := c.Last(); k != nil && len(list) < limit; k, v = c.Prev() {
			var a Audit
			if err := json.Unmarshal(v, &a); err != nil {
				return err
			}
			if name == "" || a.Rule == name {
				list = append(list, a)
			}
		}
		return nil
	})
	return list, err
}
