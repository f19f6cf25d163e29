package runtime

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// codes sends events of one type one by one and returns the codes of one rule's verdicts, with -1
// for one that failed.
func (f *fixture) codes(typ, rule string, events ...string) []int32 {
	f.t.Helper()
	var list []int32
	for _, ev := range events {
		f.out.lines = nil
		f.send(typ, ev)
		for _, v := range f.out.all(f.t) {
			switch {
			case v.Rule != rule:
			case v.Error != nil:
				list = append(list, -1)
			default:
				list = append(list, v.Code)
			}
		}
	}
	return list
}

// After a trap an instance is as it was when it was made: no stain in its memory, no count in its
// globals and variables, whether it grew or not. And a second rule of the same module never sees
// what the first one left.
func TestResetForgets(t *testing.T) {
	f := start(t)
	f.put("a", "stain")
	f.put("b", "stain")
	const good, trap, grow, dirty = `{}`, `{"bad":1}`, `{"bad":2}`, `{"bad":3}`
	got := f.codes("x", "a", good, good, trap, good, trap, trap, good, dirty, good, trap, good, grow, good,
		good, trap, good)
	if want := "[1 2 -1 1 -1 -1 1 2 3 -1 1 -1 1 2 -1 1]"; fmt.Sprint(got) != want {
		t.Errorf("codes %v, expected %v", got, want)
	}
	if got := f.codes("x", "b", good); fmt.Sprint(got) != "[2]" {
		t.Errorf("the other rule, which had the same events, says %v, expected code 2", got)
	}
	for _, r := range f.Stats().Rules {
		if r.Replaced != 6 {
			t.Errorf("rule %s: %d resets for 6 failures", r.Name, r.Replaced)
		}
	}
}

// Snapshots are shared by what begins alike, and go with the last of them.
func TestSnapshotsAreReleased(t *testing.T) {
	f := start(t)
	before := openFiles(t)
	for i := range 5 {
		f.put(fmt.Sprint("r", i), "stain")
	}
	if n := openFiles(t) - before; n != 1 {
		t.Errorf("5 rules of one module have %d images, expected 1", n)
	}
	for i := range 5 {
		if _, err := f.Delete(context.Background(), RuleName(fmt.Sprint("r", i)), "test"); err != nil {
			t.Fatal(err)
		}
	}
	if n := openFiles(t) - before; n != 0 {
		t.Errorf("%d images are left of no rules", n)
	}
}

// openFiles counts what this process has open that is a rule's image.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if name, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil &&
			name == "/memfd:wasmeval-rule (deleted)" {
			n++
		}
	}
	return n
}

// BenchmarkInstance is what it costs to make an instance from nothing, from a snapshot, and to
// reset one that has run.
func BenchmarkInstance(b *testing.B) {
	for _, rule := range []string{"c/examples/geofence/geofence", "go/examples/payment-limit/payment-limit"} {
		code, err := os.ReadFile("../rules-sdk/" + rule + ".wasm")
		if err != nil {
			b.Fatal(err)
		}
		e := idle(b, b.TempDir())
		ctx := context.Background()
		prog, err := e.programs.get(ctx, code)
		if err != nil {
			b.Fatal(err)
		}
		params, err := paramsJSON(&prog.manifest, nil)
		if err != nil {
			b.Fatal(err)
		}
		in, err := e.programs.instantiate(ctx, prog, params, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		snap := in.snapshot()
		name := prog.manifest.Match[0]
		for _, from := range []*snapshot{nil, snap} {
			b.Run(fmt.Sprintf("%s/make/snapshot=%v", name, from != nil), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					in, err := e.programs.instantiate(ctx, prog, params, from, nil)
					if err != nil {
						b.Fatal(err)
					}
					in.close()
				}
			})
		}
		b.Run(name+"/reset", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in.fuel.Set(1 << 40)
				if _, err := in.input(4096); err != nil { // touches the stack and the place
					b.Fatal(err)
				}
				if !in.restore(snap) {
					b.Fatal("cannot reset")
				}
			}
		})
		in.close()
		shut(b, e)
	}
}
