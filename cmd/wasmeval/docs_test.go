package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of docs/LIMITS.md")

// The table of options in docs/LIMITS.md is what the program itself prints.
func TestOptionsDocument(t *testing.T) {
	const file, first, last = "../../docs/LIMITS.md", "<!-- options: ", "<!-- end of options -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), first)
	line, rest, ok2 := strings.Cut(rest, "\n")
	_, after, ok3 := strings.Cut(rest, last)
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has no %q … %q", file, first, last)
	}
	var table strings.Builder
	if err := writeOptions(&table); err != nil {
		t.Fatal(err)
	}
	want := before + first + line + "\n" + table.String() + last + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("the options in %s are not up to date: go test ./cmd/wasmeval -run %s -update", file, t.Name())
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
