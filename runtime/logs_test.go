package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

func texts(lines []LogLine) (list []string) {
	for _, l := range lines {
		list = append(list, l.Text)
	}
	return list
}

func TestRecentLogs(t *testing.T) {
	var l Logs
	if got := l.Recent(10); got == nil || len(got) != 0 {
		t.Errorf("%v: expected an empty list", got)
	}
	for i := range recentLogs + 5 {
		l.Add(3, i%5, fmt.Sprint(i))
	}
	all := l.Recent(1 << 30)
	if len(all) != recentLogs || all[0].Text != "5" || all[recentLogs-1].Text != fmt.Sprint(recentLogs+4) {
		t.Errorf("%d lines are kept: %q", len(all), texts(all))
	}
	for i, line := range all {
		want := logNames[min((i+5)%5, 3)]
		if line.Level != want || line.Version != 3 || line.Time.IsZero() || line.Seq != all[0].Seq+uint64(i) {
			t.Errorf("line %+v: expected level %s and seq %d", line, want, all[0].Seq+uint64(i))
		}
	}
	if got := texts(l.Recent(2)); len(got) != 2 || got[1] != all[recentLogs-1].Text {
		t.Errorf("the last 2 lines are %q", got)
	}
	if got := l.Recent(0); len(got) != 0 {
		t.Errorf("the last 0 lines are %q", texts(got))
	}
}

// Where a follower begins.
func TestFollowFrom(t *testing.T) {
	var l Logs
	for i := range recentLogs + 10 {
		l.Add(1, 1, fmt.Sprint(i))
	}
	kept := l.Recent(recentLogs)
	for name, c := range map[string]struct {
		after uint64
		n     int
		first string // "" if there is none yet
		lost  uint64
	}{
		"new lines only": {0, 0, "", 0}, "the last two": {0, 2, "136", 0},
		"more than there are": {0, 1000, "10", 0},
		"after a line":        {kept[20].Seq, 1, "31", 0},
		"after the last":      {kept[recentLogs-1].Seq, 1, "", 0},
		// The caller was away while these came.
		"after one that is gone": {kept[0].Seq - 5, 1, "10", 4},
		"another life":           {5, 1, "10", 0}, "the future": {1 << 62, 1, "10", 0},
	} {
		f, err := l.Follow(c.after, c.n)
		if err != nil {
			t.Fatal(err)
		}
		lines, lost, ended := f.Read()
		first := ""
		if len(lines) > 0 {
			first = lines[0].Text
		}
		if first != c.first || lost != c.lost || ended {
			t.Errorf("%s: it begins with %q, %d lost, ended %v: expected %q, %d", name, first, lost, ended,
				c.first, c.lost)
		}
		f.Close()
	}
	if l.followers.Load() != nil {
		t.Error("a follower is left")
	}
	var list []*Follower
	for range maxFollowers {
		f, err := l.Follow(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	var busy *Error
	if _, err := l.Follow(0, 0); !errors.As(err, &busy) || busy.Kind != Busy {
		t.Errorf("one follower too many: %v", err)
	}
	for _, f := range list {
		f.Close()
	}
}

// Many workers add lines while followers read, one of them slowly. A line must never be read twice,
// or out of order, or be neither read nor counted as lost.
func TestLogsHammer(t *testing.T) {
	const writers, each = 4, 5000
	var l Logs
	var writing, reading sync.WaitGroup
	lost := make([]uint64, 3)
	for i := range lost {
		f, err := l.Follow(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			defer f.Close()
			got, last := uint64(0), uint64(0)
			for ended := false; !ended; {
				<-f.Wake()
				for range i * 100 { // falls behind
					l.Recent(1)
				}
				var lines []LogLine
				var n uint64
				lines, n, ended = f.Read()
				lost[i] += n
				got += uint64(len(lines))
				for _, line := range lines {
					if line.Seq <= last {
						t.Errorf("line %d comes after %d", line.Seq, last)
					}
					last = line.Seq
				}
			}
			if got+lost[i] != writers*each {
				t.Errorf("follower %d: %d lines read and %d lost, of %d", i, got, lost[i], writers*each)
			}
		})
	}
	for range writers {
		writing.Go(func() {
			for i := range each {
				l.Add(1, 1, fmt.Sprint(i))
			}
		})
	}
	writing.Wait()
	l.end()
	reading.Wait()
	if n := lost[0] + lost[1] + lost[2]; l.lost.Load() != n {
		t.Errorf("%d lost lines are counted: expected %d", l.lost.Load(), n)
	}
}

// The lines of a rule are those that its workers log, over all its versions; a deleted rule's
// followers are told.
func TestLogsOfRule(t *testing.T) {
	limits := DefaultLimits()
	limits.LogRate = 3
	f := open(t, t.TempDir(), limits)
	if _, err := f.Logs("w"); err == nil {
		t.Error("a rule that there is not has logs")
	}
	f.put("w", "wasi") // logs a line for each event
	logs, err := f.Logs("w")
	if err != nil {
		t.Fatal(err)
	}
	follower, err := logs.Follow(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	f.send("x", `{}`, `{}`, `{}`, `{}`, `{}`, `{}`)
	f.drain()
	s := f.Stats().Rules[0]
	lines, lost, ended := follower.Read()
	if uint64(len(lines)) != s.Logged || lost != 0 || ended || len(lines) == 0 || s.Unlogged == 0 {
		t.Fatalf("%d lines, %d lost: expected the %d that are within the rate", len(lines), lost, s.Logged)
	}
	if l := lines[0]; l.Version != 1 || l.Text == "" || l.Level != "info" {
		t.Errorf("line %+v", l)
	}
	f.put("w", "v1") // another version, which logs nothing
	if again, err := f.Logs("w"); err != nil || again != logs {
		t.Errorf("another version has other logs, error %v", err)
	}
	if _, err := f.Delete(context.Background(), "w", "test"); err != nil {
		t.Fatal(err)
	}
	<-follower.Wake() // of the lines
	if _, _, ended := follower.Read(); !ended {
		<-follower.Wake()
		if _, _, ended := follower.Read(); !ended {
			t.Error("the follower is not told that the rule is gone")
		}
	}
	f.put("w", "v1")
	if again, err := f.Logs("w"); err != nil || again == logs {
		t.Errorf("a rule that was made anew has the logs of the old one, error %v", err)
	}
}

// A worker that nobody listens to pays for the line alone, and never waits.
func BenchmarkLogsAdd(b *testing.B) {
	var l Logs
	b.ReportAllocs()
	for b.Loop() {
		l.Add(1, 1, "text")
	}
}
