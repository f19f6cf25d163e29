package runtime

import (
	"bytes"
	"slices"
)

// retire takes a rule that no worker uses any more out of work. The last few stay on standby: with their
// program loaded and their instances back where they began, so that a swap to one of them, as a rollback
// is, neither loads code nor makes memory while events wait for the same processors. The caller holds mu.
func (e *Engine) retire(r *activeRule) {
	release(r.states)
	r.rest()
	e.standby = append(e.standby, r)
	if len(e.standby) > e.limits.Standby {
		e.unload(e.standby[0])
		e.standby = slices.Delete(e.standby, 0, 1)
	}
}

// takeBack is retire for a rule that was made ready and did not come to work: it goes where it came from.
// The caller holds mu.
func (e *Engine) takeBack(r *activeRule) {
	if r.resumed {
		e.retire(r)
		return
	}
	release(r.states)
	e.unload(r)
}

// rest lets go of the instances that a rule on standby does not need, and of what its events have left
// behind in the others. Its field states stays: Stats may be reading the set that it was in.
func (r *activeRule) rest() {
	r.closing.Lock()
	defer r.closing.Unlock()
	r.gone = true
	r.closeSpares()
	for i, in := range r.instances {
		if in == nil {
			continue
		}
		in.keeper = nil
		if !in.restore(r.snapshot) {
			in.close()
			r.instances[i] = nil
		}
	}
}

// resume gives r the instances of the rule on standby that ran the same program with the same
// parameters under the same name, if there is one. r has its program and its snapshot already.
func (e *Engine) resume(r *activeRule) {
	at := slices.IndexFunc(e.standby, func(s *activeRule) bool {
		return s.name == r.name && s.prog == r.prog && bytes.Equal(s.params, r.params)
	})
	if at < 0 {
		return
	}
	s := e.standby[at]
	r.resumed = true
	e.standby = slices.Delete(e.standby, at, at+1)
	for i, in := range s.instances {
		if in != nil {
			in.log = e.logger(r)
			r.instances[i], s.instances[i] = in, nil
		}
	}
	e.unload(s)
}

// dropStandby unloads what a rule that was deleted has on standby. The caller holds mu.
func (e *Engine) dropStandby(name RuleName) {
	e.standby = slices.DeleteFunc(e.standby, func(r *activeRule) bool {
		if r.name == name {
			e.unload(r)
		}
		return r.name == name
	})
}

// unload closes a rule that no worker uses any more, and whose states were released.
func (e *Engine) unload(r *activeRule) {
	r.closeInstances()
	e.programs.put(r.prog)
}
