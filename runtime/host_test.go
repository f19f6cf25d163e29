package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// lone is an instance that no worker has, with fuel.
func lone(t testing.TB, mod string) *instance {
	t.Helper()
	e := idle(t, t.TempDir())
	prog, err := e.programs.get(context.Background(), module(t, mod))
	if err != nil {
		t.Fatal(err)
	}
	in, err := e.programs.instantiate(context.Background(), prog, []byte("{}"), nil,
		func(int, string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.close()
		e.programs.put(prog)
		shut(t, e)
	})
	in.rows = 3
	return in
}

// hostCall calls a host function as a guest would, and returns what it panicked with.
func hostCall(in *instance, f *hostFunction, args []uint64) (stack []uint64, p any) {
	defer func() { p = recover() }()
	stack = make([]uint64, max(len(f.params), len(f.results)))
	copy(stack, args)
	in.fuel.Set(1 << 20)
	in.charge(hostFuel)
	f.run(in, stack)
	return stack, nil
}

// FuzzHost calls each host function with any pointers and lengths, over a memory of any bytes: it
// returns, or stops the guest in one of the two ways that there are, and never takes more fuel than
// there is without saying so.
func FuzzHost(f *testing.F) {
	const huge = 1<<32 - 1
	for _, seed := range [][4]uint64{{0, 0, 0, 0}, {1, 8, 1, 16}, {huge, huge, huge, huge}, {0, huge, 1, 0},
		{2, huge - 7, 2, 4}, {1, 65536, 64, 65532}, {2, 131071, 1, 131071}, {0, 0, 1 << 20, 1 << 20}} {
		f.Add(seed[0], seed[1], seed[2], seed[3], []byte(`{"a":[1,2]}`))
		f.Add(seed[0], seed[1], seed[2], seed[3], []byte("\x08\x00\x00\x00\xff\xff\xff\xff\xf8\xff\xff\xff\x09"))
	}
	in := lone(f, "wasi")
	size := in.mem.Size()
	f.Fuzz(func(t *testing.T, a, b, c, d uint64, text []byte) {
		in.out, in.refused = in.out[:0], 0
		for at := uint32(0); at+uint32(len(text)) < size; at += 1 << 15 {
			in.mem.Write(at, text)
		}
		for i := range hostFunctions {
			h := &hostFunctions[i]
			_, p := hostCall(in, h, []uint64{a, b, c, d})
			var exit exitError
			err, _ := p.(error)
			switch {
			case p == nil:
				if int64(in.fuel.Get()) < 0 {
					t.Errorf("%s returned with fuel below 0", h.name)
				}
			case errors.Is(err, errHostFuel), h.name == "proc_exit" && errors.As(err, &exit):
			default:
				t.Fatalf("%s(%d, %d, %d, %d) panicked: %v", h.name, a, b, c, d, p)
			}
			if len(in.out) > in.limits.OutputBytes || in.mem.Size() != size {
				t.Fatalf("%s: %d bytes of output, memory of %d", h.name, len(in.out), in.mem.Size())
			}
		}
	})
}

func hostNamed(t testing.TB, name string) *hostFunction {
	t.Helper()
	for i := range hostFunctions {
		if hostFunctions[i].name == name {
			return &hostFunctions[i]
		}
	}
	t.Fatalf("there is no host function %q", name)
	return nil
}

// What host functions write lies where it must, and nothing beside it changes.
func TestHostWrites(t *testing.T) {
	in := lone(t, "wasi")
	in.clock = 41_000
	const at = 4096
	for _, c := range []struct {
		name string
		args []uint64
		put  []byte // at 8192
		want []byte // at 4096, with a guard byte on both sides
		code uint64
	}{
		{"clock_time_get", []uint64{0, 0, at}, nil, binary.LittleEndian.AppendUint64(nil, 42_000), wasiOK},
		{"args_sizes_get", []uint64{at, at + 4}, nil, make([]byte, 8), wasiOK},
		{"fd_fdstat_get", []uint64{1, at}, nil, append([]byte{2}, make([]byte, 23)...), wasiOK},
		{"fd_fdstat_get", []uint64{3, at}, nil, nil, wasiBADF},
		{"fd_fdstat_set_flags", []uint64{1, 4}, nil, nil, wasiOK},
		{"fd_fdstat_set_flags", []uint64{3, 4}, nil, nil, wasiBADF},
		{"fd_write", []uint64{2, 8192, 1, at}, []byte("\x08\x20\x00\x00\x03\x00\x00\x00abc"), []byte{3, 0, 0, 0}, wasiOK},
		{"fd_write", []uint64{5, 8192, 1, at}, nil, nil, wasiBADF},
		{"fd_write", []uint64{1, 8192, 65, at}, nil, nil, wasiINVAL},
		{"fd_read", []uint64{0, 8192, 1, at}, nil, make([]byte, 4), wasiOK},
		{"fd_seek", []uint64{1, 0, 0, at}, nil, nil, wasiSPIPE},
		{"poll_oneoff", []uint64{8192, 16384, 1, at}, []byte("userdata\x01"), []byte{1, 0, 0, 0}, wasiOK},
		{"poll_oneoff", []uint64{8192, 16384, 0, at}, nil, nil, wasiINVAL},
		{"random_get", []uint64{at, 0}, nil, nil, wasiOK},
		{"random_get", []uint64{1<<32 - 4, 8}, nil, nil, wasiFAULT},
		{"fd_prestat_get", []uint64{3, at}, nil, nil, wasiBADF},
	} {
		guard := make([]byte, 64)
		for i := range guard {
			guard[i] = 0xEE
		}
		in.mem.Write(at-16, guard)
		in.mem.Write(8192, c.put)
		stack, p := hostCall(in, hostNamed(t, c.name), c.args)
		if p != nil || stack[0] != c.code {
			t.Errorf("%s%v: %v, errno %d, expected %d", c.name, c.args, p, stack[0], c.code)
		}
		got, _ := in.mem.Read(at-16, 64)
		want := append([]byte{}, guard...)
		copy(want[16:], c.want)
		if string(got) != string(want) {
			t.Errorf("%s%v left % x, expected % x", c.name, c.args, got, want)
		}
	}
}

// Lines that are too long are cut, and counted, whichever way they come.
func TestLongLines(t *testing.T) {
	in := lone(t, "wasi")
	var said []string
	in.log = func(_ int, text string) { said = append(said, text) }
	in.limits = &Limits{LogLineBytes: 10}
	in.mem.Write(4096, []byte("0123456789ABC\nshort\n0123456789ABC\n"))
	in.mem.Write(8192, []byte("\x00\x10\x00\x00\x22\x00\x00\x00")) // those 34 bytes
	for _, c := range []struct {
		name string
		args []uint64
		said string
		cut  int
	}{
		{"log", []uint64{1, 4096, 10}, "[0123456789]", 0},
		{"log", []uint64{1, 4096, 11}, "[0123456789]", 1},
		{"fd_write", []uint64{1, 8192, 1, 12288}, "[0123456789 short 0123456789]", 2},
	} {
		said, in.cut = nil, 0
		if _, p := hostCall(in, hostNamed(t, c.name), c.args); p != nil {
			t.Fatal(p)
		}
		if fmt.Sprint(said) != c.said || in.cut != c.cut {
			t.Errorf("%s%v said %q and cut %d, expected %s and %d", c.name, c.args, said, in.cut, c.said, c.cut)
		}
	}
}
