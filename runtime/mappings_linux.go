package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// mappingBudget shares out the mappings that the kernel gives a process. Go's runtime ends the process when
// it cannot have one, so a fifth is left to it, to compiled code and to keyed state. Any goroutine may use it.
type mappingBudget struct {
	most     int64        // of the process: vm.max_map_count
	memories atomic.Int64 // guests' memories, of two mappings each: its image, and what follows
	shown    atomic.Int64 // of these, those that show a window, which takes two more
}

// The whole process has one budget, however many engines it has.
var budget = mappingBudget{most: mostMappings()}

// mostMappings asks the kernel, or says what it gives if nobody said otherwise.
func mostMappings() int64 {
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			return n
		}
	}
	return 65_530
}

// full reports whether there are more mappings than there may be.
func (b *mappingBudget) full() bool { return 2*(b.memories.Load()+b.shown.Load()) > b.most/5*4 }

func (b *mappingBudget) addMemory() error {
	if b.memories.Add(1); b.full() {
		return fmt.Errorf("there are %d instances of rules, as many as vm.max_map_count = %d allows: "+
			"expected fewer rules or shards, or a larger vm.max_map_count", b.memories.Add(-1), b.most)
	}
	return nil
}

// addShown leaves most of the mappings to memories: a window is only faster.
func (b *mappingBudget) addShown() error {
	if n := b.shown.Add(1); n > b.most/10 || b.full() {
		b.shown.Add(-1)
		return errors.New("too many rules are shown columns already")
	}
	return nil
}
