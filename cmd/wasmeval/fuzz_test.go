package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfig reads any bytes as a configuration file, and any texts as variables: the result is a
// configuration that is within its limits, or faults that each name the file or the variable.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "data_dir: ./d\n", "bus: {shards: 2, ring_bytes: 64KiB}\nevents: {event_bytes: 1KiB}\n",
		"listen:\n  http: ${ADDR:127.0.0.1:0}\n", "routes:\n- rules: [a*]\n  sinks: [s]\nsinks:\n- name: s\n  type: stdout\n",
		"a: &a [1]\nb: *a\n", "? [x]\n: y\n", "? x\n\n y\n", "---\na: 1\n---\nb: 2\n", "\xff\xfe", "listen.http: x\n",
		"rules: {event_fuel: 99999999999999999999}\n", "sinks:\n- name: w\n  type: webhook\n  url: http://127.0.0.1/\n",
	} {
		f.Add([]byte(seed), "${X}", "5")
	}
	dir := f.TempDir()
	file := filepath.Join(dir, "c.yaml")
	f.Fuzz(func(t *testing.T, text []byte, variable, number string) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(inputs{file: file,
			env: []string{"X=" + variable, "ADDR=" + variable, "WASMEVAL_BATCH=" + number}})
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				named := strings.Contains(line, file) || strings.Contains(line, "WASMEVAL_BATCH") ||
					strings.HasPrefix(line, "default: ")
				if !named && !strings.HasPrefix(line, " ") {
					t.Errorf("a fault names no place: %q", line)
				}
			}
			return
		}
		for i := range options {
			o := &options[i]
			if err := o.parse(new(Config), o.format(c)); err != nil {
				t.Errorf("%s is %q: %v", o.path, o.format(c), err)
			}
		}
	})
}
