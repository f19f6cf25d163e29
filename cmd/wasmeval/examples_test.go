package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each example has a module, a page about it, and tests, which pass.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("..", "..", "rules-sdk", "*", "examples", "*"))
	if err != nil {
		t.Fatal(err)
	}
	slowCompiler(t)
	languages := map[string]int{}
	for _, dir := range folders {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		name := filepath.Base(dir)
		languages[filepath.Base(filepath.Dir(filepath.Dir(dir)))]++
		for _, file := range []string{name + ".wasm", name + ".test.yaml", "README.md"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Errorf("example %s: %v", name, err)
			}
		}
		var out, complaint bytes.Buffer
		if code := run(t.Context(), []string{"test", dir}, nil, &out, &complaint); code != 0 ||
			!strings.Contains(out.String(), "tests passed") {
			t.Errorf("the tests of example %s end with code %d:\n%s%s", name, code, &out, &complaint)
		}
	}
	for _, l := range []string{"go", "rust", "assemblyscript", "c"} {
		if languages[l] < 2 {
			t.Errorf("there are %d examples in %s: expected 2 or more", languages[l], l)
		}
	}
}

// slowCompiler lets compiling take as long as it may: under the race detector a module from Go's
// compiler takes ten times as long.
func slowCompiler(t *testing.T) {
	t.Helper()
	t.Setenv("WASMEVAL_COMPILE_CPU", "30s")
	t.Setenv("WASMEVAL_COMPILE_TIMEOUT", "30s")
}
