// Package meter checks untrusted WebAssembly modules and adds a budget to them. It is pure: bytes
// in, bytes out.
//
//	m, err := meter.Scan(code, meter.DefaultLimits(), imports) // *meter.Error: what, and where
//	metered, err := m.Rewrite()
//	// compile metered, give it a memory of at most m.MostPages(), set the global FuelExport to a
//	// budget, call, read it again
//
// Scan reads the binary format itself, before any other decoder sees a byte: every count is bounded
// by the bytes that are left before anything is allocated for it, every index in a body is checked,
// and only opcodes and imports of a list are let in. It does not check types: whoever compiles the
// result does, and since the rewrite only adds complete, typed sequences, an invalid module stays
// invalid.
//
// # Fuel
//
// Each instruction costs at least one unit of fuel; those that may take much longer cost more, see
// costs. block, loop and end cost nothing, since nothing runs for them, but where ways join what a
// compiler moves there does, see mergeFree. A body is cut into regions,
// and a region's whole cost is taken from the fuel before anything of it runs. When the fuel falls
// below zero the guest asks its host for more, see PauseBytes, and traps if there is none. The regions
// are the function, inner loops apart, charged at its entry, what is left of a long one after some
// kilobytes of code, and each loop, inner loops apart, charged at its beginning and so at every turn. In one turn no
// instruction runs twice without passing the beginning again, so what was charged is never below
// what was executed. It depends on nothing but the module and its input, so it is the same on every
// machine, and it only falls. Instructions whose work depends on a length (memory.fill and its
// like) are charged for that before they run.
//
// Where that would be dear, charges are moved to an earlier place, never to a later one:
//   - small loops are repeated, so that one charge is for several turns;
//   - small functions that call nothing are paid for by their callers;
//   - where a loop begins with a br_table to what follows, as in all functions that Go's compiler
//     makes, each of the targets is a region of its own, and small ones are charged with the turn.
//
// # Depth
//
// Depth falls by a weight for a function's frame while it runs. It is counted in functions that
// call through a table, in at least one of each circle of functions that call each other, and where
// frames would add up; the weight of a function that counts has room for those that it calls and
// that do not.
//
// # Symbols
//
// Custom sections are left out, since offsets in them would be wrong. Symbols keep what they say of
// functions' names and of lines, by offsets in the rewritten code. Nobody else reads the module's
// own debug information: for wazero to name these offsets in a stack trace, the rewritten module has
// debug information of ours, the same for all modules, if the symbols have lines, and else none.
//
// All functions may be called from any goroutine.
package meter
