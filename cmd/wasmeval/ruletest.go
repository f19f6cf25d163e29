package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

const testSuffix = ".test.yaml"

func newTest() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "test [FILE|DIR]...",
		Short: "Run a rule's tests: files of events and what the rule must say of them",
		Long: `Runs the tests of the files, or of all *.test.yaml of the folders, that of the working folder if
none is named. Each test is a row of events on a rule that has seen none before; its keyed state
passes from event to event. The clock stands still but for "after", which moves it on before an
event: an event arrives at that time, and has it for its own if it names none. No server is needed:
this is its engine, with its limits. Exit code 1 if any test fails.

  module: velocity.wasm        # beside this file
  params: {limit: 3}           # those that differ from their defaults
  key: user                    # where an event's key is; also id, type, source, time
  tests:
    - name: the fourth decline within a minute
      fuel: 5000               # for each event; it may have one of its own
      events:
        - event: {type: payment.declined, user: u1}
          code: 0
        - event: {type: payment.declined, user: u1}
          after: 30s
          code: 1              # what is left out is not looked at
          payload: {count: 4}  # null: none
          logs: ["seen before"]
        - event: '{"type":"payment.declined","user":7}'
          error: trap          # the kind of the error: then there is no payload`,
		Example: `  wasmeval test
  wasmeval test rules/velocity.test.yaml --format junit > report.xml`,
	}
	configured := addOfflineFlags(cmd)
	cmd.Flags().StringVar(&format, "format", "text", "text, junit or json")
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		show, ok := testFormats[format]
		if !ok {
			return fmt.Errorf("--format %q: expected text or junit or json", format)
		}
		c, err := offlineConfig(configured)
		if err != nil {
			return err
		}
		results, err := runTests(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		if err := show(cmd.OutOrStdout(), results); err != nil {
			return err
		}
		failed := 0
		for _, r := range results {
			if len(r.Failures) > 0 {
				failed++
			}
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d tests failed", failed, len(results))
		}
		return nil
	})
	return cmd
}

// testResult is what became of one test.
type testResult struct {
	File     string        `json:"file"`
	Name     string        `json:"name"`
	Line     int           `json:"line"`
	Events   int           `json:"events"`
	MaxFuel  uint64        `json:"max_fuel"` // of an event
	Failures []testFailure `json:"failures"`
	took     time.Duration
}

// testFailure is one thing of one event that is not as it should be.
type testFailure struct {
	Event    int      `json:"event"` // from 1
	Line     int      `json:"line"`
	What     string   `json:"what"` // code, payload, error, logs, event
	Got      string   `json:"got"`
	Expected string   `json:"expected,omitempty"`
	Differs  []string `json:"differs,omitempty"` // where payloads do
	Notes    []string `json:"notes,omitempty"`   // what may explain it
}

// runTests runs the tests of files and folders.
func runTests(ctx context.Context, c *Config, args []string) ([]testResult, error) {
	if len(args) == 0 {
		args = []string{"."}
	}
	var all []testResult
	for _, arg := range args {
		names, err := testFiles(arg)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			file, err := readTests(name, c.Events.Fields)
			if err != nil {
				return nil, err
			}
			results, err := file.run(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, results...)
		}
	}
	return all, nil
}

// testFiles lists the files of tests that an argument means.
func testFiles(arg string) ([]string, error) {
	info, err := os.Stat(arg)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read tests %q: no such file or folder", arg)
		}
		return nil, fmt.Errorf("cannot read tests %q: %w", arg, errors.Unwrap(err))
	}
	if !info.IsDir() {
		return []string{arg}, nil
	}
	var names []string
	entries, err := os.ReadDir(arg)
	if err != nil {
		return nil, fmt.Errorf("cannot read tests %q: %w", arg, errors.Unwrap(err))
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), testSuffix) {
			names = append(names, filepath.Join(arg, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no *%s in %q: expected the folder of a rule, as "+
			"`wasmeval init` makes one", testSuffix, arg)
	}
	return names, nil
}

// run runs the tests of one file.
func (f *testFile) run(ctx context.Context, c *Config) (results []testResult, err error) {
	code, err := moduleFile(f.module)
	if err != nil {
		return nil, err
	}
	own := *c
	own.Events.Fields = f.fields
	engine, err := openOffline(ctx, &own)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if _, err := engine.Validate(ctx, code); err != nil {
		return nil, fmt.Errorf("module %q: %w", f.module, err)
	}
	for _, t := range f.cases {
		r := testResult{File: f.name, Name: t.name, Line: t.line, Failures: []testFailure{}}
		start := time.Now()
		if err := t.run(ctx, engine, code, f.params, &r); err != nil {
			return nil, fmt.Errorf("test %q: %w", t.name, err)
		}
		r.took = time.Since(start)
		results = append(results, r)
	}
	return results, nil
}

func (t *testCase) run(ctx context.Context, engine *runtime.Offline, code []byte,
	params map[string]json.RawMessage, r *testResult) error {
	config := runtime.RuleConfig{Fuel: t.fuel, Params: maps.Clone(params)}
	if config.Params == nil {
		config.Params = map[string]json.RawMessage{}
	}
	maps.Copy(config.Params, t.params)
	session, err := engine.NewSession(ctx, code, config)
	if err != nil {
		return err
	}
	defer session.Close()
	now := time.Unix(0, offlineStart)
	for i, s := range t.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		now = now.Add(s.after)
		v, err := session.Evaluate(ctx, s.event, now, s.fuel)
		var fault *runtime.Error
		switch {
		case errors.As(err, &fault) && fault.Kind == runtime.BadEvent:
			r.Failures = append(r.Failures, testFailure{Event: i + 1, Line: s.line, What: "event",
				Got: errors.Unwrap(err).Error()})
		case err != nil:
			return fmt.Errorf("event %d (line %d): %w", i+1, s.line, err)
		default:
			for _, f := range s.compare(&v) {
				f.Event, f.Line = i+1, s.line
				r.Failures = append(r.Failures, f)
			}
		}
		r.Events++
		r.MaxFuel = max(r.MaxFuel, v.Fuel)
	}
	return nil
}

// compare tells where a verdict is not what was expected.
func (s *testStep) compare(v *runtime.TestVerdict) (list []testFailure) {
	got := ""
	if v.Error != nil {
		got = v.Error.Kind
	}
	if got != s.error {
		f := testFailure{What: "error", Got: "none", Expected: orNone(s.error)}
		if v.Error != nil {
			f.Got = oneLine(v.Error.Error())
			for _, line := range v.Error.Trace {
				f.Notes = append(f.Notes, oneLine(line))
			}
		}
		return append(list, f) // the rest follows from it
	}
	if s.code != nil && *s.code != v.Code {
		list = append(list, testFailure{What: "code", Got: strconv.Itoa(int(v.Code)),
			Expected: strconv.Itoa(int(*s.code))})
	}
	if s.payload != nil {
		if differs := differences("", s.payload, v.Payload); len(differs) > 0 {
			list = append(list, testFailure{What: "payload", Got: orNone(oneLine(string(v.Payload))),
				Expected: orNone(oneLine(string(s.payload))), Differs: differs})
		}
	}
	if logs := logTexts(v); s.logs != nil && !slices.Equal(*s.logs, logs) {
		list = append(list, testFailure{What: "logs", Got: fmt.Sprintf("%q", logs),
			Expected: fmt.Sprintf("%q", *s.logs)})
	}
	if len(list) > 0 {
		list[len(list)-1].Notes = explain(v, s.logs == nil)
	}
	return list
}

func orNone(s string) string {
	if s == "" || s == "null" {
		return "none"
	}
	return s
}

func logTexts(v *runtime.TestVerdict) []string {
	texts := make([]string, len(v.Logs))
	for i, l := range v.Logs {
		texts[i] = l.Text
	}
	return texts
}

// explain tells what the rule saw and said beside its verdict.
func explain(v *runtime.TestVerdict, logs bool) (notes []string) {
	if !v.Matched {
		return []string{"the rule's match does not name the event's type, so it was not called"}
	}
	for _, f := range v.Fields {
		value := "not valid"
		if f.Valid {
			value = oneLine(string(f.Value))
		}
		notes = append(notes, fmt.Sprintf("field %s %s: %s", oneLine(f.Path), f.Type, value))
	}
	if logs {
		for _, l := range v.Logs {
			notes = append(notes, "log "+l.Level+": "+oneLine(l.Text))
		}
	}
	return notes
}

// differences lists where two JSON texts differ, at most five places. An empty text is null.
func differences(path string, want, got json.RawMessage) []string {
	var list []string
	diffValues(path, jsonValue(want), jsonValue(got), &list)
	if len(list) > 5 {
		list = append(list[:5], fmt.Sprintf("and %d more", len(list)-5))
	}
	return list
}

func jsonValue(text json.RawMessage) (v any) {
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	_ = d.Decode(&v) // both come from where they were checked
	return v
}

// missing stands for a member that an object does not have.
type missing struct{}

func diffValues(path string, want, got any, list *[]string) {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			keys := maps.Clone(w)
			maps.Copy(keys, g)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				diffValues(strings.TrimPrefix(path+"."+k, "."), member(w, k), member(g, k), list)
			}
			return
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				diffValues(fmt.Sprintf("%s[%d]", path, i), w[i], g[i], list)
			}
			return
		}
	case json.Number:
		if g, ok := got.(json.Number); ok && sameNumber(w, g) {
			return
		}
	}
	if !reflect.DeepEqual(want, got) {
		*list = append(*list, fmt.Sprintf("%s: got %s, expected %s", firstOf(path, "the value"),
			showValue(got), showValue(want)))
	}
}

func member(object map[string]any, key string) any {
	if v, ok := object[key]; ok {
		return v
	}
	return missing{}
}

// sameNumber compares numbers by value: integers exactly, others as float64.
func sameNumber(a, b json.Number) bool {
	x, errX := a.Int64()
	y, errY := b.Int64()
	if errX == nil && errY == nil {
		return x == y
	}
	f, errF := a.Float64()
	g, errG := b.Float64()
	return errF == nil && errG == nil && f == g
}

func showValue(v any) string {
	if v == (any)(missing{}) {
		return "nothing"
	}
	text, _ := json.Marshal(v) // it was decoded from JSON
	return oneLine(string(text))
}

// testFormats write the results of tests.
var testFormats = map[string]func(io.Writer, []testResult) error{
	"text": writeTestText, "junit": writeTestJUnit, "json": writeTestJSON,
}

func writeTestText(w io.Writer, results []testResult) error {
	var b strings.Builder
	passed := 0
	for _, r := range results {
		if len(r.Failures) == 0 {
			passed++
			fmt.Fprintf(&b, "ok    %s: %s (%d events, at most %d fuel)\n", r.File, oneLine(r.Name),
				r.Events, r.MaxFuel)
			continue
		}
		fmt.Fprintf(&b, "FAIL  %s:%d: %s\n%s", r.File, r.Line, oneLine(r.Name), r.describe("      "))
	}
	fmt.Fprintf(&b, "%d of %d tests passed\n", passed, len(results))
	_, err := io.WriteString(w, b.String())
	return err
}

// describe tells all failures of a test, each line with the indent.
func (r *testResult) describe(indent string) string {
	var b strings.Builder
	event := 0
	for _, f := range r.Failures {
		if f.Event != event {
			event = f.Event
			fmt.Fprintf(&b, "%sevent %d (line %d)\n", indent, f.Event, f.Line)
		}
		fmt.Fprintf(&b, "%s  %-8s got       %s\n", indent, f.What, f.Got)
		if f.Expected != "" {
			fmt.Fprintf(&b, "%s  %-8s expected  %s\n", indent, "", f.Expected)
		}
		for _, d := range f.Differs {
			fmt.Fprintf(&b, "%s  %-8s at %s\n", indent, "", d)
		}
		for _, n := range f.Notes {
			fmt.Fprintf(&b, "%s  %s\n", indent, n)
		}
	}
	return b.String()
}

func writeTestJSON(w io.Writer, results []testResult) error {
	answer := struct {
		Passed int          `json:"passed"`
		Failed int          `json:"failed"`
		Tests  []testResult `json:"tests"`
	}{Tests: results}
	for _, r := range results {
		if len(r.Failures) == 0 {
			answer.Passed++
		} else {
			answer.Failed++
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(answer)
}

// The form that Jenkins and others read.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func writeTestJUnit(w io.Writer, results []testResult) error {
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) }
	all := junitSuites{Tests: len(results)}
	var took time.Duration
	for i, r := range results {
		if i == 0 || results[i-1].File != r.File {
			all.Suites, took = append(all.Suites, junitSuite{Name: r.File}), 0
		}
		s := &all.Suites[len(all.Suites)-1]
		s.Tests++
		took += r.took
		s.Time = seconds(took)
		c := junitCase{Name: r.Name, Class: strings.TrimSuffix(filepath.Base(r.File), testSuffix),
			File: r.File, Line: r.Line, Time: seconds(r.took)}
		if len(r.Failures) > 0 {
			all.Failures++
			s.Failures++
			f := &r.Failures[0]
			c.Failure = &junitFailure{Text: r.describe(""), Message: fmt.Sprintf(
				"event %d: %s is %s, expected %s", f.Event, f.What, f.Got, f.Expected)}
		}
		s.Cases = append(s.Cases, c)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}
