package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

func newBuild() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Compile a rule's project, and check the module as the server does",
		Long: `Compiles the project in the folder, the working one if none is named, to NAME.wasm, where NAME is
that of its NAME.test.yaml. The language is told by a file: go.mod, rule.c, Cargo.toml or
package.json. The compiler is the one that is installed; if it is missing, this says what to install.
Then the module is checked as an upload is. Exit code 1 if anything fails.`,
		Example: `  wasmeval build
  wasmeval build rules/velocity`,
		Args: cobra.MaximumNArgs(1),
	}
	configured := addOfflineFlags(cmd)
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		p, err := openProject(dir)
		if err != nil {
			return err
		}
		c, err := offlineConfig(configured)
		if err != nil {
			return err
		}
		return p.build(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	return cmd
}

// project is a folder with a rule.
type project struct {
	dir, name string
	lang      *language
}

// module is the file that build makes.
func (p *project) module() string { return filepath.Join(p.dir, p.name+".wasm") }

// openProject finds out what a folder's project is, or says what was expected there.
func openProject(dir string) (*project, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p := &project{dir: dir, name: filepath.Base(full)}
	if tests, _ := filepath.Glob(filepath.Join(dir, "*"+testSuffix)); len(tests) == 1 {
		p.name = strings.TrimSuffix(filepath.Base(tests[0]), testSuffix)
	}
	var marks []string
	for _, key := range slices.Sorted(maps.Keys(languages)) {
		l := languages[key]
		marks = append(marks, l.marks)
		if _, err := os.Stat(filepath.Join(dir, l.marks)); err == nil {
			p.lang = l
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no rule's project in %q: expected one of %s; make one with "+
		"`wasmeval init`, or name its folder", dir, strings.Join(marks, ", "))
}

// command is one that build runs in the project's folder.
type command struct {
	env  []string
	args []string
	made string // what it makes, which is then copied to the module; empty: it makes that itself
}

func (c *command) String() string {
	return strings.Join(slices.Concat(c.env, c.args), " ")
}

// build compiles the project and checks what came of it.
func (p *project) build(ctx context.Context, c *Config, out, errs io.Writer) error {
	commands, err := p.lang.build(p)
	if err != nil {
		return err
	}
	for _, one := range commands {
		fmt.Fprintln(out, one.String())
		run := exec.CommandContext(ctx, one.args[0], one.args[1:]...)
		run.Dir, run.Stdout, run.Stderr = p.dir, errs, errs
		run.Env = append(os.Environ(), one.env...)
		if err := run.Run(); err != nil {
			return fmt.Errorf("cannot build %q: %s: %w", p.dir, filepath.Base(one.args[0]), err)
		}
		if one.made == "" {
			continue
		}
		code, err := os.ReadFile(filepath.Join(p.dir, one.made))
		if err == nil {
			err = os.WriteFile(p.module(), code, 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot copy the module of %q: %w", p.dir, err)
		}
	}
	manifest, size, err := checkModule(ctx, c, p.module())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d bytes; the server would take it\n", p.module(), size)
	fmt.Fprintf(out, "  match %s\n", oneLine(strings.Join(manifest.Match, ", ")))
	for _, line := range manifestLines(manifest) {
		fmt.Fprintf(out, "  %s\n", line)
	}
	return nil
}

// checkModule checks a module as an upload does.
func checkModule(ctx context.Context, c *Config, name string) (m *runtime.Manifest, size int,
	err error) {
	code, err := moduleFile(name)
	if err != nil {
		return nil, 0, err
	}
	engine, err := openOffline(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	manifest, err := engine.Validate(ctx, code)
	if err != nil {
		return nil, 0, fmt.Errorf("the server would refuse %q: %w", name, err)
	}
	return &manifest, len(code), nil
}

// stale reports whether the module is missing or older than one of the sources. Those are told by their
// names: what a source embeds from a file of another kind is not seen.
func (p *project) stale() (bool, error) {
	module, err := os.Stat(p.module())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	var newest time.Time
	err = filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains([]string{"node_modules", "target"}, d.Name()) ||
			strings.HasPrefix(d.Name(), ".") && name != p.dir) {
			return filepath.SkipDir
		}
		if d.IsDir() || !matches(p.lang.reads, d.Name()) || matches(p.lang.ignores, d.Name()) {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return err
	})
	return newest.After(module.ModTime()), err
}

// matches reports whether one of the patterns, which have spaces between them, is of that name.
func matches(patterns, name string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		if err != nil {
			panic("BUG: pattern " + pattern + ": " + err.Error())
		}
		return ok
	})
}

// missingTool says what to install.
func missingTool(tool, debian, otherwise string) error {
	return fmt.Errorf("%s is missing, or not in PATH: on Debian and Ubuntu install it with "+
		"`apt-get install %s`, elsewhere %s", tool, debian, otherwise)
}

func buildGo(p *project) ([]command, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, missingTool("go", "golang-go", "from go.dev; it must be 1.24 or later")
	}
	// The names of functions stay in the module, for what is said of failures.
	return []command{{env: []string{"GOOS=wasip1", "GOARCH=wasm", "GOWORK=off"},
		args: []string{"go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-o",
			p.name + ".wasm", "."}}}, nil
}

func buildC(p *project) ([]command, error) {
	for _, t := range []struct{ tool, debian string }{{"clang", "clang"}, {"wasm-ld", "lld"}} {
		if _, err := exec.LookPath(t.tool); err != nil {
			return nil, missingTool(t.tool, t.debian, "with LLVM: clang and lld of one version")
		}
	}
	return []command{{args: []string{"clang", "@flags", "-o", p.name + ".wasm", "rule.c"}}}, nil
}

// ascVersion is the compiler that the SDK is tested with.
const ascVersion = "assemblyscript@0.28.20"

// buildAS takes the asc in PATH, or the one that npm installed for the project. The options are the
// SDK's, among them names of functions, for what is said of failures.
func buildAS(p *project) ([]command, error) {
	args := []string{"asc", "rule.ts", "--config", "sdk/asconfig.json", "-o", p.name + ".wasm"}
	if _, err := exec.LookPath("asc"); err == nil {
		return []command{{args: args}}, nil
	}
	if _, err := exec.LookPath("npx"); err != nil {
		return nil, missingTool("node", "nodejs npm", "from nodejs.org; then `npm install --save-dev "+
			ascVersion+"`")
	}
	find := exec.Command("npx", "--no-install", "asc", "--version")
	find.Dir = p.dir
	if err := find.Run(); err != nil {
		return nil, fmt.Errorf("asc is missing, or not in PATH: install it in the project with "+
			"`npm install --save-dev %s`", ascVersion)
	}
	return []command{{args: append([]string{"npx", "--no-install"}, args...)}}, nil
}

const rustTarget = "wasm32-unknown-unknown"

// buildRust lets cargo build where the rustc in PATH has the target. Debian's rustc has it, and is
// often hidden by another one; cargo may be too new for that one, so it builds without.
func buildRust(p *project) ([]command, error) {
	if _, err := exec.LookPath("cargo"); err == nil && hasRustTarget("rustc") {
		return []command{{
			args: []string{"cargo", "build", "--release", "--offline", "--target", rustTarget},
			made: "target/" + rustTarget + "/release/rule.wasm",
		}}, nil
	}
	const debian = "/usr/bin/rustc"
	_, linker := exec.LookPath("wasm-ld")
	if !hasRustTarget(debian) || linker != nil {
		return nil, missingTool("rustc with its target "+rustTarget,
			"rustc libstd-rust-dev-wasm32 lld",
			"install Rust with cargo and then `rustup target add "+rustTarget+"`")
	}
	const built, crate = "target/wasmeval", "wasmeval_rule"
	flags := []string{debian, "--edition=2021", "--target=" + rustTarget, "-Copt-level=2",
		"-Cpanic=abort", "-Ccodegen-units=1", "-Cdebuginfo=1",
		"-Ctarget-feature=+bulk-memory,+nontrapping-fptoint"}
	sdk := append(slices.Clip(flags), "--crate-type=rlib", "--crate-name="+crate, "--out-dir="+built,
		"sdk/src/lib.rs")
	rule := append(slices.Clip(flags), "--crate-type=cdylib", "--crate-name=rule", "-Clto=fat",
		"-Clinker=wasm-ld", "-Clink-arg=-zstack-size=16384",
		"--extern="+crate+"="+built+"/lib"+crate+".rlib", "-o", p.name+".wasm", "src/lib.rs")
	return []command{{args: sdk}, {args: rule}}, nil
}

// hasRustTarget reports whether a rustc can compile to WebAssembly: it knows the target in any case,
// but may lack its library.
func hasRustTarget(rustc string) bool {
	dir, err := exec.Command(rustc, "--print=target-libdir", "--target="+rustTarget).Output()
	if err != nil {
		return false
	}
	entries, err := os.ReadDir(strings.TrimSpace(string(dir)))
	return err == nil && len(entries) > 0
}
