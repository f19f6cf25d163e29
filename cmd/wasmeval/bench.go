package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the server, or the ring against Go channels",
		Long: `Load drivers with an open loop: each request has a time at which it is meant to be sent, and its
latency counts from then, so that a server that stalls cannot hide it. http and udp start a server
of their own as another process, with a fresh data folder, and read its CPU time when it has ended.`,
		Args: cobra.NoArgs,
		RunE: helpOnly,
	}
	cmd.AddCommand(newBenchHTTP(), newBenchUDP(), newBenchBus(), newBenchRule())
	return cmd
}

// load is one run of a load driver.
type loadRun struct {
	rate    float64 // requests a second that are offered; 0: as fast as they are answered
	batch   int     // events in a request
	workers int
	length  time.Duration
	rule    string // module to run, or empty
}

func (l *loadRun) flags(cmd *cobra.Command, rate float64, batch int) {
	cmd.Flags().Float64Var(&l.rate, "rate", rate, "requests or datagrams a second; 0: as fast as possible")
	cmd.Flags().IntVar(&l.batch, "batch", batch, "events in each")
	cmd.Flags().IntVar(&l.workers, "workers", 8, "connections")
	cmd.Flags().DurationVar(&l.length, "for", 5*time.Second, "length of the run")
	cmd.Flags().StringVar(&l.rule, "rule", "", "module to run on the events; none: they are only taken")
}

func (l *loadRun) check() error {
	if l.rate < 0 || l.batch < 1 || l.batch > 100_000 || l.workers < 1 || l.workers > 1000 || l.length <= 0 {
		return errors.New("expected --rate 0 or more, --batch 1 to 100000, --workers 1 to 1000 and --for " +
			"above 0")
	}
	return nil
}

const benchEvent = `{"id":"b-1","type":"vehicle.position","ts":"2026-01-01T00:00:00Z","vehicle":{"id":"van-01",` +
	`"plate":"M-WE 1000"},"lat":48.137,"lon":11.575,"speed_kmh":74.7,"heading":45,"driver":"d-01"}`

func newBenchHTTP() *cobra.Command {
	var l loadRun
	cmd := &cobra.Command{
		Use: "http", Short: "Offer events by POST /v1/events", Args: cobra.NoArgs,
		Example: "  wasmeval bench http --rate 20000\n  wasmeval bench http --rate 0 --batch 1000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.against(cmd.Context(), cmd.OutOrStdout(), func(s *benchServer) (sendOne, error) {
				body := bytes.Repeat([]byte(benchEvent+"\n"), l.batch)
				hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: l.workers}}
				return func() (int, error) {
					resp, err := hc.Post(s.url+"/v1/events", "application/x-ndjson", bytes.NewReader(body))
					if err != nil {
						return 0, err
					}
					defer resp.Body.Close()
					_, err = io.Copy(io.Discard, resp.Body)
					if resp.StatusCode != http.StatusAccepted {
						return 0, err // 429: the ring is full; the ledger has the count
					}
					return l.batch, err
				}, nil
			})
		},
	}
	l.flags(cmd, 5000, 1)
	return cmd
}

func newBenchUDP() *cobra.Command {
	var l loadRun
	cmd := &cobra.Command{
		Use: "udp", Short: "Offer events by UDP", Args: cobra.NoArgs,
		Example: "  wasmeval bench udp --rate 50000\n  wasmeval bench udp --rate 20000 --batch 6",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.against(cmd.Context(), cmd.OutOrStdout(), func(s *benchServer) (sendOne, error) {
				c, err := net.Dial("udp", s.udp)
				if err != nil {
					return nil, err
				}
				text := []byte(strings.TrimSuffix(strings.Repeat(benchEvent+"\n", l.batch), "\n"))
				return func() (int, error) {
					_, err := c.Write(text)
					return l.batch, err
				}, nil
			})
		},
	}
	l.flags(cmd, 20_000, 1)
	return cmd
}

// sendOne sends one request and returns how many events were taken. Several goroutines call it.
type sendOne func() (events int, err error)

// against starts a server, runs the load, stops the server and prints what was measured.
func (l *loadRun) against(ctx context.Context, out io.Writer, connect func(*benchServer) (sendOne, error)) error {
	if err := l.check(); err != nil {
		return err
	}
	s, err := startBenchServer(ctx)
	if err != nil {
		return err
	}
	defer s.kill()
	if l.rule != "" {
		if err := s.push(ctx, l.rule); err != nil {
			return err
		}
	}
	send, err := connect(s)
	if err != nil {
		return err
	}
	h, taken, took, err := l.drive(ctx, send)
	if err != nil {
		return err
	}
	var ledger struct {
		Received, Evaluated uint64
		Dropped             map[string]uint64
		Difference          int64
	}
	if _, err := s.client.get(ctx, "/v1/ledger", nil, &ledger); err != nil {
		return err
	}
	cpu, err := s.stop()
	if err != nil {
		return err
	}
	offered := "as fast as possible"
	if l.rate > 0 {
		offered = fmt.Sprintf("%.0f/s", l.rate)
	}
	fmt.Fprintf(out, "offered   %s of %d events, %d connections, %v\n", offered, l.batch, l.workers, l.length)
	fmt.Fprintf(out, "sent      %d (%.0f/s), %d events taken (%.0f/s)\n", h.TotalCount(),
		float64(h.TotalCount())/took.Seconds(), taken, float64(taken)/took.Seconds())
	fmt.Fprintf(out, "latency   from the intended time: %s\n", quantiles(h))
	fmt.Fprintf(out, "server    CPU %.2f s, %.2f µs an event\n", cpu.Seconds(),
		cpu.Seconds()*1e6/float64(max(taken, 1)))
	fmt.Fprintf(out, "ledger    received %d, evaluated %d, dropped %v, difference %d\n", ledger.Received,
		ledger.Evaluated, ledger.Dropped, ledger.Difference)
	return nil
}

// drive offers the load: worker i sends requests i, i+workers, …, each at its intended time.
func (l *loadRun) drive(ctx context.Context, send sendOne) (h *hdrhistogram.Histogram, taken int64,
	took time.Duration, err error) {
	var all sync.WaitGroup
	var events atomic.Int64
	var mu sync.Mutex
	var firstErr error
	total := newHistogram()
	begun := time.Now()
	end := begun.Add(l.length)
	for w := range l.workers {
		all.Go(func() {
			own := newHistogram()
			for i := w; ctx.Err() == nil; i += l.workers {
				intended := time.Now()
				if l.rate > 0 {
					intended = begun.Add(time.Duration(float64(i) / l.rate * 1e9))
				}
				if intended.After(end) {
					break
				}
				time.Sleep(time.Until(intended))
				n, err := send()
				if err != nil {
					mu.Lock()
					firstErr = err
					mu.Unlock()
					break
				}
				events.Add(int64(n))
				record(own, time.Since(intended))
			}
			mu.Lock()
			total.Merge(own)
			mu.Unlock()
		})
	}
	all.Wait()
	return total, events.Load(), time.Since(begun), errors.Join(ctx.Err(), firstErr)
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

// record adds a duration; above a minute it counts as a minute.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), 1), int64(time.Minute)))
}

func quantiles(h *hdrhistogram.Histogram) string {
	q := func(p float64) time.Duration { return time.Duration(h.ValueAtQuantile(p)).Round(10 * time.Nanosecond) }
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, max %v", q(50), q(99), q(99.9), time.Duration(h.Max()))
}

// benchServer is a server as a process of its own.
type benchServer struct {
	cmd      *exec.Cmd
	dir      string
	url, udp string
	client   *client
}

func startBenchServer(ctx context.Context) (*benchServer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wasmeval-bench-")
	if err != nil {
		return nil, err
	}
	s := &benchServer{dir: dir}
	s.cmd = exec.CommandContext(ctx, exe, "serve", "--data-dir", dir, "--http", "127.0.0.1:0", "--udp",
		"127.0.0.1:0", "--log-level", "error")
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	lines := bufio.NewScanner(out)
	for (s.url == "" || s.udp == "") && lines.Scan() {
		switch what, addr, _ := strings.Cut(lines.Text(), " "); what {
		case "http":
			s.url = addr
		case "udp":
			s.udp = addr
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if s.client, err = newClient(s.url, "", dir); err != nil || s.udp == "" {
		s.kill()
		return nil, errors.Join(errors.New("the server did not start"), err)
	}
	return s, nil
}

func (s *benchServer) push(ctx context.Context, file string) error {
	code, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read module %q: %w", file, err)
	}
	_, err = s.client.json(ctx, call{method: "PUT", path: "/v1/rules/bench", contentType: "application/wasm",
		body: code}, nil)
	return err
}

// stop ends the server as a user would and returns the CPU time that it used.
func (s *benchServer) stop() (time.Duration, error) {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	if err := s.cmd.Wait(); err != nil {
		return 0, fmt.Errorf("the server failed: %w", err)
	}
	return s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime(), nil
}

// kill ends the server if it still runs, and removes its folder.
func (s *benchServer) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

func newBenchBus() *cobra.Command {
	var length time.Duration
	var producers int
	cmd := &cobra.Command{
		Use: "bus", Short: "Hold the ring against Go channels, in one run", Args: cobra.NoArgs,
		Long: `Producers offer messages of 200 bytes, one in 100 of 4 KiB, at several rates to one consumer, by the
ring, an unbuffered channel, a buffered channel and a channel of slices. Each message carries the
time at which it was meant to be sent; the latency counts from then.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(w, "offered/s\tqueue\tachieved/s\tCPU ns/msg\tp50\tp99\tp99.9\tmax\t")
			for _, rate := range []float64{100_000, 500_000, 1_000_000, 0} {
				for _, q := range queues {
					r, err := measure(cmd.Context(), q.make, rate, producers, length)
					if err != nil {
						return err
					}
					offered := "max"
					if rate > 0 {
						offered = fmt.Sprintf("%.0f", rate)
					}
					fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%s\t\n", offered, q.name, r.achieved, r.cpuNS,
						strings.Join(r.quantiles(), "\t"))
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().DurationVar(&length, "for", time.Second, "length of each run")
	cmd.Flags().IntVar(&producers, "producers", 2, "producers")
	return cmd
}
