package runtime

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// window is memory of one worker that its instances see as a part of theirs, so that what many rules
// read is written once. A guest that writes there gets pages of its own. It belongs to the worker.
type window struct {
	fd    int // of a file in memory, without a name
	bytes []byte
}

// newWindow makes a window of that many bytes, rounded up to whole pages.
func newWindow(size int) (*window, error) {
	if os.Getpagesize() != osPage {
		return nil, fmt.Errorf("pages have %d bytes: expected %d", os.Getpagesize(), osPage)
	}
	size = pageUp(size)
	fd, err := memoryFile("wasmeval-window", size)
	if err != nil {
		return nil, fmt.Errorf("cannot make memory for the columns of rules: %w", err)
	}
	w := &window{fd: fd}
	w.bytes, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		w.close()
		return nil, fmt.Errorf("cannot map memory for the columns of rules: %w", err)
	}
	return w, nil
}

// close lets go of the window; memories that show it keep it.
func (w *window) close() {
	if w == nil {
		return
	}
	if w.bytes != nil {
		_ = unix.Munmap(w.bytes) // it was mapped, so this cannot fail
	}
	_ = unix.Close(w.fd)
}

// show lets the window be what the guest sees from an address on, which is the beginning of a page. The
// caller has seen to it that the guest has that memory, and gave it to the host.
func (m *guestMemory) show(w *window, at int) error {
	if m.shown == w && m.shownAt == at {
		return nil
	}
	if err := m.hide(); err != nil {
		return err
	}
	if err := budget.addShown(); err != nil {
		return err
	}
	if err := m.mapAt(at, len(w.bytes), w.fd, 0, 0); err != nil {
		budget.shown.Add(-1)
		return err
	}
	m.shown, m.shownAt = w, at
	return nil
}

// hide gives the guest memory of its own where it saw the window: that of its image, or zeros. After an
// error the memory still counts as one that shows it, and must not be used.
func (m *guestMemory) hide() error {
	if m.shown == nil {
		return nil
	}
	at, end := m.shownAt, m.shownAt+len(m.shown.bytes)
	if m.base != nil && at < m.base.size {
		n := min(end, m.base.size) - at
		if err := m.mapAt(at, n, m.base.fd, at, 0); err != nil {
			return err
		}
		at += n
	}
	if at < end {
		if err := m.mapAt(at, end-at, -1, 0, unix.MAP_ANON); err != nil {
			return err
		}
		if err := smallPages(m.region[at:end]); err != nil {
			return err
		}
	}
	m.shown = nil
	budget.shown.Add(-1)
	return nil
}

// clean drops what the guest wrote over the window.
func (m *guestMemory) clean() error {
	return unix.Madvise(m.region[m.shownAt:m.shownAt+len(m.shown.bytes)], unix.MADV_DONTNEED)
}
