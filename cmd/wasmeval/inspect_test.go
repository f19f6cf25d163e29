package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	events := writeFile(t, "events.ndjson", manyEvents(20))
	code, out, errs := verb(t, "", "inspect", modulePath("trap"), "--events", events)
	for _, want := range []string{"section code: ", "section export: ", "memory 1 pages at first",
		"export wasmeval_evaluate function\n", "export memory memory\n", "limit module bytes: ",
		"limit memory pages: ", "limit fuel for an event: ", "match *\n", "field bad ",
		"for an event; called for 20, failed for 4\n", "server would take it\n"} {
		if !strings.Contains(squeezed(out), want) {
			t.Errorf("there is no %q in %s", want, out)
		}
	}
	if code != 0 || errs != "" {
		t.Errorf("exit code %d: %s", code, errs)
	}
	code, out, errs = verb(t, "", "inspect", modulePath("columns"), "--format", "json")
	var m inspection
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(modulePath("columns"))
	if err != nil {
		t.Fatal(err)
	}
	sections := 8 // the module's head
	for _, s := range m.Sections {
		sections += s.Bytes
	}
	if code != 0 || m.Bytes != int(info.Size()) || sections > m.Bytes || sections < m.Bytes*9/10 ||
		len(m.Manifest.Fields) != 11 || len(m.SHA256) != 64 || m.Functions == 0 || m.Pages == 0 ||
		m.Instantiate == 0 || m.Reset == 0 || m.Fuel != nil || m.Imports[0] != "wasmeval.emit function" {
		t.Errorf("exit code %d, %s: %+v", code, errs, m)
	}
}

// What the server refuses is shown as far as it can be read, with the server's reason.
func TestInspectRefused(t *testing.T) {
	for module, want := range map[string]string{
		"badimport":    "would refuse it: the module is refused: import env.print is not offered",
		"startsection": "has a start section",
		"badabi":       "wasmeval_abi returned",
		"nomanifest":   "wasmeval_manifest",
	} {
		code, out, errs := verb(t, "", "inspect", modulePath(module))
		if code != 1 || !strings.Contains(out, want) || !strings.Contains(out, "section") ||
			!strings.Contains(errs, "the server would refuse") {
			t.Errorf("%s: exit code %d, %s %s", module, code, out, errs)
		}
	}
	text := writeFile(t, "x.wasm", "text")
	cut := writeFile(t, "cut.wasm", "\x00asm\x01\x00\x00\x00\x01\x7f\x01\x60")
	for args, want := range map[string]string{
		text:                        "is no WebAssembly module",
		cut:                         "the server would refuse",
		"none.wasm":                 "run `wasmeval build`",
		cut + " --format x":         "expected text or json",
		cut + " --events none":      "cannot read events",
		cut + " --param x":          "expected name=value",
		cut + " --events " + text:   ":1: at byte 0",
		cut + " --events /dev/null": "there are no events",
	} {
		code, _, errs := verb(t, "", append([]string{"inspect"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("inspect %s: exit code %d, %s", args, code, errs)
		}
	}
}

// Whatever bytes there are, looking at them ends, without a panic.
func FuzzModuleParts(f *testing.F) {
	for _, module := range []string{"columns", "badimport", "v1"} {
		code, err := os.ReadFile(modulePath(module))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) > 1<<16 {
			return
		}
		m, err := readModuleParts(code)
		size := 0
		for _, s := range m.Sections {
			size += s.Bytes
		}
		if size > len(code) || err == nil && len(code) < 8 {
			t.Errorf("%d bytes in sections of %d, %v", size, len(code), err)
		}
	})
}

func TestBenchRule(t *testing.T) {
	events := writeFile(t, "events.ndjson", manyEvents(100))
	args := []string{"bench", "rule", modulePath("trap"), events, "--for", "20ms"}
	code, out, errs := verb(t, "", args...)
	for _, want := range []string{"events 100, of which the rule was called for 100; it failed for 20\n",
		"batch of 1 rule ", "batch of 64 rule ", "fuel an event p50 ", "memory 1 pages", "instantiate "} {
		if !strings.Contains(squeezed(out), want) {
			t.Errorf("there is no %q in %s %s", want, out, errs)
		}
	}
	var b ruleBench
	_, out, _ = verb(t, "", append(args, "--format", "json")...)
	if err := json.Unmarshal([]byte(out), &b); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	if b.Batch1.Rule <= 0 || b.Batch1.Whole <= b.Batch1.Rule || b.Batch64.Rule <= 0 || b.Fuel.P50 == 0 ||
		b.Fuel.P99 < b.Fuel.P50 || b.Fuel.Max < b.Fuel.P99 || b.Pages != 1 || b.Instantiate <= 0 {
		t.Errorf("figures are %+v", b)
	}
	// Events that the rule is not for count in none of the two times.
	mixed := writeFile(t, "mixed.ndjson", strings.Repeat(`{"type":"x"}`+"\n", 9000)+
		strings.Repeat(`{"type":"vehicle.position","lat":52.5,"lon":13.4}`+"\n", 100))
	code, out, errs = verb(t, "", "bench", "rule",
		"../../rules-sdk/c/examples/geofence/geofence.wasm", mixed, "--for", "20ms",
		"--format", "json")
	var m ruleBench
	if err := json.Unmarshal([]byte(out), &m); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v, %s", code, err, errs)
	}
	if m.Events != 9100 || m.Fuel.Events != 100 || m.Batch1.Whole <= m.Batch1.Rule ||
		m.Batch64.Whole <= m.Batch64.Rule || m.Batch1.Calls%100 != 0 {
		t.Errorf("figures are %+v", m)
	}
	for args, want := range map[string]string{
		modulePath("trap"):                                            "accepts 2 arg(s)",
		"none.wasm " + events:                                         "run `wasmeval build`",
		modulePath("trap") + " " + events + " --for 0s":               "--for above 0",
		modulePath("always") + " /dev/null":                           "there are no events",
		"../../rules-sdk/c/examples/geofence/geofence.wasm " + events: "names the type of none of the 100",
	} {
		code, _, errs := verb(t, "", append([]string{"bench", "rule"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("bench rule %s: exit code %d, %s", args, code, errs)
		}
	}
}
