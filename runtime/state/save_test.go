package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const enough = 64 << 20 // bytes of tables

// filled gives states of all kinds in so many shards with something in them.
func filled(t testing.TB, shards, keys int) []Saved {
	r := rand.New(rand.NewPCG(3, 4))
	var states []Saved
	for _, s := range specs {
		s.Keys = 2 * keys
		s = normal(t, s)
		state := Saved{Spec: s}
		for range shards {
			state.Tables = append(state.Tables, newTable(t, s, shareOf(s.Keys, shards)))
		}
		for _, k := range keysOf(keys) {
			for range 5 {
				anyOp(state.tableOf(k), k, r.Int64N(100)*1e8, r.IntN(9))
			}
		}
		for _, table := range state.Tables {
			table.Commit()
		}
		states = append(states, state)
	}
	return states
}

// tableOf is the table of a key, by the rule of bus.ShardOf.
func (s Saved) tableOf(k Key) *Table {
	return s.Tables[int(uint64(k.Spread)*uint64(len(s.Tables))>>32)]
}

func saved(t testing.TB, states []Saved) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Save(&b, Secret{7}, time.Unix(1700000000, 5), states); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func loaded(t testing.TB, b []byte, shards int) *File {
	t.Helper()
	f, err := Load(bytes.NewReader(b), shards, enough)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close() })
	return f
}

func (f *File) close() {
	for _, s := range f.States {
		for _, t := range s.Tables {
			_ = t.Close()
		}
	}
}

// sumUp puts the right checksum at the end of a file without one.
func sumUp(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
}

// What was saved answers as before, in as many shards, in fewer and in more.
func TestSaveLoad(t *testing.T) {
	for _, shards := range []int{1, 2, 3, 16} {
		states := filled(t, 2, 300)
		f := loaded(t, saved(t, states), shards)
		if f.Secret != (Secret{7}) || !f.At.Equal(time.Unix(1700000000, 5)) {
			t.Errorf("secret is %v, at is %v", f.Secret, f.At)
		}
		if len(f.States) != len(states) {
			t.Fatalf("%d states came back of %d", len(f.States), len(states))
		}
		r := rand.New(rand.NewPCG(5, 6))
		for i, was := range states {
			is := f.States[i]
			if is.Spec != was.Spec || len(is.Tables) != shards {
				t.Fatalf("state %+v came back as %+v in %d tables", was.Spec, is.Spec, len(is.Tables))
			}
			before, after := 0, 0
			for _, table := range was.Tables {
				before += table.Stats().Keys
			}
			for _, table := range is.Tables {
				after += table.Stats().Keys
			}
			if before != after || before == 0 {
				t.Errorf("%s: %d keys came back of %d", was.Spec.Name, after, before)
			}
			for _, k := range keysOf(310) {
				at, n := r.Int64N(100)*1e8, r.IntN(9)
				want, got := anyOp(was.tableOf(k), k, at, n), anyOp(is.tableOf(k), k, at, n)
				if got != want {
					t.Fatalf("%s, op %d: the answer is %s: want %s", was.Spec.Name, n, got, want)
				}
			}
		}
	}
}

// Rollback works on a table that was loaded: its entries were used before.
func TestLoadRollback(t *testing.T) {
	f := loaded(t, saved(t, filled(t, 1, 50)), 1)
	for _, s := range f.States {
		table := s.Tables[0]
		before := bytes.Clone(bytesOf(table.mem))
		for i, k := range keysOf(60) {
			anyOp(table, k, 1e9, i%9)
		}
		table.Rollback()
		if !bytes.Equal(bytesOf(table.mem), before) {
			t.Errorf("%s: Rollback leaves other bytes than there were", s.Spec.Name)
		}
	}
}

// A table for fewer keys than the file has keeps those that were used last, and counts the others.
func TestLoadTooMany(t *testing.T) {
	s := normal(t, Spec{Name: "n", Kind: Seen, Keys: 100})
	big := Saved{Spec: s, Tables: []*Table{newTable(t, s, 4000)}}
	keys := keysOf(4000)
	for _, k := range keys {
		big.Tables[0].Seen(k, 1)
	}
	for _, k := range keys[:20] {
		big.Tables[0].Seen(k, 1)
	}
	f := loaded(t, saved(t, []Saved{big}), 1)
	small := f.States[0].Tables[0]
	stats := small.Stats()
	for i, k := range keys {
		if _, there := small.find(k); there {
			continue
		}
		p, _ := big.Tables[0].find(k)
		used := big.Tables[0].at(p)[tickWord]
		if small.least(k.ID[0]) < used && small.least(k.ID[1]) < used {
			t.Errorf("key %d is gone, though both its sets have one that was used before it", i)
		}
	}
	held := 0
	for i, k := range keys {
		there := small.Delete(k, 2)
		if there {
			held++
		}
		if i < 20 && !there {
			t.Errorf("key %d, among the last used, is gone", i)
		}
	}
	if stats.Keys != held || stats.Evicted != uint64(len(keys)-held) || held < 100 || held > 300 {
		t.Errorf("stats are %+v: want %d keys of %d", stats, held, len(keys))
	}
}

// least is the lowest tick in one of the two sets of a key.
func (t *Table) least(half uint64) uint64 {
	least := uint64(maxTick)
	for i := range ways {
		least = min(least, t.at(place(t.choice(half)*ways + i))[tickWord])
	}
	return least
}

// No byte of a file can be another or missing.
func TestLoadDamaged(t *testing.T) {
	s := normal(t, Spec{Name: "n", Kind: Value, Bytes: 8, Keys: 10})
	table := newTable(t, s, 10)
	for _, k := range keysOf(5) {
		table.Set(k, 9, []byte("text"))
	}
	whole := saved(t, []Saved{{Spec: s, Tables: []*Table{table}}})
	loaded(t, whole, 2)
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		for _, most := range []int{enough, 1} { // a limit does not hide the damage
			if f, err := Load(bytes.NewReader(b), 2, most); err == nil {
				f.close()
				t.Errorf("a file with another byte at %d of %d was loaded", i, len(b))
			} else if !errors.Is(err, ErrDamaged) {
				t.Errorf("the error of a file with another byte at %d of %d is: %v", i, len(b), err)
			}
			_, err := Load(bytes.NewReader(whole[:i]), 2, most)
			if !errors.Is(err, ErrDamaged) || most == enough &&
				(!errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "it ends early")) {
				t.Errorf("the error of a file of %d bytes instead of %d is: %v", i, len(whole), err)
			}
		}
	}
}

// A sound file that cannot be used is not called damaged, however large it is; nor is one that
// cannot be read.
func TestLoadSound(t *testing.T) {
	b := saved(t, filled(t, 2, 3000))
	if len(b) < 3*64<<10 {
		t.Fatalf("the file has %d bytes: expected more than the buffer", len(b))
	}
	_, err := Load(bytes.NewReader(b), 2, 1000)
	if !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrDamaged) ||
		!strings.Contains(err.Error(), "bytes in 2 shards: expected at most 1000") {
		t.Errorf("the error of a file that is too large is: %v", err)
	}
	for _, n := range []int{0, 5, prefixBytes + 9, len(b) / 2, len(b) - 4, len(b)} {
		for _, most := range []int{enough, 1000} {
			_, err := Load(io.MultiReader(bytes.NewReader(b[:n]), broken{}), 2, most)
			if !errors.Is(err, errBroken) || errors.Is(err, ErrDamaged) {
				t.Errorf("the error of a file that can be read up to %d is: %v", n, err)
			}
		}
	}
	b = b[:len(b)-sumBytes]
	b[len(magic)] = formatVersion + 1
	if _, err = Load(bytes.NewReader(sumUp(b)), 2, enough); errors.Is(err, ErrDamaged) ||
		!strings.Contains(err.Error(), "the file has format 2") {
		t.Errorf("the error of a file of a newer server is: %v", err)
	}
}

// Each refusal names its reason.
func TestLoadRefuses(t *testing.T) {
	s := normal(t, Spec{Name: "n", Kind: Distinct, WindowMS: 1, Limit: 2, Keys: 10})
	table := newTable(t, s, 10)
	table.Distinct(keysOf(1)[0], 9, nil)
	good := saved(t, []Saved{{Spec: s, Tables: []*Table{table}}})
	good = good[:len(good)-sumBytes]
	entry := len(good) - (1+s.entryWords())*wordBytes
	with := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return sumUp(c)
	}
	text := func(old, new string) []byte {
		c := bytes.Replace(good, []byte(old), []byte(new), 1)
		binary.LittleEndian.PutUint32(c[prefixBytes-4:], uint32(entry-prefixBytes+len(new)-len(old)))
		return sumUp(c)
	}
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"foreign", with(0, 'x'), "this is not a file of saved states"},
		{"newer", with(8, 2), "the file has format 2: this server reads format 1"},
		{"checksum", append(bytes.Clone(good), 1, 2, 3, 4),
			"the file is damaged: its checksum is 04030201"},
		{"more", append(sumUp(good), 0), "the file is damaged: it goes on after its end"},
		{"specs", with(prefixBytes-4, 0, 0, 1, 1),
			"its specs have 16842752 bytes: expected at most 65536"},
		{"no specs", with(prefixBytes-4, 0, 0, 0, 0), "cannot read its specs"},
		{"JSON", text(`"name"`, `"gnome"`), "cannot read its specs"},
		{"kind", text(`"distinct"`, `"extinct"`), "cannot use its specs: state \"n\": kind is"},
		{"default", text(`"limit":2,`, ``), `state "n" lacks what is the default`},
		{"fewer held", text(`"held":1`, `"held":0`), "the file is damaged"},
		{"more held", text(`"held":1`, `"held":18446744073709551615`), "it ends early"},
		{"more keys", text(`"keys":10`, `"keys":16777216`), "its tables take"},
		{"no key", with(entry, 0, 0, 0, 0, 0, 0, 0, 0), `state "n": an entry has no key`},
		{"size", with(entry+(1+sizeWord)*wordBytes+4, 3), "an entry has size 3: expected at most 2"},
		{"tick", with(entry+(1+tickWord)*wordBytes+7, 255), "an entry was used at"},
		{"twice", sumUp(append(text(`"held":1`, `"held":2`)[:len(good)], good[entry:]...)),
			"two entries have the same key"},
	} {
		f, err := Load(bytes.NewReader(c.b), 2, enough)
		if err == nil {
			f.close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.HasPrefix(err.Error(), "cannot load states: ") {
			t.Errorf("%s: error is %v: want %s", c.name, err, c.want)
		}
	}
	if _, err := Load(bytes.NewReader(sumUp(good)), 0, enough); err == nil {
		t.Error("a file was loaded into no shards")
	}
	if err := Save(io.Discard, Secret{}, time.Now(), make([]Saved, 65)); err == nil {
		t.Error("65 states were saved")
	}
}

type broken struct{}

var errBroken = errors.New("no space")

func (broken) Write([]byte) (int, error) { return 0, errBroken }
func (broken) Read([]byte) (int, error)  { return 0, errBroken }

func TestBroken(t *testing.T) {
	if err := Save(broken{}, Secret{}, time.Now(), filled(t, 1, 3000)); !errors.Is(err, errBroken) {
		t.Errorf("error of Save is %v", err)
	}
	if _, err := Load(broken{}, 1, enough); !errors.Is(err, errBroken) {
		t.Errorf("error of Load is %v", err)
	}
}

// FuzzLoad gives any bytes to Load, with a right checksum so that it goes on to the entries. What
// it takes, it must be able to use, to save, and to load again as the same.
func FuzzLoad(f *testing.F) {
	for _, states := range [][]Saved{nil, filled(f, 1, 1), filled(f, 2, 4)} {
		b := saved(f, states)
		f.Add(b[:len(b)-4], uint8(2))
		f.Add(b[:len(b)-20], uint8(1))
	}
	for i, s := range filled(f, 1, 3) {
		b := saved(f, []Saved{s})
		f.Add(b[:len(b)-4], uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, shards uint8) {
		file, err := Load(bytes.NewReader(sumUp(b)), int(shards%5), 4<<20)
		if err != nil {
			return
		}
		defer file.close()
		var out bytes.Buffer
		if err := Save(&out, file.Secret, file.At, file.States); err != nil {
			t.Fatal(err)
		}
		again, err := Load(bytes.NewReader(out.Bytes()), int(shards%5), 4<<20)
		if err != nil {
			t.Fatalf("what was saved cannot be loaded: %v", err)
		}
		defer again.close()
		keys := keysOf(4)
		for i, s := range file.States {
			for j, table := range s.Tables {
				twin := again.States[i].Tables[j]
				if table.Stats().Keys != twin.Stats().Keys {
					t.Fatalf("%d keys came back of %d", twin.Stats().Keys, table.Stats().Keys)
				}
				before := bytes.Clone(bytesOf(table.mem))
				for n := range 30 {
					k, at := keys[n%4], int64(n)*1e8
					if got, want := anyOp(twin, k, at, n%9), anyOp(table, k, at, n%9); got != want {
						t.Fatalf("the answer is %s: want %s", got, want)
					}
				}
				table.Rollback()
				if !bytes.Equal(before, bytesOf(table.mem)) {
					t.Fatal("Rollback leaves other bytes than there were")
				}
			}
		}
	})
}
