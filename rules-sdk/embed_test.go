package rulessdk

import (
	"archive/zip"
	"bytes"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write go.zip")

// goFiles are the files of the Go SDK that a project needs.
func goFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	names, err := fs.Glob(os.DirFS("go"), "rule/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("there is no Go SDK: %v", err)
	}
	for _, name := range append(names, "go.mod") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[name], err = os.ReadFile(path.Join("go", name)); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// The archive has what the folder has.
func TestGoZip(t *testing.T) {
	want := goFiles(t)
	if *update {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, name := range slices.Sorted(maps.Keys(want)) {
			f, err := w.Create(name) // without a time, so that the same files are the same bytes
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(want[name]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("go.zip", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		goZip = b.Bytes()
	}
	sources, err := Files("go")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	err = fs.WalkDir(sources, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got[name], err = fs.ReadFile(sources, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("go.zip is not up to date: go test ./rules-sdk -run %s -update", t.Name())
	}
}

// Every SDK has its sources, and an unknown one is an error.
func TestFiles(t *testing.T) {
	for lang, name := range map[string]string{"as": "assembly/index.ts", "go": "rule/doc.go",
		"c": "wasmeval.h", "rust": "src/lib.rs"} {
		sources, err := Files(lang)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := fs.ReadFile(sources, name); err != nil || len(text) == 0 {
			t.Errorf("%s of %s: %d bytes, %v", name, lang, len(text), err)
		}
	}
	if _, err := Files("cobol"); err == nil {
		t.Error("there is an SDK for COBOL")
	}
}
