package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// benchServer is a server under load, as a process of its own: wasmeval, or a floor.
type benchServer struct {
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the process is gone
	exit     error         // of the process, once it is gone
	dir      string        // data folder of a wasmeval
	url, udp string
	client   *client // of a wasmeval

	// Of a floor, which prints a line with its count for each line that it gets.
	ask   io.WriteCloser
	lines *bufio.Scanner
}

// tally is what a server counted, as the ledger has it.
type tally struct {
	Received, Evaluated uint64
	InFlight            uint64 `json:"in_flight"`
	Dropped             map[string]uint64
	Difference          int64

	counts bool // false: of a server that does not count
}

func (t *tally) dropped() (sum uint64) {
	for _, n := range t.Dropped {
		sum += n
	}
	return sum
}

// startServer starts a wasmeval with a fresh data folder; args are flags of serve.
func startServer(ctx context.Context, args ...string) (*benchServer, error) {
	dir, err := os.MkdirTemp("", "wasmeval-bench-")
	if err != nil {
		return nil, err
	}
	s := &benchServer{dir: dir}
	if err := s.restart(ctx, args...); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// restart starts a wasmeval on the data folder of the last one, which has ended.
func (s *benchServer) restart(ctx context.Context, args ...string) error {
	args = append([]string{"serve", "--data-dir", s.dir, "--http", "127.0.0.1:0", "--udp",
		"127.0.0.1:0", "--log-level", "error"}, args...)
	if err := s.start(ctx, args, 2); err != nil {
		return err
	}
	go func() {
		for s.lines.Scan() { // a server that prints must not have to wait
		}
	}()
	var err error
	s.client, err = newClient(s.url, "", s.dir)
	return err
}

// startFloor starts a floor server, which ends when its input does.
func startFloor(ctx context.Context, args ...string) (*benchServer, error) {
	s := &benchServer{}
	if err := s.start(ctx, append([]string{"bench"}, args...), 1); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// start starts this program and reads as many addresses as it prints.
func (s *benchServer) start(ctx context.Context, args []string, addresses int) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	s.cmd = exec.CommandContext(ctx, exe, args...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.ask, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err = s.begin(); err != nil {
		return err
	}
	s.lines = bufio.NewScanner(out)
	for range addresses {
		if !s.lines.Scan() {
			return fmt.Errorf("the server %q did not start", args[0])
		}
		switch what, addr, _ := strings.Cut(s.lines.Text(), " "); what {
		case "http":
			s.url = addr
		case "udp":
			s.udp = addr
		}
	}
	return nil
}

// begin starts the process, and waits for its end. On Linux it is killed when the thread that made it
// ends, so that thread stays until then.
func (s *benchServer) begin() error {
	s.cmd.SysProcAttr = benchAttributes()
	s.ended = make(chan struct{})
	started := make(chan error, 1)
	go func() {
		defer close(s.ended)
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.exit = s.cmd.Wait()
		}
	}()
	return <-started
}

// tally asks the server for its counts.
func (s *benchServer) tally(ctx context.Context) (*tally, error) {
	t := &tally{counts: true}
	if s.client != nil {
		_, err := s.client.get(ctx, "/v1/ledger", nil, t)
		return t, err
	}
	if s.udp == "" {
		return &tally{}, nil
	}
	if _, err := io.WriteString(s.ask, "?\n"); err != nil {
		return nil, err
	}
	if !s.lines.Scan() {
		return nil, errors.New("the floor server has ended")
	}
	_, err := fmt.Sscan(s.lines.Text(), &t.Received)
	t.Evaluated = t.Received
	return t, err
}

// settled waits until the server has counted as many events as it was sent, or counts no more, and
// has evaluated them all.
func (s *benchServer) settled(ctx context.Context, sent uint64) (*tally, error) {
	const quiet = 100 * time.Millisecond
	last, changed := uint64(0), time.Now()
	for {
		t, err := s.tally(ctx)
		if err != nil || !t.counts || t.InFlight == 0 && t.Received >= sent {
			return t, err
		}
		if now := t.Received + t.Evaluated; now != last {
			last, changed = now, time.Now()
		}
		if t.InFlight == 0 && time.Since(changed) > quiet {
			return t, nil
		}
		if time.Since(changed) > 30*time.Second {
			return nil, fmt.Errorf("the server has %d events in flight and evaluates none", t.InFlight)
		}
		if !pause(ctx, 2*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}

// cpu is the CPU time that the server has used.
func (s *benchServer) cpu() (time.Duration, error) { return cpuOf(s.cmd.Process.Pid) }

// push uploads a module as a rule and activates it.
func (s *benchServer) push(ctx context.Context, rule string, code []byte) error {
	_, err := s.client.json(ctx, call{method: "PUT", path: "/v1/rules/" + rule,
		contentType: "application/wasm", body: code}, nil)
	return err
}

// stop ends the server as a user would; what it leaves behind stays for restart.
func (s *benchServer) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if <-s.ended; s.exit != nil {
		return fmt.Errorf("the server failed: %w", s.exit)
	}
	return nil
}

// kill ends the server if it still runs, and removes its folder.
func (s *benchServer) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// newFloorHTTP is the floor of events by POST: what net/http alone costs.
func newFloorHTTP() *cobra.Command {
	return &cobra.Command{
		Use: "floor-http", Short: "Read bodies and answer 202", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusAccepted)
				})}
			fmt.Fprintf(cmd.OutOrStdout(), "http http://%s\n", l.Addr())
			go func() {
				_, _ = io.Copy(io.Discard, cmd.InOrStdin())
				_ = srv.Close()
			}()
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
}

// newFloorUDP is the floor of events by UDP: a loop that reads and counts.
func newFloorUDP() *cobra.Command {
	var join bool
	cmd := &cobra.Command{
		Use: "floor-udp", Short: "Read datagrams and count them", Hidden: true, Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&join, "join", false, "let the kernel join datagrams")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := setUDP(conn, 8*mib, join); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "udp %s\n", conn.LocalAddr())
		var count atomic.Uint64
		go countDatagrams(conn, join, &count)
		for lines := bufio.NewScanner(cmd.InOrStdin()); lines.Scan(); {
			fmt.Fprintln(cmd.OutOrStdout(), count.Load())
		}
		return nil
	}
	return cmd
}

// countDatagrams counts until the socket is closed.
func countDatagrams(conn *net.UDPConn, join bool, count *atomic.Uint64) {
	buf, oob := make([]byte, 64*kib), []byte(nil)
	if join {
		oob = make([]byte, 64)
	}
	for {
		n, oobn, _, _, err := conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return
		}
		datagrams := 1
		if size := segmentOf(oob[:oobn]); size > 0 {
			datagrams = (n + size - 1) / size
		}
		count.Add(uint64(datagrams))
	}
}
