package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"wasmeval/internal/event"
	"wasmeval/runtime/meter"
)

// instance is a program instantiated for one worker. Nothing of it may be used by two goroutines.
type instance struct {
	limits  *Limits
	prog    *program
	mod     api.Module
	mem     api.Memory
	memory  *guestMemory        // what mem is a view of
	globals []api.MutableGlobal // as prog.globals
	fuel    api.MutableGlobal   // fuel that is left of the slice; below 0 once used up
	depth   api.MutableGlobal   // depth that is left; below 0 once exhausted

	fullDepth uint64 // of an instance that runs nothing

	inputFn, configure, evaluate api.Function

	ctx    context.Context // carries the instance to the host functions
	stack  [2]uint64
	place  uint32 // what wasmeval_input gave last
	placed uint32 // and how many bytes that has
	copies bool   // the host could not show it columns, so they are copied

	// Of the run that is going on:
	budget  uint64
	reserve uint64  // what is left of it beside fuel
	slicer  *slicer // of the worker that runs it, or nil
	placing uint64  // fuel that a place for the batch took
	rows    int
	codes   []byte // of the verdicts, four bytes each, in the guest's memory
	tally   tally  // of them
	emitted bool   // there are payloads; else emits is of another call
	emits   []span // for each row, its payload in out; empty if it has none
	out     []byte
	refused int // payloads that were too large
	cut     int // log lines that were too long
	clock   int64
	keeper  *keeper // of the rule's keyed state, or nil

	random  uint64
	scanner *event.Scanner               // for payloads; see checker
	line    [2][]byte                    // of standard output and error, until its newline
	over    [2]bool                      // and whether it was too long
	log     func(level int, text string) // nil: nobody wants it
}

// instantiate makes an instance that is ready to evaluate, from the snapshot if that is not nil; else
// it is made ready, within a budget of fuel.
func (p *programs) instantiate(ctx context.Context, prog *program, params []byte, snap *snapshot,
	log func(int, string)) (*instance, error) {
	in, err := p.open(ctx, prog, log)
	if err != nil {
		return nil, err
	}
	if snap != nil {
		if in.restore(snap) {
			return in, nil
		}
		in.close()
		return nil, errors.New("cannot restore the snapshot of an instance")
	}
	if err := in.listen(func() error { return in.prepare(params) }); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// listen runs what may end in a refusal, and adds to its error what the guest said of it: the first
// of its gravest lines.
func (in *instance) listen(run func() error) error {
	log, said, grave := in.log, "", -1
	defer func() { in.log = log }()
	in.log = func(level int, text string) {
		if level > grave {
			said, grave = text, level
		}
		if log != nil {
			log(level, text)
		}
	}
	err := run()
	if err != nil && said != "" {
		err = fmt.Errorf("%w; the rule logged %.300q", err, said)
	}
	return err
}

// open makes an instance that is not ready yet.
func (p *programs) open(ctx context.Context, prog *program, log func(int, string)) (*instance, error) {
	in := &instance{limits: p.limits, prog: prog, log: log, random: 1}
	in.ctx = context.WithValue(context.Background(), instanceKey{}, in)
	if err := in.open(ctx, p.wasm); err != nil {
		return nil, fmt.Errorf("cannot instantiate it: %w", firstLine(err))
	}
	return in, nil
}

// open instantiates the program, and finds what the host needs of it once and for all: an export is
// expensive to look up.
func (in *instance) open(ctx context.Context, wasm wazero.Runtime) (err error) {
	declared := uint64(in.prog.pages) * wasmPage
	in.memory, err = newGuestMemory(memoryState{in: in, declared: declared,
		most: min(declared, uint64(in.limits.Module.MemoryPages)*wasmPage)})
	if err != nil {
		return err
	}
	ctx = experimental.WithMemoryAllocator(context.WithValue(ctx, instanceKey{}, in),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return in.memory }))
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	if in.mod, err = wasm.InstantiateModule(ctx, in.prog.compiled, config); err != nil {
		in.memory.Free()
		return err
	}
	in.mem = in.mod.ExportedMemory("memory")
	global := func(name string) api.MutableGlobal {
		return in.mod.ExportedGlobal(name).(api.MutableGlobal)
	}
	in.fuel, in.depth = global(meter.FuelExport), global(meter.DepthExport)
	for _, g := range in.prog.globals {
		in.globals = append(in.globals, global(g.Export))
	}
	in.fullDepth = in.depth.Get()
	in.inputFn = in.mod.ExportedFunction("wasmeval_input")
	in.configure = in.mod.ExportedFunction("wasmeval_configure")
	in.evaluate = in.mod.ExportedFunction("wasmeval_evaluate")
	return nil
}

// prepare calls what makes an instance ready, with one budget of fuel for all of it. How long it takes
// up to the parameters was seen when the module was compiled.
func (in *instance) prepare(params []byte) error {
	in.grant(in.limits.InitFuel)
	if f := in.mod.ExportedFunction("_initialize"); f != nil {
		if err := in.call(f); err != nil {
			return fmt.Errorf("_initialize failed: %w", err)
		}
	}
	if err := in.call(in.mod.ExportedFunction("wasmeval_abi")); err != nil {
		return fmt.Errorf("wasmeval_abi failed: %w", err)
	}
	if v := uint32(in.stack[0]); v != abiVersion {
		return fmt.Errorf("wasmeval_abi returned %d: expected %d", v, abiVersion)
	}
	if params == nil || in.configure == nil {
		return nil
	}
	// The manifest comes first in the order of calls; some SDKs build their state in it.
	if _, err := in.manifest(); err != nil {
		return err
	}
	b, err := in.input(len(params))
	if err != nil {
		return err
	}
	copy(b, params)
	in.stack = [2]uint64{uint64(in.place), uint64(len(params))}
	if err := in.call(in.configure); err != nil {
		return fmt.Errorf("wasmeval_configure failed: %w", err)
	}
	if v := uint32(in.stack[0]); v != 0 {
		return fmt.Errorf("wasmeval_configure returned %d: expected 0; params were %s", v, params)
	}
	return nil
}

// manifest returns a view of the manifest's text.
func (in *instance) manifest() ([]byte, error) {
	if err := in.call(in.mod.ExportedFunction("wasmeval_manifest")); err != nil {
		return nil, fmt.Errorf("wasmeval_manifest failed: %w", err)
	}
	ptr, n := uint32(in.stack[0]>>32), uint32(in.stack[0])
	if int64(n) > int64(in.limits.ManifestBytes) {
		return nil, fmt.Errorf("the manifest has %d bytes: expected at most %d",
			n, in.limits.ManifestBytes)
	}
	b, ok := in.mem.Read(ptr, n)
	if !ok {
		return nil, fmt.Errorf("wasmeval_manifest returned pointer %d and length %d, which is outside "+
			"of memory (%d bytes)", ptr, n, in.mem.Size())
	}
	return b, nil
}

// input returns a view of a place in the guest's memory for size bytes. It asks the guest, with the
// fuel that is left, only if the place that it gave last is too small.
func (in *instance) input(size int) ([]byte, error) {
	if uint32(size) > in.placed {
		if err := in.memory.hide(); err != nil { // the place that it gave before is the guest's again
			return nil, &VerdictError{Kind: FaultInstantiate, Message: err.Error()}
		}
		in.stack[0] = uint64(size)
		if err := in.call(in.inputFn); err != nil {
			return nil, fmt.Errorf("wasmeval_input failed: %w", err)
		}
		in.place, in.placed = uint32(in.stack[0]), uint32(size)
		if in.place == 0 || in.place&7 != 0 {
			in.placed = 0
			return nil, fmt.Errorf("wasmeval_input(%d) returned %d: expected an address that is a "+
				"multiple of 8 and not 0", size, in.place)
		}
	}
	b, ok := in.mem.Read(in.place, uint32(size))
	if !ok {
		in.placed = 0
		return nil, fmt.Errorf("wasmeval_input(%d) returned %d, which is outside of memory (%d bytes)",
			size, in.place, in.mem.Size())
	}
	return b, nil
}

// call runs f on in.stack with the fuel that is left.
func (in *instance) call(f api.Function) error {
	if in.slicer != nil {
		in.slicer.begin()
		defer in.slicer.next()
	}
	if err := f.CallWithStack(in.ctx, in.stack[:]); err != nil {
		return in.fault(err)
	}
	return nil
}

// firstLine drops the stack trace that wazero appends, and its prefix.
func firstLine(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(strings.TrimPrefix(line, "wasm error: "))
}

// run evaluates one batch of rows with the given budget. On success code gives each row's, and
// payload what was emitted; both are valid until the next call. After an error the instance must be
// replaced, unless the error's kind is rule_error.
func (in *instance) run(t *table, events []event.View, rows []uint16, cols []*column,
	which []uint32, fuel uint64) (wrong int, err *VerdictError) {
	t.choose(events, rows)
	in.refused, in.cut, in.memory.refused, in.placing = 0, 0, 0, 0
	in.emitted, in.rows = false, 0 // what wasmeval_input emits is for no row
	in.grant(fuel)
	at, wrong, placeErr := in.give(t, cols, which)
	if placeErr != nil {
		return 0, asFault(placeErr)
	}
	// A place is asked for now and then: what it takes is the rule's, and none of these events'.
	in.budget = uint64(in.left())
	in.placing = fuel - in.budget
	in.rows, in.out = len(rows), in.out[:0]
	in.clock = events[rows[0]].Arrival
	if in.keeper == nil {
		return wrong, in.judge(at)
	}
	in.keeper.begin(events, rows)
	err = in.judge(at)
	in.keeper.end(err == nil)
	return wrong, err
}

// give writes the table's batch into the guest's place, and returns the offset of the verdicts and how many
// values were of another type. The columns are shown to the guest where that can be, else copied.
func (in *instance) give(t *table, cols []*column, which []uint32) (verdicts, wrong int, err error) {
	if !in.wantsCopies() && t.shows(cols, which) {
		verdicts, wrong, err = in.giveShown(t, cols, which)
		if err == nil {
			return verdicts, wrong, nil
		}
		if fault := (*VerdictError)(nil); errors.As(err, &fault) {
			return 0, 0, err
		}
	}
	if in.wantsCopies() {
		if err := in.memory.hide(); err != nil { // others can use its place in the count
			return 0, 0, &VerdictError{Kind: FaultInstantiate, Message: err.Error()}
		}
	}
	b, err := in.input(t.batchSize(cols, which))
	if err != nil {
		return 0, 0, err
	}
	verdicts, wrong = t.writeBatch(b, which, cols)
	return verdicts, wrong, nil
}

// wantsCopies reports whether the instance is not to be shown columns.
func (in *instance) wantsCopies() bool { return in.copies || in.prog.cramped.Load() }

// giveShown is give with the columns in the window, which begins with a page in the guest's place: far
// enough from its beginning that neither the verdicts nor small batches, which are copied, come there.
func (in *instance) giveShown(t *table, cols []*column, which []uint32) (verdicts, wrong int, err error) {
	least := verdictsEnd(len(which), t.mostRows) + osPage
	b, err := in.input(least + osPage + len(t.window.bytes))
	if err != nil {
		in.prog.cramped.Store(true) // so nobody asks it again
		return 0, 0, err
	}
	at := pageUp(int(in.place) + least)
	if err := in.memory.show(t.window, at); err != nil {
		in.copies = true
		return 0, 0, err
	}
	from := at - int(in.place)
	if !t.seen(b, from, which) {
		if err := in.memory.clean(); err != nil {
			in.copies = true
			return 0, 0, err
		}
	}
	verdicts, wrong = t.writeShown(b, from, which, cols)
	return verdicts, wrong, nil
}

// judge calls wasmeval_evaluate on the batch in its place, whose verdicts are at an offset in it.
func (in *instance) judge(at int) *VerdictError {
	in.stack[0] = uint64(in.place)
	if err := in.call(in.evaluate); err != nil {
		return asFault(err)
	}
	if code := int32(in.stack[0]); code != 0 {
		return &VerdictError{Kind: FaultRule,
			Message: fmt.Sprintf("wasmeval_evaluate returned %d: expected 0", code)}
	}
	// Read anew: the memory may have moved.
	v, ok := in.mem.Read(in.place+uint32(at), uint32(4*in.rows))
	if !ok {
		return &VerdictError{Kind: FaultTrap, Message: "the batch is outside of memory"}
	}
	in.codes, in.tally = v, tallyOf(v)
	return nil
}

// code is the code of row k of the call.
func (in *instance) code(k int) int32 { return int32(binary.LittleEndian.Uint32(in.codes[4*k:])) }

// tally is what the codes of a call are.
type tally struct {
	matched int   // codes that are not 0
	code    int32 // of these, if it is the same for all and above 0
	mixed   bool  // it is not
}

// tallyOf counts codes, which have four bytes each. Most are 0 or 1: these are counted eight at a time and
// without a branch, of which a wrong guess for every other row would cost more than all of the rest.
func tallyOf(codes []byte) (t tally) {
	const ones = 1<<32 | 1
	le, rest := binary.LittleEndian, codes
	all, sum := uint64(0), uint64(0)
	for ; len(rest) >= 32; rest = rest[32:] {
		a, b, c, d := le.Uint64(rest), le.Uint64(rest[8:]), le.Uint64(rest[16:]), le.Uint64(rest[24:])
		all |= a | b | c | d
		sum += a + b + c + d
	}
	for ; len(rest) >= 4; rest = rest[4:] {
		c := uint64(le.Uint32(rest))
		all |= c
		sum += c
	}
	if all&^ones == 0 {
		t.matched = int(sum>>32 + sum&math.MaxUint32)
		t.code = int32(min(t.matched, 1))
		return t
	}
	for ; len(codes) >= 4; codes = codes[4:] {
		if c := int32(le.Uint32(codes)); c != 0 {
			t.matched++
			t.mixed = t.mixed || c < 0 || t.code != 0 && c != t.code
			t.code = c
		}
	}
	return t
}

// payload is what was emitted for row k of the call, or nothing.
func (in *instance) payload(k int) []byte {
	if !in.emitted {
		return nil
	}
	return in.out[in.emits[k].off:in.emits[k].end]
}

func asFault(err error) *VerdictError {
	var f *VerdictError
	if errors.As(err, &f) {
		return f
	}
	return &VerdictError{Kind: FaultMemory, Message: err.Error()}
}

func (in *instance) close() { _ = in.mod.Close(context.Background()) }
