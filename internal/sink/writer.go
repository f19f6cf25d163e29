package sink

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
	file *file // what w is; nil: standard output, which is not ours to close
	torn bool  // the last write ended within a line
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
	if o.file != nil {
		return o.file.Close()
	}
	return nil
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
