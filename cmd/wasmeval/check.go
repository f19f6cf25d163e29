package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var configured func() (*Config, error)
	var print, list bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell every fault of a configuration, or show what is in effect",
		Long: `Reads the configuration as serve would and tells all of its faults at once, each with its place:
a line of the file, a flag or an environment variable. It opens no port and changes nothing.`,
		Example: `  wasmeval check --config wasmeval.yaml
  wasmeval check --config wasmeval.yaml --print    every value, and where it comes from
  wasmeval check --options                         every option there is, as Markdown`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if list {
				return writeOptions(out)
			}
			c, err := configured()
			if err := errors.Join(err, c.checkMemory()); err != nil {
				fmt.Fprintln(out, err)
				return errors.New("the configuration has faults")
			}
			if _, err := fmt.Fprintln(out, "ok"); err != nil || !print {
				return err
			}
			return c.write(out)
		},
	}
	configured = addConfigFlags(cmd)
	cmd.Flags().BoolVar(&print, "print", false, "print the configuration in effect with origins")
	cmd.Flags().BoolVar(&list, "options", false, "print the table of all options as Markdown")
	return cmd
}

// checkMemory says what serve would at its start, with the place of the option.
func (c *Config) checkMemory() error {
	err := checkRings(c, memoryBytes())
	if err == nil {
		return nil
	}
	place := c.origins["bus.shards"]
	if place == "default" {
		place = c.origins["bus.ring_bytes"]
	}
	return fmt.Errorf("%s: %w", place, err)
}

// write prints every value and its origin. Of sinks it prints no more than the type: URLs and
// headers may hold secrets.
func (c *Config) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "OPTION\tVALUE\tFROM")
	for i := range options {
		o := &options[i]
		fmt.Fprintf(w, "%s\t%s\t%s\n", o.path, orDash(o.format(c)), c.origins[o.path])
	}
	for _, s := range c.Sink.Sinks {
		fmt.Fprintf(w, "sink %s\t%s\t%s\n", s.Name, s.Type, "file")
	}
	for i, r := range c.Sink.Routes {
		fmt.Fprintf(w, "route %d\t%s / %s -> %s\t%s\n", i+1, orAll(r.Rules, "every rule"),
			orAll(r.Codes, "matched,failed"), strings.Join(r.Sinks, ","), "file")
	}
	return w.Flush()
}

// writeOptions prints the table of all options as Markdown, for docs/LIMITS.md.
func writeOptions(out io.Writer) error {
	var b strings.Builder
	b.WriteString("| YAML key | flag | environment | default | limits | meaning |\n")
	b.WriteString("|---|---|---|---|---|---|\n")
	for i := range options {
		o := &options[i]
		standard := "empty"
		if o.standard != "" {
			standard = "`" + o.standard + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s | %s | %s |\n",
			o.path, o.flag, o.env(), standard, o.limits(), o.help)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orAll(list []string, all string) string {
	if len(list) == 0 {
		return all
	}
	return strings.Join(list, ",")
}
