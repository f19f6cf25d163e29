//go:build !wasip1

package rule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// said runs events by a rule that describes each in words, and compares these.
func said(t *testing.T, say func(r Row) string, cases [][2]string) {
	t.Helper()
	var got []string
	Each(func(r Row) int32 {
		got = append(got, say(r))
		return 0
	})
	events := make([]string, len(cases))
	for i, c := range cases {
		events[i] = `{"key":"k",` + strings.TrimPrefix(c[0], "{")
	}
	if _, err := Try(nil, "", events...); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if got[i] != c[1] {
			t.Errorf("event %d, %s: got %s, want %s", i, c[0], got[i], c[1])
		}
	}
}

// second begins an event that many seconds after midnight.
func second(s int) string {
	return fmt.Sprintf(`{"ts":"2026-01-01T00:%02d:%02dZ"`, s/60, s%60)
}

func TestCounter(t *testing.T) {
	fresh(t)
	n := F64("n")
	sub := UTF8("sub")
	tumbling := Counter("tumbling", Tumbling(Minute))
	sliding := Counter("sliding", Sliding(Minute, 6))
	say := func(r Row) string {
		v, _ := n.At(r)
		by, _ := sub.At(r)
		a, ok := tumbling.By(by).Add(r, v)
		b, ok2 := sliding.By(by).Add(r, v)
		return fmt.Sprint(a, ok, b, ok2)
	}
	said(t, say, [][2]string{
		{second(50) + `,"n":1}`, "1 true 1 true"},
		{second(59) + `,"n":2.5}`, "3.5 true 3.5 true"},
		{second(60) + `,"n":1}`, "1 true 4.5 true"},
		{second(55) + `,"n":1}`, "1 true 5.5 true"}, // late for the one, within the other
		{second(60) + `,"n":7,"sub":"x"}`, "7 true 7 true"},
		{second(60) + `,"n":9,"key":"other"}`, "9 true 9 true"},
		{second(60) + `,"n":9,"key":""}`, "0 false 0 false"},
		{second(60) + `,"n":1,"sub":"` + strings.Repeat("x", 257) + `"}`, "0 false 0 false"},
		{second(105) + `}`, "1 true 5.5 true"},
		{second(110) + `}`, "1 true 1 true"},
		{second(180) + `}`, "0 true 0 true"},
		{second(115) + `,"n":1}`, "0 true 0 true"}, // late, since it was asked later
	})
}

func TestDistinct(t *testing.T) {
	fresh(t)
	v := UTF8("v")
	cards := Distinct("cards", 10*Second, 3)
	say := func(r Row) string {
		text, _ := v.At(r)
		n, ok := cards.Add(r, text)
		return fmt.Sprint(n, ok)
	}
	said(t, say, [][2]string{
		{second(0) + `,"v":"a"}`, "1 true"},
		{second(1) + `,"v":"a"}`, "1 true"},
		{second(2) + `,"v":"b"}`, "2 true"},
		{second(3) + `,"v":"c"}`, "3 true"},
		{second(4) + `,"v":"d"}`, "3 true"}, // a makes room
		{second(12) + `,"v":"d"}`, "2 true"},
		{second(12) + `,"v":"d","key":7}`, "1 true"},
		{second(12) + `,"v":"d","key":null}`, "0 false"},
		{second(13) + `,"v":"` + strings.Repeat("x", 257) + `"}`, "0 false"},
		{second(0) + `,"v":"e"}`, "2 true"}, // older than the window
	})
}

func TestSeen(t *testing.T) {
	fresh(t)
	known := Seen("known", TTL(5*Second))
	say := func(r Row) string {
		first, seen, ok := known.Mark(r)
		return fmt.Sprint(first, seen, ok)
	}
	said(t, say, [][2]string{
		{`{"ts":"1970-01-01T00:00:01Z"}`, "0 false true"},
		{`{"ts":"1970-01-01T00:00:05.9Z"}`, "1000000000 true true"},
		{`{"ts":"1970-01-01T00:00:06Z"}`, "0 false true"},
		{`{"ts":"1970-01-01T00:00:06Z","key":"other"}`, "0 false true"},
		{`{"ts":"1970-01-01T00:00:06Z","key":null}`, "0 false false"},
	})
}

func TestValue(t *testing.T) {
	fresh(t)
	set := UTF8("set")
	forget := Bool("forget")
	last := Value("last", 4, TTL(5*Second))
	say := func(r Row) string {
		old, ok := last.Get(r)
		at, _ := last.Time(r)
		out := fmt.Sprintf("%s %v %d", old, ok, at)
		if text, is := set.At(r); is {
			if err := last.Set(r, []byte(text)); err != nil {
				return err.Error()
			}
		}
		if f, _ := forget.At(r); f {
			out += fmt.Sprint(" ", last.Delete(r), last.Delete(r))
		}
		return out
	}
	said(t, say, [][2]string{
		{`{"ts":"1970-01-01T00:00:01Z","set":"one"}`, " false 0"},
		{`{"ts":"1970-01-01T00:00:02Z","set":"toolong"}`, ErrTooLarge.Error()},
		{`{"ts":"1970-01-01T00:00:03Z","set":"two"}`, "one true 1000000000"},
		{`{"ts":"1970-01-01T00:00:07.9Z"}`, "two true 3000000000"},
		{`{"ts":"1970-01-01T00:00:08Z","set":""}`, " false 0"},
		{`{"ts":"1970-01-01T00:00:09Z","forget":true}`, " true 8000000000 true false"},
		{`{"ts":"1970-01-01T00:00:09Z","set":"x","key":null}`, ErrNoKey.Error()},
	})
}

func TestStateOfAnotherKind(t *testing.T) {
	fresh(t)
	Seen("known")
	value := Value("v", 4)
	Each(func(r Row) int32 {
		value.k.index = 0
		if err := value.Set(r, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("set: %v", err)
		}
		if _, ok := value.Get(r); ok {
			t.Error("get gives something")
		}
		return 0
	})
	if _, err := Try(nil, "", `{"key":"k"}`); err != nil {
		t.Fatal(err)
	}
}
