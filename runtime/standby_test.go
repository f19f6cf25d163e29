package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// standbys is a fixture that keeps so many rules on standby, and rule r with two versions of which the
// second is active.
func standbys(t *testing.T, n int, first, second string) *fixture {
	limits := DefaultLimits()
	limits.Standby = n
	f := open(t, t.TempDir(), limits)
	f.put("r", first)
	f.codes("x", "r", `{}`, `{"bad":3}`) // leaves something behind
	f.put("r", second)
	return f
}

func (f *fixture) activate(n VersionNumber) {
	f.t.Helper()
	if _, err := f.Activate(context.Background(), "r", n, "test"); err != nil {
		f.t.Fatal(err)
	}
}

// running is the instance that worker 0 runs rule r by.
func (f *fixture) running() *instance { return f.set.Load().rules[0].instances[0] }

// A version that was swapped out lately comes back with the instances that it had, as they began.
func TestStandby(t *testing.T) {
	f := standbys(t, 4, "stain", "always")
	f.activate(1)
	was := f.running()
	if got := f.codes("x", "r", `{}`, `{}`, `{}`); fmt.Sprint(got) != "[1 2 2]" {
		t.Errorf("codes %v after a swap and back: expected [1 2 2]", got)
	}
	cached := f.Stats().Compiles[CompileCached]
	for range 3 {
		f.activate(2)
		if _, err := f.Rollback(context.Background(), "r", "test"); err != nil {
			t.Fatal(err)
		}
		if f.running() != was {
			t.Error("another instance runs after a rollback")
		}
		if got := f.codes("x", "r", `{}`, `{"bad":1}`, `{"bad":3}`); fmt.Sprint(got) != "[1 -1 1]" {
			t.Errorf("codes %v after a rollback: expected [1 -1 1]", got)
		}
	}
	if n := f.Stats().Compiles[CompileCached] - cached; n != 0 {
		t.Errorf("%d programs were loaded anew", n)
	}
	if _, err := f.Disable(context.Background(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Enable(context.Background(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	if f.running() != was {
		t.Error("another instance runs after the rule was disabled and enabled")
	}
}

// What cannot go back to how it began is made anew; its program is there already.
func TestStandbyWithoutSnapshot(t *testing.T) {
	f := standbys(t, 4, "unrest", "always")
	f.addSpares(f.standby[0]) // as if one had been ordered before
	if n := len(f.standby[0].spare); n != 0 {
		t.Errorf("%d spares are kept of a rule on standby: expected none", n)
	}
	cached := f.Stats().Compiles[CompileCached]
	f.activate(1)
	if got := f.codes("x", "r", `{}`, `{}`); fmt.Sprint(got) != "[1 1]" {
		t.Errorf("codes %v", got)
	}
	if n := f.Stats().Compiles[CompileCached] - cached; n != 0 {
		t.Errorf("%d programs were loaded anew", n)
	}
}

// What a version kept of its events goes when it is swapped out, on standby or not.
func TestStandbyKeepsNoState(t *testing.T) {
	f := start(t)
	f.put("r", "counting")
	f.send("x", `{}`)
	states := f.set.Load().rules[0].states
	f.put("r", "v1")
	if n := states[0].refs; n != 0 {
		t.Errorf("a state of a version on standby is in use %d times", n)
	}
	if in := f.standby[0].instances[0]; in == nil || in.keeper != nil {
		t.Errorf("instance %v on standby: expected one without states", in)
	}
}

// An instance that was made ready with other parameters, or for another rule, is not taken.
func TestStandbyIsOfOneConfiguration(t *testing.T) {
	f := standbys(t, 4, "v1", "params")
	configure := func(i string) {
		t.Helper()
		c := RuleConfig{Params: map[string]json.RawMessage{"i": json.RawMessage(i)}}
		if _, err := f.Configure(context.Background(), "r", c, "test"); err != nil {
			t.Fatal(err)
		}
	}
	says := func() string {
		t.Helper()
		f.out.lines = nil
		f.send("x", `{}`)
		return string(f.out.all(t)[0].Payload)
	}
	configure("5")
	was := f.running()
	configure("50")
	if got := says(); !strings.Contains(got, `"i":50,`) || f.running() == was {
		t.Errorf("payload %s with parameter 50", got)
	}
	configure("5")
	if got := says(); !strings.Contains(got, `"i":5,`) || f.running() != was {
		t.Errorf("payload %s with parameter 5 again", got)
	}
	configure("7") // the one with 5 is on standby
	five := &RuleConfig{Params: map[string]json.RawMessage{"i": json.RawMessage("5")}}
	_, err := f.Put(context.Background(), "s", module(t, "params"), PutOptions{Activate: true, Config: five})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.set.Load().rules {
		if r.instances[0] == was {
			t.Errorf("rule %s runs what is another's", r.name)
		}
	}
}

// Standby holds as many as it may, the last ones, and nothing of a rule that was deleted.
func TestStandbyLimit(t *testing.T) {
	f := standbys(t, 2, "v1", "v2")
	images := openFiles(t)
	for _, m := range []string{"always", "odd", "stain"} {
		f.put("r", m)
	}
	programs := func(want int) {
		t.Helper()
		if n := f.Stats().Programs; n != want {
			t.Errorf("%d programs are loaded, expected %d", n, want)
		}
	}
	programs(3) // stain, and odd and always on standby
	if len(f.standby) != 2 || f.standby[0].version != 3 || f.standby[1].version != 4 {
		t.Errorf("%d on standby: expected versions 3 and 4", len(f.standby))
	}
	if n := openFiles(t) - images; n != 1 {
		t.Errorf("%d images more than of two versions: expected 1", n)
	}
	f.activate(3)
	programs(3)
	f.put("other", "trap")
	if _, err := f.Disable(context.Background(), "other", "test"); err != nil {
		t.Fatal(err)
	}
	programs(3) // always, and stain and trap on standby
	if _, err := f.Delete(context.Background(), "r", "test"); err != nil {
		t.Fatal(err)
	}
	programs(1)
	if _, err := f.Delete(context.Background(), "other", "test"); err != nil {
		t.Fatal(err)
	}
	programs(0)
}

// With a limit of 0 nothing is kept.
func TestNoStandby(t *testing.T) {
	f := standbys(t, 0, "v1", "v2")
	if n := f.Stats().Programs; n != 1 {
		t.Errorf("%d programs are loaded, expected 1", n)
	}
}

// A change that is not written down leaves what it took from standby there.
func TestStandbyAfterFailedCommit(t *testing.T) {
	f := standbys(t, 4, "stain", "always")
	if err := f.registry.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Activate(context.Background(), "r", 1, "test"); err == nil {
		t.Fatal("a change without a registry succeeded")
	}
	if len(f.standby) != 1 || f.standby[0].version != 1 || f.standby[0].instances[0] == nil {
		t.Errorf("%d on standby after a change that failed: expected the one that was", len(f.standby))
	}
	if got := f.codes("x", "r", `{}`); fmt.Sprint(got) != "[1]" {
		t.Errorf("codes %v", got)
	}
}

// A rule that never worked takes nobody's place on standby.
func TestStandbyAfterFailedPut(t *testing.T) {
	f := standbys(t, 1, "v1", "v2")
	if err := f.registry.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(context.Background(), "new", module(t, "odd"), PutOptions{Activate: true}); err == nil {
		t.Fatal("a change without a registry succeeded")
	}
	if len(f.standby) != 1 || f.standby[0].name != "r" || f.Stats().Programs != 2 {
		t.Errorf("%d on standby and %d programs: expected rule r's and 2", len(f.standby), f.Stats().Programs)
	}
}

// A version whose module the registry no longer has is not activated, though it is on standby: the next
// start could not load it.
func TestStandbyWithoutModule(t *testing.T) {
	f := standbys(t, 4, "v1", "v2")
	sha := f.rules["r"].version(1).SHA256
	err := f.registry.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketModules).Delete([]byte(sha)) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Activate(context.Background(), "r", 1, "test"); err == nil || f.Generation() != 2 {
		t.Errorf("error %v, generation %d: expected an error and 2", err, f.Generation())
	}
}

// A SHA-256 of a wrong length is that of no program.
func TestProgramOfWrongSHA(t *testing.T) {
	f := start(t)
	for _, sha := range []string{"", "00", strings.Repeat("0", 66)} {
		none := errors.New("no module")
		read := func(string) ([]byte, error) { return nil, none }
		if _, err := f.programs.of(context.Background(), sha, read); !errors.Is(err, none) {
			t.Errorf("SHA-256 %q: %v", sha, err)
		}
	}
}
