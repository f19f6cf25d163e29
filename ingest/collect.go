package ingest

import (
	"errors"
	"strconv"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// collector gathers good events as records, grouped by shard in their order, and submits each
// group at once. It keeps its memory, and belongs to one goroutine.
type collector struct {
	in      *Ingest
	arrival int64
	shard   int // of events without a key
	groups  []group
	heads   []byte
	id      []byte

	// What submit leaves behind, as indexes of events.
	notTaken []uint32
	tooLarge []uint32
	why      error // of notTaken: bus.ErrFull or bus.ErrClosed
}

// group is what goes to one shard.
type group struct {
	recs    []bus.Record
	indexes []uint32 // of the events
}

// The memory that a collector keeps between uses.
const (
	keepHeads   = 1 << 20 // bytes
	keepRecords = 1 << 14
)

func newCollector(in *Ingest) collector {
	return collector{in: in, groups: make([]group, in.config.Bus.Shards())}
}

// reset makes the collector ready for events that arrived at that time, and puts those without a
// key on the given shard.
func (c *collector) reset(arrival int64, shard int) {
	c.arrival, c.shard = arrival, shard
	c.heads = c.heads[:0]
	if cap(c.heads) > keepHeads {
		c.heads = nil
	}
	for i := range c.groups {
		g := &c.groups[i]
		if cap(g.recs) > keepRecords {
			*g = group{}
		}
		g.recs, g.indexes = g.recs[:0], g.indexes[:0]
	}
	c.notTaken, c.tooLarge, c.why = c.notTaken[:0], c.tooLarge[:0], nil
}

// forget drops the records, which would keep the memory of their bodies and heads from being freed.
func (c *collector) forget() {
	for i := range c.groups {
		clear(c.groups[i].recs)
	}
}

// add adds an event and gives it what it lacks: an id, a time. The bytes of json must stay as they
// are until submit. It fails if a text of the envelope is too long.
func (c *collector) add(env *event.Envelope, json []byte, index int) error {
	if len(env.ID) == 0 {
		c.id = append(c.id[:0], c.in.nonce...)
		c.id = append(c.id, '-')
		c.id = strconv.AppendUint(c.id, c.in.ids.Add(1), 10)
		env.ID = c.id
	}
	if env.Time == 0 {
		env.Time = c.arrival
	}
	env.Arrival = c.arrival
	env.Index = uint32(index)
	at := len(c.heads)
	// If this grows into new memory, the heads made before stay valid where they are.
	heads, err := event.AppendHead(c.heads, env)
	if err != nil {
		return err
	}
	c.heads = heads
	shard := c.shard
	if len(env.Key) > 0 {
		shard = c.in.config.Bus.ShardOf(env.Key)
	}
	g := &c.groups[shard]
	g.recs = append(g.recs, bus.Record{Head: heads[at:], Body: json})
	g.indexes = append(g.indexes, uint32(index))
	return nil
}

// setReply marks all events as those of a request that waits.
func (c *collector) setReply(id uint64) {
	for i := range c.groups {
		for _, rec := range c.groups[i].recs {
			event.SetReply(rec.Head, id)
		}
	}
}

// submit hands everything to the bus and returns how many events it took.
func (c *collector) submit(p *bus.Producer) (taken int) {
	for shard := range c.groups {
		g := &c.groups[shard]
		recs, indexes := g.recs, g.indexes
		for len(recs) > 0 {
			n, err := p.Submit(shard, recs)
			taken += n
			recs, indexes = recs[n:], indexes[n:]
			if errors.Is(err, bus.ErrTooLarge) {
				c.tooLarge = append(c.tooLarge, indexes[0])
				recs, indexes = recs[1:], indexes[1:]
				continue
			}
			if err != nil {
				c.notTaken = append(c.notTaken, indexes...)
				c.why = err
				break
			}
		}
	}
	return taken
}
