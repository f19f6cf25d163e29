package runtime

import (
	"fmt"
	"slices"
	"testing"
)

// A rule that cannot go back to a snapshot has spares: after a failure the next event is evaluated
// by one of them, and no worker has to make an instance itself while it fails now and then.
func TestSpares(t *testing.T) {
	for _, c := range []struct {
		module, bad string
		spares      int // before the first failure
	}{{"unrest", `{"bad":1}`, maxSpares}, {"stain", `{"bad":2}`, 0}} {
		t.Run(c.module, func(t *testing.T) {
			f := start(t)
			f.put("r", c.module)
			r := f.set.Load().rules[0]
			if n := len(r.spare); n != c.spares || (r.snapshot == nil) != (c.spares > 0) {
				t.Fatalf("%d spares, snapshot %v", n, r.snapshot)
			}
			const failures = 15
			for n := range failures {
				got := f.codes("x", "r", `{}`, c.bad, `{}`)
				if slices.Contains(got[:1], -1) || got[1] != -1 || got[2] < 1 {
					t.Fatalf("codes %v after %d failures", got, n)
				}
				until(t, "the spares are there again", func() bool { return len(r.spare) == maxSpares })
			}
			s := f.Stats()
			if n := s.Rules[0].Replaced; n != failures {
				t.Errorf("%d instances were replaced after %d failures", n, failures)
			}
			made := int(s.Made)
			if most := b2i(c.spares == 0); made > most {
				t.Errorf("the worker made %d instances: expected at most %d", made, most)
			}
			if rule, err := f.Rule("r"); err != nil || rule.Quarantine != nil {
				t.Errorf("the rule is %+v, %v", rule, err)
			}
		})
	}
}

// A batch with a bad event needs two spares, and more bad events than there are spares cost time
// and no verdict.
func TestSparesOfABatch(t *testing.T) {
	e := idle(t, t.TempDir()) // nobody makes new spares
	defer shut(t, e)
	roomyCalls(e)
	putRule(t, e, "r", "unrest")
	r := e.set.Load().rules[0]
	handleBatch(t, e, `{}`, `{"bad":1}`, `{}`)
	s := e.Stats()
	if n := s.Made; n != 0 || len(r.spare) != 0 {
		t.Errorf("one bad event: the worker made %d instances, %d spares are left", n, len(r.spare))
	}
	handleBatch(t, e, `{}`, `{"bad":1}`, `{}`, `{"bad":1}`)
	s = e.Stats()
	if n := s.Made; n != 2 {
		t.Errorf("two bad events: the worker made %d instances, expected 2", n)
	}
	var got []int32
	for _, v := range e.router.(*collect).all(t) {
		got = append(got, v.Code)
	}
	if fmt.Sprint(got) != "[1 0 1 1 0 1 0]" {
		t.Errorf("codes %v", got)
	}
}
