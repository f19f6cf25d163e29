package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const startTimeout = 30 * time.Second

// demoRules are the examples that the demo pushes, each in a folder of its name.
var demoRules = []string{"payment-limit", "geofence", "sensor-anomaly"}

type demo struct {
	rulesDir, dataDir string
	rate              float64
	length            time.Duration
	seed              uint64
	out               io.Writer

	server *localServer
	client *client
	udp    net.Conn
}

func newDemo() *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a server with example rules and made-up events, and show its verdicts",
		Example: `  wasmeval demo
  wasmeval demo --rate 2000 --for 30s
  wasmeval demo --data-dir ./data        keep the rules for ` + "`wasmeval serve`",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.rate <= 0 || d.rate > 1e6 || d.length < 0 {
				return errors.New("expected --rate above 0 and --for of 0 or more")
			}
			d.out = &lockedWriter{w: cmd.OutOrStdout()}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return d.run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.rulesDir, "rules-dir", "rules-sdk", "folder with the examples")
	f.StringVar(&d.dataDir, "data-dir", "", "data folder; empty: one that is removed afterwards")
	f.Float64Var(&d.rate, "rate", 20, "events a second")
	f.DurationVar(&d.length, "for", 0, "how long to run; 0: until interrupted")
	f.Uint64Var(&d.seed, "seed", 1, "seed of the events: the same one makes the same events")
	return cmd
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.dataDir == "" {
		dir, err := os.MkdirTemp("", "wasmeval-demo-")
		if err != nil {
			return fmt.Errorf("cannot make a data folder: %w", err)
		}
		defer os.RemoveAll(dir)
		d.dataDir = dir
	}
	c, err := load(inputs{flags: map[string]string{
		"http": freeAddress("tcp", "127.0.0.1:8080"), "udp": freeAddress("udp", "127.0.0.1:8081"),
		"data-dir": d.dataDir, "key": "key", "log-level": "warn",
	}})
	if err != nil {
		return err
	}
	if d.server, err = startLocal(ctx, c, d.out); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.server.stop()) }()
	if d.client, err = newClient(d.server.http, "", d.dataDir); err != nil {
		return err
	}
	if d.udp, err = net.Dial("udp", d.server.udp); err != nil {
		return fmt.Errorf("cannot send to %q: %w", d.server.udp, err)
	}
	defer d.udp.Close()
	for _, name := range demoRules {
		if err := pushExample(ctx, d.client, d.rulesDir, name); err != nil {
			return err
		}
	}
	d.greet()
	if d.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.length)
		defer cancel()
	}
	return d.stream(ctx)
}

// stream shows verdicts and makes events until ctx ends.
func (d *demo) stream(ctx context.Context) error {
	tailCtx, endTail := context.WithCancel(ctx)
	tail := &tailReader{client: d.client, query: url.Values{}, notice: func(string) {},
		verdict: func(data []byte) error { return showVerdict(d.out, data, false) }}
	var watching sync.WaitGroup
	watching.Go(func() { _ = tail.run(tailCtx) }) // without it the demo is dull but not broken
	err := d.generate(ctx)
	endTail()
	watching.Wait()
	return err
}

func (d *demo) generate(ctx context.Context) error {
	make := newGenerator(d.seed)
	start, sent := time.Now(), 0
	for {
		due := start.Add(time.Duration(float64(sent) / d.rate * float64(time.Second)))
		if !pause(ctx, time.Until(due)) {
			fmt.Fprintf(d.out, "\n%d events sent\n", sent)
			return nil
		}
		event, byUDP := make.next()
		if byUDP {
			if _, err := d.udp.Write(event); err != nil {
				return fmt.Errorf("cannot send to %q: %w", d.server.udp, err)
			}
		} else if _, err := d.client.do(ctx, call{method: http.MethodPost, path: "/v1/events",
			contentType: "application/json", body: event}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("cannot send an event: %w", err)
		}
		sent++
	}
}

func (d *demo) greet() {
	host, port, _ := net.SplitHostPort(d.server.udp) // the server printed it
	token := fmt.Sprintf(`-H "Authorization: Bearer $(cat %s)"`, filepath.Join(d.dataDir, tokenFile))
	fmt.Fprintf(d.out, `
HTTP %s   UDP %s   data %s
Three things to try in another terminal:

  curl %s/v1/events -H 'Content-Type: application/json' -d '%s'
  echo '%s' | nc -u -w1 %s %s
  curl %s/v1/rules %s

`, d.server.http, d.server.udp, d.dataDir, d.server.http,
		`{"type":"payment.card","key":"you","amount":99999,"currency":"EUR","user":{"id":"you"}}`,
		`{"type":"vehicle.position","key":"you","lat":52.52,"lon":13.4,"speed_kmh":80}`,
		host, port, d.server.http, token)
}

// pushExample uploads the module of an example.
func pushExample(ctx context.Context, c *client, dir, name string) error {
	pattern := filepath.Join(dir, "*", "examples", name, name+".wasm")
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("there is no %q: expected --rules-dir with the examples", pattern)
	}
	wasm, err := os.ReadFile(files[0])
	if err != nil {
		return fmt.Errorf("cannot read module %q: %w", files[0], errors.Unwrap(err))
	}
	_, err = c.do(ctx, call{method: http.MethodPut, path: rulePath(name),
		contentType: "application/wasm", body: wasm})
	if err != nil {
		return fmt.Errorf("cannot push rule %q: %w", name, err)
	}
	return nil
}

// generator makes events that look like those of a shop, a fleet and a plant.
type generator struct {
	rand  *rand.Rand
	made  int
	fleet [8]struct{ lat, lon, speed float64 }
}

func newGenerator(seed uint64) *generator {
	g := &generator{rand: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
	for i := range g.fleet {
		v := &g.fleet[i]
		v.lat, v.lon = 48.137+g.rand.NormFloat64()*0.1, 11.575+g.rand.NormFloat64()*0.15
		v.speed = 60
	}
	return g
}

// next returns an event, and whether it is one that comes by UDP.
func (g *generator) next() (event []byte, byUDP bool) {
	g.made++
	switch g.made % 3 {
	case 0:
		return g.payment(), false
	case 1:
		return g.vehicle(), true
	default:
		return g.sensor(), g.made%2 == 0
	}
}

func (g *generator) payment() []byte {
	user := fmt.Sprintf("user-%d", g.rand.IntN(500))
	amount := 5 + g.rand.ExpFloat64()*150
	currency := [...]string{"EUR", "EUR", "EUR", "USD", "CHF"}[g.rand.IntN(5)]
	kind := [...]string{"card", "card", "transfer"}[g.rand.IntN(3)]
	return fmt.Appendf(nil, `{"id":"p-%d","type":"payment.%s","key":%q,"user":{"id":%q},`+
		`"amount":%.2f,"currency":%q}`, g.made, kind, user, user, amount, currency)
}

func (g *generator) vehicle() []byte {
	n := g.rand.IntN(len(g.fleet))
	v := &g.fleet[n]
	v.lat += g.rand.NormFloat64() * 0.01
	v.lon += g.rand.NormFloat64() * 0.015
	v.speed = min(150, max(0, v.speed+g.rand.NormFloat64()*15))
	return fmt.Appendf(nil, `{"id":"v-%d","type":"vehicle.position","key":"truck-%d",`+
		`"lat":%.5f,"lon":%.5f,"speed_kmh":%.1f}`, g.made, n, v.lat, v.lon, v.speed)
}

func (g *generator) sensor() []byte {
	n := g.rand.IntN(12)
	value := 20 + float64(n) + g.rand.NormFloat64()*0.3
	if g.rand.IntN(40) == 0 {
		value += 15
	}
	return fmt.Appendf(nil, `{"id":"s-%d","type":"sensor.reading","key":"sensor-%d",`+
		`"sensor":"sensor-%d","value":%.2f,"unit":"C"}`, g.made, n, n, value)
}

// freeAddress returns the address if it is free, and else one with port 0, for which the system
// chooses. Between this and the server's own bind somebody may take it; then serve says so.
func freeAddress(network, address string) string {
	var free io.Closer
	var err error
	if network == "udp" {
		free, err = net.ListenPacket(network, address)
	} else {
		free, err = net.Listen(network, address)
	}
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = free.Close() // it was never used
	return address
}

// localServer is a server that this process started in itself.
type localServer struct {
	http, udp string
	stop      func() error // ends it and returns what serve returned; once
}

// startLocal starts serve and returns when it is ready. What serve prints goes to out, but for the
// lines with its addresses.
func startLocal(ctx context.Context, c *Config, out io.Writer) (*localServer, error) {
	// The server lives until stop, not until ctx ends: it takes the last events first.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, c, w)
		_ = w.Close() // a pipe's Close has no error
		ended <- err
	}()
	s := &localServer{stop: func() error { cancel(); return <-ended }}
	var err error
	if s.http, s.udp, err = awaitReady(ctx, r, out, c.Listen.UDP != ""); err != nil {
		cancel()
		if cause := <-ended; cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	return s, nil
}

// awaitReady reads what serve prints until it has the addresses, waits until the server answers,
// and goes on to copy the rest to out.
func awaitReady(ctx context.Context, r io.Reader, out io.Writer, wantUDP bool) (
	httpURL, udp string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	found := make(chan [2]string, 1)
	go func() {
		// Reading never ends before the server does, or the server would hang on its own output.
		var http, udp string
		lines, told := bufio.NewReader(r), false
		for {
			line, err := lines.ReadString('\n')
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch {
			case word == "http" && http == "":
				http = rest
			case word == "udp" && udp == "":
				udp = rest
			case line != "":
				fmt.Fprintln(out, strings.TrimRight(line, "\n"))
			}
			if !told && http != "" && (udp != "" || !wantUDP) || err != nil && !told {
				told = true
				found <- [2]string{http, udp}
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case addresses := <-found:
		httpURL, udp = addresses[0], addresses[1]
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
	if httpURL == "" || udp == "" && wantUDP {
		return "", "", errors.New("it ended before it said where it listens")
	}
	return httpURL, udp, awaitAnswer(ctx, httpURL+"/readyz")
}

// awaitAnswer asks until it gets a 200 or ctx ends.
func awaitAnswer(ctx context.Context, url string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close() // nothing of it was read
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s answers %s", url, resp.Status)
		}
		if !pause(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// lockedWriter keeps the lines of several goroutines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes p in one piece.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
