package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/internal/sink"
	"wasmeval/runtime"
)

// demoRules are the examples that the demo runs: the rule's name and its module under --rules-dir.
var demoRules = []struct{ name, file string }{
	{"payment-limit", "go/examples/payment-limit/payment-limit.wasm"},
	{"geofence", "c/examples/geofence/geofence.wasm"},
	{"sensor-anomaly", "c/examples/sensor-anomaly/sensor-anomaly.wasm"},
}

func newDemo() *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the server on example rules and made-up events",
		Long: `Starts the server with three example rules (a payment limit in Go, a geofence and a sensor
anomaly in C), sends it made-up events by HTTP and UDP, and prints the verdicts. Ports 8080 and
8081 are taken if they are free.`,
		Example: `  wasmeval demo
  wasmeval demo --rate 1000 --for 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	cmd.Flags().StringVar(&d.rules, "rules-dir", "rules-sdk", "folder with the example rules")
	cmd.Flags().StringVar(&d.data, "data-dir", "data", "data folder of the server")
	cmd.Flags().IntVar(&d.rate, "rate", 20, "events a second, 1 to 100000")
	cmd.Flags().DurationVar(&d.length, "for", 0, "stop after this time; 0: run until Ctrl-C")
	return cmd
}

// demo is one run of the verb.
type demo struct {
	rules, data string
	rate        int
	length      time.Duration
	random      *rand.Rand
	n           int
}

func (d *demo) run(ctx context.Context, out io.Writer) error {
	if d.rate < 1 || d.rate > 100_000 {
		return fmt.Errorf("--rate is %d: expected 1 to 100000", d.rate)
	}
	if d.length < 0 {
		return fmt.Errorf("--for is %v: expected 0 or more", d.length)
	}
	modules, err := d.modules()
	if err != nil {
		return err
	}
	c, err := load(inputs{flags: map[string]string{
		"data-dir": d.data, "http": freePort("tcp", "127.0.0.1:8080"),
		"udp": freePort("udp", "127.0.0.1:8081"), "log-level": "warn", "time-field": "ts",
		// So that the rules have state, each for the vehicles or sensors of its events.
		"key": "type",
	}})
	if err != nil {
		return err
	}
	c.Sink = sink.Config{
		Routes: []sink.Route{{Sinks: []string{"print"}}},
		Sinks:  []sink.SinkConfig{{Name: "print", Type: sink.TypeStdout}},
	}
	if d.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.length)
		defer cancel()
	}
	d.random = rand.New(rand.NewPCG(1, 2)) // the same events in each run
	return serveWith(ctx, c, &verdictPrinter{out: out}, func(ctx context.Context, s *server) error {
		if err := d.push(ctx, s.engine, modules); err != nil {
			return err
		}
		d.hints(out, s)
		go d.generate(ctx, s)
		return nil
	})
}

// freePort is the address if it is free, else one with a port of the system's choice.
func freePort(network, addr string) string {
	if network == "udp" {
		if c, err := net.ListenPacket(network, addr); err == nil {
			_ = c.Close()
			return addr
		}
		return "127.0.0.1:0"
	}
	if l, err := net.Listen(network, addr); err == nil {
		_ = l.Close()
		return addr
	}
	return "127.0.0.1:0"
}

// modules reads the modules of demoRules.
func (d *demo) modules() ([][]byte, error) {
	modules := make([][]byte, len(demoRules))
	for i, r := range demoRules {
		name := filepath.Join(d.rules, r.file)
		var err error
		if modules[i], err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("cannot read the example rule %q: %w; expected --rules-dir to name the "+
				"folder rules-sdk of the sources", name, errors.Unwrap(err))
		}
	}
	return modules, nil
}

func (d *demo) push(ctx context.Context, e *runtime.Engine, modules [][]byte) error {
	for i, r := range demoRules {
		_, err := e.Put(ctx, runtime.RuleName(r.name), modules[i],
			runtime.PutOptions{Activate: true, By: "demo"})
		if err != nil {
			return fmt.Errorf("cannot upload %q: %w", r.name, err)
		}
	}
	return nil
}

func (d *demo) hints(out io.Writer, s *server) {
	url := "http://" + s.lis.Addr().String()
	udp := s.udp.Addr()
	fmt.Fprintf(out, `
Three example rules are at work. Try in another terminal:

  curl --json '{"type":"payment.card","amount":9500,"currency":"EUR","user":{"id":"you"}}' %s/v1/evaluate
  echo '{"type":"vehicle.position","lat":52.5,"lon":13.4,"speed_kmh":48,"vehicle":{"id":"van-9"}}' | nc -u -w1 %s %d
  curl -H "Authorization: Bearer $(cat %s/admin.token)" %s/v1/rules

Verdicts (Ctrl-C stops):
`, url, udp.IP, udp.Port, d.data, url)
}

// generate sends events at the rate until ctx ends: payments by HTTP, the others by UDP.
func (d *demo) generate(ctx context.Context, s *server) {
	udp, err := net.Dial("udp", s.udp.Addr().String())
	if err != nil {
		return // the server is stopping
	}
	defer udp.Close()
	tick := time.NewTicker(time.Second / time.Duration(d.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			text := d.event(now)
			if d.n%3 != 0 {
				_, _ = udp.Write(text) // nobody answers by UDP
				continue
			}
			resp, err := http.Post("http://"+s.lis.Addr().String()+"/v1/events", "application/json",
				bytes.NewReader(text))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
	}
}

// event makes one event; about one in twenty is one that its rule is for.
func (d *demo) event(now time.Time) []byte {
	d.n++
	r, odd := d.random, d.random.IntN(20) == 0
	ts := now.UTC().Format(time.RFC3339Nano)
	switch d.n % 3 {
	case 0:
		amount := 5 + r.ExpFloat64()*60
		if odd {
			amount += 2000
		}
		return fmt.Appendf(nil, `{"id":"p-%d","type":"payment.card","ts":%q,"amount":%.2f,"currency":"EUR",`+
			`"user":{"id":"u-%03d"}}`, d.n, ts, amount, r.IntN(200))
	case 1:
		lat, lon, speed := 48.137+r.NormFloat64()*0.05, 11.575+r.NormFloat64()*0.05, 50+r.NormFloat64()*15
		if odd {
			lat, speed = lat+0.6*float64(r.IntN(2)), speed+90
		}
		return fmt.Appendf(nil, `{"id":"f-%d","type":"vehicle.position","ts":%q,"vehicle":{"id":"van-%02d"},`+
			`"lat":%.5f,"lon":%.5f,"speed_kmh":%.1f}`, d.n, ts, r.IntN(20), lat, lon, max(speed, 0))
	}
	value := 70 + r.NormFloat64()
	if odd {
		value += 40
	}
	return fmt.Appendf(nil, `{"id":"s-%d","type":"sensor.reading","ts":%q,"sensor":"boiler-%d","value":%.2f}`,
		d.n, ts, 1+r.IntN(4), value)
}

// verdictPrinter turns verdicts, which come as whole lines of JSON, into lines for people. Other
// lines pass as they are.
type verdictPrinter struct{ out io.Writer }

func (p *verdictPrinter) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		var v struct {
			Time, Rule string
			Version    int
			Event      struct{ ID, Type string }
			Code       int
			Payload    json.RawMessage
			Error      *runtime.VerdictError
			TookUS     float64 `json:"took_us"`
		}
		if json.Unmarshal([]byte(line), &v) != nil || v.Rule == "" {
			if _, err := io.WriteString(p.out, line); err != nil {
				return 0, err
			}
			continue
		}
		said := fmt.Sprintf("code %d %s", v.Code, v.Payload)
		if v.Error != nil {
			said = v.Error.Error()
		}
		if _, err := fmt.Fprintf(p.out, "%s  %s v%d  %s %s  %s  (%.1f µs)\n", v.Time[11:23], v.Rule,
			v.Version, v.Event.Type, v.Event.ID, said, v.TookUS); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
