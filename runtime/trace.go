package runtime

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wasmeval/runtime/meter"
)

// maxTrace is how many calls the trace of a failure has; with the bounds of names and paths it has
// at most about 6 KB.
const maxTrace = 16

// frame is one call of those that a failure happened in.
type frame struct {
	name  string
	host  bool // a host function
	added bool // the function in which a guest pauses
	place meter.Place
}

// own reports whether the function is the rule's own, and not of a toolchain's library.
func (f *frame) own() bool {
	if f.host || f.place.Library {
		return false
	}
	return !slices.ContainsFunc(libraryNames, func(prefix string) bool {
		return strings.HasPrefix(f.name, prefix)
	})
}

// libraryNames are how the functions begin of what comes with the toolchains of Go, Rust and
// AssemblyScript.
var libraryNames = []string{"runtime.", "core::", "std::", "alloc::", "__rust", "rust_", "~lib/"}

// String is the function's name, with the place in its source if that is known.
func (f *frame) String() string {
	if !f.place.Known() {
		return f.name
	}
	return fmt.Sprintf("%s (%s:%d)", f.name, f.place.File, f.place.Line)
}

// exitError ends a guest that calls proc_exit. An error of wazero's own would come without a trace.
type exitError struct{ code uint32 }

// Error says what happened.
func (e exitError) Error() string { return fmt.Sprintf("the rule exited with code %d", e.code) }

// cutTrace parts what wazero says of a failed call from the calls that it happened in, the
// innermost first, of which there are at most 30. In its text a function of a guest is ".$" and its
// index, since the rewriting leaves no names, and then comes a line with the offset in the code, if
// the rewriting has left a beacon.
func (p *program) cutTrace(err error) (what string, frames []frame) {
	what, list, _ := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	what = strings.TrimSuffix(strings.TrimPrefix(what, "wasm error: "), " (recovered by wazero)")
	what, _, _ = strings.Cut(what, "\n")
	for line := range strings.Lines(list) {
		line, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			break
		}
		if text, ok := strings.CutPrefix(line, "\t0x"); ok {
			text, _, _ = strings.Cut(text, ":")
			if offset, err := strconv.ParseUint(text, 16, 64); err == nil && len(frames) > 0 {
				frames[len(frames)-1].place = p.symbols.Place(offset)
			}
			continue
		}
		name, _, ok := strings.Cut(line, "(")
		if !ok {
			continue // "... maybe followed by omitted frames"
		}
		frames = append(frames, p.frame(name))
	}
	return what, slices.DeleteFunc(frames, func(f frame) bool { return f.added })
}

func (p *program) frame(name string) frame {
	index, ok := strings.CutPrefix(name, ".$")
	if !ok {
		return frame{name: name, host: true}
	}
	i, err := strconv.ParseUint(index, 10, 32)
	if err != nil {
		return frame{name: name}
	}
	if name = p.symbols.Func(uint32(i)); name == "" {
		name = "function " + index
	}
	return frame{name: name, added: p.symbols.Added(uint32(i))}
}

// fault names what a failed call was stopped by, and where. The counters say it more surely than
// the trap: the metering ends a guest by an unreachable instruction, which a guest may have of its
// own.
func (in *instance) fault(err error) *VerdictError {
	what, frames := in.prog.cutTrace(err)
	f := &VerdictError{}
	for i := range frames[:min(len(frames), maxTrace)] {
		f.Trace = append(f.Trace, frames[i].String())
	}
	var exit exitError
	switch {
	case int64(in.fuel.Get()) < 0:
		f.Kind = FaultFuel
		f.Message = fmt.Sprintf("out of fuel: %s units used%s", thousands(in.used()), spent(frames))
	case int32(in.depth.Get()) < 0:
		f.Kind = FaultStack
		f.Message = "calls are nested too deep" + recursion(frames)
	case errors.As(err, &exit):
		f.Kind, f.Message = FaultExit, exit.Error()+where(frames)
	default:
		f.Kind, f.Message = FaultTrap, what+where(frames)
	}
	return f
}

// innermost is the first call of a function of the rule's own, or of any guest's; -1 without one.
func innermost(frames []frame) int {
	guest := -1
	for i := range frames {
		if frames[i].own() {
			return i
		}
		if guest < 0 && !frames[i].host {
			guest = i
		}
	}
	return guest
}

// where says in which function it happened, and which called that.
func where(frames []frame) string {
	i := innermost(frames)
	if i < 0 {
		return ""
	}
	text := " in " + frames[i].String()
	if i > 0 && !frames[i-1].host {
		text = " (" + frames[i-1].name + ")" + text // how a library ends it
	}
	if i+1 < len(frames) {
		text += ", called from " + frames[i+1].String()
	}
	return text
}

// spent says where the fuel came to its end.
func spent(frames []frame) string {
	i := innermost(frames)
	if i < 0 || !frames[i].place.Loop {
		return where(frames)
	}
	return fmt.Sprintf(" in the loop at %s:%d (function %s)", frames[i].place.File,
		frames[i].place.Line, frames[i].name)
}

// recursion names the function that is called most often of those that are known.
func recursion(frames []frame) string {
	count, most := map[string]int{}, ""
	for i := range frames {
		if name := frames[i].name; !frames[i].host {
			if count[name]++; count[name] > count[most] {
				most = name
			}
		}
	}
	for i := range frames {
		// Its own call of another says more than the beginning at which it was stopped.
		if f := &frames[i]; f.name == most && !f.place.Entry {
			return " in " + f.String()
		}
	}
	return where(frames)
}

// thousands is a number with commas between its thousands.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
