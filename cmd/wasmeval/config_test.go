package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"wasmeval/bus"
	"wasmeval/internal/sink"
)

// writeFile writes a file into a folder of the test and returns its name.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// asYAML is a configuration file with values by the options' paths.
func asYAML(t *testing.T, values map[string]string) string {
	t.Helper()
	doc := make(map[string]any)
	for path, text := range values {
		section, parts := doc, strings.Split(path, ".")
		for _, part := range parts[:len(parts)-1] {
			if section[part] == nil {
				section[part] = make(map[string]any)
			}
			section = section[part].(map[string]any)
		}
		section[parts[len(parts)-1]] = text
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// two returns two values of an option, of which the first is not the default.
func two(o *option) (a, b string) {
	switch {
	case o.oneOf != nil:
		i := slices.Index(o.oneOf, o.standard)
		return o.oneOf[(i+1)%len(o.oneOf)], o.standard
	case o.kind() == "bool":
		return strconv.FormatBool(o.standard != "true"), o.standard
	case o.kind() == "number":
		return fmt.Sprint(o.min + 1), fmt.Sprint(o.min + 2)
	case o.kind() == "size":
		return fmt.Sprint(o.min+1024, "B"), fmt.Sprint(o.min + 2048)
	case o.kind() == "duration":
		return "1500ms", "2s"
	case o.kind() == "list":
		return "one,two", "three"
	}
	return "first", "second"
}

// written is a value as format writes it.
func written(t *testing.T, o *option, text string) string {
	t.Helper()
	var c Config
	if err := o.parse(&c, text); err != nil {
		t.Fatalf("%s: %v", o.path, err)
	}
	return o.format(&c)
}

func TestOptionTable(t *testing.T) {
	seen := make(map[string]string)
	once := func(o *option, name string) {
		if other, ok := seen[name]; ok {
			t.Errorf("%s and %s are both %q", o.path, other, name)
		}
		seen[name] = o.path
	}
	for _, name := range []string{configEnv, serverEnv, tokenEnv, "--config", "--print", "--options",
		"--help"} {
		seen[name] = "the command line"
	}
	c := new(Config)
	for i := range options {
		o := &options[i]
		once(o, o.path)
		once(o, "--"+o.flag)
		once(o, o.env())
		section, _, inside := strings.Cut(o.path, ".")
		isSection := func(other option) bool { return inside && other.path == section }
		if slices.ContainsFunc(options, isSection) {
			t.Errorf("%s is an option and the section of %s", section, o.path)
		}
		if err := o.parse(c, o.standard); err != nil {
			t.Errorf("the default of %s: %v", o.path, err)
		}
		if got := o.format(c); got != o.standard {
			t.Errorf("the default of %s is written %q, but shown as %q", o.path, o.standard, got)
		}
		if o.help == "" || strings.ContainsAny(o.help, "|\n") {
			t.Errorf("%s has the help %q", o.path, o.help)
		}
	}
	if _, err := load(inputs{}); err != nil {
		t.Errorf("the defaults have faults: %v", err)
	}
}

// Flags win over the environment, the environment over the file, the file over the defaults: for
// every option, and also where the stronger one says what the default is.
func TestPrecedence(t *testing.T) {
	for i := range options {
		o := &options[i]
		a, b := two(o)
		if written(t, o, a) == o.standard || written(t, o, a) == written(t, o, b) {
			t.Fatalf("%s: %q and %q prove nothing", o.path, a, b)
		}
		file := func(text string) string {
			return writeFile(t, "c.yaml", "# \n"+asYAML(t, map[string]string{o.path: text}))
		}
		line := ":" + strconv.Itoa(2+strings.Count(o.path, "."))
		fileA, fileB := file(a), file(b)
		flagA, flagB := map[string]string{o.flag: a}, map[string]string{o.flag: b}
		envA, envB := []string{o.env() + "=" + a}, []string{o.env() + "=" + b}
		flag, env := "flag --"+o.flag, "environment "+o.env()
		for _, c := range []struct {
			in           inputs
			want, origin string
		}{
			{inputs{}, o.standard, "default"},
			{inputs{file: fileA}, a, fileA + line},
			{inputs{env: envA}, a, env},
			{inputs{flags: flagA}, a, flag},
			{inputs{env: envB, file: fileA}, b, env},
			{inputs{env: envA, file: fileB}, a, env},
			{inputs{flags: flagB, file: fileA}, b, flag},
			{inputs{flags: flagB, env: envA}, b, flag},
			{inputs{flags: flagA, env: envB, file: fileB}, a, flag},
		} {
			got, _ := load(c.in) // some of these need another option with them
			if want := written(t, o, c.want); o.path == "bus.shards" && want == "0" {
				continue // stands for a number that depends on the machine
			} else if o.format(got) != want || got.origins[o.path] != c.origin {
				t.Errorf("%s with %+v is %q from %s, expected %q from %s", o.path, c.in,
					o.format(got), got.origins[o.path], want, c.origin)
			}
		}
	}
}

// outside are texts that an option must refuse.
func outside(o *option) []string {
	var list []string
	switch o.kind() {
	case "bool":
		return []string{"", "yes", "1", "True", "TRUE", "on"}
	case "number":
		list = []string{"", "-1", "1.5", "x", "0x10", "1e3", " 5", "5 ", "+5", "1_000",
			"9223372036854775808", "18446744073709551617"}
	case "size":
		list = []string{"", "-1", "1.5MiB", "MiB", "1MB", "1 kib", "x", "2147483647GiB",
			"4294967296GiB", "18446744073709551616", "--1B"}
	case "duration":
		list = []string{"", "5", "0s", "0", "-1s", "x", "1 s", "9999999h"}
	default:
		if o.oneOf != nil {
			return []string{"", "x", strings.ToUpper(o.standard), o.standard + " ",
				strings.Join(o.oneOf, ",")}
		}
		return nil
	}
	show := func(n uint64) string {
		if o.kind() == "duration" {
			return time.Duration(n).String()
		}
		return strconv.FormatUint(n, 10)
	}
	if o.min > 0 {
		list = append(list, show(o.min-1))
	}
	if o.max > 0 {
		list = append(list, show(o.max+1))
	}
	return list
}

// Every limit of every option holds, whatever the value comes from, and the fault says where.
func TestOptionLimits(t *testing.T) {
	for i := range options {
		o := &options[i]
		texts := outside(o)
		anyText := o.kind() == "text" && o.oneOf == nil || o.kind() == "list"
		if anyText != (texts == nil) {
			t.Errorf("%s is a %s and is held against %q", o.path, o.kind(), texts)
		}
		for _, text := range texts {
			var c Config
			if err := o.parse(&c, text); err == nil || !strings.Contains(err.Error(), "expected ") {
				t.Errorf("%s took %q: error %v", o.path, text, err)
			}
		}
		for _, text := range inside(o) {
			var c Config
			if err := o.parse(&c, text); err != nil {
				t.Errorf("%s at its limit: %v", o.path, err)
			}
		}
		if texts == nil {
			continue
		}
		bad := texts[1]
		file := writeFile(t, "c.yaml", asYAML(t, map[string]string{o.path: bad}))
		for origin, in := range map[string]inputs{
			"flag --" + o.flag:       {flags: map[string]string{o.flag: bad}},
			"environment " + o.env(): {env: []string{o.env() + "=" + bad}},
			file + ":" + strconv.Itoa(1+strings.Count(o.path, ".")): {file: file},
		} {
			_, err := load(in)
			want := fmt.Sprintf("%s: %s: %q: expected ", origin, o.path, bad)
			if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("fault %v, expected one line that begins with %q", err, want)
			}
		}
	}
}

// inside are texts at the limits of an option.
func inside(o *option) []string {
	switch {
	case o.oneOf != nil:
		return o.oneOf
	case o.kind() == "bool":
		return []string{"true", "false"}
	case o.kind() == "duration":
		if o.max == 0 {
			return []string{"1ns", time.Duration(math.MaxInt64).String()}
		}
		return []string{"1ns", time.Duration(o.max).String()}
	case o.kind() != "number" && o.kind() != "size":
		return []string{"", "x"}
	case o.max == 0:
		return []string{strconv.FormatUint(o.min, 10), strconv.FormatInt(math.MaxInt64, 10)}
	}
	return []string{strconv.FormatUint(o.min, 10), strconv.FormatUint(o.max, 10)}
}

// Where a number is expected, its limits are told whatever stands there.
func TestNumbersTellLimits(t *testing.T) {
	for _, text := range []string{"-1", "99999999999999999999", "x", "1.5"} {
		_, err := load(inputs{flags: map[string]string{"event-fuel": text}})
		want := fmt.Sprintf("flag --event-fuel: rules.event_fuel: %q: expected a whole number, "+
			"1 to 1000000000000", text)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, expected %s", err, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "7": 7, "7B": 7, "7 B": 7, "64KiB": 64 << 10, "64 KiB": 64 << 10, "2MiB": 2 << 20,
		"1GiB": 1 << 30, "65536": 64 << 10,
	} {
		if n, err := parseSize(text); n != want || err != nil {
			t.Errorf("size %q: %d, %v", text, n, err)
		}
	}
	for n, want := range map[int]string{
		0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1025: "1025", 3 << 20: "3MiB", 5 << 30: "5GiB",
		1<<20 + 1<<10: "1025KiB",
	} {
		if got := formatSize(n); got != want {
			t.Errorf("%d bytes are written %q, expected %q", n, got, want)
		}
	}
}

// faultsOf are the lines of the error, with F for the name of the file.
func faultsOf(err error, file string) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), file, "F"), "\n")
}

// expectFaults compares without the order, of which nothing is promised.
func expectFaults(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: faults\n  %s\nexpected\n  %s", what, strings.Join(got, "\n  "),
			strings.Join(want, "\n  "))
	}
}

// All faults are told in one go, each once and with its place.
func TestAllFaultsAtOnce(t *testing.T) {
	file := writeFile(t, "c.yaml", `listen:
  http: 0.0.0.0:80
  hostname: x
bus:
  shards: many
  batch: 5000
rules:
  event_fuel: 10
  call_fuel: 9
  event_fuel: 11
data_dir: ${NOWHERE}
routes:
  - sinks: [nobody]
sinks:
  - name: a
    type: pigeon
    speed: 3
`)
	_, err := load(inputs{
		flags: map[string]string{"log-level": "loud", "udp": "x", "type-field": "a..b"},
		env:   []string{"WASMEVAL_DEPTH=0", "WASMEVAL_DEPTHS=9", "PATH=/bin", "WASMEVAL_TOKEN=x"},
		file:  file,
	})
	expectFaults(t, "all at once", faultsOf(err, file), []string{
		`F:2: listen.http: "0.0.0.0:80" is not a loopback address: expected tls_cert, tls_key and ` +
			`require_token_for_events with it, or others could read along and send events`,
		`F:3: listen.hostname: unknown key: expected allowed_hosts, http, open_metrics, open_udp, ` +
			`require_token_for_events, tls_cert, tls_key, token_files, udp`,
		`F:5: bus.shards: "many": expected a whole number, 0 to 256`,
		`F:6: bus.batch: "5000": expected 1 to 4096`,
		`F:10: rules.event_fuel: the key is in line 8 already`,
		`F:8: rules.event_fuel: 10 is above call_fuel 9: expected at most that`,
		`F:11: data_dir: variable NOWHERE is not set and has no default`,
		`F:17: sinks[0].speed: unknown key: expected allow_private, backoff, batch_max, batch_wait, ` +
			`compress, dead_letter, headers, max_age_days, max_attempts, max_backups, max_elapsed, ` +
			`max_size_mb, name, path, queue_bytes, timeout, type, url`,
		`F:16: sink "a": type "pigeon": expected stdout, file or webhook`,
		`F:13: route number 1: sink "nobody": expected the name of a sink`,
		`flag --log-level: log.level: "loud": expected debug or info or warn or error`,
		`flag --udp: listen.udp: "x": expected host:port`,
		`flag --type-field: events.type_field: cannot use the type path "a..b": expected keys with ` +
			`dots between them`,
		`environment WASMEVAL_DEPTH: events.depth: "0": expected 1 to 256`,
		"environment WASMEVAL_DEPTHS: unknown variable: expected WASMEVAL_ and a flag's name, as " +
			"`wasmeval check --options` lists them",
	})
}

const unknownTop = "unknown key: expected bus, data_dir, evaluate, events, listen, log, routes, " +
	"rules, shutdown_timeout, sinks, tail_listeners, udp"

var yamlFaults = []struct {
	text string
	want []string // none: the file is good
}{
	{"", nil},
	{"# a comment\n", nil},
	{"---\n", nil},
	{"listen:\nbus: {}\nsinks:\nroutes: []\nrules: null\n", nil},
	{"bus: {shards: \"3\", ring_bytes: 16777216}\nshutdown_timeout: 1m30s\n", nil},
	{"listen: {allowed_hosts: a.example}\n", nil},
	{"listen: {allowed_hosts: [a.example, b.example]}\n", nil},

	{"\nlisten.http: 127.0.0.1:1\n", []string{"F:2: listen.http: " + unknownTop}},
	{"a: 1\n\"\": 2\n", []string{"F:1: a: " + unknownTop, "F:2: " + unknownTop}},
	{"routes: []\nlisten:\n  routes: []\n", []string{
		"F:3: listen.routes: unknown key: expected allowed_hosts, http, open_metrics, open_udp, " +
			"require_token_for_events, tls_cert, tls_key, token_files, udp"}},
	{"log:\n  lever: info\n", []string{"F:2: log.lever: unknown key: expected format, level"}},
	{"log: {level: info, level: warn}\nlog: {}\n", []string{
		"F:1: log.level: the key is in line 1 already", "F:2: log: the key is in line 1 already"}},
	{"data_dir: a\n---\ndata_dir: b\n", []string{"F:2: a second document: expected one"}},
	{"data_dir: a\n---\nx: [\n", []string{"F:3: did not find expected node content"}},
	{"- 1\n", []string{"F:1: a list: expected keys with values"}},
	{"text\n", []string{`F:1: "text": expected keys with values`}},
	{"listen: [1]\n", []string{"F:1: listen: a list: expected keys with values"}},
	{"listen: yes please\n", []string{`F:1: listen: "yes please": expected keys with values`}},
	{"data_dir: {a: 1}\n", []string{"F:1: data_dir: keys with values: expected a text"}},
	{"data_dir: [a]\n", []string{"F:1: data_dir: a list: expected a text"}},
	{"data_dir: true\n", []string{`F:1: data_dir: "true": expected a text`}},
	{"data_dir:\n", []string{"F:1: data_dir: no value: expected a text"}},
	{"data_dir: ''\n", []string{"F:1: data_dir: expected the name of a folder"}},
	{"bus:\n  shards: [1]\n", []string{"F:2: bus.shards: a list: expected a number"}},
	{"bus:\n  ring_bytes:\n", []string{"F:2: bus.ring_bytes: no value: expected a size"}},
	{"shutdown_timeout: 5\n", []string{
		`F:1: shutdown_timeout: "5": expected a duration above 0, such as 10s or 250ms`}},
	{"listen:\n  token_files:\n    - ~\n    - {a: 1}\n", []string{
		"F:3: listen.token_files: no value: expected a list",
		"F:4: listen.token_files: keys with values: expected a list"}},
	{"data_dir: &d x\nlisten: {http: *d}\n", []string{"F:2: listen.http: an alias: expected a text"}},
	{"bus: &b {shards: 1}\nudp:\n  <<: *b\n", []string{`F:3: udp: "<<" as a key: expected a name`}},
	{"? [a]\n: 1\n? {b: 1}\n: 2\n", []string{"F:1: a list as a key: expected a name",
		"F:3: keys with values as a key: expected a name"}},
	{"data_dir: a\nlog: {\n", []string{"F:2: did not find expected node content"}},
	{"data_dir: a\n\tlog: b\n", []string{"F:2: found a tab character that violates indentation"}},
	{"data_dir: \"a\xff\"\n", []string{"F: invalid leading UTF-8 octet"}},
	{"data_dir: ${HOME\n", []string{
		`F:1: data_dir: "${HOME": expected ${VARIABLE} or ${VARIABLE:default}`}},

	{"sinks: {a: 1}\n", []string{"F:1: sinks: keys with values: expected a list"}},
	{"routes: all\n", []string{`F:1: routes: "all": expected a list`}},
	{"sinks: [{name: a, type: stdout, name: b}]\n", []string{
		"F:1: sinks[0].name: the key is in line 1 already"}},
	{"sinks: [{name: a, type: stdout}]\nroutes:\n  - {rules: x, sinks: [a]}\n", []string{
		`F:3: routes[0].rules: "x": expected a list`}},
	{"sinks: [{name: a, type: stdout}]\nroutes: [{sinks: [a]}, {sinks: [a], code: [1]}]\n", []string{
		"F:2: routes[1].code: unknown key: expected codes, rules, sinks"}},
	{"sinks: [{name: a, type: stdout, queue_bytes: 1MB}]\n", []string{
		`F:1: sinks[0].queue_bytes: "1MB": expected a size, such as 65536, 64KiB or 16MiB`}},
	{"sinks:\n- {name: a, type: stdout}\n- name: b\n  type: file\n  path: x\n  compress: 1\n" +
		"  max_backups: many\n", []string{
		`F:6: sinks[1].compress: "1": expected true or false`,
		`F:7: sinks[1].max_backups: "many": expected a whole number`}},
	{"sinks: [{name: a, type: webhook, url: 'https://x.example', headers: {A: [1]}}]\n", []string{
		"F:1: sinks[0].headers.A: a list: expected a text"}},
	{"sinks: [{name: a, type: webhook, url: 'https://x.example', timeout: 0s}]\n", []string{
		`F:1: sinks[0].timeout: "0s": expected a duration above 0, such as 10s or 250ms`}},
	{"sinks: [3]\n", []string{`F:1: sinks[0]: "3": expected keys with values`,
		`F:1: sink number 1: no name: expected one`,
		`F:1: sink number 1: type "": expected stdout, file or webhook`}},
	{"sinks:\n- name: a\n  type: webhok\n- name: b\n  type: file\n- type: webhook\n" +
		"  headers:\n    a b: x\n- name: a\n  type: stdout\n  path: x\n  queue_bytes: 1\n", []string{
		`F:3: sink "a": type "webhok": expected stdout, file or webhook`,
		`F:4: sink "b": no path: expected that of a file`,
		`F:6: sink number 3: no name: expected one`,
		`F:6: sink number 3: url: expected an absolute http or https URL`,
		`F:8: sink number 3: header "a b": expected a header name`,
		`F:9: sink "a": the name is there twice: expected names that differ`,
		`F:11: sink "a": path: expected only with type file`,
		`F:12: sink "a": queue_bytes 1: expected 65536 to 1073741824`}},
	{"sinks: [{name: a, type: stdout}]\nroutes:\n- sinks: [a]\n  rules:\n  - x\n  - '['\n  codes:\n" +
		"  - often\n-\n  sinks:\n  - a\n  - nope\n- codes: [1]\n", []string{
		`F:6: route number 1: rule pattern "[": expected a glob such as payment.*`,
		`F:8: route number 1: code "often": expected matched, failed, all or a 32-bit number`,
		`F:12: route number 2: sink "nope": expected the name of a sink`,
		`F:13: route number 3: no sinks: expected the name of at least one`}},
}

// What is wrong with a file is told with the line.
func TestYAMLFaults(t *testing.T) {
	for _, c := range yamlFaults {
		file := writeFile(t, "c.yaml", c.text)
		_, err := load(inputs{file: file})
		expectFaults(t, strconv.Quote(c.text), faultsOf(err, file), c.want)
	}
	_, err := load(inputs{file: "none.yaml"})
	expectFaults(t, "no file", faultsOf(err, "none.yaml"),
		[]string{`cannot read configuration "F": no such file or directory`})
}

func TestExpand(t *testing.T) {
	env := newEnvironment([]string{"A=1", "EMPTY=", "EQ=a=b", "REF=${A}"}).expand
	for text, want := range map[string]string{
		"":              "",
		"plain":         "plain",
		"${A}":          "1",
		"x${A}y${A}z":   "x1y1z",
		"${A:2}":        "1",
		"${NONE:2}":     "2",
		"${NONE:}":      "",
		"${NONE:a:b c}": "a:b c",
		"${EMPTY}":      "",
		"${EMPTY:2}":    "", // it is set
		"${EQ}":         "a=b",
		"${REF}":        "${A}", // what a variable says is not expanded again
		"$$":            "$",
		"$${A}":         "${A}",
		"$$${A}":        "$1",
		"$A":            "$A",
		"cost: 5$":      "cost: 5$",
		"a$b$$c":        "a$b$c",
	} {
		if got, err := expand(text, env); got != want || err != nil {
			t.Errorf("%q is %q, error %v; expected %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"${NONE}":    "variable NONE is not set and has no default",
		"${A}${B}":   "variable B is not set and has no default",
		"${":         `"${": expected ${VARIABLE} or ${VARIABLE:default}`,
		"${}":        `"${}": expected ${VARIABLE} or ${VARIABLE:default}`,
		"${A":        `"${A": expected ${VARIABLE} or ${VARIABLE:default}`,
		"${1A}":      `"${1A}": expected ${VARIABLE} or ${VARIABLE:default}`,
		"${A-x}":     `"${A-x}": expected ${VARIABLE} or ${VARIABLE:default}`,
		"x ${NONE }": `"${NONE }": expected ${VARIABLE} or ${VARIABLE:default}`,
	} {
		if got, err := expand(text, env); err == nil || err.Error() != want {
			t.Errorf("%q is %q, error %v; expected error %q", text, got, err, want)
		}
	}
}

// Variables stand in values of every kind: options, lists, and what is in sinks.
func TestVariablesInFile(t *testing.T) {
	file := writeFile(t, "c.yaml", `data_dir: /var/${APP:wasmeval}/$$x
bus: {shards: "${N}", ring_bytes: "${RING:4MiB}"}
events: {event_bytes: 64KiB}
listen: {open_metrics: "${OPEN}", allowed_hosts: ["${HOST}", b.example]}
shutdown_timeout: ${WASMEVAL_OUR_OWN}
sinks: [{name: a, type: webhook, url: "https://${HOST}/", headers: {X-Key: "${KEY}"}}]
`)
	c, err := load(inputs{file: file, env: []string{"N=3", "OPEN=true", "HOST=a.example", "KEY=s: #1",
		"WASMEVAL_OUR_OWN=3s"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "/var/wasmeval/$x" || c.Bus.Shards != 3 || c.Bus.RingBytes != 4<<20 ||
		!c.Listen.OpenMetrics || strings.Join(c.Listen.AllowedHosts, " ") != "a.example b.example" ||
		c.Shutdown != 3*time.Second || c.Sink.Sinks[0].URL != "https://a.example/" ||
		c.Sink.Sinks[0].Headers["X-Key"] != "s: #1" {
		t.Errorf("the configuration is %+v", c)
	}
}

// A variable with our prefix that is no option is a fault, but for those that others set.
func TestUnknownVariables(t *testing.T) {
	kubernetes := []string{"WASMEVAL_SERVICE_HOST=10.0.0.1", "WASMEVAL_SERVICE_PORT_HTTP=80",
		"WASMEVAL_PORT=tcp://10.0.0.1:80", "WASMEVAL_PORT_80_TCP_ADDR=10.0.0.1",
		"WASMEVAL_UDP_SERVICE_PORT=81", "WASMEVAL_UDP_PORT_81_UDP=udp://10.0.0.1:81"}
	for _, c := range []struct {
		env  []string
		want []string // the names that are faults
	}{
		{nil, nil},
		{[]string{"WASMEVAL_CONFIG=x", "WASMEVAL_SERVER=x", "WASMEVAL_TOKEN=x"}, nil},
		{[]string{"WASMEVALX=1", "XWASMEVAL_Y=1", "wasmeval_http=1", "HTTP=1", "=x", ""}, nil},
		{[]string{"WASMEVAL_LISTEN_HTTP=127.0.0.1:1", "WASMEVAL_=1", "WASMEVAL_http=1"},
			[]string{"WASMEVAL_LISTEN_HTTP", "WASMEVAL_", "WASMEVAL_http"}},
		{[]string{"WASMEVAL_PORT=8080"}, []string{"WASMEVAL_PORT"}},
		{append(kubernetes, "KUBERNETES_SERVICE_HOST=10.0.0.2"), nil},
		{append(kubernetes, "KUBERNETES_SERVICE_HOST=10.0.0.2", "WASMEVAL_SHARD=3"),
			[]string{"WASMEVAL_SHARD"}},
	} {
		_, err := load(inputs{env: c.env})
		var names []string
		for _, line := range faultsOf(err, "F") {
			name, ok := strings.CutPrefix(line, "environment ")
			name, _, ok2 := strings.Cut(name, ": unknown variable: expected ")
			if !ok || !ok2 {
				t.Errorf("fault %q", line)
			}
			names = append(names, name)
		}
		expectFaults(t, fmt.Sprint(c.env), names, c.want)
	}
}

// Every key of sinks and routes is read: none of the fields is left as it was.
func TestSinksInFile(t *testing.T) {
	file := writeFile(t, "c.yaml", `sinks:
  - name: print
    type: stdout
    queue_bytes: 128KiB
  - name: keep
    type: file
    path: verdicts.ndjson
    max_size_mb: 7
    max_backups: 3
    max_age_days: 9
    compress: true
  - name: hook
    type: webhook
    url: https://hook.example/x
    headers: {Authorization: Bearer x, X-Number: 5}
    batch_max: 11
    batch_wait: 30ms
    timeout: 4s
    max_attempts: 2
    max_elapsed: 8s
    backoff: 70ms
    allow_private: true
    dead_letter: dead.ndjson
routes:
  - rules: [payment.*, geo]
    codes: [failed, 7]
    sinks: [print, hook]
  - sinks:
      - keep
tail_listeners: 5
`)
	want := sink.Config{
		Sinks: []sink.SinkConfig{
			{Name: "print", Type: "stdout", QueueBytes: 128 << 10},
			{Name: "keep", Type: "file", Path: "verdicts.ndjson", MaxSizeMB: 7, MaxBackups: 3,
				MaxAgeDays: 9, Compress: true},
			{Name: "hook", Type: "webhook", URL: "https://hook.example/x",
				Headers:  map[string]string{"Authorization": "Bearer x", "X-Number": "5"},
				BatchMax: 11, BatchWait: 30 * time.Millisecond, Timeout: 4 * time.Second, MaxAttempts: 2,
				MaxElapsed: 8 * time.Second, Backoff: 70 * time.Millisecond, AllowPrivate: true,
				DeadLetter: "dead.ndjson"},
		},
		Routes: []sink.Route{
			{Rules: []string{"payment.*", "geo"}, Codes: []string{"failed", "7"},
				Sinks: []string{"print", "hook"}},
			{Sinks: []string{"keep"}},
		},
		TailListeners: 5,
	}
	c, err := load(inputs{file: file})
	if err != nil || !reflect.DeepEqual(c.Sink, want) {
		t.Errorf("error %v, sinks %+v, expected %+v", err, c.Sink, want)
	}
	for i := range reflect.TypeFor[sink.SinkConfig]().NumField() {
		used := slices.ContainsFunc(want.Sinks, func(s sink.SinkConfig) bool {
			return !reflect.ValueOf(s).Field(i).IsZero()
		})
		if name := reflect.TypeFor[sink.SinkConfig]().Field(i).Name; !used {
			t.Errorf("this test does not set %s", name)
		}
	}
}

// Values that do not go together, and files that are not there.
func TestFaultsBetweenOptions(t *testing.T) {
	file := writeFile(t, "text", "no certificate")
	tokens, open := writeFile(t, "tokens", "bob read wev_"+strings.Repeat("0", 64)), writeFile(t, "open", "")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	cert, key := writeCertificate(t)
	none, dir := filepath.Join(t.TempDir(), "none"), t.TempDir()
	secure := []string{"tls-cert", cert, "tls-key", key, "require-token-for-events", "true"}
	for _, c := range []struct {
		flags []string // names and values
		want  string   // empty: no fault
	}{
		{[]string{"http", "localhost:80"}, ""},
		{[]string{"http", "[::1]:80"}, ""},
		{[]string{"http", "127.9.9.9:0"}, ""},
		{[]string{"http", "[::ffff:127.0.0.1]:0"}, ""},
		{[]string{"http", ":80"}, "flag --http: listen.http: \":80\" is not a loopback address"},
		{[]string{"http", "0.0.0.0:80"}, "is not a loopback address"},
		{[]string{"http", "[::]:80"}, "is not a loopback address"},
		{[]string{"http", "localhost.example:80"}, "is not a loopback address"},
		{[]string{"http", "0.0.0.0:80", "require-token-for-events", "true"}, "is not a loopback address"},
		{[]string{"http", "0.0.0.0:80", "tls-cert", cert, "tls-key", key}, "is not a loopback address"},
		{append([]string{"http", "0.0.0.0:80"}, secure...), ""},
		{[]string{"http", ""}, `listen.http: "": expected host:port`},
		{[]string{"http", "127.0.0.1"}, "expected host:port"},
		{[]string{"http", "::1:80"}, "expected host:port"},
		{[]string{"http", "127.0.0.1:"}, "expected a port of 0 to 65535"},
		{[]string{"http", "127.0.0.1:65536"}, "expected a port of 0 to 65535"},
		{[]string{"http", "127.0.0.1:http"}, "expected a port of 0 to 65535"},
		{[]string{"udp", ""}, ""},
		{[]string{"udp", ":81"}, "expected open_udp with it"},
		{append([]string{"udp", "0.0.0.0:81"}, secure...), "expected open_udp with it"},
		{[]string{"udp", "0.0.0.0:81", "open-udp", "true"}, ""},
		{[]string{"udp", "127.0.0.1:x"}, "listen.udp: \"127.0.0.1:x\": expected a port"},
		{[]string{"tls-cert", cert}, "expected both tls_cert and tls_key, or none"},
		{[]string{"tls-key", key}, "expected both tls_cert and tls_key, or none"},
		{[]string{"tls-cert", none, "tls-key", key}, "--tls-cert: listen.tls_cert: cannot read file"},
		{[]string{"tls-cert", cert, "tls-key", none}, "flag --tls-key: listen.tls_key: cannot read file"},
		{[]string{"tls-cert", dir, "tls-key", key}, "it is a folder"},
		{[]string{"tls-cert", file, "tls-key", key}, "failed to find any PEM data in certificate"},
		{[]string{"tls-cert", cert, "tls-key", cert}, "tls: "},
		{[]string{"token-files", none}, "listen.token_files: cannot read file"},
		{[]string{"token-files", tokens + "," + dir}, "it is a folder"},
		{[]string{"token-files", file}, "line 1: it has 2 words: expected a name, roles and a token"},
		{[]string{"token-files", open}, "mode"},
		{[]string{"token-files", tokens}, ""},
		{[]string{"data-dir", ""}, "data_dir: expected the name of a folder"},
		{[]string{"ring-bytes", "64KiB"}, "default: events.event_bytes: 1MiB does not fit"},
		{[]string{"ring-bytes", "64KiB", "event-bytes", "3065"}, "expected at most 3064"},
		{[]string{"ring-bytes", "64KiB", "event-bytes", "3064"}, ""},
		{[]string{"ring-bytes", "1GiB", "event-bytes", "2MiB"}, "does not fit into a ring of 1GiB"},
		{[]string{"call-fuel", "1749999"}, "default: rules.event_fuel: 1750000 is above call_fuel"},
		{[]string{"call-fuel", "1750000"}, ""},
		{[]string{"body-bytes", "300MiB"}, "default: events.bodies_bytes: 256MiB of all bodies: expected at least the 300MiB"},
		{[]string{"body-bytes", "256MiB"}, ""},
		{[]string{"key", "user.id"}, ""},
		{[]string{"key", "user."}, "flag --key: events.key_field: cannot use the key path"},
		{[]string{"time-field", strings.Repeat("a.", 16) + "a"}, "expected at most 16 keys"},
	} {
		flags := make(map[string]string)
		for i := 0; i < len(c.flags); i += 2 {
			flags[c.flags[i]] = c.flags[i+1]
		}
		_, err := load(inputs{flags: flags})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.flags, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) ||
			strings.Contains(err.Error(), "\n")):
			t.Errorf("%q: fault %v, expected one with %q", c.flags, err, c.want)
		}
	}
}

// Rings that this machine has no memory for are refused before they are made.
func TestRingsBeyondMemory(t *testing.T) {
	c := &Config{Bus: BusConfig{Shards: 4, RingBytes: 100 * mib}} // 128 MiB each, and an eighth more
	if err := errors.Join(checkRings(c, 0), checkRings(c, 576*mib)); err != nil {
		t.Error(err)
	}
	want := "bus.shards 4 with bus.ring_bytes 100MiB take 0.6 GiB of memory, and there are 0.5"
	if err := checkRings(c, 512*mib); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, expected %q", err, want)
	}
	have := memoryBytes()
	if goruntime.GOOS == "linux" && have < 64*mib {
		t.Errorf("this machine has %d bytes of memory, so it is said", have)
	}
	if have == 0 || have >= 256*gib {
		return // there is room, or nobody knows
	}
	code, _, errs := verb(t, "", "serve", "--data-dir", t.TempDir(), "--http", "127.0.0.1:0", "--udp", "",
		"--shards", "256", "--ring-bytes", "1GiB")
	if code != 1 || !strings.Contains(errs, "expected fewer or smaller rings") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, args := range [][]string{{"--shards", "256"}, {"--shards", "256", "--depth", "0"}} {
		code, out, errs := verb(t, "", append([]string{"check", "--ring-bytes", "1GiB"}, args...)...)
		want := "flag --shards: bus.shards 256 with bus.ring_bytes 1GiB take "
		if code != 1 || !strings.Contains(out, want) || strings.Count(out, "\n") != len(args)/2 {
			t.Errorf("check %q: exit code %d, %s%s", args, code, out, errs)
		}
	}
}

// What the check takes for the largest record fits into the ring.
func TestMaxRecord(t *testing.T) {
	for _, n := range []int{64 << 10, 64<<10 + 1, 100_000, 1 << 20, 3 << 20, 16 << 20, 17 << 20} {
		r, err := bus.NewRing(n)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := maxRecord(n), r.MaxRecord(); got != want {
			t.Errorf("a ring of %d bytes takes records of %d, the check says %d", n, want, got)
		}
	}
}
