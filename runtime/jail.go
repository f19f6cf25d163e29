package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"

	"wasmeval/runtime/meter"
)

// CompileLimits bound what compiling a module may cost. Compiling cannot be cancelled, and takes
// time and memory out of all proportion to some modules: 33 KB are enough for more than a minute,
// 300 KB for gigabytes. So it is done in a child process, one at a time, which has these limits.
type CompileLimits struct {
	DataBytes int           // memory of the child, beyond what the empty program has
	CPU       time.Duration // rounded up to seconds; a tenth of it for loading the result
	Wall      time.Duration // also how long a module waits for its turn
	Queue     int           // modules that wait for their turn
	CodeBytes int           // of one compiled module

	CacheBytes int // of all compiled modules that are kept for the next time
}

// CompileVerb is the argument by which CompileCommand makes a program call CompileChild.
const CompileVerb = "compile-child"

// childNice is how much the child yields to the server, which has events to evaluate.
const childNice = 10

// jail compiles modules one at a time: in a child process, or without a command in this process and
// without limits. All methods may be called from any goroutine.
type jail struct {
	command []string // the program that calls CompileChild with what follows its own arguments
	limits  *CompileLimits
	guests  *Limits // for making an instance ready

	turn    chan struct{} // has one element while a module has its turn
	waiting atomic.Int32
	closing context.Context // ends when the jail closes
	stop    context.CancelFunc
	closed  sync.Once
}

func newJail(command []string, limits *Limits) *jail {
	j := &jail{command: command, limits: &limits.Compile, guests: limits, turn: make(chan struct{}, 1)}
	j.closing, j.stop = context.WithCancel(context.Background())
	return j
}

// close ends what is being compiled and whoever waits, and returns when nobody has a turn any more.
// It may be called more than once.
func (j *jail) close() {
	j.closed.Do(func() {
		j.stop()
		j.turn <- struct{}{} // for good
	})
}

// enter waits for a turn, at most as long as a turn may take. The caller must call leave.
func (j *jail) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case j.turn <- struct{}{}:
		return j.entered()
	default:
	}
	defer j.waiting.Add(-1)
	if j.waiting.Add(1) > int32(j.limits.Queue) {
		return errorf(Busy, "%d modules wait already to be compiled", j.limits.Queue)
	}
	timer := time.NewTimer(j.limits.Wall)
	defer timer.Stop()
	select {
	case j.turn <- struct{}{}:
		return j.entered()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errorf(Busy, "other modules have been compiled for %v", j.limits.Wall)
	case <-j.closing.Done():
		return errStopping()
	}
}

func (j *jail) entered() error {
	if j.closing.Err() != nil {
		j.leave()
		return errStopping()
	}
	return nil
}

func errStopping() error { return errorf(ShuttingDown, "the server is stopping") }

// leave ends a turn.
func (j *jail) leave() { <-j.turn }

// childOrder is what the child is to do: the module's bytes come by its standard input, and it
// works in its current folder.
type childOrder struct {
	ModuleBytes int `json:"module_bytes"`
	DataBytes   int `json:"data_bytes"`
	CPUSeconds  int `json:"cpu_seconds"`
	CodeBytes   int `json:"code_bytes"`

	// Making an instance ready may take so long, within the limits of guests.
	Ready  time.Duration `json:"ready"`
	Guests Limits        `json:"guests"`
	Pages  uint32        `json:"pages"` // of memory, at most, by the module
}

// The exit codes of the child. Why, stands on its standard output, where that is not clear.
const (
	childDone     = 0
	childRefused  = 10 // the module is not valid
	childTooLarge = 11 // the compiled module is larger than CodeBytes
	childTooLong  = 12 // it takes more than CPU, or loading it more than a tenth of that
	childFailed   = 13 // it is not the module's fault
	childUnready  = 14 // an instance of it does not get ready
)

// run compiles code, whose memory may have so many pages, and leaves the result as the one entry of a
// wazero cache in dir. The caller has the turn. However compiling ends, the child is gone when run returns.
func (j *jail) run(ctx context.Context, dir string, code []byte, pages uint32) error {
	if len(j.command) == 0 {
		return j.verdict(compileInto(ctx, dir, code))
	}
	// The child is killed when the thread that made it ends, so that thread must stay.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	limited, cancel := context.WithTimeout(ctx, j.limits.Wall)
	defer cancel()
	defer context.AfterFunc(j.closing, cancel)()
	answer, complaint := &head{most: 2 << 10}, &head{most: 16 << 10}
	child, err := j.child(limited, dir, code, pages)
	if err != nil {
		return err
	}
	child.Stdin, child.Stdout, child.Stderr = bytes.NewReader(code), answer, complaint
	err = child.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case j.closing.Err() != nil:
		return errStopping()
	case limited.Err() != nil:
		return tooDear("it takes longer than %v", j.limits.Wall)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("cannot run the compiler %q: %w", j.command[0], err)
	}
	switch code := exit.ExitCode(); code {
	case childRefused, childTooLarge, childTooLong, childFailed, childUnready:
		return j.verdict(code, string(answer.text))
	}
	return j.crash(exit, string(complaint.text))
}

// child makes the command, which ends with ctx.
func (j *jail) child(ctx context.Context, dir string, code []byte, pages uint32) (*exec.Cmd, error) {
	order, err := json.Marshal(childOrder{
		ModuleBytes: len(code), DataBytes: j.limits.DataBytes,
		CPUSeconds: j.limits.cpuSeconds(), CodeBytes: j.limits.CodeBytes,
		Ready: mostReady, Guests: *j.guests, Pages: pages,
	})
	if err != nil {
		return nil, err
	}
	args := append(j.command[1:len(j.command):len(j.command)], string(order))
	child := exec.CommandContext(ctx, j.command[0], args...)
	child.Dir = dir
	child.SysProcAttr = childAttributes()
	child.Env = []string{
		"GOMAXPROCS=1",
		// The collector works harder before the memory comes to an end.
		fmt.Sprintf("GOMEMLIMIT=%d", j.limits.DataBytes/4*3),
		"GOTRACEBACK=none",
		// The race detector, if it is there, would wait a second before the end.
		"GORACE=atexit_sleep_ms=0",
		// It can hide features of the processor, on which the child must agree with this process.
		"GODEBUG=" + os.Getenv("GODEBUG"),
	}
	child.WaitDelay = time.Second // for the pipes, of which the child has the only other ends
	return child, nil
}

func (l *CompileLimits) cpuSeconds() int { return int((l.CPU + time.Second - 1) / time.Second) }

// verdict is the error that an exit code of the child stands for.
func (j *jail) verdict(code int, text string) error {
	switch code {
	case childDone:
		return nil
	case childRefused:
		return refused(fmt.Errorf("it is not valid WebAssembly: %s", text))
	case childUnready:
		return refused(errors.New(text))
	case childTooLarge:
		return tooDear("the result has more than %d bytes", j.limits.CodeBytes)
	case childTooLong:
		if text != "" {
			return tooDear("%s", text)
		}
		return tooDear("it takes more than %d s of CPU time", j.limits.cpuSeconds())
	}
	return fmt.Errorf("cannot compile: %s", text)
}

// crash is the error for a child that ended without saying why.
func (j *jail) crash(exit *exec.ExitError, complaint string) error {
	if outOfMemory(complaint) {
		return tooDear("it takes more than %d bytes of memory", j.limits.DataBytes)
	}
	how := exit.String()
	if line := lastWords(complaint); line != "" {
		how += ": " + line
	}
	return tooDear("the compiler ended with %s", how)
}

func tooDear(format string, args ...any) error {
	return refused(fmt.Errorf("it cannot be compiled: "+format, args...))
}

// outOfMemory reports whether Go or wazero died for want of memory.
func outOfMemory(complaint string) bool {
	for _, s := range []string{"out of memory", "cannot allocate", "failed to allocate",
		"cannot map pages", "failed to create new OS thread", "pthread_create failed"} {
		if strings.Contains(complaint, s) {
			return true
		}
	}
	return false
}

// lastWords is the line of a crashed program that says most: Go begins with it, or with details
// before it.
func lastWords(complaint string) string {
	words := ""
	for line := range strings.Lines(complaint) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "panic: ") {
			words = line
			break
		}
		if words == "" {
			words = line
		}
	}
	return strings.ToValidUTF8(words[:min(len(words), 200)], "")
}

// head is a writer that keeps the first bytes and drops the others.
type head struct {
	text []byte
	most int
}

// Write keeps what there is room for.
func (h *head) Write(b []byte) (int, error) {
	h.text = append(h.text, b[:min(len(b), h.most-len(h.text))]...)
	return len(b), nil
}

// CompileChild is the child process: it limits itself, reads a module from in, and leaves the
// compiled module in the current folder. The one argument comes from the process that started it.
// What went wrong is written to out; the result is the exit code.
func CompileChild(args []string, in io.Reader, out io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(out, err)
		return childFailed
	}
	if len(args) != 1 {
		return fail(errors.New("this is a part of the server, not for use by hand"))
	}
	var order childOrder
	if err := json.Unmarshal([]byte(args[0]), &order); err != nil {
		return fail(fmt.Errorf("cannot read the order %q: %w", args[0], err))
	}
	if err := confine(&order); err != nil {
		return fail(fmt.Errorf("cannot set the limits: %w", err))
	}
	code := make([]byte, order.ModuleBytes)
	if _, err := io.ReadFull(in, code); err != nil {
		return fail(fmt.Errorf("cannot read the module: %w", err))
	}
	ctx := context.Background()
	result, text := compileInto(ctx, ".", code)
	if result == childDone {
		result, text = loadFrom(ctx, ".", &order, code)
	}
	_, _ = io.WriteString(out, text) // nobody is left to tell it to
	return result
}

// loadFrom loads what was compiled, as the server will do. wazero validates a module each time, and
// some take it long for what they are; the server may spend a tenth of CPU on it.
func loadFrom(ctx context.Context, dir string, order *childOrder, code []byte) (int, string) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return childFailed, err.Error()
	}
	wasm := newWasm(ctx, cache)
	most := time.Duration(order.CPUSeconds) * time.Second / 10
	begun := usedCPU()
	compiled, err := loadCompiled(ctx, wasm, code)
	if err != nil {
		return childFailed, "cannot load what was compiled: " + err.Error()
	}
	if usedCPU()-begun > most {
		return childTooLong, fmt.Sprintf("loading it takes more than %v of CPU time", most)
	}
	return readyFrom(ctx, wasm, compiled, order)
}

// mostReady is how long it may take to make an instance ready: after a failure a worker may have to
// wait for that.
const mostReady = 5 * time.Millisecond

// readyFrom makes instances ready as the server will do it, apart from their parameters, and judges
// the module by the quickest of three: the others had more to do with this machine.
func readyFrom(ctx context.Context, wasm wazero.Runtime, compiled wazero.CompiledModule,
	order *childOrder) (int, string) {
	if err := instantiateHost(ctx, wasm); err != nil {
		return childFailed, err.Error()
	}
	p := programs{wasm: wasm, limits: &order.Guests}
	best := time.Duration(math.MaxInt64)
	for range 3 {
		in, err := p.open(ctx, &program{compiled: compiled, symbols: &meter.Symbols{},
			pages: order.Pages}, nil)
		if err != nil {
			return childUnready, err.Error()
		}
		begun := usedCPU()
		err = in.listen(func() error {
			if err := in.prepare(nil); err != nil {
				return err
			}
			_, err := in.manifest()
			return err
		})
		best = min(best, usedCPU()-begun)
		in.close()
		if err != nil {
			return childUnready, err.Error()
		}
	}
	if best > order.Ready {
		return childUnready, fmt.Sprintf("an instance takes %v to get ready: expected at most %v",
			best.Round(time.Microsecond), order.Ready)
	}
	return childDone, ""
}

// compileInto compiles code into a wazero cache in dir. It returns an exit code of the child and
// what went wrong.
func compileInto(ctx context.Context, dir string, code []byte) (int, string) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return childFailed, err.Error()
	}
	defer func() { _ = cache.Close(ctx) }()
	wasm := newWasm(ctx, cache)
	defer func() { _ = wasm.Close(ctx) }()
	_, err = wasm.CompileModule(ctx, code)
	var path *fs.PathError
	switch {
	case err == nil:
		return childDone, ""
	case errors.Is(err, syscall.EFBIG):
		return childTooLarge, ""
	case errors.As(err, &path):
		return childFailed, err.Error()
	}
	return childRefused, err.Error()
}
