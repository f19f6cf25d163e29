package runtime

import (
	"sync"

	"wasmeval/runtime/meter"
)

const (
	wasmPage = 64 << 10
	osPage   = 4 << 10 // what can be mapped, at least
)

func pageUp(n int) int { return (n + osPage - 1) &^ (osPage - 1) }

// memoryState is what a guest's memory knows of its instance, on all systems.
type memoryState struct {
	in             *instance
	declared, most uint64 // bytes that it may have by its module, and by the limits, too
	size           uint64 // that it has

	shown   *window // that the guest sees, or nil
	shownAt int     // from there on

	refused int // times that it did not grow for the limits
}

// grants reports whether the memory may have so many bytes. If the guest asks for what it cannot have
// because it is to pause, it does that.
func (m *memoryState) grants(size uint64) bool {
	if size <= m.most {
		return true
	}
	paused := size == meter.PauseBytes && m.in.fuel != nil && m.in.pause()
	if !paused && size <= m.declared {
		m.refused++
	}
	return false
}

// snapshot is the state of an instance that is ready to evaluate: its memory and its mutable
// globals, and what the host keeps beside them. Instances of the same program with the same
// parameters begin with it, and go back to it after a failure, in microseconds.
type snapshot struct {
	memory        *image
	globals       []uint64
	place, placed uint32
	random        uint64

	params string
	refs   int // guarded by snapshots.mu
}

// snapshots are those of one program, by parameters. All methods may be called from any goroutine.
type snapshots struct {
	mu   sync.Mutex
	kept map[string]*snapshot
}

// get returns the snapshot for some parameters, which the caller must put back, or nil.
func (s *snapshots) get(params []byte) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.kept[string(params)]
	if snap != nil {
		snap.refs++
	}
	return snap
}

// take makes a snapshot of an instance that was just made ready with these parameters. The caller
// must put it back. It returns nil where the instance has state that cannot be restored.
func (s *snapshots) take(in *instance, params []byte) *snapshot {
	snap := in.snapshot()
	if snap == nil {
		return nil
	}
	snap.params, snap.refs = string(params), 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.kept[snap.params]; other != nil { // another goroutine was faster
		snap.memory.close()
		other.refs++
		return other
	}
	if s.kept == nil {
		s.kept = map[string]*snapshot{}
	}
	s.kept[snap.params] = snap
	return snap
}

// put lets go of a snapshot, which may be nil.
func (s *snapshots) put(snap *snapshot) {
	if snap == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap.refs--; snap.refs == 0 {
		delete(s.kept, snap.params)
		snap.memory.close()
	}
}

// snapshot copies the instance's state, or returns nil if that cannot be restored.
func (in *instance) snapshot() *snapshot {
	if !in.prog.resettable {
		return nil
	}
	mem, ok := in.mem.Read(0, in.mem.Size())
	if !ok {
		return nil
	}
	img, err := newImage(mem)
	if err != nil {
		return nil // instances are then made anew, which is slower and nothing else
	}
	s := &snapshot{memory: img, place: in.place, placed: in.placed, random: in.random}
	for _, g := range in.globals {
		s.globals = append(s.globals, g.Get())
	}
	return s
}

// restore brings the instance into the state of a snapshot of its program. It reports whether it
// could: not if the memory has grown since, for memories do not shrink. Then the instance must be
// closed.
func (in *instance) restore(s *snapshot) bool {
	if s == nil || in.mod.IsClosed() || in.memory.hide() != nil {
		return false
	}
	if size := int(in.mem.Size()); size < s.memory.size {
		in.mem.Grow(uint32((s.memory.size - size) / wasmPage)) // what it became when it was made ready
	}
	if int(in.mem.Size()) != s.memory.size {
		return false
	}
	if err := in.memory.reset(s.memory); err != nil {
		return false
	}
	for i, g := range in.globals {
		g.Set(s.globals[i])
	}
	in.depth.Set(in.fullDepth)
	in.place, in.placed, in.random = s.place, s.placed, s.random
	in.line[0], in.line[1] = in.line[0][:0], in.line[1][:0]
	in.over, in.clock = [2]bool{}, 0
	return true
}
