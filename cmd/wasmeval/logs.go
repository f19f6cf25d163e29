package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newLogs() *cobra.Command {
	var follow, asJSON bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show what a rule logs",
		Long: `Shows the last lines that a rule logged, of those that the server has kept, and with --follow
those that come, until it is interrupted or the rule is deleted.`,
		Example: `  wasmeval logs payment-limit
  wasmeval logs payment-limit --follow --lines 0
  wasmeval logs payment-limit --json | jq .text`,
		Args: cobra.ExactArgs(1),
	}
	connect := addClientFlags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with the lines that come")
	f.IntVarP(&lines, "lines", "n", 20, "lines to begin with")
	f.BoolVar(&asJSON, "json", false, "print each line's JSON object, one a line")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		l := &logReader{name: args[0], out: cmd.OutOrStdout(), asJSON: asJSON}
		l.tailReader = tailReader{client: c, what: "log", kind: "log", take: l.show,
			path:   "/v1/rules/" + url.PathEscape(l.name) + "/logs",
			query:  url.Values{"lines": {strconv.Itoa(lines)}},
			notice: func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), oneLine(text)) }}
		if !follow {
			return l.recent(cmd)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		err = l.run(ctx)
		if errors.Is(err, errDeleted) {
			l.notice(err.Error())
			return nil
		}
		return err
	}
	return cmd
}

// logReader shows the lines of one rule.
type logReader struct {
	tailReader
	name   string
	out    io.Writer
	asJSON bool
}

// recent shows the last lines.
func (l *logReader) recent(cmd *cobra.Command) error {
	l.query.Set("follow", "false")
	var answer struct{ Lines []json.RawMessage }
	_, err := l.client.json(cmd.Context(), call{method: http.MethodGet, path: l.path, query: l.query},
		&answer)
	if err != nil {
		return fmt.Errorf("cannot read the log of rule %q: %w", l.name, err)
	}
	for _, line := range answer.Lines {
		if err := l.show(line); err != nil {
			return err
		}
	}
	return nil
}

// show prints one line, and remembers it for the next connection to go on after it.
func (l *logReader) show(data []byte) error {
	var line struct {
		Seq         uint64
		Time        time.Time
		Level, Text string
		Version     int
	}
	err := json.Unmarshal(data, &line)
	if err == nil {
		l.query.Set("after", strconv.FormatUint(line.Seq, 10))
	}
	if err != nil || l.asJSON {
		_, err := fmt.Fprintf(l.out, "%s\n", data)
		return err
	}
	_, err = fmt.Fprintf(l.out, "%s  %-5s  @%d  %s\n", line.Time.Local().Format("15:04:05.000"),
		oneLine(line.Level), line.Version, oneLine(line.Text))
	return err
}
