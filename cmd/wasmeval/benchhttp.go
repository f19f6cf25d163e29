package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// httpPart measures events by POST. With a rate or a batch given it offers that one load.
type httpPart struct {
	benchLoad
	rule  string
	given func(flag string) bool
}

func newHTTPPart() *httpPart {
	return &httpPart{benchLoad: benchLoad{rate: 20_000, batch: 1, workers: 8}}
}

func (p *httpPart) flags(cmd *cobra.Command) {
	cmd.Long = `Measures single events with and without the verdict in the reply, a lone request, and
NDJSON, against a bare net/http server that reads the body and answers 202. With --rate, --batch,
--workers or --rule it offers one load of your own alone.`
	cmd.Example = "  wasmeval bench http\n  wasmeval bench http --rate 0 --batch 1000"
	p.benchLoad.flags(cmd, "requests")
	cmd.Flags().StringVar(&p.rule, "rule", "", "module to run on the events of that load; none: "+
		"one of two conditions")
	p.given = cmd.Flags().Changed
}

func (l *benchLoad) flags(cmd *cobra.Command, what string) {
	f := cmd.Flags()
	f.Float64Var(&l.rate, "rate", l.rate, what+" a second; 0: as fast as possible")
	f.IntVar(&l.batch, "batch", l.batch, "events in each")
	f.IntVar(&l.workers, "workers", l.workers, "connections or sockets")
}

// custom tells whether one load of one's own was asked for.
func custom(given func(string) bool) bool {
	return given != nil && (given("rate") || given("batch") || given("workers") || given("rule"))
}

// module is the rule that runs on the events.
func moduleOr(file string) ([]byte, error) {
	if file == "" {
		return ruleOf(0, "*"), nil
	}
	code, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read module %q: %w", file, err)
	}
	return code, nil
}

// httpLoad is a load of a report.
type httpLoad struct {
	what, path string
	benchLoad
}

const (
	bareHTTP, asyncHTTP, verdictHTTP = "bare net/http", "async", "verdict"
	loneBare, loneVerdict            = "lone, bare net/http", "lone, verdict"
)

// httpLoads are the loads of a report, those that are held against each other together. Path / is the
// floor's.
var httpLoads = [][]httpLoad{
	{
		{bareHTTP, "/", benchLoad{0, 1, 8}},
		{asyncHTTP, "/v1/events", benchLoad{0, 1, 8}},
		{verdictHTTP, "/v1/evaluate", benchLoad{0, 1, 8}},
	},
	{
		{bareHTTP, "/", benchLoad{10_000, 1, 8}},
		{asyncHTTP, "/v1/events", benchLoad{10_000, 1, 8}},
		{verdictHTTP, "/v1/evaluate", benchLoad{10_000, 1, 8}},
	},
	{
		{loneBare, "/", benchLoad{500, 1, 1}},
		{loneVerdict, "/v1/evaluate", benchLoad{500, 1, 1}},
	},
	{{"NDJSON x100", "/v1/events", benchLoad{0, 100, 2}}},
	{{"NDJSON x1000", "/v1/events", benchLoad{0, 1000, 2}}},
}

func (p *httpPart) run(ctx context.Context, b *bench) error {
	if err := p.check(); err != nil {
		return err
	}
	if custom(p.given) {
		return p.one(ctx, b)
	}
	waits := &measurement{}
	for range b.runs {
		if err := p.suite(ctx, b, waits); err != nil {
			return err
		}
	}
	r := &b.report
	at := func(what string, rate float64) *measurement { return r.measured("http", what, rate) }
	bare, lone := at(bareHTTP, 0).all(cpuOfRun), at(loneBare, 500)
	calm := fmt.Sprintf("at 10,000/s: %s and %s µs", number(at(asyncHTTP, 10_000).median(cpuOfRun)/1e3),
		number(at(bareHTTP, 10_000).median(cpuOfRun)/1e3))
	r.judge("http-cpu", micros(at(asyncHTTP, 0).all(cpuOfRun)), micros(bare), calm)
	calm = fmt.Sprintf("at 10,000/s: %s µs", number(at(verdictHTTP, 10_000).median(cpuOfRun)/1e3))
	r.judge("verdict-cpu", micros(at(verdictHTTP, 0).all(cpuOfRun)), micros(bare), calm)
	r.judge("verdict-latency", micros(at(loneVerdict, 500).all(p50OfRun)),
		micros(lone.all(p50OfRun)), "")
	lines := at("NDJSON x100", 0)
	r.judge("ndjson-cpu", micros(lines.all(cpuOfRun)), nil, "")
	r.judge("ndjson-rate", lines.all(rateOfRun), nil, "client on the same cores")
	r.judge("wake-up", micros(waits.all(p50OfRun)), nil,
		"queued_us and took_us of verdicts of a lone request")
	r.plots = append(r.plots, latencyPlot("http", "latency-http.svg", "Latency at 10,000 requests/s",
		at(bareHTTP, 10_000), at(asyncHTTP, 10_000), at(verdictHTTP, 10_000)))
	return nil
}

func micros(ns []float64) []float64 {
	list := make([]float64, len(ns))
	for i, v := range ns {
		list[i] = v / 1e3
	}
	return list
}

// suite measures each load once, on two servers that are new.
func (p *httpPart) suite(ctx context.Context, b *bench, waits *measurement) error {
	floor, err := startFloor(ctx, "floor-http")
	if err != nil {
		return err
	}
	defer floor.kill()
	s, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer s.kill()
	if err := s.push(ctx, "bench", ruleOf(0, "*")); err != nil {
		return err
	}
	for _, loads := range httpLoads {
		if err := p.compare(ctx, b, floor, s, loads, waits); err != nil {
			return err
		}
	}
	return nil
}

// compare measures loads by turns.
func (p *httpPart) compare(ctx context.Context, b *bench, floor, s *benchServer, loads []httpLoad,
	waits *measurement) error {
	seen := newHistogram()
	var list []*contender
	for i := range loads {
		l := &loads[i]
		to := s
		if l.path == "/" {
			to = floor
		}
		var see func(body []byte)
		if l.what == loneVerdict { // the one lane is all that adds to seen
			see = func(body []byte) { record(seen, verdictTime(body)) }
		}
		m := b.report.measured("http", l.what, l.rate*float64(l.batch))
		list = append(list, &contender{server: to, load: &l.benchLoad, into: m, open: func() (lane, error) {
			return newHTTPLane(to.url, l.path, "", benchEvents(l.batch), see)
		}})
	}
	if err := b.byTurns(ctx, list); err != nil {
		return err
	}
	if seen.TotalCount() > 0 {
		w := &loadRun{}
		w.quantiles(seen)
		waits.add(w)
	}
	return nil
}

// one measures the load that the flags say.
func (p *httpPart) one(ctx context.Context, b *bench) error {
	code, err := moduleOr(p.rule)
	if err != nil {
		return err
	}
	return b.one(ctx, "http", &p.benchLoad, code, false, func(s *benchServer) (lane, error) {
		return newHTTPLane(s.url, "/v1/events", "", benchEvents(p.batch), nil)
	})
}

// one measures one load on a wasmeval with one rule, with a new server for each run.
func (b *bench) one(ctx context.Context, part string, l *benchLoad, code []byte, silent bool,
	open func(*benchServer) (lane, error)) error {
	m := b.report.measured(part, "wasmeval", l.rate*float64(l.batch))
	m.silent = silent
	for range b.runs {
		r, err := b.fresh(ctx, l, code, open)
		if err != nil {
			return err
		}
		m.add(r)
	}
	return nil
}

// fresh measures one load on a new wasmeval with one rule.
func (b *bench) fresh(ctx context.Context, l *benchLoad, code []byte,
	open func(*benchServer) (lane, error)) (*loadRun, error) {
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	if err := s.push(ctx, "bench", code); err != nil {
		return nil, err
	}
	return b.against(ctx, s, l, func() (lane, error) { return open(s) })
}

// httpLane is a connection that speaks as much HTTP as the load needs: on few cores a client that
// costs more than the server would measure itself.
type httpLane struct {
	conn    net.Conn
	request []byte
	events  int
	answer  []byte
	see     func(body []byte) // may be nil
}

func newHTTPLane(url, path, header string, events [][]byte, see func([]byte)) (*httpLane, error) {
	host := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	body := bytes.Join(events, []byte("\n"))
	kind := "application/json"
	if len(events) > 1 {
		kind = "application/x-ndjson"
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%s"+
		"Content-Length: %d\r\n\r\n", path, host, kind, header, len(body))
	return &httpLane{conn: conn, request: append([]byte(head), body...), events: len(events),
		answer: make([]byte, 64*kib), see: see}, nil
}

func (h *httpLane) Close() error { return h.conn.Close() }

func (h *httpLane) send() (int, error) {
	if _, err := h.conn.Write(h.request); err != nil {
		return 0, err
	}
	status, body, err := h.read()
	switch {
	case err != nil:
		return 0, err
	case status == 200 || status == 202:
		if h.see != nil {
			h.see(body)
		}
		return h.events, nil
	case status == 429:
		return int(numberAfter(body, `"accepted":`)), nil
	}
	return 0, fmt.Errorf("the server answered %d: %s", status, body)
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("Content-Length: ")
)

// read reads an answer, whose body is valid until the next one.
func (h *httpLane) read() (status int, body []byte, err error) {
	n, end, size := 0, -1, 0
	for end < 0 || n < end+size {
		if n == len(h.answer) {
			h.answer = append(h.answer, make([]byte, n)...)
		}
		got, err := h.conn.Read(h.answer[n:])
		if n += got; err != nil {
			return 0, nil, err
		}
		if end < 0 {
			if end = bytes.Index(h.answer[:n], headEnd); end < 0 {
				continue
			}
			end += len(headEnd)
			if bytes.Contains(h.answer[:end], contentLength) {
				size = int(numberAfter(h.answer[:end], string(contentLength)))
			} else {
				return 0, nil, errors.New("the answer has no Content-Length")
			}
		}
	}
	status, err = strconv.Atoi(string(h.answer[len("HTTP/1.1 "):][:3]))
	return status, h.answer[end : end+size], err
}

// numberAfter is the whole number after a text, or 0.
func numberAfter(b []byte, text string) (n int64) {
	i := bytes.Index(b, []byte(text))
	if i < 0 {
		return 0
	}
	for _, c := range b[i+len(text):] {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	return n
}

// verdictTime is how long the event of an answer waited for its worker, and then for its verdict.
func verdictTime(body []byte) time.Duration {
	us := numberAfter(body, `"queued_us":`) + numberAfter(body, `"took_us":`)
	return time.Duration(us) * time.Microsecond
}
