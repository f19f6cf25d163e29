// Package rulessdk has the sources of the SDKs, so that a project can be made where there is neither
// this repository nor a network:
//
//	sources, err := rulessdk.Files("go")
//
// The Go SDK is a module of its own, and the files of another module cannot be embedded. So it is in
// go.zip, which a test holds against the folder and, with -update, writes.
package rulessdk

import (
	"archive/zip"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
)

//go:embed assemblyscript/README.md assemblyscript/asconfig.json assemblyscript/package.json
//go:embed assemblyscript/*.ts assemblyscript/assembly assemblyscript/testing
//go:embed c/wasmeval.h c/wasmeval_test.h
//go:embed rust/README.md rust/src
var files embed.FS

//go:embed go.zip
var goZip []byte

// Files returns what a project needs of the SDK for as (AssemblyScript), c, go or rust, to be read
// only. Any goroutine may use it.
func Files(lang string) (fs.FS, error) {
	if lang == "as" {
		lang = "assemblyscript"
	}
	if lang == "go" {
		z, err := zip.NewReader(bytes.NewReader(goZip), int64(len(goZip)))
		if err != nil {
			return nil, fmt.Errorf("BUG: cannot read go.zip: %w", err)
		}
		return z, nil
	}
	if _, err := fs.Stat(files, lang); err != nil {
		return nil, fmt.Errorf("there is no SDK for %q", lang)
	}
	return fs.Sub(files, lang)
}
