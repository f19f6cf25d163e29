package meter

import (
	"cmp"
	"fmt"
	"slices"
)

// rewriter makes the metered module.
type rewriter struct {
	*Module
	out    []byte
	types  []FuncType     // appended ones
	typeOf map[string]int // and their indexes, by signature
	fuel   uint32         // index of the fuel global
	depth  uint32         // index of the depth global
	pause  uint32         // index of the function that pauses
}

// Rewrite returns the module with fuel and depth counted, its tables capped by the limits, its memory
// left to its host, which must not let it grow above MostPages, and without its custom sections. All
// indexes of the module stay as they were.
func (m *Module) Rewrite() ([]byte, error) {
	code, _, err := m.RewriteWithSymbols()
	return code, err
}

// RewriteWithSymbols is Rewrite, and returns the symbols of the result. If these have lines, the
// result has custom sections that let wazero say where in the code a trap came from.
func (m *Module) RewriteWithSymbols() ([]byte, *Symbols, error) {
	sym := m.newSymbols()
	w := &rewriter{Module: m, typeOf: map[string]int{}, fuel: uint32(m.globals),
		depth: uint32(m.globals) + 1, pause: uint32(len(m.functions))}
	sym.pause = w.pause
	pauses := w.typeIndex(FuncType{Results: []ValType{I64}})
	code, moves := w.bodies(len(sym.rows) > 0) // first, since it may append types
	w.out = make([]byte, 0, len(m.code)+len(code)/2+1024)
	w.out = append(w.out, m.code[:8]...)
	w.typeSection()
	w.copySection(secImport)
	if len(m.bodies) > 0 {
		w.section(secFunction, appendU32(w.entries(secFunction, 1), pauses))
	}
	w.tableSection()
	w.memorySection()
	w.globalSection()
	w.exportSection()
	w.copySection(secElement)
	if m.dataCount >= 0 {
		w.section(secDataCount, appendU32(nil, uint32(m.dataCount)))
	}
	if len(m.bodies) > 0 {
		w.section(secCode, code)
	}
	w.dataSection()
	w.section(secCustom, w.origin())
	if sym.moves = moves; len(moves) > 0 {
		w.beacon()
	}
	return w.out, sym, nil
}

// origin is a custom section's content that says what made the module. Whoever keeps compiled
// modules by a hash of their bytes then keeps apart what different versions and limits made.
func (w *rewriter) origin() []byte {
	text := fmt.Sprintf("version %d %+v", Version, w.limits)
	return append(append([]byte{byte(len(originName))}, originName...), text...)
}

const originName = "wasmeval_meter"

func (w *rewriter) section(id byte, content []byte) {
	w.out = append(w.out, id)
	w.out = appendU32(w.out, uint32(len(content)))
	w.out = append(w.out, content...)
}

// entries begins a section's content: the count with some more, and the entries as they were.
func (w *rewriter) entries(id int, more int) []byte {
	s := &w.sections[id]
	b := appendU32(nil, s.count+uint32(more))
	return append(b, w.code[s.start:s.end]...)
}

func (w *rewriter) copySection(id int) {
	if w.sections[id].present {
		w.section(byte(id), w.entries(id, 0))
	}
}

func (w *rewriter) typeSection() {
	b := w.entries(secType, len(w.types))
	for _, t := range w.types {
		b = append(b, 0x60, 0)
		b = appendU32(b, uint32(len(t.Results)))
		for _, v := range t.Results {
			b = append(b, byte(v))
		}
	}
	w.section(secType, b)
}

func (w *rewriter) tableSection() {
	if !w.sections[secTable].present {
		return
	}
	b := appendU32(nil, uint32(len(w.tables)))
	for _, t := range w.tables {
		most := min(t.max, max(uint32(w.limits.TableEntries/len(w.tables)), t.min))
		b = append(b, t.ref, 1)
		b = appendU32(b, t.min)
		b = appendU32(b, most)
	}
	w.section(secTable, b)
}

func (w *rewriter) memorySection() {
	if w.memory == nil {
		return
	}
	b := appendU32([]byte{1, 1}, w.memory.min)
	w.section(secMemory, appendU32(b, mostPages))
}

func (w *rewriter) globalSection() {
	b := w.entries(secGlobal, 2)
	b = append(b, byte(I64), 1, opI64Const, 0, opEnd)
	b = append(b, byte(I32), 1, opI32Const)
	b = appendS64(b, int64(w.limits.CallDepth))
	w.section(secGlobal, append(b, opEnd))
}

func (w *rewriter) exportSection() {
	more := append([]Global{{Export: FuelExport, index: w.fuel},
		{Export: DepthExport, index: w.depth}}, w.mutable...)
	b := w.entries(secExport, len(more))
	for _, g := range more {
		b = appendU32(b, uint32(len(g.Export)))
		b = append(b, g.Export...)
		b = append(b, kindGlobal)
		b = appendU32(b, g.index)
	}
	w.section(secExport, b)
}

// mergeGap is the most bytes between two data segments that become one.
const mergeGap = 32

// dataSection joins data segments that lie close to each other, since wazero takes 50 ns for each
// at every instantiation, and Go's compiler makes 20,000. If an instruction may name one, or two
// overlap, they stay as they were; else their order is of no influence, and what is between them is
// zero.
func (w *rewriter) dataSection() {
	list := slices.Clone(w.data)
	slices.SortStableFunc(list, func(a, b dataSegment) int { return cmp.Compare(a.offset, b.offset) })
	apart := func(i int) int64 { return int64(list[i].offset) - list[i-1].end() }
	joins := w.placed && w.dataCount < 0
	for i := 1; i < len(list) && joins; i++ {
		joins = apart(i) >= 0
	}
	if !joins {
		w.copySection(secData)
		return
	}
	var out []byte
	n := uint32(0)
	for i := 0; i < len(list); n++ {
		first := i
		for i++; i < len(list) && apart(i) <= mergeGap; i++ {
		}
		size := list[i-1].end() - int64(list[first].offset)
		out = appendS64(append(out, 0, opI32Const), int64(int32(list[first].offset)))
		out = appendU32(append(out, opEnd), uint32(size))
		for k, s := range list[first:i] {
			if k > 0 {
				out = append(out, make([]byte, apart(first+k))...)
			}
			out = append(out, s.bytes...)
		}
	}
	if n > 0 {
		w.section(secData, append(appendU32(nil, n), out...))
	}
}

func (s dataSegment) end() int64 { return int64(s.offset) + int64(len(s.bytes)) }

// blockType is that of a block without params, for which the module may need another type.
func (w *rewriter) blockType(results []ValType) []byte {
	switch len(results) {
	case 0:
		return []byte{noResult}
	case 1:
		return []byte{byte(results[0])}
	}
	return appendS64(nil, int64(w.typeIndex(FuncType{Results: results})))
}

// typeIndex is the index of a type without params that is appended to those of the module.
func (w *rewriter) typeIndex(t FuncType) uint32 {
	i, ok := w.typeOf[t.String()]
	if !ok {
		i = len(w.Module.types) + len(w.types)
		w.types, w.typeOf[t.String()] = append(w.types, t), i
	}
	return uint32(i)
}
