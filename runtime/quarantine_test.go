package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var why = &VerdictError{Kind: FaultTrap, Message: "unreachable"}

// drill is a breaker that is told what happens: f a failure, s a success, S 1,000 of them, t a try
// at the moment (it must be admitted as one), c a call (it must be admitted), x a call that must not
// be, w a second's wait.
func drill(t *testing.T, l QuarantineLimits, what string) (b *breaker, changes int) {
	t.Helper()
	now := int64(1e18)
	b = newBreaker(l, func() { changes++ })
	for i, c := range what {
		switch c {
		case 'f':
			b.failure(now, why)
		case 's':
			b.success(1)
		case 'S':
			b.success(1000)
		case 'w':
			now += int64(time.Second)
		default:
			call, try := b.admit(now)
			if call != (c != 'x') || try != (c == 't') {
				t.Fatalf("step %d of %.40q…: called %v, a try %v, expected %c", i, what, call, try, c)
			}
		}
	}
	return b, changes
}

func TestBreaker(t *testing.T) {
	l := DefaultLimits().Quarantine
	rep := strings.Repeat
	for _, c := range []struct {
		what    string
		changes int
	}{
		{rep("f", 19) + "c", 0},
		{rep("f", 20) + "x", 1},                            // twenty in a row
		{rep("f", 19) + "s" + rep("f", 19) + "c", 0},       // with a success between
		{rep("fsssssssss", 99) + "cfx", 1},                 // the hundredth of 991
		{rep("fssssssssss", 300) + "c", 0},                 // one in eleven
		{rep("fs", 99) + rep("s", 700) + "cfx", 1},         // the hundredth of 899
		{rep("fs", 99) + rep("s", 900) + "cfc", 0},         // the hundredth of 1,099
		{rep("fs", 99) + "S" + rep("fs", 99) + "c", 0},     // the old ones are forgotten
		{rep("f", 20) + "xwtx", 1},                         // one try at a time
		{rep("f", 20) + "wtsc", 2},                         // a good try ends it,
		{rep("f", 20) + "wts" + rep("f", 19) + "cfx", 3},   // and everything begins anew
		{rep("f", 20) + "wtfxwxwtfwwwxwt", 3},              // bad tries double the wait: 1, 2, 4 s
		{rep("f", 20) + "wtf" + rep("wwwwwwwwtf", 3), 5},   // …
		{rep("f", 20) + rep(rep("w", 300)+"tf", 20), 21},   // up to five minutes
		{rep("f", 20) + "wtf" + rep("w", 400) + "tscf", 3}, // and not for good
	} {
		if _, changes := drill(t, l, c.what); changes != c.changes {
			t.Errorf("%.40q…: %d changes, expected %d", c.what, changes, c.changes)
		}
	}
	l.InRow, l.Percent = 0, 0
	drill(t, l, rep("f", 2000)+"c")
}

func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := open(t, dir, DefaultLimits())
		f.put("r", "trap")
		f.put("neighbour", "always")
		many := make([]string, 200)
		for i := range many {
			many[i] = `{"bad":1}`
		}
		f.send("x", many...)
		s := f.Stats()
		r := s.Rules[1]
		if r.Outcomes[Failed] != 20 || r.Outcomes[Quarantined] != 180 || !r.Quarantined ||
			r.Quarantines != 1 {
			t.Errorf("after 200 failures: %+v", r)
		}
		if n := s.Rules[0].Outcomes[Matched]; n != 200 {
			t.Errorf("the neighbour has %d verdicts of 200", n)
		}
		rule, err := f.Rule("r")
		if err != nil || rule.Quarantine == nil || rule.Quarantine.Reason.Kind != FaultTrap ||
			rule.Quarantine.Until.Sub(rule.Quarantine.Since) != time.Second {
			t.Errorf("the rule says %+v, %v", rule.Quarantine, err)
		}
		time.Sleep(time.Second)
		f.out.lines = nil
		f.send("x", `{"bad":1}`) // the try fails
		time.Sleep(time.Second)
		f.send("x", `{"bad":0}`) // not yet
		time.Sleep(time.Second)
		f.send("x", `{"bad":0}`, `{"bad":1}`, `{"bad":0}`)
		var kinds []string
		for _, v := range f.out.all(t) {
			if v.Rule == "r" && v.Error != nil {
				kinds = append(kinds, v.Error.Kind)
			} else if v.Rule == "r" {
				kinds = append(kinds, fmt.Sprint(v.Code))
			}
		}
		if got := fmt.Sprint(kinds); got != "[trap quarantined 1 trap 1]" {
			t.Errorf("verdicts %s", got)
		}
		if rule, _ := f.Rule("r"); rule.Quarantine != nil {
			t.Errorf("quarantine after a good try: %+v", rule.Quarantine)
		}
		f.stop()
	})
}

// A quarantine goes on after a restart, and ends with a change of the rule.
func TestQuarantineSurvives(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		many := strings.Split(strings.Repeat(`{"bad":1} `, 20), " ")[:20]
		f := open(t, dir, DefaultLimits())
		f.put("r", "trap")
		f.put("s", "trap")
		f.send("x", many...)
		f.stop()

		f = open(t, dir, DefaultLimits())
		for _, name := range []RuleName{"r", "s"} {
			rule, err := f.Rule(name)
			if err != nil || rule.Quarantine == nil {
				t.Fatalf("after the restart rule %s says %+v, %v", name, rule.Quarantine, err)
			}
		}
		if got := f.codes("x", "r", `{"bad":0}`); fmt.Sprint(got) != "[-1]" {
			t.Errorf("codes %v while quarantined", got)
		}
		ctx := context.Background()
		if _, err := f.Configure(ctx, "r", RuleConfig{Fuel: 1000}, "test"); err != nil {
			t.Fatal(err)
		}
		if got := f.codes("x", "r", `{"bad":0}`); fmt.Sprint(got) != "[1]" {
			t.Errorf("codes %v after a change", got)
		}
		f.stop()

		f = open(t, dir, DefaultLimits())
		if rule, _ := f.Rule("r"); rule.Quarantine != nil {
			t.Errorf("a quarantine that was lifted came back: %+v", rule.Quarantine)
		}
		time.Sleep(time.Hour)
		if got := f.codes("x", "s", `{"bad":0}`, `{"bad":0}`); fmt.Sprint(got) != "[1 1]" {
			t.Errorf("codes %v after an hour", got)
		}
		f.stop()
	})
}

// Each policy answers for a rule that fails, and in the same way for one that is quarantined.
func TestPoliciesInQuarantine(t *testing.T) {
	for _, c := range []struct {
		config  RuleConfig
		code    int32
		payload string
	}{
		{RuleConfig{}, 0, ""},
		{RuleConfig{OnFailure: FailOpen}, 0, ""},
		{RuleConfig{OnFailure: FailClosed}, 1, ""},
		{RuleConfig{OnFailure: FailClosed, FailCode: 7}, 7, ""},
		{RuleConfig{OnFailure: FailDefault, FailCode: 5, FailPayload: json.RawMessage(`{"a": [1]}`)}, 5,
			`{"a":[1]}`},
		{RuleConfig{OnFailure: FailDefault}, 0, ""},
	} {
		f := start(t)
		if _, err := f.Put(context.Background(), "r", module(t, "trap"),
			PutOptions{Activate: true, Config: &c.config}); err != nil {
			t.Fatal(err)
		}
		many := strings.Split(strings.Repeat(`{"bad":1} `, 30), " ")[:30]
		f.send("x", many...)
		kinds := map[string]int{}
		for _, v := range f.out.all(t) {
			kinds[v.Error.Kind]++
			if v.Code != c.code || string(v.Payload) != c.payload {
				t.Errorf("%+v: code %d, payload %s", c.config, v.Code, v.Payload)
			}
		}
		if kinds[FaultTrap] != 20 || kinds[FaultQuarantine] != 10 {
			t.Errorf("%+v: failures %v", c.config, kinds)
		}
		f.stop()
	}
}
