package runtime

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// A memory that shows a window has the window's bytes there and nowhere else, whatever is written over
// them, and its own again once the window is hidden: those of its image, and zeros after that.
func TestShowAndHide(t *testing.T) {
	const size, imaged = 64 * osPage, 32 * osPage
	m, err := newGuestMemory(memoryState{in: &instance{}, declared: size, most: size})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	own := bytes.Repeat([]byte("own."), imaged/4)
	img, err := newImage(own)
	if err != nil {
		t.Fatal(err)
	}
	defer img.close()
	if err := m.reset(img); err != nil {
		t.Fatal(err)
	}
	guest := m.Reallocate(size)
	own = append(own, make([]byte, size-imaged)...)
	w, err := newWindow(3*osPage - 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	columns := bytes.Repeat([]byte{'c'}, 3*osPage)
	copy(w.bytes, columns)
	for _, at := range []int{0, 10 * osPage, imaged - osPage, imaged, size - len(columns)} {
		if err := m.show(w, at); err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(own)
		copy(want[at:], columns)
		if !bytes.Equal(guest, want) {
			t.Errorf("shown at %d: not what the window has, or not there only", at)
		}
		clear(guest[at : at+len(columns)])
		if !bytes.Equal(w.bytes, columns) {
			t.Fatalf("shown at %d: what the guest writes comes to the window", at)
		}
		if err := m.clean(); err != nil || !bytes.Equal(guest, want) {
			t.Errorf("cleaned at %d: not what the window has, %v", at, err)
		}
		if err := m.hide(); err != nil || !bytes.Equal(guest, own) {
			t.Errorf("hidden at %d: not what the memory had before, %v", at, err)
		}
	}
	// What cannot be hidden is not taken for hidden.
	if err := m.show(w, 0); err != nil {
		t.Fatal(err)
	}
	fd := img.fd
	img.fd = -1
	for range 2 {
		if m.hide() == nil || m.shown == nil {
			t.Error("hidden behind an image that is not there")
		}
	}
	img.fd = fd
	if err := m.hide(); err != nil || !bytes.Equal(guest, own) {
		t.Errorf("hidden late: not what the memory had before, %v", err)
	}
	// However often it is shown and hidden, the memory takes no more mappings for it.
	mappings := func() int {
		text, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(text, []byte{'\n'})
	}
	for _, from := range []int{0, imaged - osPage, imaged} {
		begun := mappings()
		for at := from; at <= size-len(columns); at += len(columns) + osPage {
			if err := errors.Join(m.show(w, at), m.hide()); err != nil {
				t.Fatal(err)
			}
		}
		// Those of the test's own heap and threads come and go.
		if n := mappings() - begun; n > 3 {
			t.Errorf("%d more mappings after windows from %d on", n, from)
		}
	}
	if m.show(w, 1) == nil || m.show(w, size-osPage) == nil {
		t.Error("shown where there is no memory for it")
	}
	before := budget.shown.Load()
	budget.shown.Store(budget.most / 10)
	if m.show(w, 0) == nil {
		t.Error("shown, though there are too many")
	}
	budget.shown.Store(before)
	if err := m.show(w, 0); err != nil || budget.shown.Load() != before+1 {
		t.Errorf("%d shown, expected %d, %v", budget.shown.Load(), before+1, err)
	}
	if m.Free(); budget.shown.Load() != before {
		t.Errorf("%d shown, expected %d", budget.shown.Load(), before)
	}
}

// A window has nothing of the selection before, whether the next one comes there or not.
func TestWindowIsCleared(t *testing.T) {
	w, err := newWindow(2 * osPage)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	tab := table{window: w, mostRows: 300}
	events := make([]event.View, 300)
	for i := range events {
		events[i].Arrival = -1
	}
	for _, n := range []int{300, 100, 1, 200, 2} {
		tab.reset(0, n)
		tab.choose(events, make([]uint16, n))
		shown := 0
		if n >= windowRows {
			shown = 8 * n
		}
		want := append(bytes.Repeat([]byte{255}, shown), make([]byte, 2*osPage-shown)...)
		if !bytes.Equal(w.bytes, want) {
			t.Errorf("%d rows: the window has something else than their times", n)
		}
	}
}

// One instance that cannot be shown columns is not all of its program's, and gives way to others.
func TestTooManyShown(t *testing.T) {
	ctx := context.Background()
	o, err := OpenOffline(ctx, Config{Limits: DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	run := func(name string) *instance {
		if _, err := o.Put(ctx, RuleName(name), module(t, "odd"), PutOptions{Activate: true}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // at first a rule gets its events one by one
			o.Run(records(t, slices.Repeat([]bus.Record{{Body: []byte(`{"n":1}`)}}, windowRows)))
		}
		i := o.set.Load().byName[name]
		return o.set.Load().rules[i].instances[0]
	}
	a := run("a")
	before := budget.shown.Load()
	budget.shown.Store(budget.most / 10)
	b := run("b")
	budget.shown.Store(before)
	c := run("c")
	if a.memory.shown == nil || b.memory.shown != nil || c.memory.shown == nil {
		t.Errorf("shown: %v, %v, %v", a.memory.shown != nil, b.memory.shown != nil, c.memory.shown != nil)
	}
}

// Only a selection that is worth it and that has room comes into the window.
func TestSelectionsOfTheWindow(t *testing.T) {
	w, err := newWindow(2 * osPage)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for n, shown := range map[int]bool{windowRows - 1: false, windowRows: true, 300: true, 301: false} {
		tab := table{window: w, mostRows: 300}
		tab.reset(0, n)
		tab.choose(make([]event.View, n), make([]uint16, n))
		if got := tab.shows(nil, nil); got != shown {
			t.Errorf("%d rows: shown %v", n, got)
		}
	}
}

// Instances that would take the process's last mappings are refused, and so is what needs them, with a
// reason; the rules there are go on, and there is room again once they are gone.
func TestTooManyInstances(t *testing.T) {
	ctx := context.Background()
	o, err := OpenOffline(ctx, Config{Limits: DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	put := func(name string) error {
		_, err := o.Put(ctx, RuleName(name), module(t, "odd"), PutOptions{Activate: true})
		return err
	}
	if err := put("a"); err != nil {
		t.Fatal(err)
	}
	before, most := budget.memories.Load(), budget.most
	budget.most = 5 * (before + budget.shown.Load()) / 2
	err = put("b")
	budget.most = most
	if err == nil || !strings.Contains(err.Error(), "vm.max_map_count") {
		t.Errorf("expected an error that names vm.max_map_count, got %v", err)
	}
	if n := budget.memories.Load(); n != before {
		t.Errorf("%d instances after the refusal, expected %d", n, before)
	}
	verdicts, err := o.Replay(ctx, records(t, []bus.Record{{Body: []byte(`{"n":1}`)}}))
	if err != nil || len(verdicts) != 1 || len(verdicts[0]) != 1 {
		t.Errorf("rule a gave %s, %v, expected a verdict", verdicts, err)
	}
	if err := put("b"); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}
