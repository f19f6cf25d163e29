package runtime

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
)

const loopRows = 64

// loopBatch is a batch of two f64 columns without nulls, as ABI.md lays it out, and the verdicts of
// the rule: 1 if a > 100 and b < 50.
func loopBatch() (batch []byte, verdicts int, want []int32) {
	const columns = 2
	le := binary.LittleEndian
	b := make([]byte, batchHeader+columns*descriptor)
	place := func(at int, part []byte) {
		le.PutUint32(b[at:], uint32(len(b)))
		b = append(b, part...)
	}
	le.PutUint32(b[0:], abiVersion)
	le.PutUint32(b[4:], loopRows)
	le.PutUint32(b[8:], columns)
	verdicts = len(b)
	place(12, make([]byte, 4*loopRows))
	place(24, make([]byte, 8*loopRows))
	values := [columns][]byte{}
	for row := range loopRows {
		// Neither sorted nor periodic, so that a branch is not foreseen for free.
		x, y := float64(row*2654435761%200), float64(row*40503%100)
		values[0] = le.AppendUint64(values[0], math.Float64bits(x))
		values[1] = le.AppendUint64(values[1], math.Float64bits(y))
		want = append(want, int32(b2i(x > 100 && y < 50)))
	}
	for c := range columns {
		at := batchHeader + c*descriptor
		le.PutUint32(b[at:], uint32(typeF64))
		place(at+8, []byte{255, 255, 255, 255, 255, 255, 255, 255})
		place(at+12, values[c])
	}
	le.PutUint32(b[28:], uint32(len(b)))
	return b, verdicts, want
}

// BenchmarkSDKLoop is a guest's wasmeval_evaluate alone, as each SDK has one write it: the metered
// call on a batch that stands in its place already.
func BenchmarkSDKLoop(b *testing.B) {
	for _, language := range []string{"c", "rust", "assemblyscript", "go"} {
		b.Run(language, func(b *testing.B) {
			name := "sdk-" + language
			code, err := os.ReadFile(filepath.Join("../testdata/bench", name, name+".wasm"))
			if err != nil {
				b.Fatal(err)
			}
			e := idle(b, b.TempDir())
			defer shut(b, e)
			prog, err := e.programs.get(context.Background(), code)
			if err != nil {
				b.Fatal(err)
			}
			defer e.programs.put(prog)
			in, err := e.programs.instantiate(context.Background(), prog, []byte("{}"), nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer in.close()
			batch, verdicts, want := loopBatch()
			place, err := in.input(len(batch))
			if err != nil {
				b.Fatal(err)
			}
			copy(place, batch)
			b.ReportAllocs()
			for b.Loop() {
				in.fuel.Set(1 << 40)
				in.stack[0] = uint64(in.place)
				if err := in.call(in.evaluate); err != nil || in.stack[0] != 0 {
					b.Fatal(err, in.stack[0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*loopRows), "ns/row")
			b.ReportMetric(float64(1<<40-in.fuel.Get())/loopRows, "fuel/row")
			for row, code := range want {
				got, _ := in.mem.ReadUint32Le(in.place + uint32(verdicts+4*row))
				if int32(got) != code {
					b.Errorf("row %d: code %d, expected %d", row, int32(got), code)
				}
			}
		})
	}
}
