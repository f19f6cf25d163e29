package runtime

import (
	"bytes"
	"testing"

	"wasmeval/internal/event"
)

// A memory that shows a window has the window's bytes there and nowhere else, whatever is written over
// them, and its own again once the window is hidden: those of its image, and zeros after that.
func TestShowAndHide(t *testing.T) {
	const size, imaged = 40 * osPage, 32 * osPage
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
	if m.show(w, 1) == nil || m.show(w, size-osPage) == nil {
		t.Error("shown where there is no memory for it")
	}
	before := shownNow.Load()
	shownNow.Store(mostShown)
	if m.show(w, 0) == nil {
		t.Error("shown, though there are too many")
	}
	shownNow.Store(before)
	if err := m.show(w, 0); err != nil || shownNow.Load() != before+1 {
		t.Errorf("%d shown, expected %d, %v", shownNow.Load(), before+1, err)
	}
	if m.Free(); shownNow.Load() != before {
		t.Errorf("%d shown, expected %d", shownNow.Load(), before)
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
