package bus

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// The ledger holds at every sample while producers submit to rings that are often full and lose events
// for all reasons; and in the end it says what the producers counted for themselves.
func TestLedgerUnderLoad(t *testing.T) {
	b, err := New(Config{Shards: 2, RingBytes: minRingBytes})
	if err != nil {
		t.Fatal(err)
	}
	var consumers, producers sync.WaitGroup
	var evaluated [2]countHandler
	for i := range 2 {
		consumers.Go(func() { b.Ring(i).Consume(&evaluated[i], 16) })
	}
	var submitted, taken atomic.Int64
	var lost [Reasons]atomic.Int64
	for i := range 4 {
		p := b.NewProducer(Source(i % int(Sources)))
		producers.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for range 20_000 {
				if why := Reason(rnd.IntN(int(Reasons) * 4)); why < Reasons {
					p.Lose(why, 2)
					submitted.Add(2)
					lost[why].Add(2)
				}
				recs := make([]Record, rnd.IntN(40))
				for i := range recs {
					recs[i].Body = make([]byte, 500)
				}
				n, _ := p.Submit(rnd.IntN(2), recs)
				submitted.Add(int64(len(recs)))
				taken.Add(int64(n))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		producers.Wait()
		close(done)
	}()
	samples := 0
	for open := true; open; samples++ {
		select {
		case <-done:
			open = false
		default:
		}
		l := b.Ledger()
		if d, in := l.Difference(), int64(l.InFlight()); d != 0 || in < 0 {
			t.Fatalf("sample %d: difference %d, in flight %d", samples, d, in)
		}
	}
	b.Close()
	consumers.Wait()
	l := b.Ledger()
	total := l.Total()
	drained := int64(evaluated[0] + evaluated[1])
	if int64(total.Received) != submitted.Load() || int64(total.Accepted) != taken.Load() ||
		int64(l.Evaluated) != drained || drained != taken.Load() || l.InFlight() != 0 {
		t.Errorf("ledger %+v; submitted %d, taken %d, drained %d", total, submitted.Load(), taken.Load(), drained)
	}
	full := submitted.Load() - taken.Load()
	for r := range Reasons {
		full -= lost[r].Load()
		if n := int64(total.Lost[r]); r != RingFull && n != lost[r].Load() {
			t.Errorf("%v: %d in the ledger, %d lost", r, n, lost[r].Load())
		}
	}
	if got := int64(total.Lost[RingFull]) - lost[RingFull].Load(); got != full || full == 0 {
		t.Errorf("ring_full: %d in the ledger, %d were not taken (expected some)", got, full)
	}
	t.Logf("%d samples, %d submitted, %d taken", samples, submitted.Load(), taken.Load())
}

func TestSubmitCounts(t *testing.T) {
	b, err := New(Config{Shards: 1, RingBytes: minRingBytes})
	if err != nil {
		t.Fatal(err)
	}
	p := b.NewProducer(SourceUDP)
	large := Record{Body: make([]byte, b.MaxRecord()+1)}
	if n, err := p.Submit(0, []Record{{}, large, {}}); n != 1 || err != ErrTooLarge {
		t.Errorf("took %d, %v", n, err)
	}
	b.Close()
	if n, err := p.Submit(0, []Record{{}, {}}); n != 0 || err != ErrClosed {
		t.Errorf("took %d, %v", n, err)
	}
	l := b.Ledger()
	s := l.Sources[SourceUDP]
	// Of the first call one was taken, one too large, and one is the caller's to submit again.
	if s.Received != 4 || s.Accepted != 1 || s.Lost[TooLarge] != 1 || s.Lost[Closed] != 2 || l.Difference() != 0 {
		t.Errorf("ledger %+v", s)
	}
}

// Keys stay on their shard from release to release, and spread.
func TestShardOf(t *testing.T) {
	b, err := New(Config{Shards: 8, RingBytes: minRingBytes})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{"": 7, "u-1": 7, "van-9": 0, "boiler-1": 5} {
		if got := b.ShardOf([]byte(key)); got != want {
			t.Errorf("key %q is on shard %d, expected %d", key, got, want)
		}
	}
	counts := make([]int, 8)
	for i := range 80_000 {
		counts[b.ShardOf(fmt.Append(nil, "user-", i))]++
	}
	for s, n := range counts {
		if n < 9000 || n > 11000 {
			t.Errorf("shard %d has %d of 80,000 keys", s, n)
		}
	}
}

func TestNames(t *testing.T) {
	if Kernel.String() != "kernel" || !Kernel.Dropped() || !RingFull.Dropped() || Truncated.Dropped() ||
		Malformed.String() != "malformed" || SourceEvaluate.String() != "evaluate" {
		t.Error("reasons or sources have other names, or another side of the ledger")
	}
}
