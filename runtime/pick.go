package runtime

import "wasmeval/internal/event"

// picks is the tree of the paths of some columns, by which their values are found in the text of an
// event in one pass that ends with the last of them: events are checked before they come into the
// ring, and no object of theirs has a key twice. Building fastjson's tree of the whole event took
// longer than all the rest that a worker does for it.
type picks struct {
	nodes []pickNode // 0 is the event's object
	most  int        // columns
}

type pickNode struct {
	edges []pickEdge
	byKey map[string]int // where edges are of keys, if there are many edges
}

const manyEdges = 8 // above which a map is faster than a look at each

// pickEdge is one step of paths, and what they find there.
type pickEdge struct {
	step
	node int      // the steps that go on from here; 0: none
	cols []uint32 // columns whose paths end here
}

// newPicks makes the tree for those of the columns that are in the event's object, or nil if none is.
func newPicks(all []*column, which []uint32) *picks {
	p := &picks{nodes: make([]pickNode, 1)}
	for _, i := range which {
		if all[i].place != inObject {
			continue
		}
		p.most++
		node, edge := 0, (*pickEdge)(nil)
		for k, s := range all[i].steps {
			if k > 0 {
				node = p.below(edge)
			}
			edge = p.edge(node, s)
		}
		edge.cols = append(edge.cols, i)
	}
	if p.most == 0 {
		return nil
	}
	for i := range p.nodes {
		p.nodes[i].index()
	}
	return p
}

func (n *pickNode) index() {
	if len(n.edges) <= manyEdges {
		return
	}
	n.byKey = map[string]int{}
	for i := range n.edges {
		if n.edges[i].key != "" {
			n.byKey[n.edges[i].key] = i
		}
	}
}

// of is the edge for a key, or nil.
func (n *pickNode) of(key []byte) *pickEdge {
	if n.byKey != nil {
		if i, ok := n.byKey[string(key)]; ok {
			return &n.edges[i]
		}
		return nil
	}
	for i := range n.edges {
		if e := &n.edges[i]; e.index < 0 && e.key == string(key) {
			return e
		}
	}
	return nil
}

// below is the node under an edge, which is made if there is none.
func (p *picks) below(e *pickEdge) int {
	if e.node == 0 {
		e.node = len(p.nodes)
		p.nodes = append(p.nodes, pickNode{})
	}
	return e.node
}

// edge is the edge for a step, valid until another is made in that node.
func (p *picks) edge(node int, s step) *pickEdge {
	n := &p.nodes[node]
	for i := range n.edges {
		if n.edges[i].step == s {
			return &n.edges[i]
		}
	}
	n.edges = append(n.edges, pickEdge{step: s})
	return &n.edges[len(n.edges)-1]
}

// picker finds the values of one event. It keeps its memory, and belongs to one goroutine.
type picker struct {
	p     *picks
	b     []byte
	found []span // by column: where its value is in b; end is 0 if it has none
	left  int    // columns that may still be found
	odd   bool   // a key has escapes: the event is for fastjson
}

// stopped is returned instead of a place, when nothing more is to be found.
const stopped = -1

// pick finds the values of the columns in an event's text. It is false if that cannot be told here.
func (p *picker) pick(all *picks, which []uint32, text []byte) bool {
	for _, i := range which {
		for len(p.found) <= int(i) {
			p.found = append(p.found, span{})
		}
		p.found[i].end = 0
	}
	p.p, p.b, p.left, p.odd = all, text, all.most, false
	p.object(p.space(0), 0)
	return !p.odd
}

// object reads the object at a place, and returns the place after it.
func (p *picker) object(at, node int) int {
	n := &p.p.nodes[node]
	if at = p.space(at + 1); p.b[at] == '}' {
		return at + 1
	}
	for {
		end, plain := event.TextEnd(p.b, at)
		if !plain {
			p.odd = true
			return stopped
		}
		e := n.of(p.b[at+1 : end-1])
		at = p.space(p.space(end) + 1) // past the colon
		if e == nil {
			at = p.skip(at)
		} else if at = p.value(at, e); at == stopped {
			return stopped
		}
		if at = p.space(at); p.b[at] == '}' {
			return at + 1
		}
		at = p.space(at + 1) // past the comma
	}
}

// array reads the array at a place, and returns the place after it.
func (p *picker) array(at, node int) int {
	edges := p.p.nodes[node].edges
	for i, at := 0, at+1; ; {
		switch at = p.space(at); p.b[at] {
		case ']':
			return at + 1
		case ',':
			at++
			i++
			continue
		}
		var e *pickEdge
		for k := range edges {
			if edges[k].index == i {
				e = &edges[k]
				break
			}
		}
		if at = p.value(at, e); at == stopped {
			return stopped
		}
	}
}

// value reads the value at a place, which e, if not nil, leads to.
func (p *picker) value(at int, e *pickEdge) int {
	if e == nil {
		return p.skip(at)
	}
	from := at
	switch {
	case e.node != 0 && p.b[at] == '{':
		at = p.object(at, e.node)
	case e.node != 0 && p.b[at] == '[':
		at = p.array(at, e.node)
	default:
		at = p.skip(at)
	}
	if at == stopped {
		return stopped
	}
	for _, c := range e.cols {
		p.found[c] = span{uint32(from), uint32(at)}
		p.left--
	}
	if p.left == 0 {
		return stopped
	}
	return at
}

// skip returns the place after the value at a place.
func (p *picker) skip(at int) int {
	switch p.b[at] {
	case '"':
		end, _ := event.TextEnd(p.b, at)
		return end
	case '{', '[':
		return p.skipNested(at)
	}
	for b := p.b; b[at] > ' ' && b[at] != ',' && b[at]|0x20 != '}'; at++ { // ']' is '}' without 0x20
	}
	return at
}

func (p *picker) skipNested(at int) int {
	for depth := 0; ; {
		switch p.b[at] {
		case '"':
			at, _ = event.TextEnd(p.b, at)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
		at++
	}
}

func (p *picker) space(at int) int {
	for p.b[at] <= ' ' {
		at++
	}
	return at
}
