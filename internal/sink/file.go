package sink

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	backupTime = "2006-01-02T15-04-05.000" // in the name of a backup, UTC
	packSuffix = ".gz"
	partSuffix = ".part" // of a backup while it is compressed
)

// file is a file of lines with a limit. Before a write would pass the limit, the file is renamed to
// a backup, whose name has the time before the extension, and a new one is begun. So a write stands
// in one file as a whole, and one that is larger than the limit has a file of its own.
//
// Others may rename or remove the file, as logrotate does, or put another one in its place: a write goes
// to what the path names when it begins.
//
// One goroutine calls Write and then Close, once. Backups are compressed and removed by a goroutine
// that Close ends. No two backups get the same name, however fast they follow each other and
// wherever the clock goes: nothing is ever written over.
type file struct {
	path       string
	maxBytes   int64
	maxBackups int           // 0: no limit
	maxAge     time.Duration // 0: no limit
	compress   bool
	report     func(error) // for what goes wrong beside a write; any goroutine may call it

	f    *os.File    // nil after a rotation that failed, or when it was gone and could not be made anew
	info fs.FileInfo // of f, when it was opened
	size int64
	mode fs.FileMode
	last time.Time // that of the newest backup

	tidy    chan struct{} // a token: there may be something to do for keep
	closing atomic.Bool   // compressing is to end at once
	ended   chan struct{} // closed when keep has returned
}

// openFile makes the folder and the file if they are not there, and starts a goroutine.
func openFile(path string, c *SinkConfig, report func(error)) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make folder of file %q: %w", path, err)
	}
	f := &file{
		path: path, maxBytes: int64(c.MaxSizeMB) << 20, maxBackups: c.MaxBackups,
		maxAge: time.Duration(c.MaxAgeDays) * 24 * time.Hour, compress: c.Compress,
		report: report, mode: 0o600,
		tidy: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if err := f.open(); err != nil {
		return nil, err
	}
	f.tidy <- struct{}{} // an earlier process may have left something
	go f.keep()
	return f, nil
}

func (f *file) open() error {
	// Opening a named pipe would wait for a reader, and renaming a device would break the system.
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("cannot open file %q: expected a regular file", f.path)
	}
	o, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, f.mode)
	if err != nil {
		return fmt.Errorf("cannot open file %q: %w", f.path, err)
	}
	info, err := o.Stat()
	if err == nil {
		f.f, f.info, f.size, f.mode = o, info, info.Size(), info.Mode().Perm()
		err = f.endLine()
	}
	if err != nil {
		f.f = nil
		return errors.Join(fmt.Errorf("cannot open file %q: %w", f.path, err), o.Close())
	}
	return nil
}

// endLine ends a line that a killed process has left torn, so that the next one is whole.
func (f *file) endLine() error {
	if f.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.f.ReadAt(last[:], f.size-1); err != nil || last[0] == '\n' {
		return err
	}
	n, err := f.f.Write([]byte{'\n'})
	f.size += int64(n)
	return err
}

// Write appends lines. If that fails it takes back a line that is not whole, if it can, and returns
// how many bytes stayed.
func (f *file) Write(lines []byte) (int, error) {
	if f.f != nil && !f.named() {
		f.leave()
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	if f.size > 0 && f.size+int64(len(lines)) > f.maxBytes {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := f.f.Write(lines)
	if err != nil {
		whole := bytes.LastIndexByte(lines[:n], '\n') + 1
		if cutErr := f.f.Truncate(f.size + int64(whole)); cutErr != nil {
			err = errors.Join(err, cutErr)
		} else {
			n = whole
		}
	}
	f.size += int64(n)
	return n, err
}

// named tells whether the path still names the open file. What is written into one that was removed
// would be gone with it, and count as delivered.
func (f *file) named() bool {
	info, err := os.Stat(f.path)
	return err == nil && os.SameFile(info, f.info)
}

// leave closes the file, which stays as it is.
func (f *file) leave() {
	err := f.f.Close()
	f.f = nil
	if err != nil {
		f.report(fmt.Errorf("cannot close file %q: %w", f.path, err))
	}
}

// rotate makes the file a backup and begins a new one.
func (f *file) rotate() error {
	f.leave()
	name, err := f.backupName()
	if err != nil {
		return fmt.Errorf("cannot rotate file %q: %w", f.path, err)
	}
	// A file that somebody has taken away needs no backup.
	if err := os.Rename(f.path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot rotate file %q: %w", f.path, err)
	}
	if err := f.open(); err != nil {
		return err
	}
	select {
	case f.tidy <- struct{}{}:
	default: // a token is there already
	}
	return nil
}

// backupName returns a name that no backup has, and that comes after those of the backups before.
func (f *file) backupName() (string, error) {
	at := time.Now().UTC().Truncate(time.Millisecond)
	for ; ; at = at.Add(time.Millisecond) {
		if !at.After(f.last) {
			at = f.last.Add(time.Millisecond)
		}
		before, ext := f.nameParts()
		name := filepath.Join(filepath.Dir(f.path), before+at.Format(backupTime)+ext)
		free := true
		for _, n := range []string{name, name + packSuffix} {
			if _, err := os.Lstat(n); err == nil {
				free = false
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		if free {
			f.last = at
			return name, nil
		}
	}
}

// nameParts are what stands before and after the time in the name of a backup.
func (f *file) nameParts() (before, ext string) {
	base := filepath.Base(f.path)
	ext = filepath.Ext(base)
	return strings.TrimSuffix(base, ext) + "-", ext
}

// Close closes the file and returns after the goroutine ended. What is not compressed yet stays as
// it is until the file is opened the next time.
func (f *file) Close() error {
	var err error
	if f.f != nil {
		err = f.f.Close()
	}
	f.closing.Store(true)
	close(f.tidy)
	<-f.ended
	return err
}

// keep is the goroutine that looks after the backups.
func (f *file) keep() {
	defer close(f.ended)
	for range f.tidy {
		if err := f.tidyUp(); err != nil {
			f.report(fmt.Errorf("cannot tidy the backups of file %q: %w", f.path, err))
		}
	}
}

// backup is a file that was rotated.
type backup struct {
	path   string
	at     time.Time
	packed bool
}

// tidyUp removes the backups that are too many or too old and compresses the others.
func (f *file) tidyUp() error {
	if f.maxBackups == 0 && f.maxAge == 0 && !f.compress {
		return nil
	}
	all, err := f.backups()
	if err != nil {
		return err
	}
	var faults []error
	var keep []backup
	var last time.Time
	number, oldest := 0, time.Now().Add(-f.maxAge)
	for _, b := range all {
		if number == 0 || !b.at.Equal(last) { // else one is the compressed form of the other
			number, last = number+1, b.at
		}
		if f.maxBackups > 0 && number > f.maxBackups || f.maxAge > 0 && b.at.Before(oldest) {
			faults = append(faults, os.Remove(b.path))
			continue
		}
		keep = append(keep, b)
	}
	for _, b := range keep {
		if f.compress && !b.packed {
			faults = append(faults, f.pack(b.path))
		}
	}
	return errors.Join(faults...)
}

// backups returns the backups, the newest first.
func (f *file) backups() ([]backup, error) {
	dir := filepath.Dir(f.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []backup
	before, ext := f.nameParts()
	for _, e := range entries {
		text, ours := strings.CutPrefix(e.Name(), before)
		text, packed := strings.CutSuffix(text, packSuffix)
		text, ends := strings.CutSuffix(text, ext)
		at, err := time.Parse(backupTime, text)
		if ours && ends && err == nil && e.Type().IsRegular() {
			all = append(all, backup{filepath.Join(dir, e.Name()), at, packed})
		}
	}
	slices.SortFunc(all, func(a, b backup) int {
		return cmp.Or(b.at.Compare(a.at), strings.Compare(a.path, b.path))
	})
	return all, nil
}

// pack compresses a backup. The backup is removed when its compressed form is safe on the disk, so
// no line is lost whatever happens on the way.
func (f *file) pack(name string) error {
	src, err := os.Open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	part := name + packSuffix + partSuffix
	dst, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	z := gzip.NewWriter(dst)
	_, err = io.Copy(z, &untilClosing{f, src})
	err = errors.Join(err, z.Close())
	if err == nil {
		err = dst.Sync()
	}
	err = errors.Join(err, dst.Close())
	if err == nil {
		err = os.Rename(part, name+packSuffix)
	}
	if err == nil {
		return os.Remove(name)
	}
	if errors.Is(err, errClosing) {
		err = nil
	}
	return errors.Join(err, os.Remove(part))
}

var errClosing = errors.New("the file is being closed")

// untilClosing reads until the file is being closed.
type untilClosing struct {
	f   *file
	src io.Reader
}

func (r *untilClosing) Read(p []byte) (int, error) {
	if r.f.closing.Load() {
		return 0, errClosing
	}
	return r.src.Read(p)
}
