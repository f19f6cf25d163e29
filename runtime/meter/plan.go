package meter

// How the charges are placed; see docs/RATIONALE.md for what each is worth.
const (
	quietCost   = 96  // most units of a function that its callers pay for
	segmentCost = 128 // most units of a segment that has no charge of its own
	chainCost   = 256 // and of all those that may run in one turn

	regionBytes = 4 << 10 // of a region, before the rest is one of its own

	shallow = 32 // most units of depth that a function may use uncounted, with all that it calls
)

// plan says how a body is rewritten.
type plan struct {
	quiet bool  // its callers pay for it
	depth int64 // what it takes from the depth; 0 if that is not counted
}

// plans decides how the bodies are rewritten, and completes the costs of their regions.
func (m *Module) plans() []plan {
	list := make([]plan, len(m.bodies))
	exported := map[uint32]bool{}
	table := false
	for _, e := range m.exports {
		exported[e.index] = exported[e.index] || e.kind == kindFunc
		table = table || e.kind == kindTable
	}
	// What callers through a table pay, by the signature: types may be given twice.
	byType := map[string]uint32{}
	for i := range m.bodies {
		b, f := &m.bodies[i], uint32(i+len(m.imports))
		if len(b.calls) > 0 || b.cost > quietCost || exported[f] || table && m.inTables[f] {
			continue
		}
		list[i].quiet = true
		if m.inTables[f] {
			byType[b.typ.String()] = max(byType[b.typ.String()], b.cost)
		}
	}
	costs := make([]uint32, len(m.types))
	for i, t := range m.types {
		costs[i] = byType[t.String()]
	}
	for i := range m.bodies {
		m.payCalls(&m.bodies[i], list, costs)
		m.bodies[i].joinSegments()
	}
	m.planDepth(list)
	return list
}

// payCalls adds to each region of b what the functions that it calls do not charge themselves.
func (m *Module) payCalls(b *body, list []plan, indirect []uint32) {
	for _, c := range b.calls {
		cost := uint32(0)
		if c.indirect {
			cost = indirect[c.index]
		} else if i := int(c.index) - len(m.imports); i >= 0 && list[i].quiet {
			cost = m.bodies[i].cost
		}
		if c.region == entry {
			b.cost += cost
		} else {
			b.points[c.region].n += cost
		}
	}
}

// joinSegments lets a loop that begins with a dispatch pay for its small segments: at each turn as
// much as those can cost that may run in one turn.
func (b *body) joinSegments() {
	for i := range b.points {
		p := &b.points[i]
		if p.kind != atSegment {
			continue
		}
		l := &b.loops[p.loop]
		if !p.through && !l.jumps {
			l.small = 0
		}
		if p.n <= segmentCost && l.small+p.n <= chainCost {
			l.small, p.n = l.small+p.n, 0
			if l.small > l.paid {
				b.points[l.point].n += l.small - l.paid
				l.paid = l.small
			}
		}
	}
}

// planDepth decides which functions count their depth: at least one on each way that leads back to
// its beginning, each that calls through a table, and each that would use too much with those that
// it calls.
func (m *Module) planDepth(list []plan) {
	n := len(list)
	d := depths{m: m, seen: make([]bool, n), need: make([]int64, n), counted: make([]bool, n)}
	for i := range m.bodies {
		d.counted[i] = m.bodies[i].indirect
	}
	for i := range m.bodies {
		d.visit(i)
	}
	inTables := int64(0)
	for i := range m.bodies {
		if !d.counted[i] && m.inTables[uint32(i+len(m.imports))] {
			inTables = max(inTables, d.need[i])
		}
	}
	for i := range m.bodies {
		if d.counted[i] {
			list[i].depth = d.need[i]
			if m.bodies[i].indirect {
				list[i].depth += inTables
			}
		}
	}
}

// depths is the state of a depth-first walk over the calls of a module.
type depths struct {
	m       *Module
	seen    []bool
	need    []int64 // what a function takes, with those that it calls and that count nothing
	counted []bool
	way     []step // to where the walk is
}

// step is a function on the way, the next of its calls, and the most that those before it need.
type step struct {
	body, next int
	most       int64
}

// visit walks from a function to all that it reaches.
func (d *depths) visit(i int) {
	d.enter(i)
	for len(d.way) > 0 {
		s := &d.way[len(d.way)-1]
		calls := d.m.bodies[s.body].calls
		if s.next == len(calls) {
			d.leave(s)
			continue
		}
		c := calls[s.next]
		callee := int(c.index) - len(d.m.imports)
		if !c.indirect && callee >= 0 && !d.seen[callee] {
			d.enter(callee) // and come back to this call
			continue
		}
		s.next++
		switch {
		case c.indirect || callee < 0:
		case d.need[callee] == 0:
			d.counted[callee] = true // it is on the way, so this is a recursion
		case !d.counted[callee]:
			s.most = max(s.most, d.need[callee])
		}
	}
}

func (d *depths) enter(i int) {
	if !d.seen[i] {
		d.seen[i] = true
		d.way = append(d.way, step{body: i})
	}
}

func (d *depths) leave(s *step) {
	d.need[s.body] = d.m.bodies[s.body].weight() + s.most
	if d.need[s.body] > shallow {
		d.counted[s.body] = true
	}
	d.way = d.way[:len(d.way)-1]
}
