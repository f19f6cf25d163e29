package sink

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gopkg.in/natefinch/lumberjack.v2"
)

// One write takes all that is queued, up to this much.
const (
	writeMax   = 512 // verdicts
	writeBytes = 256 << 10
)

// writer is the output to standard output or to a file.
type writer struct {
	q    *queue
	w    io.Writer
	torn bool // the last write ended within a line
}

func (o *writer) deliver(ctx context.Context, lines []byte, n int) outcome {
	if ctx.Err() != nil {
		return outcome{left: n}
	}
	whole, err := writeLines(o.w, lines, &o.torn)
	if err != nil {
		o.q.failed.Add(1)
		return outcome{delivered: whole, dropped: n - whole, err: err}
	}
	return outcome{delivered: n}
}

func (o *writer) close() error {
	if c, ok := o.w.(*lumberjack.Logger); ok {
		return c.Close()
	}
	return nil // standard output is not ours
}

// writeLines writes lines with one call and returns, if that fails, how many went out whole. What
// follows a torn line begins on a new one.
func writeLines(w io.Writer, lines []byte, torn *bool) (whole int, err error) {
	if *torn {
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return 0, fmt.Errorf("cannot write verdicts: %w", err)
		}
		*torn = false
	}
	n, err := w.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err != nil {
		n = min(max(n, 0), len(lines))
		*torn = n > 0 && lines[n-1] != '\n'
		return bytes.Count(lines[:n], []byte{'\n'}), fmt.Errorf("cannot write verdicts: %w", err)
	}
	return 0, nil
}

// openFile makes a rotated file, and tries now whether it can be written.
func openFile(path string, c *SinkConfig) (*lumberjack.Logger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make folder of file %q: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open file %q: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("cannot close file %q: %w", path, err)
	}
	return &lumberjack.Logger{
		Filename: path, MaxSize: c.MaxSizeMB, MaxBackups: c.MaxBackups, MaxAge: c.MaxAgeDays,
		Compress: c.Compress,
	}, nil
}
