package meter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// refusal is the error of Scan, which must be of that kind and say that.
func refusal(t *testing.T, name string, code []byte, lim Limits, kind Kind, want string) {
	t.Helper()
	_, err := Scan(code, lim, []Import{{"env", "ok", FuncType{Params: []ValType{I32}}}})
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Msg, want) {
		t.Errorf("%s: error %v, expected %s with %q", name, err, kind, want)
	} else if e.Offset > len(code) {
		t.Errorf("%s: the error is at byte %d of %d", name, e.Offset, len(code))
	}
}

// Of all bytes these are opcodes that are offered; what follows some of them has tests of its own.
func TestOpcodes(t *testing.T) {
	offered := func(op int) bool {
		return op <= 0x05 || op >= 0x0b && op <= 0x11 || op >= 0x1a && op <= 0x1c || op >= 0x20 && op <= 0x26 ||
			op >= 0x28 && op <= 0xc4 || op == 0xd0 || op == 0xd1 || op == 0xfc || op == 0xfd
	}
	refused := func(code []byte) bool {
		_, err := Scan(code, DefaultLimits(), nil)
		return err != nil && strings.Contains(err.Error(), "is not offered") && strings.Contains(err.Error(), "instruction")
	}
	for op := range 256 {
		if op == opElse {
			continue // it is refused where it has no if
		}
		if got := refused(oneFunction(byte(op), 0, 0, 0, 0, 0x0b)); got == offered(op) {
			t.Errorf("opcode 0x%02x: refused %t", op, got)
		}
	}
	for op := range 40 {
		if got := refused(oneFunction(0xfc, byte(op), 0, 0, 0x0b)); got != (op > 17) {
			t.Errorf("opcode 0xfc %d: refused %t", op, got)
		}
	}
	// What the specification of vectors leaves free.
	free := []int{154, 162, 165, 166, 175, 176, 178, 179, 180, 187, 194, 197, 198, 207, 208, 210, 211, 212,
		226, 238}
	for op := range 400 {
		code := oneFunction(append(binary.AppendUvarint([]byte{0xfd}, uint64(op)), make([]byte, 20)...)...)
		if got := refused(code); got != (op > 255 || slices.Contains(free, op)) {
			t.Errorf("opcode 0xfd %d: refused %t", op, got)
		}
	}
}

func TestImmediates(t *testing.T) {
	table := func(body ...byte) []byte { // a module with a table of 4 entries and one element segment
		code := append([]byte{0}, body...)
		return join(sec(secType, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 0), sec(secFunction, 1, 0),
			sec(secTable, 1, 0x70, 0, 4), sec(secElement, 1, 0, 0x41, 0, 0x0b, 1, 0),
			sec(secCode, append(appendU32([]byte{1}, uint32(len(code))), code...)...))
	}
	lane := func(op byte, n byte) []byte { return oneFunction(0xfd, op, n, 0x0b) }
	for name, c := range map[string]struct {
		code []byte
		kind Kind
		want string
	}{
		"block type past end":  {oneFunction(0x02, 9, 0x0b, 0x0b), BadIndex, "a block has type 9"},
		"negative block type":  {oneFunction(0x02, 0x5f, 0x0b, 0x0b), BadIndex, "a block has type -33"},
		"long block type":      {oneFunction(0x02, 0xff, 0x7f, 0x0b, 0x0b), BadIndex, "a block has type -1"},
		"else without if":      {oneFunction(0x02, 0x40, 0x05, 0x0b, 0x0b), Opcode, "else without its if"},
		"else twice":           {oneFunction(0x41, 0, 0x04, 0x40, 0x05, 0x05, 0x0b, 0x0b), Opcode, "else without its if"},
		"br_table label":       {oneFunction(0x41, 0, 0x0e, 1, 0, 1, 0x0b), BadIndex, "there is no label 1"},
		"select of two":        {oneFunction(0x1c, 2, 0x7f, 0x7f, 0x0b), Limit, "types of a select"},
		"select of none":       {oneFunction(0x1c, 0, 0x0b), Malformed, "a select has 0 types"},
		"select of what":       {oneFunction(0x1c, 1, 0x6e, 0x0b), Unoffered, "value type 0x6e"},
		"call type":            {table(0x11, 2, 0, 0x0b), BadIndex, "there is no type 2"},
		"call table":           {table(0x11, 0, 1, 0x0b), BadIndex, "there is no table 1"},
		"table.get":            {table(0x25, 1, 0x0b), BadIndex, "there is no table 1"},
		"table.copy":           {table(0xfc, 14, 0, 1, 0x0b), BadIndex, "there is no table 1"},
		"table.init":           {table(0xfc, 12, 1, 0, 0x0b), BadIndex, "there is no element segment 1"},
		"elem.drop":            {table(0xfc, 13, 1, 0x0b), BadIndex, "there is no element segment 1"},
		"table.size":           {table(0xfc, 16, 1, 0x0b), BadIndex, "there is no table 1"},
		"load, no memory":      {table(0x28, 2, 0, 0x0b), BadIndex, "has no memory"},
		"v128.load, no memory": {table(0xfd, 0, 4, 0, 0x0b), BadIndex, "has no memory"},
		"memory.size of one":   {oneFunction(0x3f, 1, 0x0b), Unoffered, "more than one memory"},
		"memory.grow of one":   {oneFunction(0x40, 1, 0x0b), Unoffered, "more than one memory"},
		"memory.copy of one":   {oneFunction(0xfc, 10, 0, 1, 0x0b), Unoffered, "more than one memory"},
		"memory.fill of one":   {oneFunction(0xfc, 11, 1, 0x0b), Unoffered, "more than one memory"},
		"load of a memory":     {oneFunction(0x28, 0x42, 0, 0, 0x0b), Unoffered, "several memories"},
		"alignment":            {oneFunction(0x28, 5, 0, 0x0b), Malformed, "alignment of 2^5"},
		"offset of 33 bits":    {oneFunction(0x28, 2, 0xff, 0xff, 0xff, 0xff, 0x1f, 0x0b), Malformed, "LEB128"},
		"ref.null of what":     {oneFunction(0xd0, 0x6e, 0x0b), Unoffered, "reference type 0x6e"},
		"lane 16":              {lane(21, 16), BadIndex, "there is no lane 16"},
		"lane 8":               {lane(26, 8), BadIndex, "there is no lane 8"},
		"lane 4":               {lane(32, 4), BadIndex, "there is no lane 4"},
		"lane 2":               {lane(34, 2), BadIndex, "there is no lane 2"},
		"load lane 2":          {oneFunction(0xfd, 87, 3, 0, 2, 0x0b), BadIndex, "there is no lane 2"},
		"store lane 16":        {oneFunction(0xfd, 88, 0, 0, 16, 0x0b), BadIndex, "there is no lane 16"},
		"shuffle lane 32": {oneFunction(append([]byte{0xfd, 13, 32}, make([]byte, 16)...)...), BadIndex,
			"there is no lane 32"},
	} {
		refusal(t, name, c.code, DefaultLimits(), c.kind, c.want)
	}
}

func TestSections(t *testing.T) {
	void := sec(secType, 1, 0x60, 0, 0)
	one := sec(secFunction, 1, 0)
	body := sec(secCode, 1, 2, 0, 0x0b)
	table, memory := sec(secTable, 1, 0x70, 0, 1), sec(secMemory, 1, 0, 1)
	for name, c := range map[string]struct {
		code []byte
		kind Kind
		want string
	}{
		"tags":                   {join(sec(13, 1, 0, 0)), Unoffered, "exceptions"},
		"custom without name":    {join(sec(0)), Malformed, "ends in the middle"},
		"name that is not UTF-8": {join(sec(0, 1, 0xff)), Malformed, "not UTF-8"},
		"function type":          {join(void, sec(secFunction, 1, 1)), BadIndex, "there is no type 1"},
		"value type":             {join(sec(secType, 1, 0x60, 1, 0x6e, 0)), Unoffered, "value type 0x6e"},
		"table type":             {join(sec(secTable, 1, 0x7f, 0, 1)), Unoffered, "reference type 0x7f"},
		"table maximum":          {join(sec(secTable, 1, 0x70, 1, 2, 1)), Malformed, "below its minimum"},
		"memory maximum":         {join(sec(secMemory, 1, 1, 2, 1)), Malformed, "below its minimum"},
		"memory of 65537 pages":  {join(sec(secMemory, 1, 1, 1, 0x81, 0x80, 0x04)), Malformed, "65536"},
		"mutability":             {join(sec(secGlobal, 1, 0x7f, 2, 0x41, 0, 0x0b)), Malformed, "mutability 0x02"},
		"initialiser's end":      {join(sec(secGlobal, 1, 0x7f, 0, 0x41, 0, 0x6a)), Opcode, "its end"},
		"initialiser adds": {join(sec(secGlobal, 1, 0x7f, 0, 0x41, 0, 0x41, 0, 0x6a, 0x0b)), Opcode,
			"its end"},
		"initialiser of a vector": {join(sec(secGlobal, 1, 0x7b, 0, 0xfd, 15, 0x0b)), Opcode, "v128.const"},
		"initialiser's function":  {join(sec(secGlobal, 1, 0x70, 0, 0xd2, 0, 0x0b)), BadIndex, "no function 0"},
		"exported function":       {join(sec(secExport, 1, 1, 'a', 0, 0)), BadIndex, "no function 0"},
		"exported table":          {join(sec(secExport, 1, 1, 'a', 1, 0)), BadIndex, "no table 0"},
		"exported memory":         {join(sec(secExport, 1, 1, 'a', 2, 0)), BadIndex, "no memory 0"},
		"exported global":         {join(sec(secExport, 1, 1, 'a', 3, 0)), BadIndex, "no global 0"},
		"exported tag":            {join(sec(secExport, 1, 1, 'a', 4, 0)), Unoffered, "kind 4"},
		"export twice":            {join(memory, sec(secExport, 2, 1, 'a', 2, 0, 1, 'a', 2, 0)), BadExport, "doubled"},
		"bodies":                  {join(void, one, sec(secCode, 2, 2, 0, 0x0b, 2, 0, 0x0b)), Malformed, "more bodies"},
		"body past its section":   {join(void, one, sec(secCode, 1, 9, 0, 0x0b)), Malformed, "a body of 9 bytes"},
		"element flags":           {join(table, sec(secElement, 1, 8)), Malformed, "flags 8"},
		"element kind":            {join(table, sec(secElement, 1, 1, 1, 0)), Unoffered, "kind 1"},
		"element's table":         {join(sec(secElement, 1, 0, 0x41, 0, 0x0b, 0)), BadIndex, "for table 0"},
		"element's function":      {join(table, sec(secElement, 1, 0, 0x41, 0, 0x0b, 1, 0)), BadIndex, "no function 0"},
		"element past its table": {join(void, one, table, sec(secElement, 1, 0, 0x41, 1, 0x0b, 1, 0), body),
			BadIndex, "ends at 2: its table has 1"},
		"data flags":     {join(memory, sec(secData, 1, 3)), Malformed, "flags 3"},
		"data no memory": {join(sec(secData, 1, 0, 0x41, 0, 0x0b, 0)), BadIndex, "no memory"},
		"data past end":  {join(memory, sec(secData, 1, 0, 0x41, 0, 0x0b, 2, 0)), Malformed, "2 bytes are announced"},
		"data count":     {join(memory, sec(secDataCount, 2), sec(secData, 1, 1, 0)), Malformed, "2 data segments are announced"},
		"data.drop":      {join(void, one, memory, sec(secDataCount, 0), sec(secCode, 1, 5, 0, 0xfc, 9, 0, 0x0b)), BadIndex, "no data segment 0"},
	} {
		refusal(t, name, c.code, DefaultLimits(), c.kind, c.want)
	}
}

// LEB128 numbers may be longer than they need to be, but not than their bits need, and what is left
// over of their last byte must be zeros, or the sign.
func TestNumbers(t *testing.T) {
	zeros := func(n int, last byte) []byte { return append(bytes.Repeat([]byte{0x80}, n), last) }
	ones := func(n int, last byte) []byte { return append(bytes.Repeat([]byte{0xff}, n), last) }
	const u32 = 0
	for _, c := range []struct {
		bits uint // of a number with a sign, or u32
		b    []byte
		want int64
		ok   bool
	}{
		{u32, []byte{0x7f}, 127, true}, {u32, zeros(4, 0), 0, true}, {u32, ones(4, 0x0f), 1<<32 - 1, true},
		{u32, ones(4, 0x1f), 0, false}, {u32, zeros(4, 0x40), 0, false}, {u32, zeros(5, 0), 0, false},
		{u32, []byte{0x80}, 0, false}, {u32, nil, 0, false},
		{32, []byte{0x7f}, -1, true}, {32, []byte{0x40}, -64, true}, {32, []byte{0xc0, 0}, 64, true},
		{32, ones(4, 0x07), 1<<31 - 1, true}, {32, zeros(4, 0x78), -1 << 31, true}, {32, ones(4, 0x7f), -1, true},
		{32, ones(4, 0x0f), 0, false}, {32, zeros(4, 0x08), 0, false}, {32, zeros(4, 0x70), 0, false},
		{32, zeros(5, 0), 0, false},
		{33, ones(4, 0x0f), 1<<32 - 1, true}, {33, zeros(4, 0x70), -1 << 32, true}, {33, ones(4, 0x1f), 0, false},
		{33, zeros(4, 0x60), 0, false}, {33, zeros(5, 0), 0, false},
		{64, ones(9, 0), 1<<63 - 1, true}, {64, zeros(9, 0x7f), -1 << 63, true}, {64, zeros(9, 0), 0, true},
		{64, zeros(9, 1), 0, false}, {64, ones(9, 0x7e), 0, false}, {64, zeros(10, 0), 0, false},
	} {
		got, ok := int64(0), true
		func() {
			defer func() { ok = recover() == nil }()
			r := reader{b: c.b, end: len(c.b)}
			if c.bits == u32 {
				got = int64(r.u32())
			} else {
				got = r.signed(c.bits)
			}
			ok = r.at == len(c.b)
		}()
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%d bits of % x: %d, %t; expected %d, %t", c.bits, c.b, got, ok, c.want, c.ok)
		}
	}
}

// What the bodies of a module need of each limit is let in, and one less is not.
func TestLimits(t *testing.T) {
	vector := func(n int, entry ...byte) []byte {
		return append(appendU32(nil, uint32(n)), slices.Repeat(entry, n)...)
	}
	code := slices.Concat([]byte{1, 3, 0x7f}, // 3 locals and 2 params
		[]byte{0x03, 0x40, 0x03, 0x40, 0x02, 0x40, 0x20, 0, 0x0e, 3, 0, 1, 2, 0, 0x0b, 0x0b, 0x0b}, // 2 loops, a block, a br_table
		[]byte{0x41, 0, 0x0d, 0, 0x10, 0, 0x0f, 0x0b})                                              // br_if, a call, a return
	empty := []byte{2, 0, 0x0b}
	bodies := slices.Concat([]byte{2}, appendU32(nil, uint32(len(code))), code, empty)
	module := join(
		sec(secType, 3, 0x60, 2, 0x7f, 0x7f, 0, 0x60, 0, 3, 0x7f, 0x7f, 0x7f, 0x60, 1, 0x7f, 0),
		sec(secImport, append([]byte{1, 3}, "env\x02ok\x00\x02"...)...), sec(secFunction, 2, 0, 0),
		sec(secTable, 2, 0x70, 0, 4, 0x70, 0, 3), sec(secMemory, 1, 0, 5),
		sec(secGlobal, vector(6, 0x7f, 0, 0x41, 0, 0x0b)...),
		sec(secExport, append([]byte{2, 9}, "long name\x02\x00\x01b\x00\x00"...)...),
		sec(secElement, 3, 0, 0x41, 0, 0x0b, 2, 0, 1, 0, 0x41, 2, 0x0b, 1, 0, 1, 0, 1, 2),
		sec(secCode, bodies...), sec(secData, vector(8, 0, 0x41, 0, 0x0b, 0)...))
	// The call has one operand too many, and the loops do not turn: Scan does not look at types.
	uses := map[string]int{"ModuleBytes": len(module), "Types": 3, "TypeValues": 6, "Functions": 3,
		"Imports": 1, "Exports": 2, "Globals": 6, "Params": 2, "Results": 3, "LocalsPerFunction": 5,
		"LocalsTotal": 7, "BodyBytes": len(code), "Nesting": 4, "MemoryPages": 5, "Tables": 2,
		"TableEntries": 7, "DataSegments": 8, "ElementSegments": 3, "Elements": 4, "Points": 4,
		"NameBytes": 9, "BrTableTargets": 3, "Branches": 5, "Loops": 2, "LoopsTimesLocals": 2 * 7,
		"BranchesTimesLocals": 5 * 7}
	limits := reflect.TypeFor[Limits]()
	for i := range limits.NumField() {
		name := limits.Field(i).Name
		if name == "CallDepth" || name == "GrowPages" {
			continue // they refuse no module
		}
		need, ok := uses[name]
		if !ok {
			t.Errorf("limit %s has no case", name)
			continue
		}
		lim := DefaultLimits()
		reflect.ValueOf(&lim).Elem().Field(i).SetInt(int64(need))
		if _, err := Scan(module, lim, []Import{{"env", "ok", FuncType{Params: []ValType{I32}}}}); err != nil {
			t.Errorf("%s of %d: %v", name, need, err)
		}
		reflect.ValueOf(&lim).Elem().Field(i).SetInt(int64(need - 1))
		refusal(t, name, module, lim, Limit, "")
	}
}
