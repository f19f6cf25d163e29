package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	rulessdk "wasmeval/rules-sdk"
)

// templates has a folder for each language, and common for what all have. A file is copied without
// .tmpl, which keeps the Go command from taking it for ours; NAME in its name is the project's.
//
//go:embed all:templates
var templates embed.FS

// language is one that projects are made in.
type language struct {
	name         string // for people
	source, unit string // the file of the rule, and that of its unit tests
	unitCommand  string // a line of the Makefile each
	marks        string // the file by which build knows the language
	reads        string // what the compiler reads, as patterns of file names with spaces
	ignores      string // what of that is for tests alone; may be empty
	build        func(p *project) ([]command, error)
}

var languages = map[string]*language{
	"as": {name: "AssemblyScript", source: "rule.ts", unit: "rule.test.js",
		unitCommand: "$(WASMEVAL) build && node --test rule.test.js", marks: "package.json",
		reads: "*.ts package.json asconfig.json", build: buildAS},
	"go": {name: "Go", source: "main.go", unit: "main_test.go", unitCommand: "go test .",
		marks: "go.mod", reads: "*.go *.s go.mod go.sum", ignores: "*_test.go", build: buildGo},
	"c": {name: "C", source: "rule.c", unit: "rule_test.c",
		unitCommand: "cc -DWASMEVAL_NATIVE -o rule_test rule_test.c -lm && ./rule_test; " +
			"code=$$?; rm -f rule_test; exit $$code",
		marks: "rule.c", reads: "*.c *.h flags", ignores: "*_test.[ch]", build: buildC},
	"rust": {name: "Rust", source: "src/lib.rs", unit: "src/lib.rs",
		unitCommand: "cargo test --offline", marks: "Cargo.toml",
		reads: "*.rs Cargo.*", build: buildRust},
}

func languageNames() string { return strings.Join(slices.Sorted(maps.Keys(languages)), ", ") }

func newInit() *cobra.Command {
	var lang string
	cmd := &cobra.Command{
		Use:   "init --lang LANGUAGE NAME",
		Short: "Make a folder with a working rule, its tests and sample events",
		Long: `Makes a project: the source of a rule, its unit tests, tests of the module, sample events, a
Makefile, a README, and the SDK, so that it is built with no network and nothing but the language's
own compiler. NAME is the name of the rule and of the folder, which must not exist or be empty.`,
		Example: `  wasmeval init --lang go velocity
  cd velocity && wasmeval build && wasmeval test`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := makeProject(lang, args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s is a rule in %s:\n", args[0], languages[lang].name)
			for _, f := range files {
				if !strings.HasPrefix(f, "sdk/") {
					fmt.Fprintf(w, "  %s\n", f)
				}
			}
			_, err = fmt.Fprintf(w, "Next: cd %s && wasmeval build && wasmeval test\n", args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&lang, "lang", "", "language: "+languageNames())
	_ = cmd.MarkFlagRequired("lang") // it exists
	return cmd
}

var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// makeProject writes a project into a folder, and lists its files.
func makeProject(lang, dir string) ([]string, error) {
	l, ok := languages[lang]
	if !ok {
		return nil, fmt.Errorf("--lang %q: expected one of %s", lang, languageNames())
	}
	name := filepath.Base(dir)
	if !projectName.MatchString(name) {
		return nil, fmt.Errorf("name %q: expected 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with "+
			"a letter or digit", name)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("folder %q is not empty: expected the name of a new one", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot make project %q: %w", dir, errors.Unwrap(err))
	}
	files, err := projectFiles(lang, strings.NewReplacer("@NAME@", name, "@LANG@", l.name,
		"@SOURCE@", l.source, "@UNIT@", l.unit, "@UNITCOMMAND@", "\t"+l.unitCommand), name)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(files))
	for _, f := range names {
		to := filepath.Join(dir, filepath.FromSlash(f))
		err := os.MkdirAll(filepath.Dir(to), 0o755)
		if err == nil {
			err = os.WriteFile(to, files[f], 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot make project %q: %w", dir, err)
		}
	}
	return names, nil
}

// projectFiles gives all files of a project by their paths.
func projectFiles(lang string, fill *strings.Replacer, name string) (map[string][]byte, error) {
	files := map[string][]byte{}
	sdk, err := rulessdk.Files(lang)
	if err != nil {
		return nil, err
	}
	err = readAll(sdk, func(file string, text []byte) { files["sdk/"+file] = text })
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"common", lang} {
		from, err := fs.Sub(templates, path.Join("templates", folder))
		if err != nil {
			return nil, err
		}
		err = readAll(from, func(file string, text []byte) {
			file = strings.ReplaceAll(strings.TrimSuffix(file, ".tmpl"), "NAME", name)
			files[file] = []byte(fill.Replace(string(text)))
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func readAll(from fs.FS, each func(file string, text []byte)) error {
	return fs.WalkDir(from, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(from, file)
		if err == nil {
			each(file, text)
		}
		return err
	})
}
