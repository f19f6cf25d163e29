package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// startPart measures how a server with many rules starts, and what it takes when idle.
type startPart struct {
	dir   string
	kinds [][]byte // the modules
}

func (p *startPart) flags(cmd *cobra.Command) {
	cmd.Long = `Uploads rules of four kinds, ends the server and starts it again: how long until it is
ready, how much memory it has resident then, and how much CPU time it takes with nothing to do.`
	cmd.Flags().StringVar(&p.dir, "rules-dir", p.dir, "folder with the example rules")
}

// check reads the modules: in Go, two in C, and one without any library.
func (p *startPart) check() error {
	p.kinds = [][]byte{ruleOf(0, "*")}
	for _, r := range demoRules {
		code, err := moduleOr(filepath.Join(p.dir, r.file))
		if err != nil {
			return fmt.Errorf("%w: give --rules-dir", err)
		}
		p.kinds = append(p.kinds, code)
	}
	return nil
}

func (p *startPart) run(ctx context.Context, b *bench) error {
	s, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer s.kill()
	for i := range b.rules {
		if err := s.push(ctx, ruleName(i), p.kinds[i%len(p.kinds)]); err != nil {
			return err
		}
	}
	var ready, resident, idle []float64
	for range b.runs {
		if err := s.stop(); err != nil {
			return err
		}
		begun := time.Now()
		if err := s.restart(ctx); err != nil {
			return err
		}
		ready = append(ready, time.Since(begun).Seconds())
		bytes, err := residentOf(s.cmd.Process.Pid)
		if err != nil {
			return err
		}
		resident = append(resident, float64(bytes)/mib)
		percent, err := p.idle(ctx, b, s)
		if err != nil {
			return err
		}
		idle = append(idle, percent)
	}
	note := fmt.Sprintf("%d rules", b.rules)
	b.report.judge("start-time", ready, nil, note)
	b.report.judge("start-memory", resident, nil, note)
	b.report.judge("idle", idle, nil, note)
	return nil
}

// idle is the CPU time of a server with nothing to do, in percent of one core.
func (p *startPart) idle(ctx context.Context, b *bench, s *benchServer) (float64, error) {
	pause(ctx, b.warmUp) // what a start leaves to be done, such as a collection, is done by then
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if !pause(ctx, b.length) {
		return 0, ctx.Err()
	}
	after, err := s.cpu()
	return 100 * float64(after-before) / float64(time.Since(begun)), err
}
