package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// sendKeyed submits events of some keys, each to the shard of its key, in one batch a shard, and
// returns the codes of their verdicts by event; -1 stands for a failed one.
func (f *fixture) sendKeyed(events ...[2]string) []int {
	f.t.Helper()
	recs := make([][]bus.Record, f.bus.Shards())
	first := f.sent + 1
	for _, ev := range events {
		f.sent++
		env := event.Envelope{ID: []byte(fmt.Sprint(f.sent)), Key: []byte(ev[0]),
			Arrival: time.Now().UnixNano()}
		head, err := event.AppendHead(nil, &env)
		if err != nil {
			f.t.Fatal(err)
		}
		s := f.bus.ShardOf(env.Key)
		recs[s] = append(recs[s], bus.Record{Head: head, Body: []byte(ev[1])})
	}
	f.out.mu.Lock()
	f.out.lines = nil
	f.out.mu.Unlock()
	for s, list := range recs {
		if _, err := f.in.Submit(s, list); err != nil {
			f.t.Fatal(err)
		}
	}
	f.drain()
	codes := make([]int, len(events))
	for _, v := range f.out.all(f.t) {
		var n int
		if _, err := fmt.Sscan(v.Event.ID, &n); err != nil {
			f.t.Fatal(err)
		}
		codes[n-first] = int(v.Code)
		if v.Error != nil {
			codes[n-first] = -1
		}
	}
	return codes
}

func (f *fixture) wantCodes(what string, want []int, events ...[2]string) {
	f.t.Helper()
	if got := f.sendKeyed(events...); fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Errorf("%s: codes %v, expected %v", what, got, want)
	}
}

func openShards(t *testing.T, dir string, shards int) *fixture {
	t.Helper()
	b, err := bus.New(bus.Config{Shards: shards, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return openWith(t, Config{DataDir: dir, Bus: b, Limits: DefaultLimits()})
}

var (
	ofA     = [2]string{"a", "{}"}
	ofB     = [2]string{"b", "{}"}
	trapOfA = [2]string{"a", `{"trap":1}`}
	ofNone  = [2]string{"", "{}"}
)

// State is of a key, and lives on where versions, configuration and the server do not; what a failed
// call has changed is undone.
func TestStateLives(t *testing.T) {
	dir := t.TempDir()
	f := openShards(t, dir, 2)
	f.put("r", "counting")
	f.wantCodes("first", []int{1, 2, 1, 9999}, ofA, ofA, ofB, ofNone)
	f.wantCodes("a batch with a failure", []int{3, -1, 4, 2}, ofA, trapOfA, ofA, ofB)
	if _, err := f.Configure(t.Context(), "r", RuleConfig{Fuel: 100_000}, "test"); err != nil {
		t.Fatal(err)
	}
	f.wantCodes("configured", []int{5}, ofA)
	if _, err := f.Disable(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Enable(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	f.wantCodes("enabled", []int{6}, ofA)
	f.put("other", "counting")
	f.wantState("r", "hour", 2)
	f.wantState("other", "hour", 0)
	f.stop()

	f = openShards(t, dir, 3)
	f.wantState("r", "hour", 2)
	if _, err := f.Delete(t.Context(), "other", "test"); err != nil {
		t.Fatal(err)
	}
	f.wantCodes("after a restart with other shards", []int{7, 3}, ofA, ofB)
	f.put("r", "counting2")
	f.wantCodes("a version with another state", []int{1}, ofA)
	f.wantState("r", "day", 2)
	f.stop()

	f = openShards(t, dir, 1)
	f.wantCodes("after another restart", []int{2}, ofA)
	if _, err := f.Delete(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	f.put("r", "counting2")
	f.wantCodes("a new rule of the same name", []int{1}, ofA)
}

func (f *fixture) wantState(rule RuleName, name string, keys int) {
	f.t.Helper()
	r, err := f.Rule(rule)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range r.State {
		if s.Name == name && s.Held == keys && s.Size > 0 && s.Evicted == 0 {
			return
		}
	}
	f.t.Errorf("states of %s: %+v: expected %q with %d keys", rule, r.State, name, keys)
}

// A rule that is deleted while the server does not run, or whose upload fails, leaves nothing behind,
// and a test changes nothing.
func TestStateStays(t *testing.T) {
	dir := t.TempDir()
	f := openShards(t, dir, 2)
	f.put("r", "counting")
	f.wantCodes("first", []int{1, 2}, ofA, ofA)
	got, err := f.Test(t.Context(), "r", 0, []TestEvent{[]byte(`{"key":"a"}`), []byte(`{"key":"a"}`)}, nil)
	if err != nil || got[0].Code != 1 || got[1].Code != 2 {
		t.Errorf("a test gives %+v, %v: expected codes 1 and 2 of states of its own", got, err)
	}
	if _, err := f.Put(t.Context(), "r", module(t, "loop")[:20], PutOptions{Activate: true}); err == nil {
		t.Error("half a module is taken")
	}
	f.wantCodes("after a test and a refusal", []int{3}, ofA)
	// Disabled at the start, the rule is not made ready; its file must stay.
	if _, err := f.Disable(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	f.stop()
	f = openShards(t, dir, 2)
	f.stop()
	f = openShards(t, dir, 2)
	if _, err := f.Enable(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	f.wantCodes("after restarts while it was disabled", []int{4}, ofA)
	unkeyed := f.sendKeyed(ofNone, ofNone)
	if fmt.Sprint(unkeyed) != "[9999 9999]" || f.ruleStats("r").Unkeyed != 4 {
		t.Errorf("events without a key: codes %v, %d counted: expected 4", unkeyed, f.ruleStats("r").Unkeyed)
	}
}

func (f *fixture) ruleStats(name RuleName) RuleStats {
	for _, r := range f.Stats().Rules {
		if r.Name == name {
			return r
		}
	}
	return RuleStats{}
}

// readFile reads a file, or fails the test.
func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A file that is damaged is kept aside, and the rule begins with nothing. A later one takes its place,
// which the log says; of a rule that is deleted nothing is kept.
func TestStateDamaged(t *testing.T) {
	log := logged(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "state", "r.state")
	f := openShards(t, dir, 2)
	f.put("r", "counting")
	for turn := range 2 {
		f.wantCodes("first", []int{1 + turn}, ofA)
		f.stop()
		bad := readFile(t, path)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f = openShards(t, dir, 2)
		f.wantCodes("with a damaged file", []int{1}, ofA)
		if !bytes.Equal(readFile(t, path+damagedSuffix), bad) {
			t.Error("the file that is kept is not the damaged one")
		}
		if part := fmt.Sprint("replaced_an_earlier_one=", turn == 1); !strings.Contains(log(), part) {
			t.Errorf("the log has no %s:\n%s", part, log())
		}
	}
	if _, err := f.Delete(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); len(left) > 0 || err != nil {
		t.Errorf("%v are left of a rule that was deleted: %v", left, err)
	}
	// Nor of one whose files were left by a crash.
	if err := os.WriteFile(path+damagedSuffix, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.stop()
	openShards(t, dir, 2)
	if left, err := os.ReadDir(filepath.Dir(path)); len(left) > 0 || err != nil {
		t.Errorf("%v are left of a rule that was gone at the start: %v", left, err)
	}
}

// A sound file that cannot be used stays as it is, whatever the rule's fate in the meantime, until a
// server can use it.
func TestStateSound(t *testing.T) {
	dir, other, limits := t.TempDir(), t.TempDir(), DefaultLimits()
	limits.StateBytes = 517_376 // what the tables take in one shard
	serve := func(dir string, shards int) *fixture {
		b, err := bus.New(bus.Config{Shards: shards, RingBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return openWith(t, Config{DataDir: dir, Bus: b, Limits: limits})
	}
	path := filepath.Join(dir, "state", "r.state")
	f := serve(dir, 1)
	f.put("r", "counting")
	f.wantCodes("first", []int{1, 2}, ofA, ofA)
	f.stop()
	saved := readFile(t, path)
	refused := func(why string, kind Kind, text string) {
		t.Helper()
		if r, err := f.Rule("r"); err != nil || !strings.Contains(r.Error, text) {
			t.Errorf("%s: the rule's error is %q, %v: expected %q", why, r.Error, err, text)
		}
		_, err := f.Put(t.Context(), "r", module(t, "counting2"), PutOptions{Activate: true})
		if kind != "" {
			wantError(t, err, kind, text)
		} else if err == nil {
			t.Errorf("%s: a version is taken", why)
		}
		f.stop()
		if left, err := filepath.Glob(path + ".*"); len(left) > 0 || err != nil {
			t.Errorf("%s: there are %q, %v", why, left, err)
		}
	}

	f = serve(dir, 3)
	refused("more shards", LimitExceeded, "its tables take 520128 bytes in 3 shards: expected at most 517376")
	if !bytes.Equal(readFile(t, path), saved) {
		t.Error("the file was changed by a server that could not use it")
	}

	// A folder in its place can be opened and not be read, as on a disk that fails.
	if err := errors.Join(os.Rename(path, path+"+"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	f = serve(dir, 1)
	refused("a folder", "", "is a directory")
	if err := errors.Join(os.Remove(path), os.Rename(path+"+", path)); err != nil {
		t.Fatal(err)
	}

	f = serve(dir, 1)
	f.wantCodes("as before", []int{3}, ofA)
	f.stop()

	// That of another registry has keys that mean nothing here.
	saved = readFile(t, path)
	f = serve(other, 1)
	f.put("r", "counting")
	f.stop()
	path = filepath.Join(other, "state", "r.state")
	if err := os.WriteFile(path, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	f = serve(other, 1)
	f.wantCodes("that of another registry", []int{1}, ofA)
	f.stop()
	if !bytes.Equal(readFile(t, path+".damaged"), saved) {
		t.Error("the state of another registry was not kept aside")
	}
}

// A rule's states have a limit together, which is that of all workers.
func TestStateLimit(t *testing.T) {
	limits := DefaultLimits()
	limits.StateBytes = 100_000
	f := openWith(t, Config{DataDir: t.TempDir(), Limits: limits})
	_, err := f.Put(context.Background(), "r", module(t, "counting"), PutOptions{Activate: true})
	wantError(t, err, BadModule, "at most 100000")
}

// A state that goes on keeps its room, which counts: else a rule would have more than the limit with
// each version, and could not be loaded after a restart.
func TestStateLimitOverVersions(t *testing.T) {
	dir, limits := t.TempDir(), DefaultLimits()
	limits.StateBytes = 1_200_000
	f := openWith(t, Config{DataDir: dir, Limits: limits})
	put := func(changes ...string) error {
		code := module(t, "counting")
		for i := 0; i < len(changes); i += 2 {
			old, now := []byte(changes[i]), []byte(changes[i+1])
			if !bytes.Contains(code, old) || len(old) != len(now) {
				t.Fatalf("cannot make %s of %s", now, old)
			}
			code = bytes.Replace(code, old, now, 1)
		}
		_, err := f.Put(t.Context(), "r", code, PutOptions{Activate: true})
		return err
	}
	if err := put(`3600000,"keys":1000`, `3600000,"keys":9000`); err != nil {
		t.Fatal(err)
	}
	f.wantCodes("first", []int{1, 2}, ofA, ofA)
	err := put(`"day"`, `"two"`, `86400000,"keys":1000`, `86400000,"keys":2000`)
	wantError(t, err, BadModule, "at most 1200000")
	f.wantCodes("after the refusal", []int{3}, ofA)
	f.stop()
	f = openWith(t, Config{DataDir: dir, Limits: limits})
	f.wantCodes("after a restart", []int{4}, ofA)
}

// What a crash has left of a rule that was deleted does not come back with a new one of its name.
func TestStateOrphan(t *testing.T) {
	dir := t.TempDir()
	f := openShards(t, dir, 2)
	f.put("r", "counting")
	f.wantCodes("first", []int{1, 2}, ofA, ofA)
	f.stop()
	path := filepath.Join(dir, "state", "r.state")
	left, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f = openShards(t, dir, 2)
	if _, err := f.Delete(t.Context(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	f.stop()
	if err := os.WriteFile(path, left, 0o600); err != nil {
		t.Fatal(err)
	}
	f = openShards(t, dir, 2)
	if _, err := f.Put(t.Context(), "r", module(t, "counting"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Activate(t.Context(), "r", 1, "test"); err != nil {
		t.Fatal(err)
	}
	f.wantCodes("a new rule", []int{1, 2}, ofA, ofA)
}

// Columns that were drawn for large events are not kept for ever, however many there are.
func TestDrawnIsGivenBack(t *testing.T) {
	e := idle(t, t.TempDir())
	defer shut(t, e)
	w, s := e.workers[0], nestedRules(t, 64)
	w.adopt(s)
	w.table.reset(len(s.columns), 1)
	w.gather(s, [][]byte{record(t, nest(64, 1<<20))}, 1)
	w.table.choose(w.views, []uint16{0})
	for _, i := range s.which[0] {
		w.table.draw(i, s.columns[i].typ)
	}
	if w.table.chosen.drawn < 3<<20 {
		t.Fatalf("%d bytes were drawn: expected more than 3 MiB", w.table.chosen.drawn)
	}
	w.table.chosen.drawn = keepText + 1 // as after some such events
	w.table.reset(len(s.columns), 1)
	if n := w.table.chosen.drawn; n != 0 || w.table.chosen.cols != nil {
		t.Errorf("%d bytes are kept for columns that were drawn: expected none", n)
	}
}
