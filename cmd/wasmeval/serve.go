package main

import (
	"context"
	"errors"
	"io"
)

// serve runs the server until ctx ends.
func serve(ctx context.Context, c *Config, out io.Writer) error {
	return errors.New("serve is not wired yet")
}
