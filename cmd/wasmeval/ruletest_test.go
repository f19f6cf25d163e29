package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testsOf writes a file of tests for a module of testdata; the text may begin with other keys.
func testsOf(t *testing.T, module, text string) string {
	t.Helper()
	full, err := filepath.Abs(modulePath(module))
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "rule"+testSuffix, "module: "+full+"\n"+text)
}

const someTests = `params: {i: 8}
tests:
  - name: as it should be
    events:
      - event: {type: a}
        code: 1
        payload: {raw: {f: 1.50, i: 8, b: true, s: text}, f: 1.5, i: 8, b: true, s: text}
  - name: other params
    params: {s: other}
    events:
      - {event: {}, code: 1}
      - event: {}
        code: 2
        payload: {raw: {f: 1.5, i: 8, b: true, s: other}, f: 2, i: 8, b: true, t: x}
        logs: [never]
  - name: fuel
    fuel: 5
    events:
      - {event: {}, error: out_of_fuel}
      - {event: {}, fuel: 100000, code: 1}
      - {event: {}}
  - name: bad events
    events:
      - {event: '{"a":1,"a":2}', code: 1}
      - {event: [], code: 1}
      - {event: '"text"'}
`

const someResults = `ok    FILE: as it should be (1 events, at most N fuel)
FAIL  FILE:9: other params
      event 2 (line 13)
        code     got       1
                 expected  2
        payload  got       {"raw":{"f":1.5,"i":8,"b":true,"s":"other"},"f":1.5,"i":8,"b":true,"s":"other"}
                 expected  {"raw":{"f":1.5,"i":8,"b":true,"s":"other"},"f":2,"i":8,"b":true,"t":"x"}
                 at f: got 1.5, expected 2
                 at s: got "other", expected nothing
                 at t: got nothing, expected "x"
        logs     got       []
                 expected  ["never"]
FAIL  FILE:17: fuel
      event 3 (line 22)
        error    got       out_of_fuel: WHY
                 expected  none
FAIL  FILE:23: bad events
      event 1 (line 25)
        event    got       at byte 8: the object has this key twice
      event 2 (line 26)
        event    got       at byte 0: expected an object
      event 3 (line 27)
        event    got       at byte 0: expected an object
1 of 4 tests passed
`

// The report of tests that pass and fail, as text.
func TestRuleTestText(t *testing.T) {
	file := testsOf(t, "params", someTests)
	code, out, errs := verb(t, "", "test", file)
	out = strings.ReplaceAll(out, file, "FILE")
	out = regexp.MustCompile(`at most \d+ fuel`).ReplaceAllString(out, "at most N fuel")
	// What the engine says of a failure, and where, is its own business.
	out = regexp.MustCompile(`(out_of_fuel: ).*`).ReplaceAllString(out, "${1}WHY")
	out = regexp.MustCompile(`(expected  none\n)(?: {8}\S.*\n)+`).ReplaceAllString(out, "$1")
	if code != 1 || errs != "wasmeval: 3 of 4 tests failed\n" {
		t.Errorf("exit code %d, %q", code, errs)
	}
	if out != someResults {
		t.Errorf("got\n%s\nexpected\n%s", out, someResults)
	}
}

// The same tests as JSON and for JUnit have the same results.
func TestRuleTestForms(t *testing.T) {
	file := testsOf(t, "params", someTests)
	_, out, _ := verb(t, "", "test", file, "--format", "json")
	var asJSON struct {
		Passed, Failed int
		Tests          []testResult
	}
	if err := json.Unmarshal([]byte(out), &asJSON); err != nil {
		t.Fatal(err)
	}
	if asJSON.Passed != 1 || asJSON.Failed != 3 || len(asJSON.Tests) != 4 {
		t.Errorf("JSON has %+v", asJSON)
	}
	code, out, _ := verb(t, "", "test", file, file, "--format", "junit")
	var suites junitSuites
	if err := xml.Unmarshal([]byte(out), &suites); err != nil {
		t.Fatal(err)
	}
	if code != 1 || suites.Tests != 8 || suites.Failures != 6 || len(suites.Suites) != 1 {
		t.Fatalf("exit code %d, %+v", code, suites)
	}
	for i, c := range suites.Suites[0].Cases {
		r := asJSON.Tests[i%4]
		if c.Name != r.Name || c.Line != r.Line || (c.Failure != nil) != (len(r.Failures) > 0) {
			t.Errorf("case %d is %+v, in JSON %+v", i, c, r)
		}
		if c.Failure != nil && !strings.Contains(c.Failure.Text, r.Failures[0].Got) {
			t.Errorf("case %d does not tell what was got: %s", i, c.Failure.Text)
		}
	}
}

// The clock moves by "after" alone, and is what an event without a time has for its own.
func TestRuleTestClock(t *testing.T) {
	file := testsOf(t, "columns", `time: at
key: user.id
tests:
  - name: clock
    events:
      - {event: {}, code: 1}
      - {event: {at: 2026-02-01T00:00:00Z, user: {id: u7}}, after: 30s, code: 1, payload: {}}
      - {event: {}, after: 1ms, payload: {}}
`)
	_, out, _ := verb(t, "", "test", file, "--format", "json")
	for _, want := range []string{`\"arrival\":1767225630000000000`, `\"value\":1769904000000000000`,
		`\"arrival\":1767225630001000000`, `\"value\":1767225630001000000`, `\"value\":\"u7\"`} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %s in %s", want, out)
		}
	}
}

// A rule that fails where no error is expected has failed the test, with nothing else expected too.
func TestRuleTestTrap(t *testing.T) {
	file := testsOf(t, "trap", `tests:
  - name: trap
    events:
      - {event: {bad: 1}, error: trap}
      - {event: {bad: 0}, code: 1}
  - name: silent
    events: [{event: {bad: 1}}]
`)
	code, out, _ := verb(t, "", "test", file)
	if code != 1 || !strings.Contains(out, "got       trap: ") ||
		!strings.Contains(out, "1 of 2 tests") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// What is wrong with a file of tests is told with its line, all of it at once.
func TestRuleTestFaults(t *testing.T) {
	for text, wants := range map[string][]string{
		"": {"expected module and at least one of tests"},
		"test: []\nparam: 1\n": {":2: test: unknown key: expected id, key, module, params",
			":3: param: unknown key"},
		"tests: 3\n":            {`:2: tests: "3": expected a list`},
		"tests: [{name: a}]\n":  {":2: tests[0]: expected name and events"},
		"key: [a]\ntests: []\n": {":2: key: a list: expected a text"},
		"key: a..b\n":           {"cannot use the key path"},
		"tests:\n- name: a\n  events:\n  - {event: {}, cod: 1}\n  - {evnt: {}}\n": {
			":5: tests[0].events[0].cod: unknown key: expected after, code, error, event, fuel, logs, payload",
			":6: tests[0].events[1].evnt: unknown key", ":6: tests[0].events[1]: expected event"},
		"tests:\n- name: a\n  fuel: 0\n  events:\n  - {event: {}, after: -1s, code: -1, fuel: x}\n": {
			`tests[0].fuel: "0"`, `.after: "-1s": expected a duration`, `.code: "-1": expected a code`,
			`.fuel: "x": expected a whole number`},
		"tests:\n- name: a\n  events: [{event: '{'}, {event: {a: .nan}}, {event: {}, error: trap, payload: 1}]\n" +
			"- name: a\n  events: [{event: {a: 1, a: 2}}]\n": {`.event: "{": expected an event`,
			".event.a: \".nan\": expected a value that JSON has", "expected payload or error",
			"the test in line 3 has this name already", ".a: the key is in line 6 already"},
		"tests:\n- name: a\n  events: [{event: &e [*e]}]\n": {"nested deeper"},
		"tests: [\n": {"rule.test.yaml:"},
		"params: {x: 1}\ntests: [{name: a, events: [{event: {}}]}]\n": {
			`test "a": param "x" is not declared`},
		"params: {i: 13}\ntests: [{name: a, events: [{event: {}}]}]\n":          {"wasmeval_configure"},
		"tests: [{name: a, events: [{event: {}, fuel: 99999999999}]}]\n":        {"at most a call's"},
		"tests: [{name: a, fuel: 99999999999, events: [{event: {}, code: 1}]}]": {"at most a call's"},
	} {
		code, _, errs := verb(t, "", "test", testsOf(t, "params", text))
		if code != 1 {
			t.Errorf("%q: exit code %d", text, code)
		}
		for _, want := range wants {
			if !strings.Contains(errs, want) {
				t.Errorf("%q: %q is not in %s", text, want, errs)
			}
		}
	}
}

// Where a project is in the wrong state, it is told what to do.
func TestRuleTestAdvice(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "x"+testSuffix)
	if err := os.WriteFile(missing, []byte("module: x.wasm\ntests: [{name: a, events: [{event: {}}]}]\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		missing:                      "there is no such file; run `wasmeval build`",
		dir:                          "run `wasmeval build`",
		t.TempDir():                  "expected the folder of a rule, as `wasmeval init` makes one",
		filepath.Join(dir, "none"):   "no such file or folder",
		missing + " --format xml":    "expected text or junit or json",
		missing + " --event-fuel x":  "the configuration has faults",
		missing + " --config no.yml": "cannot read configuration",
	} {
		code, _, errs := verb(t, "", append([]string{"test"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("test %s: exit code %d, %s", args, code, errs)
		}
	}
}

func TestDifferences(t *testing.T) {
	for _, c := range []struct {
		want, got string
		list      []string
	}{
		{`{"a":1.0,"b":[1,{"c":null}]}`, `{"b":[1e0,{"c":null}],"a":1}`, nil},
		{`9007199254740993`, `9007199254740992`, []string{"the value: got 9007199254740992, expected 9007199254740993"}},
		{`null`, ``, nil},
		{``, `null`, nil},
		{`null`, `{}`, []string{"the value: got {}, expected null"}},
		{`{"a":null}`, `{}`, []string{"a: got nothing, expected null"}},
		{`{"a":{"b":[1,2]}}`, `{"a":{"b":[1,"2"]}}`, []string{`a.b[1]: got "2", expected 2`}},
		{`[1]`, `[1,2]`, []string{"the value: got [1,2], expected [1]"}},
		{`[1,1,1,1,1,1,1]`, `[2,2,2,2,2,2,2]`, []string{"[0]: got 2, expected 1", "", "", "", "", "and 2 more"}},
	} {
		list := differences("", json.RawMessage(c.want), json.RawMessage(c.got))
		if len(list) != len(c.list) {
			t.Errorf("%s and %s: %q", c.want, c.got, list)
			continue
		}
		for i, text := range c.list {
			if text != "" && list[i] != text {
				t.Errorf("%s and %s: %q, expected %q", c.want, c.got, list[i], text)
			}
		}
	}
}
