// Package hostile is the corpus of modules that are made to do harm, each with what must come of
// it.
//
//	for _, m := range hostile.Modules() {
//		err := upload(m.Code) // refused for the reason m.Refused, or loaded
//		verdicts := send(m.Events...) // m.Verdicts, and nobody else notices
//	}
//
// The modules are made here, by an assembler of the few things that they need, and stand as files
// in testdata/hostile for whoever wants to throw them at a server by hand; command gen writes the
// files. runtime/hostile_test.go throws them at an engine.
//
// All functions may be called from any goroutine. They panic only if the corpus itself is wrong.
package hostile
