// build: GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o go.wasm .

// Command go has the bodies that ../README.md describes, in Go with its standard library.
package main

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"
	"unsafe"
)

var in struct {
	text     [4096]byte
	amounts  [64]float64
	counts   [64]int64
	offsets  [128]int32
	names    [2048]byte
	values   [1024]int32
	verdicts [64]int32
}

func main() {}

//go:wasmexport input
func input() uint32 { return uint32(uintptr(unsafe.Pointer(&in))) }

//go:wasmexport find
func find(n int32) int32 {
	_, rest, found := bytes.Cut(in.text[:n], []byte(`"amount":`))
	if !found {
		return -1
	}
	size := bytes.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if size < 0 {
		size = len(rest)
	}
	v, err := strconv.ParseFloat(string(rest[:size]), 64)
	if err != nil {
		return -1
	}
	return int32(math.Round(v * 100))
}

//go:wasmexport rows
func rows(n int32) int32 {
	matched := int32(0)
	for i, amount := range in.amounts[:n] {
		v := int32(0)
		if amount > 1000 && in.counts[i] != 3 {
			v = 1
		} else if amount < 0 {
			v = 2
		}
		in.verdicts[i] = v
		if v != 0 {
			matched++
		}
	}
	return matched
}

//go:wasmexport compare
func compare(n int32) int32 {
	matched := int32(0)
	for i := range in.offsets[:n] {
		if string(in.names[in.offsets[i]:in.offsets[i+1]]) == "premium" {
			matched++
		}
	}
	return matched
}

//go:wasmexport hash
func hash(n int32) int32 {
	var seen [256]uint8
	repeated, h := int32(0), uint32(2166136261)
	for _, c := range in.text[:n] {
		switch c {
		case '"', ',', ':':
			if seen[h&255] != 0 {
				repeated++
			}
			seen[h&255]++
			h = 2166136261
		default:
			h = (h ^ uint32(c)) * 16777619
		}
	}
	return repeated
}

//go:wasmexport sort
func sort(n int32) int32 {
	var v [1024]int32
	copy(v[:n], in.values[:n])
	slices.Sort(v[:n])
	return v[n/2]
}

//go:wasmexport order
func order(n int32) int32 {
	var heap [1024]int32
	for i := range n {
		heap[i] = i
	}
	byValue := func(a, b int32) int { return cmp.Compare(in.values[a], in.values[b]) }
	before := func(a, b int32) int {
		return cmp.Or(cmp.Compare(in.values[a]%10, in.values[b]%10), byValue(a, b))
	}
	if n&1 == 1 {
		before = byValue
	}
	slices.SortFunc(heap[:n], before)
	return in.values[heap[n/2]]
}
