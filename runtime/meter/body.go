package meter

// body is a function's code as Scan saw it. Offsets are in the module.
type body struct {
	typ        FuncType
	locals     int // params included
	decls      int // where the count of local declarations stands
	start, end int // the instructions, the last end included
	cost       uint32
	points     []point
	loops      []loop
	labels     []label
	calls      []call
	indirect   bool // calls through a table
	vectors    bool // has vector instructions
}

// region is a part of a body that is charged at one place: at the point with that index, or at the
// function's entry.
type region int32

const entry region = -1

// point is a place of a body where the rewrite adds or changes code.
type point struct {
	kind    pointKind
	through bool   // of a segment: the one before it may run into it
	at      uint32 // offset of the instruction; of a segment, that of its first
	// Of a loop, the cost of one turn; of a segment or the rest of a region, its cost; of a return, how
	// many blocks it is in.
	n    uint32
	loop int32 // of a loop, which it is; of a segment, of which loop
}

type pointKind uint8

const (
	atLoop    pointKind = iota
	atSegment           // what follows the end of a block that is a target of a dispatch
	atSplit             // the rest of a region that is long
	atReturn            // the instruction is replaced by a branch
	atCopy              // the length in bytes is on top of the stack
	atGrow              // the length in pages is
	atTable             // the length in entries is
)

// loop is a loop of a body.
type loop struct {
	point     region
	body, end int    // offsets of its first instruction, and of what follows it
	level     int    // how many blocks it is in
	outer     int32  // the loop that it is in, or noLoop
	labels    [2]int // of those in it
	calls     bool   // other functions run in it
	turns     bool   // something branches to its beginning
	inner     bool   // it has loops in it
	void      bool   // it has neither params nor results
	dispatch  bool   // it begins with a br_table to the segments that follow
	jumps     bool   // segments are branched to, not only by that

	small uint32 // cost of the small segments that may run before the one at hand
	paid  uint32 // the most that this was
}

const noLoop = -1

// label is a branch's target that is outside of the loop that the branch is in.
type label struct {
	at, end uint32 // where its index stands
	index   uint32
}

// call is a call in a body.
type call struct {
	region   region
	index    uint32 // of the function, or of the type
	indirect bool
}

func (s *scanner) codeEntry() {
	size := s.u32()
	if uint64(size) > uint64(s.end-s.at) {
		s.fail(Malformed, "a body of %d bytes is announced, but %d are left", size, s.end-s.at)
	}
	if uint64(size) > uint64(s.lim.BodyBytes) {
		s.fail(Limit, "a function's body has %d bytes: expected at most %d", size, s.lim.BodyBytes)
	}
	i := len(s.m.imports) + len(s.m.bodies)
	if i >= len(s.m.functions) {
		s.fail(Malformed, "there are more bodies than functions declared")
	}
	outer := s.end
	s.end = s.at + int(size)
	b := body{typ: s.m.types[s.m.functions[i]], decls: s.at}
	b.locals = len(b.typ.Params)
	for range s.count("local declarations", s.lim.LocalsPerFunction) {
		n := s.u32()
		if uint64(b.locals)+uint64(n) > uint64(s.lim.LocalsPerFunction) {
			s.fail(Limit, "a function has %d locals and more: expected at most %d",
				uint64(b.locals)+uint64(n), s.lim.LocalsPerFunction)
		}
		b.locals += int(n)
		s.valType()
	}
	if s.locals += b.locals; s.locals > s.lim.LocalsTotal {
		s.fail(Limit, "all functions together have %d locals and more: expected at most %d",
			s.locals, s.lim.LocalsTotal)
	}
	b.start, b.end = s.at, s.end
	w := walker{scanner: s, b: &b, head: -1}
	w.walk()
	s.easy(&w)
	if s.points += len(b.points) + len(b.calls); s.points > s.lim.Points {
		s.fail(Limit, "all functions together have %d loops, returns, calls and lengths, and more: "+
			"expected at most %d", s.points, s.lim.Points)
	}
	if s.at != s.end {
		s.fail(Malformed, "a function's body has %d bytes after its end", s.end-s.at)
	}
	s.end = outer
	s.m.bodies = append(s.m.bodies, b)
}

// easy fails if the body has what takes the compiler time, and memory, with the square of its
// number: blocks and branches, loops in each other, and locals whose values it must follow through
// all those.
func (s *scanner) easy(w *walker) {
	locals := w.b.locals + 2 // the rewrite adds some
	for _, c := range []struct {
		n, limit int
		what     string
	}{
		{w.branches, s.lim.Branches, "blocks and branches"},
		{len(w.b.loops), s.lim.Loops, "loops"},
		{len(w.b.loops) * locals, s.lim.LoopsTimesLocals, "loops times locals"},
		{w.branches * locals, s.lim.BranchesTimesLocals, "blocks and branches times locals"},
	} {
		if c.n > c.limit {
			s.fail(Limit, "a function has %d %s: expected at most %d", c.n, c.what, c.limit)
		}
	}
}

// weight is what one frame takes of the depth, in units of about 64 bytes. The compiler gives a
// place of its own to each value that it keeps during a call, so what that may come to depends on
// the size of the body; the values of vector instructions take more.
func (b *body) weight() int64 {
	perUnit := 64
	if b.vectors {
		perUnit = 16
	}
	return 2 + int64(b.locals)/8 + int64((b.end-b.start)/perUnit)
}
