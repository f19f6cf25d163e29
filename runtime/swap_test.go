package runtime

import (
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fastjson"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// exactlyOnce is a Router that checks each verdict as it comes: one for each event, and the code
// must be that of the version that it names.
type exactlyOnce struct {
	mu       sync.Mutex
	parser   fastjson.Parser
	seen     []bool
	doubled  int
	wrong    string
	versions map[Generation]int // what each generation was seen to run
	mixed    string
}

func (x *exactlyOnce) Wants(string, int32, bool) bool { return true }

func (x *exactlyOnce) Route(_ string, _ int32, _ bool, line []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v, err := x.parser.ParseBytes(line)
	if err != nil {
		x.wrong = string(line)
		return
	}
	id, err := strconv.Atoi(string(v.GetStringBytes("event", "id")))
	for len(x.seen) <= id {
		x.seen = append(x.seen, false)
	}
	if x.seen[id] {
		x.doubled++
	}
	x.seen[id] = true
	version, g := v.GetInt("version"), Generation(v.GetUint64("generation"))
	if err != nil || v.GetInt("code") != version || v.Exists("error") {
		x.wrong = string(line)
	}
	if was, ok := x.versions[g]; ok && was != version {
		x.mixed = string(line)
	}
	x.versions[g] = version
}

// feed sends numbered events from several goroutines until done is closed, and returns how many.
func feed(t *testing.T, b *bus.Bus, done <-chan struct{}) int {
	var next atomic.Int64
	var all sync.WaitGroup
	for lane := range 3 {
		p := b.NewProducer(bus.SourceHTTP)
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				env := event.Envelope{ID: fmt.Append(nil, next.Add(1)-1), Type: []byte("x"),
					Arrival: time.Now().UnixNano()}
				head, err := event.AppendHead(nil, &env)
				if err != nil {
					t.Error(err)
					return
				}
				for {
					_, err := p.Submit(lane%b.Shards(), []bus.Record{{Head: head, Body: []byte(`{}`)}})
					if err == nil {
						break
					}
					goruntime.Gosched() // the drop was counted; the same event is sent again
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	all.Wait()
	return int(next.Load())
}

// 10,000 swaps under load: each event has exactly one verdict, of one generation, and neither memory
// nor mappings grow; whether versions that were swapped out are kept ready or not.
func TestSwapsUnderLoad(t *testing.T) {
	for _, standby := range []int{0, DefaultLimits().Standby} {
		t.Run(fmt.Sprint(standby, " on standby"), func(t *testing.T) { swapsUnderLoad(t, standby) })
	}
}

func swapsUnderLoad(t *testing.T, standby int) {
	limits := DefaultLimits()
	limits.Standby = standby
	b, err := bus.New(bus.Config{Shards: 2, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	x := &exactlyOnce{versions: map[Generation]int{}}
	e, err := Open(context.Background(), Config{DataDir: t.TempDir(), Bus: b, Router: x,
		Limits: limits, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	e.registry.db.NoSync = true // the disk is not what this test is about
	e.Start()
	for _, m := range []string{"v1", "v2"} {
		if _, err := e.Put(context.Background(), "r", module(t, m), PutOptions{Activate: true}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	sent := make(chan int)
	go func() { sent <- feed(t, b, done) }()
	swap := func(n int) {
		for i := range n {
			s, err := e.Activate(context.Background(), "r", VersionNumber(1+i%2), "test")
			if err != nil || s.Lost != 0 {
				t.Fatalf("swap %d: %+v, %v", i, s, err)
			}
		}
	}
	swap(500)
	before := mappings(t)
	swap(1500)
	// With none on standby each swap loaded one program so far and closed the other. Whether swaps lose
	// events can be seen without that, and faster.
	one, other := hold(t, e, "v1"), hold(t, e, "v2")
	swap(8000)
	e.programs.put(one)
	e.programs.put(other)
	after := mappings(t)
	close(done)
	n := <-sent
	b.Close()
	<-e.Drained()
	if g := e.Generation(); g != 10_002 {
		t.Errorf("generation %d, expected 10002", g)
	}
	missing := n
	for _, s := range x.seen {
		if s {
			missing--
		}
	}
	if missing != 0 || x.doubled != 0 || x.wrong != "" || x.mixed != "" {
		t.Errorf("of %d events %d have no verdict and %d several; wrong %q, mixed %q",
			n, missing, x.doubled, x.wrong, x.mixed)
	}
	if after > before+50 {
		t.Errorf("%d mappings after 10,000 swaps, %d after 500", after, before)
	}
	if p := e.programs.count(); p != 1+min(standby, 1) {
		t.Errorf("%d programs are loaded, expected 1 that is active and the other if it is on standby", p)
	}
	t.Logf("%d events, %d generations with verdicts, mappings %d -> %d", n, len(x.versions), before, after)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// hold keeps a program loaded until it is put back.
func hold(t *testing.T, e *Engine, mod string) *program {
	t.Helper()
	prog, err := e.programs.get(context.Background(), module(t, mod))
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

// mappings counts the memory mappings of this process, where compiled code that was not closed shows.
func mappings(t *testing.T) int {
	t.Helper()
	goruntime.GC()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}
