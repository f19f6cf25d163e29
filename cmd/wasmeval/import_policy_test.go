package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mayImport is which of the project's own folders each folder's code may import; tests of a folder may
// import more.
var mayImport = map[string][]string{
	"bus":                  {},
	"runtime/meter":        {},
	"internal/event":       {},
	"internal/problem":     {},
	"internal/auth":        {"internal/problem"},
	"internal/sink":        {"bus", "internal/problem"},
	"internal/metrics":     {"bus", "runtime"},
	"internal/hostile":     {},
	"internal/hostile/gen": {"internal/hostile"},
	"runtime/state":        {},
	"runtime":              {"bus", "internal/event", "runtime/meter", "runtime/state"},
	"ingest":               {"bus", "internal/event", "internal/problem", "internal/auth"},
	"ingest/udpclient":     {},
	"httpapi":              {"bus", "runtime", "internal/auth", "internal/problem"},
	"cmd/wasmeval": {"bus", "runtime", "runtime/meter", "ingest", "ingest/udpclient", "httpapi", "internal/auth",
		"internal/event", "internal/metrics", "internal/problem", "internal/sink", "rules-sdk"},
}

// homes are where each third-party module may be imported.
var homes = map[string][]string{
	"github.com/tetratelabs/wazero":           {"runtime"},
	"go.etcd.io/bbolt":                        {"runtime"},
	"github.com/valyala/fastjson":             {"runtime"},
	"github.com/go-chi/chi/v5":                {"httpapi"},
	"github.com/prometheus/client_golang":     {"internal/metrics"},
	"github.com/spf13/cobra":                  {"cmd/wasmeval"},
	"github.com/spf13/pflag":                  {"cmd/wasmeval"}, // cobra's own flags
	"go.yaml.in/yaml/v3":                      {"cmd/wasmeval"},
	"github.com/HdrHistogram/hdrhistogram-go": {"cmd/wasmeval"},
	"github.com/cenkalti/backoff/v5":          {"internal/sink"},
	"golang.org/x/sys":                        {"ingest", "ingest/udpclient", "runtime"},
}

// The imports point one way, and each library has one home. The sources are read here, since what the
// go tool answers may be from its cache.
func TestImportPolicy(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (rel == "rules-sdk" || rel == "testdata" || rel == "bench" ||
			strings.HasPrefix(d.Name(), ".") && rel != ".") {
			return filepath.SkipDir // the SDK and what is compared with are modules of their own
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(rel))
		if _, ok := mayImport[folder]; !ok {
			t.Errorf("folder %s is not in the import policy", folder)
		}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			seen++
			checkImport(t, folder, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d imports seen: the sources were not found", seen)
	}
}

func checkImport(t *testing.T, folder, name string) {
	t.Helper()
	if own, ok := strings.CutPrefix(name, "wasmeval/"); ok {
		if !contains(mayImport[folder], own) {
			t.Errorf("%s must not import %s", folder, name)
		}
		return
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return // the standard library
	}
	for module, where := range homes {
		if name == module || strings.HasPrefix(name, module+"/") {
			if !contains(where, folder) {
				t.Errorf("%s must not import %s: its home is %v", folder, name, where)
			}
			return
		}
	}
	t.Errorf("%s imports %s, which has no home in the policy", folder, name)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
