package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

// rulesVerbs is what the verbs below `rules` share.
type rulesVerbs struct {
	client func() (*client, error)
	asJSON bool
}

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Upload, list, test, switch and roll back rules",
		Example: `  wasmeval rules push payment-limit payment-limit.wasm --param limit=500
  wasmeval rules test payment-limit --events events.ndjson
  wasmeval rules versions payment-limit
  wasmeval rules rollback payment-limit`,
		Args: cobra.NoArgs,
		RunE: helpOnly,
	}
	v := &rulesVerbs{client: addClientFlags(cmd)}
	cmd.PersistentFlags().BoolVar(&v.asJSON, "json", false, "print the server's answer as JSON")
	cmd.AddCommand(v.push(), v.list(), v.show(), v.versions(), v.activate(), v.configure(), v.test(),
		v.audit(),
		v.swap("rollback", "Activate the version that was active before, with its configuration"),
		v.swap("enable", "Let a rule take events again"),
		v.swap("disable", "Keep a rule from taking events"),
		v.remove())
	return cmd
}

// run makes a request and prints its answer: as JSON, or by show, which into was decoded for.
func (v *rulesVerbs) run(cmd *cobra.Command, what string, r call, into any,
	show func(w io.Writer)) error {
	c, err := v.client()
	if err != nil {
		return err
	}
	body, err := c.json(cmd.Context(), r, into)
	if err != nil {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	if v.asJSON {
		return printJSON(cmd.OutOrStdout(), body)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	show(w)
	return w.Flush()
}

func rulePath(name string, rest ...string) string {
	return "/v1/rules/" + url.PathEscape(name) + strings.Join(rest, "")
}

func (v *rulesVerbs) push() *cobra.Command {
	var off bool
	var config ruleConfigFlags
	cmd := &cobra.Command{
		Use:   "push NAME FILE.wasm",
		Short: "Upload a module as a new version of a rule, and make it active",
		Long: `Uploads a module. The same bytes are the same version again. Unless --no-activate is given, the
version takes over at once, with no event lost; the answer proves it. Parameters, fuel and policy
that are given here become the version's whole configuration, and with --reset what is not given has
its default. With none of them a new version takes over the configuration that the rule has, and one
that was there before has its own again. To change one of several, use configure.`,
		Example: `  wasmeval rules push geofence geofence.wasm
  wasmeval rules push payment-limit payment-limit.wasm --param limit=500 --param currency=USD
  wasmeval rules push risky risky.wasm --no-activate --on-failure fail_closed`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var put runtime.PutResult
			return v.upload(cmd, args[0], args[1], off, &config, &put)
		},
	}
	cmd.Flags().BoolVar(&off, "no-activate", false, "upload only; activate it later")
	config.addTo(cmd, resetPush)
	return cmd
}

// upload uploads a module, and shows what the server answers.
func (v *rulesVerbs) upload(cmd *cobra.Command, name, file string, off bool, config *ruleConfigFlags,
	put *runtime.PutResult) error {
	wasm, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read module %q: %w", file, errors.Unwrap(err))
	}
	r := call{method: http.MethodPut, path: rulePath(name), query: url.Values{},
		contentType: "application/wasm", body: wasm}
	if off {
		r.query.Set("activate", "false")
	}
	if config.given(cmd) {
		var c runtime.RuleConfig
		if err := config.apply(cmd, &c); err != nil {
			return err
		}
		text, err := json.Marshal(c)
		if err != nil {
			return err
		}
		r.query.Set("config", string(text))
	}
	return v.run(cmd, fmt.Sprintf("push rule %q", name), r, put,
		func(w io.Writer) { showPut(w, put) })
}

func showPut(w io.Writer, p *runtime.PutResult) {
	state := "was there already"
	if p.Created {
		state = "is new"
	}
	fmt.Fprintf(w, "%s version %d %s, sha256 %s; active: %s\n", p.Rule, p.Version, state,
		p.SHA256, versionOr(p.Active, "none"))
	if p.Swap != nil {
		showSwap(w, p.Swap)
	}
}

func showSwap(w io.Writer, s *runtime.Swap) {
	took := time.Duration(s.TookMicros) * time.Microsecond
	fmt.Fprintf(w, "generation %d after %v; the one before finished %d events; lost %d; running: %s\n",
		s.Generation, took, s.Drained, s.Lost, versionOr(s.Running, "none"))
}

func (v *rulesVerbs) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List all rules",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct{ Rules []runtime.Rule }
			r := call{method: http.MethodGet, path: "/v1/rules"}
			return v.run(cmd, "list rules", r, &answer, func(w io.Writer) {
				fmt.Fprintln(w, "RULE\tACTIVE\tVERSIONS\tSTATE\tUPDATED\tMATCH\tDESCRIPTION")
				for i := range answer.Rules {
					rule := &answer.Rules[i]
					var m runtime.Manifest
					if rule.Manifest != nil {
						m = *rule.Manifest
					}
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", rule.Name,
						versionOr(rule.Active, "-"), rule.Versions, ruleState(rule),
						shortTime(rule.Updated), orDash(oneLine(strings.Join(m.Match, ","))),
						oneLine(m.Description))
				}
			})
		},
	}
}

func ruleState(r *runtime.Rule) string {
	switch {
	case r.Error != "":
		return "broken"
	case !r.Enabled:
		return "disabled"
	case r.Active == 0:
		return "inactive"
	case r.Quarantine != nil:
		return "quarantined"
	}
	return "active"
}

func (v *rulesVerbs) show() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show one rule: its state, configuration, fields and parameters",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var rule runtime.Rule
			r := call{method: http.MethodGet, path: rulePath(args[0])}
			return v.run(cmd, fmt.Sprintf("show rule %q", args[0]), r, &rule,
				func(w io.Writer) { showRule(w, &rule) })
		},
	}
}

func showRule(w io.Writer, r *runtime.Rule) {
	fmt.Fprintf(w, "rule\t%s\nstate\t%s\nactive\t%s of %d\nprevious\t%s\nupdated\t%s\n", r.Name,
		ruleState(r), versionOr(r.Active, "none"), r.Versions, versionOr(r.Previous, "none"),
		shortTime(r.Updated))
	if r.Error != "" {
		fmt.Fprintf(w, "error\t%s\n", oneLine(r.Error))
	}
	if r.Config.Fuel != 0 {
		fmt.Fprintf(w, "fuel\t%d an event\n", r.Config.Fuel)
	}
	if r.Config.OnFailure != "" {
		fmt.Fprintf(w, "on failure\t%s\n", r.Config.OnFailure)
	}
	if r.Config.FailCode != 0 {
		fmt.Fprintf(w, "fail code\t%d\n", r.Config.FailCode)
	}
	if r.Config.FailPayload != nil {
		fmt.Fprintf(w, "fail payload\t%s\n", r.Config.FailPayload)
	}
	if q := r.Quarantine; q != nil {
		fmt.Fprintf(w, "quarantined\tsince %s, until %s, after %d tries: %s\n", shortTime(q.Since),
			shortTime(q.Until), q.Tries, oneLine(q.Reason.Error()))
	}
	if r.Manifest == nil {
		return
	}
	fmt.Fprintf(w, "description\t%s\nmatch\t%s\n", oneLine(r.Manifest.Description),
		oneLine(strings.Join(r.Manifest.Match, ", ")))
	for _, f := range r.Manifest.Fields {
		fmt.Fprintf(w, "field\t%s %s\n", oneLine(f.Path), f.Type)
	}
	for _, p := range r.Manifest.Params {
		value, from := p.Default, " (default)"
		if set, ok := r.Config.Params[p.Name]; ok {
			value, from = set, ""
		}
		fmt.Fprintf(w, "param\t%s %s = %s%s: %s\n", oneLine(p.Name), p.Type,
			orDash(oneLine(string(value))), from, oneLine(p.Description))
	}
}

func (v *rulesVerbs) versions() *cobra.Command {
	return &cobra.Command{
		Use:   "versions NAME",
		Short: "List the versions of a rule",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer struct{ Versions []runtime.Version }
			r := call{method: http.MethodGet, path: rulePath(args[0], "/versions")}
			return v.run(cmd, fmt.Sprintf("list versions of rule %q", args[0]), r, &answer,
				func(w io.Writer) {
					fmt.Fprintln(w, "VERSION\tACTIVE\tBYTES\tUPLOADED\tBY\tSHA256\tCONFIGURATION")
					for _, n := range answer.Versions {
						config, _ := json.Marshal(n.Config) // null if it has none of its own
						fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\n", n.Number,
							map[bool]string{true: "yes", false: "-"}[n.Active], n.Bytes,
							shortTime(n.Uploaded), n.By, n.SHA256, oneLine(string(config)))
					}
				})
		},
	}
}

func (v *rulesVerbs) activate() *cobra.Command {
	return &cobra.Command{
		Use:   "activate NAME VERSION",
		Short: "Make a version of a rule the active one",
		Long: `Makes a version the active one, with the configuration that it was active with last, or came with.
One that has none takes over the rule's.`,
		Example: `  wasmeval rules activate payment-limit 3`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil || n == 0 {
				return fmt.Errorf("version %q: expected a number from 1", args[1])
			}
			var swap runtime.Swap
			r := call{method: http.MethodPost, path: rulePath(args[0], "/activate"),
				contentType: "application/json", body: fmt.Appendf(nil, `{"version":%d}`, n)}
			return v.run(cmd, fmt.Sprintf("activate version %d of rule %q", n, args[0]), r, &swap,
				func(w io.Writer) { showSwap(w, &swap) })
		},
	}
}

// swap makes the verbs that are a POST with the rule's name and nothing else.
func (v *rulesVerbs) swap(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var swap runtime.Swap
			r := call{method: http.MethodPost, path: rulePath(args[0], "/", verb)}
			return v.run(cmd, fmt.Sprintf("%s rule %q", verb, args[0]), r, &swap,
				func(w io.Writer) { showSwap(w, &swap) })
		},
	}
}

func (v *rulesVerbs) remove() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a rule with all its versions",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var swap runtime.Swap
			r := call{method: http.MethodDelete, path: rulePath(args[0])}
			return v.run(cmd, fmt.Sprintf("delete rule %q", args[0]), r, &swap,
				func(w io.Writer) { showSwap(w, &swap) })
		},
	}
}

func (v *rulesVerbs) configure() *cobra.Command {
	var config ruleConfigFlags
	cmd := &cobra.Command{
		Use:   "configure NAME",
		Short: "Change a rule's parameters, fuel and policy on failure",
		Long: `Changes what is given of the active version's configuration and leaves the rest as it is; with
--reset the rest goes back to its default. Other versions keep theirs.`,
		Example: `  wasmeval rules configure payment-limit --param limit=750
  wasmeval rules configure payment-limit --reset --on-failure fail_closed --fail-code 9`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !config.given(cmd) {
				return errors.New("nothing to change: expected --param, --fuel, --on-failure, " +
					"--fail-code, --fail-payload or --reset")
			}
			what := fmt.Sprintf("configure rule %q", args[0])
			c, err := v.client()
			if err != nil {
				return err
			}
			var rule runtime.Rule
			if _, err := c.get(cmd.Context(), rulePath(args[0]), nil, &rule); err != nil {
				return fmt.Errorf("cannot %s: %w", what, err)
			}
			if config.reset {
				rule.Config = runtime.RuleConfig{}
			}
			if err := config.apply(cmd, &rule.Config); err != nil {
				return err
			}
			body, err := json.Marshal(rule.Config)
			if err != nil {
				return err
			}
			var swap runtime.Swap
			r := call{method: http.MethodPut, path: rulePath(args[0], "/config"),
				contentType: "application/json", body: body}
			return v.run(cmd, what, r, &swap, func(w io.Writer) { showSwap(w, &swap) })
		},
	}
	config.addTo(cmd, "begin with the defaults, not with what is set")
	return cmd
}

// ruleConfigFlags are the flags that make a rule's configuration.
type ruleConfigFlags struct {
	params    []string
	fuel      uint64
	onFailure string
	failCode  int32
	instead   string
	reset     bool
}

const resetPush = "give the version a configuration of its own, also if nothing else of it is given"

// addTo adds them to a verb that can reset a configuration.
func (f *ruleConfigFlags) addTo(cmd *cobra.Command, reset string) {
	cmd.Flags().BoolVar(&f.reset, "reset", false, reset)
	f.add(cmd)
}

func (f *ruleConfigFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.params, "param", nil,
		`parameter as name=value, any number of times; a value that is JSON is taken as such`)
	cmd.Flags().Uint64Var(&f.fuel, "fuel", 0, "fuel for one event; 0: the server's default")
	cmd.Flags().StringVar(&f.onFailure, "on-failure", "", "fail_open, fail_closed or default_verdict")
	cmd.Flags().Int32Var(&f.failCode, "fail-code", 0,
		"code of a failure under fail_closed, where 0 is 1, and default_verdict")
	cmd.Flags().StringVar(&f.instead, "fail-payload", "",
		"payload of a failure under default_verdict, JSON")
}

var ruleConfigNames = []string{"param", "fuel", "on-failure", "fail-code", "fail-payload"}

func (f *ruleConfigFlags) given(cmd *cobra.Command) bool {
	return f.reset || slices.ContainsFunc(ruleConfigNames, cmd.Flags().Changed)
}

// apply sets what was given in c.
func (f *ruleConfigFlags) apply(cmd *cobra.Command, c *runtime.RuleConfig) error {
	for _, p := range f.params {
		if err := setParam(c, p); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("fuel") {
		c.Fuel = f.fuel
	}
	if cmd.Flags().Changed("on-failure") {
		c.OnFailure = runtime.Policy(f.onFailure)
	}
	if cmd.Flags().Changed("fail-code") {
		c.FailCode = f.failCode
	}
	if cmd.Flags().Changed("fail-payload") {
		if c.FailPayload = json.RawMessage(f.instead); !json.Valid(c.FailPayload) {
			return fmt.Errorf("--fail-payload %q: expected JSON", f.instead)
		}
	}
	return nil
}

// setParam sets what --param says, name=value, in c.
func setParam(c *runtime.RuleConfig, param string) error {
	name, text, ok := strings.Cut(param, "=")
	if !ok || name == "" {
		return fmt.Errorf("--param %q: expected name=value", param)
	}
	value := json.RawMessage(text)
	if !json.Valid(value) {
		value, _ = json.Marshal(text) // a text cannot fail
	}
	if c.Params == nil {
		c.Params = make(map[string]json.RawMessage)
	}
	c.Params[name] = value
	return nil
}

func (v *rulesVerbs) test() *cobra.Command {
	var file string
	var number uint32
	var config ruleConfigFlags
	cmd := &cobra.Command{
		Use:   "test NAME --events FILE",
		Short: "Try a version of a rule on given events, with no side effects",
		Long: `Evaluates events by one version of a rule and explains what it did: verdict, payload, fuel, the
fields as it saw them, what it logged, and why it failed if it did. Nothing is routed or counted.`,
		Example: `  wasmeval rules test payment-limit --events events.ndjson
  wasmeval rules test payment-limit --version 4 --events - --param limit=10 < events.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			events, err := readTestEvents(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			request := struct {
				Version runtime.VersionNumber `json:"version,omitempty"`
				Events  []json.RawMessage     `json:"events"`
				Config  *runtime.RuleConfig   `json:"config,omitempty"`
			}{Version: runtime.VersionNumber(number), Events: events}
			if config.given(cmd) {
				request.Config = &runtime.RuleConfig{}
				if err := config.apply(cmd, request.Config); err != nil {
					return err
				}
			}
			body, err := json.Marshal(request)
			if err != nil {
				return err
			}
			var answer struct{ Verdicts []runtime.TestVerdict }
			r := call{method: http.MethodPost, path: rulePath(args[0], "/test"),
				contentType: "application/json", body: body}
			return v.run(cmd, fmt.Sprintf("test rule %q", args[0]), r, &answer, func(w io.Writer) {
				for i := range answer.Verdicts {
					showTest(w, &answer.Verdicts[i])
				}
			})
		},
	}
	cmd.Flags().StringVar(&file, "events", "", "file with events: objects, or arrays of them; -: stdin")
	cmd.Flags().Uint32Var(&number, "version", 0, "version to test; 0: the active one")
	config.add(cmd)
	_ = cmd.MarkFlagRequired("events") // it exists
	return cmd
}

func readTestEvents(name string, stdin io.Reader) ([]json.RawMessage, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read events %q: %w", name, errors.Unwrap(err))
		}
		defer f.Close()
		in = f
	}
	var events []json.RawMessage
	for dec := json.NewDecoder(in); ; {
		var value json.RawMessage
		switch err := dec.Decode(&value); {
		case errors.Is(err, io.EOF):
			return events, nil
		case err != nil:
			return nil, fmt.Errorf("cannot read events %q: after %d of them: %w", name, len(events), err)
		}
		if !bytes.HasPrefix(value, []byte("[")) {
			events = append(events, value)
			continue
		}
		var several []json.RawMessage
		if err := json.Unmarshal(value, &several); err != nil {
			return nil, fmt.Errorf("cannot read events %q: %w", name, err)
		}
		events = append(events, several...)
	}
}

func showTest(w io.Writer, t *runtime.TestVerdict) {
	took := time.Duration(t.TookNS)
	switch {
	case !t.Matched:
		fmt.Fprintf(w, "event %d: the rule does not match its type\n", t.Index)
		return
	case t.Error != nil:
		fmt.Fprintf(w, "event %d: failed: %s; code %d, fuel %d, %v\n", t.Index,
			oneLine(t.Error.Error()), t.Code, t.Fuel, took)
	default:
		fmt.Fprintf(w, "event %d: code %d, fuel %d, %v\n", t.Index, t.Code, t.Fuel, took)
	}
	for _, f := range t.Fields {
		value := "not valid"
		if f.Valid {
			value = string(f.Value)
		}
		fmt.Fprintf(w, "  field\t%s %s\t%s\n", oneLine(f.Path), f.Type, oneLine(value))
	}
	for _, l := range t.Logs {
		fmt.Fprintf(w, "  log\t%s\t%s\n", l.Level, oneLine(l.Text))
	}
	if len(t.Payload) > 0 {
		fmt.Fprintf(w, "  payload\t\t%s\n", oneLine(string(t.Payload)))
	}
}

func (v *rulesVerbs) audit() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "audit [NAME]",
		Short: "Show who changed which rule, and when",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := call{method: http.MethodGet, path: "/v1/audit",
				query: url.Values{"limit": {strconv.Itoa(limit)}}}
			if len(args) > 0 {
				r.query.Set("rule", args[0])
			}
			var answer struct{ Audit []runtime.Audit }
			return v.run(cmd, "read the audit trail", r, &answer, func(w io.Writer) {
				fmt.Fprintln(w, "SEQ\tTIME\tBY\tACTION\tRULE\tVERSION")
				for _, a := range answer.Audit {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", a.Seq, shortTime(a.Time), a.By,
						a.Action, a.Rule, versionOr(a.Version, "-"))
				}
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "entries, at most")
	return cmd
}

func versionOr(n runtime.VersionNumber, none string) string {
	if n == 0 {
		return none
	}
	return "version " + strconv.FormatUint(uint64(n), 10)
}

func shortTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// oneLine keeps a text of a rule's making from looking like lines of ours, or from speaking to the
// terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
