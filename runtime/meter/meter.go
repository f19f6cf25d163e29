package meter

import (
	"fmt"
	"strings"
)

// Version is the rewriter's version. It is a part of compile cache keys.
const Version = 5

// The globals that Rewrite adds and exports, and how it names those of the module.
const (
	FuelExport  = "wasmeval_fuel"  // mutable i64: fuel that is left; see PauseBytes
	DepthExport = "wasmeval_depth" // mutable i32: depth that is left; below 0 means exhausted

	globalExport = "wasmeval_global_" // and the index: the module's own mutable globals
)

// PauseBytes is the size that a rewritten module asks its memory to grow to when its fuel is below
// zero. The host must refuse that, and may fill the fuel up: the guest goes on if it is not below zero
// then, and traps if it is. Until it asks again, a guest runs no longer than its fuel allows, and asking
// it is in Go's code, where its goroutine can be interrupted. When the memory grows, the host may take
// back some of the fuel that the guest has.
const PauseBytes = mostPages << 16

// ValType is a value type by its byte in the binary format.
type ValType byte

// The value types.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

var valTypeNames = map[ValType]string{I32: "i32", I64: "i64", F32: "f32", F64: "f64", V128: "v128",
	FuncRef: "funcref", ExternRef: "externref"}

// FuncType is a function's signature.
type FuncType struct {
	Params, Results []ValType
}

// String is the signature as in "(i32, i32) -> i32".
func (t FuncType) String() string {
	list := func(v []ValType) string {
		names := make([]string, len(v))
		for i, t := range v {
			names[i] = valTypeNames[t]
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	if len(t.Results) == 1 {
		return list(t.Params) + " -> " + valTypeNames[t.Results[0]]
	}
	return list(t.Params) + " -> " + list(t.Results)
}

// Global is a mutable global of the module that the rewritten one exports.
type Global struct {
	Export string
	Type   ValType

	index uint32
}

// Import is a function that modules may import.
type Import struct {
	Module, Name string
	Type         FuncType
}

// Limits bounds a module's parts. Where no unit is named they are counts.
type Limits struct {
	ModuleBytes       int
	Types             int
	Functions         int // imported ones included
	Imports           int
	Exports           int
	Globals           int
	Params            int // of one function
	TypeValues        int // params and results of all types together
	Results           int // of one function or block
	LocalsPerFunction int // params included
	LocalsTotal       int
	BodyBytes         int
	Nesting           int // of blocks
	MemoryPages       int // of 64 KiB: most a module may ask for
	GrowPages         int // most that its memory may be declared to grow to; its host may refuse sooner
	Tables            int
	TableEntries      int // of all tables together, also after growing
	DataSegments      int
	ElementSegments   int
	Elements          int // of all segments together
	Points            int // loops, returns, calls, instructions with a length, of all functions
	NameBytes         int
	CallDepth         int // units of about 64 bytes of native stack

	// Of one function, since compiling takes time and memory with their squares and products:
	BrTableTargets      int
	Branches            int // and blocks
	Loops               int
	LoopsTimesLocals    int
	BranchesTimesLocals int
}

// DefaultLimits let in what the compilers of Go, Rust, C, AssemblyScript and Zig make.
func DefaultLimits() Limits {
	return Limits{
		ModuleBytes: 8 << 20, Types: 1_000, TypeValues: 5_000, Functions: 20_000, Imports: 100,
		Exports: 1_000, Globals: 1_000, Params: 64, Results: 20, LocalsPerFunction: 10_000,
		LocalsTotal: 500_000, BodyBytes: 512 << 10, Nesting: 4_000, MemoryPages: 512, GrowPages: mostPages, Tables: 4,
		TableEntries: 20_000, DataSegments: 100_000, ElementSegments: 10_000, Elements: 20_000,
		Points: 500_000, NameBytes: 1_000, CallDepth: 16 << 10,
		BrTableTargets: 10_000, Branches: 10_000, Loops: 1_000, LoopsTimesLocals: 30_000,
		BranchesTimesLocals: 1_000_000,
	}
}

// Kind is the sort of a refusal.
type Kind string

// The kinds.
const (
	Malformed Kind = "malformed" // not the binary format
	Limit     Kind = "limit"     // larger than a limit
	Opcode    Kind = "opcode"    // an instruction that is not offered
	BadImport Kind = "import"    // an import that is not offered, or with another signature
	BadExport Kind = "export"    // a reserved or doubled name
	Start     Kind = "start"     // a start section
	BadIndex  Kind = "index"     // names something that the module does not have
	Unoffered Kind = "unoffered" // a feature that is not offered
)

// Error says why a module is refused.
type Error struct {
	Kind   Kind
	Offset int // in the module, in bytes
	Msg    string
}

// Error names the thing, what was expected, and where.
func (e *Error) Error() string { return fmt.Sprintf("%s (at byte %d)", e.Msg, e.Offset) }

// Module is a module that Scan let in. It refers to the bytes that it was scanned from, which must
// not change.
type Module struct {
	limits Limits
	code   []byte

	types     []FuncType
	imports   []Import
	functions []uint32 // type of each function, imported ones first
	globals   int
	mutable   []Global // those that the module can change
	fixed     bool     // neither tables nor segments change after instantiation
	tables    []tableType
	memory    *memoryType
	exports   map[string]export
	bodies    []body
	plan      []plan
	inTables  map[uint32]bool // functions that a table may come to hold
	elements  int
	dataCount int // -1: no data count section
	data      []dataSegment
	placed    bool // all of data has offsets of its own
	sections  [13]section
	custom    map[string][]byte // the custom sections that symbols come from
}

type section struct {
	present bool
	// The vector: its count, and where its first entry and its end are in the module.
	count      uint32
	start, end int
	content    int // where its count stands
}

type tableType struct {
	ref      byte
	min, max uint32
	capped   bool
}

type memoryType struct{ min, max uint32 }

type dataSegment struct {
	offset uint32
	bytes  []byte
}

type export struct {
	kind  byte
	index uint32
}

// Export and import kinds of the binary format.
const (
	kindFunc = iota
	kindTable
	kindMemory
	kindGlobal
)

// Func returns the signature of an exported function.
func (m *Module) Func(name string) (FuncType, bool) {
	e, ok := m.exports[name]
	if !ok || e.kind != kindFunc {
		return FuncType{}, false
	}
	return m.types[m.functions[e.index]], true
}

// HasMemory reports whether the module has a memory and exports it as "memory".
func (m *Module) HasMemory() bool {
	e, ok := m.exports["memory"]
	return ok && e.kind == kindMemory
}

// MostPages is how many pages of 64 KiB the memory may grow to, by the module and the limits.
func (m *Module) MostPages() uint32 { return m.memory.max }

// MutableGlobals lists the mutable globals under the names by which the rewritten module exports
// them, without fuel and depth.
func (m *Module) MutableGlobals() []Global { return m.mutable }

// Resettable reports whether an instance's memory and mutable globals are all that its code can
// change and a host can restore: no instruction changes a table or drops a segment, and each
// mutable global has a number type of 32 or 64 bits.
func (m *Module) Resettable() bool {
	for _, g := range m.mutable {
		if g.Type == V128 || g.Type == FuncRef || g.Type == ExternRef {
			return false
		}
	}
	return m.fixed
}
