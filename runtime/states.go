package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/runtime/state"
)

// What a state function answers instead; see rules-sdk/ABI.md.
const (
	stateNone     = -1
	stateNoKey    = -2
	stateNoState  = -3
	stateOutside  = -4
	stateTooLarge = -5
)

const maxStateBytes = 256 // of a key, and of a value

// keyedState is one state that a rule declares: a table for each worker. It belongs to the rule's
// name, so it is shared by the versions that declare it, and by Engine.states.
type keyedState struct {
	spec   state.Spec
	tables []*state.Table // element i is worker i's
	refs   int            // guarded by Engine.mu
}

func newKeyedState(spec state.Spec, shards int) (*keyedState, error) {
	k := &keyedState{spec: spec, refs: 1}
	for range shards {
		t, err := state.NewTable(spec, tableKeys(spec, shards))
		if err != nil {
			k.close()
			return nil, fmt.Errorf("cannot make state %q: %w", spec.Name, err)
		}
		k.tables = append(k.tables, t)
	}
	return k, nil
}

// tableKeys is how many keys one of the tables of a state is for.
func tableKeys(spec state.Spec, shards int) int { return (spec.Keys + shards - 1) / shards }

func (k *keyedState) close() {
	for _, t := range k.tables {
		_ = t.Close()
	}
}

// release lets go of states; the caller holds Engine.mu.
func release(list []*keyedState) {
	for _, k := range list {
		if k.refs--; k.refs == 0 {
			k.close()
		}
	}
}

// statesFor gives the states that a version of a rule declares: those that the rule has already where
// they are the same, and empty ones else. The caller holds mu and must release them.
func (e *Engine) statesFor(name RuleName, specs []state.Spec) (list []*keyedState, err error) {
	kept := e.states[name]
	if kept == nil {
		if kept, err = e.loadStates(name); err != nil {
			return nil, err
		}
		defer release(kept)
	}
	goesOn := make([]*keyedState, len(specs)) // nil where it begins empty
	size, shards := 0, len(e.workers)
	for i, spec := range specs {
		at := slices.IndexFunc(kept, func(k *keyedState) bool { return k.spec.Same(spec) })
		if at >= 0 {
			goesOn[i] = kept[at]
			spec = kept[at].spec // it has room for as many keys as before
		}
		size += spec.TableBytes(tableKeys(spec, shards)) * shards
	}
	if size > e.limits.StateBytes {
		return nil, errorf(BadModule, "its states take %d bytes: expected at most %d; declare fewer "+
			"keys (a state that goes on keeps its room unless it gets another name)", size,
			e.limits.StateBytes)
	}
	for i, spec := range specs {
		k := goesOn[i]
		if k != nil {
			k.refs++
		} else if k, err = newKeyedState(spec, shards); err != nil {
			release(list)
			return nil, err
		}
		list = append(list, k)
	}
	return list, nil
}

// keepStates makes these the states of a rule's name, instead of those that it had.
func (e *Engine) keepStates(name RuleName, list []*keyedState) {
	for _, k := range list {
		k.refs++
	}
	release(e.states[name])
	e.states[name] = slices.Clip(list)
	if list == nil {
		e.states[name] = []*keyedState{}
	}
}

// dropStates forgets the states of a rule that was deleted, those in its files too.
func (e *Engine) dropStates(name RuleName) {
	release(e.states[name])
	delete(e.states, name)
	if err := e.removeStates(name); err != nil {
		e.say(slog.LevelError, "cannot remove the state of a rule that was deleted", "error", err)
	}
}

func (e *Engine) stateFile(name RuleName) string {
	return filepath.Join(e.stateDir, string(name)+stateSuffix)
}

// removeStates removes the files of a rule.
func (e *Engine) removeStates(name RuleName) error {
	path := e.stateFile(name)
	var all error
	for _, p := range []string{path, path + damagedSuffix} {
		if err := os.Remove(p); !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// sweepStates removes what a crash has left: the files of rules that were deleted, and half of a save.
func (e *Engine) sweepStates() error {
	files, err := os.ReadDir(e.stateDir)
	for _, f := range files {
		name, whole := strings.CutSuffix(strings.TrimSuffix(f.Name(), damagedSuffix), stateSuffix)
		if whole && e.rules[RuleName(name)] == nil || strings.HasPrefix(f.Name(), savePrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(e.stateDir, f.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("cannot sweep the states of rules that are gone: %w", err)
	}
	return nil
}

// Names of files in the folder of states.
const (
	stateSuffix   = ".state"   // after the rule's name
	damagedSuffix = ".damaged" // after that: the file was set aside
	savePrefix    = "save+"    // of files that are being written; no rule's name has a '+'
)

// loadStates reads what a rule had when the server stopped last; the caller must release it. A file
// that is damaged is set aside, and the rule begins with nothing. One that is sound and cannot be used
// stays for a server that can: with the error the rule is not loaded, and so its state is not saved.
func (e *Engine) loadStates(name RuleName) ([]*keyedState, error) {
	if e.rules[name] == nil {
		_ = e.removeStates(name) // what a deleted rule of this name has left
		return nil, nil
	}
	f, err := os.Open(e.stateFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []*keyedState
	if err == nil {
		list, err = e.readStates(f)
		_ = f.Close()
	}
	switch {
	case errors.Is(err, state.ErrDamaged):
		return nil, e.setAside(name, err)
	case errors.Is(err, state.ErrTooLarge):
		return nil, &Error{Kind: LimitExceeded, Err: err, Msg: fmt.Sprintf("cannot use the saved state of "+
			"rule %q: expected as many shards as before or more rules.state_bytes, or delete it", name)}
	case err != nil:
		return nil, fmt.Errorf("cannot use the saved state of rule %q: %w", name, err)
	}
	return list, nil
}

// setAside renames the damaged file of a rule. One that was set aside before makes room for it, as
// nobody may ever look: so a rule has two files at most.
func (e *Engine) setAside(name RuleName, why error) error {
	path := e.stateFile(name)
	aside := path + damagedSuffix
	_, err := os.Lstat(aside)
	replaced := err == nil
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("cannot set aside the damaged state of rule %q: %w", name, err)
	}
	slog.Error("the saved state of a rule is of no use: it begins with none", "rule", name, "error", why,
		"kept", aside, "replaced_an_earlier_one", replaced)
	return nil
}

// readStates reads a file of states; the caller must release them.
func (e *Engine) readStates(f *os.File) ([]*keyedState, error) {
	saved, err := state.Load(f, len(e.workers), e.limits.StateBytes)
	if err != nil {
		return nil, err
	}
	list := make([]*keyedState, len(saved.States))
	for i, s := range saved.States {
		list[i] = &keyedState{spec: s.Spec, tables: s.Tables, refs: 1}
	}
	if saved.Secret != e.secret {
		release(list)
		return nil, fmt.Errorf("%w: it is of another registry, whose keys mean nothing here", state.ErrDamaged)
	}
	return list, nil
}

// saveStates writes the states of all rules, each to a file of its own that replaces the old one. No
// worker runs any more, and the caller holds mu.
func (e *Engine) saveStates() error {
	var all error
	for name, list := range e.states {
		if err := e.saveState(name, list); err != nil {
			all = errors.Join(all, fmt.Errorf("cannot save the state of rule %q: %w", name, err))
		}
	}
	return all
}

func (e *Engine) saveState(name RuleName, list []*keyedState) error {
	path := e.stateFile(name)
	if len(list) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.CreateTemp(e.stateDir, savePrefix+"*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	saved := make([]state.Saved, len(list))
	for i, k := range list {
		saved[i] = state.Saved{Spec: k.spec, Tables: k.tables}
	}
	err = state.Save(f, e.secret, time.Now(), saved)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// keeper gives one worker, or one test, the states of a rule. It belongs to that goroutine.
type keeper struct {
	states []*keyedState
	tables []*state.Table // this worker's, one for each state
	hasher *state.Hasher
	lost   *atomic.Uint64 // calls for events without a key

	// Of the call that is going on:
	events []event.View
	rows   []uint16
	row    uint32 // the row that key is of, or noRow
	key    state.Key
}

const noRow = math.MaxUint32

func newKeeper(states []*keyedState, worker int, h *state.Hasher, lost *atomic.Uint64) *keeper {
	k := &keeper{states: states, hasher: h, lost: lost}
	for _, s := range states {
		k.tables = append(k.tables, s.tables[worker])
	}
	return k
}

// begin makes ready for a call with these events. Outside of begin and end there are no rows.
func (k *keeper) begin(events []event.View, rows []uint16) {
	k.events, k.rows, k.row = events, rows, noRow
}

// end keeps what the call has changed, or undoes it.
func (k *keeper) end(good bool) {
	k.events, k.rows = nil, nil
	for _, t := range k.tables {
		if good {
			t.Commit()
		} else {
			t.Rollback()
		}
	}
}

// find gives the table of a state for a row, the row's time there, and its key, divided by sub. code is
// below 0 if there is none.
func (k *keeper) find(in *instance, kind state.Kind, st, row, sub, n uint64) (t *state.Table, at int64,
	key state.Key, code int) {
	i, r := uint32(st), uint32(row)
	if k == nil || int64(i) >= int64(len(k.tables)) || int64(r) >= int64(len(k.rows)) ||
		kind != "" && k.states[i].spec.Kind != kind {
		return nil, 0, key, stateNoState
	}
	text, ok := in.mem.Read(uint32(sub), uint32(n))
	if !ok {
		return nil, 0, key, stateOutside
	}
	if len(text) > maxStateBytes {
		return nil, 0, key, stateTooLarge
	}
	ev := &k.events[k.rows[r]]
	if len(ev.Key) == 0 {
		k.lost.Add(1)
		return nil, 0, key, stateNoKey
	}
	if k.row != r {
		k.row, k.key = r, k.hasher.Key(ev.Key, bus.Spread(ev.Key))
	}
	key = k.key
	if len(text) > 0 {
		key = k.hasher.Sub(key, text)
	}
	at = ev.Time
	if at == 0 || k.states[i].spec.Time == "arrival" {
		at = ev.Arrival
	}
	in.charge(stateFuel + uint64(len(text))*byteFuel)
	return k.tables[i], at, key, 0
}

// stateFuel pays for one operation of a table, at worst on memory that is touched for the first time.
const stateFuel = 300

// result is an i32 on the stack.
func result(code int) uint64 { return uint64(uint32(int32(code))) }

// minus is an i64 below 0 on the stack.
func minus(code int) uint64 { return uint64(int64(code)) }

// hostStateAdd is wasmeval.state_add(state, row, key, key_len, amount) -> f64.
func hostStateAdd(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "counter", stack[0], stack[1], stack[2], stack[3])
	amount := math.Float64frombits(stack[4])
	if code < 0 || math.IsNaN(amount) || math.IsInf(amount, 0) {
		stack[0] = math.Float64bits(math.NaN())
		return
	}
	stack[0] = math.Float64bits(t.Add(key, at, amount))
}

// value reads the bytes that a guest gives to a state.
func (in *instance) value(ptr, n uint64, most int) (b []byte, code int) {
	b, ok := in.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		return nil, stateOutside
	}
	if len(b) > most {
		return nil, stateTooLarge
	}
	in.charge(uint64(len(b)) * byteFuel)
	return b, 0
}

// hostStateDistinct is wasmeval.state_distinct(state, row, key, key_len, value, value_len) -> i32.
func hostStateDistinct(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "distinct", stack[0], stack[1], stack[2], stack[3])
	if code == 0 {
		var value []byte
		if value, code = in.value(stack[4], stack[5], maxStateBytes); code == 0 {
			code = t.Distinct(key, at, value)
		}
	}
	stack[0] = result(code)
}

// hostStateSeen is wasmeval.state_seen(state, row, key, key_len) -> i64.
func hostStateSeen(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "seen", stack[0], stack[1], stack[2], stack[3])
	stack[0] = minus(code)
	if code == 0 {
		stack[0] = minus(stateNone)
		if first, seen := t.Seen(key, at); seen {
			stack[0] = uint64(max(first, 0)) // below 0 are the errors
		}
	}
}

// hostStateSet is wasmeval.state_set(state, row, key, key_len, value, value_len) -> i32.
func hostStateSet(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "value", stack[0], stack[1], stack[2], stack[3])
	if code == 0 {
		var value []byte
		if value, code = in.value(stack[4], stack[5], in.keeper.states[uint32(stack[0])].spec.Bytes); code == 0 {
			t.Set(key, at, value)
		}
	}
	stack[0] = result(code)
}

// hostStateGet is wasmeval.state_get(state, row, key, key_len, place, place_len) -> i32.
func hostStateGet(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "value", stack[0], stack[1], stack[2], stack[3])
	if code == 0 {
		place, ok := in.mem.Read(uint32(stack[4]), uint32(stack[5]))
		value, found := t.Get(key, at)
		switch {
		case !ok:
			code = stateOutside
		case !found:
			code = stateNone
		default:
			code = len(value)
			in.charge(uint64(copy(place, value)) * byteFuel)
		}
	}
	stack[0] = result(code)
}

// hostStateTime is wasmeval.state_time(state, row, key, key_len) -> i64.
func hostStateTime(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "value", stack[0], stack[1], stack[2], stack[3])
	stack[0] = minus(code)
	if code == 0 {
		stack[0] = minus(stateNone)
		if set, ok := t.SetAt(key, at); ok {
			stack[0] = uint64(max(set, 0))
		}
	}
}

// hostStateDelete is wasmeval.state_delete(state, row, key, key_len) -> i32.
func hostStateDelete(in *instance, stack []uint64) {
	t, at, key, code := in.keeper.find(in, "", stack[0], stack[1], stack[2], stack[3])
	if code == 0 && !t.Delete(key, at) {
		code = stateNone
	}
	stack[0] = result(code)
}

// StateStats is what one state of a rule holds.
type StateStats struct {
	state.Spec
	Held    int    `json:"held"`    // keys that it has now
	Size    int    `json:"size"`    // bytes that its tables have taken
	Evicted uint64 `json:"evicted"` // keys that made room for others
	Late    uint64 `json:"late"`    // events older than their window
}

func stateStats(list []*keyedState) []StateStats {
	all := make([]StateStats, len(list))
	for i, k := range list {
		s := &all[i]
		s.Spec = k.spec
		for _, t := range k.tables {
			one := t.Stats()
			s.Held += one.Keys
			s.Size += one.Bytes
			s.Evicted += one.Evicted
			s.Late += one.Late
		}
	}
	return all
}
