package runtime

import (
	"context"
	"errors"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// ask sends an event for a reply.
func (f *fixture) ask(r *Reply) {
	f.t.Helper()
	f.askAs(r, 0)
}

// askAs is ask for the event with that index.
func (f *fixture) askAs(r *Reply, index int) {
	f.t.Helper()
	env := event.Envelope{ID: []byte("1"), Type: []byte("x"), Arrival: 1, Reply: r.ID(), Index: uint32(index)}
	head, err := event.AppendHead(nil, &env)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.in.Submit(0, []bus.Record{{Head: head, Body: []byte(`{}`)}}); err != nil {
		f.t.Fatal(err)
	}
	f.drain()
}

// An event whose request no longer waits is evaluated as if it did: by its rule, or by all. Then nothing
// is left of the request.
func TestTimedOutRequests(t *testing.T) {
	f := start(t)
	f.put("one", "always")
	f.put("other", "always")
	for rule, verdicts := range map[string]int{"one": 1, "": 2} {
		before := f.Stats()
		f.out.lines = nil
		r, err := f.OpenReply(2, rule)
		if err != nil {
			t.Fatal(err)
		}
		r.Skip(1)
		r.Close()
		f.ask(r)
		if l := f.out.all(t); len(l) != verdicts {
			t.Errorf("a request for rule %q that timed out: verdicts %+v, expected %d", rule, l, verdicts)
		}
		s := f.Stats()
		missed, unwanted := s.ReplyMiss-before.ReplyMiss, s.Unwanted-before.Unwanted
		if missed != 1 || unwanted != 0 || s.Events-before.Events != 1 {
			t.Errorf("rule %q: %d events of %d missed their request, %d were unwanted", rule, missed,
				s.Events-before.Events, unwanted)
		}
		f.nothingHeld(t)
	}
}

// nothingHeld expects that no request is left, nor anything of it.
func (f *fixture) nothingHeld(t *testing.T) {
	t.Helper()
	rs := &f.replies
	if len(rs.open) != 0 || rs.waiting != 0 || rs.held.Load() != 0 {
		t.Errorf("%d requests are left, %d wait, %d bytes are held", len(rs.open), rs.waiting, rs.held.Load())
	}
}

// Verdicts that take too much memory end the wait, and no more of them is kept. The events are evaluated
// all the same.
func TestLargeAnswers(t *testing.T) {
	limits := DefaultLimits()
	limits.AnswerBytes = 2000
	f := open(t, t.TempDir(), limits)
	f.put("one", "always")
	f.put("other", "always")
	wait := func(r *Reply) error {
		_, err := r.Wait(context.Background(), time.Minute)
		return err
	}
	ask := func(n int) *Reply {
		r, err := f.OpenReply(n, "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			f.askAs(r, i)
		}
		return r
	}
	all := 0
	evaluated := func(n int) {
		t.Helper()
		if all += 2 * n; len(f.out.all(t)) != all {
			t.Errorf("%d verdicts, expected %d", len(f.out.all(t)), all)
		}
	}
	small := ask(2) // about 300 bytes a verdict
	if err := wait(small); err != nil {
		t.Error(err)
	}
	evaluated(2)
	large := ask(20)
	if err := wait(large); !errors.Is(err, ErrAnswerTooLarge) {
		t.Errorf("error %v: expected %v", err, ErrAnswerTooLarge)
	}
	evaluated(20)
	if held := f.replies.held.Load(); held != int64(small.held) || held == 0 {
		t.Errorf("%d bytes are held: expected the %d of the small answer", held, small.held)
	}
	large.Close()
	kept := []*Reply{small}
	for range 10 {
		r := ask(2)
		evaluated(2)
		kept = append(kept, r)
		if err := wait(r); errors.Is(err, ErrAnswersFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(kept); n < 5 || n > 10 || f.replies.held.Load() > answersHeld*2000 {
		t.Errorf("%d answers with %d bytes: expected that four of the largest are as many as there is room for",
			n, f.replies.held.Load())
	}
	for _, r := range kept {
		r.Close()
	}
	f.nothingHeld(t)
}

// A request for a rule that is deleted while its event waits is told so.
func TestRequestOfDeletedRule(t *testing.T) {
	f := start(t)
	f.put("one", "always")
	f.put("other", "always")
	r, err := f.OpenReply(1, "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(context.Background(), "one", "test"); err != nil {
		t.Fatal(err)
	}
	f.ask(r)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if list, err := r.Wait(ctx, time.Minute); !errors.Is(err, ErrNoRule) {
		t.Errorf("the reply is %s, %v: expected %v", list, err, ErrNoRule)
	}
	r.Close()
	f.nothingHeld(t)
}
