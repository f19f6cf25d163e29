package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"
)

// A file of saved states, little-endian:
//
//	magic     8 bytes
//	version   u32
//	secret    16 bytes
//	at        i64   ns since 1970
//	length    u32   of the next
//	specs     JSON  the specs, each with how many entries it has in the file
//	entries         of the first spec, then of the second: the first half of the identity and the
//	                words of the entry, each a u64
//	checksum  u32   CRC-32C of all before it
const (
	magic         = "WEVSTATE"
	formatVersion = 1
	prefixBytes   = len(magic) + 4 + len(Secret{}) + 8 + 4

	// Of a file, so that a damaged one makes little before it is refused.
	maxSpecsBytes = 64 << 10
	maxStates     = 64
	maxShards     = 1 << 16

	maxTick = 1 << 62 // of an entry: a table counts on from there for centuries

	sumBytes = 4 // of the checksum
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Saved is one state with its tables, one for each shard.
type Saved struct {
	Spec   Spec
	Tables []*Table
}

// File is what Load has read.
type File struct {
	Secret Secret    // of the Hasher that made the keys
	At     time.Time // when it was saved
	States []Saved   // the caller owns the tables and closes them
}

// savedSpec is a spec as it stands in the file.
type savedSpec struct {
	Spec
	Held uint64 `json:"held"` // entries
}

// Save writes the states to w. What was changed since the last Commit of a table is saved as well.
// The goroutines of the tables must not use them meanwhile.
func Save(w io.Writer, secret Secret, at time.Time, states []Saved) error {
	if err := save(w, secret, at, states); err != nil {
		return fmt.Errorf("cannot save states: %w", err)
	}
	return nil
}

func save(w io.Writer, secret Secret, at time.Time, states []Saved) error {
	specs := make([]savedSpec, len(states))
	for i, s := range states {
		specs[i].Spec = s.Spec
		for _, t := range s.Tables {
			specs[i].Held += t.now.keys
		}
	}
	list, err := json.Marshal(specs)
	if err != nil {
		return err
	}
	if len(states) > maxStates || len(list) > maxSpecsBytes {
		return fmt.Errorf("%d states of %d bytes are too many: expected at most %d and %d",
			len(states), len(list), maxStates, maxSpecsBytes)
	}
	sum := crc32.New(castagnoli)
	buffered := bufio.NewWriterSize(w, 64<<10) // it keeps its first error for Flush
	out := io.MultiWriter(buffered, sum)
	b := append(make([]byte, 0, prefixBytes), magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = append(b, secret[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(list)))
	_, _ = out.Write(append(b, list...))
	for _, s := range states {
		for _, t := range s.Tables {
			t.save(out)
		}
	}
	_, _ = buffered.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return buffered.Flush()
}

// save writes the entries; out keeps its own errors.
func (t *Table) save(out io.Writer) {
	var b []byte
	for set, tags := range t.tags {
		for i, tag := range tags {
			if tag == 0 {
				continue
			}
			b = binary.LittleEndian.AppendUint64(b[:0], tag)
			for _, w := range t.at(place(set*ways + i)) {
				b = binary.LittleEndian.AppendUint64(b, w)
			}
			_, _ = out.Write(b)
		}
	}
}

// Load reads what Save has written into new tables for so many shards: a key goes to the one that
// its Spread names, as bus.ShardOf does. A key for which a table has no room was evicted. Its errors
// are ErrDamaged, ErrTooLarge if the tables would take more than mostBytes, and for a file that is
// sound all else that keeps it from being used: it cannot be read, another version of the server has
// written it, there is no memory. A file that is damaged is so whatever else it says.
//
// On Linux the tables are address space until an entry that was read is put there; all else that is
// allocated before the checksum is known is bounded by constants.
func Load(r io.Reader, shards, mostBytes int) (*File, error) {
	f := new(File)
	if err := f.load(r, shards, mostBytes); err != nil {
		for _, s := range f.States {
			for _, t := range s.Tables {
				_ = t.Close()
			}
		}
		return nil, fmt.Errorf("cannot load states: %w", err)
	}
	return f, nil
}

func (f *File) load(r io.Reader, shards, mostBytes int) error {
	if shards < 1 || shards > maxShards {
		return fmt.Errorf("%d shards: expected 1 to %d", shards, maxShards)
	}
	in := &summed{r: bufio.NewReaderSize(r, 64<<10), sum: crc32.New(castagnoli)}
	specs, err := f.head(in)
	if err == nil {
		err = f.claim(specs, shards, mostBytes)
	}
	if err != nil {
		return in.blame(err)
	}
	for i, s := range specs {
		if err := f.States[i].load(in, s.Held, f.At.UnixNano()); err != nil {
			return err
		}
	}
	return in.end()
}

// summed reads and sums what it has read.
type summed struct {
	r   *bufio.Reader
	sum hash.Hash32
	err error // the first one, which stays
}

func (s *summed) fill(b []byte) error {
	if s.err != nil {
		return s.err
	}
	switch _, err := io.ReadFull(s.r, b); err {
	case nil:
		_, _ = s.sum.Write(b)
	case io.EOF, io.ErrUnexpectedEOF:
		s.err = fmt.Errorf("%w: it ends early: %w", ErrDamaged, io.ErrUnexpectedEOF)
	default:
		s.err = err
	}
	return s.err
}

// end reads the checksum, and sees that nothing follows.
func (s *summed) end() error {
	want := s.sum.Sum32()
	var b [sumBytes]byte
	if err := s.fill(b[:]); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(b[:]); got != want {
		return fmt.Errorf("%w: its checksum is %08x and should be %08x", ErrDamaged, got, want)
	}
	switch _, err := s.r.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: it goes on after its end", ErrDamaged)
	default:
		return err
	}
}

// blame reads what is left, and says whether a file that was refused is damaged: then the reason may
// be too.
func (s *summed) blame(reason error) error {
	for s.err == nil {
		b, err := s.r.Peek(s.r.Size())
		if n := len(b) - sumBytes; n > 0 {
			_, _ = s.sum.Write(b[:n])
			_, _ = s.r.Discard(n)
		}
		if err == io.EOF {
			break
		}
		s.err = err
	}
	switch err := s.end(); {
	case err == nil:
		return reason
	case errors.Is(err, ErrDamaged) && !errors.Is(reason, ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, reason)
	default:
		return err
	}
}

// head reads all before the entries.
func (f *File) head(in *summed) ([]savedSpec, error) {
	b := make([]byte, prefixBytes)
	if err := in.fill(b); err != nil {
		return nil, err
	}
	if string(b[:len(magic)]) != magic {
		return nil, errors.New("this is not a file of saved states")
	}
	b = b[len(magic):]
	if v := binary.LittleEndian.Uint32(b); v != formatVersion {
		return nil, fmt.Errorf("the file has format %d: this server reads format %d", v, formatVersion)
	}
	b = b[4+copy(f.Secret[:], b[4:]):]
	f.At = time.Unix(0, int64(binary.LittleEndian.Uint64(b)))
	n := binary.LittleEndian.Uint32(b[8:])
	if n > maxSpecsBytes {
		return nil, fmt.Errorf("its specs have %d bytes: expected at most %d", n, maxSpecsBytes)
	}
	list := make([]byte, n)
	if err := in.fill(list); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(list))
	d.DisallowUnknownFields()
	var specs []savedSpec
	if err := d.Decode(&specs); err != nil {
		return nil, fmt.Errorf("cannot read its specs: %v", err) // not %w: their end is not the file's
	}
	if len(specs) > maxStates {
		return nil, fmt.Errorf("it has %d states: expected at most %d", len(specs), maxStates)
	}
	for _, s := range specs {
		normal, err := s.Normal()
		if err == nil && normal != s.Spec {
			err = fmt.Errorf("state %q lacks what is the default", s.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use its specs: %w", err)
		}
	}
	return specs, nil
}

// claim makes the tables, empty.
func (f *File) claim(specs []savedSpec, shards, mostBytes int) error {
	size := 0
	for _, s := range specs {
		size += s.TableBytes(shareOf(s.Keys, shards)) * shards
	}
	if size > mostBytes {
		return fmt.Errorf("%w: its tables take %d bytes in %d shards: expected at most %d", ErrTooLarge,
			size, shards, mostBytes)
	}
	for _, s := range specs {
		f.States = append(f.States, Saved{Spec: s.Spec})
		state := &f.States[len(f.States)-1]
		for range shards {
			t, err := NewTable(s.Spec, shareOf(s.Keys, shards))
			if err != nil {
				return err
			}
			state.Tables = append(state.Tables, t)
		}
	}
	return nil
}

// shareOf is how many of the keys of a state one of the shards is for.
func shareOf(keys, shards int) int { return (keys + shards - 1) / shards }

// load reads entries into the tables, which are empty.
func (s *Saved) load(in *summed, held uint64, now int64) error {
	b := make([]byte, (1+s.Spec.entryWords())*wordBytes)
	words := make([]uint64, len(b)/wordBytes)
	for range held {
		if err := in.fill(b); err != nil {
			return err
		}
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(b[i*wordBytes:])
		}
		e := words[1:]
		k := Key{ID: [2]uint64{words[0], e[idWord]}, Spread: uint32(e[sizeWord])}
		t := s.Tables[uint64(k.Spread)*uint64(len(s.Tables))>>sizeShift]
		if err := t.check(k, e); err != nil {
			return fmt.Errorf("%w: state %q: %w", ErrDamaged, s.Spec.Name, err)
		}
		t.restore(k, e, now)
	}
	for _, t := range s.Tables {
		t.committed = t.tick
		t.publish()
	}
	return nil
}

// check refuses an entry that no table can have.
func (t *Table) check(k Key, e []uint64) error {
	size, most := sizeOf(e), 0
	switch t.spec.Kind {
	case Counter:
		most = t.spec.Buckets - 1
	case Distinct:
		most = t.spec.Limit
	case Value:
		most = t.spec.Bytes
	}
	switch _, known := t.find(k); {
	case k.ID[0] == 0:
		return errors.New("an entry has no key")
	case known:
		return errors.New("two entries have the same key")
	case size > most:
		return fmt.Errorf("an entry has size %d: expected at most %d", size, most)
	case e[tickWord] > maxTick:
		return fmt.Errorf("an entry was used at %d: expected at most %d", e[tickWord], uint64(maxTick))
	}
	return nil
}

// restore gives an entry a place, if it was used later than who must make room for it.
func (t *Table) restore(k Key, e []uint64, now int64) {
	p, live := t.room(k, t.steps(now))
	if live && t.at(p)[tickWord] > e[tickWord] {
		t.now.evicted++
		return
	}
	t.take(p, k, live)
	copy(t.at(p), e)
	t.tick = max(t.tick, e[tickWord])
}
