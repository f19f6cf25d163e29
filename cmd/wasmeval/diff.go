package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

func newDiff() *cobra.Command {
	var old, new, format string
	var params []string
	var examples int
	cmd := &cobra.Command{
		Use:   "diff --old MODULE --new MODULE EVENTS.ndjson",
		Short: "Tell for which events two versions of a rule differ",
		Long: `Evaluates a file of events by two versions of a rule, as replay does, and tells for which events
the code, the payload or the kind of an error differs. A version whose match does not name an event's
type has code 0 for it. Exit code 1 if any event differs.`,
		Example: `  wasmeval diff --old limit-1.wasm --new limit-2.wasm events.ndjson
  wasmeval diff --old limit.wasm --new limit.wasm --param old:limit=100 --param new:limit=90 \
      --examples 3 --format json events.ndjson`,
		Args: cobra.ExactArgs(1),
	}
	configured := addOfflineFlags(cmd)
	cmd.Flags().StringVar(&old, "old", "", "module of the version before")
	cmd.Flags().StringVar(&new, "new", "", "module of the version after")
	cmd.Flags().StringArrayVar(&params, "param", nil,
		"parameter of both as name=value, or of one as old:name=value or new:name=value")
	cmd.Flags().IntVar(&examples, "examples", 5, "events to show, at most")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	_ = cmd.MarkFlagRequired("old") // they exist
	_ = cmd.MarkFlagRequired("new")
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(format, "text", "json"); err != nil {
			return err
		}
		if examples < 0 {
			return fmt.Errorf("--examples is %d: expected 0 or more", examples)
		}
		c, err := offlineConfig(configured)
		if err != nil {
			return err
		}
		rules := []replayRule{{name: "old", file: old}, {name: "new", file: new}}
		if err := setParams(rules, params); err != nil {
			return err
		}
		d := &ruleDiff{Old: old, New: new, Changed: map[string]int{}, Codes: map[string]int{},
			Examples: []diffExample{}, most: examples}
		r := &replay{rules: rules, each: d.add, log: cmd.ErrOrStderr(), stdin: cmd.InOrStdin()}
		bad := r.run(cmd.Context(), c, args[0])
		if bad != nil && r.bad == 0 {
			return bad
		}
		if err := d.write(cmd.OutOrStdout(), format); err != nil || d.Differ == 0 {
			return errors.Join(bad, err)
		}
		return errors.Join(bad, fmt.Errorf("%d of %d events changed their verdict", d.Differ, d.Events))
	})
	return cmd
}

// setParams gives each parameter to the rule that it names, or to all.
func setParams(rules []replayRule, params []string) error {
	for _, text := range params {
		name, rest, ok := strings.Cut(text, ":")
		only := ruleNamed(rules, name)
		for i := range rules {
			param := text
			if ok && only >= 0 {
				param = rest
			}
			if ok && only >= 0 && only != i {
				continue
			}
			if err := setParam(&rules[i].config, param); err != nil {
				return err
			}
		}
	}
	return nil
}

// ruleDiff is how two versions of a rule differ over a file.
type ruleDiff struct {
	Old      string         `json:"old"`
	New      string         `json:"new"`
	Events   int            `json:"events"`
	Differ   int            `json:"differ"`
	Changed  map[string]int `json:"changed"` // events by what of them differs: code, payload, error
	Codes    map[string]int `json:"codes"`   // events by their codes, as "0 -> 1"
	Examples []diffExample  `json:"examples"`

	most int // examples
}

type diffExample struct {
	Line    int             `json:"line"`
	Event   json.RawMessage `json:"event"`
	Changed []string        `json:"changed"`
	Old     diffVerdict     `json:"old"`
	New     diffVerdict     `json:"new"`
}

type diffVerdict struct {
	Code    int32                 `json:"code"`
	Payload json.RawMessage       `json:"payload,omitempty"`
	Error   *runtime.VerdictError `json:"error,omitempty"`
}

// add compares the verdicts of one event.
func (d *ruleDiff) add(from eventLine, verdicts []json.RawMessage) error {
	d.Events++
	e := diffExample{Line: from.line, Event: from.json}
	for _, text := range verdicts {
		v := struct {
			Rule string
			diffVerdict
		}{}
		if err := json.Unmarshal(text, &v); err != nil {
			return fmt.Errorf("cannot read a verdict: %w", err)
		}
		if v.Rule == "old" {
			e.Old = v.diffVerdict
		} else {
			e.New = v.diffVerdict
		}
	}
	if e.compare(); len(e.Changed) == 0 {
		return nil
	}
	d.Differ++
	for _, what := range e.Changed {
		d.Changed[what]++
	}
	if e.Old.Code != e.New.Code {
		d.Codes[fmt.Sprintf("%d -> %d", e.Old.Code, e.New.Code)]++
	}
	if len(d.Examples) < d.most {
		d.Examples = append(d.Examples, e)
	}
	return nil
}

// compare lists what differs.
func (e *diffExample) compare() {
	if e.Old.Code != e.New.Code {
		e.Changed = append(e.Changed, "code")
	}
	if !bytes.Equal(e.Old.Payload, e.New.Payload) &&
		len(differences("", e.Old.Payload, e.New.Payload)) > 0 {
		e.Changed = append(e.Changed, "payload")
	}
	if e.Old.kind() != e.New.kind() {
		e.Changed = append(e.Changed, "error")
	}
}

func (v *diffVerdict) kind() string {
	if v.Error == nil {
		return ""
	}
	return v.Error.Kind
}

func (v *diffVerdict) show(what string) string {
	switch {
	case what == "code":
		return fmt.Sprint(v.Code)
	case what == "payload":
		return orNone(oneLine(string(v.Payload)))
	case v.Error == nil:
		return "none"
	}
	return oneLine(v.Error.Error())
}

func (d *ruleDiff) write(w io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(d)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d events: %d have the same verdict, %d differ\n", d.Events, d.Events-d.Differ,
		d.Differ)
	for _, what := range slices.Sorted(maps.Keys(d.Changed)) {
		fmt.Fprintf(&b, "  %-8s %d\n", what, d.Changed[what])
	}
	for _, codes := range slices.Sorted(maps.Keys(d.Codes)) {
		fmt.Fprintf(&b, "  code %-9s %d\n", codes, d.Codes[codes])
	}
	for _, e := range d.Examples {
		fmt.Fprintf(&b, "line %d: %s\n", e.Line, oneLine(string(e.Event)))
		for _, what := range e.Changed {
			fmt.Fprintf(&b, "  %-8s old  %s\n  %-8s new  %s\n", what, e.Old.show(what), "", e.New.show(what))
		}
	}
	if more := d.Differ - len(d.Examples); more > 0 && len(d.Examples) > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
