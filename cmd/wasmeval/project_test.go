package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every language has a project with all that its README promises, and its name in place.
func TestInit(t *testing.T) {
	for lang, l := range languages {
		dir := filepath.Join(t.TempDir(), "some-rule")
		code, out, errs := verb(t, "", "init", "--lang", lang, dir)
		if code != 0 || errs != "" || !strings.Contains(out, "wasmeval build && wasmeval test\n") {
			t.Errorf("%s: exit code %d, %s %s", lang, code, out, errs)
		}
		for _, name := range []string{l.source, l.unit, l.marks, "some-rule.test.yaml", "events.ndjson",
			"Makefile", "README.md", ".gitignore"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || len(text) == 0 {
				t.Errorf("%s: %s has %d bytes: %v", lang, name, len(text), err)
			}
			if strings.Contains(string(text), "@NAME@") || strings.Contains(string(text), "COMMAND@") {
				t.Errorf("%s: %s is not filled in: %s", lang, name, text)
			}
		}
		if text, _ := os.ReadFile(filepath.Join(dir, ".gitignore")); !strings.Contains(string(text),
			"\n/data/\n") {
			t.Errorf("%s: .gitignore has no data folder: %s", lang, text)
		}
		if sdk, err := os.ReadDir(filepath.Join(dir, "sdk")); err != nil || len(sdk) == 0 {
			t.Errorf("%s: the SDK has %d files: %v", lang, len(sdk), err)
		}
		p, err := openProject(dir)
		if err != nil || p.lang != l || p.name != "some-rule" {
			t.Errorf("%s: the project is %+v, %v", lang, p, err)
		}
		if code, _, errs = verb(t, "", "init", "--lang", lang, dir); code != 1 ||
			!strings.Contains(errs, "is not empty") {
			t.Errorf("%s: a second time: exit code %d, %s", lang, code, errs)
		}
	}
	for args, want := range map[string]string{
		"--lang cobol x": `--lang "cobol": expected one of ` + languageNames(),
		"--lang go Up":   `name "Up": expected 1 to 64 of`,
		"--lang go ..":   `name "..": expected`,
		"x":              `required flag(s) "lang" not set`,
		"--lang go":      "accepts 1 arg(s)",
	} {
		code, _, errs := verb(t, "", append([]string{"init"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("init %s: exit code %d, %s", args, code, errs)
		}
	}
}

// A project in the wrong state gets advice.
func TestBuildAdvice(t *testing.T) {
	empty := t.TempDir()
	code, _, errs := verb(t, "", "build", empty)
	if code != 1 || !strings.Contains(errs, "make one with `wasmeval init`") ||
		!strings.Contains(errs, "expected one of ") || !strings.Contains(errs, "go.mod") {
		t.Errorf("an empty folder: exit code %d, %s", code, errs)
	}
	t.Setenv("PATH", empty)
	t.Setenv("HOME", empty)
	for lang, want := range map[string]string{
		"go": "`apt-get install golang-go`", "c": "`apt-get install clang`",
		"rust": "`apt-get install rustc libstd-rust-dev-wasm32 lld`",
		"as":   "`npm install --save-dev assemblyscript@0.28.20`",
	} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := makeProject(lang, dir); err != nil {
			t.Fatal(err)
		}
		code, _, errs := verb(t, "", "build", dir)
		if code != 1 || !strings.Contains(errs, "is missing, or not in PATH") ||
			!strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, %s", lang, code, errs)
		}
	}
}

// AssemblyScript's compiler is the one in PATH, or else npm's, if the project has it.
func TestBuildASCompiler(t *testing.T) {
	path := t.TempDir()
	t.Setenv("PATH", path)
	put := func(name, script string) {
		t.Helper()
		script = "#!/bin/sh\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(path, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := &project{dir: t.TempDir(), name: "x"}
	put("npx", "exit 1")
	if _, err := buildAS(p); err == nil ||
		!strings.Contains(err.Error(), "`npm install --save-dev assemblyscript@0.28.20`") {
		t.Errorf("npx without asc: %v", err)
	}
	put("npx", `[ "$*" = "--no-install asc --version" ]`)
	args := "asc rule.ts --config sdk/asconfig.json -o x.wasm"
	commands, err := buildAS(p)
	if err != nil || len(commands) != 1 || commands[0].String() != "npx --no-install "+args {
		t.Errorf("npx with asc: %v, %v", commands, err)
	}
	put("asc", "exit 0")
	commands, err = buildAS(p)
	if err != nil || len(commands) != 1 || commands[0].String() != args {
		t.Errorf("asc: %v, %v", commands, err)
	}
}

// A project is built anew once a source is newer than the module, and not for other files that are.
func TestStale(t *testing.T) {
	for lang, files := range map[string]struct{ sources, others []string }{
		"go": {[]string{"main.go", "sdk/rule/x.go", "go.mod", "go.sum"},
			[]string{"main_test.go", "tool.rs"}},
		"c": {[]string{"rule.c", "sdk/wasmeval.h", "flags"}, []string{"rule_test.c", "x.go"}},
		"rust": {[]string{"src/lib.rs", "Cargo.toml", "Cargo.lock", "sdk/src/lib.rs"},
			[]string{"target/x.rs"}},
		"as": {[]string{"rule.ts", "package.json", "sdk/asconfig.json", "sdk/assembly/x.ts"},
			[]string{"rule.test.js", "tsconfig.json", "node_modules/x.ts"}},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := makeProject(lang, dir); err != nil {
			t.Fatal(err)
		}
		p, err := openProject(dir)
		if err != nil {
			t.Fatal(err)
		}
		write := func(name string, at time.Time) {
			t.Helper()
			name = filepath.Join(dir, name)
			err := os.MkdirAll(filepath.Dir(name), 0o755)
			if err == nil {
				err = os.WriteFile(name, []byte("x"), 0o644)
			}
			if err == nil {
				err = os.Chtimes(name, at, at)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		expect := func(what string, want bool) {
			t.Helper()
			if got, err := p.stale(); got != want || err != nil {
				t.Errorf("%s: %s: stale is %v, %v", lang, what, got, err)
			}
		}
		expect("no module", true)
		now := time.Now().Add(time.Hour)
		write("x.wasm", now)
		expect("a new module", false)
		for _, name := range append(files.others, ".git/x.go", "data/registry.db", "data/cache/x",
			"verdict.txt", "before.wasm", "events.ndjson", "x.test.yaml", "Makefile", "README.md") {
			write(name, now.Add(time.Second))
			expect(name, false)
		}
		for _, name := range files.sources {
			write(name, now.Add(time.Second))
			expect(name, true)
			write(name, now.Add(-time.Second))
			expect("no more "+name, false)
		}
	}
}

// From nothing to a verdict of the running server, in Go, by the commands that the README names.
func TestGoProject(t *testing.T) {
	slowCompiler(t)
	home := t.TempDir()
	t.Chdir(home)
	if code, _, errs := verb(t, "", "init", "--lang", "go", "velocity"); code != 0 {
		t.Fatal(errs)
	}
	t.Chdir(filepath.Join(home, "velocity"))
	if code, _, errs := verb(t, "", "test"); code != 1 || !strings.Contains(errs, "`wasmeval build`") {
		t.Errorf("test before build: exit code %d, %s", code, errs)
	}
	code, out, errs := verb(t, "", "build")
	if code != 0 {
		t.Fatalf("build: exit code %d: %s %s", code, out, errs)
	}
	for _, want := range []string{"go build ", "velocity.wasm: ", "; the server would take it\n",
		"  match payment.declined\n", "  param limit f64 = 3: ", "  state {\"name\":\"declines\""} {
		if !strings.Contains(out, want) {
			t.Errorf("build printed no %q: %s", want, out)
		}
	}
	code, out, errs = verb(t, "", "test")
	if code != 0 || !strings.Contains(out, "4 of 4 tests passed\n") {
		t.Errorf("test: exit code %d, %s %s", code, out, errs)
	}
	pushProject(t)
}

// pushProject pushes the project in the working folder.
func pushProject(t *testing.T) {
	t.Helper()
	data := t.TempDir()
	push := func(args ...string) (int, string, string) {
		return verb(t, "", slices.Concat([]string{"push", "--data-dir", data}, args)...)
	}
	code, _, errs := push("--server", "http://127.0.0.1:1")
	if code != 1 || !strings.Contains(errs, "start the server with `wasmeval serve`") {
		t.Errorf("push without a server: exit code %d, %s", code, errs)
	}
	p := launch(t, data, "--key", "user")
	code, _, errs = verb(t, "", "push", "--server", p.url, "--data-dir", t.TempDir())
	if code != 1 || !strings.Contains(errs, "admin.token") {
		t.Errorf("push without a token: exit code %d, %s", code, errs)
	}
	code, out, errs := push("--server", p.url)
	for _, want := range []string{"velocity version 1 is new", "generation ", "lost 0; running: version 1\n",
		"active: version 1, before: none\n", "+ param limit f64 = 3", "+ field amount f64\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("push printed no %q: %s %s", want, out, errs)
		}
	}
	if code != 0 || errs != "" {
		t.Errorf("push: exit code %d, %s", code, errs)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(source), `"limit", 3`, `"limit", 2`, 1)
	later := time.Now().Add(time.Hour) // the clock of the file system may be coarse
	if err := os.WriteFile("main.go", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes("main.go", later, later); err != nil {
		t.Fatal(err)
	}
	code, out, errs = push("--server", p.url)
	for _, want := range []string{"velocity version 2 is new", "active: version 2, before: version 1\n",
		"- param limit f64 = 3", "+ param limit f64 = 2"} {
		if !strings.Contains(out, want) {
			t.Errorf("push printed no %q: %s", want, out)
		}
	}
	if code != 0 || !strings.Contains(errs, "go build ") || strings.Contains(out, "field amount") {
		t.Errorf("push of a change: exit code %d, %s %s", code, out, errs)
	}
	if err := os.WriteFile("main.go", []byte("package"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, errs = verb(t, "", "build")
	if code != 1 || !strings.Contains(errs, `cannot build ".": go: exit status 1`) {
		t.Errorf("build of nonsense: exit code %d, %s", code, errs)
	}
	code, out, errs = push("other", "velocity.wasm", "--server", p.url, "--no-activate", "--json")
	if code != 0 || !strings.Contains(out, `"rule": "other"`) {
		t.Errorf("push of a file: exit code %d, %s %s", code, out, errs)
	}
}
