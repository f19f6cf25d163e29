// Package meter checks untrusted WebAssembly modules and adds a budget to them. It is pure: bytes
// in, bytes out.
//
//	m, err := meter.Scan(code, meter.DefaultLimits(), imports) // *meter.Error: what is refused, and where
//	metered, err := m.Rewrite()
//	// compile metered, set the global FuelExport to a budget, call, read it again
//
// Scan reads the binary format itself, before any other decoder sees a byte: every count is bounded
// by the bytes that are left before anything is allocated for it, every index in a body is checked,
// and only opcodes and imports of a list are let in. It does not check types: whoever compiles the
// result does, and since the rewrite only adds complete, typed sequences, an invalid module stays
// invalid.
//
// Rewrite adds two globals. Fuel falls by the static number of instructions of a region whenever the
// region is entered: a function's body, inner loops apart, at its entry, and each loop's body, inner
// loops apart, at the loop's header, so at every turn. Within a region no instruction runs twice
// without passing the header again, so what was charged is never below what was executed; and it
// depends on nothing but the module and its input, so it is the same on every machine. Instructions
// whose work depends on a length (memory.fill and its like) are charged for it before they run.
// Depth falls by a weight for the function's frame while it runs, in functions that call others.
// When either falls below zero, the guest traps by an unreachable instruction.
//
// All functions may be called from any goroutine.
package meter
