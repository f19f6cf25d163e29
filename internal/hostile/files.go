package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// preface is how the index begins.
const preface = `# Hostile modules

Each file attacks a server in one way; the table says which, and what must come of it. A refusal is
an answer 422 with a part of its message, after its kind where the prescan refuses. A module that is
loaded is called with three events, most often {"bad":0}, {"bad":1} and {"bad":0}, and each gets a
code or an error.

The command "go run ./internal/hostile/gen testdata/hostile" writes the files and this page; the
sources in internal/hostile say how each module is made. The tests throw all of them at an engine.

| module | bytes | attack | answer |
|---|---|---|---|
`

// Files are the corpus as it stands in its folder, by name.
func Files() map[string][]byte {
	files := map[string][]byte{}
	var index strings.Builder
	index.WriteString(preface)
	for _, m := range Modules() {
		files[m.Name+".wasm"] = m.Code
		fmt.Fprintf(&index, "| %s | %d | %s | %s |\n", m.Name, len(m.Code), m.Attack, m.Answer())
	}
	files["README.md"] = []byte(index.String())
	return files
}

// Write writes the corpus into a folder, and removes modules that are no part of it.
func Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make folder %q: %w", dir, err)
	}
	files := Files()
	old, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, ok := files[filepath.Base(name)]; !ok {
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("cannot remove an old module: %w", err)
			}
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("cannot write a module: %w", err)
		}
	}
	return nil
}
