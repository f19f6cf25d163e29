package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmeval/internal/event"
	"wasmeval/runtime/meter"
)

// What emit returns to the guest; see rules-sdk/ABI.md.
const (
	emitOK = iota
	emitNoRow
	emitOutside
	emitTooLarge
	emitNotJSON
)

// What WASI functions return; source: the errno type of wasi_snapshot_preview1.
const (
	wasiOK    = 0
	wasiBADF  = 8
	wasiFAULT = 21
	wasiINVAL = 28
	wasiSPIPE = 70
)

var errHostFuel = errors.New("out of fuel in a host function")

// hostFunction is one import that modules may have. The function runs on the worker's goroutine,
// inside a call of the instance that asks.
type hostFunction struct {
	module, name    string
	params, results []api.ValueType
	run             func(in *instance, stack []uint64)
}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
	f64 = api.ValueTypeF64
)

func types(t ...api.ValueType) []api.ValueType { return t }

const wasiModule = "wasi_snapshot_preview1"

var hostFunctions = []hostFunction{
	{"wasmeval", "emit", types(i32, i32, i32), types(i32), hostEmit},
	{"wasmeval", "log", types(i32, i32, i32), nil, hostLog},
	{"wasmeval", "state_add", types(i32, i32, i32, i32, f64), types(f64), hostStateAdd},
	{"wasmeval", "state_distinct", types(i32, i32, i32, i32, i32, i32), types(i32), hostStateDistinct},
	{"wasmeval", "state_seen", types(i32, i32, i32, i32), types(i64), hostStateSeen},
	{"wasmeval", "state_set", types(i32, i32, i32, i32, i32, i32), types(i32), hostStateSet},
	{"wasmeval", "state_get", types(i32, i32, i32, i32, i32, i32), types(i32), hostStateGet},
	{"wasmeval", "state_time", types(i32, i32, i32, i32), types(i64), hostStateTime},
	{"wasmeval", "state_delete", types(i32, i32, i32, i32), types(i32), hostStateDelete},
	{wasiModule, "args_get", types(i32, i32), types(i32), wasiNothing},
	{wasiModule, "args_sizes_get", types(i32, i32), types(i32), wasiNoSizes},
	{wasiModule, "environ_get", types(i32, i32), types(i32), wasiNothing},
	{wasiModule, "environ_sizes_get", types(i32, i32), types(i32), wasiNoSizes},
	{wasiModule, "clock_time_get", types(i32, i64, i32), types(i32), wasiClock},
	{wasiModule, "random_get", types(i32, i32), types(i32), wasiRandom},
	{wasiModule, "sched_yield", nil, types(i32), wasiNothing},
	{wasiModule, "poll_oneoff", types(i32, i32, i32, i32), types(i32), wasiPoll},
	{wasiModule, "proc_exit", types(i32), nil, wasiExit},
	{wasiModule, "fd_write", types(i32, i32, i32, i32), types(i32), wasiWrite},
	{wasiModule, "fd_read", types(i32, i32, i32, i32), types(i32), wasiRead},
	{wasiModule, "fd_close", types(i32), types(i32), wasiStdio},
	{wasiModule, "fd_seek", types(i32, i64, i32, i32), types(i32), wasiSeek},
	{wasiModule, "fd_fdstat_get", types(i32, i32), types(i32), wasiFdstat},
	{wasiModule, "fd_fdstat_set_flags", types(i32, i32), types(i32), wasiStdio},
	{wasiModule, "fd_prestat_get", types(i32, i32), types(i32), wasiBadFd},
	{wasiModule, "fd_prestat_dir_name", types(i32, i32, i32), types(i32), wasiBadFd},
}

// allowedImports is the list for the prescan.
func allowedImports() []meter.Import {
	list := make([]meter.Import, len(hostFunctions))
	for i, f := range hostFunctions {
		t := meter.FuncType{}
		for _, p := range f.params {
			t.Params = append(t.Params, meter.ValType(p))
		}
		for _, p := range f.results {
			t.Results = append(t.Results, meter.ValType(p))
		}
		list[i] = meter.Import{Module: f.module, Name: f.name, Type: t}
	}
	return list
}

type instanceKey struct{}

// instantiateHost gives the host functions to r.
func instantiateHost(ctx context.Context, r wazero.Runtime) error {
	builders := map[string]wazero.HostModuleBuilder{}
	for _, f := range hostFunctions {
		b := builders[f.module]
		if b == nil {
			b = r.NewHostModuleBuilder(f.module)
			builders[f.module] = b
		}
		run := f.run
		call := api.GoModuleFunc(func(ctx context.Context, _ api.Module, stack []uint64) {
			in := ctx.Value(instanceKey{}).(*instance)
			in.charge(hostFuel)
			run(in, stack)
		})
		b.NewFunctionBuilder().WithGoModuleFunction(call, f.params, f.results).Export(f.name)
	}
	for name, b := range builders {
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("cannot offer module %q to guests: %w", name, err)
		}
	}
	return nil
}

// Fuel for the work of host functions. A call of one costs about as much time as 64 instructions do
// at worst, a byte of a payload, which is checked and copied, as 8, and one that is written as 2.
const (
	hostFuel        = 64
	payloadByteFuel = 8
	byteFuel        = 2
)

// hostEmit is wasmeval.emit(row, ptr, len) -> i32.
func hostEmit(in *instance, stack []uint64) {
	row, ptr, n := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	stack[0] = in.emit(row, ptr, n)
}

func (in *instance) emit(row, ptr, n uint32) uint64 {
	in.charge(hostFuel)
	if int64(row) >= int64(in.rows) {
		return emitNoRow
	}
	b, ok := in.mem.Read(ptr, n)
	if !ok {
		return emitOutside
	}
	if int(n) > in.limits.PayloadBytes || len(in.out)+int(n) > in.limits.OutputBytes {
		in.refused++
		return emitTooLarge
	}
	in.charge(uint64(n) * payloadByteFuel)
	if in.checker().Check(b) != nil {
		return emitNotJSON
	}
	if !in.emitted {
		in.emitted = true
		in.emits = append(in.emits[:0], make([]span, in.rows)...)
	}
	off := len(in.out)
	in.out = appendCompact(in.out, b)
	in.emits[row] = span{uint32(off), uint32(len(in.out))}
	return emitOK
}

// checker is the scanner that checks payloads; most rules never need one.
func (in *instance) checker() *event.Scanner {
	if in.scanner == nil {
		var err error
		in.scanner, err = event.NewScanner(event.Fields{}, event.Limits{EventBytes: in.limits.PayloadBytes})
		if err != nil {
			panic("BUG: " + err.Error())
		}
	}
	return in.scanner
}

// hostLog is wasmeval.log(level, ptr, len).
func hostLog(in *instance, stack []uint64) {
	if b, ok := in.mem.Read(uint32(stack[1]), uint32(stack[2])); ok {
		in.logLine(int(int32(stack[0])), b)
	}
}

// logLine hands one line to the log, cut to the limit. Fuel pays for what is kept.
func (in *instance) logLine(level int, b []byte) {
	if len(b) > in.limits.LogLineBytes {
		b = b[:in.limits.LogLineBytes]
		in.cut++
	}
	in.charge(hostFuel + uint64(len(b))*byteFuel)
	if in.log != nil && len(b) > 0 {
		in.log(max(0, min(level, 3)), string(b))
	}
}

func wasiNothing(_ *instance, stack []uint64) { setErrno(stack, wasiOK) }

// setErrno sets the result; sched_yield has no parameters but a stack for its result.
func setErrno(stack []uint64, e uint64) { stack[0] = e }

func wasiBadFd(_ *instance, stack []uint64) { setErrno(stack, wasiBADF) }

func (in *instance) putU32(ptr uint64, v uint32) bool { return in.mem.WriteUint32Le(uint32(ptr), v) }

// wasiNoSizes answers args_sizes_get and environ_sizes_get: there are none.
func wasiNoSizes(in *instance, stack []uint64) {
	if !in.putU32(stack[0], 0) || !in.putU32(stack[1], 0) {
		setErrno(stack, wasiFAULT)
		return
	}
	setErrno(stack, wasiOK)
}

// wasiClock gives the batch's time, plus a microsecond for every time it was asked, so that clocks
// advance and the same events still give the same verdicts.
func wasiClock(in *instance, stack []uint64) {
	in.clock += 1000
	if !in.mem.WriteUint64Le(uint32(stack[2]), uint64(in.clock)) {
		setErrno(stack, wasiFAULT)
		return
	}
	setErrno(stack, wasiOK)
}

// wasiRandom gives the same bytes on every fresh instance (splitmix64 from a fixed seed).
func wasiRandom(in *instance, stack []uint64) {
	b, ok := in.mem.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		setErrno(stack, wasiFAULT)
		return
	}
	in.charge(uint64(len(b)) * byteFuel)
	var word [8]byte
	for i := range b {
		if i&7 == 0 {
			in.random += 0x9E3779B97F4A7C15
			z := in.random
			z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
			z = (z ^ z>>27) * 0x94D049BB133111EB
			binary.LittleEndian.PutUint64(word[:], z^z>>31)
		}
		b[i] = word[i&7]
	}
	setErrno(stack, wasiOK)
}

// wasiPoll does not wait: every subscription (48 bytes) has its event (32 bytes) at once.
func wasiPoll(in *instance, stack []uint64) {
	subs, events, n := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if n == 0 || n > 64 {
		setErrno(stack, wasiINVAL)
		return
	}
	in.charge(uint64(n) * 64)
	for i := range n {
		sub, ok := in.mem.Read(subs+48*i, 48)
		ev, ok2 := in.mem.Read(events+32*i, 32)
		if !ok || !ok2 {
			setErrno(stack, wasiFAULT)
			return
		}
		userdata, tag := binary.LittleEndian.Uint64(sub), sub[8]
		clear(ev)
		binary.LittleEndian.PutUint64(ev, userdata)
		ev[10] = tag
	}
	if !in.putU32(stack[3], n) {
		setErrno(stack, wasiFAULT)
		return
	}
	setErrno(stack, wasiOK)
}

// wasiExit fails the call; the instance is replaced.
func wasiExit(_ *instance, stack []uint64) { panic(exitError{uint32(stack[0])}) }

func stdio(fd uint64) bool { return uint32(fd) <= 2 }

func wasiStdio(_ *instance, stack []uint64) {
	if !stdio(stack[0]) {
		setErrno(stack, wasiBADF)
		return
	}
	setErrno(stack, wasiOK)
}

func wasiSeek(_ *instance, stack []uint64) {
	if !stdio(stack[0]) {
		setErrno(stack, wasiBADF)
		return
	}
	setErrno(stack, wasiSPIPE)
}

// wasiFdstat says that 0, 1 and 2 are character devices: 24 bytes, the type (2) first.
func wasiFdstat(in *instance, stack []uint64) {
	if !stdio(stack[0]) {
		setErrno(stack, wasiBADF)
		return
	}
	b, ok := in.mem.Read(uint32(stack[1]), 24)
	if !ok {
		setErrno(stack, wasiFAULT)
		return
	}
	clear(b)
	b[0] = 2
	setErrno(stack, wasiOK)
}

// wasiRead finds every file empty.
func wasiRead(in *instance, stack []uint64) {
	if uint32(stack[0]) != 0 {
		setErrno(stack, wasiBADF)
		return
	}
	if !in.putU32(stack[3], 0) {
		setErrno(stack, wasiFAULT)
		return
	}
	setErrno(stack, wasiOK)
}

// wasiWrite sends what is written to 1 and 2 to the log, one line a call at most.
func wasiWrite(in *instance, stack []uint64) {
	fd, iovs, n := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if fd != 1 && fd != 2 {
		setErrno(stack, wasiBADF)
		return
	}
	if n > 64 {
		setErrno(stack, wasiINVAL)
		return
	}
	in.charge(hostFuel * uint64(n))
	total := uint32(0)
	for i := range n {
		v, ok := in.mem.ReadUint64Le(iovs + 8*i)
		if !ok {
			setErrno(stack, wasiFAULT)
			return
		}
		b, ok := in.mem.Read(uint32(v), uint32(v>>32))
		if !ok {
			setErrno(stack, wasiFAULT)
			return
		}
		total += uint32(len(b))
		in.write(int(fd), b)
	}
	if !in.putU32(stack[3], total) {
		setErrno(stack, wasiFAULT)
		return
	}
	setErrno(stack, wasiOK)
}

// write collects bytes until a line is complete. Standard output is info, standard error is error.
func (in *instance) write(fd int, b []byte) {
	in.charge(uint64(len(b)) * byteFuel)
	for _, c := range b {
		if c == '\n' {
			in.flushLine(fd)
			continue
		}
		switch n := len(in.line[fd-1]); {
		case n < in.limits.LogLineBytes:
			in.line[fd-1] = append(in.line[fd-1], c)
		case n == in.limits.LogLineBytes && !in.over[fd-1]:
			in.over[fd-1] = true
			in.cut++
		}
	}
}

func (in *instance) flushLine(fd int) {
	if l := in.line[fd-1]; len(l) > 0 && in.log != nil {
		in.log(1+2*(fd-1), string(l))
	}
	in.line[fd-1], in.over[fd-1] = in.line[fd-1][:0], false
}
