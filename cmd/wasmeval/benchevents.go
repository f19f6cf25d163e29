package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// The numbers of a bench event that rules read.
var benchFields = []string{"speed_kmh", "heading", "lat", "lon"}

// benchEvents makes n events of 199 bytes. About one in a hundred is faster than 189 km/h.
func benchEvents(n int) [][]byte {
	random := rand.New(rand.NewPCG(1, 2)) // the same in each run
	list := make([][]byte, n)
	for i := range list {
		list[i] = fmt.Appendf(nil, `{"id":"b-%05d","type":"vehicle.position","speed_kmh":%.1f,`+
			`"heading":%d,"lat":%.3f,"lon":%.3f,"ts":"2026-01-01T00:00:00Z",`+
			`"vehicle":{"id":"van-%02d","plate":"M-WE 100000"},"driver":"driver-%02d"}`, i%100_000,
			100+random.Float64()*90, 100+random.IntN(260), 100+random.Float64(), 100+random.Float64(),
			i%100, i%100)
	}
	return list
}

// sized is an event of about as many bytes: the fields of a pair of conditions, then objects.
func sized(i, size int) []byte {
	b := fmt.Appendf(nil, `{"id":"b-%05d","type":"vehicle.position","speed_kmh":%d.5,"heading":%d`, i,
		i%100, i%360)
	for n := 0; len(b) < size-50; n++ {
		b = fmt.Appendf(b, `,"item%d":{"sku":"A-%04d","count":%d,"price":%d.99}`, n, n, n%9, n%500)
	}
	return append(b, '}')
}

// numbers is an event with the fields f0 to f63.
func numbers() []byte {
	b := []byte(`{"id":"b-1","type":"vehicle.position"`)
	for i := range 64 {
		b = fmt.Appendf(b, `,"f%d":%d.5`, i, i)
	}
	return append(b, '}')
}

// condition is true for an event whose field is a number above a limit.
type condition struct {
	field string
	above float64
}

// ruleModule writes a module that gives code 1 to the events of a type for which all conditions are
// true: the loop that a compiler would make of them, so that bench needs no module's file.
//
// Each function body below is WebAssembly as its binary format has it.
func ruleModule(match string, all []condition) []byte {
	fields := make([]string, len(all))
	for i, c := range all {
		fields[i] = fmt.Sprintf(`{"path":%q,"type":"f64"}`, c.field)
	}
	manifest := fmt.Sprintf(`{"match":[%q],"fields":[%s]}`, match, strings.Join(fields, ","))
	const manifestAt, inputAt = 64, 64 * kib
	m := []byte("\x00asm\x01\x00\x00\x00")
	// Types: () -> i32, () -> i64, i32 -> i32.
	m = section(m, 1, "\x03\x60\x00\x01\x7f\x60\x00\x01\x7e\x60\x01\x7f\x01\x7f")
	m = section(m, 3, "\x04\x00\x01\x02\x02") // functions: abi, manifest, input, evaluate
	m = section(m, 5, "\x01\x01\x02\x28")     // memory: 2 pages, at most 40
	exports := []byte{5}
	for i, name := range []string{"abi", "manifest", "input", "evaluate"} {
		exports = append(text(exports, "wasmeval_"+name), 0, byte(i))
	}
	m = section(m, 7, string(append(text(exports, "memory"), 2, 0)))
	code := []byte{4}
	code = text(code, "\x00\x41\x01\x0b")
	code = text(code, string(append(signed([]byte("\x00\x42"), manifestAt<<32+int64(len(manifest))),
		0x0b)))
	code = text(code, string(growAndPlace(inputAt)))
	code = text(code, string(conditionLoop(all)))
	m = section(m, 10, string(code))
	data := append(signed([]byte{1, 0, 0x41}, manifestAt), 0x0b)
	return section(m, 11, string(text(data, manifest)))
}

// growAndPlace is the body of wasmeval_input: the place, and memory that has as much after it.
func growAndPlace(place int64) []byte {
	b := []byte("\x00\x20\x00")     // local.get size
	b = signed(append(b, 0x41), 16) // i32.const 16
	b = append(b, 0x76)             // i32.shr_u
	b = append(b, "\x41\x02\x6a"...)
	b = append(b, "\x3f\x00\x6b"...) // memory.size, i32.sub: pages that are missing
	b = append(b, "\x22\x00\x41\x00\x4a\x04\x40"...)
	b = append(b, "\x20\x00\x40\x00\x1a\x0b"...) // if above 0: memory.grow, drop
	return append(signed(append(b, 0x41), place), 0x0b)
}

// conditionLoop is the body of wasmeval_evaluate. Local 0 is the batch, 1 the rows that are left, 2
// the place of the next verdict, 3 the offset of the next value, and from 4 on the columns.
func conditionLoop(all []condition) []byte {
	b := unsigned([]byte{1}, uint64(3+len(all)))
	b = append(b, 0x7f)                                          // i32
	b = append(b, "\x20\x00\x28\x02\x04\x21\x01"...)             // rows = batch[4]
	b = append(b, "\x20\x00\x20\x00\x28\x02\x0c\x6a\x21\x02"...) // verdict = batch + batch[12]
	for i := range all {
		b = append(b, "\x20\x00\x20\x00\x28\x02"...)
		b = append(unsigned(b, uint64(40+32*i+12)), 0x6a, 0x21) // column = batch + its values
		b = unsigned(b, uint64(4+i))
	}
	b = append(b, "\x03\x40\x20\x02"...) // loop; verdict
	for i, c := range all {
		b = unsigned(append(b, 0x20), uint64(4+i))
		b = append(b, "\x20\x03\x6a\x2b\x03\x00\x44"...) // f64.load(column + offset), f64.const
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.above))
		b = append(b, 0x64) // f64.gt
		if i > 0 {
			b = append(b, 0x71) // i32.and
		}
	}
	b = append(b, "\x36\x02\x00"...)                 // i32.store
	b = append(b, "\x20\x02\x41\x04\x6a\x21\x02"...) // verdict += 4
	b = append(b, "\x20\x03\x41\x08\x6a\x21\x03"...) // offset += 8
	b = append(b, "\x20\x01\x41\x01\x6b\x22\x01"...) // rows -= 1
	return append(b, "\x0d\x00\x0b\x41\x00\x0b"...)  // again if there are more; end; return 0
}

func section(m []byte, id byte, content string) []byte { return text(append(m, id), content) }

// text appends a text with its length before it.
func text(b []byte, s string) []byte { return append(unsigned(b, uint64(len(s))), s...) }

func unsigned(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }

func signed(b []byte, n int64) []byte {
	for n < -64 || n > 63 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n)&0x7f)
}

// For each of benchFields, rare is what one event in a hundred exceeds, seldom what about one in a
// thousand does, and common what half do.
var (
	rare   = []float64{189.1, 356, 100.99, 100.99}
	seldom = []float64{189.9, 358, 100.999, 100.999}
	common = []float64{145, 230, 100.5, 100.5}
)

// ruleOf is a rule that one event in two hundred matches.
func ruleOf(number int, match string) []byte { return pairRule(number, match, rare) }

// pairRule is the module of the number-th of many rules: two conditions on a pair of fields, of which
// there are six.
func pairRule(number int, match string, above []float64) []byte {
	pairs := [][2]int{{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}}
	p := pairs[number%len(pairs)]
	return ruleModule(match, []condition{{benchFields[p[0]], above[p[0]]},
		{benchFields[p[1]], common[p[1]]}})
}

func ruleName(i int) string { return "bench-" + strconv.Itoa(i) }
