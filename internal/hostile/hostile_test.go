package hostile

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var folder = filepath.Join("..", "..", "testdata", "hostile")

// The files are what the generator makes now, and there are no others.
func TestFilesAreUpToDate(t *testing.T) {
	files := Files()
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator makes (%v): run go run ./internal/hostile/gen "+
				"testdata/hostile", name, err)
		}
	}
	list, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if _, ok := files[f.Name()]; !ok {
			t.Errorf("%s is no part of the corpus", f.Name())
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.wasm")
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != len(Files()) {
		t.Errorf("%d files, %v: expected %d", len(list), err, len(Files()))
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("an old module is still there: %v", err)
	}
}

func TestCorpus(t *testing.T) {
	modules := Modules()
	if len(modules) < 75 {
		t.Errorf("%d modules: expected 75 and more", len(modules))
	}
	seen := map[string]bool{}
	code := map[string]string{}
	for _, m := range modules {
		if seen[m.Name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(m.Name) {
			t.Errorf("name %q is doubled, or none for a file", m.Name)
		}
		seen[m.Name] = true
		if m.Attack == "" || strings.ContainsAny(m.Attack, "|\n") {
			t.Errorf("%s: attack %q does not fit into the index", m.Name, m.Attack)
		}
		if m.Refused == "" && len(m.Events) == 0 || len(m.Events) != len(m.Verdicts) {
			t.Errorf("%s: %d events and %d verdicts", m.Name, len(m.Events), len(m.Verdicts))
		}
		if other, ok := code[string(m.Code)]; ok {
			t.Errorf("%s has the bytes of %s", m.Name, other)
		}
		code[string(m.Code)] = m.Name
	}
}

func TestAssemble(t *testing.T) {
	names := map[string]int{"$f": 300}
	for text, want := range map[string][]byte{
		"":                                   nil,
		"i32.const -1 drop":                  {0x41, 0x7f, 0x1a},
		"i64.const 64":                       {0x42, 0xc0, 0x00},
		"i32.load8_u 16":                     {0x2d, 0, 16},
		"call $f":                            {0x10, 0xac, 0x02},
		"block end":                          {0x02, 0x40, 0x0b},
		"block i64 end":                      {0x02, 0x7e, 0x0b},
		"block 3 end":                        {0x02, 3, 0x0b},
		"br_table 1 2 0 end":                 {0x0e, 2, 1, 2, 0, 0x0b},
		"f64.const 1":                        {0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f},
		"i64.extend_i32_u f64.copysign":      {0xad, 0xa6},
		"memory.copy memory.fill":            {0xfc, 10, 0, 0, 0xfc, 11, 0},
		"ref.null extern 0xff 7 memory.grow": {0xd0, 0x6f, 0xff, 7, 0x40, 0},
	} {
		if got := assemble(text, names); !bytes.Equal(got, want) {
			t.Errorf("%q is % x: expected % x", text, got, want)
		}
	}
}
