//go:build wasip1

package rule

import "unsafe"

//go:wasmimport wasmeval emit
//go:noescape
func emit(row int32, ptr unsafe.Pointer, size int32) int32

//go:wasmimport wasmeval log
//go:noescape
func log(level int32, ptr unsafe.Pointer, size int32)

//go:wasmimport wasmeval state_add
//go:noescape
func stateAdd(state, row int32, key unsafe.Pointer, keySize int32, amount float64) float64

//go:wasmimport wasmeval state_distinct
//go:noescape
func stateDistinct(state, row int32, key unsafe.Pointer, keySize int32, value unsafe.Pointer,
	size int32) int32

//go:wasmimport wasmeval state_seen
//go:noescape
func stateSeen(state, row int32, key unsafe.Pointer, keySize int32) int64

//go:wasmimport wasmeval state_set
//go:noescape
func stateSet(state, row int32, key unsafe.Pointer, keySize int32, value unsafe.Pointer,
	size int32) int32

//go:wasmimport wasmeval state_get
//go:noescape
func stateGet(state, row int32, key unsafe.Pointer, keySize int32, place unsafe.Pointer,
	size int32) int32

//go:wasmimport wasmeval state_time
//go:noescape
func stateTime(state, row int32, key unsafe.Pointer, keySize int32) int64

//go:wasmimport wasmeval state_delete
//go:noescape
func stateDelete(state, row int32, key unsafe.Pointer, keySize int32) int32

// What was given to the server stays reachable through these: it is not on the stack of any call.
var (
	input        []uint64
	manifestText []byte
)

func address(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }

//go:wasmexport wasmeval_abi
func exportABI() int32 { return 1 }

//go:wasmexport wasmeval_manifest
func exportManifest() uint64 {
	text, wrong := manifest()
	if wrong != "" {
		panic("rule: " + wrong)
	}
	manifestText = text
	return uint64(address(unsafe.Pointer(&text[0])))<<32 | uint64(len(text))
}

//go:wasmexport wasmeval_input
func exportInput(size uint32) uint32 {
	if size > 1<<30 {
		return 0
	}
	words := int(size+7) / 8
	if words > len(input) {
		// Twice what is needed, so that batches that grow slowly do not make much garbage.
		input = make([]uint64, max(2*words, 4096))
	}
	return address(unsafe.Pointer(&input[0]))
}

// within gives the place of size bytes at an address inside the input, or nil.
func within(at, size uint32) unsafe.Pointer {
	if len(input) == 0 {
		return nil
	}
	base := unsafe.Pointer(&input[0])
	off := uint64(at) - uint64(address(base)) // wraps if at is below, and is then too large
	if off+uint64(size) < off || off+uint64(size) > uint64(len(input))*8 {
		return nil
	}
	return unsafe.Add(base, off)
}

//go:wasmexport wasmeval_configure
func exportConfigure(ptr, size uint32) int32 {
	p := within(ptr, size)
	if p == nil {
		return 1
	}
	// A copy, since parameters outlive the input.
	if err := configure(string(unsafe.Slice((*byte)(p), size))); err != nil {
		Log(Error, "cannot take the parameters: ", err.Error())
		return 1
	}
	return 0
}

//go:wasmexport wasmeval_evaluate
func exportEvaluate(batch uint32) int32 {
	p := within(batch, uint32(unsafe.Sizeof(header{})))
	if p == nil || within(batch, (*header)(p).size) == nil {
		return notOurBatch
	}
	return evaluate(p)
}
