package runtime

import (
	"context"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// ask sends an event for a reply.
func (f *fixture) ask(r *Reply) {
	f.t.Helper()
	env := event.Envelope{ID: []byte("1"), Type: []byte("x"), Arrival: 1, Reply: r.ID()}
	head, err := event.AppendHead(nil, &env)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.in.Submit(0, []bus.Record{{Head: head, Body: []byte(`{}`)}}); err != nil {
		f.t.Fatal(err)
	}
	f.drain()
}

// An event for one rule whose request no longer waits is evaluated by no rule, for nobody knows any
// more by which; one that was for all is evaluated by all.
func TestTimedOutRequests(t *testing.T) {
	f := start(t)
	f.put("one", "always")
	f.put("other", "always")
	for rule, verdicts := range map[string]int{"one": 0, "": 2} {
		before := f.Stats()
		f.out.lines = nil
		r, err := f.OpenReply(1, rule)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		f.ask(r)
		if l := f.out.all(t); len(l) != verdicts {
			t.Errorf("a request for rule %q that timed out: verdicts %+v, expected %d", rule, l, verdicts)
		}
		s := f.Stats()
		missed, unwanted := s.ReplyMiss-before.ReplyMiss, s.Unwanted-before.Unwanted
		if missed != 1 || unwanted != uint64(b2i(verdicts == 0)) || s.Events-before.Events != 1 {
			t.Errorf("rule %q: %d events of %d missed their request, %d were unwanted", rule, missed,
				s.Events-before.Events, unwanted)
		}
	}
}

// A request for a rule that is deleted while its event waits has no verdicts, and an answer.
func TestRequestOfDeletedRule(t *testing.T) {
	f := start(t)
	f.put("one", "always")
	f.put("other", "always")
	r, err := f.OpenReply(1, "one")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := f.Delete(context.Background(), "one", "test"); err != nil {
		t.Fatal(err)
	}
	f.ask(r)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := r.Wait(ctx, time.Minute)
	if err != nil || string(list[0]) != "[]" {
		t.Errorf("the reply is %s, %v: expected no verdicts", list, err)
	}
}
