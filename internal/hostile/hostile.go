package hostile

import (
	"fmt"
	"slices"
	"strings"
)

// Module is one attack, and what must come of it.
type Module struct {
	Name   string // of its file, without .wasm
	Attack string // one line: what it attacks, and how
	Code   []byte

	// Bomb says that compiling it may take more time or memory than a server can give: a process must
	// do it that has limits. If it is refused then, by exceeding one, that is as good as a verdict.
	Bomb bool

	// Refused is a part of the message by which the upload is refused; empty if it is loaded. Kind
	// is the kind of the refusal where it is the prescan's, or else empty.
	Refused, Kind string

	// Events are what it is to be called with, and Verdicts what comes of each, if it is loaded.
	Events   []string
	Verdicts []Verdict
}

// Verdict is what must come of one event: a code, or an error of a kind.
type Verdict struct {
	Code  int32
	Fault string
}

// String is the verdict as the index has it.
func (v Verdict) String() string {
	if v.Fault != "" {
		return v.Fault
	}
	return fmt.Sprint(v.Code)
}

// Answer is what must come of the module, as the index has it.
func (m *Module) Answer() string {
	switch {
	case m.Bomb && m.Refused == "":
		return "422 where a limit of the compiler says so, else verdicts 1, 1, 1"
	case m.Refused == "":
		list := make([]string, len(m.Verdicts))
		for i, v := range m.Verdicts {
			list[i] = v.String()
		}
		return "verdicts " + strings.Join(list, ", ")
	case m.Kind != "":
		return fmt.Sprintf("422 %s: … %s …", m.Kind, m.Refused)
	}
	return fmt.Sprintf("422 … %s …", m.Refused)
}

// Modules makes the corpus, in the order of the index.
func Modules() []Module {
	return slices.Concat(counts(), shapes(), floods(), features(), constants(), imports(),
		exports(), indexes(), readiness(), manifests(), spins(), stacks(), memories(), payloads(),
		hostCalls(), states(), answers(), places(), symbols(), bombs())
}

// What most modules are called with: those that misbehave do so for "bad":1.
var standard = []string{`{"bad":0}`, `{"bad":1}`, `{"bad":0}`}

// refused is a module that the prescan refuses.
func refused(name, attack string, code []byte, kind, message string) Module {
	return Module{Name: name, Attack: attack, Code: code, Kind: kind, Refused: message}
}

// unready is a module that the prescan lets in, and that is refused later.
func unready(name, attack string, g guest, message string) Module {
	return Module{Name: name, Attack: attack, Code: g.build(), Refused: message}
}

// fails is a module that is loaded, and whose attack gives an error of a kind.
func fails(name, attack string, g guest, fault string) Module {
	return loaded(name, attack, g, Verdict{Code: 1}, Verdict{Fault: fault}, Verdict{Code: 1})
}

// says is a module that is loaded, and whose attack gives a code.
func says(name, attack string, g guest, code int32) Module {
	return loaded(name, attack, g, Verdict{Code: 1}, Verdict{Code: code}, Verdict{Code: 1})
}

// always is a module that is loaded, and gives the same for each event.
func always(name, attack string, g guest, v Verdict) Module {
	return loaded(name, attack, g, v, v,
		v)
}

func loaded(name, attack string, g guest, v ...Verdict) Module {
	return Module{Name: name, Attack: attack, Code: g.build(), Events: standard, Verdicts: v}
}
