package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"wasmeval/ingest/udpclient"
)

// udpPart measures events by UDP. With a rate or a batch given it offers that one load.
type udpPart struct {
	benchLoad
	rule    string
	segment bool
	given   func(flag string) bool
}

func newUDPPart() *udpPart {
	return &udpPart{benchLoad: benchLoad{rate: 20_000, batch: 1, workers: 1}}
}

func (p *udpPart) flags(cmd *cobra.Command) {
	cmd.Long = `Measures single datagrams as fast as one sender can, and datagrams that the kernel cuts
from one send and joins for one receive (UDP_SEGMENT, UDP_GRO), each against a bare loop that reads
and counts. With --rate, --batch, --workers, --rule or --segment it offers one load of your own
alone.`
	cmd.Example = "  wasmeval bench udp\n  wasmeval bench udp --rate 50000"
	p.benchLoad.flags(cmd, "datagrams")
	cmd.Flags().StringVar(&p.rule, "rule", "", "module to run on the events of that load; none: "+
		"one of two conditions")
	cmd.Flags().BoolVar(&p.segment, "segment", false, "send that load by segmentation offload, with "+
		"one event in each datagram and --batch events in each send")
	p.given = cmd.Flags().Changed
}

const (
	segmentBatch = 64        // events, and datagrams, in one send
	calmUDP      = 200_000   // datagrams a second that a bare loop takes with ease
	aboveTarget  = 2_048_000 // events a second, of which 2,000,000 are to be evaluated
)

// udpLoad is a load of a report.
type udpLoad struct {
	what string
	benchLoad
	segment, floor bool
}

// udpLoads are the loads of a report, those that are held against each other together. The floor that
// joins datagrams is that of segments.
var udpLoads = [][]udpLoad{
	{
		{"bare loop", benchLoad{0, 1, 1}, false, true},
		{"wasmeval", benchLoad{0, 1, 1}, false, false},
	},
	{
		{"bare loop", benchLoad{calmUDP, 1, 1}, false, true},
		{"wasmeval", benchLoad{calmUDP, 1, 1}, false, false},
	},
	{
		{"segments, bare loop", benchLoad{0, segmentBatch, 1}, true, true},
		{"segments, wasmeval", benchLoad{0, segmentBatch, 1}, true, false},
		{"segments, wasmeval", benchLoad{1e6 / segmentBatch, segmentBatch, 1}, true, false},
		{"segments, wasmeval", benchLoad{aboveTarget / segmentBatch, segmentBatch, 1}, true, false},
	},
}

func (p *udpPart) run(ctx context.Context, b *bench) error {
	if err := p.check(); err != nil {
		return err
	}
	if custom(p.given) || p.segment {
		code, err := moduleOr(p.rule)
		if err != nil {
			return err
		}
		return b.one(ctx, "udp", &p.benchLoad, code, true, func(s *benchServer) (lane, error) {
			return newUDPLane(s.udp, p.batch, p.segment)
		})
	}
	for range b.runs {
		if err := p.suite(ctx, b); err != nil {
			return err
		}
	}
	r := &b.report
	at := func(what string, rate float64) *measurement { return r.measured("udp", what, rate) }
	single, bare := at("wasmeval", 0), at("bare loop", 0)
	r.judge("udp-loss", single.all(lostOfRun), nil, fmt.Sprintf("of %s events sent a second; the "+
		"bare loop lost %s", number(single.median(sentOfRun)), number(bare.median(lostOfRun))))
	r.judge("udp-cpu", micros(at("wasmeval", calmUDP).all(cpuOfRun)),
		micros(at("bare loop", calmUDP).all(cpuOfRun)), fmt.Sprintf("at 200,000/s; at full rate %s and "+
			"%s µs", number(single.median(cpuOfRun)/1e3), number(bare.median(cpuOfRun)/1e3)))
	cut := at("segments, wasmeval", 0)
	r.judge("segments-rate", at("segments, wasmeval", aboveTarget).all(rateOfRun), nil, fmt.Sprintf(
		"of %s offered; %s as fast as they are sent, of which the bare loop gets %s",
		number(aboveTarget), number(cut.median(rateOfRun)), number(at("segments, bare loop", 0).median(rateOfRun))))
	r.judge("segments-loss", at("segments, wasmeval", aboveTarget).all(unseenOfRun), nil,
		"what the kernel had joined and then drops counts as one")
	return nil
}

func sentOfRun(r *loadRun) float64 { return float64(r.Sent) / r.Seconds }

// suite measures each load once.
func (p *udpPart) suite(ctx context.Context, b *bench) error {
	for _, loads := range udpLoads {
		if err := p.compare(ctx, b, loads); err != nil {
			return err
		}
	}
	return nil
}

// compare measures loads by turns, each on a server that is new.
func (p *udpPart) compare(ctx context.Context, b *bench, loads []udpLoad) error {
	var list []*contender
	defer func() {
		for _, c := range list {
			c.server.kill()
		}
	}()
	for i := range loads {
		l := &loads[i]
		s, err := l.start(ctx)
		if err != nil {
			return err
		}
		m := b.report.measured("udp", l.what, l.rate*float64(l.batch))
		m.silent = true
		list = append(list, &contender{server: s, load: &l.benchLoad, into: m, open: func() (lane, error) {
			return newUDPLane(s.udp, l.batch, l.segment)
		}})
	}
	return b.byTurns(ctx, list)
}

// start starts the server that a load is for.
func (l *udpLoad) start(ctx context.Context) (*benchServer, error) {
	switch {
	case l.floor && l.segment:
		return startFloor(ctx, "floor-udp", "--join")
	case l.floor:
		return startFloor(ctx, "floor-udp")
	}
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.push(ctx, "bench", ruleOf(0, "*")); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// newUDPLane sends datagrams with a batch of events each or, with segment, as many with one each.
func newUDPLane(addr string, batch int, segment bool) (lane, error) {
	events := benchEvents(batch)
	if segment {
		c, err := udpclient.Dial(addr, len(events[0])+1)
		return &segmentLane{c, events}, err
	}
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	l := &udpLane{Conn: conn, events: batch}
	for i, e := range events {
		if i > 0 {
			l.datagram = append(l.datagram, '\n')
		}
		l.datagram = append(l.datagram, e...)
	}
	return l, nil
}

type udpLane struct {
	net.Conn
	datagram []byte
	events   int
}

func (l *udpLane) send() (int, error) {
	_, err := l.Write(l.datagram)
	return l.events, err
}

type segmentLane struct {
	*udpclient.Client
	events [][]byte
}

func (l *segmentLane) send() (int, error) {
	for _, e := range l.events {
		if err := l.Send(e); err != nil {
			return 0, err
		}
	}
	return len(l.events), l.Flush()
}
