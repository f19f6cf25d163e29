package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// rows reads what check --print prints: a value and an origin for each option.
func rows(t *testing.T, out string) map[string][2]string {
	t.Helper()
	table := make(map[string][2]string)
	for line := range strings.Lines(out) {
		if f := strings.SplitN(squeezed(strings.TrimSpace(line)), " ", 3); len(f) == 3 {
			table[f[0]] = [2]string{f[1], f[2]}
		}
	}
	return table
}

// Every option comes in by its flag, its variable and its key, and check --print says so.
func TestCheckVerb(t *testing.T) {
	values := everything(t)
	file := writeFile(t, "c.yaml", asYAML(t, values))
	expect := func(what string, args []string, origin func(o *option) string) {
		t.Helper()
		code, out, errs := verb(t, "", append([]string{"check", "--print"}, args...)...)
		if code != 0 || !strings.HasPrefix(out, "ok\n") {
			t.Errorf("by %s: exit code %d: %s%s", what, code, out, errs)
			return
		}
		table := rows(t, out)
		for i := range options {
			o := &options[i]
			want := [2]string{written(t, o, values[o.path]), origin(o)}
			if got := table[o.path]; got != want {
				t.Errorf("by %s: %s is %q, expected %q", what, o.path, got, want)
			}
		}
	}
	line := regexp.MustCompile(`:\d+$`)
	var flags []string
	for i := range options {
		flags = append(flags, "--"+options[i].flag+"="+values[options[i].path])
	}
	expect("flags", append(flags, "--config", file), func(o *option) string {
		return "flag --" + o.flag
	})
	code, out, errs := verb(t, "", "check", "--config", file, "--print")
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	table := rows(t, out)
	for i := range options {
		o := &options[i]
		got := table[o.path]
		if got[0] != written(t, o, values[o.path]) || line.ReplaceAllString(got[1], "") != file {
			t.Errorf("by the file: %s is %q", o.path, got)
		}
	}
	t.Setenv(configEnv, file)
	for i := range options {
		t.Setenv(options[i].env(), values[options[i].path])
	}
	expect("variables", nil, func(o *option) string { return "environment " + o.env() })
}

func TestCheckFaults(t *testing.T) {
	file := writeFile(t, "c.yaml", "bus: {shard: 1}\nsinks: [{name: a, type: stdout}]\n")
	code, out, errs := verb(t, "", "check", "--config", file, "--depth", "x", "--open-udp",
		"--log-level=loud")
	if code != 1 || errs != "wasmeval: the configuration has faults\n" ||
		strings.Count(out, "\n") != 3 {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	for _, command := range []string{"serve", "check"} {
		t.Setenv("WASMEVAL_SHARD", "3")
		code, out, errs := verb(t, "", command, "--data-dir", t.TempDir(), "--depth", "0")
		want := []string{`flag --depth: events.depth: "0": expected 1 to 256`,
			"environment WASMEVAL_SHARD: unknown variable: expected WASMEVAL_ and a flag's name"}
		text := out + errs
		if code != 1 || !strings.Contains(text, want[0]) || !strings.Contains(text, want[1]) {
			t.Errorf("%s: exit code %d, %q, expected %q", command, code, text, want)
		}
	}
	t.Setenv("WASMEVAL_SHARD", "3")
	code, out, _ = verb(t, "", "check", "--options")
	if lines := strings.Count(out, "\n"); code != 0 || lines != len(options)+2 {
		t.Errorf("check --options: exit code %d, %d lines", code, lines)
	}
	for i := range options {
		o := &options[i]
		row := fmt.Sprintf("| `%s` | `--%s` | `%s` |", o.path, o.flag, o.env())
		if !strings.Contains(out, row) || !strings.Contains(out, o.limits()+" | "+o.help+" |\n") {
			t.Errorf("check --options has no row %s", row)
		}
	}
}

// The sinks of a file are shown with no more than their names and types.
func TestCheckPrintsNoSecrets(t *testing.T) {
	file := writeFile(t, "c.yaml", `routes:
  - {rules: [a, b.*], codes: [failed], sinks: [hook]}
  - {sinks: [hook]}
sinks: [{name: hook, type: webhook, url: "https://x.example/s3cret", headers: {X-Key: s3cret}}]
listen: {allowed_hosts: [a.example, b.example]}
`)
	code, out, errs := verb(t, "", "check", "--config", file, "--print", "--allowed-hosts", "c",
		"--allowed-hosts", "d,e")
	if code != 0 || strings.Contains(out, "s3cret") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	for _, want := range []string{"sink hook webhook file\n", "route 1 a,b.* / failed -> hook file\n",
		"route 2 every rule / matched,failed -> hook file\n",
		"listen.allowed_hosts c,d,e flag --allowed-hosts\n"} {
		if !strings.Contains(squeezed(out), want) {
			t.Errorf("check --print has no %q: %s", want, out)
		}
	}
}
